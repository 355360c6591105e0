package compare

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
)

// FuzzCompare: whatever two files of parameters hold, they are compared or refused with a
// code, and nothing drifts whose change is no number.
func FuzzCompare(f *testing.F) {
	encoded := func(p parameters.Parameters) []byte {
		p.Fit.Model, p.ITLSynchronous, p.ITLThroughput, p.BatchSize = parameters.Linear4, new(7.0), new(8.7), 64
		p.TTFTSynchronous, p.TTFTThroughput, p.InputTokens = new(15.0), new(26.0), 128
		data, err := p.Encode()
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	grown := truth
	grown[1] *= 1.2
	f.Add(encoded(set(truth, 0.01, -0.9)), encoded(set(grown, 0.01, -0.9)))
	f.Add(encoded(set(truth, 0, 0)), encoded(set(grown, 1e-300, 2)))
	f.Fuzz(func(t *testing.T, before, after []byte) {
		var sides [2]parameters.Summary
		for i, data := range [][]byte{before, after} {
			p, err := parameters.Decode(bytes.NewReader(data), "f")
			if err != nil {
				return
			}
			sides[i] = of(p)
		}
		results, _, err := Compare(sides[0], sides[1], 0.05)
		if code := exit.Code(err); err != nil && code != exit.Usage && code != exit.Refused {
			t.Errorf("code %d: %v", code, err)
		}
		for _, r := range results {
			for _, c := range r.Changes {
				if slices.Contains(r.Drift, c.Name) && c.Note == "" && math.IsNaN(c.Percent) {
					t.Errorf("%+v", c)
				}
			}
		}
	})
}
