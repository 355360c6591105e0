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
	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
	"wfgen.dev/internal/sweep/plan"
)

// workflowTemplate is the sweep itself, to be submitted as often as wanted.
func workflowTemplate(p plan.Plan) manifest.Object {
	templates := []wfv1.Template{}
	templates = append(templates, sweepTemplates(p)...)
	if guarded(p) {
		templates = append(templates, start(p), guard(p))
	}
	servers := serverGroups(p)
	for _, g := range servers {
		templates = append(templates, g.deploy(p), g.server(p))
	}
	if len(servers) > 0 {
		templates = append(templates, await(p))
	}
	templates = append(templates, accelerator(p))
	if p.Precision != "" {
		templates = append(templates, round(p), next(p))
	} else {
		templates = append(templates, shape(p))
	}
	templates = append(templates, wait(p))
	load := loadTemplates(p)
	templates = append(templates, load...)
	templates = append(templates, aggregate(p))
	if p.Prefills() {
		templates = append(templates, prefill(p))
	}
	if p.SLO != "" {
		templates = append(templates, checkCapacity(p))
	}
	templates = append(templates, summary(p))
	templates = append(templates, end(p)...)
	onPlatform(p, templates)

	value := wfv1.WorkflowTemplate{
		TypeMeta:   metav1.TypeMeta{APIVersion: argoAPI, Kind: "WorkflowTemplate"},
		ObjectMeta: pods.Meta(p, p.Name),
		Spec: wfv1.WorkflowSpec{
			Entrypoint:            sweepTemplate,
			OnExit:                onExit(p),
			Arguments:             wfv1.Arguments{Parameters: parameters(p)},
			ServiceAccountName:    p.AccountName(),
			ArtifactRepositoryRef: repositoryRef(p),
			SecurityContext:       pods.Security(pods.StepUser),
			PodSpecPatch:          podSpecPatch,
			PodPriorityClassName:  p.PriorityClass,
			ImagePullSecrets:      pods.PullSecrets(p),
			ActiveDeadlineSeconds: new(p.Deadline()),
			PodGC:                 &wfv1.PodGC{Strategy: wfv1.PodGCOnPodSuccess},
			TTLStrategy:           &wfv1.TTLStrategy{SecondsAfterCompletion: new(int32(7 * 24 * time.Hour / time.Second))},
			ArtifactGC:            &wfv1.WorkflowLevelArtifactGC{ArtifactGC: wfv1.ArtifactGC{Strategy: wfv1.ArtifactGCNever}},
			Templates:             templates,
		},
	}
	value.Annotations = map[string]string{
		"workflows.argoproj.io/title":   "Latency parameters of " + p.Model,
		descriptionAnnotation:           description(p) + links(p, ""),
		"workflows.argoproj.io/version": lineNeeded(p),
	}
	if of := links(p, run); of != "" { // Argo's interface shows what a Workflow says of itself
		value.Spec.WorkflowMetadata = &wfv1.WorkflowMetadata{Annotations: map[string]string{descriptionAnnotation: strings.TrimSpace(of)}}
	}

	comments := []manifest.Comment{
		{Path: "apiVersion", Text: fmt.Sprintf("Run it: argo submit -n %s --from workflowtemplate/%s --watch", p.Namespace, p.Name)},
		{Path: "spec.arguments", Text: "All of these can be changed for one run: argo submit … -p max-seconds=360 -p batch-sizes='[1,8,64]'"},
		{Path: "spec.securityContext.runAsUser", Text: "On OpenShift delete runAsUser, here and below: the namespace's range decides."},
		{Path: "spec.podSpecPatch", Text: "Argo's own containers, too, must pass Pod Security \"restricted\"; and they alone may ask the API server."},
		{Path: "spec.activeDeadlineSeconds", Text: "Longer than any sweep of these points can take."},
		{Path: "spec.ttlStrategy", Text: "The Workflow object goes after a week; its results in the artifact repository stay."},
	}
	if guarded(p) {
		comments = append(comments, manifest.Comment{Path: "spec.templates[" + guardTemplate + "]", Text: "Ends a pod that does not begin to run within pending-timeout, and says why."})
	}
	for _, g := range servers {
		comments = append(comments, g.comments()...)
	}
	for _, t := range load {
		comments = append(comments, pointComments(p, "spec.templates["+t.Name+"]")...)
	}
	return manifest.Object{File: "workflowtemplate.yaml", Value: ofLine(p, value.TypeMeta, value.ObjectMeta, value.Spec, value), Comments: comments}
}

// descriptionAnnotation is Markdown, which Argo's interface shows of a template and of a
// workflow.
const descriptionAnnotation = "workflows.argoproj.io/description"

// links are a paragraph with what there is to look at of a run; without a run those that
// are the same for all. Empty: there are none.
func links(p plan.Plan, run string) string {
	var list []string
	add := func(text, url string) {
		if run != "" || !strings.Contains(url, "{run}") {
			list = append(list, fmt.Sprintf("[%s](%s)", text, strings.ReplaceAll(url, "{run}", run)))
		}
	}
	if p.ReportURL != "" {
		add("report", p.ReportURL)
	}
	for _, text := range slices.Sorted(maps.Keys(p.Links)) {
		add(text, p.Links[text])
	}
	if len(list) == 0 {
		return ""
	}
	return "\n\nSee " + strings.Join(list, " · ")
}

