package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/plan"
	"wfgen.dev/internal/sweep/precision"
)

// rounds measures an accelerator round by round until step next has enough. What a round
// was given to measure is kept, so that a run that is resumed in the middle of one
// measures the rest of it.
func (r *Runner) rounds(ctx context.Context, a plan.Accelerator, server string) error {
	for number := 1; ; number++ {
		have, err := r.measured(ctx)
		if err != nil {
			return err
		}
		round, err := r.round(ctx, a, number, have)
		if err != nil || ctx.Err() != nil {
			return r.without(ctx, a, err)
		}
		if len(round.Points) == 0 {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.ended == nil {
				r.ended = map[string]precision.Round{}
			}
			r.ended[a.Name] = round
			return nil
		}
		for _, point := range round.Points {
			p := point.Of(a.Name)
			if have[layout.MeasurementOf(r.Run, p)] {
				continue
			}
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
}

// round is what is to be measured in the round of that number: what was chosen when it
// was begun, or is chosen now.
func (r *Runner) round(ctx context.Context, a plan.Accelerator, number int, have map[string]bool) (precision.Round, error) {
	key := layout.RoundOf(r.Run, a.Name, number)
	f, err := r.Out.Open(ctx, key)
	if err == nil {
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, 1<<20))
		if err != nil {
			return precision.Round{}, err
		}
		round, err := precision.Decode(data)
		if err != nil {
			err = exit.Errorf(exit.Refused, "%s: %w; begin another run, or remove it to have the round chosen again", r.at(key), err)
		}
		return round, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return precision.Round{}, err
	}
	n, p := steps.Next, r.Plan
	call := n.With(n.Accelerator.Set(a.Name), n.Precision.Set(p.Precision), n.BatchSizes.Set(steps.List(p.BatchSizes)), n.Shapes.Set(steps.List(p.Shapes)),
		n.MaxSeconds.Set(float64(p.MaxSeconds)), n.MaxGPUMinutes.Set(p.GPUMinutes()), n.GPUs.Set(a.Count), n.Round.Set(number), n.SLO.Set(p.SLO), n.MaxNumSeqs.Set(a.MaxNumSeqs))
	for _, m := range layout.MeasurementsOf(r.Run, a.Name, have) {
		call = call.On(r.at(m))
	}
	result, err := r.Step(ctx, call)
	if err != nil {
		return precision.Round{}, err
	}
	r.tell(a.Name, result)
	round, err := precision.Decode([]byte(result.Data))
	if err != nil || len(round.Points) == 0 {
		return round, err
	}
	data, err := layout.JSON(round)
	if err != nil {
		return round, err
	}
	r.Progress.Say(fmt.Sprintf("%s: round %d, %d points", a.Name, number, len(round.Points)))
	return round, r.Out.Put(ctx, key, bytes.NewReader(data))
}

// Imprecise says, for each accelerator that did not reach the precision that was asked
// for, why it ended and how far it is.
func (r *Runner) Imprecise() []string {
	var all []string
	for _, a := range r.Plan.Accelerators {
		if round, known := r.ended[a.Name]; known && round.Ended != precision.Reached {
			all = append(all, fmt.Sprintf("%s ended by %s: %s", a.Name, round.Ended, round.Reason()))
		}
	}
	return all
}
