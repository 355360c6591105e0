package design

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"wfgen.dev/internal/sweep/precision"
)

// FuzzNext: whatever was measured, the next round is of batch sizes that were offered and
// of seconds that may be spent, or it says why there is none.
func FuzzNext(f *testing.F) {
	seed := func(goals string, left float64, values ...float32) {
		var b []byte
		for _, v := range values {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		f.Add(b, goals, left)
	}
	for _, goals := range []string{"5%", "alpha=1%,beta=2%", "capacity=5%"} {
		seed(goals, 1e6, 1, 7, 15, 12, 8, 7.2, 16.4, 12, 64, 8.7, 26, 12, 32, 7.8, 20.6, 12, 4, 7.1, 15.5, 12, 1, 7, 15, 12)
		seed(goals, -1, 1, 1e30, 1e-30, 0, 64, 0, 0, 1e30)
		seed(goals, 60, 1, 7, 15, 12, 1, 7, 15, 12)
	}
	f.Fuzz(func(t *testing.T, data []byte, goals string, left float64) {
		w := wish(t, "5%")
		if g, err := precision.Parse(goals); err == nil {
			w.Goals = g
		}
		w.Left = left
		var points []Measured
		for i := 0; len(data) >= 16 && i < 40; i++ {
			number := func(at int) float64 {
				return float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*at:])))
			}
			p := round(0, int(max(1, min(number(0), 64))))[0]
			itl, ttft, window := number(1), number(2), number(3)
			data = data[16:]
			if !(itl > 0 && ttft > 0 && window >= 0) || math.IsInf(itl+ttft+window, 0) { // no measurement holds such
				continue
			}
			p.At += 15 * float64(i)
			p.ITL.MS, p.ITL.StandardError, p.TTFT.MS, p.TTFT.StandardError = itl, itl/200, ttft, ttft/100
			p.Window, p.Seconds = window, window+3
			points = append(points, p)
		}
		d := Next(points, w)
		if (d.Why == "") == (len(d.Runs) == 0) {
			t.Fatalf("why %q, %d runs", d.Why, len(d.Runs))
		}
		for _, r := range d.Runs {
			if !slices.Contains(w.BatchSizes, r.BatchSize) || !(r.Seconds >= 1 && r.Seconds <= w.MaxSeconds) {
				t.Errorf("%+v", r)
			}
		}
		_ = d.Describe()
		if len(points) > 0 {
			Alternatives(points, w, 120)
		}
	})
}
