package coverage

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"wfgen.dev/internal/estimate/design"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/sweep"
)

// atShape is the server of the public sweeps, measured at a shape.
func atShape(s sweep.Shape) wish {
	w := wish{name: s.String(), server: wished("engine", engine), between: 0.005}
	w.server.config.Pre2 = 0 // which few shapes do not tell, and the fit drops
	w.server.loop.PromptTokens, w.server.loop.OutputTokens = s.PromptTokens, s.OutputTokens
	return w
}

// pointsAt are those of one sweep over the shapes, each batch size for so many seconds.
func pointsAt(t *testing.T, shapes []sweep.Shape, seconds float64, random *rand.Rand) (points []fit.Point) {
	t.Helper()
	for _, s := range shapes {
		w := atShape(s)
		law := design.OrdinaryLinear4(s)
		for _, b := range w.server.batches {
			request := (law[2] + law[3]*float64(s.PromptTokens*b) + float64(s.OutputTokens)*(law[0]+law[1]*float64(b))) / 1000
			m, err := w.point(design.Run{BatchSize: b, Seconds: max(seconds, 9*request)}, random, 0)
			if err != nil {
				t.Fatal(err)
			}
			m.Label = fmt.Sprintf("%s batch %d", s, b)
			points = append(points, m.Point)
		}
	}
	return points
}

// From the shapes that are chosen, the joint models predict shapes that were not measured
// as well as was asked for; from one shape less they do not tell their terms.
func TestChosenShapesPredictTheOthers(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates many sweeps")
	}
	n, _ := sweeps(t, 6)
	const share, seconds = 0.05, 12.0
	choice, err := design.Shapes(design.JointWish{BatchSizes: wished("", engine).batches, Seconds: seconds, Share: share, Limits: design.Limits{ModelLen: 8192}})
	if err != nil {
		t.Fatal(err)
	}
	type unseen struct {
		fit.Work
		itl, ttft float64
	}
	var others []unseen
	for _, s := range []sweep.Shape{{PromptTokens: 128, OutputTokens: 128}, {PromptTokens: 512, OutputTokens: 64}, {PromptTokens: 2048, OutputTokens: 256}, {PromptTokens: 4096, OutputTokens: 256}} {
		for _, b := range []int{8, 32, 64} {
			w := atShape(s)
			w.between, w.server.config.Jitter, w.server.config.Wander = 0, 0, 0
			m, err := w.point(design.Run{BatchSize: b, Seconds: 60}, rand.New(rand.NewPCG(1, 1)), 0)
			if err != nil {
				t.Fatal(err)
			}
			others = append(others, unseen{fit.Work{Batch: m.Batch, PromptTokens: m.PromptTokens, OutputTokens: m.OutputTokens}, m.ITL.MS, m.TTFT.MS})
		}
	}
	good, fewer := map[string]float64{}, 0.0
	for seed := range n {
		points := pointsAt(t, choice.Shapes, seconds, rand.New(rand.NewPCG(uint64(seed), 23)))
		for name, estimate := range map[string]func([]fit.Point) fit.Joint{fit.Iteration3: fit.FitIteration3, fit.Engine: fit.FitEngine} {
			j := estimate(points)
			worst := 0.0
			for _, o := range others {
				worst = max(worst, math.Abs(j.PredictITL(o.Work, o.ttft)/o.itl-1))
			}
			if j.Verdict.Level != fit.Refused && worst <= share {
				good[name] += 100 / float64(n)
			}
			if name != fit.Engine { // whose terms are more
				continue
			}
			each := len(points) / len(choice.Shapes)
			for i := range choice.Shapes {
				f := estimate(slices.Delete(slices.Clone(points), i*each, (i+1)*each))
				if f.Verdict.Level != fit.Refused && !slices.ContainsFunc(f.Terms[:4], func(t fit.Term) bool { return t.Dropped != "" || !(t.Low > 0) }) {
					fewer += 100 / float64(n*len(choice.Shapes))
				}
			}
		}
	}
	t.Logf("%s: every other shape is predicted within ±%.0f %% in %.3v %% of the sweeps; one shape less tells all terms of engine from zero in %.0f %%", choice.Describe(), 100*share, good, fewer)
	if fewer > 10+300*math.Sqrt(0.9*0.1/float64(n)) {
		t.Errorf("one shape less tells all terms of engine from zero in %.0f %% of the sweeps", fewer)
	}
	for _, name := range []string{fit.Iteration3, fit.Engine} {
		if good[name] < 90-300*math.Sqrt(0.9*0.1/float64(n)) {
			t.Errorf("%s predicts the others in %.0f %% of the sweeps", name, good[name])
		}
	}
}
