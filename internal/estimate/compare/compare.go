// Package compare tells whether two estimates of the same thing differ: drift of
// a server, found by a joint test of its parameters.
package compare

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat/distuv"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep/linear4"
)

// level of significance, of the joint test and of each parameter.
const level = 1 - fit.Confidence

// Result compares one set of parameters, measured twice.
type Result struct {
	What     string   // model, accelerator and, for linear4, shape
	Model    string   // linear4, iteration3 or engine
	Changes  []Change // of each parameter
	Tested   int      // parameters in the joint test; 0: there was none
	P        float64  // of the joint test: how likely differences like these are without a change; NaN when there was none
	FamilyP  float64  // the same among all sets that were compared: their false alarms together are no more than one set's; NaN when there was none
	Warnings []string // what else differs
	Drift    []string // names of the parameters beyond the band
}

// Change is what became of one parameter.
type Change struct {
	Name     string
	Old, New float64
	Percent  float64 // new over old minus one
	Low      float64 // of the 95 % interval of Percent; NaN where one side has none
	High     float64
	P        float64 // of the parameter alone; NaN where one side has no interval
	Note     string  // why it was not compared; empty: it was
}

// estimate is one side of a comparison.
type estimate struct {
	what, model string
	terms       []term
	covariance  func(i, j int) float64 // NaN when unknown
	moment      float64                // relative variance of all values together: by which the server changed while it was measured
	refused     []string
	provenance  parameters.Provenance
	method      string // with the batch size that it is over
}

type term struct {
	name           string
	value          float64
	error, freedom float64 // NaN error: unknown
	absent         string  // why it has no value; empty: it has one
}

// Compare compares everything that both summaries hold. A parameter drifts when it
// changed by more than band (0.05: 5 %), significantly (5 % level), and the joint
// test of its set is significant among those of all sets, so that no parameter among
// many drifts by chance. Where a side has no intervals the values alone decide.
// notes name what only one side holds. It is an error when they have nothing in
// common (exit.Usage) or a set of either side is refused (exit.Refused).
func Compare(before, after parameters.Summary, band float64) (results []Result, notes []string, err error) {
	olds, news := estimates(before), estimates(after)
	var refused []error
	for _, o := range olds {
		i := slices.IndexFunc(news, func(n estimate) bool { return n.what == o.what && n.model == o.model })
		if i < 0 {
			notes = append(notes, fmt.Sprintf("only OLD has %s of %s", o.model, o.what))
			continue
		}
		n := news[i]
		news = slices.Delete(news, i, i+1)
		bad := false
		for _, side := range []struct {
			name string
			of   estimate
		}{{"OLD", o}, {"NEW", n}} {
			if len(side.of.refused) == 0 {
				continue
			}
			bad = true
			text := fmt.Errorf("%s: %s of %s is refused: %s", side.name, o.model, o.what, side.of.refused[0])
			if o.model == parameters.Linear4 {
				refused = append(refused, text)
			} else {
				notes = append(notes, text.Error())
			}
		}
		if !bad {
			results = append(results, compare(o, n))
		}
	}
	judge(results, band)
	for _, n := range news {
		notes = append(notes, fmt.Sprintf("only NEW has %s of %s", n.model, n.what))
	}
	if err := errors.Join(refused...); err != nil {
		return results, notes, exit.With(exit.Refused, err)
	}
	if len(results) == 0 {
		return nil, notes, exit.Errorf(exit.Usage, "OLD and NEW have no model, accelerator and shape in common: %s", strings.Join(notes, "; "))
	}
	return results, notes, nil
}

func compare(o, n estimate) Result {
	r := Result{What: o.what, Model: o.model, P: math.NaN(), FamilyP: math.NaN(), Warnings: differences(o, n)}
	var tested []int
	freedom := math.Inf(1)
	for i, a := range o.terms {
		b := n.terms[i]
		c := Change{Name: a.name, Old: a.value, New: b.value, Percent: 100 * (b.value/a.value - 1), Low: math.NaN(), High: math.NaN(), P: math.NaN()}
		if a.absent != "" || b.absent != "" {
			if a.absent != b.absent {
				c.Note = cmp.Or(a.absent, b.absent)
				r.Changes = append(r.Changes, c)
			}
			continue
		}
		// The ratio is tested by its logarithm, whose error is that of both relative ones.
		x, y := a.error/a.value, b.error/b.value
		if variance := x*x + y*y + o.moment + n.moment; variance > 0 {
			const most = 1e6                                                           // beyond which Student's t is normal
			free := min(most, variance*variance/(x*x*x*x/a.freedom+y*y*y*y/b.freedom)) // Welch and Satterthwaite
			t := distuv.StudentsT{Sigma: 1, Nu: free}
			ratio, deviation := math.Log(b.value/a.value), math.Sqrt(variance)
			half := t.Quantile(1-level/2) * deviation
			c.Low, c.High = 100*math.Expm1(ratio-half), 100*math.Expm1(ratio+half)
			c.P = 2 * t.Survival(math.Abs(ratio)/deviation)
			tested = append(tested, i)
			freedom = min(freedom, free)
		}
		r.Changes = append(r.Changes, c)
	}
	r.P = joint(o, n, tested, freedom)
	if !math.IsNaN(r.P) {
		r.Tested = len(tested)
	}
	return r
}

