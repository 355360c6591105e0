package templates

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
)

// day, in seconds.
const day = int64(24 * time.Hour / time.Second)

// workflowTemplate is the sweep itself, to be submitted as often as wanted.
func workflowTemplate(c config.Config) Object {
	templates := []wfv1.Template{}
	templates = append(templates, sweepTemplates(c)...)
	servers := deployments(c)
	for _, d := range servers {
		templates = append(templates, d.deploy(c), d.server(c))
	}
	if len(servers) > 0 {
		templates = append(templates, await(c))
	}
	templates = append(templates, accelerator(c), shape(c), wait(c))
	if c.LoadGenerator == config.Inline {
		templates = append(templates, point(c))
	}
	templates = append(templates, aggregate(c), summary(c))

	value := wfv1.WorkflowTemplate{
		TypeMeta:   metav1.TypeMeta{APIVersion: argoAPI, Kind: "WorkflowTemplate"},
		ObjectMeta: meta(c, c.Name),
		Spec: wfv1.WorkflowSpec{
			Entrypoint:            sweepTemplate,
			Arguments:             wfv1.Arguments{Parameters: parameters(c)},
			ServiceAccountName:    accountName(c),
			ArtifactRepositoryRef: repositoryRef(c),
			SecurityContext:       podSecurity(stepUser),
			PodSpecPatch:          podSpecPatch,
			ActiveDeadlineSeconds: ptr(deadline(c)),
			PodGC:                 &wfv1.PodGC{Strategy: wfv1.PodGCOnPodSuccess},
			TTLStrategy:           &wfv1.TTLStrategy{SecondsAfterCompletion: ptr(int32(7 * day))},
			ArtifactGC:            &wfv1.WorkflowLevelArtifactGC{ArtifactGC: wfv1.ArtifactGC{Strategy: wfv1.ArtifactGCNever}},
			Templates:             templates,
		},
	}
	value.Annotations = map[string]string{
		"workflows.argoproj.io/title":       "Latency parameters of " + c.Model,
		"workflows.argoproj.io/description": description(c),
		"workflows.argoproj.io/version":     ">= 3.6.0",
	}

	comments := []manifest.Comment{
		{Path: "apiVersion", Text: fmt.Sprintf("Run it: argo submit -n %s --from workflowtemplate/%s --watch", c.Namespace, c.Name)},
		{Path: "spec.arguments", Text: "All of these can be changed for one run: argo submit … -p max-seconds=360 -p batch-sizes='[1,8,64]'"},
		{Path: "spec.securityContext.runAsUser", Text: "On OpenShift delete runAsUser, here and below: the namespace's range decides."},
		{Path: "spec.podSpecPatch", Text: "Argo's own containers, too, must pass Pod Security \"restricted\"."},
		{Path: "spec.activeDeadlineSeconds", Text: "Longer than any sweep of these points can take."},
		{Path: "spec.ttlStrategy", Text: "The Workflow object goes after a week; its results in the artifact repository stay."},
	}
	for _, d := range servers {
		comments = append(comments, d.comments()...)
	}
	if c.LoadGenerator == config.Inline {
		comments = append(comments, pointComments(c, "spec.templates["+pointTemplate+"]")...)
	}
	return Object{File: "workflowtemplate.yaml", Value: value, Comments: comments}
}

func description(c config.Config) string {
	names := make([]string, 0, 8)
	for _, a := range c.Accelerators {
		if len(names) == 7 {
			names = append(names, fmt.Sprintf("%d more", len(c.Accelerators)-7))
			break
		}
		names = append(names, a.Name)
	}
	return fmt.Sprintf(`Measures ITL and TTFT of the model's server on each accelerator (%s) at growing batch sizes
and estimates **alpha, beta** (ITL = alpha + beta * batch) and **gamma, delta** (TTFT = gamma + delta * promptTokens * batch), in ms.

Results: the outputs of this workflow, and %s in the artifact repository.`,
		strings.Join(names, ", "), "`"+key(c, "runs/<workflow>/")+"`")
}

