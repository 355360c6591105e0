// Package capacity tells how much load one replica of a server bears within service level
// objectives: requests per second that arrive at random, requests in flight, tokens and
// money. It does no I/O.
//
// A closed loop, which is what a sweep measures, says nothing of the time that requests
// spend waiting when they arrive at random. So the measured line, or curve, is turned
// into a small engine that works by iterations as a server does; a closed loop of it in
// virtual time gives back what was measured, and an open loop says what will be.
// docs/capacity.md shows how well.
package capacity

import (
	"cmp"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat/distuv"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/engine"
	"wfgen.dev/internal/sweep/slo"
)

// Options say what is asked. The maps are by accelerator, with "" for all others.
type Options struct {
	SLOs       []slo.Objective
	MaxNumSeqs map[string]int     // requests that a server runs at once; otherwise as its arguments say, or the most that was measured
	Chunk      map[string]int     // tokens of an iteration (max-num-batched-tokens); otherwise as its arguments say, or DefaultChunk
	Prices     map[string]float64 // money per replica and hour
	Spread     float64            // outputs are uniform about their mean, by this fraction
	Traffic    float64            // requests per second that a fleet shall bear; 0: not asked
	Mix        []Share            // of that traffic; empty: each shape by itself
}

// Share is a part of the traffic.
type Share struct {
	Shape sweep.Shape
	Part  float64 // all together 1
}

// DefaultChunk is vLLM's max-num-batched-tokens on most GPUs.
const DefaultChunk = 2048

// Of is the capacity of everything in a summary.
func Of(s parameters.Summary, o Options) File {
	f := File{Schema: Schema, SLO: o.SLOs}
	f.Capacities = make([]Capacity, len(s.Parameters))
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range s.Parameters {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f.Capacities[i] = one(&s.Parameters[i], s.Joint, o)
		})
	}
	wg.Wait()
	if o.Traffic > 0 {
		f.Fleet = fleet(s, f.Capacities, o)
	}
	return f
}

// one is the capacity of one model on one accelerator at one shape.
func one(p *parameters.Parameters, joint []parameters.Joint, o Options) Capacity {
	c := Capacity{Model: p.Model, Accelerator: p.Accelerator, Shape: p.Shape, Verdict: fit.NewVerdict(), PricePerHour: priceOf(o.Prices, p.Accelerator)}
	srv := serverOf(p, o)
	c.Assumed = Assumed{Arrivals: sweep.Poisson, MaxNumSeqs: srv.maxInFlight, ChunkTokens: srv.chunk, OutputSpread: srv.spread, LargestBatch: largest(p), Curve: curved(p)}
	m, why := measuredOf(p, joint, srv)
	if why != nil {
		c.Verdict.Refuse(*why)
		return c
	}
	for _, r := range p.Verdict.Findings {
		c.Verdict.Warn(r)
	}
	if len(p.Verdict.Findings) == 0 && p.Verdict.Level == fit.Warned { // of an earlier version
		for _, text := range p.Verdict.Reasons {
			c.Verdict.Warn(reason.New(reason.Other, "%s", text))
		}
	}
	if m.idle == 0 {
		for _, s := range o.SLOs {
			if s.Metric != slo.ITL {
				c.Verdict.Refuse(reason.New(reason.Few, "no time to first token is known, which %s is about", s).Cured("measure batch 1"))
			}
		}
		if c.Verdict.Level == fit.Refused {
			return c
		}
	}
	l := m.calibrate(srv)
	r := replica{classes: []class{l.class(srv)}, chunk: srv.chunk, maxInFlight: srv.maxInFlight, spread: srv.spread}
	var replicas []*replica
	for _, d := range m.directions() {
		replicas = append(replicas, ptr(replicaOf(l.shift(d, srv), srv)))
	}
	c.solve(problem{slos: o.SLOs, longest: c.Assumed.LargestBatch, unexplained: l.unexplained}, &r, replicas, []share{{p.Shape, 1}})
	return c
}

func ptr[T any](x T) *T { return &x }

func replicaOf(l law, s setup) replica {
	return replica{classes: []class{l.class(s)}, chunk: s.chunk, maxInFlight: s.maxInFlight, spread: s.spread}
}

// share is how much of the requests has a shape.
type share struct {
	shape sweep.Shape
	part  float64
}

