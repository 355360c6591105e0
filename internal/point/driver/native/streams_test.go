package native

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wfgen.dev/internal/sweep"
)

// BenchmarkStreams loads a simulated server, in a process of its own, with many
// streams. ITL-% is how far the client's ITL is off what the server does at that batch,
// CPU-s/1000-tokens what the driver uses. On two cores that the server shares:
//
//	go test ./internal/point/driver/native -run '^$' -bench Streams -benchtime 1x
func BenchmarkStreams(b *testing.B) {
	step := filepath.Join(b.TempDir(), "step")
	if out, err := exec.Command("go", "build", "-o", step, "wfgen.dev/cmd/step").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	const alpha, beta = 50, 0.3 // ms
	for _, streams := range []int{64, 512, 2048} {
		b.Run(fmt.Sprint(streams), func(b *testing.B) {
			server := exec.Command(step, "simulate", "--listen", "127.0.0.1:0", "--model", "m", "--max-num-seqs", "4096",
				"--alpha", fmt.Sprint(alpha), "--beta", fmt.Sprint(beta), "--gamma", "50", "--delta", "0.01")
			out, err := server.StdoutPipe()
			if err == nil {
				err = server.Start()
			}
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				o := options(b, strings.TrimSpace(line[strings.Index(line, "http"):]))
				o.Shape, o.BatchSize, o.MaxRequests = sweep.Shape{PromptTokens: 16, OutputTokens: 32}, streams, 4*streams
				o.Spread, o.Deadline = 0.2, 10*time.Minute
				before := used(b)
				if err := (Driver{}).Run(context.Background(), o); err != nil {
					b.Fatal(err)
				}
				cpu := used(b) - before
				m := read(b, o)
				tokens := float64(m.Requests.Successful) * m.OutputTokens
				b.ReportMetric(100*(m.Client.ITL.MeanMS/(alpha+beta*m.Client.Batch)-1), "ITL-%")
				b.ReportMetric(1000*cpu.Seconds()/tokens, "CPU-s/1000-tokens")
				b.ReportMetric(math.Round(tokens), "tokens")
				b.ReportMetric(float64(m.Requests.Errored), "failed")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// used is the CPU of this process.
func used(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
