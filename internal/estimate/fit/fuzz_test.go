package fit

import (
	"math"
	"testing"
)

// FuzzAcross: whatever several runs found, another one is expected to be a number, or it
// is not told.
func FuzzAcross(f *testing.F) {
	f.Add(7.0, 0.02, 7.1, 0.02, 6.9, 0.03)
	f.Add(1e308, 1e-308, -1e308, 0.0, 0.0, math.Inf(1))
	f.Fuzz(func(t *testing.T, a, ea, b, eb, c, ec float64) {
		var runs []Parameter
		for _, r := range [][2]float64{{a, ea}, {b, eb}, {c, ec}} {
			if math.IsNaN(r[0]) || math.IsInf(r[0], 0) || !(r[1] >= 0) || math.IsInf(r[1], 0) { // no file holds such
				continue
			}
			runs = append(runs, Parameter{Value: r[0], StandardError: r[1]})
		}
		another, between, err := AcrossRuns(runs)
		if err != nil {
			return
		}
		if another.HasInterval() && (math.IsInf(another.Low, 0) || math.IsInf(another.High, 0) || !(between >= 0) || math.IsInf(between, 0)) { // no file holds such
			t.Errorf("%+v, %v of %+v", another, between, runs)
		}
	})
}
