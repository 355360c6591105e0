// Package templates builds the Argo Workflows objects of a sweep from Argo's own
// types: one file per template of the workflow, one per object beside it.
//
// The objects are valid on Argo Workflows 3.6 to 4.x: plural schedules and mutexes,
// no field that came or went in between, at most 200 templates per workflow and 200
// tasks per DAG, deadlines on pods alone.
package templates

import (
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/sweep/config"
)

// Object is one object of the sweep and the file that it belongs into.
type Object struct {
	File     string
	Value    any
	Comments []manifest.Comment
	// Example objects hold placeholders for a user to fill in. Applying one as it is
	// would overwrite the real one, so nothing applies them by itself.
	Example bool
}

// Objects are all objects of a valid configuration, in the order in which they are
// applied.
func Objects(c config.Config) []Object {
	if len(c.Accelerators) == 1 && c.Accelerators[0].TargetURL != "" { // then target-url is its server
		only := c.Accelerators[0]
		c.TargetURL, only.TargetURL = only.TargetURL, ""
		c.Accelerators = []config.Accelerator{only}
	}
	var objects []Object
	if c.CreateNamespace {
		objects = append(objects, namespace(c))
	}
	objects = append(objects, serviceAccount(c), role(c), roleBinding(c))
	if len(c.Deployed()) > 0 {
		objects = append(objects, serverNames(c))
	}
	if c.S3Bucket != "" {
		objects = append(objects, artifactRepository(c))
	}
	if c.LoadGenerator == config.Cluster {
		objects = append(objects, loadGenerator(c))
	}
	objects = append(objects, workflowTemplate(c))
	if len(c.Cron) > 0 {
		objects = append(objects, cronWorkflow(c))
	}
	return append(objects, exampleSecrets(c)...)
}

const argoAPI = "argoproj.io/v1alpha1"

func meta(c config.Config, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:      name,
		Namespace: c.Namespace,
		Labels:    labels(c),
	}
}

func labels(c config.Config) map[string]string {
	return map[string]string{
		"app.kubernetes.io/managed-by": "wfgen",
		"app.kubernetes.io/part-of":    c.Name,
	}
}

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

// input, global and item refer to parameters where Argo fills them in.
func input(name string) string  { return "{{inputs.parameters." + name + "}}" }
func global(name string) string { return "{{workflow.parameters." + name + "}}" }
func item(name string) string   { return "{{item." + name + "}}" }

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

func ptr[T any](v T) *T { return &v }
