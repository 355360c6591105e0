package guidellm

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"wfgen.dev/internal/run/child"
)

// process is a command to run in a process group of its own.
type process struct {
	path     string
	args     []string
	env      []string
	dir      string
	output   io.Writer // both streams, as they come
	deadline time.Duration
	grace    time.Duration
}

// outcome is how a process ended.
type outcome struct {
	code    int            // exit code; -1 when a signal ended it
	signal  syscall.Signal // 0: none
	stopped error          // why we ended it; nil when it ended by itself
	seconds float64
}

var errDeadline = errors.New("deadline")

// run runs the process until it ends, its deadline passes or ctx does. Whatever
// ends it, nothing of its group is left: guidellm leaves its workers behind when
// it is killed and when it crashes. The error says that it did not start.
func (p process) run(ctx context.Context) (outcome, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return outcome{}, err
	}
	defer r.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Env, cmd.Dir = p.env, p.dir
	cmd.Stdout, cmd.Stderr = w, w
	child.Tie(cmd, true)
	begin := time.Now()
	err = cmd.Start()
	w.Close()
	if err != nil {
		return outcome{}, err
	}
	defer child.Guard(cmd.Process.Pid)()
	group := func(s syscall.Signal) { _ = syscall.Kill(-cmd.Process.Pid, s) } // an error says that none is left

	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(p.output, r) // writing keeps its own errors; reading ends with the pipe
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the state tells more
	}()

	var deadline <-chan time.Time
	if p.deadline > 0 {
		timer := time.NewTimer(p.deadline)
		defer timer.Stop()
		deadline = timer.C
	}
	var end outcome
	select {
	case <-ended:
	case <-ctx.Done():
		end.stopped = context.Cause(ctx)
	case <-deadline:
		end.stopped = errDeadline
	}
	if end.stopped != nil {
		group(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(p.grace):
		}
	}
	group(syscall.SIGKILL)
	<-ended
	select {
	case <-read:
	case <-time.After(2 * time.Second): // somebody outside the group holds the pipe
		r.Close()
		<-read
	}
	end.seconds = time.Since(begin).Seconds()
	end.code = cmd.ProcessState.ExitCode()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		end.signal = status.Signal()
	}
	return end, nil
}
