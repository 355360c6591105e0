package templates

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// MostEvidence is how many accelerators' measurements and capacities the summary reads, for
// its report and for consumers. Those of a larger fleet are in the reports of its accelerators.
const MostEvidence = 50

// summary puts the accelerators side by side. It fails, after publishing what there
// is, when one of them has no parameters: otherwise the workflow would look well,
// since a DAG succeeds when its last task does.
func summary(p plan.Plan) wfv1.Template {
	summaries, evidence := inDir+"/"+layout.Summaries, inDir+"/"+layout.Measurements
	a := steps.Aggregate
	call := a.With(
		a.Output.Set(outDir),
		a.Method.Is(global(pMethod)),
		a.Expect.Set(steps.List(p.Names())),
		a.Evidence.Set(evidence),
	).On(summaries)
	last := inDir + "/" + layout.Latest
	if p.DriftBand != "" {
		call = call.And(a.DriftBand.Is(global(pDriftBand)), a.Previous.Set(last), a.Latest.Set(outDir))
	}
	if p.FailOnDrift {
		call = call.And(a.FailOnDrift.Set(true))
	}
	if p.Publish == config.ConfigMap {
		call = call.And(a.ConfigMap.Set(p.ResultsName()))
	}
	if len(p.PublishFormats) > 0 {
		call = call.And(pods.Formats(p, shapeList(p))...)
	}
	t := stepPod(p, summaryTemplate, plan.EstimateDeadline, pods.Medium, call)
	if p.Publish == config.ConfigMap {
		t.PodSpecPatch = tokenOfMain
	}
	t.Inputs.Artifacts = []wfv1.Artifact{directory(layout.Summaries, summaries, runKey(p, layout.Summaries))}
	if len(p.Accelerators) <= MostEvidence {
		for _, one := range p.Accelerators {
			t.Inputs.Artifacts = append(t.Inputs.Artifacts, directory("measurements-"+one.Slug, evidence+"/"+one.Slug, measurementsKey(runKey(p, one.Name))))
			if one.PrefillChunk > 0 {
				t.Inputs.Artifacts = append(t.Inputs.Artifacts, optional("prefill-"+one.Slug, evidence+"/prefill-"+one.Slug+"/"+layout.Prefill, runKey(p, one.Name, layout.Prefill)))
			}
			if p.SLO != "" {
				t.Inputs.Artifacts = append(t.Inputs.Artifacts, optional("capacity-"+one.Slug, evidence+"/capacity-"+one.Slug+"/"+layout.Capacity, runKey(p, one.Name, layout.Capacity)))
			}
		}
	}
	t.Outputs.Parameters = outputParameters(a.Command, layout.OutVerdict, layout.OutAnswer, layout.OutReasons)
	t.Outputs.Artifacts = []wfv1.Artifact{
		artifact("report", outDir+"/"+layout.Page, runKey(p, layout.Page)),
		artifact("summary", outDir+"/"+layout.Summary, runKey(p, layout.Summary)),
	}
	if len(p.PublishFormats) > 0 {
		t.Outputs.Artifacts = append(t.Outputs.Artifacts, artifact(layout.Rendered, outDir+"/"+layout.Rendered, runKey(p, layout.Rendered)))
	}
	if p.DriftBand != "" {
		t.Inputs.Artifacts = append(t.Inputs.Artifacts, directory(layout.Latest, last, key(p, layout.Latest)))
		t.Outputs.Artifacts = append(t.Outputs.Artifacts, latest(p))
		t.Outputs.Parameters = append(t.Outputs.Parameters, outputParameters(a.Command, layout.OutDrift, layout.OutDriftPercent)...)
		t.Metrics = &wfv1.Metrics{Prometheus: []*wfv1.Prometheus{driftGauge(p)}}
	}
	for i, o := range t.Outputs.Parameters {
		if o.Name == string(layout.OutAnswer) || o.Name == string(layout.OutDrift) {
			t.Outputs.Parameters[i].GlobalName = o.Name
		}
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
