package templates

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/plan"
)

// summary puts the accelerators side by side. It fails, after publishing what there
// is, when one of them has no parameters: otherwise the workflow would look well,
// since a DAG succeeds when its last task does.
func summary(p plan.Plan) wfv1.Template {
	summaries := inDir + "/" + layout.Summaries
	a := steps.Aggregate
	t := stepPod(p, summaryTemplate, plan.EstimateDeadline, pods.Medium, a.With(
		a.Output.Set(outDir),
		a.Method.Is(global(pMethod)),
		a.Expect.Set(steps.List(p.Names())),
	).On(summaries))
	t.Inputs.Artifacts = []wfv1.Artifact{directory(layout.Summaries, summaries, runKey(p, layout.Summaries))}
	t.Outputs.Artifacts = []wfv1.Artifact{artifact("summary", outDir+"/"+layout.Summary, runKey(p, layout.Summary))}
	return t
}
