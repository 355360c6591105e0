package design

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
)

var (
	shape    = sweep.Shape{PromptTokens: 512, OutputTokens: 128}
	expected = [4]float64{7, 0.05, 20, 0.0005}
)

func TestChoose(t *testing.T) {
	before := math.Inf(1)
	for _, precision := range []float64{0.02, 0.03, 0.05, 0.1} {
		p, err := Choose(Linear4Candidates(shape, Batches(128), expected, DefaultNoise), linear4.Names(), precision, 30, 5)
		if err != nil {
			t.Fatal(err)
		}
		if worst(p) > precision || len(p.Points) < 5 || p.Cost > before || p.Cost != float64(p.Times*(len(p.Points)+1))*(p.Seconds+30) {
			t.Errorf("%v: %+v", precision, p)
		}
		if first, last := p.Points[0].Batch, p.Points[len(p.Points)-1].Batch; first > 4 || last != 128 {
			t.Errorf("%v: batches from %d to %d; both ends say most", precision, first, last)
		}
		before = p.Cost
	}
	_, err := Choose(Linear4Candidates(shape, Batches(4), expected, DefaultNoise), linear4.Names(), 0.01, 30, 4)
	if err == nil || !strings.Contains(err.Error(), "1 % is out of reach") || !strings.Contains(err.Error(), "delta") {
		t.Error(err)
	}
	if _, err := Choose(Linear4Candidates(shape, Batches(2), expected, DefaultNoise), linear4.Names(), 0.1, 30, 5); err == nil || !strings.Contains(err.Error(), "allow more") {
		t.Error(err)
	}
}

func TestChooseShapes(t *testing.T) {
	shapes := []sweep.Shape{{PromptTokens: 64, OutputTokens: 64}, {PromptTokens: 65, OutputTokens: 64}, {PromptTokens: 2048, OutputTokens: 64}, {PromptTokens: 256, OutputTokens: 1024}}
	cs, err := Iteration3Candidates(shapes, Batches(64), [3]float64{6.5, 0.02, 5.5e-5}, DefaultNoise)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Choose(cs, fit.TermNames(fit.Iteration3), 0.05, 30, 6)
	if err != nil {
		t.Fatal(err)
	}
	different := map[sweep.Shape]bool{}
	for _, c := range p.Points {
		different[c.Shape] = true
	}
	if !different[shapes[2]] || !different[shapes[3]] {
		t.Errorf("%+v", p.Points)
	}
}

// A plan keeps its promise: of the sweeps that are made by it nine in ten have intervals
// that are no wider, and those hold the truth.
func TestThePlanKeepsItsPromise(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates many sweeps")
	}
	const sweeps = 400
	for _, precision := range []float64{0.02, 0.03, 0.05, 0.10} {
		p, err := Choose(Linear4Candidates(shape, Batches(128), expected, DefaultNoise), linear4.Names(), precision, 30, 5)
		if err != nil {
			t.Fatal(err)
		}
		var batches []int
		for _, c := range p.Points {
			batches = append(batches, c.Batch)
		}
		order := sweep.Order(batches)
		order = slices.Repeat(append(order, order[0]), p.Times)
		rng := rand.New(rand.NewPCG(5, 6))
		narrow, inside := 0, [4]int{}
		for range sweeps {
			var points []fit.Point
			for at, batch := range order {
				n := float64(batch)
				run := 1 + repeat*rng.NormFloat64()
				sample := func(ms, noise float64) fit.Sample {
					own, chi := noise/math.Sqrt(p.Seconds), 0.0
					const blocks = 12
					for range blocks - 1 {
						z := rng.NormFloat64()
						chi += z * z / (blocks - 1)
					}
					return fit.Sample{MS: ms * run * (1 + own*rng.NormFloat64()), StandardError: ms * own * math.Sqrt(chi), Blocks: blocks}
				}
				points = append(points, fit.Point{Batch: n, PromptTokens: 512, At: 1e9 + float64(at)*(p.Seconds+30),
					ITL: sample(expected[0]+expected[1]*n, DefaultNoise.ITL), TTFT: sample(expected[2]+expected[3]*512*n, DefaultNoise.TTFT)})
			}
			f := fit.FitLinear4(points, fit.Options{Method: fit.WLS})
			kept := true
			for i, e := range []fit.Parameter{f.Alpha, f.Beta, f.Gamma, f.Delta} {
				kept = kept && (e.High-e.Low)/2 <= precision*e.Value
				if e.Low <= expected[i] && expected[i] <= e.High {
					inside[i]++
				}
			}
			if kept {
				narrow++
			}
		}
		t.Logf("%.0f %%: %d points of %.0f s, %d times, promised %.3f, kept by %.1f %% of the sweeps, which hold the truth %v times of %d",
			100*precision, len(p.Points), p.Seconds, p.Times, p.Precision, 100*float64(narrow)/sweeps, inside, sweeps)
		if narrow < 9*sweeps/10 {
			t.Errorf("±%.0f %% is kept by %d of %d sweeps", 100*precision, narrow, sweeps)
		}
		for i, n := range inside {
			if n < 92*sweeps/100 {
				t.Errorf("±%.0f %%: the interval of %s holds the truth in %d of %d sweeps", 100*precision, linear4.Names()[i], n, sweeps)
			}
		}
	}
}

func TestMorePrecisionNeverCostsLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := expected
		for i := range e {
			e[i] *= rapid.Float64Range(0.3, 3).Draw(t, "expected")
		}
		cs := Linear4Candidates(shape, Batches(rapid.IntRange(32, 256).Draw(t, "most")), e, DefaultNoise)
		fine := rapid.Float64Range(0.02, 0.1).Draw(t, "precision")
		a, errA := Choose(cs, linear4.Names(), fine, 30, 5)
		b, errB := Choose(cs, linear4.Names(), 2*fine, 30, 5)
		if errA == nil && (errB != nil || b.Cost > 1.1*a.Cost) {
			t.Fatalf("%v costs %v, %v costs %v (%v)", fine, a.Cost, 2*fine, b.Cost, errB)
		}
	})
}
