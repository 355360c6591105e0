package fit

import "math"

// HalfWidth is that of the 95 % interval of a parameter, alpha to delta, relative to its
// value; with effect, that of what a slope does to the latency of the largest batch among
// the points. +Inf where it has none.
func (f Linear4) HalfWidth(name string, effect bool, points []Point) float64 {
	p := map[string]Parameter{"alpha": f.Alpha, "beta": f.Beta, "gamma": f.Gamma, "delta": f.Delta}[name]
	if !p.HasInterval() || !(p.Value > 0) {
		return math.Inf(1)
	}
	half := (p.High - p.Low) / 2
	line, of := f.ITL, ofITL
	if name == "gamma" || name == "delta" {
		line, of = f.TTFT, ofTTFT
	}
	if !effect || line == nil {
		return half / p.Value
	}
	largest := 0.0
	for _, q := range points {
		if x, s := of(q); q.Void == nil && s.MS > 0 {
			largest = max(largest, x)
		}
	}
	return half * largest / line.At(largest)
}
