package coverage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/sweep"
)

// Shapes of a sweep for the model of all shapes, and the batches of each.
var (
	leftOutShapes = []sweep.Shape{
		{PromptTokens: 64, OutputTokens: 128}, {PromptTokens: 128, OutputTokens: 512}, {PromptTokens: 256, OutputTokens: 64}, {PromptTokens: 512, OutputTokens: 256},
		{PromptTokens: 1024, OutputTokens: 64}, {PromptTokens: 1024, OutputTokens: 256}, {PromptTokens: 2048, OutputTokens: 128}, {PromptTokens: 4096, OutputTokens: 256},
	}
	leftOutBatches = []int{1, 4, 12, 32}
)

// joint simulates a sweep of the engine over all shapes; runs of a point differ by so
// much.
func joint(seed uint64, between float64) ([]fit.Point, error) {
	random := rand.New(rand.NewPCG(seed, 5))
	var all []fit.Point
	for _, shape := range leftOutShapes {
		s := server{name: shape.String(), config: engine, loop: simulate.Loop{PromptTokens: shape.PromptTokens, OutputTokens: shape.OutputTokens, Spread: sweep.OutputSpread, Ramp: time.Second}}
		for _, streams := range leftOutBatches {
			s.config.Seed = random.Int64()
			// As long as eight answers take at the slowest of these.
			duration := 6*time.Second + time.Duration(shape.OutputTokens)*125*time.Millisecond
			points, err := s.point(streams, s.config, duration, reduced)
			if err != nil {
				return nil, err
			}
			p := points[0]
			p.Pair, p.OutputTokens, p.Label = "engine", float64(shape.OutputTokens), fmt.Sprintf("%s batch %d", shape, streams)
			run := 1 + between*random.NormFloat64()
			for _, l := range []*fit.Sample{&p.ITL, &p.TTFT} {
				l.MS, l.StandardError = l.MS*run, l.StandardError*run
			}
			all = append(all, p)
		}
	}
	return all, nil
}

// A shape that was not measured lies where the engine predicts it, as often as its
// interval says at least: each sweep leaves out another shape.
func TestLeftOutShapes(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates many sweeps")
	}
	n, _ := sweeps(t, 8)
	for _, between := range []float64{0.005, 0.01} {
		var inside [3]float64 // ITL where TTFT is known, ITL, TTFT
		wide, points := 0.0, 0.0
		for k := range n {
			all, err := joint(uint64(k), between)
			if err != nil {
				t.Fatal(err)
			}
			left := leftOutShapes[k%len(leftOutShapes)].String()
			e := fit.FitEngine(slices.DeleteFunc(slices.Clone(all), func(p fit.Point) bool { return p.Group == left }))
			for _, p := range all {
				if p.Group != left {
					continue
				}
				points++
				if e.Verdict.Level == fit.Refused {
					t.Errorf("sweep %d: %q", k, e.Verdict.Reasons)
					continue
				}
				w := fit.Work{Batch: p.Batch, PromptTokens: p.PromptTokens, OutputTokens: p.OutputTokens}
				known, _ := e.Interval(w, p.TTFT.MS)
				itl, ttft := e.Interval(w, 0)
				wide += (known[1] - known[0]) / 2 / p.ITL.MS
				for i, of := range []struct {
					interval [2]float64
					ms       float64
				}{{known, p.ITL.MS}, {itl, p.ITL.MS}, {ttft, p.TTFT.MS}} {
					if of.interval[0] <= of.ms && of.ms <= of.interval[1] {
						inside[i]++
					}
				}
			}
		}
		if inside[0] < 0.9*points || inside[1] < 0.9*points || inside[2] < 0.9*points || wide > 0.1*points {
			t.Errorf("want 90 %% of each inside, and ITL within ±10 %%")
		}
		t.Logf("runs differ by %.1f %%: of %.0f points of shapes left out lie inside: ITL %.1f %% (±%.2g %%), without knowing TTFT %.1f %%, TTFT %.1f %%",
			100*between, points, 100*inside[0]/points, 100*wide/points, 100*inside[1]/points, 100*inside[2]/points)
	}
}
