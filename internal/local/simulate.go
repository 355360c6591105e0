package local

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"wfgen.dev/internal/run/child"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/linear4"
)

// Simulate starts a simulated server (step simulate) with the given truth and
// returns its URL. It ends with stop.
func Simulate(ctx context.Context, step, model string, truth linear4.Model, maxNumSeqs, maxModelLen int, jitter float64, seed int64) (url string, stop func(), err error) {
	f := steps.Simulate
	cmd := exec.CommandContext(ctx, step, f.With(f.Listen.Set("127.0.0.1:0"), f.Model.Set(model),
		f.Alpha.Set(truth.Alpha), f.Beta.Set(truth.Beta), f.Gamma.Set(truth.Gamma), f.Delta.Set(truth.Delta),
		f.MaxNumSeqs.Set(maxNumSeqs), f.MaxModelLen.Set(maxModelLen), f.Jitter.Set(jitter), f.Seed.Set(seed)).Args()...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	// Its own group: Ctrl-C is for the run, which then ends its servers last.
	child.Tie(cmd, true)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, exit.Errorf(exit.Usage, "the simulated server does not start: %w", err)
	}
	// Once: a process can be waited for only once, and who ends the run early
	// may meet who ends it last.
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil {
		err = fmt.Errorf("it said %q", line)
	}
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		stop()
		return "", nil, exit.Errorf(exit.Usage, "the simulated server did not start: %w: %s; is --step the program step of this version?", err, strings.TrimSpace(stderr.String()))
	}
	return url, stop, nil
}
