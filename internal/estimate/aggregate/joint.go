package aggregate

import (
	"cmp"
	"slices"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
)

// joint fits the models that hold for all shapes, for every model and accelerator
// with points of two shapes or more, and keeps those that were made already.
func joint(made []parameters.Joint, groups map[key][]Source, points map[key][]fit.Point, seen map[key]parameters.Parameters, o Options) []parameters.Joint {
	type pair struct{ model, accelerator string }
	type one struct {
		pair
		fit string
	}
	all := map[one]parameters.Joint{}
	for _, j := range made {
		k := one{pair{j.Model, j.Accelerator}, j.Fit}
		if before, ok := all[k]; !ok || j.Provenance.MeasuredTo > before.Provenance.MeasuredTo {
			all[k] = j
		}
	}
	if o.Method != fit.TwoPoint {
		shapes := map[pair][]key{}
		for k := range groups {
			p := pair{k.model, k.accelerator}
			shapes[p] = append(shapes[p], k)
		}
		for p, keys := range shapes {
			if len(keys) < 2 {
				continue
			}
			slices.SortFunc(keys, func(a, b key) int {
				return cmp.Or(cmp.Compare(a.shape.PromptTokens, b.shape.PromptTokens), cmp.Compare(a.shape.OutputTokens, b.shape.OutputTokens))
			})
			var together []fit.Point
			var sources []Source
			var of []key // of each point
			for _, k := range keys {
				for _, q := range points[k] {
					q.Label = k.shape.String() + " " + q.Label
					together, of = append(together, q), append(of, k)
				}
				sources = append(sources, groups[k]...)
			}
			for _, f := range []fit.Joint{fit.FitIteration3(together), fit.FitEngine(together)} {
				var shares map[string]float64
				if f.Model == fit.Engine {
					shares = holdEngineAgainstFloor(&f, p.accelerator, sources, o)
				}
				j := parameters.NewJoint(p.model, p.accelerator, f)
				for i := range j.Terms {
					if percent, ok := shares[j.Terms[i].Name]; ok {
						j.Terms[i].BandwidthPercent = &percent
					}
				}
				j.Provenance = provenance(sources)
				warnOfDifferences(&j.Verdict, sources, f.Used)
				imply(&j, f, together, of, keys, seen)
				all[one{p, j.Fit}] = j
			}
		}
	}
	var list []parameters.Joint
	for _, j := range all {
		list = append(list, j)
	}
	slices.SortFunc(list, func(a, b parameters.Joint) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Accelerator, b.Accelerator), -cmp.Compare(a.Fit, b.Fit))
	})
	return list
}

// imply adds the linear4 that the model implies at each shape, over the batches
// that it used there, and how far it is from the measured one.
func imply(j *parameters.Joint, f fit.Joint, points []fit.Point, of []key, keys []key, seen map[key]parameters.Parameters) {
	if j.Verdict.Level == fit.Refused {
		return
	}
	for _, k := range keys {
		from, to := 0.0, 0.0
		for _, i := range f.Used {
			if b := points[i].Batch; of[i] == k {
				if from == 0 || b < from {
					from = b
				}
				to = max(to, b)
			}
		}
		if !(to > from) {
			continue // no range to lay a line over
		}
		i, err := j.Imply(k.shape, from, to)
		if err != nil {
			continue // refused: it has no terms
		}
		p := seen[k]
		i.Compare(&p)
		j.Linear4 = append(j.Linear4, i)
	}
}
