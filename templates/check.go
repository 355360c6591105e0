package templates

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/plan"
)

// checkCapacity tells what one replica of an accelerator bears within the objectives, and holds
// it against requests that arrive at that rate, and at one 10 % above.
func checkCapacity(p plan.Plan) wfv1.Template {
	k := steps.Check
	call := k.With(
		k.Target.Is(input(pTargetURL)),
		k.Model.Is(global(pModel)),
		k.Accelerator.Is(input(pAccelerator)),
		k.SLO.Is(global(pSLO)),
		k.Shapes.Is(shapeList(p)),
		k.MaxNumSeqs.Is(input(pMaxNumSeqs)),
		k.MaxSeconds.Set(float64(p.CheckSeconds())),
		k.Price.Set(p.Prices()),
		k.Server.Is(input(pServer)),
		k.Output.Set(outDir),
	).On(inDir + "/" + layout.Summary)
	names := []string{pAccelerator, pSlug, pTargetURL, pMaxNumSeqs, pResults}
	if p.Prefills() {
		call, names = call.And(k.ChunkTokens.Is(input(pPrefillChunk))), append(names, pPrefillChunk)
	}
	t := loadPod(p, checkTemplate, p.CheckDeadline(), call, names...)
	summary := summaryOfAccelerator(p)
	summary.Path, summary.Archive, summary.Optional = inDir+"/"+layout.Summary, nil, false
	t.Inputs.Artifacts = []wfv1.Artifact{summary}
	t.Outputs = wfv1.Outputs{
		Parameters: outputParameters(k.Command, layout.OutCapacity, layout.OutConcurrency, layout.OutCost),
		Artifacts: []wfv1.Artifact{
			artifact("capacity", outDir+"/"+layout.Capacity, input(pResults)+"/"+layout.Capacity),
			artifact("check", outDir+"/"+layout.Check, input(pResults)+"/"+layout.Check),
		},
	}
	ofWorkflow(p, t.Outputs.Parameters)
	t.Metrics = &wfv1.Metrics{Prometheus: []*wfv1.Prometheus{
		gauge("wfgen_capacity_requests_per_second", layout.OutCapacity, "Requests per second that one replica bears within the objectives"),
		gauge("wfgen_capacity_requests_in_flight", layout.OutConcurrency, "Mean requests in flight at that rate"),
	}}
	return t
}
