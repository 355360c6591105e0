package report

import (
	"bytes"
	"io"
	"runtime"
	"testing"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// FuzzRead (run it with -fuzzminimizetime 10x: the seeds are long): whatever comes, the
// answer is measurements that can be stored, or a refusal.
func FuzzRead(f *testing.F) {
	f.Add(content(f, "worked-example/throughput.json"))
	f.Add(content(f, "v0.7.3-nousage.json.gz"))
	f.Add(content(f, "v0.6.1-some500.json.gz"))
	f.Add([]byte(`{"schema":"wfgen.dev/report/v1","shape":{"prompt_tokens":1,"output_tokens":2},"batch_size":1,"requests":[` +
		`{"start":1,"first_token_ms":2,"end_ms":4,"gaps_us":[2000],"output_tokens":2,"status":"successful"},` +
		`{"start":1.004,"first_token_ms":2,"end_ms":4,"gaps_us":[2000],"output_tokens":2,"status":"successful"}],"end":{}}`))
	f.Add([]byte(`{"benchmarks":[{"config":{"strategy":{"type_":"concurrent","streams":1}},"metrics":{"request_totals":{"successful":1},` +
		`"inter_token_latency_ms":{"successful":{"mean":1}}},"requests":{"successful":[{"info":{"timings":{"request_start":1}}}]}}]}`))
	for _, name := range []string{"aiperf-0.13.0/concurrency_1/profile_export.jsonl", "aiperf-0.13.0/concurrency_1/profile_export_aiperf.csv",
		"inference-perf-0.7.0/stage_0_lifecycle_metrics.json", "inference-perf-0.7.0/inference-perf.partial.stage_0.yaml", "vllm-0.32.0/det-1.json"} {
		tool, err := openTool(f.Context(), "testdata/tools/"+name)
		if err != nil {
			f.Fatal(err)
		}
		data, err := io.ReadAll(tool)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("concurrency,prompt_tokens,output_tokens,itl_ms,ttft_ms\n1,2,3,4.5,6\n8,2,3,NaN,1e308\n"))
	f.Add([]byte(`{"backend":"vllm","completed":2,"mean_e2e_latency_ms":9,"request_rate":Infinity,"max_concurrency":1,"duration":0.02,"input_lens":[1,1],` +
		`"output_lens":[2,2],"ttfts":[0.005,0.005],"itls":[[0.005],[0.005]],"errors":["",""]}`))
	f.Add([]byte(`[{"start_time":1,"end_time":2,"request":"","info":{"response_metrics":{"output_tokens":2,"output_token_times":[1.5,1.9]}}}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := Read(bytes.NewReader(data), "r.json", Options{})
		if err != nil {
			if exit.Code(err) != exit.Refused || len(all) > 0 {
				t.Fatalf("code %d, %d measurements: %v", exit.Code(err), len(all), err)
			}
			return
		}
		for _, m := range all {
			m.Model, m.Accelerator, m.Shape, m.BatchSize = "m", "A100", sweep.Shape{PromptTokens: 1, OutputTokens: 2}, 1
			if _, err := measurement.Encode(m); err != nil {
				t.Fatalf("%v\n%+v", err, m)
			}
		}
	})
}

// TestMemory reads a report twice as large as the memory it may take.
func TestMemory(t *testing.T) {
	const most, size = 64 << 20, 128 << 20
	s := newStream(t, 1, 512)
	rows := size / len(s.next())
	runtime.GC()
	peak := uint64(0)
	stop := watchHeap(&peak)
	s = newStream(t, rows, 512)
	all, err := Read(s, "generated.json", Options{})
	stop()
	if err != nil {
		t.Fatal(err)
	}
	s.check(t, all, rows, "rows")
	if peak > most {
		t.Errorf("%d MiB of heap for a report of %d MiB", peak>>20, size>>20)
	}
}

// FuzzLog: whatever a console says, the answer is measurements that can be stored, or a
// refusal.
func FuzzLog(f *testing.F) {
	for _, name := range []string{"v0.3.1-console.log", "v0.3.1-console-80-columns.log", "v0.3.1-throughput-console.log", "v0.7.3-console.log"} {
		f.Add(content(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := ReadLog(bytes.NewReader(data), "l.txt", Options{Model: "m", Accelerator: "A100"})
		if err != nil {
			if exit.Code(err) != exit.Refused || len(all) > 0 {
				t.Fatalf("code %d, %d measurements: %v", exit.Code(err), len(all), err)
			}
			return
		}
		for _, m := range all {
			m.Shape, m.BatchSize = sweep.Shape{PromptTokens: 1, OutputTokens: 2}, 1
			if _, err := measurement.Encode(m); err != nil {
				t.Fatalf("%v\n%+v", err, m)
			}
		}
	})
}
