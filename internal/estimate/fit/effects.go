package fit

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat/distuv"
)

// effects is a linear model of points whose means differ from the truth for two
// reasons: each point's own error, which its blocks of time know, and the difference
// between two runs of the same point, of which they know nothing:
//
//	y_i = x_i'coef + own_i + y_i*run_i     var(own_i) = phi*own_i^2, var(run_i) = tau^2
//
// phi allows for the blocks knowing the errors badly; tau is relative. Neither is
// known, so the model is solved on a grid of both and averaged, each node by its
// prior and its restricted likelihood (H. D. Patterson, R. Thompson, 1971). What the
// points show of tau by their scatter and their repeats is so weighed against what
// servers in general do; no test decides whether runs differ.
type effects struct {
	coef       []float64
	covariance *mat.SymDense // nil where nothing tells it
	freedom    []float64     // degrees of freedom of each coefficient
	condition  float64       // of the design, columns scaled to length one
	residuals  []float64     // measured less fitted, ms
	between    float64       // tau, in the mean over the grid
	nodes      []node
}

// node is the model solved for one pair of phi and tau.
type node struct {
	weight   float64
	phi, tau float64
	coef     []float64
	inverse  *mat.SymDense
}

// What is believed of tau before the points speak: nothing much between the 0.05 %
// that clocks alone make and 3 %, a little more of the larger, for intervals that are
// too narrow are the worse mistake, and ever less above. The coverage tests hold the
// choice in place.
var tauGrid, tauPrior = func() (grid, prior []float64) {
	const knee = 0.03
	grid = floats.LogSpan(make([]float64, 12), 0.0005, 0.2)
	for _, tau := range grid {
		prior = append(prior, 0.45*math.Log(tau)-2.45*max(0, math.Log(tau/knee)))
	}
	return grid, prior
}()

// Where points know no errors of their own, tau is all of what they scatter, and
// nothing is believed of it but that it is not below what repeats on real servers
// show at best.
var anyTau = floats.LogSpan(make([]float64, 24), 0.001, 0.5)

// phiNodes is the number of values of phi, of equal probability.
const phiNodes = 3

// solveEffects fits the samples to the columns of the design. own are the smoothed
// variances of the samples and freedom the degrees of freedom behind them; nil and 0
// where they know no errors.
func solveEffects(design *mat.Dense, samples []Sample, own []float64, freedom float64) (*effects, error) {
	n, p := design.Dims()
	if n < p {
		return nil, fmt.Errorf("%d points for %d parameters: %w", n, p, ErrUnidentified)
	}
	weights, y := weigh(samples, own)
	coef, _, condition, err := solve(design, weights, y)
	if err != nil {
		return nil, err
	}
	e := &effects{coef: coef, condition: condition}
	if own == nil && n == p {
		e.residuals = residuals(design, coef, y)
		return e, nil
	}
	phis, taus, priors := []float64{1}, tauGrid, tauPrior
	if own == nil {
		own, taus, priors = make([]float64, n), anyTau, make([]float64, len(anyTau))
	} else {
		phis = nil
		chi := distuv.ChiSquared{K: freedom}
		for k := range phiNodes {
			phis = append(phis, freedom/chi.Quantile((float64(k)+0.5)/phiNodes))
		}
	}
	best := math.Inf(-1)
	for _, phi := range phis {
		for t, tau := range taus {
			if nd, likelihood, ok := solveNode(design, y, own, phi, tau); ok {
				nd.weight = priors[t] + likelihood
				best = max(best, nd.weight)
				e.nodes = append(e.nodes, nd)
			}
		}
	}
	if len(e.nodes) == 0 || math.IsInf(best, 0) || math.IsNaN(best) {
		return nil, ErrUnidentified
	}
	total := 0.0
	for i := range e.nodes {
		e.nodes[i].weight = math.Exp(e.nodes[i].weight - best)
		total += e.nodes[i].weight
	}
	e.coef = make([]float64, p)
	for i := range e.nodes {
		e.nodes[i].weight /= total
		e.between += e.nodes[i].weight * e.nodes[i].tau
		floats.AddScaled(e.coef, e.nodes[i].weight, e.nodes[i].coef)
	}
	e.residuals = residuals(design, e.coef, y)
	e.average()
	return e, nil
}

