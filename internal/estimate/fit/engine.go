package fit

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Engine names our own joint model, which splits what an iteration of the server does.
const Engine = "engine"

// Terms of the engine, in their order.
const (
	base = iota
	seq
	ctx
	pre
	pre2
	first
	firstPre
	firstPre2
	firstWait
)

// FitEngine estimates what one iteration of a server costs, from the ITL and the TTFT of all
// shapes of one model and accelerator: base (reads the weights, ms), seq (each decoding
// sequence, ms), ctx (each token of its context: reads the cache, ms), pre and pre2 (each
// prompt token that another request brings in: compute, ms, and attention, ms per token
// squared). n requests of in prompt and out output tokens are in the server together:
//
//	L      = TTFT + (out-1)*ITL        time of a request in the server, ms
//	lambda = n/L                       requests per ms (Little's law)
//	nd     = lambda*(out-1)*ITL        requests that decode; the others are in prefill
//	others = (n-1)/n, or 1 where requests arrive at a rate: nobody waits for his own prefill while decoding
//	ITL    = base + nd*(seq + ctx*(in+out/2)) + others*lambda*ITL*(pre*in + pre2*in^2)
//
// With the measured n, ITL and TTFT on the right-hand side that is linear in the five
// terms, and solved by weighted least squares without negative terms. A first token takes
//
//	TTFT   = first + first_pre*in + first_pre2*in^2 + first_wait*ITL
//
// its own prefill and the wait for running iterations, fitted to the busy points (n >= 1.5).
// Terms that the points cannot tell from zero are dropped: pre2 first, for a few
// shapes of similar prompts would make anything of it.
// It always returns: what must not be published is a refused verdict.
func FitEngine(points []Point) Joint {
	j, use := begin(Engine, points)
	if use == nil {
		return *j
	}
	itl := system{columns: make([][]float64, first), limit: mostJointCondition}
	ttft := system{columns: make([][]float64, firstWait-first+1), limit: mostTTFTCondition}
	for _, p := range use {
		in, w := p.PromptTokens, p.work()
		decoding, arrivals := w.load(p.ITL.MS, p.TTFT.MS)
		for t, x := range []float64{1, decoding, decoding * w.context(), arrivals * in, arrivals * in * in} {
			itl.columns[t] = append(itl.columns[t], x)
		}
		itl.add(p, p.ITL)
		if p.Batch < 1.5 {
			continue // nobody to wait for
		}
		for t, x := range []float64{1, in, in * in, p.ITL.MS} {
			ttft.columns[t] = append(ttft.columns[t], x)
		}
		ttft.add(p, p.TTFT)
	}
	all, order := []int{base, seq, ctx, pre, pre2}, []int{pre2, pre, seq, ctx}
	a, dropped, err := itl.smooth().prune(all, order, 1)
	if errors.Is(err, ErrUnidentified) {
		itl.limit = poorCondition
		a, dropped, err = itl.smooth().prune(all, order, 1)
	}
	if err != nil {
		j.unidentified(err)
		return *j
	}
	for t, why := range dropped {
		j.drop(t, why)
	}
	j.put(a, 0)
	b, dropped, err := ttft.smooth().prune([]int{0, 1, 2, 3}, []int{2, 0, 3, 1}, 3)
	if err != nil {
		j.unidentified(fmt.Errorf("first: %w", err))
		return *j
	}
	for t, why := range dropped {
		j.drop(first+t, why)
	}
	j.put(b, first)
	j.Condition, j.Clustered = a.condition, a.clustered

	without := map[int][]float64{}
	for shape, coef := range a.without {
		terms := make([]float64, len(j.Terms))
		for i, t := range a.terms {
			terms[t] = coef[i]
		}
		without[shape] = terms
	}
	j.score(points, use, without)
	j.judge(points)
	return *j
}

func (s *system) add(p jointPoint, sample Sample) {
	s.samples = append(s.samples, sample)
	s.level = append(s.level, p.Batch)
	s.shapes = append(s.shapes, p.shape)
}

// load is how many requests decode at a time, and how many others' prefills fall into one iteration.
func (w Work) load(itl, ttft float64) (decoding, arrivals float64) {
	steps := w.OutputTokens - 1
	lambda := w.Batch / (ttft + steps*itl)
	return lambda * steps * itl, w.others() * lambda * itl
}

func (w Work) others() float64 {
	if w.Open {
		return 1
	}
	return max(0, (w.Batch-1)/w.Batch)
}

// prune fits the terms without those, tried in the given order, that are not above
// zero. The first spare of them also go where the points cannot tell the terms
// apart. The first of all also goes where its interval holds zero, unless shapes
// that were left out are clearly better predicted with it, and where they are
// clearly worse predicted.
func (s system) prune(terms, order []int, spare int) (*solved, map[int]string, error) {
	const clearly = 0.95
	dropped := map[int]string{}
	v, err := s.identified(terms)
	for at, t := range order {
		if err != nil && at >= spare {
			break
		}
		i := slices.Index(terms, t)
		fewer := slices.Delete(slices.Clone(terms), i, i+1)
		if err != nil {
			dropped[t] = "the points cannot tell it from the other terms"
			terms = fewer
			v, err = s.identified(terms)
			continue
		}
		p := v.parameters[i]
		if p.Value > 0 && at > 0 {
			continue
		}
		u, errFewer := s.identified(fewer)
		if errFewer != nil {
			return nil, nil, errFewer
		}
		switch {
		case p.Value <= 0, p.Low <= 0 && !(v.leftOut < clearly*u.leftOut):
			dropped[t] = fmt.Sprintf("cannot be told from 0: %.3g, interval [%.3g, %.3g]", p.Value, p.Low, p.High)
		case u.leftOut < clearly*v.leftOut:
			dropped[t] = fmt.Sprintf("shapes that are left out are predicted better without it (%.2g %% off instead of %.2g %%)", 100*u.leftOut, 100*v.leftOut)
		default:
			continue
		}
		terms, v = fewer, u
	}
	return v, dropped, err
}

// identified is solve, with an error when the points tell the terms apart poorly.
func (s system) identified(terms []int) (*solved, error) {
	v, err := s.solve(terms)
	if err == nil && v.condition > s.limit {
		err = fmt.Errorf("condition number %.3g is above %v: %w", v.condition, s.limit, ErrUnidentified)
	}
	return v, err
}

// engine solves the model for ITL. With TTFT = c + w*ITL (w = 0 where it is known) and
// m = out-1 it is m'*x^2 + (c - base*m' - a)*x - base*c = 0, m' = m+w, which has
// exactly one positive root: two of opposite sign.
func engine(terms []float64, w Work, known float64) (itl, ttft float64) {
	in, steps := w.PromptTokens, w.OutputTokens-1
	c, wait := known, 0.0
	if known == 0 {
		c = terms[first] + terms[firstPre]*in + terms[firstPre2]*in*in
		wait = terms[firstWait]
	}
	a := w.Batch * (steps*(terms[seq]+terms[ctx]*w.context()) + w.others()*(terms[pre]*in+terms[pre2]*in*in))
	m := steps + wait
	half := (c - terms[base]*m - a) / 2
	root := math.Sqrt(half*half + m*terms[base]*c)
	if half > 0 {
		itl = terms[base] * c / (half + root)
	} else {
		itl = (root - half) / m
	}
	return itl, c + wait*itl
}
