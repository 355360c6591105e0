package capacity

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"

	"wfgen.dev/internal/sweep/slo"
)

// mostLoad is the share of the rate at which a server saturates beyond which no rate is
// claimed, whatever the objectives say: there the queue grows for as long as one looks.
const mostLoad = 0.95

// What binds where no objective does.
const (
	Saturation = "saturation" // the server does not keep up with more
	Range      = "range"      // more in flight than was ever measured
)

// problem is one question: how much load does a server bear.
type problem struct {
	slos    []slo.Objective
	longest float64 // most in flight that was measured

	unexplained float64 // share of a request's time that the engine has no reason for
}

// names of the bounds, in the order of ratios.
func (p problem) names() []string {
	var names []string
	for _, s := range p.slos {
		names = append(names, s.Name())
	}
	return append(names, Range, Saturation)
}

// load is how a replica is loaded, and what a certain amount of it does.
type load interface {
	// ratios are what the objectives and the two other bounds measure, each relative to its bound.
	ratios(x float64, z size) []float64
	most() float64 // of x
}

// arrivals is a load of requests that come at random; x is their rate per ms.
type arrivals struct {
	problem
	*replica
	saturated float64 // rate at which it saturates
	seen      *observed
}

func (p problem) arrivals(r *replica) arrivals {
	return arrivals{problem: p, replica: r, saturated: r.closedLoop(r.maxInFlight).requestsPerMS}
}

func (a arrivals) most() float64 { return mostLoad * a.saturated }

func (a arrivals) ratios(x float64, z size) []float64 {
	o := a.open(x, z)
	if a.seen != nil {
		*a.seen = o
	}
	return append(a.objectives(&o), o.inFlight/a.longest, x/a.most())
}

// streams is a load that holds so many requests in flight, as a limit does that is always reached.
type streams struct {
	problem
	*replica
}

func (s streams) most() float64 { return math.Min(float64(s.maxInFlight), math.Floor(s.longest)) }

func (s streams) ratios(x float64, _ size) []float64 {
	n := math.Max(1, math.Floor(x))
	o := s.closedLoop(int(n))
	at := append(s.objectives(&o), n/s.longest, n/float64(s.maxInFlight))
	if part := x - n; part > 0 && int(n) < s.maxInFlight {
		o := s.closedLoop(int(n) + 1)
		above := append(s.objectives(&o), (n+1)/s.longest, (n+1)/float64(s.maxInFlight))
		for i := range at {
			at[i] += part * (above[i] - at[i])
		}
	}
	return at
}

// objectives are what the objectives measure of what was observed, relative to their bounds.
func (p problem) objectives(o *observed) []float64 {
	out := make([]float64, len(p.slos), len(p.slos)+2)
	for i, s := range p.slos {
		out[i] = statistic(s, o) / s.MS
	}
	return out
}

// unloaded are the ratios of a request that has the server for itself.
func (p problem) unloaded(r *replica) []float64 {
	const each = 200
	var o observed
	gaps := 0.0
	for i := range r.classes {
		c := &r.classes[i]
		itl := c.iteration[1]
		n := math.Ceil(each * c.share)
		for k := range int(n) {
			u := (float64(k) + 0.5) / n
			z := distuv.UnitNormal.Quantile(u)
			steps := float64(c.output-1) + (2*u-1)*r.spread*float64(c.output)
			o.ttft = append(o.ttft, r.idleTTFT(c)*(1+c.noise.ttft*z))
			o.itl = append(o.itl, itl*(1+c.noise.itl*z))
			o.e2e = append(o.e2e, r.idleTTFT(c)+steps*itl)
			o.meanITL += steps * itl
			gaps += steps
		}
	}
	o.meanITL /= gaps
	return append(p.objectives(&o), 0, 0)
}

// worst is the largest of the ratios, and which it is.
func worst(ratios []float64) (most float64, which int) {
	for i, x := range ratios {
		if x > most {
			most, which = x, i
		}
	}
	return most, which
}

// slackOf is how far the largest ratio is from 1, above 0 while every bound holds. The
// reciprocal of a waiting time is nearly straight in the load.
func slackOf(most float64) float64 {
	if math.Abs(most-1) < 1e-9 {
		return 0 // rounding is not a bound
	}
	return min(1/most-1, mostSlack)
}

// mostSlack is that of a bound to which nothing comes near: one without end would leave no
// line to follow.
const mostSlack = 1e9

// limit is the largest load at which every bound holds, and the ratios there. Those of a
// server without load must be below 1.
func limit(l load, unloaded []float64) (x float64, at []float64) {
	slack := func(x float64) float64 {
		at = l.ratios(x, coarse)
		most, _ := worst(at)
		return slackOf(most)
	}
	alone, _ := worst(unloaded)
	low, fLow := 0.0, slackOf(alone)
	high := l.most()
	fHigh := slack(high)
	x = high
	side := 0
	for range 15 {
		if fHigh >= 0 || high-low < 1e-3*high {
			break
		}
		x = (low*fHigh - high*fLow) / (fHigh - fLow)
		f := slack(x)
		if math.Abs(f) < 4e-3 {
			break
		}
		if f > 0 {
			low, fLow = x, f
			if side > 0 {
				fHigh /= 2
			}
			side = 1
		} else {
			high, fHigh = x, f
			if side < 0 {
				fLow /= 2
			}
			side = -1
		}
	}
	return x, at
}

// refine moves the rate that coarse runs found to where fine ones put it.
func (a arrivals) refine(x float64) (rate float64, ratios []float64) {
	const near = 0.03
	at := a.ratios(x, fine)
	most, _ := worst(at)
	f := slackOf(most)
	y := min(x*(1+near), a.most())
	if f < 0 {
		y = x * (1 - near)
	}
	if y == x {
		return x, at
	}
	before := *a.seen
	there := a.ratios(y, fine)
	most, _ = worst(there)
	g := slackOf(most)
	if y == a.most() && g >= 0 || f == g {
		return y, there
	}
	// Along the line through both, and not far beyond.
	part := min(max(-f/(g-f), -3), 4)
	rate = min(x+part*(y-x), a.most())
	part = (rate - x) / (y - x)
	for i := range at {
		at[i] += part * (there[i] - at[i])
	}
	a.seen.inFlight = before.inFlight + part*(a.seen.inFlight-before.inFlight)
	return rate, at
}
