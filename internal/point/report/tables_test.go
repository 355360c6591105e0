package report

import (
	"strings"
	"testing"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

func TestPlainCSV(t *testing.T) {
	const table = `# measured in October
accelerator, model, prompt_tokens, output_tokens, concurrency, itl_ms, ttft_ms, itl_error_ms, ttft_error_ms, requests, note
L4, llama, 512, 256, 1, 31.2, 210, 0.1, 2, 40, first
L4, llama, 512, 256, 8, 36.5, , 0.2, , 200, no TTFT
`
	all, err := Read(strings.NewReader(table), "t.csv", Options{})
	if err != nil || len(all) != 2 {
		t.Fatalf("%d measurements, %v", len(all), err)
	}
	m := all[0]
	if m.Accelerator != "L4" || m.Model != "llama" || m.Shape != (sweep.Shape{PromptTokens: 512, OutputTokens: 256}) || m.BatchSize != 1 || m.Requests.Successful != 40 ||
		m.Taken.ITL.MS != 31.2 || m.Taken.ITL.StandardErrorMS != 0.1 || m.Taken.TTFT.MS != 210 || m.Taken.TTFT.StandardErrorMS != 2 || m.Taken.Batch != 1 {
		t.Errorf("first row: %+v", m)
	}
	if m := all[1]; len(m.Taken.Void) > 0 || !strings.Contains(strings.Join(m.Taken.VoidTTFT, ""), "no TTFT") || m.Taken.ITL.MS != 36.5 || !strings.Contains(strings.Join(m.Notes, " "), "note") {
		t.Errorf("row without TTFT: %+v", m.Taken)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"no rows":        {"concurrency,itl_ms,ttft_ms\n", "no rows"},
		"no ITL":         {"concurrency,prompt_tokens,ttft_ms\n1,2,3\n", "no column itl_ms"},
		"words":          {"concurrency,itl_ms,ttft_ms\n1,fast,3\n", `row 1, itl_ms: found "fast"`},
		"negative":       {"concurrency,itl_ms,ttft_ms\n1,-4,3\n", `found "-4"`},
		"half a request": {"concurrency,itl_ms,ttft_ms\n1.5,4,3\n", "a whole number"},
		"cells":          {"concurrency,itl_ms,ttft_ms\n1,4\n", "found 2 cells, expected 3"},
		"twice":          {"concurrency,itl_ms,itl_ms\n1,4,4\n", "comes twice"},
		"every mistake":  {"concurrency,itl_ms,ttft_ms\n1,x,3\n2,4,y\n", `row 2, ttft_ms: found "y"`},
	} {
		if _, err := Read(strings.NewReader(tt.text), "t.csv", Options{}); exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	all, err = Read(strings.NewReader("itl_ms,ttft_ms\n4,3\n"), "t.csv", Options{})
	if void := strings.Join(all[0].Taken.Void, "; "); err != nil || !strings.Contains(void, "--batch-size") || !strings.Contains(void, "--shape") {
		t.Errorf("what is not said: %q, %v", void, err)
	}
}

// TestBenchmarkReport: versions, units, and what voids a report.
func TestBenchmarkReport(t *testing.T) {
	const v02 = `
version: "0.2"
run:
  uid: a
  time: {start: "2026-10-01T10:00:00Z", end: "2026-10-01T10:02:00Z"}
scenario:
  stack:
  - metadata: {label: engine, cfg_id: x}
    native: {}
    standardized:
      kind: inference_engine
      tool: vllm
      tool_version: "0.32"
      role: replica
      replicas: 1
      model: {name: llama}
      accelerator: {model: H100, count: 1, parallelism: {tp: 1}}
  load:
    metadata: {}
    native: {}
    standardized:
      tool: vllm-benchmark
      tool_version: "0.32"
      source: random
      input_seq_len: {distribution: fixed, value: 512}
      output_seq_len: {distribution: fixed, value: 256}
      concurrency: 8
results:
  request_performance:
    aggregate:
      requests: {total: 100, failures: 4, incomplete: 0, input_length: {units: count, mean: 512}, output_length: {units: count, mean: 256}}
      latency:
        time_to_first_token: {units: s, mean: 0.05, stddev: 0.01}
        time_per_output_token: {units: s/token, mean: 0.0121, stddev: 0.0004}
        inter_token_latency: {units: s/token, mean: 0.5}
        request_latency: {units: s, mean: 3.1}
      throughput: {request_rate: {units: queries/s, mean: 2.5}}
`
	all, err := Read(strings.NewReader(v02), "r.yaml", Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := all[0]
	if len(m.Taken.Void) > 0 || m.Model != "llama" || m.Accelerator != "H100" || m.BatchSize != 8 || m.Shape != (sweep.Shape{PromptTokens: 512, OutputTokens: 256}) ||
		round(m.Taken.ITL.MS) != 12.1 || m.Taken.TTFT.MS != 50 || round(m.Taken.Batch) != 7.75 || m.Requests.Successful != 96 || m.Requests.Errored != 4 || m.Seconds != 120 {
		t.Errorf("0.2: %+v, %+v", m, m.Taken)
	}
	// 96 requests, 7.75 together: an error of 12.4 of them.
	if e := round(m.Taken.ITL.StandardErrorMS); e != 0.114 {
		t.Errorf("standard error of ITL: %g ms", e)
	}
	const v01 = `
version: "0.1"
scenario:
  model: {name: llama}
  host: {type: [replica], accelerator: [{model: H100, memory: 80, count: 1, parallelism: {dp: 1, tp: 1, pp: 1, ep: 1}}]}
  load: {name: inference-perf}
metrics:
  time: {start: 1760000000, stop: 1760000060, duration: 60}
  requests: {total: 50, input_length: {units: count, mean: 128, min: 128, max: 128}, output_length: {units: count, mean: 64, min: 64, max: 64}}
  latency:
    time_to_first_token: {units: ms, mean: 21, stddev: 3}
    inter_token_latency: {units: ms/token, mean: 8.1, stddev: 0.4}
    request_latency: {units: ms, mean: 530}
  throughput: {requests_per_sec: 1.9}
`
	all, err = Read(strings.NewReader(v01), "r.yaml", Options{BatchSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	if m := all[0]; len(m.Taken.Void) > 0 || m.Model != "llama" || m.Accelerator != "H100" || m.Shape != (sweep.Shape{PromptTokens: 128, OutputTokens: 64}) || m.Taken.ITL.MS != 8.1 || m.StartedAt != 1760000000 {
		t.Errorf("0.1: %+v, %+v", m, m.Taken)
	}
	// 0.1 need not say when it began, and in the first of 0.2 a part's kind stands elsewhere
	// and the time is that of all stages.
	all, err = Read(strings.NewReader(strings.Replace(v01, "start: 1760000000, stop: 1760000060, ", "", 1)), "r.yaml", Options{BatchSize: 1})
	if err != nil || all[0].Seconds != 60 || all[0].StartedAt != 0 {
		t.Errorf("0.1 without a start: %+v, %v", all, err)
	}
	const early = `
version: '0.2'
run: {uid: a, time: {start: 2025-11-05T18:00:42Z, end: 2025-11-05T18:17:03Z, duration: PT49.97206788184121S}}
scenario:
  stack:
  - metadata: {kind: inference_engine, schema_version: 0.0.1, label: vllm-svc-0}
    standardized: {tool: llm-d, tool_version: x, role: aggregate, model: {name: llama}, accelerator: {model: H100, count: 8}}
  - metadata: {kind: generic, schema_version: 0.0.1, label: epp-0}
    standardized: {tool: llm-d-inference-scheduler, tool_version: x}
  load: {standardized: {tool: inference-perf, tool_version: 0.3.0, stage: 3, concurrency: 4}}
results:
  request_performance:
    aggregate:
      requests: {total: 500, failures: 0, input_length: {units: count, mean: 64, min: 64, max: 64}, output_length: {units: count, mean: 32, min: 32, max: 32}}
      latency: {time_to_first_token: {units: s, mean: 0.03, stddev: 0.001}, time_per_output_token: {units: s/token, mean: 0.012, stddev: 0.001}, request_latency: {units: s, mean: 0.4}}
`
	all, err = Read(strings.NewReader(early), "r.yaml", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m := all[0]; len(m.Taken.Void) > 0 || m.Model != "llama" || m.Accelerator != "H100" || m.BatchSize != 4 || round(m.Seconds) != 49.972 {
		t.Errorf("early 0.2: %+v, %+v", m, m.Taken)
	}
	for name, tt := range map[string]struct{ old, to, want string }{
		"replicas": {"replicas: 1", "replicas: 3", "3 servers together"},
		"units":    {"units: s/token, mean: 0.0121", "units: furlong, mean: 0.0121", "no unit of time"},
		"nothing":  {"total: 100, failures: 4", "total: 4, failures: 4", "none of 4 requests succeeded"},
		"open":     {"concurrency: 8", "rate_qps: 2.5", "does not say how"},
	} {
		all, err := Read(strings.NewReader(strings.Replace(v02, tt.old, tt.to, 1)), "r.yaml", Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		taken := all[0].Taken
		if void := strings.Join(taken.Void, "; "); !strings.Contains(void, tt.want) {
			t.Errorf("%s: %q", name, void)
		}
	}
	if _, err := Read(strings.NewReader(strings.Replace(v02, `"0.2"`, `"0.9"`, 1)), "r.yaml", Options{}); exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), `version "0.9"`) {
		t.Errorf("version of the future: %v", err)
	}
	if _, err := Read(strings.NewReader(v02[:700]+"\n  {"), "r.yaml", Options{}); exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), "YAML") {
		t.Errorf("cut off: %v", err)
	}
}
