package templates

import (
	"fmt"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/plan"
)

// prefill measures how fast the server of an accelerator computes prompts while it has
// nothing else to do.
func prefill(p plan.Plan) wfv1.Template {
	k := steps.Prefill
	t := loadPod(p, prefillTemplate, plan.PrefillDeadline, k.With(
		k.Target.Is(input(pTargetURL)),
		k.Model.Is(global(pModel)),
		k.Accelerator.Is(input(pAccelerator)),
		k.ChunkTokens.Is(input(pPrefillChunk)),
		k.Server.Is(input(pServer)),
		k.Output.Set(outDir),
	), pAccelerator, pSlug, pTargetURL, pPrefillChunk, pResults)
	t.Outputs = wfv1.Outputs{
		Parameters: outputParameters(k.Command, layout.OutPrefill),
		Artifacts:  []wfv1.Artifact{artifact("prefill", outDir+"/"+layout.Prefill, input(pResults)+"/"+layout.Prefill)},
	}
	ofWorkflow(p, t.Outputs.Parameters)
	rate := gauge("wfgen_prefill_tokens_per_second", layout.OutPrefill, "Prompt tokens per second that an idle server computes")
	rate.Labels = rate.Labels[:2] // it is of no shape
	t.Metrics = &wfv1.Metrics{Prometheus: []*wfv1.Prometheus{rate}}
	return t
}

// prefillTask comes after the points, which have warmed the server up, whatever became of
// them. It is left out of a run, or for an accelerator, whose chunk is 0.
func prefillTask(points string, target, results wfv1.Parameter) wfv1.DAGTask {
	return wfv1.DAGTask{
		Name: prefillTemplate, Template: prefillTemplate, Depends: finished(points), When: input(pPrefillChunk) + " > 0",
		Arguments: arguments(append(forward(pAccelerator, pSlug, pPrefillChunk, pServer), target, results)...),
	}
}

// commonChunk says whether an accelerator has the chunk that a run can be given another
// one for at submit.
func commonChunk(p plan.Plan) func(plan.Accelerator) bool {
	return func(a plan.Accelerator) bool { return a.PrefillChunk > 0 && a.PrefillChunk == p.PrefillChunk }
}

// prefillChunk is that of an accelerator.
func prefillChunk(p plan.Plan, a plan.Accelerator) string {
	if commonChunk(p)(a) {
		return global(pPrefillChunk)
	}
	return fmt.Sprint(a.PrefillChunk)
}

// chunkOfServer is the chunk that a server is started with. A run that is told to measure
// no prefill rate has the server that another one has.
func chunkOfServer(p plan.Plan, a plan.Accelerator) string {
	switch {
	case a.PrefillChunk == 0:
		return ""
	case commonChunk(p)(a):
		return fmt.Sprintf(`{{=workflow.parameters["%[1]s"] == "0" ? "%[2]d" : workflow.parameters["%[1]s"]}}`, pPrefillChunk, a.PrefillChunk)
	}
	return fmt.Sprint(a.PrefillChunk)
}
