//go:build guidellm

package guidellm_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// BenchmarkDrivers measures the same simulated server with the native driver and
// with every installed guidellm, at 1, 16 and 64 streams: how far what the client
// says is from the truth, and what it costs. All share the cores of one machine,
// the server too.
//
//	go test -tags guidellm ./internal/point/driver/guidellm -run '^$' -bench Drivers -benchtime 1x -timeout 30m
//
// ITL-% and TTFT-% are the errors of the client's means in the steady window,
// median-TTFT-% that of its median TTFT, server-TTFT-% that of the server's own,
// which step takes. CPU-s/1000-tokens is the CPU of step and of all that it
// started, from the first request on; start-CPU-s is that before it.
func BenchmarkDrivers(b *testing.B) {
	for _, driver := range append([]string{sweep.Native}, installed(b)...) {
		for _, streams := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/%d", driver, streams), func(b *testing.B) {
				for b.Loop() {
					compare(b, driver, streams)
				}
				b.ReportMetric(0, "ns/op") // how long a point takes is its own flag's to say
			})
		}
	}
}

func compare(b *testing.B, driver string, streams int) {
	srv := serve(b, law(), nil)
	s := bench(b, driver, srv, streams, "--max-seconds", "10")
	start, ended := make(chan float64, 1), make(chan struct{})
	go func() {
		select {
		case <-srv.first:
			start <- s.cpu()
		case <-ended:
			start <- 0
		}
	}()
	s.run(b)
	close(ended)
	if s.code != exit.Done {
		b.Fatalf("exit code %d\n%s", s.code, &s.err)
	}
	m := s.measurement(b)
	if m.Client == nil || m.Client.ITL == nil || m.Client.TTFT == nil || m.Server == nil {
		b.Fatalf("not seen by both: %+v", m)
	}
	batch, begin := m.Client.Batch, <-start
	b.ReportMetric(100*(m.Client.ITL.MeanMS/trueITL(batch)-1), "ITL-%")
	b.ReportMetric(100*(m.Client.TTFT.MeanMS/trueTTFT(batch)-1), "TTFT-%")
	b.ReportMetric(100*(m.Client.TTFT.MedianMS/trueTTFT(batch)-1), "median-TTFT-%")
	b.ReportMetric(100*(m.Server.TTFT.MeanMS/trueTTFT(batch)-1), "server-TTFT-%")
	used := s.cmd.ProcessState.UserTime() + s.cmd.ProcessState.SystemTime()
	b.ReportMetric(1000*(used.Seconds()-begin)/(float64(m.Requests.Successful)*outputTokens), "CPU-s/1000-tokens")
	b.ReportMetric(begin, "start-CPU-s")
	b.ReportMetric(m.OverheadSeconds, "overhead-s")
}

// cpu is what its processes, and those that have ended, have used until now, in
// seconds.
func (s *step) cpu() (seconds float64) {
	const perSecond = 100 // USER_HZ, on every machine that runs Go
	for _, pid := range s.pids() {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// After the name in parentheses: utime, stime, cutime and cstime are the
		// fields 14 to 17 of proc(5).
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		for _, f := range fields[11:15] {
			ticks, _ := strconv.ParseFloat(string(f), 64)
			seconds += ticks / perSecond
		}
	}
	return seconds
}
