package fit

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"wfgen.dev/internal/run/reason"
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
	LinearFrom       float64       // smallest x that was used
	LinearTo         float64       // largest x that was used
	BendFrom         *float64      // smallest x beyond the linear range, where there is one
	Shape            reason.Code   // Bend or Concave where the points of the whole range do not lie on a line, else empty
	Between          float64       // between two runs of one point, relative standard deviation: what the points show, weighed against what servers do
	Scatter          float64       // of a point about the line, relative standard deviation: between runs, and its own error
	Drift            *Parameter    // of the latency from the first point to the last, relative; nil where it cannot be told
	Wander           float64       // how far the server was off the line, that of the middle of the sweep, at its begin and its end, relative; 0 where the drift was not fitted beside the line

	effects *effects
	own     float64 // relative variance of a typical point's own error
}

// Exclusion is a point that was left out.
type Exclusion struct {
	Index int
	Why   reason.Reason
}

// xy is one point of a line.
type xy struct {
	index  int
	x      float64
	level  float64 // batch
	at     float64 // when it was measured, Unix seconds; 0: not known
	sample Sample
}

func byX(a, b xy) int { return cmp.Compare(a.x, b.x) }

// At is the line's value at x.
func (l *Line) At(x float64) float64 { return l.Intercept.Value + l.Slope.Value*x }

// Predict is the line's value at x, ms, and the 95 % interval of what a run there
// would measure at any moment like those of the sweep: what is not known of the line,
// what two runs differ by, the own error of a point like those that were measured, and
// what the server changed over the sweep. NaN where the points say nothing of their
// certainty.
func (l *Line) Predict(x float64) (ms, low, high float64) {
	ms = l.At(x)
	if l.effects == nil || l.effects.covariance == nil {
		return ms, math.NaN(), math.NaN()
	}
	variance := l.effects.variance([]float64{1, x}) + l.Scatter*l.Scatter*ms*ms
	p := interval(ms, math.Sqrt(variance), l.effects.freedom)
	half := Wandering(p.High-ms, l.Wander*ms)
	return ms, ms - half, ms + half
}

// Wandering is the half width of a prediction whose own is half, where the truth is
// besides anywhere within ±most with equal chance: 95 % of that range, and the two in
// quadrature.
func Wandering(half, most float64) float64 { return math.Hypot(half, Confidence*most) }

// problem is what a line, or a model beside it, is fitted to.
type problem struct {
	points  []xy
	samples []Sample
	own     []float64 // smoothed variances; nil where the samples know no errors
}

func newProblem(points []xy) problem {
	p := problem{points: points, samples: make([]Sample, len(points))}
	level := make([]float64, len(points))
	for i, q := range points {
		p.samples[i], level[i] = q.sample, q.level
	}
	p.own, _ = smoothErrors(p.samples, level)
	return p
}

// some is the problem of those points alone that are kept.
func (p problem) some(keep func(i int) bool) problem {
	var q problem
	for i := range p.points {
		if !keep(i) {
			continue
		}
		q.points, q.samples = append(q.points, p.points[i]), append(q.samples, p.samples[i])
		if p.own != nil {
			q.own = append(q.own, p.own[i])
		}
	}
	return q
}

// design is that of a line, and of further columns, which are functions of a point.
func (p problem) design(more ...func(xy) float64) *mat.Dense {
	design := mat.NewDense(len(p.points), 2+len(more), nil)
	for i, q := range p.points {
		row := []float64{1, q.x}
		for _, of := range more {
			row = append(row, of(q))
		}
		design.SetRow(i, row)
	}
	return design
}

// solve fits a line, and further columns.
func (p problem) solve(more ...func(xy) float64) (*effects, error) {
	return solveEffects(p.design(more...), p.samples, p.own)
}

// fitLine fits a line to the points: to all of them where a line describes them to
// within the tolerance (relative) or to within what may be noise, and otherwise to the
// range in which it predicts most of the batch sizes.
func fitLine(points []xy, tolerance float64) (*Line, error) {
	points = slices.Clone(points)
	slices.SortStableFunc(points, byX)
	all := newProblem(points)
	shape := all.shape(tolerance)
	first, last := 0, len(points)
	if shape != "" {
		first, last = all.bestRange(tolerance)
	}
	within := all.some(func(i int) bool { return i >= first && i < last })
	l := &Line{Shape: shape, Covariance: [2][2]float64{{math.NaN(), math.NaN()}, {math.NaN(), math.NaN()}}}
	e, err := within.solve()
	if err != nil {
		return nil, err
	}
	if with := within.withTime(); with != nil {
		l.Drift = &with.parameters()[2]
		if l.drifts() || within.tellsTime() {
			// The points agree on the server in the middle of the sweep, and differ by what
			// it changed: that is no noise.
			e = with.line()
			// The square of an estimate is too large by that of its error.
			l.Wander = math.Sqrt(max(0, l.Drift.Value*l.Drift.Value-l.Drift.StandardError*l.Drift.StandardError)) / 2
		}
	}
	l.take(e, within)
	if first > 0 || last < len(points) {
		l.leaveOut(points, first, last)
	}
	return l, nil
}

