// Package design chooses what to measure: the batch sizes, shapes and seconds that
// reach an asked precision of the parameters at least cost.
package design

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat/distuv"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/sweep"
)

// repeat is by how much two runs of the same point differ: what the fit supposes too.
const repeat = fit.BetweenRuns

// kept is the share of sweeps in which the intervals of one line are no wider than
// promised; both lines of linear4 together then keep it in nine of ten.
const kept = 0.93

// width is half of a 95 % interval, in standard errors, that so many degrees of freedom
// give in that share of the sweeps: Student's t, of a scatter that came out large. Fewer
// than three the fit fills up.
func width(freedom int) float64 {
	freedom = max(3, freedom)
	if w, known := widths.Load(freedom); known {
		return w.(float64)
	}
	k := float64(freedom)
	w := fit.Reach(k) * math.Sqrt(distuv.ChiSquared{K: k}.Quantile(kept)/k)
	widths.Store(freedom, w)
	return w
}

// widths are those that were asked for: a search asks for few, many thousand times.
var widths sync.Map

// Noise is the relative standard error of a point's mean after one second; it falls
// with the square root of the seconds.
type Noise struct{ ITL, TTFT float64 }

// DefaultNoise is 0.3 % (ITL) and 1 % (TTFT) after a minute.
var DefaultNoise = Noise{0.003 * math.Sqrt(60), 0.01 * math.Sqrt(60)}

// Candidate is a point that could be measured.
type Candidate struct {
	Shape sweep.Shape
	Batch int
	rows  []row
}

// row is one latency of a candidate: how its logarithm depends on those of the
// parameters, and how noisy it is. What depends on no parameter in common is fitted
// apart.
type row struct {
	slope []float64
	noise float64
}

// Linear4Candidates are those of one shape, from what is expected of its parameters
// (alpha, beta, gamma, delta). TTFT at batch 1 does not count: the fit leaves it out.
func Linear4Candidates(shape sweep.Shape, batches []int, expected [4]float64, noise Noise) []Candidate {
	var cs []Candidate
	for _, b := range batches {
		n, tokens := float64(b), float64(shape.PromptTokens)
		itl, ttft := expected[0]+expected[1]*n, expected[2]+expected[3]*tokens*n
		c := Candidate{Shape: shape, Batch: b, rows: []row{{[]float64{expected[0] / itl, expected[1] * n / itl, 0, 0}, noise.ITL}}}
		if b > 1 {
			c.rows = append(c.rows, row{[]float64{0, 0, expected[2] / ttft, expected[3] * tokens * n / ttft}, noise.TTFT})
		}
		cs = append(cs, c)
	}
	return cs
}

// Iteration3Candidates are those of all shapes together, from what is expected of
// alpha, beta and gamma. It fails for values that are not above zero.
func Iteration3Candidates(shapes []sweep.Shape, batches []int, expected [3]float64, noise Noise) ([]Candidate, error) {
	return jointCandidates(fit.Iteration3, shapes, atLeast(batches, 2), expected[:], len(expected), noise) // the fit leaves out 1
}

// jointCandidates are the candidates of a joint model, shape by shape, from what is
// expected of all its terms, for the first so many of them.
func jointCandidates(model string, shapes []sweep.Shape, batches []int, expected []float64, count int, noise Noise) ([]Candidate, error) {
	at := func(i int, factor float64, w fit.Work) (float64, error) {
		var terms []fit.Term
		for k, name := range fit.TermNames(model) {
			value := expected[k]
			if k == i {
				value *= factor
			}
			terms = append(terms, fit.Term{Name: name, Parameter: fit.Parameter{Value: value}})
		}
		m, err := fit.Restore(model, terms, nil, fit.Range{}, fit.Spread{})
		if err != nil {
			return 0, err
		}
		itl, _ := m.Predict(w)
		return itl, nil
	}
	var cs []Candidate
	for _, shape := range shapes {
		for _, b := range batches {
			w := fit.Work{Batch: float64(b), PromptTokens: float64(shape.PromptTokens), OutputTokens: float64(shape.OutputTokens)}
			slope := make([]float64, count)
			for i := range slope {
				const step = 1e-4
				up, err := at(i, 1+step, w)
				if err != nil {
					return nil, err
				}
				down, err := at(i, 1-step, w)
				if err != nil {
					return nil, err
				}
				slope[i] = (math.Log(up) - math.Log(down)) / (2 * step)
			}
			cs = append(cs, Candidate{shape, b, []row{{slope, noise.ITL}}})
		}
	}
	return cs, nil
}

// Selection is what to measure, and what is expected of it.
type Selection struct {
	Points    []Candidate // by shape and batch
	Seconds   float64     // of each point
	Times     int         // that the sweep is to be run, for one estimate of all
	Precision []float64   // half-width of the 95 % interval of each parameter, relative, that 9 of 10 sweeps keep
	Cost      float64     // seconds, overhead and the first point's second run included
}

// most is how often a sweep is run at most: each time costs as much as the first, and adds
// degrees of freedom.
const most = 4

// Seconds are the lengths of a point that are tried.
var Seconds = []float64{10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600}

