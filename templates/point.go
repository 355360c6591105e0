package templates

import (
	"fmt"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// point loads one server with batch-size requests at a time. It gets everything by
// its inputs, so that a ClusterWorkflowTemplate can hold it as it is.
func point(p plan.Plan) wfv1.Template {
	b := steps.Bench
	t := benchPod(p, pointTemplate, b.With(b.BatchSize.Is(input(pBatchSize))), pBatchSize)
	t.Inputs.Parameters = append(t.Inputs.Parameters, wfv1.Parameter{Name: pAgain, Default: wfv1.AnyStringPtr("")})
	t.ActiveDeadlineSeconds = new(intstr.FromString(plan.PointDeadlineExpression(pMaxSeconds)))
	if p.LoadGenerator == config.Cluster { // sweeps share it
		t.Metadata.Labels = map[string]string{pods.PartOfLabel: input(pSweep)}
		t.Inputs.Parameters = append(t.Inputs.Parameters, wfv1.Parameter{Name: pSweep, Default: wfv1.AnyStringPtr("wfgen")})
	}
	shape := input(pPromptTokens) + "-" + input(pOutputTokens)
	name := shape + "-b" + input(pBatchSize) + input(pAgain)
	t.Outputs = wfv1.Outputs{
		Parameters: outputParameters(b.Command, layout.OutITL, layout.OutTTFT, layout.OutBatch),
		Artifacts: []wfv1.Artifact{
			artifact("measurement", outDir+"/"+layout.Measurement, measurementsKey(input(pResults))+"/"+name+".json"),
			artifact("reports", outDir+"/"+layout.Reports, input(pResults)+"/"+layout.Reports+"/"+shape+reportsOfAgain),
		},
	}
	return t
}

// points loads one server with the points of a list, one after another: no GPU waits for
// the pod of the next. Each is tried again by itself, in the pod. A pod that was lost, or
// stopped and retried, measures those of which no measurement is stored; what it has
// measured is stored when it ends.
func points(p plan.Plan) wfv1.Template {
	b, done := steps.Bench, inDir+"/"+layout.Measurements
	t := benchPod(p, pointsTemplate, b.With(b.Points.Is(input(pPoints)), b.Attempts.Set(p.Retries+1), b.Done.Set(inDir)), pPoints)
	t.RetryStrategy = again(p, steps.Command{})
	t.ActiveDeadlineSeconds = new(intstr.FromString(plan.PointsDeadlineExpression(pMaxSeconds, pPoints, p.Retries)))
	t.Inputs.Artifacts = []wfv1.Artifact{directory(layout.Measurements, done, measurementsKey(input(pResults)))}
	t.Outputs.Artifacts = []wfv1.Artifact{
		artifact(layout.Measurements, outDir+"/"+layout.Measurements, measurementsKey(input(pResults))),
		artifact(layout.Reports, outDir+"/"+layout.Reports, input(pResults)+"/"+layout.Reports),
	}
	return t
}

// loadTemplates are those of a sweep's own that make the load: none where it is everybody's.
func loadTemplates(p plan.Plan) []wfv1.Template {
	switch {
	case p.SharesPod():
		return []wfv1.Template{points(p)}
	case p.LoadGenerator == config.Inline:
		return []wfv1.Template{point(p)}
	}
	return nil
}

// benchPod runs step bench against the server of its inputs; of and its input say what.
func benchPod(p plan.Plan, name string, of steps.Call, ofInput string) wfv1.Template {
	guidellm := p.Driver == sweep.Guidellm
	names := []string{pModel, ofInput, pBatchSizes, pTargetURL, pAccelerator, pPromptTokens, pOutputTokens, pMaxSeconds, pMaxRequests}
	b := steps.Bench
	call := b.With(
		b.Target.Is(input(pTargetURL)),
		b.Model.Is(input(pModel)),
		b.Accelerator.Is(input(pAccelerator))).And(of.Settings...).And(
		b.BatchSizes.Is(input(pBatchSizes)),
		b.PromptTokens.Is(input(pPromptTokens)),
		b.OutputTokens.Is(input(pOutputTokens)),
		b.MaxSeconds.Is(input(pMaxSeconds)),
		b.MaxRequests.Is(input(pMaxRequests)),
		b.MaxNumSeqs.Is(input(pMaxNumSeqs)),
		b.Server.Is(input(pServer)),
		b.Driver.Set(p.Driver),
		b.Output.Set(outDir),
	)
	if guidellm {
		names = append(names, pTokenizer)
		call = call.And(b.Tokenizer.Is(input(pTokenizer)))
	}
	names = append(names, pMaxNumSeqs, pResults)

	t := loadPod(p, name, 0, call, names...)
	if guidellm {
		t.InitContainers = []wfv1.UserContainer{{Container: pods.InstallStep(p), MirrorVolumeMounts: new(true)}}
		t.Volumes = append(t.Volumes, pods.ToolsVolume())
		t.SecurityContext = pods.Security(pods.GuidellmUser)
		pods.IntoGuidellm(p, t.Container)
	}
	return t
}

// reportsOfAgain is the folder of a point that is measured again, below the reports of
// its shape: layout.ReportsOfPoint.
var reportsOfAgain = fmt.Sprintf(`{{=inputs.parameters["%[1]s"] == "" ? "" : "/" + inputs.parameters["%[2]s"] + "-" + inputs.parameters["%[3]s"] + "-b" + inputs.parameters["%[4]s"] + inputs.parameters["%[1]s"]}}`,
	pAgain, pPromptTokens, pOutputTokens, pBatchSize)

// serverLock is the name of the mutex that keeps two runs from loading one server
// together: the server's URL in letters, digits and dashes, so that it follows a
// target that is changed at submit.
const serverLock = `{{=sprig.trimSuffix("-", sprig.regexReplaceAll("[^A-Za-z0-9]+", inputs.parameters["target-url"], "-"))}}`

func pointComments(p plan.Plan, at string) []manifest.Comment {
	comments := []manifest.Comment{
		{Path: at + ".synchronization", Text: "One point at a time on a server, also when several workflows run."},
		{Path: at + ".container.resources.requests.cpu", Text: "With too few CPUs the load generator's own contention is measured as latency."},
		{Path: at + ".container.env", Text: "What is given at submit comes first: nothing in it can then refer to a secret."},
	}
	if p.Retries > 0 {
		comments = append(comments, manifest.Comment{Path: at + ".retryStrategy", Text: "75: try again (connection lost, driver crashed). What cannot heal fails at once."})
	}
	if p.Driver == sweep.Guidellm {
		comments = append(comments,
			manifest.Comment{Path: at + ".initContainers", Text: "step comes in beside the unmodified guidellm."},
			manifest.Comment{Path: at + ".securityContext.runAsUser", Text: "The user of the guidellm image."})
	}
	return comments
}
