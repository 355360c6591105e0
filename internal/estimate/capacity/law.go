package capacity

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/sweep"
)

// measured is what a closed loop has shown of a server at one shape, and how sure that is.
type measured struct {
	shape sweep.Shape

	// ITL at numbers of streams, ascending. Two make a line.
	streams []float64
	itl     []float64 // ms

	idle float64 // TTFT of a request that has the server for itself, ms; 0: not known

	waits []parameters.Step // TTFT at numbers of streams, ascending; empty: not known

	noise noise // of requests that have the server for themselves

	// What a model of all shapes knows of a prompt's work, ms per token and per token
	// squared; both 0: nothing, and the work is what is left of idle.
	pre, pre2 float64

	covariance *mat.SymDense // of itl, then idle, ms squared
	stretch    float64       // by which Student's t is wider than the normal distribution
}

// shift is the measured with its numbers changed.
func (m measured) shift(by []float64) measured {
	itl := make([]float64, len(m.itl))
	for i := range itl {
		itl[i] = max(m.itl[i]+by[i], m.itl[i]/10)
	}
	m.itl = itl
	if m.idle > 0 {
		m.idle = max(m.idle+by[len(itl)], m.idle/10)
	}
	return m
}

// shift is the law of a server that was measured a little differently. It needs no
// calibration: what the prompts' share of an iteration becomes follows from the terms.
func (l law) shift(by []float64, s setup) law {
	before, after := l.initial(s), l.measured.shift(by).initial(s)
	out := l
	out.measured, out.room = after.measured, after.room
	out.times = slices.Clone(l.times)
	for i := range out.times {
		out.times[i] = max(out.times[i]+after.times[i]-before.times[i], out.itl[i]/10)
	}
	out.share(float64(chunks(l.shape.PromptTokens, s.chunk)) * out.at(0))
	return out
}

// setup is what is known of a server besides its measurements.
type setup struct {
	chunk, maxInFlight int
	spread             float64
}

// law is the small engine's description of a shape. anchors are the numbers of decoding
// sequences at which the time of an iteration is told apart, times those times, ms.
type law struct {
	measured
	pre, pre2, overheadMS float64
	room                  float64 // most that a prompt's work can be, ms
	anchors, times        []float64
	unexplained           float64 // share of a request's time that the closed loop lacks; 0: next to nothing
}

// initial follows from the meaning of the terms. ITL at n streams is an iteration of
// those that decode, and the share of it that the prompts of the others take (DESIGN of
// the estimate: engine). The prompt's work is what an idle server's first token takes
// beyond its iterations, but no more than the growth of ITL leaves room for: what is
// beyond that is time in which the engine does something else.
func (m measured) initial(s setup) law {
	l := law{measured: m, pre: m.pre, pre2: m.pre2}
	in, out := float64(m.shape.PromptTokens), float64(m.shape.OutputTokens)
	last := len(m.itl) - 1
	slope := 0.0
	if m.streams[last] > m.streams[0] {
		slope = max(0, (m.itl[last]-m.itl[0])/(m.streams[last]-m.streams[0]))
	}
	l.room = slope * out
	iterations := float64(chunks(m.shape.PromptTokens, s.chunk)) * max(m.itl[0]-slope*m.streams[0], m.itl[0]/2)
	l.share(iterations)
	work := l.pre*in + l.pre2*in*in
	for i, n := range m.streams {
		itl := m.itl[i]
		request := iterations + work + l.overheadMS + (out-1)*itl
		others := max(0, n-1) / request * itl // arrivals of others in an iteration
		l.anchors = append(l.anchors, n/request*(out-1)*itl)
		l.times = append(l.times, max(itl-others*work, itl/10))
	}
	return l
}

// alike is how close the work that a model of all shapes gives a prompt must be to what an
// idle server's first token takes for the difference to be taken for noise.
const alike = 0.1