// solve finds the capacity of a replica. replicas are what it is if what was measured was
// off by one standard deviation, in each independent direction.
func (c *Capacity) solve(p problem, r *replica, replicas []*replica, shares []share) {
	unloaded := p.unloaded(r)
	for i, s := range p.slos {
		c.Objectives = append(c.Objectives, Objective{Objective: s, Name: s.Name(), AloneMS: unloaded[i] * s.MS})
		if slackOf(unloaded[i]) <= 0 {
			c.Unmet = append(c.Unmet, fmt.Sprintf("%s: a request that has the server for itself takes %s ms, %s", s, parameters.Format(unloaded[i]*s.MS), beyond(unloaded[i])))
		}
	}
	open := p.arrivals(r)
	c.SaturationRate = 1000 * open.saturated
	if len(c.Unmet) > 0 {
		c.Verdict.Refuse(reason.New(reason.Objective, "no load meets the objectives: %s", strings.Join(c.Unmet, "; ")))
		return
	}
	rate, _ := limit(open, unloaded)
	open.seen = new(observed)
	rate, at := open.refine(rate)
	flight := open.seen.inFlight
	open.seen = nil
	_, binding := worst(at)
	c.Binding = p.names()[binding]
	for i := range p.slos {
		c.Objectives[i].AtMS, c.Objectives[i].Used = at[i]*p.slos[i].MS, at[i]
	}
	closed := streams{p, r}
	most, atMost := limit(closed, unloaded)

	perSecond, inFlight, mostInFlight := Estimate{Value: 1000 * rate}, Estimate{Value: flight}, Estimate{Value: math.Floor(most + 1e-6)}
	if len(replicas) > 0 {
		var otherOpen, otherClosed []load
		for _, other := range replicas {
			otherOpen = append(otherOpen, p.arrivals(other))
			otherClosed = append(otherClosed, streams{p, other})
		}
		s := lay(open, p, r, rate, at, otherOpen, replicas)
		rates := s.limits(len(p.slos), 2*rate)
		perSecond = interval(1000*rate, scaled(rates, 1000))
		for i := range p.slos {
			used := interval(at[i], s.ratios(i, len(p.slos), rate))
			c.Objectives[i].UsedLow, c.Objectives[i].UsedHigh = used.Low, used.High
		}
		// In flight at those rates, by Little's law along the surface of the estimate.
		along := make([][]float64, len(s.load))
		for k, at := range s.base {
			along[k] = []float64{p.longest * math.Exp(at[len(p.slos)])}
		}
		along[0][0] = 0
		flights := make([]float64, len(rates))
		for i, x := range rates {
			flights[i] = between(s.load, along, x, 0)
		}
		inFlight = interval(flight, flights)
		s = lay(closed, p, r, most, atMost, otherClosed, replicas)
		mostInFlight = interval(mostInFlight.Value, s.limits(len(p.slos), closed.most())).apply(func(n float64) float64 { return math.Floor(n + 1e-6) })
	}
	if p.unexplained > 0 {
		// What passes outside of the engine keeps requests in flight for longer, and so the rate
		// lower, by that share at most.
		perSecond = Estimate{Value: perSecond.Value, Low: new(perSecond.Safe() * (1 - p.unexplained)), High: new(*cmp.Or(perSecond.High, &perSecond.Value))}
		c.Verdict.Warn(reason.New(reason.Misfit, "in the closed loop a request took up to %.3g %% longer than an engine with these times has reason to; the rate may be that much lower, and its low end is", 100*p.unexplained).Cured("look for a wait outside of the engine, such as a slow tokenizer or proxy, and believe the check"))
	}
	c.Rate, c.InFlight, c.MostInFlight = &perSecond, &inFlight, &mostInFlight
	in, out := 0.0, 0.0
	for _, s := range shares {
		in += s.part * float64(s.shape.PromptTokens)
		out += s.part * float64(s.shape.OutputTokens)
	}
	c.PromptTokens, c.OutputTokens = ptr(perSecond.scale(in)), ptr(perSecond.scale(out))
	if c.PricePerHour != nil {
		perMillion := func(tokens float64) *Estimate {
			return ptr(perSecond.apply(func(rate float64) float64 { return *c.PricePerHour / 3600 / max(rate*tokens, 1e-12) * 1e6 }))
		}
		c.CostPerMillion, c.CostPerMillionOut = perMillion(in+out), perMillion(out)
	}
	if perSecond.Low != nil && *perSecond.Low < 0.5*perSecond.Value {
		c.Verdict.Warn(reason.New(reason.Wide, "the interval of the rate reaches from %s to %s requests/s: the objectives are close to what a request alone takes, or the parameters are uncertain",
			parameters.Format(*perSecond.Low), parameters.Format(*perSecond.High)))
	}
}

