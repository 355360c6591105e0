package parameters

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
	"wfgen.dev/internal/tests/schematest"
)

func sample() Parameters {
	p := Parameters{
		Schema: Schema, ITLSynchronous: new(7.0), ITLThroughput: new(8.7), BatchSize: 64,
		TTFTSynchronous: new(15.0), TTFTThroughput: new(26.0), InputTokens: 128,
		Model: "org/model", Accelerator: "A100", Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 128},
		Fit: Fit{Model: Linear4, Method: fit.WLS, Batch: "measured",
			Diagnostics: Diagnostics{ITL: &Line{R2: new(0.999), RMSEMS: 0.01, LinearTo: 64, PointsUsed: 7, Covariance: new(-1e-6)}, TTFT: &Line{}},
			Points: []Point{{BatchSize: 1, Batch: 0.99, PromptTokens: 128, LeftOut: []string{"TTFT: idle"},
				ITL: &Value{MS: 7, From: "client", Statistic: "mean", PredictedMS: new(7.0), ErrorPercent: new(0.0), Used: true}}}},
		Curve:      &Curve{ITL: []Step{{1, 7, 6.9, 7.1}, {64, 8.7, 8.6, 8.8}}, TTFT: []Step{{1, 15, 14.8, 15.2}}},
		Verdict:    fit.Verdict{Level: fit.Accepted},
		Provenance: Provenance{Driver: Values{"native"}, Seconds: 840, Requests: 9000},
	}
	p.Set("alpha", fit.Parameter{Value: 6.973, StandardError: 0.01, Low: 6.95, High: 6.996})
	p.Set("beta", fit.Parameter{Value: 0.027, StandardError: 0.001, Low: 0.025, High: 0.029})
	p.Set("gamma", fit.Parameter{Value: 14.825, StandardError: math.NaN(), Low: math.NaN(), High: math.NaN()})
	p.Set("delta", fit.Parameter{Value: 0.001364, StandardError: math.NaN(), Low: math.NaN(), High: math.NaN()})
	return p
}

func refused() Parameters {
	p := sample()
	p.Alpha, p.Beta, p.Gamma, p.Delta, p.Fit.Intervals = nil, nil, nil, nil, Intervals{}
	p.ITLSynchronous, p.ITLThroughput, p.TTFTSynchronous, p.TTFTThroughput = nil, nil, nil, nil
	p.Verdict = fit.Verdict{Level: fit.Refused, Reasons: []string{"no point can be used"}}
	return p
}

// sampleJoint is iteration3 with every field filled in.
func sampleJoint(t *testing.T) Joint {
	t.Helper()
	j := Joint{
		Fit: fit.Iteration3, Model: "org/model", Accelerator: "A100", PointsUsed: 20, Shapes: 4,
		Terms: []Term{
			{Name: "alpha", Unit: "ms", Value: 6.5, Interval: &Interval{0.1, 6.3, 6.7}, DegreesOfFreedom: 17},
			{Name: "beta", Unit: "ms per token", Value: 0.02, Interval: &Interval{0.001, 0.018, 0.022}, DegreesOfFreedom: 17},
			{Name: "gamma", Unit: "ms per token of context", Value: 5e-5, Interval: &Interval{1e-6, 4.8e-5, 5.2e-5}, DegreesOfFreedom: 17},
		},
		Covariance:      [][]float64{{0.01, 0, 0}, {0, 1e-6, -1e-10}, {0, -1e-10, 1e-12}},
		ConditionNumber: new(3.2), MeanErrorPercent: new(2.3), LargestErrorPercent: new(13.0), LeftOutErrorPercent: new(2.6), TTFTErrorPercent: new(37.0),
		Measured: Measured{Batch: [2]float64{1, 64}, PromptTokens: [2]float64{64, 1024}, Context: [2]float64{96, 1536}, Cached: [2]float64{96, 98304}},
		Verdict:  fit.Verdict{Level: fit.Accepted},
	}
	i, err := j.Imply(sweep.Shape{PromptTokens: 128, OutputTokens: 128}, 1, 64)
	if err != nil {
		t.Fatal(err)
	}
	p := sample()
	i.Compare(&p)
	j.Linear4 = []Implied{i}
	return j
}

func TestJointImpliesLinear4(t *testing.T) {
	i := sampleJoint(t).Linear4[0]
	// T(n) + beta + gamma*(in+(out+1)/2) at 128/128.
	if want := 0.02*256/129 + 5e-5*192; math.Abs(i.Beta/want-1) > 1e-9 || math.Abs(i.Alpha-(6.5+0.02+5e-5*192.5)) > 1e-9 {
		t.Errorf("%+v", i)
	}
	if i.Intervals.Delta == nil || !(i.Intervals.Delta.Low < i.Delta && i.Delta < i.Intervals.Delta.High) || i.ITLDifferencePercent == nil || math.Abs(*i.ITLDifferencePercent-11.3) > 0.1 {
		t.Errorf("%+v, ITL %v", i, *i.ITLDifferencePercent)
	}
	refused := Joint{Fit: fit.Engine, Verdict: fit.Verdict{Level: fit.Refused, Reasons: []string{"one shape"}}}
	if _, err := refused.Imply(i.Shape, 1, 2); err == nil || !strings.Contains(err.Error(), "one shape") {
		t.Error(err)
	}
}

func TestDecodeRefusesJoint(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Joint)
		want string
	}{
		{"fit", func(j *Joint) { j.Fit = "linear4" }, `found "linear4"`},
		{"negative", func(j *Joint) { j.Terms[1].Value = -1 }, "beta: -1"},
		{"a term missing", func(j *Joint) { j.Terms, j.Covariance = j.Terms[:2], nil }, "has the terms alpha, beta, gamma"},
		{"covariance", func(j *Joint) { j.Covariance = j.Covariance[:2] }, "is not 3 by 3"},
		{"refused with numbers", func(j *Joint) { j.Verdict.Level = fit.Refused }, "terms: given"},
		{"no level", func(j *Joint) { j.Verdict.Level = "" }, "verdict.level"},
		{"no name", func(j *Joint) { j.Model = "" }, "model or accelerator"},
	} {
		j := sampleJoint(t)
		c.edit(&j)
		data, err := json.Marshal(Summary{Schema: SummarySchema, Joint: []Joint{j}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeSummary(bytes.NewReader(data), "s.json"); exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), "joint[0]") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestFilesRoundTrip(t *testing.T) {
	good, bad := sample(), refused()
	var files [][]byte
	for _, p := range []Parameters{good, bad} {
		data, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(bytes.NewReader(data), "p.json")
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, p) {
			t.Errorf("read %+v, wrote %+v", got, p)
		}
		files = append(files, data)
	}
	schematest.Validate(t, "parameters.schema.json", files...)
	schematest.Describes(t, "parameters.schema.json", good)

	s := Summary{Schema: SummarySchema, Verdict: fit.Refused, Parameters: []Parameters{good, bad}, Totals: Totals{Points: 2},
		Joint:    []Joint{sampleJoint(t), {Fit: fit.Engine, Model: "m", Accelerator: "A100", Terms: []Term{}, Linear4: []Implied{}, Verdict: fit.Verdict{Level: fit.Refused, Reasons: []string{"one shape"}}}},
		Failures: []Failure{{Accelerator: "H100", Shape: &good.Shape, Reasons: []string{"no points"}}}, Notes: []string{"x"}}
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeSummary(bytes.NewReader(data), "s.json")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, s) {
		t.Errorf("read %+v, wrote %+v", got, s)
	}
	empty, err := Summary{Verdict: fit.Refused}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	schematest.Validate(t, "summary.schema.json", data, empty)
	schematest.Describes(t, "summary.schema.json", s)
}

// Whoever reads the recipe's file finds the recipe's names and numbers.
func TestTheRecipesNames(t *testing.T) {
	data, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	var recipe struct {
		ITLSynchronous float64 `json:"itl_synchronous"`
		ITLThroughput  float64 `json:"itl_throughput"`
		BatchSize      float64 `json:"batch_size"`
		Alpha          float64 `json:"alpha"`
		Beta           float64 `json:"beta"`
	}
	if err := json.Unmarshal(data, &recipe); err != nil {
		t.Fatal(err)
	}
	if recipe.ITLSynchronous != 7 || recipe.ITLThroughput != 8.7 || recipe.BatchSize != 64 || recipe.Alpha != 6.973 || recipe.Beta != 0.027 {
		t.Errorf("%+v", recipe)
	}
}

func TestARefusedVerdictHoldsNoNumbers(t *testing.T) {
	p := refused()
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range linear4.Names() {
		if !strings.Contains(string(data), `"`+name+`": null`) {
			t.Errorf("%s is not null", name)
		}
		if _, _, _, ok := p.Parameter(name); ok {
			t.Errorf("%s is given", name)
		}
	}
	p.Beta = new(0.03)
	if _, err := p.Encode(); err == nil || !strings.Contains(err.Error(), "beta: given") {
		t.Errorf("a refused verdict with beta: %v", err)
	}
	schematest.Refute(t, "parameters.schema.json", []byte(strings.Replace(string(data), `"beta": null`, `"beta": 0.03`, 1)))
}

func TestParameter(t *testing.T) {
	p := sample()
	if v, low, high, ok := p.Parameter("alpha"); v != 6.973 || low != 6.95 || high != 6.996 || !ok {
		t.Error(v, low, high, ok)
	}
	if v, low, _, ok := p.Parameter("gamma"); v != 14.825 || !math.IsNaN(low) || !ok {
		t.Error(v, low, ok)
	}
	if _, _, _, ok := p.Parameter("epsilon"); ok {
		t.Error("epsilon is known")
	}
}

func TestDecodeRefuses(t *testing.T) {
	edit := func(change func(*Parameters)) string {
		p := sample()
		change(&p)
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"truncated", `{"schema": `, []string{"p.json: not a parameters file"}},
		{"schema", edit(func(p *Parameters) { p.Schema = "x" }), []string{`found "x"`}},
		{"several", edit(func(p *Parameters) { p.Model, p.Accelerator, p.Alpha, p.Beta = "", "", new(-1.0), nil }),
			[]string{"model: missing", "accelerator: missing", "alpha: -1", "beta: missing"}},
		{"another model's letters", edit(func(p *Parameters) { p.Fit.Model = "iteration3" }), []string{"the letters mean other things"}},
		{"no verdict", edit(func(p *Parameters) { p.Verdict.Level = "" }), []string{"verdict.level"}},
		{"warned without a reason", edit(func(p *Parameters) { p.Verdict.Level = fit.Warned }), []string{"verdict.reasons"}},
		{"reversed interval", edit(func(p *Parameters) { p.Fit.Intervals.Beta.Low = 3 }), []string{"fit.intervals.beta"}},
		{"a curve that falls", edit(func(p *Parameters) { p.Curve.ITL[1].Batch = 0.5 }), []string{"curve.itl[1]"}},
		{"nothing measured", edit(func(p *Parameters) { p.ITLThroughput = nil }), []string{"itl_throughput"}},
	} {
		_, err := Decode(strings.NewReader(c.text), "p.json")
		if exit.Code(err) != exit.Refused {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", c.name, err, w)
			}
		}
	}
}

func TestFormat(t *testing.T) {
	for x, want := range map[float64]string{
		6.973015873: "6.97302", 0.0269841269: "0.0269841", 0.00136408730: "0.00136409", 14.8253968: "14.8254", 1e-9: "0.00000000100000", 123456789: "123456789", 0: "0", 100: "100.000",
	} {
		if got := Format(x); got != want {
			t.Errorf("%v: %q, want %q", x, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Float64Range(1e-12, 1e12).Draw(t, "x")
		var back float64
		text := Format(x)
		if err := json.Unmarshal([]byte(text), &back); err != nil || math.Abs(back/x-1) > 1e-5 || strings.ContainsAny(text, "eE") {
			t.Fatalf("%v became %q", x, text)
		}
	})
}

// What a reader takes for too large is not written either.
func TestWritersKeepToTheReadersLimits(t *testing.T) {
	p := sample()
	p.Provenance.ServerVersion = Values{strings.Repeat("9", mostBytes)}
	if _, err := p.Encode(); exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), "may be read again") {
		t.Errorf("exit %d, %v", exit.Code(err), err)
	}
	data, err := Summary{Parameters: []Parameters{p}, Verdict: fit.Accepted}.Encode()
	if err != nil { // a summary may be larger
		t.Fatal(err)
	}
	if _, err := DecodeSummary(bytes.NewReader(data), "s"); err != nil {
		t.Error(err)
	}
}
