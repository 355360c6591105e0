package fit

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Choices of the search for the linear range.
const (
	// bendLevel is the significance at which a bend is believed.
	bendLevel = 0.05

	// fewestForBend is the number of different abscissas below which no bend
	// can be told from noise.
	fewestForBend = 4

	// candidates limits the ranges that are tried.
	candidates = 64
)

// Line is a fitted straight line over the range where one holds.
type Line struct {
	Intercept, Slope Parameter
	Covariance       [2][2]float64 // of intercept and slope; NaN when unknown
	Used             []int         // indices of the points that the line was fitted to, ascending in x
	Out              []Exclusion   // the points that it was not, and why
	Residuals        []float64     // per point: predicted over measured minus one, also of points left out; NaN where nothing was measured
	R2               float64       // share of the variance of the used points that the line explains, unweighted
	RMSE             float64       // ms, over the used points, unweighted
	Condition        float64       // of the design, columns scaled to length one
	DegreesOfFreedom float64       // behind the intervals
	LinearTo         float64       // largest x that was used
	BendFrom         *float64      // smallest x beyond the linear range, where there is one
	Scattered        bool          // the points scatter more than their own errors explain
	Influential      []Influence   // points that decide more than they should
}

// Exclusion is a point that was left out.
type Exclusion struct {
	Index  int
	Reason string
}

// Influence is a point whose presence moves a parameter beyond its interval.
type Influence struct {
	Index   int
	Slope   bool    // the slope moves, else the intercept
	Percent float64 // of the parameter
}

// xy is one point of a line.
type xy struct {
	index  int
	x      float64
	level  float64 // batch
	sample Sample
}

func byX(a, b xy) int { return cmp.Compare(a.x, b.x) }

// fitLine fits a line to the largest range of points, from the smallest x on, in
// which one holds to within tolerance, relative to the values.
func fitLine(points []xy, tolerance float64) (*Line, error) {
	points = slices.Clone(points)
	slices.SortStableFunc(points, byX)
	n := linearRange(points, tolerance)
	used, beyond := points[:n], points[n:]

	design := mat.NewDense(n, 2, nil)
	samples := make([]Sample, n)
	level, curve := make([]float64, n), make([]float64, n)
	for i, p := range used {
		design.SetRow(i, []float64{1, p.x})
		samples[i], level[i], curve[i] = p.sample, p.level, p.x*p.x
	}
	r, err := regress(design, samples, level, curve)
	if err != nil {
		return nil, err
	}
	l := &Line{
		Intercept: r.parameters[0], Slope: r.parameters[1], Condition: r.condition,
		DegreesOfFreedom: r.freedom, LinearTo: used[n-1].x, Scattered: r.overScattered(),
		Covariance: [2][2]float64{{math.NaN(), math.NaN()}, {math.NaN(), math.NaN()}},
	}
	if r.covariance != nil {
		l.Covariance = [2][2]float64{{r.covariance.At(0, 0), r.covariance.At(0, 1)}, {r.covariance.At(1, 0), r.covariance.At(1, 1)}}
	}
	l.Used = make([]int, n)
	mean, total, left := 0.0, 0.0, 0.0
	for i, p := range used {
		l.Used[i] = p.index
		mean += p.sample.MS / float64(n)
		left += r.residuals[i] * r.residuals[i]
	}
	for _, p := range used {
		total += (p.sample.MS - mean) * (p.sample.MS - mean)
	}
	l.R2, l.RMSE = 1-left/total, math.Sqrt(left/float64(n))
	if total == 0 {
		l.R2 = math.NaN()
	}
	if len(beyond) > 0 {
		l.BendFrom = new(beyond[0].x)
		for _, p := range beyond {
			l.Out = append(l.Out, Exclusion{p.index, fmt.Sprintf("batch %.4g lies %+.1f %% off the line of the batches up to %.4g: beyond the linear range",
				p.level, 100*(p.sample.MS/l.At(p.x)-1), used[n-1].level)})
		}
	}
	l.Influential = influential(r, used)
	return l, nil
}

// At is the line's value at x.
func (l *Line) At(x float64) float64 { return l.Intercept.Value + l.Slope.Value*x }

// influential names, for each parameter, the point that moves it most, where that
// is beyond its interval and matters.
func influential(r *regression, used []xy) []Influence {
	const matters = 0.05
	var found []Influence
	if len(used) < 4 {
		return nil // every point decides much
	}
	for j, p := range r.parameters {
		worst, at := 0.0, -1
		for i, moves := range r.influence {
			if moves != nil && math.Abs(moves[j]) > worst {
				worst, at = math.Abs(moves[j]), i
			}
		}
		half := math.Abs(p.Value) * 2 * matters
		if p.HasInterval() {
			half = (p.High - p.Low) / 2
		}
		if at >= 0 && worst > half && worst > matters*math.Abs(p.Value) {
			found = append(found, Influence{Index: used[at].index, Slope: j == 1, Percent: 100 * r.influence[at][j] / p.Value})
		}
	}
	return found
}

