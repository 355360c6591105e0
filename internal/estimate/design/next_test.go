package design

import (
	"math"
	"slices"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep/precision"
)

func wish(t testing.TB, goals string) Wish {
	t.Helper()
	g, err := precision.Parse(goals)
	if err != nil {
		t.Fatal(err)
	}
	return Wish{Shape: shape, BatchSizes: []int{1, 2, 4, 8, 16, 32, 64}, Goals: g, MaxSeconds: 120, Left: math.Inf(1), Round: 2, MostRounds: 20,
		Capacity: func() Capacity { return Capacity{Share: 0.15, Batch: 30} }}
}

// sizes are the batch sizes of runs.
func sizes(runs []Run) (all []int) {
	for _, r := range runs {
		all = append(all, r.BatchSize)
	}
	return all
}

// round are points of these batch sizes, each off the line by a share of off in turn.
func round(off float64, batches ...int) (points []Measured) {
	for i, b := range batches {
		n, sign := float64(b), float64(1-2*(i%2))
		points = append(points, Measured{
			Point: fit.Point{Group: "g", Batch: n, PromptTokens: 512, OutputTokens: 128, At: 1e9 + 15*float64(i),
				ITL:  fit.Sample{MS: (expected[0] + expected[1]*n) * (1 + sign*off), StandardError: 0.004 * (expected[0] + expected[1]*n), Blocks: 5},
				TTFT: fit.Sample{MS: (expected[2] + expected[3]*512*n) * (1 + sign*off), StandardError: 0.01 * (expected[2] + expected[3]*512*n), Blocks: 5}},
			BatchSize: b, Window: 12, Seconds: 15,
		})
	}
	return points
}

func TestNext(t *testing.T) {
	w := wish(t, "alpha=1%,beta=2%")
	first := Next(nil, w)
	if got := sizes(first.Runs); !slices.Equal(got, []int{1, 8, 64, 32, 4, 1}) || first.Why != "" {
		t.Errorf("first round: %v, %q", got, first.Why)
	}
	measured := round(0.004, sizes(first.Runs)...)
	second := Next(measured, w)
	if len(second.Runs) != precision.NextPoints || second.Why != "" || !slices.Contains(sizes(second.Runs), 64) {
		t.Errorf("second round: %+v", second)
	}
	for _, r := range second.Runs {
		if r.Seconds < leastSeconds || r.Seconds > w.MaxSeconds || r.Seconds != math.Ceil(r.Seconds) {
			t.Errorf("a point of %v s", r.Seconds)
		}
	}

	// A void point is not measured again; a bend ends the candidates.
	measured[2].Void = new(reason.New(reason.Queue, "requests waited"))
	if got := Next(measured, w); slices.Contains(sizes(got.Runs), 64) {
		t.Errorf("batch 64 cannot be used: %+v", got.Runs)
	}
	measured[2].Void = nil

	for _, c := range []struct {
		name, why string
		points    []Measured
		change    func(*Wish)
	}{
		{"no room for a first round", precision.Budget, nil, func(w *Wish) { w.Left = 30 }},
		{"no room for another point", precision.Budget, measured, func(w *Wish) { w.Left = 10 }},
		{"as many rounds as there may be", precision.Rounds, measured, func(w *Wish) { w.Round = 21 }},
		{"nothing that could be wider", precision.Reached, round(0.0005, 1, 8, 64, 32, 4, 1, 64, 1), func(w *Wish) { w.Goals = wish(t, "alpha=20%,beta=50%").Goals }},
		{"a capacity as uncertain as its model", precision.Refused, round(0.0005, 1, 8, 64, 32, 4, 1, 64, 1), func(w *Wish) { w.Goals = wish(t, "capacity=10%").Goals }},
		{"all in one unit that is wrong", precision.Refused, scaled(measured, 1e-3), func(*Wish) {}},
	} {
		w := w
		c.change(&w)
		if d := Next(c.points, w); d.Why != c.why || len(d.Runs) > 0 {
			t.Errorf("%s: %q, %d runs, %s", c.name, d.Why, len(d.Runs), d.Describe())
		}
	}
	few := w
	few.Goals, few.Left = wish(t, "alpha=20%,beta=50%").Goals, 10
	if d := Next(round(0.0005, 1, 8, 64, 32, 4, 1), few); d.Why != precision.Budget || !strings.Contains(d.Describe(), "6 points are too few to tell that from chance: 8 are needed") {
		t.Errorf("%q, %s", d.Why, d.Describe())
	}
	if text := Next(measured, w).Describe(); !strings.Contains(text, "beta ±") || !strings.Contains(text, "wanted ±2 %") {
		t.Error(text)
	}
}

func scaled(points []Measured, by float64) []Measured {
	points = slices.Clone(points)
	for i := range points {
		for _, s := range []*fit.Sample{&points[i].ITL, &points[i].TTFT} {
			s.MS, s.StandardError = s.MS*by, s.StandardError*by
		}
	}
	return points
}

// What is expected takes more where more is asked for, and no more than may be spent.
func TestExpect(t *testing.T) {
	before := 0.0
	for _, goals := range []string{"alpha=2%,beta=20%", "alpha=1%,beta=5%", "alpha=0.6%,beta=3%"} {
		w := wish(t, goals)
		w.Overhead = 1
		runs, seconds, reached := Expect(w)
		if !reached || seconds < before || len(runs) < fewestPoints {
			t.Errorf("%s: %d points, %.0f s, reached %v; less precision took %.0f s", goals, len(runs), seconds, reached, before)
		}
		before = seconds
		w.Left = seconds / 2
		if _, spent, reached := Expect(w); reached || spent > w.Left {
			t.Errorf("%s within %.0f s: %.0f s, reached %v", goals, w.Left, spent, reached)
		}
	}
}
