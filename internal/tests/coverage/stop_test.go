package coverage

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/measurement"
)

// stopped is a point that ends when its means are told well enough, in virtual time.
func stopped(tb testing.TB, config simulate.Config, loop simulate.Loop, want measurement.Wanted) (w measurement.Witness, seconds float64, ended bool) {
	rows, err := simulate.Closed(config, loop)
	if err != nil {
		tb.Fatal(err)
	}
	slices.SortFunc(rows, func(a, b record.Request) int { return int(math.Copysign(1, a.End-b.End)) })
	stop := measurement.Stop{Wanted: want, Streams: loop.Streams}
	end := loop.Duration.Seconds()
	// As often as the driver looks, or every half second of long points.
	for t := 1.0; t < end && !ended; t += 0.5 {
		n, _ := slices.BinarySearchFunc(rows, t, func(r record.Request, t float64) int { return int(math.Copysign(1, r.End-1-t)) })
		if ended = stop.Enough(rows[:n]); ended {
			end = t
		}
	}
	var seen []record.Request
	for _, r := range rows { // those under way are answered
		if r.Start-1 <= end {
			seen = append(seen, r)
		}
	}
	w, _, err = measurement.Reduce(seen, loop.Streams)
	if err != nil {
		tb.Fatal(err)
	}
	return w, end, ended
}

// A point that ends when its interval is narrow enough still has an interval that holds
// the truth.
func TestStoppingKeepsCoverage(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates many sweeps")
	}
	n, _ := sweeps(t, 60)
	for _, c := range []struct {
		name    string
		config  simulate.Config
		streams int
		want    measurement.Wanted
	}{
		{"engine, 4 streams, ITL 1 %", engine, 4, measurement.Wanted{ITL: 0.01}},
		{"engine, 32 streams, ITL 1 %", engine, 32, measurement.Wanted{ITL: 0.01}},
		{"engine, 4 streams, ITL 2 %", engine, 4, measurement.Wanted{ITL: 0.02}},
		{"engine, 4 streams, 2 %", engine, 4, measurement.Wanted{ITL: 0.02, TTFT: 0.02}},
		{"linear4, 4 streams, ITL 1 %", linear4, 4, measurement.Wanted{ITL: 0.01}},
	} {
		loop := simulate.Loop{Streams: c.streams, PromptTokens: 64, OutputTokens: 64, Spread: 0.2, Ramp: 500 * time.Millisecond, Duration: 200 * time.Second}
		quiet := c.config
		quiet.Jitter, quiet.Wander = 0, 0
		truth, _, _ := stopped(t, quiet, loop, measurement.Wanted{})
		type result struct {
			itl, ttft, ended bool
			seconds          float64
		}
		all := make([]result, n)
		var wg sync.WaitGroup
		for k := range 2 {
			wg.Go(func() {
				for i := k; i < n; i += 2 {
					config := c.config
					config.Seed = int64(1000 + i)
					w, seconds, ended := stopped(t, config, loop, c.want)
					holds := func(e *measurement.Estimate, truth float64) bool {
						half := distuv.StudentsT{Sigma: 1, Nu: float64(e.Blocks - 1)}.Quantile(0.975) * e.StandardErrorMS
						return math.Abs(e.MeanMS-truth) <= half
					}
					all[i] = result{holds(w.ITL, truth.ITL.MeanMS), holds(w.TTFT, truth.TTFT.MeanMS), ended, seconds}
				}
			})
		}
		wg.Wait()
		var itl, ttft, ended, mean float64
		var lengths []float64
		for _, r := range all {
			share := 100 / float64(n)
			if r.itl {
				itl += share
			}
			if r.ttft {
				ttft += share
			}
			if r.ended {
				ended += share
			}
			mean += r.seconds / float64(n)
			lengths = append(lengths, r.seconds)
		}
		slices.Sort(lengths)
		t.Logf("%-30s covered ITL %.1f %%, TTFT %.1f %%; ended early %.0f %%, after %.0f s in the mean (%.0f to %.0f)", c.name, itl, ttft, ended, mean, lengths[n/10], lengths[n-1-n/10])
		chance := 300 * math.Sqrt(0.95*0.05/float64(n))
		if itl < 93-chance || ttft < 93-chance {
			t.Errorf("%s: the intervals hold the truth in %.1f %% (ITL), %.1f %% (TTFT)", c.name, itl, ttft)
		}
	}
}