// take fills in the line from the solution.
func (l *Line) take(e *effects, p problem) {
	parameters := e.parameters()
	l.effects, l.Intercept, l.Slope, l.Condition, l.Between = e, parameters[0], parameters[1], e.condition, e.between
	if e.covariance != nil {
		l.DegreesOfFreedom = e.freedom
		l.Covariance = [2][2]float64{{e.covariance.At(0, 0), e.covariance.At(0, 1)}, {e.covariance.At(1, 0), e.covariance.At(1, 1)}}
	}
	l.constrain()
	n := len(p.points)
	l.LinearFrom, l.LinearTo = p.points[0].x, p.points[n-1].x
	l.Used = make([]int, n)
	mean, total, left := 0.0, 0.0, 0.0
	for i, q := range p.points {
		l.Used[i] = q.index
		mean += q.sample.MS / float64(n)
		r := q.sample.MS - l.At(q.x)
		left += r * r
		if p.own != nil {
			l.own += p.own[i] / (q.sample.MS * q.sample.MS) / float64(n)
		}
	}
	for _, q := range p.points {
		total += (q.sample.MS - mean) * (q.sample.MS - mean)
	}
	l.R2, l.RMSE = 1-left/total, math.Sqrt(left/float64(n))
	if total == 0 {
		l.R2 = math.NaN()
	}
	l.Scatter = math.Sqrt(e.scale * (l.Between*l.Between + l.own))
}

// constrain uses that no server answers in less than no time and none gets faster by
// having more to do: where an interval reaches zero, the parameter's mean over what is
// above zero is taken, and the other moves with it. Whether the estimate itself fell
// above or below zero by chance so makes no difference.
func (l *Line) constrain() {
	if l.effects.covariance == nil {
		return
	}
	for _, p := range []struct {
		of, other *Parameter
	}{{&l.Slope, &l.Intercept}, {&l.Intercept, &l.Slope}} {
		if p.of.Low > 0 || p.of.High <= 0 {
			continue
		}
		sd := p.of.StandardError
		z := p.of.Value / sd
		above := distuv.UnitNormal.Prob(z) / distuv.UnitNormal.CDF(z) * sd
		p.of.Value += above
		p.other.Value += above * l.Covariance[0][1] / (sd * sd)
		p.of.Low = 0
		p.of.High = max(p.of.High, p.of.Value)
		if p.other.HasInterval() {
			p.other.Low, p.other.High = min(p.other.Low, p.other.Value), max(p.other.High, p.other.Value)
		}
	}
}

// ToldFromZero tells whether a parameter's interval lies above zero.
func (p Parameter) ToldFromZero() bool { return p.HasInterval() && p.Low > 0 }

// leaveOut names the points outside the range that was chosen.
func (l *Line) leaveOut(points []xy, first, last int) {
	from, to := points[first].level, points[last-1].level
	for i, p := range points {
		if i >= first && i < last {
			continue
		}
		if i >= last && l.BendFrom == nil {
			l.BendFrom = new(p.x)
		}
		l.Out = append(l.Out, Exclusion{p.index, reason.New(l.Shape, "batch %.4g lies %+.1f %% off the line of the batches %.4g to %.4g: beyond the linear range",
			p.level, 100*(p.sample.MS/l.At(p.x)-1), from, to)})
	}
}

// Choices of the search for what a line does not describe.
const (
	// shapeLevel is the significance at which a curve is believed; two are tried.
	shapeLevel = 0.02
	// driftLevel is the significance at which a drift is believed.
	driftLevel = 0.02
	// leastDrift is the drift over a sweep that is worth a word, relative.
	leastDrift = 0.005
	// fewestForBend is the number of batch sizes below which no curve can be told
	// from noise.
	fewestForBend = 4
)

