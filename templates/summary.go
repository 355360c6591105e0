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
	call := a.With(
		a.Output.Set(outDir),
		a.Method.Is(global(pMethod)),
		a.Expect.Set(steps.List(p.Names())),
	).On(summaries)
	last := inDir + "/" + layout.Latest
	if p.DriftBand != "" {
		call = call.And(a.DriftBand.Is(global(pDriftBand)), a.Previous.Set(last), a.Latest.Set(outDir))
	}
	if p.FailOnDrift {
		call = call.And(a.FailOnDrift.Set(true))
	}
	t := stepPod(p, summaryTemplate, plan.EstimateDeadline, pods.Medium, call)
	t.Inputs.Artifacts = []wfv1.Artifact{directory(layout.Summaries, summaries, runKey(p, layout.Summaries))}
	t.Outputs.Artifacts = []wfv1.Artifact{artifact("summary", outDir+"/"+layout.Summary, runKey(p, layout.Summary))}
	if p.DriftBand != "" {
		t.Inputs.Artifacts = append(t.Inputs.Artifacts, directory(layout.Latest, last, key(p, layout.Latest)))
		t.Outputs.Artifacts = append(t.Outputs.Artifacts, latest(p))
		t.Outputs.Parameters = outputParameters(a.Command, layout.OutDrift, layout.OutDriftPercent)
		t.Outputs.Parameters[0].GlobalName = string(layout.OutDrift)
		t.Metrics = &wfv1.Metrics{Prometheus: []*wfv1.Prometheus{driftGauge(p)}}
	}
	return t
}

// driftGauge shows the largest change beyond the band to Prometheus, whether it failed
// the run or not.
func driftGauge(p plan.Plan) *wfv1.Prometheus {
	percent := "{{outputs.parameters." + string(layout.OutDriftPercent) + "}}"
	return &wfv1.Prometheus{
		Name:   "wfgen_drift_percent",
		Help:   "Largest change of a parameter beyond the band since it was accepted last, percent; 0: none",
		Labels: []*wfv1.MetricLabel{{Key: "model", Value: global(pModel)}, {Key: "sweep", Value: p.Name}},
		When:   percent + ` != ""`,
		Gauge:  &wfv1.Gauge{Realtime: new(false), Value: percent},
	}
}
