package capacity

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

// Check is what measurements of open loops said of a claim.
type Check struct {
	Points  []Checked `json:"points"`            // ascending in rate
	Claimed *Estimate `json:"claimed,omitempty"` // the rate before it was lowered; absent: it stands
	Verdict string    `json:"verdict"`           // held, undecided, lowered or contradicted
}

// Verdicts of a check.
const (
	Held         = "held"         // the objectives were met at the claimed rate
	Undecided    = "undecided"    // nothing contradicts the claim, and nothing shows it
	Lowered      = "lowered"      // they were met at a lower rate only, which is now the claim
	Contradicted = "contradicted" // they were met at no rate that was measured
)

// Checked is one open loop.
type Checked struct {
	Rate       float64                `json:"requests_per_second"` // asked for
	Arrivals   string                 `json:"arrivals"`            // poisson or constant
	Behind     bool                   `json:"behind,omitempty"`    // the server fell behind
	Fewer      bool                   `json:"fewer,omitempty"`     // requests came than were asked for
	Harder     bool                   `json:"harder,omitempty"`    // was the load than asked for: more requests came, or in clumps
	Requests   int                    `json:"requests"`            // in the steady window
	InFlight   float64                `json:"in_flight"`           // mean, measured
	Objectives []measurement.Attained `json:"objectives"`
	Met        bool                   `json:"met"`               // every objective, up to twice its own error
	Unclear    bool                   `json:"unclear,omitempty"` // so large is that error that a miss would not have shown
	File       string                 `json:"file,omitempty"`
}

// String is the check for people.
func (c *Check) String() string {
	var parts []string
	for _, p := range c.Points {
		part := fmt.Sprintf("at %.4g/s", p.Rate)
		for _, o := range p.Objectives {
			part += fmt.Sprintf(" %s %.4g", o.Name, o.AttainedMS)
			if o.StandardErrorMS > 0 {
				part += fmt.Sprintf(" ± %.2g", 2*o.StandardErrorMS)
			}
			part += fmt.Sprintf(" ms (%.1f %% within)", 100*o.Share)
		}
		switch {
		case p.Behind:
			part += " the server falls behind"
		case p.Unclear:
			part += " not told from the bound"
		}
		if p.Fewer {
			part += " (fewer requests came)"
		}
		if p.Harder {
			part += " (more requests came, or in clumps)"
		}
		parts = append(parts, part)
	}
	return c.Verdict + ": " + strings.Join(parts, "; ")
}

// Measured is a measurement and where it is from.
type Measured struct {
	measurement.Measurement
	File string
}

// near is how far above or below a claim a measured rate may be to speak of it.
const near = 0.05

// Tolerance of a check: an objective counts as met up to sure times the standard error of
// what was measured. Where that is more than coarsest of the bound, and the bound lies within
// it, a miss of that size would have passed, and longer loops are needed.
const (
	sure     = 2
	coarsest = 0.05
)

// Check holds every capacity against the open loops among the measurements that were made
// for it: of its model, accelerator and shape, with its objectives. Those of one rate are
// taken together. A claim is what was asked to be planned with, the low end of its
// interval. Where the measurement contradicts it, the claim becomes the largest rate at
// which the objectives were met, or is refused.
func (f *File) Check(ms []Measured) {
	for i := range f.Capacities {
		c := &f.Capacities[i]
		var check Check
		for left := ms; c.Rate != nil; {
			var loops, others []Measured // of one rate, and of others
			for _, m := range left {
				switch {
				case m.Open == nil || m.Model != c.Model || m.Accelerator != c.Accelerator || m.Shape != c.Shape:
				case len(loops) > 0 && (m.Open.Rate != loops[0].Open.Rate || m.Open.Arrivals != loops[0].Open.Arrivals):
					others = append(others, m)
				default:
					loops = append(loops, m)
				}
			}
			if len(loops) == 0 {
				break
			}
			if p := Together(f.SLO, loops); len(p.Objectives) == len(f.SLO) || p.Behind {
				check.Points = append(check.Points, p)
			}
			left = others
		}
		if len(check.Points) > 0 {
			slices.SortFunc(check.Points, func(a, b Checked) int { return cmp.Compare(a.Rate, b.Rate) })
			c.judge(check)
		}
	}
}

