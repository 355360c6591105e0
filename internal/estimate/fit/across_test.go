package fit

import (
	"math/rand/v2"
	"testing"
)

// Another run lies in the interval that earlier ones give about as often as it says;
// three runs that differ by twice what is supposed otherwise cannot quite know it.
func TestAcrossRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates many sweeps")
	}
	const sweeps, truth = 2000, 7.0
	for _, c := range []struct {
		runs         int
		between, own float64 // relative
	}{{3, 0.01, 0.003}, {6, 0.01, 0.003}, {6, 0, 0.003}, {12, 0.02, 0.003}} {
		rng := rand.New(rand.NewPCG(uint64(c.runs), 8))
		inside := 0
		for range sweeps {
			run := func() Parameter {
				at := truth * (1 + c.between*rng.NormFloat64())
				return interval(at*(1+c.own*rng.NormFloat64()), c.own*truth, 10)
			}
			var runs []Parameter
			for range c.runs {
				runs = append(runs, run())
			}
			another, _, err := AcrossRuns(runs)
			if err != nil {
				t.Fatal(err)
			}
			if at := truth * (1 + c.between*rng.NormFloat64()); another.Low <= at && at <= another.High {
				inside++
			}
		}
		t.Logf("%d runs: %.1f %%", c.runs, 100*float64(inside)/sweeps)
		if percent := 100 * float64(inside) / sweeps; percent < 90 || percent > 99.5 {
			t.Errorf("%d runs that differ by %v: another lies inside in %.1f %%", c.runs, c.between, percent)
		}
	}
	if _, _, err := AcrossRuns(nil); err == nil {
		t.Error("no runs tell something")
	}
}
