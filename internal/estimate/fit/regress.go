// Package fit is the mathematics of the estimate: weighted least squares with
// honest intervals, the range in which a line holds, and the verdict. It does no
// I/O and knows nothing of files.
package fit

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Confidence of every interval.
const Confidence = 0.95

// Choices of the regression, and why.
const (
	// weightFloor is added to each point's relative standard error when it is
	// weighed: two runs of the same point differ by about this much however
	// long they are, so no lucky point may own the fit.
	weightFloor = 0.005

	// negligible relative standard error: below it, noise is rounding.
	negligible = 1e-6

	// scatterDoubt is the p-value below which the points are taken to scatter
	// more than their own errors explain (run-to-run differences). It is large
	// because a handful of points cannot prove it, and too narrow an interval
	// is the worse mistake; the coverage tests hold it in place.
	scatterDoubt = 0.2

	// mostCondition of a design with columns scaled to length one, beyond which
	// its parameters cannot be told apart.
	mostCondition = 1e4
)

// ErrUnidentified says that the points cannot tell the parameters apart.
var ErrUnidentified = errors.New("the points cannot tell the parameters apart")

// Sample is a measured latency with its own error.
type Sample struct {
	MS            float64 // ms
	StandardError float64 // ms; 0: not known
	Blocks        int     // blocks that the error was made of; below 2 it is not known
}

// freedom is the degrees of freedom of the standard error, 0 where it is unknown.
func (s Sample) freedom() float64 {
	if s.StandardError <= 0 || s.Blocks < 2 {
		return 0
	}
	return float64(s.Blocks - 1)
}

// Parameter is an estimated number. The error and the interval are NaN when the
// points cannot give one.
type Parameter struct {
	Value            float64
	StandardError    float64
	Low, High        float64 // 95 % confidence interval, Student's t
	DegreesOfFreedom float64
}

// HasInterval tells whether the interval is known.
func (p Parameter) HasInterval() bool { return !math.IsNaN(p.Low) }

// regression is a solved weighted least-squares problem.
type regression struct {
	coef       []float64
	weights    []float64
	parameters []Parameter
	covariance *mat.SymDense // of the coefficients; nil when unknown
	freedom    float64       // degrees of freedom behind the covariance
	condition  float64
	residuals  []float64   // measured less fitted, ms
	influence  [][]float64 // per point, how far its presence moves each coefficient; nil rows where it decides alone
	scattered  float64     // p-value of the points' scatter being explained by their own errors; NaN when unknown
}

// regress fits samples to the columns of design by weighted least squares.
//
// level is what the precision of a point may depend on (the batch size). curve,
// nil or a column, is what the model may be bent by: residuals that it explains
// are a shortcoming of the model, not noise, and stay out of the intervals.
//
// The covariance is made of the points' own errors, smoothed over the points (see
// smoothErrors). Where the points scatter more than these explain, it is made of
// the residuals; likewise where the errors are unknown.
func regress(design *mat.Dense, samples []Sample, level, curve []float64) (*regression, error) {
	own, freedom := smoothErrors(samples, level)
	return regressKnowing(design, samples, own, freedom, curve)
}

// regressKnowing is regress with the smoothed variances of the samples, and their
// degrees of freedom; nil and 0 where the samples know no errors.
func regressKnowing(design *mat.Dense, samples []Sample, own []float64, ownFreedom float64, curve []float64) (*regression, error) {
	n, p := design.Dims()
	if n < p {
		return nil, fmt.Errorf("%d points for %d parameters: %w", n, p, ErrUnidentified)
	}
	weights, y := weigh(samples, own)
	r := &regression{weights: weights, scattered: math.NaN()}
	coef, inverse, condition, err := solve(design, weights, y)
	if err != nil {
		return nil, err
	}
	r.coef, r.condition = coef, condition
	r.residuals = residuals(design, coef, y)
	r.covariance, r.freedom = r.uncertainty(design, inverse, weights, y, own, ownFreedom, curve)

	r.parameters = make([]Parameter, p)
	for j, value := range coef {
		r.parameters[j] = Parameter{Value: value, StandardError: math.NaN(), Low: math.NaN(), High: math.NaN(), DegreesOfFreedom: r.freedom}
		if r.covariance != nil {
			r.parameters[j] = interval(value, math.Sqrt(max(0, r.covariance.At(j, j))), r.freedom)
		}
	}

	// Leaving point i out moves the coefficients by C x_i w_i r_i / (1 - h_i).
	r.influence = make([][]float64, n)
	moves := make([]float64, n*p)
	for i := range n {
		row := design.RawRowView(i)
		move := moves[i*p : (i+1)*p]
		leverage := 0.0
		for j := range p {
			for k := range p {
				move[j] += inverse.At(j, k) * row[k] * weights[i]
			}
			leverage += row[j] * move[j]
		}
		if leverage > 1-1e-9 {
			continue
		}
		for j := range move {
			move[j] *= r.residuals[i] / (1 - leverage)
		}
		r.influence[i] = move
	}
	return r, nil
}

// weigh is the weight and the value of each sample; own are their smoothed
// variances, nil where the samples know no errors.
func weigh(samples []Sample, own []float64) (weights, y []float64) {
	y, weights = make([]float64, len(samples)), make([]float64, len(samples))
	for i, s := range samples {
		y[i] = s.MS
		weights[i] = 1 / (s.MS * s.MS)
		if own != nil {
			weights[i] = 1 / (own[i] + weightFloor*weightFloor*s.MS*s.MS)
		}
	}
	return weights, y
}

