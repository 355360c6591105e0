//go:build e2e

package e2e

import (
	"path"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
)

// TestBatchSizesChangedAtSubmit changes all that a sweep lets change, down to the two-run
// recipe, whose verdict is a warning and leaves latest alone.
func TestBatchSizesChangedAtSubmit(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "submit")
	n.serve("L40S", slow)
	n.install("--accelerators=L40S", "--batch-sizes=1,2,4,8,16,32")
	const run = "changed"
	w := n.run(run, "-p", "batch-sizes=[1,12]", "-p", "max-seconds=8", "-p", "prompt-tokens=96", "-p", "output-tokens=24", "-p", "method=two-point")

	other := sweep.Shape{PromptTokens: 96, OutputTokens: 24}
	var sizes []int
	for _, key := range n.keys(layout.Accelerator(run, "L40S") + "/" + layout.Measurements) {
		m := decode(n, key, measurement.Decode)
		sizes = append(sizes, m.BatchSize)
		if m.Shape != other || m.Seconds < 6 {
			t.Errorf("%s: %s for %.1f s", key, m.Shape, m.Seconds)
		}
	}
	slices.Sort(sizes)
	if diff := cmp.Diff([]int{1, 12}, sizes); diff != "" || len(pods(w, "point")) != 2 {
		t.Errorf("%d pods: %s", len(pods(w, "point")), diff)
	}
	p := decode(n, layout.Run(run)+"/"+layout.ParametersOf("L40S", other), parameters.Decode)
	agrees(t, p, slow)
	if p.Fit.Method != fit.TwoPoint || p.Verdict.Level != fit.Warned {
		t.Errorf("%s, %s", p.Fit.Method, p.Verdict.Level)
	}
	// The names of the two-run recipe.
	for _, name := range []string{"synchronous.json", "synchronous-log.txt", "throughput.json", "throughput-log.txt"} {
		if key := path.Join(layout.ReportsOf(run, "L40S", other), name); !n.exists(key) {
			t.Errorf("no %s", key)
		}
	}
	if n.exists(layout.LatestOf(n.model(), "L40S", other)) {
		t.Error("latest was moved by a warned verdict")
	}
}
