//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/estimate/parameters"
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

// A sweep that is asked for a precision goes by rounds until it is reached. Stopped in
// the middle of a round and retried, it measures what that round still lacks, and
// nothing twice.
func TestRounds(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "rounds")
	n.serve("A100", slow)
	n.install("--accelerators=A100", "--batch-sizes="+batches(roundSizes...), "--precision=alpha=8%,beta=40%", "--max-gpu-minutes=12")
	n.submit("run")
	pod := n.inTheMiddle("run", "A100", 8) // the fourth of the first round: 1, 4, 16, 8, 2, 1
	n.argo("stop", "run")
	stopped := n.finished("run", 2*time.Minute)
	done := map[string]wfv1.NodeStatus{}
	for _, node := range pods(stopped, "point") {
		if node.Phase == wfv1.NodeSucceeded {
			done[node.ID] = node
		}
	}
	if len(done) != 3 {
		t.Errorf("%d points were measured before the stop", len(done))
	}
	n.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s", "pod/"+pod)
	n.argo("retry", "run")
	eventually(t, 30*time.Second, func() error {
		if w := n.workflow("run"); w.Status.Fulfilled() && w.Status.FinishedAt.Equal(&stopped.Status.FinishedAt) {
			return fmt.Errorf("the workflow is still %s", w.Status.Phase)
		}
		return nil
	})
	n.finished("run", 8*time.Minute)
	w := n.succeeded("run")
	points := pods(w, "point")
	for id, was := range done {
		if i := slices.IndexFunc(points, func(node wfv1.NodeStatus) bool { return node.ID == id }); i < 0 || !points[i].StartedAt.Equal(&was.StartedAt) {
			t.Errorf("%s was measured, and is measured again after the retry", was.DisplayName)
		}
	}
	rounds, why, reasons := ended(w)
	keys := n.keys(layout.Accelerator("run", "A100") + "/" + layout.Measurements)
	t.Logf("%d rounds, %d points, ended by %s: %s", rounds, len(points), why, reasons)
	if len(keys) != len(points) || len(points) < 8 {
		t.Errorf("%d points left %d measurements: %q", len(points), len(keys), keys)
	}
	if rounds < 2 || !slices.Contains([]string{precision.Reached, precision.Drift, precision.Budget}, why) || !strings.Contains(reasons, "alpha ±") {
		t.Errorf("%d rounds, ended by %q: %q", rounds, why, reasons)
	}
	honest(t, decode(n, layout.Run("run")+"/"+layout.ParametersOf("A100", shape), parameters.Decode), slow)
}

// With guidellm, too, whose points cost more than the budget allows for a second round:
// then the verdict says what was reached.
func TestRoundsOfGuidellm(t *testing.T) {
	flags := guidellmFlags(t)
	n := newNamespace(t, "rounds-guidellm")
	n.serve("H100", slow)
	n.install(append(flags, "--accelerators=H100", "--batch-sizes="+batches(roundSizes...), "--precision=alpha=0.01%", "--max-gpu-minutes=2", "--max-seconds=10")...)
	w := n.run("run")
	rounds, why, reasons := ended(w)
	t.Logf("%d rounds, %d points, ended by %s: %s", rounds, len(pods(w, "point")), why, reasons)
	if rounds < 1 || why != precision.Budget {
		t.Errorf("%d rounds, ended by %q: %q", rounds, why, reasons)
	}
	p := decode(n, layout.Run("run")+"/"+layout.ParametersOf("H100", shape), parameters.Decode)
	if !slices.ContainsFunc(p.Verdict.Findings, func(r reason.Reason) bool { return r.Code == reason.Imprecise }) {
		t.Errorf("the verdict does not say that the precision was not reached: %+v", p.Verdict)
	}
}
