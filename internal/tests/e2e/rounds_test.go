//go:build e2e

package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep/precision"
)

// roundSizes are the batch sizes of rounds; the first round measures all of them.
var roundSizes = []int{1, 2, 4, 8, 16}

// ended is what the last round said of why there is no other.
func ended(w wfv1.Workflow) (rounds int, why, reasons string) {
	all := pods(w, "next")
	last := all[len(all)-1]
	text := func(name layout.Output) string {
		for _, p := range last.Outputs.Parameters {
			if p.Name == string(name) && p.Value != nil {
				return p.Value.String()
			}
		}
		return ""
	}
	return len(all) - 1, text(layout.OutEnded), text(layout.OutReasons)
}

// measurements are what the points of an accelerator have left so far, by their keys.
func (n *namespace) measurements(run, accelerator string) map[string]measurement.Measurement {
	all := map[string]measurement.Measurement{}
	for _, key := range n.keys(layout.Accelerator(run, accelerator) + "/" + layout.Measurements) {
		all[key] = decode(n, key, measurement.Decode)
	}
	return all
}

// podOf is the name of a node's pod.
func (n *namespace) podOf(run string, node wfv1.NodeStatus) string {
	n.t.Helper()
	var list corev1.PodList
	n.get(&list, "pods", "-l", "workflows.argoproj.io/workflow="+run)
	for _, pod := range list.Items {
		if pod.Annotations["workflows.argoproj.io/node-id"] == node.ID {
			return pod.Name
		}
	}
	return ""
}

// idle is how long the server waited from the load of one point to that of the next,
// seconds, in order of time.
func idle(points map[string]measurement.Measurement) []float64 {
	sorted := slices.SortedFunc(maps.Values(points), func(a, b measurement.Measurement) int { return cmp.Compare(a.StartedAt, b.StartedAt) })
	var all []float64
	for i, m := range sorted[1:] {
		all = append(all, math.Round(10*(m.StartedAt-sorted[i].StartedAt-sorted[i].Seconds))/10)
	}
	return all
}

// stopAndRetry stops a workflow in whose pod a point is being measured, retries it when it
// has ended, and waits until it has succeeded. What was measured before is not measured
// again.
func (n *namespace) stopAndRetry(run, pod, accelerator string) wfv1.Workflow {
	n.t.Helper()
	n.argo("stop", run)
	stopped := n.finished(run, 2*time.Minute)
	n.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s", "pod/"+pod)
	before := n.measurements(run, accelerator)
	if len(before) != 2 {
		n.t.Errorf("%d points were measured before the stop, want 2", len(before))
	}
	n.argo("retry", run)
	eventually(n.t, 30*time.Second, func() error {
		if w := n.workflow(run); w.Status.Fulfilled() && w.Status.FinishedAt.Equal(&stopped.Status.FinishedAt) {
			return fmt.Errorf("the workflow is still %s", w.Status.Phase)
		}
		return nil
	})
	n.finished(run, 8*time.Minute)
	w := n.succeeded(run)
	after := n.measurements(run, accelerator)
	for key, was := range before {
		if after[key].StartedAt != was.StartedAt {
			n.t.Errorf("%s was measured, and is measured again after the retry", key)
		}
	}
	n.t.Logf("%d points, idle between their loads: %v s", len(after), idle(after))
	return w
}

// A sweep that is asked for a precision goes by rounds until it is reached. The points of
// a round share a pod. Stopped in the middle of a round and retried, it measures what that
// round still lacks, and nothing twice.
func TestRounds(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "rounds")
	n.serve("A100", slow)
	n.install("--accelerators=A100", "--batch-sizes="+batches(roundSizes...), "--precision=alpha=8%,beta=40%", "--max-gpu-minutes=12")
	n.submit("run")
	var pod string
	eventually(t, 3*time.Minute, func() error {
		for _, node := range pods(n.workflow("run"), "points") {
			pod = n.podOf("run", node)
			// What the driver says when the streams of the third begin.
			if log, err := n.tryKubectl("logs", pod, "-c", "main"); err == nil && strings.Count(log, "a request alone takes") == 3 {
				return nil
			}
		}
		return errors.New("the third point has not begun")
	})
	w := n.stopAndRetry("run", pod, "A100")
	rounds, why, reasons := ended(w)
	all := n.measurements("run", "A100")
	t.Logf("%d rounds, %d points, ended by %s: %s", rounds, len(all), why, reasons)
	if shared := pods(w, "points"); len(all) < 8 || len(shared) >= len(all) {
		t.Errorf("%d pods left %d measurements", len(shared), len(all))
	}
	if rounds < 2 || !slices.Contains([]string{precision.Reached, precision.Drift, precision.Budget}, why) || !strings.Contains(reasons, "alpha ±") {
		t.Errorf("%d rounds, ended by %q: %q", rounds, why, reasons)
	}
	honest(t, decode(n, layout.Run("run")+"/"+layout.ParametersOf("A100", shape), parameters.Decode), slow)
}

// With guidellm, too, whose points are nodes of their own and cost more than the budget
// allows for a second round: then the verdict says what was reached.
func TestRoundsOfGuidellm(t *testing.T) {
	flags := guidellmFlags(t)
	n := newNamespace(t, "rounds-guidellm")
	n.serve("H100", slow)
	n.install(append(flags, "--accelerators=H100", "--batch-sizes="+batches(roundSizes...), "--precision=alpha=0.01%", "--max-gpu-minutes=2", "--max-seconds=10")...)
	n.submit("run")
	var pod string
	eventually(t, 4*time.Minute, func() error {
		points := pods(n.workflow("run"), "point")
		if i := slices.IndexFunc(points, func(node wfv1.NodeStatus) bool { return node.Phase == wfv1.NodeRunning }); i >= 0 && len(points) == 3 {
			pod = n.podOf("run", points[i])
			return nil
		}
		return errors.New("the third point has not begun")
	})
	w := n.stopAndRetry("run", pod, "H100")
	rounds, why, reasons := ended(w)
	points := pods(w, "point")
	t.Logf("%d rounds, %d points, ended by %s: %s", rounds, len(points), why, reasons)
	if all := n.measurements("run", "H100"); rounds < 1 || why != precision.Budget || len(all) != len(points) {
		t.Errorf("%d rounds, %d points, %d measurements, ended by %q: %q", rounds, len(points), len(all), why, reasons)
	}
	p := decode(n, layout.Run("run")+"/"+layout.ParametersOf("H100", shape), parameters.Decode)
	if !slices.ContainsFunc(p.Verdict.Findings, func(r reason.Reason) bool { return r.Code == reason.Imprecise }) {
		t.Errorf("the verdict does not say that the precision was not reached: %+v", p.Verdict)
	}
}

// How long a server waits between the points of a shape, with a pod of its own for each
// and with one for all: the figures of docs/precision.md.
func TestIdle(t *testing.T) {
	if os.Getenv("E2E_IDLE") == "" {
		t.Skip("measures what no test needs; set E2E_IDLE=1")
	}
	n := newNamespace(t, "idle")
	n.serve("A100", slow)
	for _, shared := range []string{"true", "false"} {
		n.install("--accelerators=A100", "--batch-sizes="+batches(roundSizes...), "--share-pod="+shared)
		n.run("shared-" + shared)
		t.Logf("--share-pod=%s: %v s", shared, idle(n.measurements("shared-"+shared, "A100")))
	}
}
