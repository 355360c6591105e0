package fit

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// system is a linear least-squares problem for some terms of a joint model.
type system struct {
	columns [][]float64 // per term, per point
	samples []Sample
	level   []float64
	shapes  []int
	limit   float64 // of the condition number

	own []float64 // variances, smoothed; nil where the samples know no errors
}

// smooth readies the system to be solved, for whichever terms.
func (s system) smooth() system {
	s.own, _ = smoothErrors(s.samples, s.level)
	return s
}

func (s system) design(terms []int) *mat.Dense {
	design := mat.NewDense(len(s.samples), len(terms), nil)
	for i := range s.samples {
		row := design.RawRowView(i)
		for k, t := range terms {
			row[k] = s.columns[t][i]
		}
	}
	return design
}

// leaveOut solves once without each shape, from the sums of products that the shape
// contributes to, so that it costs little more than one solution.
func (s system) leaveOut(design *mat.Dense, weights []float64) map[int][]float64 {
	_, p := design.Dims()
	type sums struct{ products, target []float64 }
	all, parts := sums{make([]float64, p*p), make([]float64, p)}, map[int]sums{}
	for i, shape := range s.shapes {
		part, ok := parts[shape]
		if !ok {
			part = sums{make([]float64, p*p), make([]float64, p)}
			parts[shape] = part
		}
		row := design.RawRowView(i)
		for a, x := range row {
			w := weights[i] * x
			for b, z := range row {
				part.products[a*p+b] += w * z
			}
			part.target[a] += w * s.samples[i].MS
		}
	}
	for _, part := range parts {
		floats.Add(all.products, part.products)
		floats.Add(all.target, part.target)
	}
	without := map[int][]float64{}
	for shape, part := range parts {
		lengths := make([]float64, p)
		for a := range p {
			lengths[a] = math.Sqrt(all.products[a*p+a] - part.products[a*p+a])
		}
		gram, target := mat.NewSymDense(p, nil), mat.NewVecDense(p, nil)
		for a := range p {
			target.SetVec(a, (all.target[a]-part.target[a])/lengths[a])
			for b := a; b < p; b++ {
				gram.SetSym(a, b, (all.products[a*p+b]-part.products[a*p+b])/lengths[a]/lengths[b])
			}
		}
		var c mat.Cholesky
		var x mat.VecDense
		if !c.Factorize(gram) || !(math.Sqrt(c.Cond()) < s.limit) || c.SolveVecTo(&x, target) != nil {
			continue
		}
		coef := make([]float64, p)
		for a := range p {
			coef[a] = x.AtVec(a) / lengths[a]
		}
		without[shape] = coef
	}
	return without
}

// solved is a solved system.
type solved struct {
	terms      []int
	parameters []Parameter
	covariance *mat.SymDense
	clustered  bool
	condition  float64
	without    map[int][]float64 // by shape: the coefficients without its points; a shape that cannot be missed has none
	leftOut    float64           // mean absolute relative residual of shapes left out; NaN where one cannot be missed
	between    float64           // of a point about the model beyond its own error, relative standard deviation
}

// solve fits the terms. The covariance is that of the points while they scatter no
// more than two runs of one point do. What goes beyond is a shortcoming of the model
// and common to the points of a shape, so that points count for less than their
// number; where there are shapes enough, the covariance is then made of the fits
// that leave out one shape each (jackknife by clusters: B. Efron, C. Stein, 1981).
func (s system) solve(terms []int) (*solved, error) {
	if len(s.samples) == 0 {
		return nil, fmt.Errorf("no points: %w", ErrUnidentified)
	}
	design := s.design(terms)
	r, err := solveEffects(design, s.samples, s.own)
	if err != nil {
		return nil, err
	}
	weights, _ := weigh(s.samples, s.own, BetweenRuns)
	v := &solved{
		terms: terms, parameters: r.parameters(), covariance: r.covariance, condition: r.condition, between: r.between,
		without: s.leaveOut(design, weights),
	}
	for i, sample := range s.samples {
		fitted := math.NaN()
		if coef, ok := v.without[s.shapes[i]]; ok {
			fitted = 0
			for k, t := range terms {
				fitted += coef[k] * s.columns[t][i]
			}
		}
		v.leftOut += math.Abs(fitted/sample.MS-1) / float64(len(s.samples))
	}
	shapes, p := distinctShapes(s.shapes), len(terms)
	if n := float64(shapes); len(v.without) == shapes && shapes >= p+spareShapes && (s.own == nil || r.between > BetweenRuns) {
		c := mat.NewSymDense(p, nil)
		for _, coef := range v.without {
			for a := range p {
				for b := a; b < p; b++ {
					c.SetSym(a, b, c.At(a, b)+(n-1)/n*(coef[a]-r.coef[a])*(coef[b]-r.coef[b]))
				}
			}
		}
		v.covariance, v.clustered = c, true
		for a := range p {
			v.parameters[a] = interval(r.coef[a], math.Sqrt(c.At(a, a)), n-1)
		}
	}
	return v, nil
}

func distinctShapes(shapes []int) int {
	seen := map[int]bool{}
	for _, s := range shapes {
		seen[s] = true
	}
	return len(seen)
}
