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
	// negligible relative standard error: below it, noise is rounding.
	negligible = 1e-6

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

// weigh is the weight and the value of each sample: by its own error and by what two
// runs differ by (relative). own are the smoothed variances, nil where the samples know
// no errors.
func weigh(samples []Sample, own []float64, between float64) (weights, y []float64) {
	y, weights = make([]float64, len(samples)), make([]float64, len(samples))
	for i, s := range samples {
		y[i] = s.MS
		variance := between * between * s.MS * s.MS
		if own != nil {
			variance += own[i]
		}
		weights[i] = 1 / variance
	}
	return weights, y
}

// Reach is how many standard errors an interval of Confidence extends to either side, by
// Student's t of so many degrees of freedom.
func Reach(freedom float64) float64 {
	return distuv.StudentsT{Sigma: 1, Nu: freedom}.Quantile((1 + Confidence) / 2)
}

// interval is the parameter with its 95 % interval.
func interval(value, standardError, freedom float64) Parameter {
	return within(value, standardError, freedom, Reach(freedom))
}

// within is interval where the reach of so many degrees of freedom is known, which takes
// longer to find than all else.
func within(value, standardError, freedom, reach float64) Parameter {
	half := reach * standardError
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
