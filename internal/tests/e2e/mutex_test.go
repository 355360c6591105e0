//go:build e2e

package e2e

import (
	"slices"
	"sync"
	"testing"
	"time"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/layout"
)

// TestTwoWorkflowsNeverLoadOneServerTogether submits two at once and looks at when the
// requests were in flight, by the clock of the pods that made them.
func TestTwoWorkflowsNeverLoadOneServerTogether(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "mutex")
	n.serve("A10", fast)
	n.install("--accelerators=A10", "--batch-sizes=2,6,12")
	names := []string{"one", "other"}
	var both sync.WaitGroup
	for _, name := range names {
		both.Go(func() { n.submit(name) })
	}
	both.Wait()
	var loads []measurement.Measurement
	firstOf := map[string]float64{}
	for _, name := range names {
		n.finished(name, 5*time.Minute)
		n.succeeded(name)
		for _, key := range n.keys(layout.Accelerator(name, "A10") + "/" + layout.Measurements) {
			m := decode(n, key, measurement.Decode)
			loads = append(loads, m)
			if first, ok := firstOf[name]; !ok || m.StartedAt < first {
				firstOf[name] = m.StartedAt
			}
		}
	}
	if want := 2 * len(pointsOf("A10", []int{2, 6, 12})); len(loads) != want {
		t.Fatalf("%d points, expected %d", len(loads), want)
	}
	slices.SortFunc(loads, func(a, b measurement.Measurement) int { return int(1e6 * (a.StartedAt - b.StartedAt)) })
	for i := 1; i < len(loads); i++ {
		ended := loads[i-1].StartedAt + loads[i-1].Seconds
		t.Logf("batch %d: %.1f s, then a pause of %.1f s", loads[i-1].BatchSize, loads[i-1].Seconds, loads[i].StartedAt-ended)
		if loads[i].StartedAt < ended {
			t.Errorf("two points overlapped by %.2f s", ended-loads[i].StartedAt)
		}
	}
	// They took turns, rather than one after the other: both were there at once.
	end := loads[len(loads)-1].StartedAt
	for name, first := range firstOf {
		if first >= end {
			t.Errorf("%s began only when the other was done", name)
		}
	}
	// The server's own count: nobody but the point was ever there.
	for _, m := range loads {
		if m.Server == nil || m.Server.Requests != m.Client.Requests {
			t.Errorf("batch %d: the server saw other requests than the client's: %s, %s", m.BatchSize, asJSON(m.Server), asJSON(m.Client))
		}
	}
}
