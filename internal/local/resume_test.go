package local

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wfgen.dev/internal/run/steps"
)

// A run that is ended at any of its commands, before the command or after it, and resumed,
// estimates what an undisturbed one does, to the last digit: nothing is measured twice or
// lost, and what is read again is what was written.
func TestResumedItEstimatesTheSame(t *testing.T) {
	c := small()
	c.BatchSizes = []int{1, 2, 4, 8}
	whole, undisturbed, _, stdout := runner(t, c)
	if failures, err := measure(t.Context(), t, whole); err != nil || len(failures) > 0 {
		t.Fatal(failures, err)
	}
	if err := whole.Aggregate(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	want := told(t, whole)
	points := 0
	for _, call := range undisturbed.calls {
		if call.Name == steps.Bench.Name {
			points++
		}
	}
	for at := range undisturbed.calls {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("call %d, after it %v", at, after), func(t *testing.T) {
				r, w, _, stdout := runner(t, c)
				ctx, end := context.WithCancel(t.Context())
				defer end()
				calls := 0
				r.Step = func(ctx context.Context, call steps.Call) (Result, error) {
					mine := calls
					calls++
					if mine == at && !after {
						end()
					}
					result, err := w.step(ctx, call)
					if mine == at && after {
						end()
					}
					return result, err
				}
				_, err := measure(ctx, t, r)
				if err == nil && ctx.Err() == nil {
					err = r.Aggregate(ctx)
				}
				if ctx.Err() == nil {
					t.Fatalf("it was not ended: %v", err)
				}
				r.Step = w.step
				if failures, err := measure(t.Context(), t, r); err != nil || len(failures) > 0 {
					t.Fatal(failures, err)
				}
				if err := r.Aggregate(t.Context()); err != nil {
					t.Fatalf("%v\n%s", err, stdout)
				}
				if got := told(t, r); got != want {
					t.Error(cmp.Diff(want, got))
				}
				measured := 0
				for _, call := range w.calls {
					if call.Name == steps.Bench.Name {
						measured++
					}
				}
				if measured > points+1 { // the one in which it was ended
					t.Errorf("%d points were measured, of %d", measured, points)
				}
			})
		}
	}
}

// told is what the estimate says, without when and where it was made.
func told(t *testing.T, r *Runner) string {
	t.Helper()
	p := estimate(t, r)
	for i := range p.Fit.Points {
		p.Fit.Points[i].Source = "" // in a directory of its own
	}
	data, err := json.MarshalIndent(struct{ Fit, Verdict, Values any }{p.Fit, p.Verdict, []*float64{p.Alpha, p.Beta, p.Gamma, p.Delta}}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
