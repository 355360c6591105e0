package measurement_test

import (
	"testing"
	"time"

	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/measurement"
)

// A request that arrives during an iteration waits for its end, at which others end, too:
// that is no queue. One that waits for a place is in one.
func TestSlotWaitIsNoIteration(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit int // requests that the server runs at once
		queue bool
	}{
		{"room for all", 128, false},
		{"room for two thirds", 64, true},
	} {
		rows, err := simulate.Closed(simulate.Config{
			Latency: simulate.Engine, Base: 6.72, Seq: 0.0215, Ctx: 5.37e-5, Pre: 0.0166, Pre2: 1.33e-6, MaxNumSeqs: c.limit, Seed: 1,
		}, simulate.Loop{Streams: 96, PromptTokens: 256, OutputTokens: 64, Spread: 0.2, Ramp: time.Second, Duration: 20 * time.Second, Pause: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		w, _, err := measurement.Reduce(rows, 96)
		if err != nil {
			t.Fatal(err)
		}
		if found := w.QueueMS != nil; found != c.queue {
			t.Errorf("%s: queue found: %v, expected %v", c.name, found, c.queue)
		}
	}
}