// Choose finds a cheap plan in which the half-width of every parameter's interval
// is at most precision (0.02: 2 %) and which has at least so many points. For each
// length of a point it adds the candidate that shrinks the volume of the
// parameters' confidence region most (D-optimal, greedily: V. V. Fedorov, "Theory of
// Optimal Experiments", 1972) until the precision is reached, and takes out again what is
// not needed. overhead is what a point costs besides, seconds. names are those of the
// parameters.
func Choose(candidates []Candidate, names []string, precision, overhead float64, least int) (Selection, error) {
	if len(candidates) < least {
		return Selection{}, fmt.Errorf("%d points to choose from, and %d are needed: allow more batch sizes or shapes", len(candidates), least)
	}
	best, closest := Selection{Cost: math.Inf(1)}, Selection{}
	for times := 1; times <= most; times++ {
		closest = everything(candidates, len(names), length{slices.Max(Seconds), times})
		if worst(closest) > precision {
			continue // and so is less than that
		}
		for _, seconds := range Seconds {
			// What is added after the precision is reached can make more of the rest needless.
			for _, until := range []float64{precision, precision / 2} {
				if p := greedy(candidates, len(names), length{seconds, times}, until, precision, overhead, least); worst(p) <= precision && p.Cost < best.Cost {
					best = p
				}
			}
		}
	}
	if !math.IsInf(best.Cost, 1) {
		return best, nil
	}
	var reached []string
	for i, name := range names {
		reached = append(reached, fmt.Sprintf("%s %.2g %%", name, 100*closest.Precision[i]))
	}
	return Selection{}, fmt.Errorf("%.2g %% is out of reach: all %d points at %.0f s each, %d times, give %s; allow larger batches, or ask for less",
		100*precision, len(closest.Points), closest.Seconds, closest.Times, strings.Join(reached, ", "))
}

// everything is the selection of all candidates.
func everything(candidates []Candidate, parameters int, l length) Selection {
	chosen := make([]int, len(candidates))
	for i := range chosen {
		chosen[i] = i
	}
	return Selection{Points: candidates, Seconds: l.seconds, Times: l.times, Precision: halfWidths(candidates, chosen, parameters, l)}
}

func worst(p Selection) float64 { return slices.Max(p.Precision) }

// length is how long a plan measures: the seconds of each point, and how often.
type length struct {
	seconds float64
	times   int
}

// greedy adds points until the precision is one, and takes out what is not needed for the
// other.
func greedy(candidates []Candidate, parameters int, l length, until, precision, overhead float64, least int) Selection {
	var chosen []int
	left := make([]int, len(candidates))
	for i := range left {
		left[i] = i
	}
	reached := halfWidths(candidates, chosen, parameters, l)
	for len(left) > 0 && (len(chosen) < least || slices.Max(reached) > until) {
		at, most := 0, math.Inf(-1)
		for i, c := range left {
			if d := volume(candidates, append(slices.Clone(chosen), c), parameters, l); d > most {
				at, most = i, d
			}
		}
		chosen, left = append(chosen, left[at]), slices.Delete(left, at, at+1)
		reached = halfWidths(candidates, chosen, parameters, l)
	}
	for i := 0; i < len(chosen) && len(chosen) > least; {
		without := slices.Delete(slices.Clone(chosen), i, i+1)
		if w := halfWidths(candidates, without, parameters, l); slices.Max(w) <= precision {
			chosen, reached = without, w
			continue
		}
		i++
	}
	slices.Sort(chosen)
	p := Selection{Seconds: l.seconds, Times: l.times, Precision: reached, Cost: float64(l.times*(len(chosen)+1)) * (l.seconds + overhead)}
	for _, c := range chosen {
		p.Points = append(p.Points, candidates[c])
	}
	return p
}

// rowsOf are those of the chosen points, and of the first once more: a sweep ends with it.
func rowsOf(candidates []Candidate, chosen []int) []row {
	var rows []row
	for _, c := range chosen {
		rows = append(rows, candidates[c].rows...)
	}
	if len(chosen) > 0 {
		rows = append(rows, candidates[slices.Min(chosen)].rows...)
	}
	return rows
}

// information of the rows, in relative units. A trace of it is there from the start, so
// that the first points can be told apart.
func information(rows []row, parameters int, l length) *mat.SymDense {
	m := mat.NewSymDense(parameters, nil)
	for i := range parameters {
		m.SetSym(i, i, 1e-6)
	}
	for _, r := range rows {
		weight := float64(l.times) / (r.noise*r.noise/l.seconds + repeat*repeat)
		for i, a := range r.slope { // so few numbers that calls of BLAS take longer
			for j := i; a != 0 && j < parameters; j++ {
				m.SetSym(i, j, m.At(i, j)+weight*a*r.slope[j])
			}
		}
	}
	return m
}

func volume(candidates []Candidate, chosen []int, parameters int, l length) float64 {
	var c mat.Cholesky
	if !c.Factorize(information(rowsOf(candidates, chosen), parameters, l)) {
		return math.Inf(-1)
	}
	return c.LogDet()
}

func halfWidths(candidates []Candidate, chosen []int, parameters int, l length) []float64 {
	w := make([]float64, parameters)
	rows := rowsOf(candidates, chosen)
	var c mat.Cholesky
	var inverse mat.SymDense
	ok := c.Factorize(information(rows, parameters, l)) && c.InverseTo(&inverse) == nil
	for i := range w {
		w[i] = math.Inf(1)
		if ok {
			w[i] = width(freedom(rows, i, l.times)) * math.Sqrt(inverse.At(i, i))
		}
	}
	return w
}

// freedom is that of the fit which the parameter belongs to: its rows, each so many
// times, less its parameters and a drift.
func freedom(rows []row, parameter, times int) int {
	n := 0
	fitted := map[int]bool{}
	for _, r := range rows {
		if r.slope[parameter] == 0 {
			continue
		}
		n += times
		for i, x := range r.slope {
			if x != 0 {
				fitted[i] = true
			}
		}
	}
	return n - len(fitted) - 1
}

// Batches is the grid of batch sizes up to the largest allowed.
func Batches(most int) []int {
	var all []int
	for _, b := range []int{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256} {
		if b < most {
			all = append(all, b)
		}
	}
	return append(all, most)
}
