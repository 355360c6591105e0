package aggregate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/tests/schematest"
)

var (
	shape    = sweep.Shape{PromptTokens: 128, OutputTokens: 128}
	sizes    = []int{1, 2, 4, 8, 16, 32, 64}
	defaults = Options{Method: fit.WLS, Source: measurement.Auto, TTFT: measurement.Auto, Batch: measurement.Auto}
)

// measured is a point of a server with ITL = alpha + 0.03*batch and
// TTFT = 15 + 0.0011*prompt*batch.
func measured(accelerator string, shape sweep.Shape, batch int, alpha float64) measurement.Measurement {
	b := float64(batch)
	itl, ttft := alpha+0.03*b, 15+0.0011*float64(shape.PromptTokens)*b
	seconds := 60.0
	requests := int(1000 * seconds * b / (ttft + itl*float64(shape.OutputTokens-1)))
	w := func(basis string, tilt float64) *measurement.Witness {
		return &measurement.Witness{
			ITL:   &measurement.Estimate{MeanMS: itl, StandardErrorMS: 0.001 * itl, Blocks: 10, Samples: requests},
			TTFT:  &measurement.Estimate{MeanMS: ttft * tilt, MedianMS: ttft * tilt, StandardErrorMS: 0.003 * ttft, Blocks: 10, Samples: requests},
			Batch: b, Requests: requests, WindowSeconds: seconds, Basis: basis,
		}
	}
	return measurement.Measurement{
		Schema: measurement.Schema, Model: "org/model", Accelerator: accelerator, Shape: shape, BatchSize: batch,
		Client: w(measurement.BasisRows, 1.05), Server: w(measurement.BasisHistograms, 1),
		Requests: measurement.Requests{Successful: requests}, PromptTokens: float64(shape.PromptTokens), OutputTokens: float64(shape.OutputTokens),
		Driver: measurement.Driver{Name: "native", Version: "1"}, StartedAt: 1.7e9 + 100*b, Seconds: seconds, OverheadSeconds: 5,
		Provenance: measurement.Provenance{Instance: record.Instance{GPU: "NVIDIA A100"}},
	}
}

func series(accelerator string, alpha float64, edit func(*measurement.Measurement)) []Source {
	var all []Source
	for _, b := range sizes {
		m := measured(accelerator, shape, b, alpha)
		if edit != nil {
			edit(&m)
		}
		all = append(all, Source{Measurement: m, File: fmt.Sprintf("%s-b%d.json", accelerator, b)})
	}
	return all
}

