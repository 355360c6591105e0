package compare

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
)

var shape = sweep.Shape{PromptTokens: 128, OutputTokens: 128}

// set is parameters with relative standard errors and, if not NaN, a correlation of
// intercept and slope.
func set(values [4]float64, relative, correlation float64) parameters.Parameters {
	p := parameters.Parameters{Model: "m", Accelerator: "A100", Shape: shape, Verdict: fit.NewVerdict(), Fit: parameters.Fit{Method: fit.WLS, Batch: "measured"}}
	for i, name := range linear4.Names() {
		e := fit.Parameter{Value: values[i], StandardError: math.NaN(), Low: math.NaN(), High: math.NaN()}
		if relative > 0 {
			e.StandardError, e.Low, e.High = relative*values[i], values[i]*(1-2*relative), values[i]*(1+2*relative)
		}
		p.Set(name, e)
	}
	line := func(a, b float64) *parameters.Line {
		return &parameters.Line{DegreesOfFreedom: 30, Covariance: new(correlation * relative * relative * a * b)}
	}
	p.Fit.Diagnostics = parameters.Diagnostics{ITL: line(values[0], values[1]), TTFT: line(values[2], values[3])}
	return p
}

func of(p ...parameters.Parameters) parameters.Summary { return parameters.Summary{Parameters: p} }

var truth = [4]float64{7, 0.03, 15, 0.0011}

func one(t *testing.T, before, after parameters.Parameters) Result {
	t.Helper()
	rs, notes, err := Compare(of(before), of(after), 0.05)
	if err != nil || len(rs) != 1 || len(notes) != 0 {
		t.Fatalf("%v %v %v", rs, notes, err)
	}
	return rs[0]
}

func TestDrift(t *testing.T) {
	grown := truth
	grown[1] *= 1.08
	for _, c := range []struct {
		name     string
		before   parameters.Parameters
		after    parameters.Parameters
		drift    []string
		possible bool // of a joint test
	}{
		{"nothing", set(truth, 0.01, -0.7), set(truth, 0.01, -0.7), nil, true},
		{"beta", set(truth, 0.01, -0.7), set(grown, 0.01, -0.7), []string{"beta"}, true},
		{"too uncertain", set(truth, 0.05, -0.7), set(grown, 0.05, -0.7), nil, true},
		{"within the band", set(truth, 0.001, -0.7), set([4]float64{7.2, 0.03, 15, 0.0011}, 0.001, -0.7), nil, true},
		{"values alone", set(truth, 0, 0), set(grown, 0, 0), []string{"beta"}, false},
		{"one side without intervals", set(truth, 0.01, 0), set(grown, 0, 0), []string{"beta"}, false},
	} {
		r := one(t, c.before, c.after)
		if !slices.Equal(r.Drift, c.drift) || r.Tested > 0 != c.possible {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

// Without a change, the joint test is significant in 5 % of the comparisons.
func TestFalseAlarms(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const trials, relative, correlation = 4000, 0.02, -0.7
	draw := func() parameters.Parameters {
		values := truth
		for i := 0; i < 4; i += 2 {
			a, b := rng.NormFloat64(), rng.NormFloat64()
			values[i] *= 1 + relative*a
			values[i+1] *= 1 + relative*(correlation*a+math.Sqrt(1-correlation*correlation)*b)
		}
		return set(values, relative, correlation)
	}
	joint, drift := 0, 0
	for range trials {
		r := one(t, draw(), draw())
		if r.P < 0.05 {
			joint++
		}
		if len(r.Drift) > 0 {
			drift++
		}
	}
	// The errors are known exactly here and taken for estimates, so a little less.
	if share := float64(joint) / trials; share < 0.025 || share > 0.06 || drift > joint {
		t.Errorf("%.3f significant, %d drift", share, drift)
	}
}

func TestChangesAreCoherent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var before, after [4]float64
		for i := range before {
			before[i] = rapid.Float64Range(1e-6, 1e3).Draw(t, "before")
			after[i] = before[i] * rapid.Float64Range(0.5, 2).Draw(t, "ratio")
		}
		relative := rapid.Float64Range(0.001, 0.2).Draw(t, "error")
		rs, _, err := Compare(of(set(before, relative, -0.5)), of(set(after, relative, -0.5)), 0.05)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range rs[0].Changes {
			if !(c.Low <= c.Percent && c.Percent <= c.High) || (c.P < 0.05) != (c.Low > 0 || c.High < 0) {
				t.Fatalf("%+v", c)
			}
		}
		if !(rs[0].P >= 0 && rs[0].P <= 1) {
			t.Fatalf("p %v", rs[0].P)
		}
	})
}

