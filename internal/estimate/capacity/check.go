package capacity

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/reason"
)

// Check is what measurements of open loops said of a claim.
type Check struct {
	Points  []Checked `json:"points"`            // ascending in rate
	Claimed *Estimate `json:"claimed,omitempty"` // the rate before it was lowered; absent: it stands
	Verdict string    `json:"verdict"`           // held, lowered or contradicted
}

// Verdicts of a check.
const (
	Held         = "held"         // the objectives were met at the claimed rate
	Lowered      = "lowered"      // they were met at a lower rate only, which is now the claim
	Contradicted = "contradicted" // they were met at no rate that was measured
)

// Checked is one open loop.
type Checked struct {
	Rate       float64                `json:"requests_per_second"` // asked for
	Arrivals   string                 `json:"arrivals"`            // poisson or constant
	Behind     bool                   `json:"behind,omitempty"`    // the server fell behind
	Requests   int                    `json:"requests"`            // in the steady window
	InFlight   float64                `json:"in_flight"`           // mean, measured
	Objectives []measurement.Attained `json:"objectives"`
	Met        bool                   `json:"met"` // every objective, up to twice its own error
	File       string                 `json:"file,omitempty"`
}

// String is the check for people.
func (c *Check) String() string {
	var parts []string
	for _, p := range c.Points {
		part := fmt.Sprintf("at %.4g/s", p.Rate)
		for _, o := range p.Objectives {
			part += fmt.Sprintf(" %s %.4g ms (%.1f %% within)", o.Name, o.AttainedMS, 100*o.Share)
		}
		if p.Behind {
			part += " the server falls behind"
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

// Check holds every capacity against the open loops among the measurements that were made
// for it: of its model, accelerator and shape, with its objectives. A claim is what was
// asked to be planned with, the low end of its interval. Where the measurement contradicts
// it, the claim becomes the largest rate at which the objectives were met, or is refused.
func (f *File) Check(ms []Measured) {
	for i := range f.Capacities {
		c := &f.Capacities[i]
		var check Check
		for _, m := range ms {
			if m.Open == nil || m.Model != c.Model || m.Accelerator != c.Accelerator || m.Shape != c.Shape {
				continue
			}
			p := Checked{Rate: m.Open.Rate, Arrivals: m.Open.Arrivals, Behind: m.Open.Behind, Requests: m.Requests.InWindow, InFlight: m.Taken.Batch, File: m.File}
			p.Met = !p.Behind && len(m.Open.Objectives) > 0
			for _, s := range f.SLO {
				at := slices.IndexFunc(m.Open.Objectives, func(a measurement.Attained) bool { return a.Objective == s })
				if at < 0 {
					p.Met = false // it was not asked
					continue
				}
				a := m.Open.Objectives[at]
				p.Objectives = append(p.Objectives, a)
				p.Met = p.Met && a.AttainedMS-2*a.StandardErrorMS <= a.MS
			}
			if len(p.Objectives) == len(f.SLO) || p.Behind {
				check.Points = append(check.Points, p)
			}
		}
		if len(check.Points) > 0 && c.Rate != nil {
			slices.SortFunc(check.Points, func(a, b Checked) int { return cmp.Compare(a.Rate, b.Rate) })
			c.judge(check)
		}
	}
}

func (c *Capacity) judge(check Check) {
	safe := c.Rate.Safe()
	best, contradicted := 0.0, false
	for _, p := range check.Points {
		if p.Met {
			best = max(best, p.Rate)
		}
		contradicted = contradicted || !p.Met && p.Rate <= safe*(1+near)
	}
	check.Verdict = Held
	c.Check = &check
	if !contradicted {
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