// beyond says by how much something is more than its bound, of which it is a multiple.
func beyond(multiple float64) string {
	if multiple >= 3 {
		return fmt.Sprintf("%.3g times as much", multiple)
	}
	return fmt.Sprintf("%.3g %% more", 100*(multiple-1))
}

func scaled(values []float64, by float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = v * by
	}
	return out
}

// largest is the largest measured batch of an estimate.
func largest(p *parameters.Parameters) float64 {
	most := p.BatchSize
	if curved(p) {
		most = max(most, p.Curve.ITL[len(p.Curve.ITL)-1].Batch)
	}
	for _, q := range p.Fit.Points {
		if q.ITL != nil && q.ITL.Used {
			most = max(most, q.Batch)
		}
	}
	return math.Max(1, most)
}

// serverOf is what is known of a server besides its latency.
func serverOf(p *parameters.Parameters, o Options) setup {
	s := setup{spread: o.Spread}
	args := strings.Fields(strings.Join(p.Provenance.Args, " "))
	s.maxInFlight = cmp.Or(numberOf(o.MaxNumSeqs, p.Accelerator), engine.MaxNumSeqs(args), int(math.Ceil(largest(p))))
	s.chunk = cmp.Or(numberOf(o.Chunk, p.Accelerator), engine.ChunkTokens(args), DefaultChunk)
	s.chunk = max(s.chunk, s.maxInFlight)
	return s
}

func numberOf(numbers map[string]int, accelerator string) int {
	return cmp.Or(numbers[accelerator], numbers[""])
}

func priceOf(prices map[string]float64, accelerator string) *float64 {
	for _, name := range []string{accelerator, ""} {
		if price, ok := prices[name]; ok {
			return &price
		}
	}
	return nil
}

// Between these is every latency that is one, ms: a nanosecond and eleven days.
const (
	leastMS = 1e-6
	mostMS  = 1e9
)

// measuredOf is what an estimate says of a server, or why that is not enough. Where ITL is
// no line over the batch, what was measured at each batch counts.
func measuredOf(p *parameters.Parameters, joint []parameters.Joint, srv setup) (measured, *reason.Reason) {
	m := measured{shape: p.Shape, stretch: 1}
	switch {
	case p.Verdict.Level == fit.Refused || !p.HasITL() && !curved(p):
		return measured{}, ptr(reason.New(reason.Void, "the estimate is refused: %s", strings.Join(p.Verdict.Reasons, "; ")))
	case curved(p):
		m.curve(p, srv.maxInFlight)
	default:
		m.line(p)
	}
	itls := len(m.itl)
	idle, sigma := idleTTFT(p)
	for _, ms := range append(slices.Clone(m.itl), cmp.Or(idle, leastMS)) { // 0: not known
		if !(ms >= leastMS && ms <= mostMS) { // nor would its simulation end
			return measured{}, ptr(reason.New(reason.Void, "a latency of %.3g ms is none that a server can have", ms))
		}
	}
	m.idle, m.noise = idle, noiseOf(p)
	if p.Curve != nil {
		m.waits = p.Curve.TTFT
	}
	if m.covariance != nil && idle > 0 {
		m.covariance.SetSym(itls, itls, sigma*sigma+square(fit.BetweenRuns*idle))
	}
	for i := range joint {
		j := &joint[i]
		if j.Fit == fit.Engine && j.Model == p.Model && j.Accelerator == p.Accelerator && j.Verdict.Level != fit.Refused {
			for _, t := range j.Terms {
				switch t.Name {
				case "pre":
					m.pre = t.Value
				case "pre2":
					m.pre2 = t.Value
				}
			}
		}
	}
	return m, nil
}

