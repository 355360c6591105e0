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

// rough is the same with a standard error, ms, over so many requests.
func (m Measured) rough(sigma float64, requests int) Measured {
	m.Open.Objectives[0].StandardErrorMS, m.Requests.InWindow = sigma, requests
	return m
}

// clumped is the same with requests in clumps.
func (m Measured) clumped() Measured {
	m.Open.Clumped = true
	return m
}

// arriving is the same with requests that arrived at another rate for a minute.
func (m Measured) arriving(share float64) Measured {
	m.Open.Sent, m.Client = share*m.Open.Rate, &measurement.Witness{WindowSeconds: 60}
	return m
}

// even is the same with requests at even intervals.
func (m Measured) even() Measured {
	m.Open.Arrivals = sweep.Constant
	return m
}

func TestTogether(t *testing.T) {
	p := Together(slos(t, "itl=9ms"), []Measured{opened(5, 9.2, 9, false).rough(0.3, 100), opened(5, 8.6, 9, false).rough(0.1, 300)})
	a := p.Objectives[0]
	if math.Abs(a.AttainedMS-8.75) > 1e-9 || math.Abs(a.StandardErrorMS-math.Hypot(0.25*0.3, 0.75*0.1)) > 1e-9 || p.Requests != 400 || !p.Met || p.Unclear || !a.Met {
		t.Errorf("%+v", p)
	}
	if p := Together(slos(t, "itl=9ms"), []Measured{opened(5, 8.9, 9, false).rough(0.3, 100)}); !p.Met || !p.Unclear {
		t.Errorf("%+v", p)
	}
	if p := Together(slos(t, "itl=9ms"), []Measured{opened(5, 8.2, 9, false).rough(0.3, 100)}); !p.Met || p.Unclear {
		t.Errorf("%+v: far below the bound, however rough", p)
	}
	if p := Together(slos(t, "itl=9ms"), []Measured{opened(5, 9.7, 9, false).rough(0.3, 100)}); p.Met || p.Unclear {
		t.Errorf("%+v", p)
	}
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
		{"by a loop that tells too little", []Measured{opened(safe, 9.2, 9, false).rough(0.3, 100)}, Undecided, before.Rate.Value},
		{"by two that tell enough together", []Measured{opened(safe, 9.2, 9, false).rough(0.3, 100), opened(safe, 8.4, 9, false).rough(0.2, 300)}, Held, before.Rate.Value},
		{"at even intervals only", []Measured{opened(safe, 8, 9, false).even()}, Undecided, before.Rate.Value},
		{"missed even at even intervals", []Measured{opened(safe, 9.5, 9, false).even()}, Contradicted, 0},
		{"met though they came in clumps", []Measured{opened(safe, 8, 9, false).clumped()}, Held, before.Rate.Value},
		{"missed by clumps", []Measured{opened(safe, 9.5, 9, false).clumped()}, Undecided, before.Rate.Value},
		{"met by fewer requests", []Measured{opened(safe, 8, 9, false).arriving(0.5)}, Undecided, before.Rate.Value},
		{"missed by fewer requests", []Measured{opened(safe, 9.5, 9, false).arriving(0.5)}, Contradicted, 0},
		{"met by more requests", []Measured{opened(safe, 8, 9, false).arriving(2)}, Held, before.Rate.Value},
		{"missed by more requests", []Measured{opened(safe, 9.5, 9, false).arriving(2)}, Undecided, before.Rate.Value},
		{"met by fewer in clumps", []Measured{opened(safe, 8, 9, false).clumped().arriving(0.5)}, Undecided, before.Rate.Value},
		{"missed by fewer in clumps", []Measured{opened(safe, 9.5, 9, false).clumped().arriving(0.5)}, Undecided, before.Rate.Value},
		{"as many as chance has it", []Measured{opened(safe, 8, 9, false).arriving(1.04)}, Held, before.Rate.Value},
		{"measured at a lower rate only", []Measured{opened(0.5*safe, 8, 9, false)}, Undecided, before.Rate.Value},
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
		if x.verdict == Undecided && (c.Verdict.Level != fit.Warned || c.Check.Claimed != nil) {
			t.Errorf("%s: %+v", x.name, c.Verdict)
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
