package capacity

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
)

// Fleet is what bears a traffic: one choice for each accelerator, the cheapest first, then
// those without a price by the number of replicas.
type Fleet struct {
	Traffic float64      `json:"requests_per_second"`
	Mix     []MixedShape `json:"mix,omitempty"` // shapes of the traffic; absent: each choice is for one shape
	Choices []Choice     `json:"choices"`
}

// MixedShape is a part of the traffic.
type MixedShape struct {
	Shape sweep.Shape `json:"shape"`
	Part  float64     `json:"part"` // of the requests; all together 1
}

// Choice is a fleet of one accelerator.
type Choice struct {
	Model        string       `json:"model"`
	Accelerator  string       `json:"accelerator"`
	Shape        *sweep.Shape `json:"shape,omitempty"`                       // absent: the mix
	Rate         *Estimate    `json:"replica_requests_per_second,omitempty"` // of one replica; the fleet is made for the low end
	Replicas     int          `json:"replicas,omitempty"`
	PricePerHour *float64     `json:"price_per_hour,omitempty"` // money, of all replicas
	Binding      string       `json:"binding,omitempty"`
	Verdict      fit.Verdict  `json:"verdict"`
}

// fleet makes a choice for every accelerator, of the mix or of each shape by itself.
func fleet(s parameters.Summary, each []Capacity, o Options) *Fleet {
	f := &Fleet{Traffic: o.Traffic, Choices: []Choice{}}
	add := func(c Capacity, shape *sweep.Shape) {
		choice := Choice{Model: c.Model, Accelerator: c.Accelerator, Shape: shape, Rate: c.Rate, Binding: c.Binding, Verdict: c.Verdict}
		if c.Rate != nil && !(c.Rate.Safe() > 0) {
			choice.Verdict.Refuse(reason.New(reason.Wide, "the interval of a replica's rate reaches 0: no number of replicas is sure to bear the traffic"))
		} else if c.Rate != nil {
			choice.Replicas = int(math.Ceil(o.Traffic/c.Rate.Safe() - 1e-9))
			if c.PricePerHour != nil {
				choice.PricePerHour = new(float64(choice.Replicas) * *c.PricePerHour)
			}
		}
		f.Choices = append(f.Choices, choice)
	}
	if len(o.Mix) == 0 {
		for i := range each {
			add(each[i], &each[i].Shape)
		}
	} else {
		for _, m := range o.Mix {
			f.Mix = append(f.Mix, MixedShape(m))
		}
		type pair struct{ model, accelerator string }
		var pairs []pair
		for _, p := range s.Parameters {
			if k := (pair{p.Model, p.Accelerator}); !slices.Contains(pairs, k) {
				pairs = append(pairs, k)
			}
		}
		for _, k := range pairs {
			var of []*parameters.Parameters
			for i := range s.Parameters {
				if p := &s.Parameters[i]; p.Model == k.model && p.Accelerator == k.accelerator {
					of = append(of, p)
				}
			}
			add(mixed(of, s.Joint, o), nil)
		}
	}
	slices.SortStableFunc(f.Choices, func(a, b Choice) int {
		price := func(c Choice) float64 {
			if c.PricePerHour == nil {
				return math.Inf(1)
			}
			return *c.PricePerHour
		}
		replicas := func(c Choice) int { return cmp.Or(c.Replicas, math.MaxInt) }
		return cmp.Or(cmp.Compare(price(a), price(b)), cmp.Compare(replicas(a), replicas(b)))
	})
	return f
}

// mixed is the capacity of a replica whose requests are of several shapes, all of which
// were measured. The objectives are over all of them together.
func mixed(ps []*parameters.Parameters, joint []parameters.Joint, o Options) Capacity {
	c := Capacity{Model: ps[0].Model, Accelerator: ps[0].Accelerator, Verdict: fit.NewVerdict(), PricePerHour: priceOf(o.Prices, ps[0].Accelerator)}
	var laws []law
	var shares []share
	r := replica{spread: o.Spread}
	longest := math.Inf(1)
	for _, m := range o.Mix {
		i := slices.IndexFunc(ps, func(p *parameters.Parameters) bool { return p.Shape == m.Shape })
		if i < 0 {
			c.Verdict.Refuse(reason.New(reason.Few, "%s of the mix was not measured", m.Shape).Cured("add it to the sweep"))
			continue
		}
		srv := serverOf(ps[i], o)
		r.chunk, r.maxInFlight = max(r.chunk, srv.chunk), max(r.maxInFlight, srv.maxInFlight)
		longest = min(longest, largest(ps[i]))
		of, why := measuredOf(ps[i], joint, srv)
		switch {
		case why != nil:
			c.Verdict.Refuse(reason.New(why.Code, "%s: %s", m.Shape, why.Text))
			continue
		case of.idle == 0:
			c.Verdict.Refuse(reason.New(reason.Few, "%s: no time to first token is known", m.Shape).Cured("measure batch 1"))
			continue
		case ps[i].Verdict.Level == fit.Warned:
			c.Verdict.Warn(reason.New(reason.Other, "%s: the estimate is warned", m.Shape))
		}
		laws = append(laws, of.calibrate(setup{srv.chunk, srv.maxInFlight, o.Spread}))
		shares = append(shares, share{m.Shape, m.Part})
	}
	if c.Verdict.Level == fit.Refused {
		return c
	}
	srv := setup{r.chunk, r.maxInFlight, o.Spread}
	c.Assumed = Assumed{Arrivals: sweep.Poisson, MaxNumSeqs: r.maxInFlight, ChunkTokens: r.chunk, OutputSpread: o.Spread, LargestBatch: longest}
	for i := range laws {
		k := laws[i].class(srv)
		k.share = shares[i].part
		r.classes = append(r.classes, k)
	}
	// What was measured at each shape is off by itself.
	var replicas []*replica
	for i := range laws {
		for _, d := range laws[i].directions() {
			other := r
			other.classes = slices.Clone(r.classes)
			shifted := laws[i].shift(d, srv)
			other.classes[i] = shifted.class(srv)
			other.classes[i].share = shares[i].part
			replicas = append(replicas, &other)
		}
	}
	unexplained := 0.0
	for _, l := range laws {
		unexplained = max(unexplained, l.unexplained)
	}
	c.solve(problem{slos: o.SLOs, longest: longest, unexplained: unexplained}, &r, replicas, shares)
	return c
}

// ParseMix reads shares of shapes, such as 128/128=0.7,1024/256=0.3; they need not add up
// to 1. An empty text is no mix. The error holds every mistake.
func ParseMix(text string) ([]Share, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var mix []Share
	var errs []error
	sum := 0.0
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		shape, err := sweep.ParseShape(name)
		x, numberErr := strconv.ParseFloat(value, 64)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case numberErr != nil || !(x > 0) || math.IsInf(x, 0):
			errs = append(errs, fmt.Errorf("%q: expected SHAPE=SHARE such as 128/128=0.7, the share above 0", part))
			continue
		case slices.ContainsFunc(mix, func(s Share) bool { return s.Shape == shape }):
			errs = append(errs, fmt.Errorf("%s is given twice", shape))
			continue
		}
		mix, sum = append(mix, Share{shape, x}), sum+x
	}
	for i := range mix {
		mix[i].Part /= sum
	}
	return mix, errors.Join(errs...)
}
