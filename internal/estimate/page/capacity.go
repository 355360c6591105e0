package page

import (
	"fmt"
	"strings"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/sweep/slo"
)

// bearingOf is a row of the table.
func bearingOf(c capacity.Capacity, n names) bearing {
	of := func(e *capacity.Estimate) cell {
		if e == nil {
			return cell{Value: "–"}
		}
		x := cell{Value: parameters.Brief(e.Value)}
		if e.Low != nil && e.High != nil {
			x.Within = parameters.Brief(*e.Low) + " to " + parameters.Brief(*e.High)
		}
		return x
	}
	b := bearing{Name: n.join(c.Model, c.Accelerator, c.Shape), Level: c.Verdict.Level,
		Rate: of(c.Rate), InFlight: of(c.InFlight), Most: of(c.MostInFlight), OutputTokens: of(c.OutputTokens), Cost: of(c.CostPerMillion), Limit: cell{Value: c.Binding}}
	if c.Rate != nil && c.SaturationRate > 0 {
		b.Limit.Within = fmt.Sprintf("%.0f %% of saturation", 100*c.Rate.Value/c.SaturationRate)
	}
	return b
}

// bearingNotes is what must be known of a row: what its check said, and of its verdict
// what the page has not said already.
func bearingNotes(c capacity.Capacity, n names, said func(reason string) bool) (notes []concern) {
	where := n.join(c.Model, c.Accelerator, c.Shape)
	check := ""
	if c.Check != nil {
		check = c.Check.String()
	}
	for _, why := range c.Verdict.Reasons {
		if said(why) {
			continue
		}
		if check != "" && strings.Contains(why, check) {
			check = ""
		}
		notes = append(notes, concern{Where: where, Text: why})
	}
	if check != "" {
		notes = append(notes, concern{Where: where, Text: "measured: " + check})
	}
	return notes
}

// objectives are those that the capacities are for, as they are asked for.
func objectives(all []capacity.Capacity) string {
	var list []string
	for _, c := range all {
		for _, o := range c.Objectives {
			list = append(list, fmt.Sprintf("%s ≤ %s ms", o.Name, parameters.Brief(o.MS)))
		}
	}
	return strings.Join(parameters.Distinct(list, func(s string) string { return s }), ", ")
}

// slosOf are the objectives that the capacities of a model are for, as a flag has them;
// empty: none were asked for.
func slosOf(all []capacity.Capacity, model string) string {
	for _, c := range all {
		if c.Model == model && len(c.Objectives) > 0 {
			var list []slo.Objective
			for _, o := range c.Objectives {
				list = append(list, o.Objective)
			}
			return slo.Format(list)
		}
	}
	return ""
}

// comparedCapacity shows what one replica bears, and what its tokens cost, side by side.
func comparedCapacity(all []capacity.Capacity, n names) []figure {
	var figures []figure
	for _, f := range []struct {
		id, title, unit, class string
		of                     func(capacity.Capacity) *capacity.Estimate
		least                  bool // the smallest is the best
	}{
		{"capacity-rate", "What one replica bears", "requests per second", "itl", func(c capacity.Capacity) *capacity.Estimate { return c.Rate }, false},
		{"capacity-cost", "What its tokens cost", "money per million tokens", "ttft", func(c capacity.Capacity) *capacity.Estimate { return c.CostPerMillion }, true},
	} {
		var bars []bar
		best := 0
		for _, c := range all {
			e := f.of(c)
			if e == nil {
				continue
			}
			b := bar{label: n.join(c.Model, c.Accelerator, c.Shape), low: e.Value, high: e.Value}
			if e.Low != nil && e.High != nil {
				b.highEr = [2]float64{*e.Low, *e.High}
			}
			bars = append(bars, b)
			if better := e.Value < bars[best].high; better == f.least {
				best = len(bars) - 1
			}
		}
		if len(bars) < 2 {
			continue
		}
		word := "Most"
		if f.least {
			word = "Least"
		}
		figures = append(figures, compared(f.id, f.title, fmt.Sprintf("At the largest rate within %s, with 95 %% intervals. %s: %s, %s.", objectives(all), word, bars[best].label, parameters.Brief(bars[best].high)), f.class, f.unit, bars))
	}
	return figures
}
