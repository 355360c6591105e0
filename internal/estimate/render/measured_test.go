package render

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

// point is a measurement of the sample's law at a batch size.
func point(p parameters.Parameters, batch int) measurement.Measurement {
	itl, ttft := p.ITLAt(float64(batch)), p.TTFTAt(float64(batch), float64(p.Shape.PromptTokens))
	spread := func(ms float64) *measurement.Estimate {
		return &measurement.Estimate{MeanMS: ms, Samples: 100, Quantiles: &measurement.Quantiles{
			Min: 0.8 * ms, P10: 0.9 * ms, P25: 0.95 * ms, P50: ms, P75: 1.05 * ms, P90: 1.1 * ms, P95: 1.2 * ms, P99: 1.4 * ms, Max: 2 * ms}}
	}
	m := measurement.Measurement{
		Model: p.Model, Accelerator: p.Accelerator, Shape: p.Shape, BatchSize: batch,
		Client:   &measurement.Witness{ITL: spread(itl), TTFT: spread(ttft), Batch: float64(batch), Requests: 100, Basis: measurement.BasisRows},
		Requests: measurement.Requests{Successful: 100}, PromptTokens: float64(p.Shape.PromptTokens), OutputTokens: float64(p.Shape.OutputTokens),
		Driver: measurement.Driver{Name: sweep.Native}, StartedAt: 1790000000, Seconds: 60,
	}
	m.Taken = m.Weigh(measurement.Auto, measurement.Auto)
	return m
}

func TestPlanner(t *testing.T) {
	p := sample("A100", 6.973)
	text, err := Render("planner", []parameters.Parameters{p}, Options{Points: []measurement.Measurement{point(p, 8), point(p, 1)}, Count: map[string]int{"A100": 2}})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Metadata   map[string]string    `json:"_metadata"`
		Benchmarks []map[string]float64 `json:"-"`
		Raw        []json.RawMessage    `json:"benchmarks"`
	}
	if err := json.Unmarshal(text, &got); err != nil || len(got.Raw) != 2 || got.Metadata["confidence_level"] != "benchmarked" {
		t.Fatalf("%s, %v", text, err)
	}
	var b plannerBenchmark
	if err := json.Unmarshal(got.Raw[1], &b); err != nil {
		t.Fatal(err)
	}
	itl, ttft := p.ITLAt(8), p.TTFTAt(8, 128)
	for name, x := range map[string][2]float64{
		"itl_mean": {b.ITLMean, itl}, "itl_p95": {b.ITLP95, 1.2 * itl}, "ttft_p99": {b.TTFTP99, 1.4 * ttft}, "e2e_mean": {b.E2EMean, ttft + 127*itl},
		"requests_per_second": {b.RequestsPerSec, 8000 / (ttft + 127*itl)}, "hardware_count": {float64(b.HardwareCount), 2},
	} {
		if math.Abs(x[0]/x[1]-1) > 1e-9 {
			t.Errorf("%s: %g, want %g", name, x[0], x[1])
		}
	}
	if _, err := Render("planner", []parameters.Parameters{p}, Options{}); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "no usable measurement") {
		t.Errorf("without measurements: %v", err)
	}
}

// TestBenchmarkReport has our own reader read it.
func TestBenchmarkReport(t *testing.T) {
	p := sample("A100", 6.973)
	text, err := Render("benchmark-report", []parameters.Parameters{p}, Options{Points: []measurement.Measurement{point(p, 1), point(p, 8)}})
	if err != nil {
		t.Fatal(err)
	}
	all, err := report.Read(bytes.NewReader(text), "r.yaml", report.Options{})
	if err != nil || len(all) != 2 {
		t.Fatalf("%d measurements, %v", len(all), err)
	}
	m := all[1]
	if m.Model != p.Model || m.Accelerator != "A100" || m.Shape != p.Shape || m.BatchSize != 8 || math.Abs(m.Taken.ITL.MS-p.ITLAt(8)) > 1e-9 || math.Abs(m.Taken.Batch-8) > 1e-6 || m.StartedAt != 1790000000 {
		t.Errorf("%+v, %+v", m, m.Taken)
	}
	if q := m.Client.ITL.Quantiles; q == nil || math.Abs(q.P99/(1.4*p.ITLAt(8))-1) > 1e-9 {
		t.Errorf("percentiles: %+v", q)
	}
}

