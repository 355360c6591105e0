package coverage

import (
	"testing"
	"time"

	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/measurement"
)

// TestStreamsInStep measures what no interval can know: streams that begin in one
// burst and send outputs of one length stay in step, so that their prompts meet in
// the same iterations for the whole point, and TTFT tells how they happened to
// begin. Lengths that vary, and begins that are spread over a request as the native
// driver spreads them, get them out of it.
func TestStreamsInStep(t *testing.T) {
	n, asked := sweeps(t, 0)
	if !asked {
		t.Skipf("set %s to a number of sweeps", sweepsVariable)
	}
	request := 600 * time.Millisecond
	for _, c := range []struct {
		name   string
		spread float64
		ramp   time.Duration
		even   bool // the intervals of all parameters must hold the truth
	}{
		{"lengths +-50 %, burst", 0.5, 0, true},
		{"lengths +-20 %, burst", 0.2, 0, false},
		{"lengths +-20 %, begins spread", 0.2, request, true},
		{"lengths fixed, burst", 0, 0, false},
		{"lengths fixed, begins spread", 0, request, false},
	} {
		s := servers[1]
		s.loop.Spread, s.loop.Ramp = c.spread, c.ramp
		r := s.cover(t, n, reduced)[0]
		r.log(t, c.name)
		for j, percent := range r.covered {
			if c.even && percent < 92 {
				t.Errorf("%s: the interval of %s holds the truth in %.1f %% of the sweeps", c.name, names[j], percent)
			}
		}
	}
}

// Such streams are recognised by their begins, and others are not taken for them.
func TestStreamsInStepAreSeen(t *testing.T) {
	for _, c := range []struct {
		name   string
		spread float64
		ramp   time.Duration
		step   bool
	}{
		{"lengths +-20 %, burst", 0.2, 0, false},
		{"lengths +-20 %, begins spread", 0.2, 600 * time.Millisecond, false},
		{"lengths fixed, burst", 0, 0, true},
	} {
		for _, s := range servers {
			for _, streams := range []int{8, 16, 32} {
				loop, config := s.loop, s.config
				loop.Spread, loop.Ramp, loop.Streams, config.Seed = c.spread, c.ramp, streams, int64(streams)
				rows, err := simulate.Closed(config, loop)
				if err != nil {
					t.Fatal(err)
				}
				w, _, err := measurement.Reduce(rows, streams)
				if err != nil || w.Crowding == nil {
					t.Fatal(w.Crowding, err)
				}
				if (*w.Crowding > measurement.InStep) != c.step {
					t.Errorf("%s, %s, %d streams: crowding %.2f", s.name, c.name, streams, *w.Crowding)
				}
			}
		}
	}
}