// share splits what an idle server's first token takes beyond its iterations (ms) into
// the prompt's work and the rest.
func (l *law) share(iterations float64) {
	in := float64(l.shape.PromptTokens)
	total := max(0, l.idle-iterations)
	work := l.measured.pre*in + l.measured.pre2*in*in
	switch {
	case work == 0:
		l.pre = min(total, l.room) / in
	case l.idle > 0:
		scale := min(1, total/work)
		if work > (1-alike)*total {
			scale = total / work
		}
		l.pre, l.pre2 = l.measured.pre*scale, l.measured.pre2*scale
	}
	l.overheadMS = max(0, total-l.pre*in-l.pre2*in*in)
}

// class is the law as the engine takes it.
func (l *law) class(s setup) class {
	c := class{
		share: 1, prompt: l.shape.PromptTokens, output: l.shape.OutputTokens, pre: l.pre, pre2: l.pre2, overheadMS: l.overheadMS, noise: l.noise,
		iteration: make([]float64, s.maxInFlight+1),
	}
	for n := range c.iteration {
		c.iteration[n] = l.at(float64(n))
		if n > 1 { // more work never takes less time
			c.iteration[n] = max(c.iteration[n], c.iteration[n-1])
		}
	}
	// What nobody decodes in was not measured: it follows from the others.
	c.iteration[0] = min(c.iteration[0], c.iteration[min(1, s.maxInFlight)])
	return c
}

// at is the time of an iteration that decodes n sequences, ms: straight between the
// anchors, and beyond them.
func (l *law) at(n float64) float64 {
	last := len(l.anchors) - 1
	if last == 0 {
		return l.times[0]
	}
	i := 1
	for i < last && n > l.anchors[i] {
		i++
	}
	x0, x1 := l.anchors[i-1], l.anchors[i]
	return max(l.times[0]/10, l.times[i-1]+(n-x0)*(l.times[i]-l.times[i-1])/(x1-x0))
}

// rounds of the calibration, after which the closed loop gives back what was measured.
const rounds = 3

// explained is the share of a request's time that may be missing from the closed loop: so
// much is made by streams that pause, or march in step.
const explained = 0.03

// calibrate makes the law such that a closed loop in virtual time has the ITL that was
// measured at every number of streams, and the TTFT of an idle server.
func (m measured) calibrate(s setup) law {
	l := m.initial(s)
	for range rounds {
		before := l
		l.anchors, l.times, l.unexplained = slices.Clone(l.anchors), slices.Clone(l.times), 0
		r := replicaOf(l, s)
		for i, n := range l.streams {
			if n < 1.5 { // nobody else is there: no need to look
				l.anchors[i], l.times[i] = 1, l.itl[i]
				continue
			}
			streams := min(int(math.Round(n)), s.maxInFlight)
			seen := r.closedLoop(streams)
			want := l.itlAt(float64(streams))
			l.anchors[i] = seen.decoding
			l.times[i] = max(before.at(seen.decoding)+want-seen.meanITL, l.itl[i]/10)
			wait := l.waitAt(float64(streams))
			l.unexplained = max(l.unexplained, (wait-mean(seen.ttft))/(wait+float64(l.shape.OutputTokens-1)*want))
		}
		l.share(float64(chunks(l.shape.PromptTokens, s.chunk)) * l.at(0))
	}
	if l.unexplained < explained {
		l.unexplained = 0
	}
	return l
}

// waitAt is the measured TTFT at a number of streams, straight between those measured, ms;
// 0: it was not measured as far as that.
func (m measured) waitAt(n float64) float64 {
	if len(m.waits) == 0 || n > 1.05*m.waits[len(m.waits)-1].Batch {
		return 0
	}
	var line law
	for _, s := range m.waits {
		line.anchors, line.times = append(line.anchors, s.Batch), append(line.times, s.MS)
	}
	return line.at(n)
}

// itlAt is the measured ITL at a number of streams, straight between those measured.
func (m measured) itlAt(n float64) float64 {
	line := law{anchors: m.streams, times: m.itl}
	return line.at(n)
}