// linearRange is the number of points, from the smallest x on, up to which a line
// holds. Points must be sorted by x. Where no bend can be shown, or not even the
// first few lie on a line, it is all of them.
func linearRange(points []xy, tolerance float64) int {
	var ends []int // a range ends after all points of one x
	for i := range points {
		if i+1 == len(points) || points[i+1].x > points[i].x*(1+1e-9) {
			ends = append(ends, i+1)
		}
	}
	if len(ends) < fewestForBend {
		return len(points)
	}
	samples, level := make([]Sample, len(points)), make([]float64, len(points))
	for i, p := range points {
		samples[i], level[i] = p.sample, p.level
	}
	own, freedom := smoothErrors(samples, level)
	stride := float64(len(ends)) / float64(min(len(ends), candidates))
	for i := float64(len(ends)); i >= fewestForBend; i -= stride {
		k := int(math.Round(i))
		if lineHolds(points[:ends[k-1]], ends[k-2], own, freedom, tolerance) {
			return ends[k-1]
		}
	}
	return len(points)
}

// lineHolds tells whether a line describes the points to within the tolerance or,
// where it does not, whether noise may be the reason. The last x begins at index
// last. A bend must show twice: larger than the points' own errors allow, and
// larger than their scatter about the bent curve, so that one bad point in the
// middle is not taken for one.
func lineHolds(points []xy, last int, own []float64, freedom, tolerance float64) bool {
	fit := weighLine(points, own)
	off := false
	for i, p := range points {
		e := math.Abs(fit.residual(p))
		if own != nil {
			e -= 2 * math.Sqrt(own[i])
		}
		if e > tolerance*p.sample.MS {
			off = true
			break
		}
	}
	if !off {
		return true
	}
	return !fit.curved(points, own, freedom) && !departs(points, last, own, freedom)
}

// weighted is a weighted line with what is needed to test it.
type weighted struct {
	intercept, slope, center float64 // y = intercept + slope*(x-center)
	sum, spread              float64 // of the weights; of w*(x-center)^2
	squares                  float64 // of weighted residuals
	weights                  []float64
}

func weighLine(points []xy, own []float64) weighted {
	f := weighted{weights: make([]float64, len(points))}
	my := 0.0
	for i, p := range points {
		w := 1 / (p.sample.MS * p.sample.MS)
		if own != nil {
			w = 1 / (own[i] + weightFloor*weightFloor*p.sample.MS*p.sample.MS)
		}
		f.weights[i] = w
		f.sum += w
		f.center += w * p.x
		my += w * p.sample.MS
	}
	f.center /= f.sum
	f.intercept = my / f.sum
	for i, p := range points {
		f.spread += f.weights[i] * (p.x - f.center) * (p.x - f.center)
		f.slope += f.weights[i] * (p.x - f.center) * (p.sample.MS - f.intercept)
	}
	f.slope /= f.spread
	for i, p := range points {
		e := f.residual(p)
		f.squares += f.weights[i] * e * e
	}
	return f
}

// residual is measured less fitted, ms.
func (f *weighted) residual(p xy) float64 {
	return p.sample.MS - f.intercept - f.slope*(p.x-f.center)
}

// curved tests the coefficient of x squared.
func (f *weighted) curved(points []xy, own []float64, freedom float64) bool {
	left := float64(len(points) - 3)
	if left < 1 {
		return false
	}
	// x squared, made orthogonal to the line.
	mean, tilt := 0.0, 0.0
	for i, p := range points {
		d := p.x - f.center
		mean += f.weights[i] * d * d / f.sum
		tilt += f.weights[i] * d * d * d / f.spread
	}
	norm, product, noise := 0.0, 0.0, 0.0
	for i, p := range points {
		d := p.x - f.center
		q := d*d - mean - tilt*d
		norm += f.weights[i] * q * q
		product += f.weights[i] * q * f.residual(p)
		if own != nil {
			noise += f.weights[i] * f.weights[i] * q * q * own[i]
		}
	}
	scatter := max(0, f.squares-product*product/norm) / left * norm
	return significant(product, scatter, left) && (own == nil || significant(product, noise, freedom))
}

// departs tests whether the points of the last x lie off the line of the others.
func departs(points []xy, last int, own []float64, freedom float64) bool {
	left := float64(last - 2)
	if left < 1 {
		return false
	}
	f := weighLine(points[:last], own)
	d := points[last].x - f.center
	sum, weight, noise := 0.0, 0.0, 0.0
	for i, p := range points[last:] {
		w := 1 / (p.sample.MS * p.sample.MS)
		if own != nil {
			w = 1 / (own[last+i] + weightFloor*weightFloor*p.sample.MS*p.sample.MS)
			noise += w * w * own[last+i]
		}
		sum += w * f.residual(p)
		weight += w
	}
	distance := sum / weight
	predicted := 1/f.sum + d*d/f.spread // variance of the line at x, over that of a point of weight 1
	scatter := f.squares / left * (predicted + 1/weight)
	if !significant(distance, scatter, left) {
		return false
	}
	if own == nil {
		return true
	}
	noise /= weight * weight
	for i, p := range points[:last] {
		c := f.weights[i] * (1/f.sum + d*(p.x-f.center)/f.spread)
		noise += c * c * own[i]
	}
	return significant(distance, noise, freedom)
}

// significant tells whether a value of the given variance differs from zero.
func significant(value, variance, freedom float64) bool {
	if value == 0 {
		return false
	}
	t := math.Abs(value) / math.Sqrt(variance)
	return t > distuv.StudentsT{Sigma: 1, Nu: freedom}.Quantile(1-bendLevel/2)
}
