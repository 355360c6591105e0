package report

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// The files under testdata/tools are of real tools, each against a server whose law
// is known: ITL = 10 + 0.5*n, TTFT = 30 + 0.01*64*n ms, 64/32 tokens.

// openTool opens a file of the directory, as if it were not compressed.
func openTool(_ context.Context, name string) (io.ReadCloser, error) {
	f, err := os.Open(filepath.FromSlash(name) + ".gz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(z)
	return io.NopCloser(bytes.NewReader(data)), err
}

func readTool(t *testing.T, name string, o Options) ([]measurement.Measurement, error) {
	t.Helper()
	name = "testdata/tools/" + name
	f, err := openTool(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if o.Beside == nil {
		o.Beside = BesidePath(t.Context(), name, openTool)
	}
	return Read(f, name, o)
}

func alone(string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }

func TestTools(t *testing.T) {
	given := Options{Accelerator: "A100"}
	named := Options{Accelerator: "A100", Model: "sim"}
	batch := func(o Options, n int) Options { o.BatchSize = n; return o }
	for name, tt := range map[string]struct {
		o       Options
		batches []int
		basis   string
	}{
		"aiperf-0.13.0/concurrency_1/profile_export.jsonl":              {given, []int{1}, measurement.BasisRows},
		"aiperf-0.13.0/concurrency_4/profile_export.jsonl":              {given, []int{4}, measurement.BasisRows},
		"aiperf-0.13.0/concurrency_8/profile_export_aiperf.json":        {given, []int{8}, measurement.BasisRows},
		"aiperf-0.13.0/concurrency_4/profile_export_aiperf.csv":         {batch(named, 4), []int{4}, measurement.BasisSummary},
		"aiperf-0.11.0/concurrency_4/profile_export.jsonl":              {given, []int{4}, measurement.BasisRows},
		"aiperf-0.11.0/concurrency_4/profile_export_aiperf.json":        {given, []int{4}, measurement.BasisRows},
		"aiperf-0.11.0/concurrency_4/profile_export_aiperf.csv":         {batch(named, 4), []int{4}, measurement.BasisSummary},
		"aiperf-0.12.0/concurrency_4/profile_export.jsonl":              {given, []int{4}, measurement.BasisRows},
		"aiperf-0.12.0/concurrency_4/profile_export_aiperf.json":        {given, []int{4}, measurement.BasisRows},
		"aiperf-0.12.0/concurrency_4/profile_export_aiperf.csv":         {batch(named, 4), []int{4}, measurement.BasisSummary},
		"genai-perf-0.0.16/concurrency4/profile_export_genai_perf.json": {given, []int{4}, measurement.BasisSummary},
		"genai-perf-0.0.16/concurrency4/profile_export_genai_perf.csv":  {batch(named, 4), []int{4}, measurement.BasisSummary},
		"vllm-0.32.0/det-1.json":                                        {given, []int{1}, measurement.BasisRows},
		"vllm-0.32.0/det-4.json":                                        {given, []int{4}, measurement.BasisRows},
		"sglang-0.5.6/sgl-det.jsonl":                                    {named, []int{1, 4, 8}, measurement.BasisRows},
		"inference-perf-0.7.0/per_request_lifecycle_metrics.json":       {given, []int{1, 4, 8}, measurement.BasisRows},
		"inference-perf-0.7.0/stage_1_lifecycle_metrics.json":           {given, []int{4}, measurement.BasisSummary},
		"inference-perf-0.7.0/inference-perf.partial.stage_2.yaml":      {batch(named, 8), []int{8}, measurement.BasisSummary},
		"guidellm-0.8.1/r.json":                                         {given, []int{1, 4, 8}, measurement.BasisSummary},
		"guidellm-0.8.1/r.yaml":                                         {given, []int{1, 4, 8}, measurement.BasisSummary},
		"guidellm-0.8.1/r.csv":                                          {given, []int{1, 4, 8}, measurement.BasisSummary},
		"guidellm-0.3.1/r.html":                                         {given, []int{1, 4, 8}, measurement.BasisSummary},
		"guidellm-0.5.4/r.html":                                         {named, []int{1, 4, 8}, measurement.BasisSummary},
		"guidellm-0.6.1/r.html":                                         {named, []int{1, 4, 8}, measurement.BasisSummary},
		"guidellm-0.7.3/r.html":                                         {named, []int{1, 4, 8}, measurement.BasisSummary},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := readTool(t, name, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			if len(all) != len(tt.batches) {
				t.Fatalf("%d measurements, want %d", len(all), len(tt.batches))
			}
			for i, m := range all {
				if len(m.Taken.Void) > 0 || m.Taken.ITL == nil || m.Taken.TTFT == nil {
					t.Fatalf("void: %q, %q", m.Taken.Void, m.Taken.VoidTTFT)
				}
				if m.BatchSize != tt.batches[i] || m.Model != "sim" || m.Shape != (sweep.Shape{PromptTokens: 64, OutputTokens: 32}) || m.Client.Basis != tt.basis {
					t.Errorf("batch %d of %q at %s, made of %s", m.BatchSize, m.Model, m.Shape, m.Client.Basis)
				}
				n := m.Taken.Batch
				within := func(name string, v *measurement.Value, want, systematic float64) {
					if off := math.Abs(v.MS - want); off > 4*v.StandardErrorMS+systematic*want || v.StandardErrorMS <= 0 {
						t.Errorf("batch %d, %s: %.4g ± %.2g ms, truth %.4g", m.BatchSize, name, v.MS, v.StandardErrorMS, want)
					}
				}
				// Two cores that were shared: the client is late.
				within("ITL", m.Taken.ITL, 10+0.5*n, 0.02)
				within("TTFT", m.Taken.TTFT, 30+0.01*64*n, 0.12)
				if _, err := measurement.Encode(m); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestToolsOpenLoop: requests that a tool sent at a rate are an open loop.
func TestToolsOpenLoop(t *testing.T) {
	all, err := readTool(t, "aiperf-0.13.0/rate/profile_export.jsonl", Options{Accelerator: "A100"})
	if err != nil {
		t.Fatal(err)
	}
	m := all[0]
	if m.Open == nil || m.Open.Rate != 8 || m.Open.Arrivals != sweep.Poisson || len(m.Taken.Void) > 0 || m.Taken.ITL == nil {
		t.Fatalf("%+v, %+v", m.Open, m.Taken)
	}
	if law := 10 + 0.5*m.Taken.Batch; math.Abs(m.Taken.ITL.MS-law) > 4*m.Taken.ITL.StandardErrorMS+0.02*law {
		t.Errorf("ITL %.4g ms at a batch of %.3g, truth %.4g", m.Taken.ITL.MS, m.Taken.Batch, law)
	}
	all, err = readTool(t, "aiperf-0.13.0/rate/profile_export_aiperf.json", Options{Accelerator: "A100", Beside: alone})
	if err != nil || !strings.Contains(strings.Join(all[0].Taken.Void, ""), "open loop") {
		t.Errorf("its statistics alone: %+v, %v", all, err)
	}
}

// TestAskedByFlag: what a file does not say is asked for, by the flag's name.
func TestAskedByFlag(t *testing.T) {
	for name, tt := range map[string]struct {
		o    Options
		want string
	}{
		"aiperf-0.13.0/concurrency_1/profile_export.jsonl":         {Options{Beside: alone}, "--batch-size"},
		"aiperf-0.13.0/concurrency_4/profile_export_aiperf.csv":    {Options{}, "--batch-size"},
		"inference-perf-0.7.0/inference-perf.partial.stage_1.yaml": {Options{}, "--batch-size"},
	} {
		all, err := readTool(t, name, tt.o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if void := strings.Join(all[0].Taken.Void, "; "); !strings.Contains(void, tt.want) {
			t.Errorf("%s: void %q, want %s", name, void, tt.want)
		}
	}
	if _, err := readTool(t, "inference-perf-0.7.0/per_request_lifecycle_metrics.json", Options{Beside: alone}); err == nil || !strings.Contains(err.Error(), "config.yaml") {
		t.Errorf("requests of several stages without config.yaml: %v", err)
	}
	if _, err := readTool(t, "guidellm-0.8.1/r.html", Options{}); exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), "p95 and p99") {
		t.Errorf("HTML of 0.8: %v", err)
	}
}

// TestAIPerfPhases: what a warm-up is called differs between versions.
func TestAIPerfPhases(t *testing.T) {
	const export = `{"aiperf_version":"0.11.0","input_config":{"models":{"items":[{"name":"m"}]},"datasets":[{"prompts":{"isl":{"mean":64},"osl":{"mean":32}}}],"phases":[PHASES]},
		"request_count":{"unit":"requests","avg":10},"request_throughput":{"unit":"requests/sec","avg":5},"request_latency":{"unit":"ms","avg":400},
		"inter_token_latency":{"unit":"ms","avg":11,"std":0.2},"time_to_first_token":{"unit":"ms","avg":30,"std":2}}`
	for name, tt := range map[string]struct{ phases, void string }{
		"0.11":     {`{"name":"warmup","type":"concurrency","exclude_from_results":true,"concurrency":1},{"name":"profiling","type":"concurrency","concurrency":2}`, ""},
		"0.13":     {`{"kind":"warmup","concurrency":1},{"kind":"profiling","concurrency":2}`, ""},
		"two":      {`{"kind":"profiling","concurrency":1},{"kind":"profiling","concurrency":2}`, "several profiling phases"},
		"a rate":   {`{"kind":"profiling","type":"poisson","rate":5}`, "whole open loop"},
		"in gamma": {`{"kind":"profiling","type":"gamma","rate":5}`, "only poisson and constant"},
	} {
		all, err := Read(strings.NewReader(strings.Replace(export, "PHASES", tt.phases, 1)), "profile_export_aiperf.json", Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m := all[0]
		if void := strings.Join(m.Taken.Void, "; "); !strings.Contains(void, tt.void) || tt.void == "" && (void != "" || m.BatchSize != 2 || m.Model != "m" || m.Taken.Batch != 2) {
			t.Errorf("%s: batch %d (%g), void %q", name, m.BatchSize, m.Taken.Batch, void)
		}
	}
}

// TestToolsCut: a file that ends early is refused, or, where its lines stand for
// themselves, gives no more than it holds.
func TestToolsCut(t *testing.T) {
	o := Options{Accelerator: "A100", Model: "sim", BatchSize: 4, Shape: sweep.Shape{PromptTokens: 64, OutputTokens: 32}, Beside: alone}
	for _, name := range []string{
		"aiperf-0.13.0/concurrency_4/profile_export.jsonl", "aiperf-0.13.0/concurrency_4/profile_export_aiperf.json",
		"vllm-0.32.0/det-4.json", "sglang-0.5.6/sgl-det.jsonl",
		"inference-perf-0.7.0/per_request_lifecycle_metrics.json", "inference-perf-0.7.0/stage_1_lifecycle_metrics.json",
		"guidellm-0.8.1/r.json",
	} {
		f, err := openTool(t.Context(), "testdata/tools/"+name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, share := range []float64{0.31, 0.77} {
			_, err := Read(bytes.NewReader(data[:int(share*float64(len(data)))]), name, o)
			if exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), "cut off") {
				t.Errorf("%s, %.0f %% of it: %v", name, 100*share, err)
			}
		}
		broken := errors.New("connection reset")
		_, err = Read(io.MultiReader(bytes.NewReader(data[:len(data)/2]), &breaks{broken}), name, o)
		if exit.Code(err) != exit.TryAgain || !errors.Is(err, broken) {
			t.Errorf("%s, a connection that breaks: %v", name, err)
		}
	}
}

type breaks struct{ err error }

func (f *breaks) Read([]byte) (int, error) { return 0, f.err }

func TestCompanions(t *testing.T) {
	keys := []string{
		"a/profile_export.jsonl", "a/profile_export_aiperf.json", "a/profile_export_aiperf.csv", "a/inputs.json", "a/phases/warmup/profile_export_aiperf.json",
		"a/aggregate/c/profile_export_aiperf_aggregate.json", "b/profile_export_aiperf.json",
		"i/per_request_lifecycle_metrics.json", "i/stage_0_lifecycle_metrics.json", "i/summary_lifecycle_metrics.json", "i/config.yaml",
		"j/stage_0_lifecycle_metrics.json", "j/stage_1_lifecycle_metrics.json", "j/summary_lifecycle_metrics.json",
		"g/benchmarks.json", "g/benchmarks.csv", "h/benchmarks.csv",
		"v/BENCH-a/run=0.json", "v/BENCH-a/run=1.json", "v/BENCH-a/summary.json", "v/BENCH-a/warmup.json", "v/BENCH-b/run=0.failure.json", "v/BENCH-b/run=1.json",
		"v/summary.csv", "v/benchmarks.json", "w/summary.json", "x/report.yaml",
	}
	want := map[string]bool{
		"a/profile_export.jsonl": true, "b/profile_export_aiperf.json": true, "i/per_request_lifecycle_metrics.json": true,
		"j/stage_0_lifecycle_metrics.json": true, "j/stage_1_lifecycle_metrics.json": true, "g/benchmarks.json": true, "h/benchmarks.csv": true,
		"v/BENCH-a/run=0.json": true, "v/BENCH-a/run=1.json": true, "v/BENCH-b/run=1.json": true, "v/benchmarks.json": true, "w/summary.json": true, "x/report.yaml": true,
	}
	again := Companions(keys)
	for _, key := range keys {
		if again(key) == want[key] {
			t.Errorf("%s: said again %v", key, again(key))
		}
	}
}

func TestBareNumbers(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":Infinity,"b":-Infinity,"c":NaN,"d":"NaN \" Infinity\\","e":-1}`: `{"a":null,"b":null,"c":null,"d":"NaN \" Infinity\\","e":-1}`,
		`[Infinite]`: `[Infinite]`,
		`-`:          `-`,
	} {
		// However the text is cut, the same comes out.
		for size := 1; size < 8; size++ {
			got, err := io.ReadAll(newBareNumbers(&pieces{data: []byte(in), size: size}))
			if err != nil || string(got) != want {
				t.Errorf("in pieces of %d: %s, %v; want %s", size, got, err, want)
			}
		}
	}
}

// pieces gives a few bytes at a time.
type pieces struct {
	data []byte
	size int
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(to, p.data[:min(p.size, len(p.data))])
	p.data = p.data[n:]
	return n, nil
}
