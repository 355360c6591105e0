package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"wfgen.dev/internal/run/child"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
)

// Stepper runs a command of step to its end. A command that does not exit with 0 is
// an error with its code, and the last thing that it said.
type Stepper func(ctx context.Context, call steps.Call) (Result, error)

// Result is what a command has written.
type Result struct {
	Data  string // stdout
	Words string // stderr
}

// stepError is a command that did not exit with 0.
type stepError struct{ text string }

func (e *stepError) Error() string { return e.text }

// failedStep tells a command that failed from a run that cannot go on: a store, say,
// in which the next point could not be kept either.
func failedStep(err error) bool { return errors.As(err, new(*stepError)) }

// Program runs the commands of the step program at the path. A command is ended with
// SIGTERM when the context is, so that it can leave what it has in order.
func Program(path string) Stepper {
	return func(ctx context.Context, call steps.Call) (Result, error) {
		cmd := exec.CommandContext(ctx, path, call.Args()...)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 20 * time.Second
		child.Tie(cmd, false)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		result := Result{strings.TrimRight(stdout.String(), "\n"), stderr.String()}
		var ended *exec.ExitError
		if errors.As(err, &ended) {
			code := ended.ExitCode()
			if code < 0 { // a signal ended it, such as for want of memory
				code = exit.TryAgain
			}
			return result, exit.With(code, &stepError{lastSaid(result.Words, call.Name, ended)})
		}
		return result, err
	}
}

// lastSaid is the error that a step command ended with, which may have several lines.
func lastSaid(stderr, command string, ended *exec.ExitError) string {
	if i := strings.LastIndex(stderr, "step: "); i >= 0 {
		return strings.TrimSpace(stderr[i+len("step: "):])
	}
	return fmt.Sprintf("step %s ended with %v", command, ended)
}

// FindStep finds the step program: the path that was given, or the one beside
// wfgen, or in a checkout (go run ./cmd/wfgen) the one built from the same
// sources, or the one in PATH.
func FindStep(ctx context.Context, given string, say func(string)) (string, error) {
	if given != "" {
		if _, err := os.Stat(given); err != nil {
			return "", exit.Errorf(exit.Usage, "--step: %w", err)
		}
		return filepath.Abs(given)
	}
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), "step"); executable(beside) {
			return beside, nil
		}
	}
	if root := checkout(ctx); root != "" {
		return build(ctx, root, say)
	}
	if path, err := exec.LookPath("step"); err == nil {
		return path, nil
	}
	return "", exit.Errorf(exit.Usage, "the program step was found neither beside wfgen nor in PATH; give --step PATH")
}

func executable(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// checkout is the root of the sources when the working directory lies in them.
func checkout(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}").Output()
	if err != nil {
		return ""
	}
	path, dir, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if path != "wfgen.dev" {
		return ""
	}
	return dir
}

// build makes step from the checkout. The place is always the same, so that the
// build cache makes the next call quick.
func build(ctx context.Context, root string, say func(string)) (string, error) {
	say("building step from " + root)
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	target := filepath.Join(cache, "wfgen", "step")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", target, "./cmd/step")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building step: %w\n%s", err, out)
	}
	return target, nil
}
