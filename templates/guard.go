package templates

import (
	"fmt"
	"math"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"

	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/plan"
)

// Argo waits for a pod that does not begin to run for as long as the workflow may take:
// the timeout of a template does not see a pod that is tried again, and pendingTimeout
// came with 4.1. So a daemon looks after the workflow's pods and ends those that are stuck,
// with the reason, which becomes the message of their node.
//
// What the daemon itself cannot begin without, the image of step and a node with room, is
// tried before by a pod that Argo's own timeout does see, since it is tried once.

// guarded says whether the sweep's pods are looked after.
func guarded(p plan.Plan) bool { return p.PendingTimeout > 0 }

// podsOfRun are labels of the pods that are looked after. Servers have somebody who waits for them.
var podsOfRun = "workflows.argoproj.io/workflow=" + run + "," + pods.ComponentLabel + "!=" + pods.ServerComponent

// start is the first pod of a workflow: it shows that the image of step can be run, and
// that the guard has its rights.
func start(p plan.Plan) wfv1.Template {
	g := steps.Guard
	t := stepPod(p, startTemplate, int(p.PendingTimeout.Seconds()), pods.Small, g.With(g.Pods.Is(podsOfRun), g.Once.Set(true)))
	t.Timeout = p.PendingTimeout.String()
	t.RetryStrategy = nil // Argo sees only then that it is pending
	t.PodSpecPatch = tokenOfMain
	return t
}

// guard looks after the pods until Argo ends it, with the DAG that it is a daemon of. It is
// there whenever a workflow is terminated, too, of which it tells: no exit handler does.
func guard(p plan.Plan) wfv1.Template {
	g := steps.Guard
	call := g.With(g.Pods.Is(podsOfRun), g.PendingTimeout.Set(p.PendingTimeout))
	var addresses []corev1.EnvVar
	if tellsOfTermination(p) {
		call = call.And(g.Workflow.Is(run)).And(told(p)...)
		addresses = pods.NotifyEnv(p)
	}
	t := stepPod(p, guardTemplate, int(min(p.Deadline(), math.MaxInt32)), pods.Small, call)
	t.Container.Env = append(t.Container.Env, addresses...)
	t.Daemon = new(true)
	t.RetryStrategy = nil
	t.PodSpecPatch = tokenOfMain
	return t
}

// guardTasks are the tasks that come before those of the accelerators, and beside them.
// not-started only says what a timeout of start means: Argo's message is that word alone,
// and a task that is skipped shows its condition.
func guardTasks(p plan.Plan) []wfv1.DAGTask {
	if !guarded(p) {
		return nil
	}
	return []wfv1.DAGTask{
		{Name: startTemplate, Template: startTemplate},
		{Name: guardTemplate, Template: guardTemplate, Depends: startTemplate},
		{
			Name: notStartedTask, Template: startTemplate, Depends: startTemplate + ".Failed",
			When: fmt.Sprintf(`"start" == "If start says timeout or deadline: the image %s cannot be pulled, or no node has room for a pod of %s CPU and %s; `+
				`kubectl describe pod tells which. Correct step-image, image-pull-secrets or the nodes, then argo retry."`,
				p.StepImage, pods.Small.Requests.Cpu(), pods.Small.Requests.Memory()),
		},
	}
}

// afterStart holds a task back until it is known that pods can be run.
func afterStart(p plan.Plan, tasks []wfv1.DAGTask) {
	if guarded(p) {
		for i := range tasks {
			tasks[i].Depends = startTemplate
		}
	}
}

// afterAll is the condition of what comes last: the guard counts as an ancestor, so that
// losing it fails nothing.
func afterAll(p plan.Plan, names []string) string {
	condition := finished(names...)
	if guarded(p) {
		condition += fmt.Sprintf(" && (%[1]s.Daemoned || %[1]s.Succeeded || %[1]s.Failed || %[1]s.Errored)", guardTemplate)
	}
	return condition
}

// tokenOfMain gives the ServiceAccount's identity to a step that asks the API server.
var tokenOfMain = patch(corev1.PodSpec{Containers: []corev1.Container{{Name: "main", VolumeMounts: []corev1.VolumeMount{pods.TokenMount()}}}})
