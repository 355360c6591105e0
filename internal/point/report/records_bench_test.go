package report

import (
	"bytes"
	"io"
	"runtime"
	"syscall"
	"testing"
	"time"

	"wfgen.dev/internal/sweep"
)

// repeated gives a text again and again, n bytes in all, whole lines only.
type repeated struct {
	text []byte
	n    int
	rest []byte
}

func (r *repeated) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.n < len(r.text) {
			return 0, io.EOF
		}
		r.n -= len(r.text)
		r.rest = r.text
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func records(t testing.TB) []byte {
	f, err := openTool(t.Context(), "testdata/tools/aiperf-0.13.0/concurrency_8/profile_export.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// BenchmarkAIPerfRecords reads 1 GiB of AIPerf's records: MB/s-core is by the CPU that it
// takes, so that it is the same on a machine with other work.
//
//	go test ./internal/point/report -run '^$' -bench AIPerfRecords -benchtime 1x
func BenchmarkAIPerfRecords(b *testing.B) {
	data := records(b)
	const size = 1 << 30
	b.SetBytes(size)
	for b.Loop() {
		peak := uint64(0)
		stop, before := watchHeap(&peak), cpu(b)
		all, err := Read(&repeated{text: data, n: size}, "r.jsonl", Options{BatchSize: 8})
		used := cpu(b) - before
		stop()
		b.ReportMetric(size/1e6/used.Seconds(), "MB/s-core")
		if err != nil || all[0].Requests.Successful < MaxRows {
			b.Fatal(all, err)
		}
		b.ReportMetric(float64(peak)/(1<<20), "MiB-heap")
	}
}

// cpu is what this process has used, the collector of garbage included.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// TestRecordsInLittleMemory reads more records than the memory they may take.
func TestRecordsInLittleMemory(t *testing.T) {
	const most, size = 64 << 20, 128 << 20
	data := records(t)
	runtime.GC()
	peak := uint64(0)
	stop := watchHeap(&peak)
	all, err := Read(&repeated{text: bytes.Clone(data), n: size}, "r.jsonl", Options{BatchSize: 8, Shape: sweep.Shape{PromptTokens: 64, OutputTokens: 32}})
	stop()
	if err != nil {
		t.Fatal(err)
	}
	if peak > most || all[0].Requests.Successful == 0 {
		t.Errorf("%d MiB of heap for %d MiB of records, %d requests", peak>>20, size>>20, all[0].Requests.Successful)
	}
}