// parameters are what a user may change at submit.
func parameters(c config.Config) []wfv1.Parameter {
	describe := func(name, value, description string) wfv1.Parameter {
		return wfv1.Parameter{Name: name, Value: wfv1.AnyStringPtr(value), Description: wfv1.AnyStringPtr(description)}
	}
	sizes, err := json.Marshal(slices.Sorted(slices.Values(c.BatchSizes)))
	if err != nil {
		panic(err) // integers
	}
	list := []wfv1.Parameter{describe(pModel, c.Model, "Model to measure, as its servers list it under /v1/models.")}
	if slices.ContainsFunc(c.Accelerators, func(a config.Accelerator) bool { return a.TargetURL == "" && !c.Deploys(a) }) {
		list = append(list, describe(pTargetURL, c.TargetURL, "URL of the servers; {accelerator} stands for the accelerator's name in lower case."))
	}
	for _, a := range ownTargets(c) {
		list = append(list, describe(ownTarget(a), a.TargetURL, "URL of the server of "+a.Name+hardware(a)+"."))
	}
	first := c.Shapes[0]
	also := ""
	if n := len(c.Shapes) - 1; n > 0 {
		also = fmt.Sprintf(" Of the first of %d shapes; the others are fixed in template %s.", n+1, acceleratorTemplate)
	}
	list = append(list,
		describe(pPromptTokens, strconv.Itoa(first.PromptTokens), "Tokens of each prompt."+also),
		describe(pOutputTokens, strconv.Itoa(first.OutputTokens), "Tokens of each answer."+also),
		describe(pBatchSizes, string(sizes), "How many requests run together, a point each: a JSON list, ascending, none above the server's max-num-seqs."),
		describe(pMaxSeconds, strconv.Itoa(c.MaxSeconds), "Length of a point in seconds; 0 when max-requests limits it."),
		describe(pMaxRequests, strconv.Itoa(c.MaxRequests), "Requests of a point, all streams together; 0 for as many as max-seconds allow."),
	)
	if c.Driver == sweep.Guidellm {
		list = append(list, describe(pTokenizer, c.Tokenizer, "Directory or model id of the tokenizer that prompts are made with; empty for the model's own."))
	}
	method := describe(pMethod, c.Method, "Weighted least squares over all points, or the smallest and the largest batch size alone.")
	method.Enum = []wfv1.AnyString{sweep.WLS, sweep.TwoPoint}
	return append(list, method)
}

// maxOwnTargets is how many accelerators with a server of their own get a workflow
// parameter for it; with more the list would be of no use to anybody.
const maxOwnTargets = 50

func ownTargets(c config.Config) []config.Accelerator {
	var own []config.Accelerator
	for _, a := range c.Accelerators {
		if a.TargetURL != "" {
			own = append(own, a)
		}
	}
	if len(own) > maxOwnTargets {
		return nil
	}
	return own
}

func ownTarget(a config.Accelerator) string { return pTargetURL + "-" + sweep.Slug(a.Name) }

// hardware says what an accelerator is to a cluster.
func hardware(a config.Accelerator) string {
	nodes := a.Nodes()
	if len(nodes) == 0 {
		return ""
	}
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		labels = append(labels, name+"="+nodes[name])
	}
	return " (" + strings.Join(labels, ", ") + ")"
}

// deadline bounds the whole workflow, in seconds: every pod at its own deadline (its
// server awaited, and then asked), every retry used, accelerators one after another where they are limited, and
// twice that for changes at submit.
func deadline(c config.Config) int64 {
	perPoint := int64(pointDeadline(c.MaxSeconds)) * int64(1+c.Retries)
	perAccelerator := 2*int64(waitDeadline(c)) + int64(len(c.Shapes)*len(c.BatchSizes))*perPoint + 3600
	rounds := int64(1)
	if n := c.ParallelAccelerators; n > 0 {
		rounds = int64((len(c.Accelerators) + n - 1) / n)
	}
	return max(day, 2*rounds*perAccelerator)
}
