// Package local runs a sweep on this machine, without a cluster: the same plan
// and the same step commands that the workflow runs, one process per node. What
// Argo does with the files of a node, it does with a store.
package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

// Runner runs the points of a sweep.
type Runner struct {
	Sweep       sweep.Sweep
	Step        string // path of the step program
	Out         store.Store
	Run         string // name of the run
	Force       bool   // measure again what is measured already
	Parallel    int    // accelerators at the same time
	Retries     int    // further attempts at a point that failed in passing
	WaitTimeout time.Duration
	Method      string // of the estimate
	Tokenizer   string // for guidellm
	Stdout      io.Writer
	Progress    Progress

	mu       sync.Mutex
	failures []string
}

// Progress is told what happens; its methods are called from several goroutines.
type Progress interface {
	Say(line string)
	Done(p sweep.Point, line string, elapsed time.Duration)
}

// measured tells by key which files the run has already.
func (r *Runner) measured(ctx context.Context) (map[string]bool, error) {
	keys, err := r.Out.List(ctx, layout.Run(r.Run))
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, key := range keys {
		have[key] = true
	}
	return have, nil
}

// Pending lists the points still to be measured, by accelerator.
func (r *Runner) Pending(ctx context.Context) (map[string][]sweep.Point, error) {
	have, err := r.measured(ctx)
	if err != nil {
		return nil, err
	}
	pending := map[string][]sweep.Point{}
	for _, a := range r.Sweep.Accelerators {
		for _, p := range r.Sweep.Points(a.Name) {
			if r.Force || !have[layout.MeasurementOf(r.Run, p)] {
				pending[a.Name] = append(pending[a.Name], p)
			}
		}
	}
	return pending, nil
}

// Measure runs the pending points, accelerators side by side as far as Parallel
// allows, the points of one after another. A point or an accelerator that fails
// does not stop the others; the failures are returned in words. The error is
// that of the context, or of the store.
func (r *Runner) Measure(ctx context.Context, pending map[string][]sweep.Point) (failures []string, err error) {
	if err := r.writePlan(ctx); err != nil {
		return nil, err
	}
	slots := make(chan struct{}, max(1, r.Parallel))
	errs := make([]error, len(r.Sweep.Accelerators))
	var all sync.WaitGroup
	for i, a := range r.Sweep.Accelerators {
		if len(pending[a.Name]) == 0 {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() == nil {
				errs[i] = r.accelerator(ctx, a, pending[a.Name])
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return r.failures, ctx.Err()
	}
	return r.failures, errors.Join(errs...)
}

func (r *Runner) failed(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.Progress.Say(text)
	r.mu.Lock()
	r.failures = append(r.failures, text)
	r.mu.Unlock()
}

// accelerator waits for the server and runs its points in order.
func (r *Runner) accelerator(ctx context.Context, a sweep.Accelerator, points []sweep.Point) error {
	target := strings.ReplaceAll(a.TargetURL, "{accelerator}", sweep.Slug(a.Name))
	_, err := r.step(ctx, "wait", "--target", target, "--model", r.Sweep.Model, "--timeout", r.WaitTimeout.String())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.failed("%s: %v", a.Name, err)
		return nil
	}
	for len(points) > 0 {
		n := 1 // points of one shape
		for n < len(points) && points[n].Shape == points[0].Shape {
			n++
		}
		group := points[:n]
		points = points[n:]
		if r.Sweep.ShareProcess && n > 1 {
			if group, err = r.shared(ctx, a, target, group); err != nil {
				return err
			}
		}
		for _, p := range group {
			begin := time.Now()
			line, err := r.point(ctx, a, target, p)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := r.settled(p, line, err, time.Since(begin)); err != nil {
				return err
			}
		}
	}
	return nil
}

// settled tells what became of a point. The error is one that ends the run: of the
// store, in which the next point could not be kept either.
func (r *Runner) settled(p sweep.Point, line string, err error, elapsed time.Duration) error {
	switch {
	case err == nil:
	case errors.As(err, new(*stepError)):
		line = fmt.Sprintf("%s %s batch %d failed: %v", p.Accelerator, p.Shape, p.BatchSize, err)
		r.failed("%s", line)
	default:
		return err
	}
	r.Progress.Done(p, line, elapsed)
	return nil
}

// point runs step bench, again when it says that a later attempt may succeed,
// and moves its files to their places in the run.
func (r *Runner) point(ctx context.Context, a sweep.Accelerator, target string, p sweep.Point) (string, error) {
	work, err := os.MkdirTemp("", "wfgen-point-")
	if err != nil {
		return "", exit.Errorf(exit.Usage, "no temporary directory: %w", err)
	}
	defer os.RemoveAll(work)
	args := r.benchArgs(a, target, work, p)
	var line string
	for attempt := 0; ; attempt++ {
		line, err = r.step(ctx, args...)
		var failed *stepError
		if err == nil || ctx.Err() != nil || attempt >= r.Retries || !errors.As(err, &failed) || failed.code != exit.TryAgain {
			break
		}
		r.Progress.Say(fmt.Sprintf("%s %s batch %d: trying again: %v", a.Name, p.Shape, p.BatchSize, err))
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(attempt+1) * 2 * time.Second):
		}
	}
	// A point that a later attempt may mend is not measured: the run, when it is
	// gone on with, tries it again.
	var failed *stepError
	mendable := errors.As(err, &failed) && failed.code == exit.TryAgain
	if perr := r.publish(context.WithoutCancel(ctx), work, p, !mendable); perr != nil {
		return line, perr
	}
	return line, err
}

