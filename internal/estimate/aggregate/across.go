package aggregate

import (
	"cmp"
	"slices"

	"wfgen.dev/internal/estimate/compare"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/sweep/linear4"
)

// mostEarlier is how many earlier runs are kept with a set of parameters.
const mostEarlier = 20

// Across adds to every set of parameters what it and earlier runs of the same tell of
// another run: the same model, accelerator, shape and method, and the same server as far
// as is known, for what an upgrade changes differs from no run to the next. What an
// earlier run knows of those before it counts as well, so that the one accepted last is
// enough. Runs are told apart by when they were measured, so that a copy counts once.
func Across(s *parameters.Summary, earlier []parameters.Parameters) {
	for i := range s.Parameters {
		p := &s.Parameters[i]
		runs := []parameters.Parameters{*p}
		for _, q := range earlier {
			if sameFit(*p, q) && q.Provenance.SameServer(p.Provenance) {
				runs = append(runs, q)
			}
		}
		p.Fit.Across = nil
		for _, name := range linear4.Names() {
			if a, ok := across(name, runs); ok {
				p.Fit.Across = append(p.Fit.Across, a)
			}
		}
	}
}

func sameFit(p, q parameters.Parameters) bool {
	whole := [2]float64{}
	of := func(r *[2]float64) [2]float64 {
		if r == nil {
			return whole
		}
		return *r
	}
	return compare.What(p) == compare.What(q) && p.Fit.Method == q.Fit.Method && p.Fit.Batch == q.Fit.Batch && of(p.Fit.Range) == of(q.Fit.Range)
}

// across is what the first of the runs has of a parameter, together with the others.
func across(name string, runs []parameters.Parameters) (a parameters.Across, ok bool) {
	var all []parameters.Run
	add := func(r parameters.Run) {
		known := slices.ContainsFunc(all, func(other parameters.Run) bool { return other.MeasuredFrom == r.MeasuredFrom })
		if r.StandardError > 0 && !known {
			all = append(all, r)
		}
	}
	for i, r := range runs {
		value, low, high, ok := r.Parameter(name)
		switch {
		case ok && high > low:
			add(parameters.Run{MeasuredFrom: r.Provenance.MeasuredFrom, Value: value, StandardError: r.StandardError(name)})
		case i == 0:
			return a, false
		}
	}
	for _, r := range runs {
		for _, before := range r.Fit.Across {
			if before.Name == name {
				for _, e := range before.Earlier {
					add(e)
				}
			}
		}
	}
	if len(all) == 0 {
		return a, false
	}
	before := all[1:]
	slices.SortStableFunc(before, func(a, b parameters.Run) int { return cmp.Compare(b.MeasuredFrom, a.MeasuredFrom) })
	before = before[:min(len(before), mostEarlier)]
	var values []fit.Parameter
	for _, r := range all[:1+len(before)] {
		values = append(values, fit.Parameter{Value: r.Value, StandardError: r.StandardError})
	}
	another, between, err := fit.AcrossRuns(values)
	if err != nil || !another.HasInterval() {
		return a, false
	}
	return parameters.Across{Name: name, Runs: len(values), Value: another.Value, BetweenPercent: 100 * between, Low: another.Low, High: another.High, Earlier: before}, true
}
