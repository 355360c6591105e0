package fit

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestMeasuredCurve(t *testing.T) {
	var points []Point
	for i, b := range []float64{1, 16, 4, 64, 1.005} { // as measured; the first again at the end
		points = append(points, Point{Group: "g", Batch: b, PromptTokens: 128,
			ITL: Sample{MS: []float64{7, 8, 7.4, 7.9, 7.02}[i]}, TTFT: Sample{MS: 15 + b}})
	}
	points[3].VoidTTFT = why("queued")
	c := MeasuredCurve(points, BetweenRuns)
	if len(c.ITL) != 4 || len(c.TTFT) != 3 {
		t.Fatalf("%+v", c)
	}
	// Two runs of batch 1 make one step, more certain than one run makes it; batch 64
	// below batch 16 is noise.
	one, four := c.ITL[0], c.ITL[1]
	if math.Abs(one.MS-7.01) > 1e-3 || math.Abs(one.High/one.MS-1-0.0098/math.Sqrt2) > 1e-4 || math.Abs(four.High/four.MS-1-0.0098) > 1e-4 {
		t.Errorf("%+v", c.ITL)
	}
	if c.ITL[2].MS != c.ITL[3].MS || c.ITL[2].MS < 7.9 || c.ITL[2].MS > 8 {
		t.Errorf("%+v", c.ITL)
	}
}

func TestIsotonic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(1, 100), 1, 12).Draw(t, "values")
		weights := rapid.SliceOfN(rapid.Float64Range(0.1, 10), len(values), len(values)).Draw(t, "weights")
		got := isotonic(values, weights)
		if len(got) != len(values) || !slices.IsSorted(got) {
			t.Fatalf("%v became %v", values, got)
		}
		before, after := 0.0, 0.0
		for i := range values {
			before += weights[i] * values[i]
			after += weights[i] * got[i]
		}
		if math.Abs(before/after-1) > 1e-9 {
			t.Fatalf("the weighted sum of %v changed", values)
		}
		if slices.IsSorted(values) && !slices.Equal(values, got) {
			t.Fatalf("%v rises already and became %v", values, got)
		}
	})
}