// benchArgs are the arguments of step bench for points of one shape.
func (r *Runner) benchArgs(a sweep.Accelerator, target, work string, points ...sweep.Point) []string {
	shape := points[0].Shape
	var sizes []int
	for _, p := range points {
		sizes = append(sizes, p.BatchSize)
	}
	args := []string{"bench", "--target", target, "--model", r.Sweep.Model, "--accelerator", a.Name,
		"--batch-size", list(sizes), "--batch-sizes", list(r.Sweep.BatchSizes),
		"--prompt-tokens", strconv.Itoa(shape.PromptTokens), "--output-tokens", strconv.Itoa(shape.OutputTokens),
		"--max-seconds", strconv.Itoa(r.Sweep.MaxSeconds), "--max-requests", strconv.Itoa(r.Sweep.MaxRequests),
		"--max-num-seqs", strconv.Itoa(a.MaxNumSeqs), "--driver", r.Sweep.Driver, "--output", work}
	if r.Tokenizer != "" {
		args = append(args, "--tokenizer", r.Tokenizer)
	}
	return args
}

// list is 1,8,64.
func list(numbers []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", ","), "[]")
}

// publish moves what a point left to its place in the run, the measurement, if it
// counts, last: where it is, the rest is too.
func (r *Runner) publish(ctx context.Context, work string, p sweep.Point, counts bool) error {
	put := func(file, key string) error {
		f, err := os.Open(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		return r.Out.Put(ctx, key, f)
	}
	reports, err := filepath.Glob(filepath.Join(work, layout.Reports, "*"))
	if err != nil {
		return err
	}
	slices.Sort(reports)
	for _, file := range reports {
		if err := put(file, path.Join(layout.ReportsOf(r.Run, p.Accelerator, p.Shape), filepath.Base(file))); err != nil {
			return err
		}
	}
	if !counts {
		return nil
	}
	return put(filepath.Join(work, layout.Measurement), layout.MeasurementOf(r.Run, p))
}

// Aggregate estimates the parameters from all that the run has measured and
// prints them. expect names the accelerators that must have some.
func (r *Runner) Aggregate(ctx context.Context) error {
	var expect, shapes []string
	for _, a := range r.Sweep.Accelerators {
		expect = append(expect, a.Name)
	}
	for _, s := range r.Sweep.Shapes {
		shapes = append(shapes, s.String())
	}
	run := r.Location()
	out, err := r.step(ctx, "aggregate", run, "--output", run, "--method", r.Method, "--latest", r.Out.String(),
		"--expect", strings.Join(expect, ","), "--shapes", strings.Join(shapes, ","))
	fmt.Fprintln(r.Stdout, out)
	var failed *stepError
	if errors.As(err, &failed) {
		return exit.Errorf(failed.code, "%w", err)
	}
	return err
}

// Location is where the run's files are.
func (r *Runner) Location() string {
	if store.IsRemote(r.Out.String()) {
		return strings.TrimRight(r.Out.String(), "/") + "/" + layout.Run(r.Run)
	}
	return filepath.Join(r.Out.String(), filepath.FromSlash(layout.Run(r.Run)))
}

// stepError is a step command that did not exit with 0.
type stepError struct {
	code int
	text string // the last thing that it said
}

func (e *stepError) Error() string { return e.text }

// step runs one step command and returns its stdout. It is ended with SIGTERM
// when the context is, so that it can leave what it has in order.
func (r *Runner) step(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, r.Step, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	text := strings.TrimRight(stdout.String(), "\n")
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return text, &stepError{code: ended.ExitCode(), text: lastSaid(stderr.String(), args[0], ended)}
	}
	return text, err
}

// lastSaid is the error that a step command ended with, which may have several lines.
func lastSaid(stderr, command string, ended *exec.ExitError) string {
	if i := strings.LastIndex(stderr, "step: "); i >= 0 {
		return strings.TrimSpace(stderr[i+len("step: "):])
	}
	return fmt.Sprintf("step %s ended with %v", command, ended)
}