func description(p plan.Plan) string {
	names := make([]string, 0, 8)
	for _, a := range p.Accelerators {
		if len(names) == 7 {
			names = append(names, fmt.Sprintf("%d more", len(p.Accelerators)-7))
			break
		}
		names = append(names, a.Name)
	}
	return fmt.Sprintf(`Measures ITL and TTFT of the model's server on each accelerator (%s) at several batch sizes
and estimates **alpha, beta** (%s) and **gamma, delta** (%s), in ms.

Results: the outputs of this workflow, the artifact **report** of its node summary, a page to look at, and %s in the artifact repository.`,
		strings.Join(names, ", "), "`"+linear4.ITL+"`", "`"+linear4.TTFT+"`", "`"+key(p, "runs/<workflow>/")+"`")
}

// parameters are what a user may change at submit.
func parameters(p plan.Plan) []wfv1.Parameter {
	describe := func(name, value, description string) wfv1.Parameter {
		return wfv1.Parameter{Name: name, Value: wfv1.AnyStringPtr(value), Description: wfv1.AnyStringPtr(description)}
	}
	sizes, err := json.Marshal(sweep.Order(p.BatchSizes))
	if err != nil {
		panic(err) // integers
	}
	list := []wfv1.Parameter{describe(pModel, p.Model, "Model to measure, as its servers list it under /v1/models.")}
	if len(p.Shared()) > 0 {
		list = append(list, describe(pTargetURL, p.TargetURL, "URL of the servers; {accelerator} stands for the accelerator's name in lower case."))
	}
	for _, a := range ownTargets(p) {
		list = append(list, describe(ownTarget(a), a.TargetURL, "URL of the server of "+a.Name+hardware(a)+"."))
	}
	first := p.Shapes[0]
	also := ""
	if n := len(p.Shapes) - 1; n > 0 {
		also = fmt.Sprintf(" Of the first of %d shapes; the others are fixed in template %s.", n+1, acceleratorTemplate)
	}
	list = append(list,
		describe(pPromptTokens, strconv.Itoa(first.PromptTokens), "Tokens of each prompt."+also),
		describe(pOutputTokens, strconv.Itoa(first.OutputTokens), "Tokens of each answer."+also),
		describe(pBatchSizes, string(sizes), "How many requests run together, a point each: a JSON list in the order in which they run, which should not rise with the batch; none above the server's max-num-seqs."),
		describe(pMaxSeconds, strconv.Itoa(p.MaxSeconds), "Length of a point in seconds; 0 when max-requests limits it."),
		describe(pMaxRequests, strconv.Itoa(p.MaxRequests), "Requests of a point, all streams together; 0 for as many as max-seconds allow."),
	)
	if p.Precision != "" {
		list = append(list,
			describe(pPrecision, p.Precision, "How well the parameters are wanted, half widths of 95 % intervals: 5% for all, or alpha=1%,beta=5%. Points are chosen in rounds until they are; max-seconds is the longest."),
			describe(pMinutes, strconv.FormatFloat(p.MaxGPUMinutes, 'g', -1, 64), "The most GPU-minutes that the points of all accelerators together may take; 0: no limit but that of the rounds."))
	}
	if p.Driver == sweep.Guidellm {
		list = append(list, describe(pTokenizer, p.Tokenizer, "Directory or model id of the tokenizer that prompts are made with; empty for the model's own."))
	}
	method := describe(pMethod, p.Method, "Weighted least squares over all points, or the smallest and the largest batch size alone.")
	method.Enum = []wfv1.AnyString{sweep.WLS, sweep.TwoPoint}
	list = append(list, method)
	if p.SLO != "" {
		list = append(list, describe(pSLO, p.SLO, "Objectives that the capacity of a replica is told for, and checked by; such as ttft=250ms,p90.itl=20ms."))
	}
	if slices.ContainsFunc(p.Accelerators, commonChunk(p)) {
		list = append(list, describe(pPrefillChunk, strconv.Itoa(p.PrefillChunk), "Prompt tokens that a server computes in an iteration at most (max-num-batched-tokens), of which the prefill rate is measured; 0: it is not."))
	}
	if p.DriftBand != "" {
		list = append(list, describe(pDriftBand, p.DriftBand, "Change since the parameters were accepted last that is tolerated, such as 5%; off accepts what is measured now."))
	}
	return list
}

// maxOwnTargets is how many accelerators with a server of their own get a workflow
// parameter for it; with more the list would be of no use to anybody.
const maxOwnTargets = 50

func ownTargets(p plan.Plan) []plan.Accelerator {
	var own []plan.Accelerator
	for _, a := range p.Accelerators {
		if a.Own {
			own = append(own, a)
		}
	}
	if len(own) > maxOwnTargets {
		return nil
	}
	return own
}

func ownTarget(a plan.Accelerator) string { return pTargetURL + "-" + a.Slug }

// hardware says what an accelerator is to a cluster.
func hardware(a plan.Accelerator) string {
	if len(a.Nodes) == 0 {
		return ""
	}
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(a.Nodes)) {
		labels = append(labels, name+"="+a.Nodes[name])
	}
	return " (" + strings.Join(labels, ", ") + ")"
}
