package capacity

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"gonum.org/v1/gonum/mat"
)

// Estimate is a number and its 95 % interval, which is absent where the parameters have none.
type Estimate struct {
	Value float64  `json:"value"`
	Low   *float64 `json:"low,omitempty"`
	High  *float64 `json:"high,omitempty"`
}

// Safe is the end of the interval to plan with: the low one, or the value where there is none.
func (e Estimate) Safe() float64 {
	if e.Low != nil {
		return *e.Low
	}
	return e.Value
}

// scale is the estimate in another unit.
func (e Estimate) scale(by float64) Estimate {
	return e.apply(func(x float64) float64 { return x * by })
}

// apply is the estimate of a function of the number.
func (e Estimate) apply(f func(float64) float64) Estimate {
	out := Estimate{Value: f(e.Value)}
	if e.Low != nil && e.High != nil {
		a, b := f(*e.Low), f(*e.High)
		out.Low, out.High = new(min(a, b)), new(max(a, b))
	}
	return out
}

// What the small engine says of a server scatters about what the server does, where both
// agree on the closed loop, by these standard deviations (docs/capacity.md).
const (
	latencyError = 0.01 // of each objective, at the same load
	loadError    = 0.01 // of the load, at the same latency
)

// draws is how many servers an interval is made of.
const draws = 1000

// normals are the numbers that they are drawn with: mirrored, so that their mean is exact.
var normals = sync.OnceValue(func() [][]float64 {
	const most = 40
	random := rand.New(rand.NewPCG(38, 15))
	out := make([][]float64, draws)
	for i := 0; i < draws; i += 2 {
		a, b := make([]float64, most), make([]float64, most)
		for k := range a {
			a[k] = random.NormFloat64()
			b[k] = -a[k]
		}
		out[i], out[i+1] = a, b
	}
	return out
})

// directions are independent changes of what was measured, one standard deviation each,
// that together scatter as the covariance says. Those that are too small to matter are
// left out.
func (m measured) directions() [][]float64 {
	if m.covariance == nil {
		return nil
	}
	var e mat.EigenSym
	if !e.Factorize(m.covariance, true) {
		return nil
	}
	values := e.Values(nil)
	var vectors mat.Dense
	e.VectorsTo(&vectors)
	most := slices.Max(values)
	var out [][]float64
	for k, v := range values {
		if v <= 1e-6*most || v <= 0 {
			continue
		}
		d := mat.Col(nil, k, &vectors)
		for i := range d {
			d[i] *= math.Sqrt(v) * m.stretch
		}
		out = append(out, d)
	}
	return out
}

// surface is how the logarithms of all ratios depend on the load and on the server.
type surface struct {
	load []float64   // ascending; the first is 0
	base [][]float64 // at each load
	by   []change
}

// change is what one direction does to them.
type change struct {
	load  []float64
	ratio [][]float64
}

func logs(ratios []float64) []float64 {
	out := make([]float64, len(ratios))
	for i, r := range ratios {
		out[i] = math.Log(max(r, 1e-9))
	}
	return out
}

// between interpolates; beyond the ends it stays what it is there.
func between(xs []float64, ys [][]float64, x float64, i int) float64 {
	k, _ := slices.BinarySearch(xs, x)
	switch {
	case k == 0:
		return ys[0][i]
	case k == len(xs):
		return ys[len(xs)-1][i]
	}
	part := (x - xs[k-1]) / (xs[k] - xs[k-1])
	return ys[k-1][i] + part*(ys[k][i]-ys[k-1][i])
}

// lay looks at the neighbourhood of a solution: at loads about it, and at servers that
// differ from the estimate by one standard deviation. known are the exact ratios at the
// solution, which the surface goes through.
func lay(l load, p problem, r *replica, x float64, known []float64, others []load, replicas []*replica) surface {
	s := surface{load: []float64{0}, base: [][]float64{logs(p.unloaded(r))}}
	var here []float64
	for _, part := range []float64{0.6, 0.85, 1, 1.25} {
		if at := x * part; part <= 1 || at < l.most() {
			s.load = append(s.load, at)
			s.base = append(s.base, logs(l.ratios(at, coarse)))
			if part == 1 {
				here = s.base[len(s.base)-1]
			}
		}
	}
	offset := logs(known)
	for i := range offset {
		offset[i] -= here[i]
	}
	for k := 1; k < len(s.load); k++ {
		for i := range offset {
			s.base[k][i] += offset[i]
		}
	}
	for k, other := range others {
		c := change{load: []float64{0, 0.75 * x, x}, ratio: [][]float64{logs(p.unloaded(replicas[k])), logs(other.ratios(0.75*x, coarse)), logs(other.ratios(x, coarse))}}
		for j, at := range c.load {
			for i := range c.ratio[j] {
				c.ratio[j][i] -= between(s.load, s.base, at, i)
				if j > 0 {
					c.ratio[j][i] += offset[i]
				}
			}
		}
		s.by = append(s.by, c)
	}
	return s
}

// limits are the loads at which the bounds hold for servers drawn at random, ascending and
// not above most. The first so many ratios are objectives.
func (s surface) limits(objectives int, most float64) []float64 {
	// What each direction does at the loads of the surface.
	by := make([][][]float64, len(s.by))
	for k, c := range s.by {
		by[k] = make([][]float64, len(s.load))
		for j, x := range s.load {
			by[k][j] = make([]float64, len(s.base[0]))
			for i := range by[k][j] {
				by[k][j][i] = between(c.load, c.ratio, x, i)
			}
		}
	}
	dice := normals()
	out := make([]float64, draws)
	for d := range out {
		limit := s.load[len(s.load)-1]
		for i := range s.base[0] {
			before := 0.0
			for j, x := range s.load {
				at := s.base[j][i]
				for k := range by {
					at += dice[d][k] * by[k][j][i]
				}
				if i < objectives {
					at += latencyError * dice[d][len(by)+i]
				}
				if at > 0 { // here, or on the way from the load before
					if j == 0 {
						limit = 0
					} else {
						limit = min(limit, x-(x-s.load[j-1])*at/(at-before))
					}
					break
				}
				before = at
			}
		}
		out[d] = min(most, limit*math.Exp(loadError*dice[d][len(by)+objectives]))
	}
	slices.Sort(out)
	return out
}

// ratios are what an objective, one of so many, measures at a load, relative to its bound,
// for those servers, ascending.
func (s surface) ratios(objective, objectives int, x float64) []float64 {
	dice := normals()
	out := make([]float64, draws)
	for d := range out {
		x := x * math.Exp(-loadError*dice[d][len(s.by)+objectives]) // which bears more has less to do
		at := between(s.load, s.base, x, objective) + latencyError*dice[d][len(s.by)+objective]
		for k, c := range s.by {
			at += dice[d][k] * between(c.load, c.ratio, x, objective)
		}
		out[d] = math.Exp(at)
	}
	slices.Sort(out)
	return out
}

// interval is the estimate whose draws are these, ascending.
func interval(value float64, sorted []float64) Estimate {
	low, high := sorted[int(0.025*draws)], sorted[int(0.975*draws)-1]
	return Estimate{Value: value, Low: new(min(low, value)), High: new(max(high, value))}
}
