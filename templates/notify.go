package templates

import (
	"strings"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/plan"
)

// notifyDeadline is how long a notification may take, seconds: three addresses, and
// the start of a pod.
const notifyDeadline = 900

// end are the templates that run when the workflow has ended, however it did: also
// after a failure, a stop and its deadline, but not after it is terminated, after which
// Argo starts nothing: of that the guard tells. The end of a good run is good whatever becomes of them. Where the
// summary cannot be had, the store being why the run failed perhaps, they tell without it.
func end(p plan.Plan) []wfv1.Template {
	if p.NotifySecretName == "" {
		return nil
	}
	whatever := &wfv1.ContinueOn{Error: true, Failed: true}
	return []wfv1.Template{
		{
			Name: endTemplate,
			Steps: []wfv1.ParallelSteps{
				{Steps: []wfv1.WorkflowStep{{Name: notifyTemplate, Template: notifyTemplate, ContinueOn: whatever}}},
				{Steps: []wfv1.WorkflowStep{{Name: notifyBareTemplate, Template: notifyBareTemplate, ContinueOn: whatever,
					When: "{{steps." + notifyTemplate + ".status}} == Error"}}},
			},
		},
		notification(p, notifyTemplate, true),
		notification(p, notifyBareTemplate, false),
	}
}

// onExit names the first of them, if there are any.
func onExit(p plan.Plan) string {
	if p.NotifySecretName == "" {
		return ""
	}
	return endTemplate
}

func notification(p plan.Plan, name string, withSummary bool) wfv1.Template {
	n := steps.Notify
	call := n.With(
		n.Run.Is(run),
		n.Status.Is("{{workflow.status}}"),
		n.Failures.Is("{{workflow.failures}}"),
	).And(told(p)...)
	summary := inDir + "/" + layout.Summary
	if withSummary {
		call = call.On(summary)
	}
	t := stepPod(p, name, notifyDeadline, pods.Small, call)
	t.Timeout = (notifyDeadline * time.Second).String() // of a pod that no node has room for, too
	t.RetryStrategy = nil                               // it tries by itself, and a pod that was lost may have told already
	t.Container.Env = append(t.Container.Env, pods.NotifyEnv(p)...)
	if withSummary {
		t.Inputs.Artifacts = []wfv1.Artifact{optional("summary", summary, runKey(p, layout.Summary))}
	}
	return t
}

// told is what whoever hears of a run is told in any case, and of which ends they hear. The
// flags are those of step notify and of step guard alike.
func told(p plan.Plan) []steps.Setting {
	n := steps.Notify
	settings := []steps.Setting{n.Sweep.Set(p.Name), n.Model.Is(global(pModel))}
	if len(p.NotifyOn) > 0 {
		settings = append(settings, n.On.Set(steps.List(p.NotifyOn)))
	}
	if p.ReportURL != "" {
		settings = append(settings, n.ReportURL.Is(strings.ReplaceAll(p.ReportURL, "{run}", run)))
	}
	return settings
}

// tellsOfTermination says whether the guard tells somebody when the workflow is terminated.
func tellsOfTermination(p plan.Plan) bool { return guarded(p) && p.NotifySecretName != "" }
