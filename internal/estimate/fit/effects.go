package fit

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat/distuv"
)

// effects is a linear model of points whose means differ from the truth for two
// reasons: each point's own error, which its blocks of time know, and the difference
// between two runs of the same point, of which they know nothing:
//
//	y_i = x_i'coef + own_i + y_i*run_i     var(run_i) = between^2
//
// How much runs differ, the scatter about the model and its repeats tell by their sum of
// weighted squares, which is as large as its degrees of freedom where all variances are
// right (R. C. Paule, J. Mandel, 1982). That is known as badly as the scatter of a handful
// of points is, so intervals are scaled by that very sum and take Student's t of it (G.
// Knapp, J. Hartung, 2003): they hold the truth as often as they say whether runs differ
// or not.
type effects struct {
	coef       []float64
	covariance *mat.SymDense // nil where nothing tells it
	freedom    float64       // degrees of freedom behind it
	condition  float64       // of the design, columns scaled to length one
	residuals  []float64     // measured less fitted, ms
	between    float64       // relative standard deviation between runs
	scale      float64       // of all variances, by how much the points scatter
}

const (
	// enoughScatter is how many degrees of freedom measure by how much runs differ.
	// Those that are missing are taken to say BetweenRuns.
	enoughScatter = 3
	// ownFreedom is how many degrees of freedom of scatter the points' own errors are
	// worth, so that points which lie on a line by luck do not make a narrow interval.
	ownFreedom = 0.5
	// leastBetween is what repeats on real servers show at best, relative: points that
	// know no errors of their own scatter by no less.
	leastBetween = 0.001
	// mostBetween is far more than any runs differ, relative.
	mostBetween = 1
)

// solveEffects fits the samples to the columns of the design. own are the smoothed
// variances of the samples, nil where they know no errors.
func solveEffects(design *mat.Dense, samples []Sample, own []float64) (*effects, error) {
	n, p := design.Dims()
	if n < p {
		return nil, fmt.Errorf("%d points for %d parameters: %w", n, p, ErrUnidentified)
	}
	typical, missing := 0.0, 0.0 // relative variance of a point's own error
	if own != nil {
		missing = max(0, float64(enoughScatter-(n-p)))
	}
	for i := range own {
		typical += own[i] / (samples[i].MS * samples[i].MS) / float64(n)
	}
	freedom := float64(n-p) + missing
	at := func(between float64) (e *effects, inverse *mat.SymDense, squares float64, err error) {
		weights, y := weigh(samples, own, between)
		e = &effects{between: between}
		if e.coef, inverse, e.condition, err = solve(design, weights, y); err != nil {
			return nil, nil, 0, err
		}
		e.residuals = residuals(design, e.coef, y)
		for i, r := range e.residuals {
			squares += r * r * weights[i]
		}
		return e, inverse, squares + missing*(typical+BetweenRuns*BetweenRuns)/(typical+between*between), nil
	}
	low := 0.0
	if own == nil {
		low = leastBetween
	}
	e, inverse, squares, err := at(low)
	if err != nil || freedom == 0 {
		return e, err
	}
	if squares > freedom { // they fall as the variance grows
		high := float64(mostBetween)
		for high-low > 1e-3*high && high > negligible {
			middle := (low + high) / 2
			if _, _, squares, err = at(middle); err != nil {
				return nil, err
			}
			if squares > freedom {
				low = middle
			} else {
				high = middle
			}
		}
		if e, inverse, squares, err = at(high); err != nil {
			return nil, err
		}
	}
	share := typical / (typical + e.between*e.between) // of the variance that the points know themselves
	e.scale, e.freedom = 1, freedom
	if own != nil {
		e.scale = (ownFreedom + squares) / (ownFreedom + freedom)
		e.freedom += ownFreedom * share * share
	}
	e.covariance = mat.NewSymDense(p, nil)
	e.covariance.ScaleSym(e.scale, inverse)
	return e, nil
}

// variance is that of x'coef.
func (e *effects) variance(x []float64) float64 {
	v := mat.NewVecDense(len(x), x)
	return mat.Inner(v, e.covariance, v)
}

// parameters are the coefficients with their intervals.
func (e *effects) parameters() []Parameter {
	all := make([]Parameter, len(e.coef))
	reach := math.NaN()
	if e.covariance != nil {
		reach = Reach(e.freedom)
	}
	for j, value := range e.coef {
		all[j] = Parameter{Value: value, StandardError: math.NaN(), Low: math.NaN(), High: math.NaN()}
		if e.covariance != nil {
			all[j] = within(value, math.Sqrt(e.covariance.At(j, j)), e.freedom, reach)
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
