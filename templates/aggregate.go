package templates

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/linear4"
	"wfgen.dev/internal/sweep/plan"
)

// aggregate estimates the parameters of one accelerator from the measurements that
// its points left.
func aggregate(p plan.Plan) wfv1.Template {
	measurements := inDir + "/" + layout.Measurements
	a := steps.Aggregate
	call := a.With(
		a.Output.Set(outDir),
		a.Method.Is(global(pMethod)),
		a.Shapes.Is(shapeList(p)),
		a.Expect.Is(input(pAccelerator)),
	).On(measurements)
	if p.Precision != "" {
		call = call.And(a.Precision.Is(global(pPrecision)))
	}
	if p.DriftBand == "" {
		call = call.And(a.Latest.Set(outDir))
	}
	t := stepPod(p, aggregateTemplate, plan.EstimateDeadline, pods.Medium, call)
	t.Inputs = inputs(aggregateInputs(p)...)
	t.Inputs.Artifacts = []wfv1.Artifact{directory(layout.Measurements, measurements, measurementsKey(input(pResults)))}
	t.Outputs.Parameters = outputParameters(a.Command, layout.OutAlpha, layout.OutBeta, layout.OutGamma, layout.OutDelta, layout.OutVerdict, layout.OutAnswer, layout.OutReasons)
	if outputsOfWorkflow(p) {
		for i, o := range t.Outputs.Parameters {
			if o.Name != string(layout.OutReasons) && o.Name != string(layout.OutAnswer) {
				t.Outputs.Parameters[i].GlobalName = o.Name + "-" + input(pSlug)
			}
		}
	}
	t.Outputs.Artifacts = []wfv1.Artifact{
		artifact(layout.Parameters, outDir+"/"+input(pAccelerator)+"/"+layout.Parameters, input(pResults)+"/"+layout.Parameters),
		summaryOfAccelerator(p),
		artifact("report", outDir+"/"+layout.Page, input(pResults)+"/"+layout.Page),
	}
	if p.DriftBand == "" { // otherwise the summary compares, and then knows what becomes latest
		t.Outputs.Artifacts = append(t.Outputs.Artifacts, latest(p))
	}
	t.Metrics = &wfv1.Metrics{Prometheus: gauges()}
	return t
}

// latest is where accepted parameters replace those that were accepted before.
func latest(p plan.Plan) wfv1.Artifact {
	return artifact(layout.Latest, outDir+"/"+layout.Latest, key(p, layout.Latest))
}

// summaryOfAccelerator is what the summary of all is made of: one of each accelerator.
func summaryOfAccelerator(p plan.Plan) wfv1.Artifact {
	return artifact("summary", outDir+"/"+layout.Summary, runKey(p, layout.Summaries, input(pAccelerator)+".json"))
}

// outputsOfWorkflow says whether the estimates are outputs of the workflow as well,
// not of its nodes alone: those of a large fleet would not fit into its status.
func outputsOfWorkflow(p plan.Plan) bool { return len(p.Accelerators) < maxTasks }

// ofWorkflow makes outputs of an accelerator's node the workflow's as well, by its name.
func ofWorkflow(p plan.Plan, outputs []wfv1.Parameter) {
	if outputsOfWorkflow(p) {
		for i, o := range outputs {
			outputs[i].GlobalName = o.Name + "-" + input(pSlug)
		}
	}
}

func aggregateInputs(p plan.Plan) []string {
	if outputsOfWorkflow(p) {
		return []string{pAccelerator, pResults, pSlug}
	}
	return []string{pAccelerator, pResults}
}

// gauges show the parameters of the first shape to Prometheus.
func gauges() []*wfv1.Prometheus {
	var list []*wfv1.Prometheus
	for _, p := range linear4.Parameters {
		list = append(list, gauge("wfgen_"+p.Name+"_milliseconds", layout.Output(p.Name), p.Line+": "+p.Name+", "+p.Unit))
	}
	return list
}

// gauge shows an output of the first shape of an accelerator to Prometheus.
func gauge(name string, output layout.Output, help string) *wfv1.Prometheus {
	return &wfv1.Prometheus{
		Name: name,
		Help: help,
		Labels: []*wfv1.MetricLabel{
			{Key: "model", Value: global(pModel)},
			{Key: "accelerator", Value: input(pAccelerator)},
			{Key: "shape", Value: global(pPromptTokens) + "/" + global(pOutputTokens)},
		},
		When:  "{{status}} == Succeeded",
		Gauge: &wfv1.Gauge{Realtime: new(false), Value: "{{outputs.parameters." + string(output) + "}}"},
	}
}
