package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/scratch"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/plan"
)

// shared runs the points, all of one shape, in one process of the driver, and returns
// those that are to be tried one by one: guidellm keeps nothing when it dies, and what
// one batch size did to it need not happen to the others. The error is one that ends
// the run.
func (r *Runner) shared(ctx context.Context, a plan.Accelerator, server string, points []sweep.Point) (rest []sweep.Point, err error) {
	work, remove, err := scratch.Dir("wfgen-points-")
	if err != nil {
		return nil, err
	}
	defer remove()
	begin := time.Now()
	_, err = r.Step(ctx, r.bench(a, server, work, points...).And(steps.Bench.ShareProcess.Set(true)))
	interrupted := ctx.Err()
	ctx = context.WithoutCancel(ctx) // what there is, is kept
	if err != nil && !failedStep(err) && interrupted == nil {
		return nil, err
	}
	each := time.Since(begin) / time.Duration(len(points))
	if err := r.publish(ctx, work, points[0], false); err != nil { // report, log and scrapes of all
		return nil, err
	}
	for _, p := range points {
		dir := filepath.Join(work, layout.SharedPoint(p.BatchSize))
		m, found, err := readMeasurement(dir)
		if err != nil {
			return nil, err
		}
		var void error
		if found && len(m.Taken.Void) > 0 {
			void = exit.With(exit.Refused, &stepError{strings.Join(m.Taken.Void, "; ")})
		}
		if !found || void != nil && exit.Code(err) == exit.TryAgain {
			rest = append(rest, p)
			continue
		}
		if err := r.publish(ctx, dir, p, true); err != nil {
			return nil, err
		}
		if err := r.settled(p, m.Describe(), void, each); err != nil {
			return nil, err
		}
	}
	if interrupted != nil {
		return nil, interrupted
	}
	if len(rest) > 0 {
		var sizes []int
		for _, p := range rest {
			sizes = append(sizes, p.BatchSize)
		}
		r.Progress.Say(fmt.Sprintf("%s %s: batch sizes %s are tried one by one: %v", a.Name, points[0].Shape, steps.List(sizes), err))
	}
	return rest, nil
}

func readMeasurement(dir string) (m measurement.Measurement, found bool, err error) {
	f, err := os.Open(filepath.Join(dir, layout.Measurement))
	if errors.Is(err, os.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	defer f.Close()
	m, err = measurement.Decode(f, f.Name())
	return m, true, err
}