// uncertainty is the covariance of the coefficients and its degrees of freedom;
// nil when there is nothing to make it of.
func (r *regression) uncertainty(design *mat.Dense, inverse *mat.SymDense, weights, y, own []float64, ownFreedom float64, curve []float64) (*mat.SymDense, float64) {
	n, p := design.Dims()
	if own == nil {
		if n == p {
			return nil, 0
		}
		sum := 0.0
		for i, e := range r.residuals {
			sum += weights[i] * e * e
		}
		c := mat.NewSymDense(p, nil)
		c.ScaleSym(sum/float64(n-p), inverse)
		return c, float64(n - p)
	}

	// The sandwich: coefficients are sums of the samples, each of known variance.
	meat := mat.NewSymDense(p, nil)
	for i := range n {
		row := design.RawRowView(i)
		f := weights[i] * weights[i] * own[i]
		for j := range p {
			for k := j; k < p; k++ {
				meat.SetSym(j, k, meat.At(j, k)+f*row[j]*row[k])
			}
		}
	}
	var half, full mat.Dense
	half.Mul(inverse, meat)
	full.Mul(&half, inverse)
	c := mat.NewSymDense(p, nil)
	for j := range p {
		for k := j; k < p; k++ {
			c.SetSym(j, k, (full.At(j, k)+full.At(k, j))/2)
		}
	}

	// Do the points scatter about the (bent) model as their errors say?
	doubt := scatterDoubt
	flexible := design
	switch {
	case curve != nil && n-p-1 >= 3:
		flexible = mat.NewDense(n, p+1, nil)
		flexible.Augment(design, mat.NewDense(n, 1, curve))
	case n-p < 4:
		doubt /= 4 // so few points prove even less
	}
	_, q := flexible.Dims()
	freedom := float64(n - q)
	if freedom < 1 {
		return c, ownFreedom
	}
	precise := make([]float64, n)
	for i := range precise {
		precise[i] = 1 / own[i]
	}
	coef, _, _, err := solve(flexible, precise, y)
	if err != nil {
		return c, ownFreedom
	}
	ratio := 0.0
	for i, e := range residuals(flexible, coef, y) {
		ratio += e * e / own[i] / freedom
	}
	r.scattered = distuv.F{D1: freedom, D2: ownFreedom}.Survival(ratio)
	if r.scattered < doubt {
		c.ScaleSym(max(1, ratio), c)
		return c, freedom
	}
	c.ScaleSym((ownFreedom+freedom*ratio)/(ownFreedom+freedom), c)
	return c, ownFreedom + freedom
}

// overScattered tells whether the points certainly scatter more than their own errors
// explain: the conditions differed between them.
func (r *regression) overScattered() bool { return r.scattered < scatterDoubt/20 }

// interval is the parameter with its 95 % interval by Student's t.
func interval(value, standardError, freedom float64) Parameter {
	half := distuv.StudentsT{Sigma: 1, Nu: freedom}.Quantile((1+Confidence)/2) * standardError
	return Parameter{Value: value, StandardError: standardError, Low: value - half, High: value + half, DegreesOfFreedom: freedom}
}

// solve finds the coefficients that minimise the weighted squares by QR, the
// inverse of X'WX, and the condition number of the design with its columns
// scaled to length one.
func solve(design *mat.Dense, weights, y []float64) (coef []float64, inverse *mat.SymDense, condition float64, err error) {
	n, p := design.Dims()
	scaled := mat.NewDense(n, p, nil)
	target := mat.NewVecDense(n, nil)
	lengths := make([]float64, p)
	for i := range n {
		root := math.Sqrt(weights[i])
		from, to := design.RawRowView(i), scaled.RawRowView(i)
		for j := range to {
			to[j] = root * from[j]
			lengths[j] += to[j] * to[j]
		}
		target.SetVec(i, root*y[i])
	}
	for j := range lengths {
		lengths[j] = math.Sqrt(lengths[j])
		if !(lengths[j] > 0) || math.IsInf(lengths[j], 0) {
			return nil, nil, math.Inf(1), ErrUnidentified
		}
	}
	for i := range n {
		row := scaled.RawRowView(i)
		for j := range row {
			row[j] /= lengths[j]
		}
	}
	var qr mat.QR
	qr.Factorize(scaled)
	if condition = qr.Cond(); !(condition < mostCondition) {
		return nil, nil, condition, ErrUnidentified
	}
	var x mat.VecDense
	if err := qr.SolveVecTo(&x, false, target); err != nil {
		return nil, nil, condition, fmt.Errorf("%w: %w", ErrUnidentified, err)
	}
	var r mat.Dense
	qr.RTo(&r)
	triangle := mat.NewTriDense(p, mat.Upper, nil)
	for j := range p {
		for k := j; k < p; k++ {
			triangle.SetTri(j, k, r.At(j, k))
		}
	}
	var back mat.TriDense
	if err := back.InverseTri(triangle); err != nil {
		return nil, nil, condition, fmt.Errorf("%w: %w", ErrUnidentified, err)
	}
	coef = make([]float64, p)
	inverse = mat.NewSymDense(p, nil)
	for j := range p {
		coef[j] = x.AtVec(j) / lengths[j]
		for k := j; k < p; k++ {
			sum := 0.0
			for l := k; l < p; l++ {
				sum += back.At(j, l) * back.At(k, l)
			}
			inverse.SetSym(j, k, sum/lengths[j]/lengths[k])
		}
	}
	return coef, inverse, condition, nil
}

func residuals(design *mat.Dense, coef, y []float64) []float64 {
	left := make([]float64, len(y))
	for i := range y {
		left[i] = y[i]
		for j, x := range design.RawRowView(i) {
			left[i] -= coef[j] * x
		}
	}
	return left
}
