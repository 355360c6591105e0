package report

import (
	"bytes"
	"runtime"
	"testing"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// FuzzRead (run it with -fuzzminimizetime 10x: the seeds are long): whatever comes, the answer is measurements that can be stored, or a
// refusal.
func FuzzRead(f *testing.F) {
	f.Add(content(f, "worked-example/throughput.json"))
	f.Add(content(f, "v0.7.3-nousage.json.gz"))
	f.Add(content(f, "v0.6.1-some500.json.gz"))
	f.Add([]byte(`{"schema":"wfgen.dev/report/v1","shape":{"prompt_tokens":1,"output_tokens":2},"batch_size":1,"requests":[` +
		`{"start":1,"first_token_ms":2,"end_ms":4,"gaps_us":[2000],"output_tokens":2,"status":"successful"},` +
		`{"start":1.004,"first_token_ms":2,"end_ms":4,"gaps_us":[2000],"output_tokens":2,"status":"successful"}],"end":{}}`))
	f.Add([]byte(`{"benchmarks":[{"config":{"strategy":{"type_":"concurrent","streams":1}},"metrics":{"request_totals":{"successful":1},` +
		`"inter_token_latency_ms":{"successful":{"mean":1}}},"requests":{"successful":[{"info":{"timings":{"request_start":1}}}]}}]}`))
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
