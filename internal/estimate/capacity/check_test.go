package capacity

import (
	"math"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
	"wfgen.dev/internal/tests/schematest"
)

// opened is an open loop that attained an ITL, ms.
func opened(rate, itl, bound float64, behind bool) Measured {
	o := slo.Objective{Metric: slo.ITL, Statistic: slo.Mean, MS: bound}
	return Measured{File: "m.json", Measurement: measurement.Measurement{
		Model: "llama", Accelerator: "A100", Shape: short,
		Open: &measurement.Open{Rate: rate, Arrivals: sweep.Poisson, Behind: behind,
			Objectives: []measurement.Attained{{Objective: o, Name: "itl", AttainedMS: itl, StandardErrorMS: 0.01, Share: 0.5, Met: itl <= bound}}},
	}}
}

func TestCheck(t *testing.T) {
	claim := func() File {
		f := Of(parameters.Summary{Parameters: []parameters.Parameters{sample("A100", short, 6.7, 0.048, 8.9)}}, Options{
			SLOs: slos(t, "itl=9ms"), Prices: map[string]float64{"": 2.5}, MaxNumSeqs: map[string]int{"": 128}, Spread: 0.2})
		return f
	}
	before := claim().Capacities[0]
	safe := before.Rate.Safe()
	for _, x := range []struct {
		name    string
		open    []Measured
		verdict string
		rate    float64
	}{
		{"met where it is claimed, missed above", []Measured{opened(1.1*safe, 9.6, 9, false), opened(safe, 8.9, 9, false)}, Held, before.Rate.Value},
		{"within its own error", []Measured{opened(safe, 9.015, 9, false)}, Held, before.Rate.Value},
		{"met at a lower rate only", []Measured{opened(safe, 9.5, 9, false), opened(0.8*safe, 8.8, 9, false)}, Lowered, 0.8 * safe},
		{"met nowhere", []Measured{opened(safe, 9.5, 9, false)}, Contradicted, 0},
		{"behind, whatever the mean", []Measured{opened(safe, 8, 9, true)}, Contradicted, 0},
		{"of other objectives", []Measured{opened(safe, 9.5, 8, false)}, "", before.Rate.Value},
	} {
		f := claim()
		f.Check(x.open)
		c := f.Capacities[0]
		switch {
		case x.verdict == "":
			if c.Check != nil {
				t.Errorf("%s: %s", x.name, c.Check)
			}
			continue
		case c.Check == nil || c.Check.Verdict != x.verdict:
			t.Errorf("%s: %v", x.name, c.Check)
			continue
		case x.rate == 0:
			if c.Rate != nil || c.CostPerMillion != nil || c.Verdict.Level != fit.Refused || !strings.Contains(c.Verdict.Reasons[0], "contradicts the claim") {
				t.Errorf("%s: %+v", x.name, c)
			}
		default:
			if math.Abs(c.Rate.Value/x.rate-1) > 1e-9 {
				t.Errorf("%s: %v, want %v", x.name, c.Rate, x.rate)
			}
		}
		if x.verdict == Lowered && (c.Verdict.Level != fit.Warned || c.CostPerMillion.Value < *before.CostPerMillion.High || c.Check.Claimed.Value != before.Rate.Value) {
			t.Errorf("%s: %+v", x.name, c)
		}
		data, err := f.Encode()
		if err != nil {
			t.Fatal(err)
		}
		schematest.Validate(t, "capacity.schema.json", data)
	}
}
