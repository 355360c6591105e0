package coverage

import (
	"math"
	"math/rand/v2"
	"testing"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
)

// tally is a block of time: the sum of what was observed in it, and the count.
type tally struct{ sum, count float64 }

// tallies cuts the steady window of a point into n blocks and returns what the
// requests inside observed in each.
func tallies(rows []record.Request, w measurement.Witness, n int) (itl, ttft []tally) {
	itl, ttft = make([]tally, n), make([]tally, n)
	end := w.WindowStart + w.WindowSeconds
	block := func(of []tally, t float64) *tally {
		return &of[min(n-1, int(float64(n)*(t-w.WindowStart)/w.WindowSeconds))]
	}
	for _, r := range rows {
		if r.Status != record.Successful || r.Start <= w.WindowStart || r.End > end {
			continue
		}
		b := block(ttft, r.FirstToken)
		b.sum, b.count = b.sum+1000*(r.FirstToken-r.Start), b.count+1
		b = block(itl, (r.FirstToken+r.LastToken)/2)
		b.sum, b.count = b.sum+1000*(r.LastToken-r.FirstToken), b.count+float64(r.OutputTokens-1)
	}
	return itl, ttft
}

// batchMeans is the plain method: the scatter of so many independent blocks.
func batchMeans(blocks []tally) (standardError float64) {
	var all tally
	for _, b := range blocks {
		all.sum, all.count = all.sum+b.sum, all.count+b.count
	}
	squares, n := 0.0, float64(len(blocks))
	for _, b := range blocks {
		d := b.sum - all.sum/all.count*b.count
		squares += d * d
	}
	return math.Sqrt(squares*n/(n-1)) / all.count
}

// bootstrap is the moving-block bootstrap: the scatter of means over windows put
// together again from stretches of so many neighbouring blocks, drawn anywhere.
func bootstrap(blocks []tally, stretch int) (standardError float64) {
	const resamples = 200
	random := rand.New(rand.NewPCG(uint64(len(blocks)), math.Float64bits(blocks[0].sum)))
	upTo := make([]tally, len(blocks)+1)
	for i, b := range blocks {
		upTo[i+1] = tally{upTo[i].sum + b.sum, upTo[i].count + b.count}
	}
	sum, squares := 0.0, 0.0
	for range resamples {
		var all tally
		for range len(blocks) / stretch {
			at := random.IntN(len(blocks) - stretch + 1)
			all.sum += upTo[at+stretch].sum - upTo[at].sum
			all.count += upTo[at+stretch].count - upTo[at].count
		}
		sum += all.sum / all.count
		squares += all.sum / all.count * all.sum / all.count
	}
	return math.Sqrt(max(0, squares-sum*sum/resamples) / (resamples - 1))
}

// plainly reduces with batch means of n blocks.
func plainly(n int) reducer {
	return func(rows []record.Request, streams int) (measurement.Witness, error) {
		w, err := reduced(rows, streams)
		if err == nil {
			itl, ttft := tallies(rows, w, n)
			w.ITL.StandardErrorMS, w.TTFT.StandardErrorMS = batchMeans(itl), batchMeans(ttft)
			w.ITL.Blocks, w.TTFT.Blocks = n, n
		}
		return w, err
	}
}

// bootstrapped reduces with a bootstrap over stretches of a window's 1/n, in
// steps of a tenth of that.
func bootstrapped(n int) reducer {
	const steps = 10
	return func(rows []record.Request, streams int) (measurement.Witness, error) {
		w, err := reduced(rows, streams)
		if err == nil {
			itl, ttft := tallies(rows, w, steps*n)
			w.ITL.StandardErrorMS, w.TTFT.StandardErrorMS = bootstrap(itl, steps), bootstrap(ttft, steps)
			w.ITL.Blocks, w.TTFT.Blocks = n, n
		}
		return w, err
	}
}

// TestChoiceOfError compares the ways to make the error of a point by what comes
// of them: how far the coverage of the worst interval of both servers is from 95 %.
func TestChoiceOfError(t *testing.T) {
	n, asked := sweeps(t, 0)
	if !asked {
		t.Skipf("compares methods over some minutes; set %s to a number of sweeps", sweepsVariable)
	}
	ways := []struct {
		name   string
		reduce reducer
	}{
		{"as chosen", reduced},
		{"batch means, 12 blocks", plainly(12)},
		{"batch means, 5 blocks", plainly(5)},
		{"bootstrap, 12 blocks", bootstrapped(12)},
		{"bootstrap, 5 blocks", bootstrapped(5)},
	}
	for _, memory := range []float64{16, 64, 192} {
		reducers, worst := make([]reducer, len(ways)), make([]float64, len(ways))
		for i, way := range ways {
			reducers[i] = way.reduce
		}
		for _, s := range servers {
			s.config.WanderMemory = memory
			for i, r := range s.cover(t, n, reducers...) {
				t.Logf("memory %3.0f iterations, %-8s %-24s covered %.1f %%, claimed/true error %.2f",
					memory, s.name, ways[i].name, r.covered, r.ratio)
				for _, percent := range r.covered {
					worst[i] = max(worst[i], math.Abs(percent-95))
				}
			}
		}
		for i := range ways[1:] {
			// At short memory all are good; where it matters the choice must be the best.
			if memory >= 64 && worst[i+1] < worst[0] {
				t.Errorf("memory %v iterations: %s is off by %.1f points at worst, as chosen by %.1f", memory, ways[i+1].name, worst[i+1], worst[0])
			}
		}
	}
}