// judge names the parameters that drift. The joint tests share one level, so that all
// sets together raise no more false alarms than one would: the most significant is
// held against it as one of all, the next as one of all others, until one is not
// significant (S. Holm, 1979).
func judge(results []Result, band float64) {
	order := make([]int, 0, len(results))
	for i, r := range results {
		if !math.IsNaN(r.P) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(results[a].P, results[b].P) })
	family := 0.0
	for k, i := range order {
		family = max(family, min(1, results[i].P*float64(len(order)-k)))
		results[i].FamilyP = family
	}
	for i := range results {
		r := &results[i]
		for _, c := range r.Changes {
			if c.Note != "" || math.Abs(c.Percent) <= 100*band || c.P >= level || r.FamilyP >= level {
				continue
			}
			r.Drift = append(r.Drift, c.Name)
		}
	}
}

// joint is the p-value of Wald's test that no parameter changed, by the F
// distribution, with the smallest of the parameters' degrees of freedom.
func joint(o, n estimate, tested []int, freedom float64) float64 {
	k := len(tested)
	if k == 0 {
		return math.NaN()
	}
	// Scaled to relative changes, so that the matrix is well conditioned.
	v, d := mat.NewSymDense(k, nil), mat.NewVecDense(k, nil)
	for a, i := range tested {
		d.SetVec(a, n.terms[i].value/o.terms[i].value-1)
		for b, j := range tested[:a+1] {
			scale := o.terms[i].value * o.terms[j].value
			v.SetSym(a, b, (o.covariance(i, j)+n.covariance(i, j))/scale+o.moment+n.moment)
		}
	}
	var c mat.Cholesky
	var x mat.VecDense
	if !c.Factorize(v) || c.SolveVecTo(&x, d) != nil {
		return math.NaN()
	}
	return distuv.F{D1: float64(k), D2: max(1, freedom)}.Survival(mat.Dot(d, &x) / float64(k))
}

// differences are what else is not equal.
func differences(o, n estimate) []string {
	facts := func(e estimate) []parameters.Fact {
		return append(e.provenance.Server(), parameters.Fact{What: "KV cache", Values: e.provenance.Cache},
			parameters.Fact{What: "node", Values: e.provenance.Node}, parameters.Fact{What: "method", Values: parameters.Values{e.method}})
	}
	var warnings []string
	now := facts(n)
	for i, f := range facts(o) {
		if before, after := f.Values.String(), now[i].Values.String(); before != after {
			warnings = append(warnings, fmt.Sprintf("the %s differs: %s, now %s", f.What, cmp.Or(before, "not known"), cmp.Or(after, "not known")))
		}
	}
	return warnings
}

// moment is the relative variance by which a server that changed steadily while it was
// measured differs, at any moment of it, from itself in the middle: that of a uniform
// distribution over its drift.
func moment(l *parameters.Line) float64 {
	if l == nil || l.Drift == nil {
		return 0
	}
	drift := l.Drift.Percent / 100
	return drift * drift / 12
}

// What names a set of parameters, as Result does: sets of the same name are compared.
func What(p parameters.Parameters) string {
	return fmt.Sprintf("%s on %s, %s", p.Model, p.Accelerator, p.Shape)
}

// estimates are the sets of parameters in a summary.
func estimates(s parameters.Summary) []estimate {
	var all []estimate
	for _, p := range s.Parameters {
		e := estimate{
			what: What(p), model: parameters.Linear4,
			provenance: p.Provenance, method: p.Fit.Method + " over " + p.Fit.Batch + " batch",
		}
		if !p.HasITL() && !p.HasTTFT() {
			e.refused = p.Verdict.Reasons
			all = append(all, e)
			continue
		}
		lines := []*parameters.Line{p.Fit.Diagnostics.ITL, p.Fit.Diagnostics.TTFT}
		e.moment = moment(lines[0])
		intervals := []*parameters.Interval{p.Fit.Intervals.Alpha, p.Fit.Intervals.Beta, p.Fit.Intervals.Gamma, p.Fit.Intervals.Delta}
		for i, name := range linear4.Names() {
			value, _, _, ok := p.Parameter(name)
			t := term{name: name, value: value, error: math.NaN()}
			if !ok {
				t.absent = "refused on one side"
			}
			if l := lines[i/2]; intervals[i] != nil && l != nil && l.DegreesOfFreedom > 0 {
				t.error, t.freedom = intervals[i].StandardError, l.DegreesOfFreedom
			}
			e.terms = append(e.terms, t)
		}
		e.covariance = func(i, j int) float64 {
			switch {
			case i == j:
				return e.terms[i].error * e.terms[i].error
			case i/2 != j/2:
				return 0 // ITL and TTFT are fitted apart
			case lines[i/2] == nil || lines[i/2].Covariance == nil:
				return math.NaN()
			}
			return *lines[i/2].Covariance
		}
		all = append(all, e)
	}
	for _, j := range s.Joint {
		e := estimate{what: fmt.Sprintf("%s on %s", j.Model, j.Accelerator), model: j.Fit, provenance: j.Provenance}
		if j.Verdict.Level == fit.Refused {
			e.refused = j.Verdict.Reasons
		}
		for _, t := range j.Terms {
			one := term{name: t.Name, value: t.Value, error: math.NaN()}
			if t.Dropped != "" {
				one.absent = "one side cannot tell it from 0"
			}
			if t.Interval != nil && t.DegreesOfFreedom > 0 {
				one.error, one.freedom = t.Interval.StandardError, t.DegreesOfFreedom
			}
			e.terms = append(e.terms, one)
		}
		e.covariance = func(a, b int) float64 {
			if j.Covariance == nil {
				return math.NaN()
			}
			return j.Covariance[a][b]
		}
		all = append(all, e)
	}
	return all
}