// run puts measurements where a run keeps them.
func run(t *testing.T, dir string, sources []Source) {
	t.Helper()
	for _, s := range sources {
		data, err := measurement.Encode(s.Measurement)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, s.Accelerator, layout.Measurements, sweep.Point{Shape: s.Shape, BatchSize: s.BatchSize}.Name()+".json")
		write(t, name, data)
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestEstimate(t *testing.T) {
	var in Inputs
	in.Measurements = append(series("H100", 4, nil), series("A100", 7, nil)...)
	slices.Reverse(in.Measurements)
	s := Estimate(in, defaults)
	if s.Verdict != fit.Accepted || len(s.Parameters) != 2 || s.Parameters[0].Accelerator != "A100" {
		t.Fatalf("%+v", s)
	}
	p := s.Parameters[0]
	for name, want := range map[string]float64{"alpha": 7, "beta": 0.03, "gamma": 15, "delta": 0.0011} {
		if value, low, high, ok := p.Parameter(name); !ok || value/want-1 > 1e-6 || 1-value/want > 1e-6 || low > want || high < want {
			t.Errorf("%s: %v [%v, %v], want %v", name, value, low, high, want)
		}
	}
	if *p.ITLSynchronous != 7.03 || *p.ITLThroughput != 8.92 || p.BatchSize != 64 || p.InputTokens != 128 {
		t.Errorf("%v %v at %v, %v tokens", *p.ITLSynchronous, *p.ITLThroughput, p.BatchSize, p.InputTokens)
	}
	first := p.Fit.Points[0]
	if first.BatchSize != 1 || !first.ITL.Used || first.TTFT.Used || len(first.LeftOut) != 1 || first.ITL.From != "client" || first.TTFT.From != "server" {
		t.Errorf("%+v", first)
	}
	if s.Totals.Points != 14 || s.Totals.Seconds != 840 || s.Totals.OverheadSeconds != 70 {
		t.Errorf("%+v", s.Totals)
	}
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	schematest.Validate(t, "../parameters/summary.schema.json", data)
}

func TestVerdictsOfPoints(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(*measurement.Measurement)
		o     Options
		level fit.Level
		says  string
	}{
		{"good", nil, defaults, fit.Accepted, ""},
		{"another GPU", func(m *measurement.Measurement) {
			if m.BatchSize > 8 {
				m.Provenance.GPU = "NVIDIA A100 80GB"
			}
		}, defaults, fit.Warned, "differ in their GPU: NVIDIA A100, NVIDIA A100 80GB"},
		{"errors", func(m *measurement.Measurement) {
			m.Requests.Errored, m.Requests.Errors = 9, map[string]int{"HTTP 500": 8, "timeout": 1}
		}, defaults, fit.Warned, "requests failed (8 times HTTP 500)"},
		{"interrupted", func(m *measurement.Measurement) { m.Partial = m.BatchSize == 64 }, defaults, fit.Warned, "batch 64: interrupted"},
		{"batch never reached", func(m *measurement.Measurement) {
			if m.BatchSize == 64 {
				m.Client.Batch, m.Server.Batch = 50, 50
			}
		}, defaults, fit.Warned, "batch 64: 50 requests ran together"},
		{"client's TTFT off and taken", func(m *measurement.Measurement) { m.Client.TTFT.MeanMS *= 1.3; m.Client.TTFT.MedianMS *= 1.3 },
			Options{Method: fit.WLS, Source: measurement.Client, TTFT: measurement.Auto, Batch: measurement.Auto}, fit.Warned, "more CPU"},
		{"queue at the largest", func(m *measurement.Measurement) {
			if m.BatchSize == 64 {
				m.Server.QueueMS = new(500.0)
				m.Server.TTFT.MeanMS += 500
			}
		}, defaults, fit.Warned, "batch 64 is left out: requests queued"},
		{"another length than the label's", func(m *measurement.Measurement) { m.OutputTokens = 40 }, defaults, fit.Refused, "had 40 tokens"},
		{"a somewhat other length", func(m *measurement.Measurement) { m.OutputTokens = 110 }, defaults, fit.Warned, "110 tokens"},
		{"foreign traffic everywhere", func(m *measurement.Measurement) { m.Server.Requests *= 2 }, defaults, fit.Refused, "somebody else"},
		{"seconds", func(m *measurement.Measurement) {
			for _, e := range []*measurement.Estimate{m.Client.ITL, m.Client.TTFT, m.Server.ITL, m.Server.TTFT} {
				e.MeanMS /= 1000
				e.MedianMS /= 1000
			}
		}, defaults, fit.Refused, "look like seconds"},
	} {
		s := Estimate(Inputs{Measurements: series("A100", 7, c.edit)}, c.o)
		v := s.Parameters[0].Verdict
		if v.Level != c.level || !strings.Contains(strings.Join(v.Reasons, "\n"), c.says) {
			t.Errorf("%s: %s %q", c.name, v.Level, v.Reasons)
		}
		if _, err := s.Encode(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestQueuedPointCountsForITLOnly(t *testing.T) {
	in := Inputs{Measurements: series("A100", 7, func(m *measurement.Measurement) {
		if m.BatchSize == 64 {
			m.Server.QueueMS, m.Server.TTFT.MeanMS = new(1700.0), 1800
		}
	})}
	p := Estimate(in, defaults).Parameters[0]
	last := p.Fit.Points[len(p.Fit.Points)-1]
	if !last.ITL.Used || last.TTFT.Used || p.TTFTThroughput != nil || !strings.Contains(strings.Join(last.LeftOut, " "), "queued") || p.Fit.Diagnostics.TTFT.LinearTo != 32 {
		t.Errorf("%+v, ttft_throughput %v", last, p.TTFTThroughput)
	}
	var text bytes.Buffer
	if err := Print(&text, Estimate(in, defaults), true); err != nil || !strings.Contains(text.String(), "batch 64 left out: TTFT: requests queued for 1.7e+03 ms") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

func TestTheSamePointTwice(t *testing.T) {
	fresh := series("A100", 7, nil)
	// Runs that agree are all used; the fit says how far they do.
	again := series("A100", 7.03, func(m *measurement.Measurement) { m.StartedAt += 1e4 })
	s := Estimate(Inputs{Measurements: append(slices.Clone(fresh), again...)}, defaults)
	if p := s.Parameters[0]; *p.Alpha < 7.005 || *p.Alpha > 7.03 || len(p.Fit.Points) != 14 || p.Fit.Diagnostics.ITL.PointsUsed != 14 || len(s.Notes) != 0 {
		t.Errorf("alpha %v of %d points, notes %q", *p.Alpha, p.Fit.Diagnostics.ITL.PointsUsed, s.Notes)
	}
	// One run, and what overlaps with it in time, is there once.
	same := series("A100", 7, func(m *measurement.Measurement) { m.StartedAt += 0.5 })
	if s := Estimate(Inputs{Measurements: append(slices.Clone(fresh), same...)}, defaults); len(s.Parameters[0].Fit.Points) != 7 || len(s.Notes) != 7 || !strings.Contains(s.Notes[0], "measured twice") {
		t.Errorf("%d points, notes %q", len(s.Parameters[0].Fit.Points), s.Notes)
	}
	old := series("A100", 9, func(m *measurement.Measurement) { m.StartedAt -= 0.5 })
	// A measurement beats a raw report; what can be used beats what cannot.
	for i := range fresh {
		fresh[i].Report = true
	}
	if a := *Estimate(Inputs{Measurements: append(slices.Clone(fresh), old...)}, defaults).Parameters[0].Alpha; a < 8.99 {
		t.Errorf("alpha %v of newer reports", a)
	}
	for i := range old {
		old[i].Taken.Void = []string{"all failed"}
	}
	if a := *Estimate(Inputs{Measurements: append(slices.Clone(fresh), old...)}, defaults).Parameters[0].Alpha; a > 7.01 {
		t.Errorf("alpha %v of what failed", a)
	}
}

func TestLoadFindsEverythingOnce(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	run(t, dir, append(series("A100", 7, nil), series("H100", 4, nil)...))
	write(t, filepath.Join(dir, "A100", layout.Reports, "128-128", "b8.json"), []byte(`{"benchmarks": []}`))
	write(t, filepath.Join(dir, "notes.json"), []byte(`{"mine": true}`))
	write(t, filepath.Join(dir, "log.txt"), []byte("hello"))
	in, skipped, err := Load(ctx, []string{dir}, dir, &report.Options{Accelerator: "A100"})
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Measurements) != 14 || len(skipped) != 1 || !strings.Contains(skipped[0], "notes.json") {
		t.Fatalf("%d measurements, skipped %q", len(in.Measurements), skipped)
	}
	out, err := store.New(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	s := Estimate(in, defaults)
	if err := Write(ctx, s, out, out); err != nil {
		t.Fatal(err)
	}

	// Once more over its own results: nothing changes.
	in, _, err = Load(ctx, []string{dir}, dir, &report.Options{})
	if err != nil {
		t.Fatal(err)
	}
	again := Estimate(in, defaults)
	if first, second := encode(t, s), encode(t, again); first != second {
		t.Errorf("a second run over the same files differs:\n%s\n%s", first, second)
	}

	// The last node of a workflow has one summary per accelerator, and no more.
	sums := t.TempDir()
	for _, a := range []string{"A100", "H100"} {
		part := Estimate(Inputs{Measurements: series(a, map[string]float64{"A100": 7, "H100": 4}[a], nil)}, defaults)
		write(t, filepath.Join(sums, a+".json"), []byte(encode(t, part)))
	}
	in, _, err = Load(ctx, []string{sums}, sums, &report.Options{})
	if err != nil {
		t.Fatal(err)
	}
	merged := Estimate(in, defaults)
	for i := range s.Parameters { // files are elsewhere
		for j := range s.Parameters[i].Fit.Points {
			s.Parameters[i].Fit.Points[j].Source, merged.Parameters[i].Fit.Points[j].Source = "", ""
		}
	}
	if encode(t, merged) != encode(t, s) {
		t.Error("summaries merged differ from the sweep as a whole")
	}

	// Sorted by another tool, the schema is not in front.
	data := encode(t, s)
	rest, _ := strings.CutPrefix(data, "{\n  \"schema\": \"wfgen.dev/summary/v1\",")
	write(t, filepath.Join(sums, "sorted.json"), []byte("{"+strings.TrimSuffix(strings.TrimSpace(rest), "}")+`, "schema": "wfgen.dev/summary/v1"}`))
	in, skipped, err = Load(ctx, []string{filepath.Join(sums, "sorted.json")}, "", nil)
	if err != nil || len(in.Parameters) != 2 {
		t.Errorf("%v, skipped %q", err, skipped)
	}
}

func TestLoadErrors(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	cut := filepath.Join(dir, "cut.json")
	write(t, cut, []byte(`{"schema": "wfgen.dev/measurement/v1", "model": `))
	empty := filepath.Join(dir, "empty.json")
	write(t, empty, nil)
	for _, c := range []struct {
		location string
		o        *report.Options
		code     int
		says     string
	}{
		{filepath.Join(dir, "missing.json"), &report.Options{}, exit.Usage, "no such file"},
		{cut, &report.Options{}, exit.Refused, "cut.json: not a measurement"},
		{empty, &report.Options{}, exit.Refused, "empty.json"},
		{empty, nil, exit.Refused, "step aggregate"},
	} {
		_, _, err := Load(ctx, []string{c.location}, "", c.o)
		if exit.Code(err) != c.code || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: code %d, %v", c.location, exit.Code(err), err)
		}
	}
	if in, skipped, err := Load(ctx, []string{dir}, "", &report.Options{}); err != nil || len(skipped) != 2 || len(in.Measurements) != 0 {
		t.Errorf("in a directory: %v, skipped %q", err, skipped)
	}
}

func TestExpectation(t *testing.T) {
	o := defaults
	o.Expect = []string{"A100", "H100"}
	s := Estimate(Inputs{Measurements: series("A100", 7, nil)}, o)
	if s.Verdict != fit.Refused || len(s.Failures) != 1 || s.Failures[0].Accelerator != "H100" || !strings.Contains(Refusals(s), "H100: no measurement") {
		t.Errorf("%+v", s.Failures)
	}
	// Fixed: the failure that an earlier summary told of is gone.
	s = Estimate(Inputs{Measurements: append(series("A100", 7, nil), series("H100", 4, nil)...), Failures: s.Failures}, o)
	if s.Verdict != fit.Accepted || len(s.Failures) != 0 {
		t.Errorf("%+v", s.Failures)
	}
}

func TestWrite(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	out, err := store.New(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	read := func(key string) string {
		r, err := out.Open(ctx, key)
		if err != nil {
			return ""
		}
		defer r.Close()
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	good := Estimate(Inputs{Measurements: series("A100", 7, nil)}, defaults)
	if err := Write(ctx, good, out, out); err != nil {
		t.Fatal(err)
	}
	const latest = "latest/org--model/A100/128-128.json"
	if read("parameters.json") == "" || read("parameters.json") != read("A100/parameters/128-128.json") || read("parameters.json") != read(latest) {
		t.Error("parameters.json, A100/parameters/128-128.json and latest differ")
	}
	if read("outputs/alpha") != "7.00000" || read("outputs/delta") != "0.00110000" || read("outputs/verdict") != "accepted" || read("outputs/reasons") != "" {
		t.Errorf("alpha %q, delta %q, verdict %q, reasons %q", read("outputs/alpha"), read("outputs/delta"), read("outputs/verdict"), read("outputs/reasons"))
	}
	if !strings.HasPrefix(read("outputs/parameters"), `[{"model":"org/model","accelerator":"A100","shape":"128/128","verdict":"accepted","alpha":`) {
		t.Error(read("outputs/parameters"))
	}
	before := read(latest)

	// A refused verdict leaves no number, and latest as it was.
	bad := Estimate(Inputs{Measurements: series("A100", 7, func(m *measurement.Measurement) { m.Server.Preemptions = new(3.0) })}, defaults)
	if err := Write(ctx, bad, out, out); err != nil {
		t.Fatal(err)
	}
	if read("outputs/alpha") != "" || read("outputs/verdict") != "refused" || !strings.Contains(read("outputs/reasons"), "evicted") || read(latest) != before {
		t.Errorf("alpha %q, verdict %q, reasons %q", read("outputs/alpha"), read("outputs/verdict"), read("outputs/reasons"))
	}
	p, err := parameters.Decode(strings.NewReader(read("parameters.json")), "p")
	if err != nil || p.Alpha != nil || p.Fit.Intervals.Alpha != nil || p.Fit.Points[0].ITL.PredictedMS != nil {
		t.Errorf("%v %+v", err, p)
	}
	schematest.Validate(t, "../parameters/parameters.schema.json", []byte(read("parameters.json")))

	// Two shapes: the outputs are those of the first that was asked for.
	var in Inputs
	for _, b := range sizes {
		in.Measurements = append(in.Measurements, Source{Measurement: measured("A100", shape, b, 7)},
			Source{Measurement: measured("A100", sweep.Shape{PromptTokens: 1024, OutputTokens: 128}, b, 8)})
	}
	o := defaults
	o.Shapes = []sweep.Shape{{PromptTokens: 1024, OutputTokens: 128}}
	if outputs, err := Outputs(Estimate(in, o)); err != nil || outputs["alpha"] != "8.00000" {
		t.Errorf("%v %v", err, outputs["alpha"])
	}
	// Two accelerators have no alpha in common.
	in.Measurements = append(series("A100", 7, nil), series("H100", 4, nil)...)
	if outputs, err := Outputs(Estimate(in, defaults)); err != nil || outputs["alpha"] != "" {
		t.Errorf("%v %v", err, outputs["alpha"])
	}
}

func encode(t *testing.T, s parameters.Summary) string {
	t.Helper()
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
