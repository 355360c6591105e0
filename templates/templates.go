// Package templates builds the Argo Workflows objects of a sweep from Argo's own
// types: one file per template of the workflow, one per object beside it.
//
// The objects are valid on Argo Workflows 3.6 to 4.x: plural schedules and mutexes,
// no field that came or went in between, at most 200 templates per workflow and 200
// tasks per DAG, deadlines on pods alone. Those for 4.1 have what came with it: line.go.
package templates

import (
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// Objects are all objects of a valid configuration, in the order in which they are
// applied.
func Objects(c config.Config) []manifest.Object {
	p := plan.Of(c)
	objects := pods.Namespace(p)
	objects = append(objects, pods.Access(p, rules(p))...)
	objects = append(objects, pods.NetworkPolicies(p)...)
	if len(p.Deployed()) > 0 {
		objects = append(objects, serverNames(p))
	}
	for _, g := range serverGroups(p) {
		objects = append(objects, pods.ClaimTemplate(p, g.accelerators[0], g.claimTemplate(p))...)
	}
	objects = append(objects, pods.Results(p)...)
	if p.S3Bucket != "" {
		objects = append(objects, artifactRepository(p))
	}
	if p.LoadGenerator == config.Cluster {
		objects = append(objects, loadGenerator(p))
	}
	objects = append(objects, workflowTemplate(p))
	if len(p.Cron) > 0 {
		objects = append(objects, cronWorkflow(p))
	}
	return append(objects, pods.ExampleSecrets(p)...)
}

const argoAPI = "argoproj.io/v1alpha1"

// parameter passes or declares a value.
func parameter(name, value string) wfv1.Parameter {
	return wfv1.Parameter{Name: name, Value: wfv1.AnyStringPtr(value)}
}

func arguments(parameters ...wfv1.Parameter) wfv1.Arguments {
	return wfv1.Arguments{Parameters: parameters}
}

// inputs declares parameters that every caller gives.
func inputs(names ...string) wfv1.Inputs {
	var in wfv1.Inputs
	for _, name := range names {
		in.Parameters = append(in.Parameters, wfv1.Parameter{Name: name})
	}
	return in
}

// input and global refer to parameters where Argo fills them in.
func input(name string) string  { return "{{inputs.parameters." + name + "}}" }
func global(name string) string { return "{{workflow.parameters." + name + "}}" }

// forward passes inputs on under their own names.
func forward(names ...string) []wfv1.Parameter {
	var parameters []wfv1.Parameter
	for _, name := range names {
		parameters = append(parameters, parameter(name, input(name)))
	}
	return parameters
}

// finished is the condition that tasks have ended, however they did.
func finished(tasks ...string) string {
	terms := make([]string, len(tasks))
	for i, t := range tasks {
		terms[i] = "(" + t + ".Succeeded || " + t + ".Failed || " + t + ".Errored)"
	}
	return strings.Join(terms, " && ")
}
