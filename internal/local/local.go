// Package local runs a sweep on this machine, without a cluster: the same plan
// and the same step commands that the workflow runs, one process per node. What
// Argo does with the files of a node, it does with a store.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/retry"
	"wfgen.dev/internal/run/scratch"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/plan"
	"wfgen.dev/internal/sweep/precision"
)

// Runner runs the points of a sweep.
type Runner struct {
	Plan     plan.Plan
	Step     Stepper
	Out      store.Store
	Run      string // name of the run
	Force    bool   // measure again what is measured already
	Parallel int    // accelerators at the same time
	Stdout   io.Writer
	Progress Progress

	mu       sync.Mutex
	failures []string
	ended    map[string]precision.Round         // by accelerator: the round without points
	servers  map[string]measurement.Measurement // by accelerator: one that later ones must be alike
}

// Begin takes the run for this process, until release is called, and records what it is
// begun with. The context ends when the run is lost to another process.
func (r *Runner) Begin(ctx context.Context) (held context.Context, release func(), err error) {
	held, release, err = Hold(ctx, r.Out, r.Run)
	if err != nil {
		return nil, nil, err
	}
	if err := r.writePlan(held); err != nil {
		release()
		return nil, nil, err
	}
	return held, release, nil
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
	if r.Plan.Precision != "" { // step next chooses them
		return pending, nil
	}
	for _, a := range r.Plan.Accelerators {
		for _, p := range a.Points {
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
	have, err := r.measured(ctx)
	if err != nil {
		return nil, err
	}
	slots := make(chan struct{}, max(1, r.Parallel))
	errs := make([]error, len(r.Plan.Accelerators))
	var all sync.WaitGroup
	for i, a := range r.Plan.Accelerators {
		probe := a.PrefillChunk > 0 && (r.Force || !have[layout.PrefillOf(r.Run, a.Name)])
		if len(pending[a.Name]) == 0 && r.Plan.Precision == "" && !probe {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() == nil {
				errs[i] = r.accelerator(ctx, a, pending[a.Name], probe)
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

// without goes on without an accelerator for which a step failed, which is said. The error
// is what ends the run: that it was interrupted, or what no step said.
func (r *Runner) without(ctx context.Context, a plan.Accelerator, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case failedStep(err):
		r.failed("%s: %v", a.Name, err)
		return nil
	}
	return err
}

// accelerator waits for the server, asks it whether it can run the points, and runs
// them in order; then, where it is asked for, the probe of its prefill rate.
func (r *Runner) accelerator(ctx context.Context, a plan.Accelerator, points []sweep.Point, probe bool) error {
	server, err := r.wait(ctx, a)
	if err != nil || ctx.Err() != nil {
		return r.without(ctx, a, err)
	}
	if r.Plan.Precision != "" {
		err = r.rounds(ctx, a, server)
	} else {
		err = r.inOrder(ctx, a, server, points)
	}
	if err != nil || !probe {
		return err
	}
	return r.prefill(ctx, a, server)
}

// prefill measures how fast the idle server computes prompts.
func (r *Runner) prefill(ctx context.Context, a plan.Accelerator, server string) error {
	k := steps.Prefill
	result, err := r.Step(ctx, k.With(k.Target.Set(a.TargetURL), k.Model.Set(r.Plan.Model), k.Accelerator.Set(a.Name),
		k.ChunkTokens.Set(a.PrefillChunk), k.Server.Set(server), k.Output.Set(r.Location()+"/"+layout.AcceleratorInRun(a.Name))))
	if err != nil {
		return r.without(ctx, a, fmt.Errorf("prefill rate: %w", err))
	}
	r.Progress.Say(result.Data)
	return nil
}

// inOrder runs the points.
func (r *Runner) inOrder(ctx context.Context, a plan.Accelerator, server string, points []sweep.Point) (err error) {
	for len(points) > 0 {
		n := 1 // points of one shape
		for n < len(points) && points[n].Shape == points[0].Shape {
			n++
		}
		group := points[:n]
		points = points[n:]
		if r.Plan.ShareProcess && n > 1 {
			if group, err = r.shared(ctx, a, server, group); err != nil {
				return err
			}
		}
		for _, p := range group {
			begin := time.Now()
			line, err := r.point(ctx, a, server, p)
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

// wait runs step wait and returns what it has found out about the server.
func (r *Runner) wait(ctx context.Context, a plan.Accelerator) (server string, err error) {
	work, remove, err := scratch.Dir("wfgen-wait-")
	if err != nil {
		return "", err
	}
	defer remove()
	w := steps.Wait
	result, err := r.Step(ctx, w.With(w.Target.Set(a.TargetURL), w.Model.Set(r.Plan.Model), w.Timeout.Set(r.Plan.WaitTimeout),
		w.BatchSizes.Set(steps.List(r.Plan.BatchSizes)), w.Shapes.Set(steps.List(r.Plan.Shapes)), w.MaxNumSeqs.Set(a.MaxNumSeqs), w.Output.Set(work)))
	if err != nil {
		return "", err
	}
	r.tell(a.Name, result)
	found, err := os.ReadFile(filepath.Join(work, filepath.FromSlash(layout.OutServer.Key())))
	return string(found), err
}

// tell passes on what a step that succeeded had to say.
func (r *Runner) tell(of string, result Result) {
	for line := range strings.Lines(result.Words) {
		if line = strings.TrimSpace(line); line != "" {
			r.Progress.Say(of + ": " + line)
		}
	}
}

// settled tells what became of a point. The error is one that ends the run: of the
// store, in which the next point could not be kept either.
func (r *Runner) settled(p sweep.Point, line string, err error, elapsed time.Duration) error {
	switch {
	case err == nil:
	case failedStep(err):
		line = fmt.Sprintf("%s %s batch %d failed: %v", p.Accelerator, p.Shape, p.BatchSize, err)
		r.failed("%s", line)
	default:
		return err
	}
	r.Progress.Done(p, line, elapsed)
	return nil
}

// point runs step bench, again when it says that a later attempt may succeed, and
// moves its files to their places in the run.
func (r *Runner) point(ctx context.Context, a plan.Accelerator, server string, p sweep.Point) (line string, err error) {
	work, remove, err := scratch.Dir("wfgen-point-")
	if err != nil {
		return "", err
	}
	defer remove()
	name := fmt.Sprintf("%s %s batch %d", a.Name, p.Shape, p.BatchSize)
	var result Result
	err = retry.Policy{Attempts: r.Plan.Retries + 1}.Do(ctx, func() (err error) {
		result, err = r.Step(ctx, r.bench(a, server, work, p))
		return err
	}, func(_ int, err error, pause time.Duration) {
		r.Progress.Say(fmt.Sprintf("%s: trying again in %s: %v", name, pause, err))
	})
	if err == nil {
		r.tell(name, result)
	}
	// A point at which a later attempt may succeed is not measured: the run, when it
	// is resumed, tries it again.
	passing := failedStep(err) && exit.Code(err) == exit.TryAgain
	if perr := r.publish(context.WithoutCancel(ctx), work, p, !passing); perr != nil {
		return result.Data, perr
	}
	return result.Data, err
}

// bench asks for points of one shape.
func (r *Runner) bench(a plan.Accelerator, server, work string, points ...sweep.Point) steps.Call {
	shape := points[0].Shape
	var sizes []int
	for _, p := range points {
		sizes = append(sizes, p.BatchSize)
	}
	b, p := steps.Bench, r.Plan
	call := b.With(b.Target.Set(a.TargetURL), b.Model.Set(p.Model), b.Accelerator.Set(a.Name),
		b.BatchSize.Set(steps.List(sizes)), b.BatchSizes.Set(steps.List(p.BatchSizes)),
		b.PromptTokens.Set(shape.PromptTokens), b.OutputTokens.Set(shape.OutputTokens),
		b.MaxSeconds.Set(float64(cmp.Or(points[0].Seconds, p.MaxSeconds))), b.MaxRequests.Set(p.MaxRequests), b.MaxNumSeqs.Set(a.MaxNumSeqs),
		b.Server.Set(server), b.Driver.Set(p.Driver), b.Output.Set(work))
	if p.Tokenizer != "" {
		call = call.And(b.Tokenizer.Set(p.Tokenizer))
	}
	return call
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
	reports, err := os.ReadDir(filepath.Join(work, layout.Reports))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, file := range reports {
		if err := put(filepath.Join(work, layout.Reports, file.Name()), path.Join(layout.ReportsOfPoint(r.Run, p), file.Name())); err != nil {
			return err
		}
	}
	if !counts {
		return nil
	}
	if err := r.sameServer(ctx, work, p); err != nil {
		return err
	}
	return put(filepath.Join(work, layout.Measurement), layout.MeasurementOf(r.Run, p))
}

// Aggregate estimates the parameters from all that the run has measured and
// prints them. What was accepted last, and the runs before that, tell of another run.
func (r *Runner) Aggregate(ctx context.Context) error {
	run := r.Location()
	a := steps.Aggregate
	call := a.With(a.Output.Set(run), a.Method.Set(r.Plan.Method), a.Latest.Set(r.Out.String()),
		a.Expect.Set(steps.List(r.Plan.Names())), a.Shapes.Set(steps.List(r.Plan.Shapes))).On(run)
	if r.Plan.Precision != "" {
		call = call.And(a.Precision.Set(r.Plan.Precision))
	}
	switch accepted, err := r.Out.List(ctx, layout.Latest); {
	case err != nil: // who may not list has an estimate all the same
		r.Progress.Say(fmt.Sprintf("earlier runs are not asked: %v", err))
	case len(accepted) > 0:
		call = call.And(a.History.Set(r.at(layout.Latest)))
	}
	result, err := r.Step(ctx, call)
	fmt.Fprintln(r.Stdout, result.Data)
	if err == nil {
		r.tell("estimate", result)
	}
	return err
}

// Check tells the capacity of an accelerator within the objectives of the sweep, and holds
// it against requests that arrive at that rate.
func (r *Runner) Check(ctx context.Context, a plan.Accelerator) error {
	k, p := steps.Check, r.Plan
	result, err := r.Step(ctx, k.With(k.Target.Set(a.TargetURL), k.Model.Set(p.Model), k.Accelerator.Set(a.Name), k.SLO.Set(p.SLO),
		k.Shapes.Set(steps.List(p.Shapes)), k.MaxNumSeqs.Set(a.MaxNumSeqs), k.ChunkTokens.Set(a.PrefillChunk), k.MaxSeconds.Set(float64(p.CheckSeconds())), k.Price.Set(p.Prices()),
		k.Output.Set(r.Location()+"/"+layout.AcceleratorInRun(a.Name))).On(r.Location()+"/"+layout.Summary))
	if result.Data != "" {
		fmt.Fprintln(r.Stdout, result.Data)
	}
	if err == nil {
		r.tell("check of "+a.Name, result)
	}
	return err
}

// Report makes the page of the run again, with what came after the estimate.
func (r *Runner) Report(ctx context.Context) error {
	result, err := r.Step(ctx, steps.Report.With(steps.Report.Output.Set(r.Location()+"/"+layout.Page)).On(r.Location()))
	if err == nil {
		r.tell("report", result)
	}
	return err
}

// Page is where the report of the run is, and whether there is one.
func (r *Runner) Page(ctx context.Context) (location string, ok bool) {
	f, err := r.Out.Open(ctx, path.Join(layout.Run(r.Run), layout.Page))
	if err != nil {
		return "", false
	}
	_ = f.Close()
	return r.Location() + "/" + layout.Page, true
}

// Location is where the run's files are.
func (r *Runner) Location() string { return r.at(layout.Run(r.Run)) }

// at is where a key of the store is, as step names it.
func (r *Runner) at(key string) string {
	if store.IsRemote(r.Out.String()) {
		return strings.TrimRight(r.Out.String(), "/") + "/" + key
	}
	return filepath.Join(r.Out.String(), filepath.FromSlash(key))
}
