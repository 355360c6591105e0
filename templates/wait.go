package templates

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/plan"
)

// wait holds an accelerator's points back until its server serves the model, and
// fails when a point would not fit into it.
func wait(p plan.Plan) wfv1.Template {
	w := steps.Wait
	t := stepPod(p, waitTemplate, p.WaitDeadline(), pods.Small, w.With(
		w.Target.Is(input(pTargetURL)),
		w.Model.Is(global(pModel)),
		w.Timeout.Is(p.Config.WaitTimeout),
		w.BatchSizes.Is(global(pBatchSizes)),
		w.Shapes.Is(shapeList(p)),
		w.MaxNumSeqs.Is(input(pMaxNumSeqs)),
		w.Accelerator.Is(input(pAccelerator)),
		w.Output.Set(outDir),
	))
	t.Inputs = inputs(pAccelerator, pTargetURL, pMaxNumSeqs, pResults)
	t.Container.Env = append(t.Container.Env, pods.APIKeyEnv(p)...)
	t.Outputs.Artifacts = []wfv1.Artifact{
		summaryOfAccelerator(p), // of a wait in vain: it tells why
		// What is known of the server; a store that cannot be written shows before any load.
		artifact("server", outDir+"/"+layout.OutServer.Key(), input(pResults)+"/"+layout.Server),
	}
	return t
}
