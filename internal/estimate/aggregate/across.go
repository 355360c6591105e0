package aggregate

import (
	"slices"

	"wfgen.dev/internal/estimate/compare"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/sweep/linear4"
)

// Across adds to every set of parameters what it and earlier runs of the same model,
// accelerator, shape and method tell of another run. Runs are told apart by when they
// were measured, so that a copy of one counts once.
func Across(s *parameters.Summary, earlier []parameters.Parameters) {
	for i := range s.Parameters {
		p := &s.Parameters[i]
		runs := []parameters.Parameters{*p}
		for _, q := range earlier {
			known := slices.ContainsFunc(runs, func(r parameters.Parameters) bool { return r.Provenance.MeasuredFrom == q.Provenance.MeasuredFrom })
			if compare.What(q) == compare.What(*p) && q.Fit.Method == p.Fit.Method && q.Fit.Batch == p.Fit.Batch && !known {
				runs = append(runs, q)
			}
		}
		p.Fit.Across = nil
		for _, name := range linear4.Names() {
			var values []fit.Parameter
			for _, r := range runs {
				if value, low, high, ok := r.Parameter(name); ok && high > low {
					values = append(values, fit.Parameter{Value: value, StandardError: r.StandardError(name)})
				}
			}
			another, between, err := fit.AcrossRuns(values)
			if err != nil || !another.HasInterval() {
				continue
			}
			p.Fit.Across = append(p.Fit.Across, parameters.Across{Name: name, Runs: len(values), Value: another.Value,
				BetweenPercent: 100 * between, Low: another.Low, High: another.High})
		}
	}
}
