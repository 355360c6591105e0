package local

import (
	"context"
	"slices"
	"strings"
	"testing"

	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/precision"
)

func wanted(text string) config.Config {
	c := small()
	c.Shapes = []config.Shape{{Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 32}}}
	c.BatchSizes = []int{1, 2, 4, 8, 16, 32, 64}
	c.Precision = text
	return c
}

// count is how many points were measured, and how many measurements there are.
func count(t *testing.T, r *Runner, w *world) (measured, kept int) {
	t.Helper()
	have, err := r.measured(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(w.benched), len(layout.MeasurementsOf(r.Run, "A100", have))
}

// engineOf is a server whose two lines a sweep tells well.
var engineOf = simulate.Config{Latency: simulate.Engine, Base: 6.72, Seq: 0.0215, Ctx: 5.37e-5, Pre: 0.0166, Jitter: 0.05, Wander: 0.02, Seed: 11}

// Rounds of points end when the precision is reached, and the verdict knows of it.
func TestRoundsReachAPrecision(t *testing.T) {
	r, w, said, stdout := runner(t, wanted("alpha=1%,beta=5%"))
	w.seconds, w.config = 0, engineOf
	if failures, err := measure(t.Context(), t, r); err != nil || len(failures) > 0 {
		t.Fatal(failures, err)
	}
	if err := r.Aggregate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if short := r.Imprecise(); len(short) > 0 || r.ended["A100"].Ended != precision.Reached {
		t.Errorf("%+v, %q", r.ended, short)
	}
	estimated := estimate(t, r)
	for name, most := range map[string]float64{"alpha": 0.01, "beta": 0.05} {
		if value, low, high, ok := estimated.Parameter(name); !ok || (high-low)/2/value > most {
			t.Errorf("%s: %v [%v, %v]", name, value, low, high)
		}
	}
	if asked, kept := count(t, r, w); asked != kept || asked < 8 || asked > 40 {
		t.Errorf("%d points were measured, %d are kept", asked, kept)
	}
	if text := strings.Join(said.said, "\n"); !strings.Contains(text, "two-run recipe takes 12.0") || strings.Contains(stdout.String(), "precision that was asked for") {
		t.Errorf("%s\n%s", text, stdout)
	}
}

// A run that is stopped in the middle of a round and resumed measures the rest of that
// round, and nothing twice.
func TestRoundsAreResumedInTheMiddle(t *testing.T) {
	for _, after := range []int{3, 7} { // points of the first round, of the second
		r, w, said, _ := runner(t, wanted("alpha=1%,beta=5%"))
		w.seconds, w.config = 0, engineOf
		ctx, cancel := context.WithCancel(t.Context())
		done := 0
		said.done = func(sweep.Point) {
			if done++; done == after {
				cancel()
			}
		}
		if _, err := measure(ctx, t, r); err == nil {
			t.Fatal("not interrupted")
		}
		said.done = nil
		if failures, err := measure(t.Context(), t, r); err != nil || len(failures) > 0 {
			t.Fatal(failures, err)
		}
		asked, kept := count(t, r, w)
		if r.ended["A100"].Ended != precision.Reached || asked != kept {
			t.Errorf("after %d points: %d points were measured, %d are kept; %+v", after, asked, kept, r.ended)
		}
		if want := []int{1, 8, 64, 32, 4, 1}; !slices.Equal(w.benched[:6], want) {
			t.Errorf("after %d points: the first round measured %v, want %v", after, w.benched[:6], want)
		}
	}
}

// A budget that is too small ends with what was reached, and says so.
func TestABudgetEndsRounds(t *testing.T) {
	c := wanted("alpha=0.1%")
	c.MaxGPUMinutes = 1.8
	r, w, _, stdout := runner(t, c)
	w.seconds, w.config = 0, engineOf
	if failures, err := measure(t.Context(), t, r); err != nil || len(failures) > 0 {
		t.Fatal(failures, err)
	}
	if err := r.Aggregate(t.Context()); err != nil {
		t.Fatal(err)
	}
	short := strings.Join(r.Imprecise(), "; ")
	if r.ended["A100"].Ended != precision.Budget || !strings.Contains(short, "A100 ended by budget: 128/32: alpha ±") {
		t.Errorf("%+v: %q", r.ended, short)
	}
	if p := estimate(t, r); p.Verdict.Level != "warned" || !strings.Contains(stdout.String(), "alpha is told to") {
		t.Errorf("%+v\n%s", p.Verdict, stdout)
	}
}