func TestCSV(t *testing.T) {
	p := sample(`A100 "80", SXM`, 6.973)
	p.Set("beta", fit.Parameter{Value: 0.027, StandardError: 0.001, Low: 0.025, High: 0.029})
	text, err := Render("csv", []parameters.Parameters{p}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || len(rows) != 2 {
		t.Fatalf("%q, %v", rows, err)
	}
	cells := map[string]string{}
	for i, name := range rows[0] {
		cells[name] = rows[1][i]
	}
	for name, want := range map[string]string{"accelerator": `A100 "80", SXM`, "alpha": "6.97300", "alpha_low": "", "beta": "0.0270000", "beta_high": "0.0290000", "prompt_tokens": "128", "verdict": "accepted"} {
		if cells[name] != want {
			t.Errorf("%s: %q, want %q", name, cells[name], want)
		}
	}
}

func TestPrometheus(t *testing.T) {
	p := sample("A\"100\\", 6.973)
	text, err := Render("prometheus", []parameters.Parameters{p}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`llm_latency_alpha_seconds{model="unsloth/Meta-Llama-3.1-8B",accelerator="A\"100\\",prompt_tokens="128",output_tokens="128",bound="value"} 0.006973`,
		"# TYPE llm_latency_delta_seconds gauge", `llm_latency_verdict{model="unsloth/Meta-Llama-3.1-8B",accelerator="A\"100\\",prompt_tokens="128",output_tokens="128",level="accepted"} 1`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	// The textfile collector and the pushgateway read it with this parser.
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	labels := families["llm_latency_alpha_seconds"].GetMetric()[0].GetLabel()
	if name := labels[slices.IndexFunc(labels, func(l *dto.LabelPair) bool { return l.GetName() == "accelerator" })].GetValue(); name != p.Accelerator {
		t.Errorf("accelerator %q, want %q", name, p.Accelerator)
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("Prometheus' own linter: %v, %v", problems, err)
	}
}

// grid is the sample at several shapes.
func grid(prompts, outputs []int) []parameters.Parameters {
	var ps []parameters.Parameters
	for _, in := range prompts {
		for _, out := range outputs {
			p := sample("A100", 6.973)
			p.Shape = sweep.Shape{PromptTokens: in, OutputTokens: out}
			for _, n := range []float64{1, 8, 32} {
				p.Fit.Points = append(p.Fit.Points, parameters.Point{BatchSize: int(n), Batch: n, ITL: &parameters.Value{MS: p.ITLAt(n), Used: true}})
			}
			ps = append(ps, p)
		}
	}
	return ps
}

func TestDynamo(t *testing.T) {
	ps := grid([]int{256, 512, 1024, 2048}, []int{128})
	o := Options{KVTokens: map[string]int{"": 100_000}, Count: map[string]int{"": 2}}
	var notes []string
	o.Note = func(text string) { notes = append(notes, text) }
	read := func() dynamoProfile {
		t.Helper()
		text, err := Render("dynamo", ps, o)
		if err != nil {
			t.Fatal(err)
		}
		var d dynamoProfile
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := read()
	if len(d.Prefill.ISL) != 4 || len(d.Decode.ITL) != 12 || d.Decode.Tokens != 100_000 {
		t.Fatalf("%+v", d)
	}
	// The third point of the last shape: 32 requests of 2048 tokens and half of 128.
	if got, want := d.Decode.Usage[11], 32*2112/1e5; math.Abs(got-want) > 1e-12 {
		t.Errorf("KV usage %g, want %g", got, want)
	}
	if got, want := d.Decode.Thpt[11], 1e3*32/ps[3].ITLAt(32)/2; math.Abs(got/want-1) > 1e-12 {
		t.Errorf("tokens/s per GPU %g, want %g", got, want)
	}
	if !strings.Contains(strings.Join(notes, " "), "HOLDS THE PREFILL OF OTHER REQUESTS") {
		t.Errorf("without the engine model: %q", notes)
	}
	notes = nil
	o.Joint = []parameters.Joint{{Fit: fit.Engine, Model: ps[0].Model, Accelerator: "A100", Verdict: fit.Verdict{Level: fit.Accepted},
		Terms: []parameters.Term{{Name: "base", Value: 6}, {Name: "seq", Value: 0.02}, {Name: "ctx", Value: 5e-5}, {Name: "pre", Value: 0.01}}}}
	if got, want := read().Decode.ITL[11], 6+32*(0.02+5e-5*2112); math.Abs(got/want-1) > 1e-12 || !strings.Contains(strings.Join(notes, " "), "taken out") {
		t.Errorf("ITL of decode alone %g, want %g; %q", got, want, notes)
	}
	for name, tt := range map[string]struct {
		ps   []parameters.Parameters
		o    Options
		want string
	}{
		"cache":   {ps, Options{}, "--kv-tokens"},
		"prompts": {ps[:3], o, "4 prompt lengths"},
		"two":     {append(grid([]int{1}, []int{2}), sample("H100", 5)), o, "--runs-on"},
	} {
		if _, err := Render("dynamo", tt.ps, tt.o); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAIBrix(t *testing.T) {
	ps := grid([]int{256, 512}, []int{128, 256})
	slos, err := slo.Parse("ttft=200ms,itl=20ms")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{SLOs: slos}
	for i, p := range ps {
		low := float64(10 - i)
		o.Capacities = append(o.Capacities, capacity.Capacity{Model: p.Model, Accelerator: p.Accelerator, Shape: p.Shape, PricePerHour: new(2.5),
			Rate: &capacity.Estimate{Value: low + 1, Low: &low}, InFlight: &capacity.Estimate{Value: 8}, Verdict: fit.Verdict{Level: fit.Accepted}})
	}
	o.Capacities[3].Rate, o.Capacities[3].Unmet, o.Capacities[3].Verdict = nil, []string{"ttft"}, fit.Verdict{Level: fit.Refused, Reasons: []string{"no load meets it"}}
	text, err := Render("aibrix", ps, o)
	if err != nil {
		t.Fatal(err)
	}
	var a aibrixProfile
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	// Rows are outputs, columns are inputs; the shapes came inputs first.
	if a.Tputs[0][0] != 10 || a.Tputs[1][0] != 9 || a.Tputs[0][1] != 8 || a.Tputs[1][1] != 0 || a.Indexes[0][1] != 256 || a.Indexes[1][1] != 512 || a.Cost != 2.5 || *a.SLOs.TTFT != 0.2 || *a.SLOs.TPOT != 0.02 {
		t.Errorf("%+v", a)
	}
	if got, want := a.E2E[0][0], (ps[0].TTFTAt(8, 256)+127*ps[0].ITLAt(8))/1e3; math.Abs(got/want-1) > 1e-12 {
		t.Errorf("e2e %g s, want %g", got, want)
	}
	if _, err := Render("aibrix", ps[:3], o); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "512/256") {
		t.Errorf("a hole in the matrix: %v", err)
	}
	if _, err := Render("aibrix", ps, Options{}); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "--slo") {
		t.Errorf("without objectives: %v", err)
	}
}

// TestDocumented holds docs/formats.md to the formats that are written.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Formats() {
		if !strings.Contains(string(text), "\n| "+f+" | ") {
			t.Errorf("docs/formats.md has no row for %s", f)
		}
	}
}
