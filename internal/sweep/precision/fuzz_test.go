package precision

import (
	"encoding/json"
	"testing"

	"wfgen.dev/internal/sweep"
)

// FuzzParse: goals that are read are shares of known numbers, each once.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"5%", "alpha=1%,beta=5%", "capacity=0.1", "alpha=1%,alpha=2%", "alpha=NaN", "=,=", "1e-400%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		goals, err := Parse(text)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, g := range goals {
			if !(g.Share > 0 && g.Share < 1) || seen[g.Of] {
				t.Errorf("%+v of %q", goals, text)
			}
			seen[g.Of] = true
		}
	})
}

// FuzzDecode: a round that is read holds points that can be measured, each under a name
// of its own, and reads again as it is written.
func FuzzDecode(f *testing.F) {
	good, err := json.Marshal(Round{Schema: RoundSchema, Number: 2, Points: []Point{{128, 128, 8, 12, "-again"}}, Reasons: []string{"x"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":"` + RoundSchema + `","number":3,"points":[],"ended":"precision"}`))
	f.Add([]byte(`{"schema":"` + RoundSchema + `","number":1,"points":[{"prompt-tokens":1,"output-tokens":2,"batch-size":1e99,"again":"-again/../../x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, p := range r.Points {
			of := p.Of("A100")
			if of.BatchSize < 1 || of.BatchSize > sweep.MostBatch || of.Seconds < 1 || of.Again < 0 || names[of.Name()] {
				t.Errorf("%+v", p)
			}
			names[of.Name()] = true
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil {
			t.Errorf("what was read cannot be read again: %v", err)
		}
	})
}