// shape tells whether the points lie on a curve rather than on a line: reason.Bend
// where latency grows ever faster, reason.Concave where it grows ever slower, empty
// where a line is as good. A curve must be significant, and matter: a line that is
// within the tolerance of all points is as good as straight.
func (p problem) shape(tolerance float64) reason.Code {
	if len(replicates(p.points)) < fewestForBend {
		return ""
	}
	line, err := p.solve()
	if err != nil || !p.off(line, tolerance) {
		return ""
	}
	most, found := shapeLevel, reason.Code("")
	// The square root bends where batches are small, the square where they are large.
	for _, c := range []struct {
		column func(xy) float64
		convex float64 // sign of the coefficient of a curve that is convex
	}{
		{func(q xy) float64 { return q.x * q.x }, 1},
		{func(q xy) float64 { return math.Sqrt(q.x) }, -1},
	} {
		e, err := p.solve(c.column)
		if err != nil || e.covariance == nil {
			continue
		}
		k := e.parameters()[2]
		if chance := k.differs(); chance < most {
			most, found = chance, reason.Concave
			if k.Value*c.convex > 0 {
				found = reason.Bend
			}
		}
	}
	return found
}

// off tells whether any point is further off the line than the tolerance.
func (p problem) off(line *effects, tolerance float64) bool {
	for i, q := range p.points {
		if math.Abs(line.residuals[i]) > tolerance*q.sample.MS {
			return true
		}
	}
	return false
}

// bestRange is the range of points, from first to before last, a line through which
// predicts the most batch sizes to within the tolerance or their own error; among
// equals the one that does so best.
func (p problem) bestRange(tolerance float64) (first, last int) {
	groups := replicates(p.points)
	begin := make([]int, len(groups)+1)
	for g, members := range groups {
		begin[g+1] = begin[g] + len(members)
	}
	const candidates = 40 // of ends: enough for what is measured, and a bound for what is not
	stride := max(1, len(groups)/candidates)
	first, last = 0, len(p.points)
	most, least := 0, math.Inf(1)
	for a := 0; a < len(groups); a += stride {
		for b := a + min(fewestForBend, len(groups)) - 1; b < len(groups); b += stride {
			q := p.some(func(i int) bool { return i >= begin[a] && i < begin[b+1] })
			weights, y := weigh(q.samples, q.own, BetweenRuns)
			xs := make([]float64, len(y))
			for i, z := range q.points {
				xs[i] = z.x
			}
			intercept, slope := stat.LinearRegression(xs, y, weights, false)
			errors, holds := 0.0, true
			for i, z := range q.points {
				e := math.Abs(y[i] - intercept - slope*z.x)
				errors += e / y[i] / float64(len(y))
				if q.own != nil {
					e -= 2 * math.Sqrt(q.own[i])
				}
				holds = holds && e <= tolerance*y[i]
			}
			if n := b + 1 - a; holds && (n > most || n == most && errors < least) {
				most, least, first, last = n, errors, begin[a], begin[b+1]
			}
		}
	}
	return first, last
}

// time is a column for a drift of the server: the share of the sweep that had passed
// when a point was measured, about its middle, of the latency. Nil where the times are
// not known.
func (p problem) time() func(xy) float64 {
	from, to := math.Inf(1), 0.0
	for _, q := range p.points {
		from, to = min(from, q.at), max(to, q.at)
	}
	if from <= 0 || to <= from {
		return nil
	}
	return func(q xy) float64 { return ((q.at-from)/(to-from) - 0.5) * q.sample.MS }
}

// withTime is the line with a drift of the server beside it: how much latency rose from
// the first point to the last, relative. Nil where the points cannot tell it.
func (p problem) withTime() *effects {
	t := p.time()
	if t == nil || len(p.points) < 5 {
		return nil
	}
	e, err := p.solve(t)
	if err != nil || e.covariance == nil {
		return nil
	}
	return e
}

// tellsTime tells whether a drift is told from the line at little cost: the sweep went
// there and back, and points enough are left to show their scatter.
func (p problem) tellsTime() bool {
	const cost = 1.5 // in variance
	if len(p.points)-3 < enoughScatter {
		return false
	}
	weights, y := weigh(p.samples, p.own, BetweenRuns)
	_, line, _, err := solve(p.design(), weights, y)
	_, with, _, errWith := solve(p.design(p.time()), weights, y)
	if err != nil || errWith != nil {
		return false
	}
	for j := range 2 {
		if with.At(j, j) > cost*line.At(j, j) {
			return false
		}
	}
	return true
}

// drifts tells whether the drift is believed, and matters.
func (l *Line) drifts() bool {
	return l.Drift != nil && l.Drift.differs() < driftLevel && math.Abs(l.Drift.Value) > leastDrift
}

// line is the solution without what was fitted beside the line.
func (e *effects) line() *effects {
	line := *e
	line.coef, line.covariance = e.coef[:2], mat.NewSymDense(2, nil)
	line.covariance.CopySym(e.covariance)
	return &line
}

func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }
