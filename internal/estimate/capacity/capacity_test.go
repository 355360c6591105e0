package capacity

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
	"wfgen.dev/internal/tests/schematest"
)

// sample is an estimate of a server that is a line, with intervals.
func sample(accelerator string, shape sweep.Shape, alpha, beta, idle float64) parameters.Parameters {
	p := parameters.Parameters{
		Model: "llama", Accelerator: accelerator, Shape: shape, BatchSize: 64, InputTokens: float64(shape.PromptTokens),
		Fit:     parameters.Fit{Model: parameters.Linear4, Diagnostics: parameters.Diagnostics{ITL: &parameters.Line{DegreesOfFreedom: 5, Covariance: new(-2e-5)}}},
		Verdict: fit.Verdict{Level: fit.Accepted},
	}
	p.Set("alpha", fit.Parameter{Value: alpha, StandardError: 0.02, Low: alpha - 0.05, High: alpha + 0.05})
	p.Set("beta", fit.Parameter{Value: beta, StandardError: 0.001, Low: beta - 0.0025, High: beta + 0.0025})
	p.Set("gamma", fit.Parameter{Value: 1.4 * idle, StandardError: 0.1, Low: 1.3 * idle, High: 1.5 * idle})
	p.Set("delta", fit.Parameter{Value: 0.0013, StandardError: 0.0001, Low: 0.001, High: 0.0016})
	for _, n := range []int{1, 8, 32, 64} {
		q := parameters.Point{BatchSize: n, Batch: float64(n), PromptTokens: p.InputTokens, ITL: &parameters.Value{MS: p.ITLAt(float64(n)), StandardErrorMS: 0.02, Used: true}}
		if n == 1 {
			q.TTFT = &parameters.Value{MS: idle, StandardErrorMS: 0.05}
		}
		p.Fit.Points = append(p.Fit.Points, q)
	}
	return p
}

var short = sweep.Shape{PromptTokens: 128, OutputTokens: 128}

func slos(t testing.TB, text string) []slo.Objective {
	t.Helper()
	list, err := slo.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestParseMix(t *testing.T) {
	mix, err := ParseMix("128/128=3, 1024/256=1")
	if err != nil || len(mix) != 2 || mix[0].Part != 0.75 || mix[1].Shape != (sweep.Shape{PromptTokens: 1024, OutputTokens: 256}) {
		t.Errorf("%v, %v", mix, err)
	}
	_, err = ParseMix("128/128=1,128=2,64/64,128/128=2,32/32=-1")
	for _, part := range []string{`shape "128"`, `"64/64"`, "128/128 is given twice", `"32/32=-1"`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
}

// A closed loop of the calibrated engine gives back what was measured: the line, or where
// there is none, be it refused or too far off, the curve.
func TestCalibrateGivesBackTheClosedLoop(t *testing.T) {
	steps := []parameters.Step{{Batch: 1, MS: 6.75, Low: 6.7, High: 6.8}, {Batch: 8, MS: 7.1, Low: 7.05, High: 7.15}, {Batch: 32, MS: 9, Low: 8.9, High: 9.1}, {Batch: 64, MS: 14, Low: 13.9, High: 14.1}}
	for name, c := range map[string]struct {
		change func(p *parameters.Parameters)
		curve  bool
	}{
		"line":    {func(*parameters.Parameters) {}, false},
		"bend":    {func(p *parameters.Parameters) { p.Fit.Diagnostics.ITL.BendFrom = new(32.0) }, true},
		"concave": {func(p *parameters.Parameters) { p.Fit.Diagnostics.ITL.Shape = "concave" }, true},
		"off":     {func(p *parameters.Parameters) { p.Fit.Diagnostics.ITL.LargestErrorPercent = 3 }, true},
		"refused": {func(p *parameters.Parameters) {
			p.Alpha, p.Beta = nil, nil
			p.Verdict.Warn(reason.New(reason.Misfit, "alpha, beta are refused: the line misses its own points"))
		}, true},
	} {
		p := sample("A100", short, 6.7, 0.048, 8.9)
		p.Fit.Method, p.Curve = fit.WLS, &parameters.Curve{ITL: steps}
		want := map[float64]float64{}
		for _, s := range steps {
			if want[s.Batch] = s.MS; !c.curve {
				want[s.Batch] = p.ITLAt(s.Batch)
			}
		}
		c.change(&p)
		s := setup{chunk: 2048, maxInFlight: 128, spread: 0.2}
		m, why := measuredOf(&p, nil, s)
		if why != nil {
			t.Fatal(why)
		}
		l := m.calibrate(s)
		r := replicaOf(l, s)
		for n, ms := range want {
			if o := r.closedLoop(int(n)); math.Abs(o.meanITL/ms-1) > 0.005 {
				t.Errorf("%s: ITL of %v streams is %.3f ms, measured %.3f", name, n, o.meanITL, ms)
			}
		}
		if got := r.idleTTFT(&r.classes[0]); math.Abs(got-8.9) > 0.01 {
			t.Errorf("%s: an idle server's TTFT is %.3f ms, measured 8.9", name, got)
		}
	}
}

// Where noise makes the time of an iteration fall, a request alone takes what was measured.
func TestAloneIsWhatWasMeasured(t *testing.T) {
	l := law{measured: measured{shape: short}, anchors: []float64{1, 2, 8}, times: []float64{12.5, 10, 13}}
	k := l.class(setup{chunk: 2048, maxInFlight: 8})
	if k.iteration[1] != 12.5 || k.iteration[0] > 12.5 || k.iteration[8] != 13 {
		t.Errorf("%v", k.iteration)
	}
}

// A pair of parameters that is refused for what the points hold otherwise, such as another
// unit, has no curve to fall back on; neither has a file of an earlier version.
func TestCurveIsNoWayAroundAVerdict(t *testing.T) {
	for _, code := range []reason.Code{reason.Floor, reason.Units} {
		p := sample("A100", short, 6.7, 0.048, 8.9)
		p.Curve = &parameters.Curve{ITL: []parameters.Step{{Batch: 1, MS: 6.7}, {Batch: 8, MS: 7}, {Batch: 32, MS: 9}}}
		p.Alpha, p.Beta = nil, nil
		p.Verdict.Warn(reason.New(code, "alpha, beta are refused"))
		if _, why := measuredOf(&p, nil, setup{maxInFlight: 64}); why == nil {
			t.Errorf("%s: a capacity all the same", code)
		}
	}
	p := sample("A100", short, 6.7, 0.048, 8.9)
	p.Fit.Method, p.Fit.Diagnostics.ITL.BendFrom = fit.WLS, new(32.0)
	if m, why := measuredOf(&p, nil, setup{maxInFlight: 64}); why != nil || len(m.streams) != 2 {
		t.Errorf("without a curve: %v, %v", m.streams, why)
	}
}

// The seeds' example has a first token that takes more than the growth of ITL has room
// for: the rest is no work of the engine.
func TestOverheadIsNotWork(t *testing.T) {
	p := sample("A100", short, 6.973, 0.027, 15)
	srv := setup{chunk: 2048, maxInFlight: 64, spread: 0.2}
	m, _ := measuredOf(&p, nil, srv)
	l := m.calibrate(srv)
	if work := l.pre * 128; work > 0.027*128*1.01 || l.overheadMS < 4 {
		t.Errorf("work %.2f ms, overhead %.2f ms", work, l.overheadMS)
	}
}

func TestOf(t *testing.T) {
	refused := sample("L4", short, 20, 0.5, 60)
	refused.Alpha, refused.Verdict = nil, fit.Verdict{Level: fit.Refused, Reasons: []string{"no point can be used"}}
	slow := sample("T4", short, 30, 0.5, 60)
	long := sweep.Shape{PromptTokens: 1024, OutputTokens: 256}
	s := parameters.Summary{Parameters: []parameters.Parameters{
		sample("A100", short, 6.7, 0.048, 8.9), sample("A100", long, 6.65, 0.154, 25), sample("H100", short, 4.2, 0.03, 6), refused, slow,
	}}
	o := Options{
		SLOs: slos(t, "itl=9ms,p90.ttft=100ms"), Prices: map[string]float64{"A100": 2.5, "H100": 4}, MaxNumSeqs: map[string]int{"": 128}, Spread: 0.2, Traffic: 100,
	}
	f := Of(s, o)
	a, h := f.Capacities[0], f.Capacities[2]
	if a.Binding != "itl" || a.Rate == nil || !(*a.Rate.Low < a.Rate.Value && a.Rate.Value < *a.Rate.High) {
		t.Fatalf("%+v", a)
	}
	for _, x := range a.Objectives {
		if x.UsedLow == nil || !(*x.UsedLow < x.Used && x.Used < *x.UsedHigh && *x.UsedHigh-*x.UsedLow < 0.5*x.Used) {
			t.Errorf("%+v", x)
		}
	}
	// Little: an ITL of 9 ms is that of a closed loop of 48 streams, of about 1.15 s each.
	if math.Abs(a.InFlight.Value-46) > 3 || math.Abs(a.Rate.Value-40) > 2 || math.Abs(a.MostInFlight.Value-47) > 1 {
		t.Errorf("rate %v, in flight %v, most in flight %v", a.Rate.Value, a.InFlight.Value, a.MostInFlight.Value)
	}
	if got, want := a.CostPerMillion.Value, 2.5/3600/(a.Rate.Value*256)*1e6; math.Abs(got/want-1) > 1e-9 || *a.CostPerMillion.Low > got || *a.CostPerMillion.High < got {
		t.Errorf("cost %+v, want %v", a.CostPerMillion, want)
	}
	if h.Rate.Value < a.Rate.Value || h.Binding != Range {
		t.Errorf("H100 bears %v, bound by %s", h.Rate, h.Binding)
	}
	if c := f.Capacities[3]; c.Rate != nil || !strings.Contains(c.Verdict.Reasons[0], "no point can be used") {
		t.Errorf("refused parameters: %+v", c)
	}
	if c := f.Capacities[4]; c.Rate != nil || len(c.Unmet) != 1 || !strings.Contains(c.Unmet[0], "itl=9ms: a request that has the server for itself takes 30.5") {
		t.Errorf("an objective that cannot be met: %+v", c)
	}
	first := f.Fleet.Choices[0]
	if first.Replicas == 0 || first.PricePerHour == nil || float64(first.Replicas)*first.Rate.Safe() < 100 || float64(first.Replicas-1)*first.Rate.Safe() >= 100 {
		t.Errorf("%+v", first)
	}
	for i := 1; i < len(f.Fleet.Choices); i++ {
		if a, b := f.Fleet.Choices[i-1].PricePerHour, f.Fleet.Choices[i].PricePerHour; b != nil && (a == nil || *a > *b) {
			t.Errorf("choice %d is not the cheaper one", i-1)
		}
	}

	o.Mix = []Share{{short, 0.5}, {long, 0.5}}
	mixed := Of(s, o)
	var of A100choice
	of.find(mixed.Fleet)
	if of.rate < f.Capacities[1].Rate.Value || of.rate > a.Rate.Value {
		t.Errorf("half and half bears %v, one shape %v and the other %v", of.rate, a.Rate.Value, f.Capacities[1].Rate.Value)
	}

	data, err := mixed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	schematest.Validate(t, "capacity.schema.json", data)
	schematest.Describes(t, "capacity.schema.json", mixed)
	back, err := Decode(bytes.NewReader(data), "capacity.json")
	if err != nil || back.Capacities[0].Rate.Value != mixed.Capacities[0].Rate.Value {
		t.Errorf("read back: %v", err)
	}
}

type A100choice struct{ rate float64 }

func (c *A100choice) find(f *Fleet) {
	for _, x := range f.Choices {
		if x.Accelerator == "A100" && x.Rate != nil {
			c.rate = x.Rate.Value
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, text := range []string{`{}`, `[`, `{"schema":"wfgen.dev/capacity/v1","capacities":[{"model":"m","accelerator":"a","verdict":{"level":"accepted"}}]}`} {
		if _, err := Decode(strings.NewReader(text), "c.json"); exit.Code(err) != exit.Refused {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// BenchmarkFleet is a summary of 100 accelerators x 5 shapes.
func BenchmarkFleet(b *testing.B) {
	var s parameters.Summary
	for i := range 100 {
		for k, shape := range []sweep.Shape{short, {PromptTokens: 256, OutputTokens: 64}, {PromptTokens: 512, OutputTokens: 512}, {PromptTokens: 1024, OutputTokens: 256}, {PromptTokens: 4096, OutputTokens: 256}} {
			x := 1 + float64(i)/100
			s.Parameters = append(s.Parameters, sample(string(rune('A'+i)), shape, 6.7*x, 0.05*x*float64(k+1), 9*x*math.Sqrt(float64(k+1))))
		}
	}
	o := Options{SLOs: slos(b, "itl=25ms,p90.ttft=250ms"), MaxNumSeqs: map[string]int{"": 256}, Spread: 0.2}
	for b.Loop() {
		Of(s, o)
	}
}