// line takes the fitted line, between the smallest and the largest batch that it was fitted to.
func (m *measured) line(p *parameters.Parameters) {
	low, high := 1.0, largest(p)
	if high < low+1 {
		high = low + 1
	}
	m.streams = []float64{low, high}
	m.itl = []float64{p.ITLAt(low), p.ITLAt(high)}
	a, b, line := p.Fit.Intervals.Alpha, p.Fit.Intervals.Beta, p.Fit.Diagnostics.ITL
	if a == nil || b == nil || line == nil {
		return
	}
	both := 0.0
	if line.Covariance != nil {
		both = *line.Covariance
	}
	va, vb := a.StandardError*a.StandardError, b.StandardError*b.StandardError
	m.covariance = mat.NewSymDense(3, nil)
	for i, x := range m.streams {
		for j, y := range m.streams[:i+1] {
			m.covariance.SetSym(i, j, va+(x+y)*both+x*y*vb)
		}
	}
	if line.DegreesOfFreedom > 0 {
		m.stretch = fit.Reach(line.DegreesOfFreedom) / distuv.UnitNormal.Quantile((1+fit.Confidence)/2)
	}
}

// straight is how far, at most, a line may be from a point that it was fitted to for the
// line to be better than the points: twice what two runs of a point differ by.
const straight = 100 * 2 * fit.BetweenRuns // percent

// curved says that ITL is no line over the batch, and what it is instead is known.
func curved(p *parameters.Parameters) bool {
	if p.Curve == nil || len(p.Curve.ITL) < fewestSteps {
		return false // of an earlier version, or too few to know better
	}
	if !p.HasITL() {
		return slices.ContainsFunc(p.Verdict.Findings, func(r reason.Reason) bool {
			return r.Code == reason.Bend || r.Code == reason.Concave || r.Code == reason.Misfit
		})
	}
	line := p.Fit.Diagnostics.ITL
	return p.Fit.Method == fit.WLS && line != nil && (line.BendFrom != nil || line.Shape != "" || line.LargestErrorPercent > straight)
}

// fewestSteps are those of a curve that knows more than a line.
const fewestSteps = 3

// curve takes the measured curve, straight between its steps: those of different whole
// numbers of streams that the server runs at once.
func (m *measured) curve(p *parameters.Parameters, maxInFlight int) {
	var steps []parameters.Step
	for _, s := range p.Curve.ITL {
		n := math.Round(s.Batch)
		if len(steps) == 0 || n > math.Round(steps[len(steps)-1].Batch) && n <= float64(maxInFlight) {
			steps = append(steps, s)
		}
	}
	m.covariance = mat.NewSymDense(len(steps)+1, nil)
	for i, s := range steps {
		m.streams, m.itl = append(m.streams, s.Batch), append(m.itl, s.MS)
		m.covariance.SetSym(i, i, square((s.High-s.Low)/2/1.959964))
	}
}

// noiseOf is how requests at batch 1 differ, all of which had the server for themselves.
// It is zero where that is not known.
func noiseOf(p *parameters.Parameters) (n noise) {
	for _, q := range p.Fit.Points {
		if q.BatchSize != 1 {
			continue
		}
		if v := q.TTFT; v != nil && v.MS > 0 {
			n.ttft = max(n.ttft, v.SpreadMS/v.MS)
		}
		if v := q.ITL; v != nil && v.MS > 0 {
			n.itl = max(n.itl, v.SpreadMS/v.MS)
		}
	}
	n.ttft, n.itl = min(n.ttft, mostNoise), min(n.itl, mostNoise)
	return n
}

// mostNoise bounds the noise where a normal distribution would make times negative.
const mostNoise = 0.2

// idleTTFT is the TTFT of an idle server and its standard error, ms: that measured at
// batch 1, or what the line of the busy points says of it. 0: neither is known.
func idleTTFT(p *parameters.Parameters) (ms, sigma float64) {
	n := 0.0
	for _, q := range p.Fit.Points {
		if q.BatchSize == 1 && q.TTFT != nil {
			ms, sigma, n = ms+q.TTFT.MS, sigma+q.TTFT.StandardErrorMS*q.TTFT.StandardErrorMS, n+1
		}
	}
	if n > 0 {
		return ms / n, math.Sqrt(sigma) / n
	}
	if p.Gamma == nil || p.Delta == nil {
		return 0, 0
	}
	tokens := float64(p.Shape.PromptTokens)
	ms = p.TTFTAt(1, tokens)
	if g := p.Fit.Intervals.Gamma; g != nil {
		sigma = g.StandardError
	}
	return ms, sigma
}

func square(x float64) float64 { return x * x }