// solveNode solves for known variances and returns the logarithm of the restricted
// likelihood. The columns are scaled to length one while it does.
func solveNode(design *mat.Dense, y, own []float64, phi, tau float64) (nd node, likelihood float64, ok bool) {
	n, p := design.Dims()
	gram, target := mat.NewSymDense(p, nil), mat.NewVecDense(p, nil)
	precision, lengths := make([]float64, n), make([]float64, p)
	for i := range n {
		precision[i] = 1 / (phi*own[i] + tau*tau*y[i]*y[i])
		for a, x := range design.RawRowView(i) {
			lengths[a] += x * x * precision[i]
		}
	}
	for a := range lengths {
		lengths[a] = math.Sqrt(lengths[a])
	}
	for i := range n {
		row := design.RawRowView(i)
		for a, x := range row {
			scaled := x * precision[i] / lengths[a]
			target.SetVec(a, target.AtVec(a)+scaled*y[i])
			for b := a; b < p; b++ {
				gram.SetSym(a, b, gram.At(a, b)+scaled*row[b]/lengths[b])
			}
		}
	}
	var c mat.Cholesky
	var x mat.VecDense
	nd = node{phi: phi, tau: tau, inverse: mat.NewSymDense(p, nil)}
	if !c.Factorize(gram) || c.SolveVecTo(&x, target) != nil || c.InverseTo(nd.inverse) != nil {
		return nd, 0, false
	}
	likelihood = -c.LogDet() / 2
	nd.coef = x.RawVector().Data
	for a := range p {
		nd.coef[a] /= lengths[a]
		likelihood -= math.Log(lengths[a])
		for b := a; b < p; b++ {
			nd.inverse.SetSym(a, b, nd.inverse.At(a, b)/lengths[a]/lengths[b])
		}
	}
	for i := range n {
		r := y[i] - floats.Dot(nd.coef, design.RawRowView(i))
		likelihood += math.Log(precision[i])/2 - r*r*precision[i]/2
	}
	return nd, likelihood, !math.IsNaN(likelihood)
}

// average makes one covariance of those of the nodes, and the degrees of freedom that
// say how certain it is.
func (e *effects) average() {
	p := len(e.coef)
	e.covariance = mat.NewSymDense(p, nil)
	e.freedom = make([]float64, p)
	scale := make([]float64, p)
	for j := range p {
		unit := make([]float64, p)
		unit[j] = 1
		scale[j], e.freedom[j] = e.variance(unit, func(node) float64 { return 0 })
	}
	for j := range p {
		for k := j; k < p; k++ {
			r := 0.0 // the correlation hardly depends on the node: its mean will do
			for _, nd := range e.nodes {
				r += nd.weight * nd.inverse.At(j, k) / math.Sqrt(nd.inverse.At(j, j)*nd.inverse.At(k, k))
			}
			e.covariance.SetSym(j, k, r*math.Sqrt(scale[j]*scale[k]))
		}
	}
}

// variance is that of x'coef and of what each node adds to it, with its degrees of
// freedom: the mean of normal distributions over the nodes is taken for the Student's
// t whose precision has the same mean and variance.
func (e *effects) variance(x []float64, more func(node) float64) (variance, freedom float64) {
	const most = 200 // beyond which Student's t is normal
	value := floats.Dot(x, e.coef)
	first, second, shift := 0.0, 0.0, 0.0
	v := mat.NewVecDense(len(x), x)
	for _, nd := range e.nodes {
		precision := 1 / (mat.Inner(v, nd.inverse, v) + more(nd))
		first += nd.weight * precision
		second += nd.weight * precision * precision
		d := floats.Dot(x, nd.coef) - value
		shift += nd.weight * d * d
	}
	spread := second/(first*first) - 1
	return 1/first + shift, min(most, 2/max(spread, 1e-9))
}

// parameters are the coefficients with their intervals.
func (e *effects) parameters() []Parameter {
	all := make([]Parameter, len(e.coef))
	for j, value := range e.coef {
		all[j] = Parameter{Value: value, StandardError: math.NaN(), Low: math.NaN(), High: math.NaN()}
		if e.covariance != nil {
			all[j] = interval(value, math.Sqrt(e.covariance.At(j, j)), e.freedom[j])
		}
	}
	return all
}

// differs is the probability, by Student's t, of a coefficient as far from zero as
// this where it is zero in truth; 1 where nothing is known.
func (p Parameter) differs() float64 {
	if !p.HasInterval() || p.StandardError == 0 {
		return 1
	}
	return 2 * distuv.StudentsT{Sigma: 1, Nu: p.DegreesOfFreedom}.Survival(math.Abs(p.Value)/p.StandardError)
}
