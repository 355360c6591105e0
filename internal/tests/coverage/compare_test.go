package coverage

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"wfgen.dev/internal/estimate/aggregate"
	"wfgen.dev/internal/estimate/compare"
	"wfgen.dev/internal/estimate/fit"
	published "wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
)

// A comparison raises a false alarm in one answer of twenty at most, however many sets
// the answer is about, and though the server heated while it was measured again.
func TestComparisonsRaiseFewFalseAlarms(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates many sweeps")
	}
	n, _ := sweeps(t, 100)
	sound, heated := faults[0], faults[0]
	// The server of the comparison is that of the middle of the sweep.
	heated.edit = func(m *measurement.Measurement, at float64) { scale(m, 1+0.02*(at-0.5)) }
	// It was as before when the sweep began.
	risen := faults[0]
	risen.edit = func(m *measurement.Measurement, at float64) { scale(m, 1+0.02*at) }
	slower := faults[0]
	slower.itl = func(n float64) float64 { return 7 + 0.033*n }
	for _, c := range []struct {
		name   string
		sets   int
		after  planted
		band   float64 // relative
		alarms [2]float64
	}{
		{"one set, nothing changed", 1, sound, 0, [2]float64{0, 5}},
		{"eight sets, nothing changed", 8, sound, 0, [2]float64{0, 5}},
		{"one set, heats by 2 % about the same", 1, heated, 0, [2]float64{0, 5}},
		{"eight sets, heat by 2 % about the same", 8, heated, 0, [2]float64{0, 5}},
		{"one set, heats by 2 % from the same on", 1, risen, 0.05, [2]float64{0, 5}},
		{"eight sets, heat by 2 % from the same on", 8, risen, 0.05, [2]float64{0, 5}},
		{"one set, beta is 10 % larger", 1, slower, 0.05, [2]float64{80, 100}},
	} {
		random := rand.New(rand.NewPCG(uint64(len(c.name)), 15))
		summary := func(p planted) (s published.Summary) {
			for i := range c.sets {
				one := aggregate.Estimate(aggregate.Inputs{Measurements: p.measure(random)}, aggregate.Options{
					Method: fit.WLS, Source: measurement.Auto, TTFT: measurement.Auto, Batch: measurement.Auto}).Parameters[0]
				one.Accelerator = fmt.Sprint("A", i)
				s.Parameters = append(s.Parameters, one)
			}
			return s
		}
		alarms := 0
		for range n {
			results, _, err := compare.Compare(summary(sound), summary(c.after), c.band)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range results {
				if len(r.Drift) > 0 {
					alarms++
					break
				}
			}
		}
		percent, chance := 100*float64(alarms)/float64(n), 300*math.Sqrt(0.05*0.95/float64(n))
		t.Logf("%-42s alarms in %.1f %% of %d answers", c.name, percent, n)
		if percent < c.alarms[0] || percent > c.alarms[1]+chance {
			t.Errorf("%s: alarms in %.1f %% of %d answers, want %v", c.name, percent, n, c.alarms)
		}
	}
}