func TestWhatCannotBeCompared(t *testing.T) {
	p := set(truth, 0.01, 0)
	refused := parameters.Parameters{Model: "m", Accelerator: "A100", Shape: shape, Verdict: fit.Verdict{Level: fit.Refused, Reasons: []string{"no points"}}}
	for _, c := range []struct {
		name string
		edit func(*parameters.Parameters)
		code int
		says string
	}{
		{"model", func(p *parameters.Parameters) { p.Model = "other" }, exit.Usage, "only NEW has linear4 of other on A100"},
		{"accelerator", func(p *parameters.Parameters) { p.Accelerator = "H100" }, exit.Usage, "nothing in common"},
		{"shape", func(p *parameters.Parameters) { p.Shape.PromptTokens = 256 }, exit.Usage, "256/128"},
		{"refused", func(p *parameters.Parameters) { *p = refused }, exit.Refused, "NEW: linear4 of m on A100, 128/128 is refused: no points"},
	} {
		n := p
		c.edit(&n)
		_, _, err := Compare(of(p), of(n), 0.05)
		says := c.says
		if says == "nothing in common" {
			says = "no model, accelerator and shape in common"
		}
		if exit.Code(err) != c.code || err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// Hidden differences, and a set that only one side has.
	n, extra := p, p
	n.Provenance.GPU, n.Provenance.Image, n.Provenance.ServerVersion, n.Provenance.Driver = parameters.Values{"H100"}, parameters.Values{"v2"}, parameters.Values{"0.12"}, parameters.Values{"guidellm"}
	extra.Accelerator = "L40S"
	rs, notes, err := Compare(of(p), of(n, extra), 0.05)
	if err != nil || len(notes) != 1 || len(rs) != 1 || len(rs[0].Warnings) != 4 || !strings.Contains(strings.Join(rs[0].Warnings, "\n"), "the GPU differs: not known, now H100") {
		t.Errorf("%v %v %v", rs, notes, err)
	}
}

func TestJointModels(t *testing.T) {
	joint := func(beta float64, dropped string) parameters.Joint {
		j := parameters.Joint{Fit: fit.Iteration3, Model: "m", Accelerator: "A100", Verdict: fit.NewVerdict(),
			Covariance: [][]float64{{0.01, 0, 0}, {0, 1e-8, 0}, {0, 0, 1e-14}}}
		for i, v := range []float64{6.5, beta, 5e-5} {
			j.Terms = append(j.Terms, parameters.Term{Name: fit.TermNames(fit.Iteration3)[i], Value: v, DegreesOfFreedom: 12,
				Interval: &parameters.Interval{StandardError: math.Sqrt(j.Covariance[i][i])}})
		}
		if dropped != "" {
			j.Terms[2].Value, j.Terms[2].Dropped = 0, dropped
		}
		return j
	}
	rs, _, err := Compare(parameters.Summary{Joint: []parameters.Joint{joint(0.02, "")}}, parameters.Summary{Joint: []parameters.Joint{joint(0.022, "zero")}}, 0.05)
	if err != nil || len(rs) != 1 || !slices.Equal(rs[0].Drift, []string{"beta"}) || rs[0].Tested != 2 || rs[0].Changes[2].Note == "" {
		t.Errorf("%+v %v", rs, err)
	}
}
