package aggregate

import (
	"math"
	"slices"

	"wfgen.dev/internal/estimate/compare"
	"wfgen.dev/internal/estimate/parameters"
)

// Drift compares every set of parameters with the one that was accepted last, of the
// same model, accelerator and shape. A parameter drifts as compare.Compare has it.
func Drift(s parameters.Summary, last []parameters.Parameters, band float64) *parameters.Drift {
	var before, after parameters.Summary
	for _, p := range s.Parameters {
		i := slices.IndexFunc(last, func(l parameters.Parameters) bool { return compare.What(l) == compare.What(p) })
		if i >= 0 && p.Published() && last[i].Published() {
			before.Parameters, after.Parameters = append(before.Parameters, last[i]), append(after.Parameters, p)
		}
	}
	d := &parameters.Drift{Band: band, Sets: []parameters.Comparison{}}
	results, _, err := compare.Compare(before, after, band)
	if err != nil {
		return d // nothing in common; what is refused is not among them
	}
	for _, p := range after.Parameters {
		r := results[slices.IndexFunc(results, func(r compare.Result) bool { return r.What == compare.What(p) })]
		c := parameters.Comparison{
			Model: p.Model, Accelerator: p.Accelerator, Shape: p.Shape,
			Drifted: append([]string{}, r.Drift...), Changes: []parameters.Movement{}, Differences: r.Warnings,
		}
		for _, change := range r.Changes {
			if change.Note == "" && finite(change.Percent) {
				c.Changes = append(c.Changes, parameters.Movement{Name: change.Name, Old: change.Old, New: change.New, Percent: change.Percent,
					Low: known(change.Low), High: known(change.High)})
			}
		}
		d.Sets = append(d.Sets, c)
	}
	return d
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func known(x float64) *float64 {
	if !finite(x) {
		return nil
	}
	return &x
}