// Together is what open loops of one rate, at least one, said of the objectives: means
// over their requests.
func Together(slos []slo.Objective, loops []Measured) Checked {
	first := loops[0]
	p := Checked{Rate: first.Open.Rate, Arrivals: first.Open.Arrivals, File: first.File, Met: true}
	weights := make([]float64, len(loops))
	total := 0.0
	for i, m := range loops {
		p.Behind = p.Behind || m.Open.Behind
		p.Fewer = p.Fewer || m.Astray() < 0
		p.Harder = p.Harder || m.Astray() > 0 || m.Open.Clumped
		p.Requests += m.Requests.InWindow
		weights[i] = math.Max(1, float64(m.Requests.InWindow))
		total += weights[i]
	}
	for i, m := range loops {
		p.InFlight += weights[i] / total * m.Taken.Batch
	}
	for _, s := range slos {
		var a measurement.Attained
		variance, asked := 0.0, true
		for i, m := range loops {
			at := slices.IndexFunc(m.Open.Objectives, func(a measurement.Attained) bool { return a.Objective == s })
			if at < 0 {
				asked = false
				break
			}
			one, share := m.Open.Objectives[at], weights[i]/total
			a.Objective, a.Name = one.Objective, one.Name
			a.AttainedMS += share * one.AttainedMS
			a.Share += share * one.Share
			variance += square(share * one.StandardErrorMS)
		}
		if !asked {
			p.Met = false
			continue
		}
		a.StandardErrorMS = math.Sqrt(variance)
		a.Met = a.AttainedMS <= a.MS
		p.Objectives = append(p.Objectives, a)
		margin := sure * a.StandardErrorMS
		p.Met = p.Met && a.AttainedMS-margin <= a.MS
		p.Unclear = p.Unclear || margin > coarsest*a.MS && a.AttainedMS+margin > a.MS
	}
	p.Met = p.Met && !p.Behind && len(p.Objectives) > 0
	p.Unclear = p.Unclear && p.Met
	return p
}

func (c *Capacity) judge(check Check) {
	safe := c.Rate.Safe()
	best, contradicted, shown := 0.0, false, false
	for _, p := range check.Points {
		// Even intervals are kinder than chance: what is met there shows nothing, as with
		// fewer requests.
		if p.Met && p.Arrivals != sweep.Constant && !p.Fewer {
			best = max(best, p.Rate)
			shown = shown || p.Rate >= safe*(1-near) && !p.Unclear
		}
		// Clumps are harsher, and so are more requests: what is missed there shows nothing.
		contradicted = contradicted || !p.Met && !p.Harder && p.Rate <= safe*(1+near)
	}
	c.Check = &check
	switch {
	case contradicted:
	case shown:
		check.Verdict = Held
		return
	default:
		check.Verdict = Undecided
		c.Verdict.Warn(reason.New(reason.Objective, "the check does not decide whether the claim holds: %s", &check).Cured("let requests arrive at random, at the claimed rate, for longer"))
		return
	}
	claimed := *c.Rate
	check.Claimed = &claimed
	if best == 0 || best >= safe {
		check.Verdict = Contradicted
		c.Rate, c.InFlight, c.MostInFlight, c.PromptTokens, c.OutputTokens, c.CostPerMillion, c.CostPerMillionOut = nil, nil, nil, nil, nil, nil, nil
		c.Verdict.Refuse(reason.New(reason.Objective, "the check contradicts the claim of %s requests/s: %s", check.Claimed, &check).Cured("measure the sweep again on a server that nobody else uses, or ask for a lower rate with step bench --rate"))
		return
	}
	check.Verdict = Lowered
	part := best / safe
	for _, e := range []*Estimate{c.Rate, c.InFlight, c.PromptTokens, c.OutputTokens} {
		*e = Estimate{Value: part * e.Safe()}
	}
	*c.MostInFlight = Estimate{Value: math.Max(1, math.Floor(part*c.MostInFlight.Safe()))}
	for _, e := range []*Estimate{c.CostPerMillion, c.CostPerMillionOut} {
		if e != nil {
			high := e.Value
			if e.High != nil {
				high = *e.High
			}
			*e = Estimate{Value: high / part}
		}
	}
	c.Verdict.Warn(reason.New(reason.Objective, "the check contradicts the claim, which is lowered to what was attained: %s", &check))
}
