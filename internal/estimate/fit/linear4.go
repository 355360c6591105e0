package fit

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
)

// Methods of the linear4 fit.
const (
	WLS      = sweep.WLS      // weighted least squares over all points
	TwoPoint = sweep.TwoPoint // the smallest and the largest batch only, as the two-run recipe has it
)

// Limits of the verdict. 10 % in alpha moves the capacity that an autoscaler
// plans by 4-13 %, and by 60-70 % where the target is tight.
const (
	leastR2       = 0.98
	mostResidual  = 0.10
	widestRange   = 0.10 // of an interval, from end to end, relative to the value
	enoughPoints  = 5
	bendTolerance = 0.02 // ITL: a line this close to all points is as good as straight
	ttftTolerance = 0.04 // TTFT: the same; it is noisier and matters less

	// No server gives a token in less than a tenth of a millisecond, nor a
	// first token in less than half a one, nor takes this long for either: such
	// values are in another unit.
	fastestITL, slowestITL   = 0.1, 20_000.0
	fastestTTFT, slowestTTFT = 0.5, 1e7
)

// Point is one measured point of a sweep.
type Point struct {
	Group        string  // model, accelerator and shape: one linear4 fit has one of it
	Pair         string  // model and accelerator: one joint fit has one of it
	Label        string  // the point in reasons, such as "batch 8"
	Batch        float64 // requests that ran together
	PromptTokens float64
	OutputTokens float64
	Open         bool // requests arrived at a rate; otherwise each answer was followed by the next request
	ITL, TTFT    Sample
	Void         string // why no parameter may use it; empty: it may
	VoidTTFT     string // why gamma and delta may not use it
}

// Linear4 is the model with four parameters of one model, accelerator and shape:
//
//	ITL  = alpha + beta*batch                 (ms)
//	TTFT = gamma + delta*promptTokens*batch   (ms)
type Linear4 struct {
	Method                    string
	Alpha, Beta, Gamma, Delta Parameter // NaN where they could not be estimated
	ITL, TTFT                 *Line     // over batch and over promptTokens*batch; nil where none could be fitted
	Verdict                   Verdict
}

// FitLinear4 estimates the four parameters. It always returns: what cannot be
// estimated or must not be published is a refused verdict with its reasons.
func FitLinear4(points []Point, method string) Linear4 {
	unknown := Parameter{Value: math.NaN(), StandardError: math.NaN(), Low: math.NaN(), High: math.NaN()}
	f := Linear4{Method: method, Alpha: unknown, Beta: unknown, Gamma: unknown, Delta: unknown, Verdict: NewVerdict()}
	for _, p := range points {
		if p.Group != points[0].Group {
			f.Verdict.Refuse(reason.New(reason.Mixed, "points of %s and of %s are mixed; each needs a fit of its own", points[0].Group, p.Group))
			return f
		}
	}

	itl, itlOut := accepted(points, "ITL", ofITL)
	ttft, ttftOut := accepted(points, "TTFT", ofTTFT)

	if method == WLS {
		itl := f.line(&f.ITL, "alpha, beta", itl, itlOut, bendTolerance)
		// gamma and delta: the server must be in its linear range, and busy.
		var within []xy
		for _, p := range ttft {
			if itl != nil && itl.BendFrom != nil && p.level >= *itl.BendFrom {
				ttftOut = append(ttftOut, Exclusion{p.index, "beyond the linear range of ITL"})
				continue
			}
			within = append(within, p)
		}
		ttft, ttftOut = withoutIdle(within, ttftOut)
		f.line(&f.TTFT, "gamma, delta", ttft, ttftOut, ttftTolerance)
	} else {
		f.twoPoint(&f.ITL, "alpha, beta", itl, itlOut)
		f.twoPoint(&f.TTFT, "gamma, delta", ttft, ttftOut)
	}
	if f.ITL != nil {
		f.Alpha, f.Beta = f.ITL.Intercept, f.ITL.Slope
		f.ITL.Residuals = predictionErrors(points, f.ITL, func(p Point) (float64, float64) { return p.Batch, p.ITL.MS })
	}
	if f.TTFT != nil {
		f.Gamma, f.Delta = f.TTFT.Intercept, f.TTFT.Slope
		f.TTFT.Residuals = predictionErrors(points, f.TTFT, func(p Point) (float64, float64) { return p.Batch * p.PromptTokens, p.TTFT.MS })
	}
	f.judge(points)
	return f
}

// accepted splits the points into those that a line may use and the others.
func accepted(points []Point, name string, of func(Point) (float64, Sample, string)) (use []xy, out []Exclusion) {
	for i, p := range points {
		x, sample, void := of(p)
		switch {
		case void != "":
		case !(p.Batch > 0) || math.IsInf(p.Batch, 0):
			void = fmt.Sprintf("its batch is %v", p.Batch)
		case !(x > 0) || math.IsInf(x, 0):
			void = fmt.Sprintf("its prompt length is %v", p.PromptTokens)
		case !(sample.MS > 0) || math.IsInf(sample.MS, 0):
			void = fmt.Sprintf("its %s is %v ms", name, sample.MS)
		}
		if void != "" {
			out = append(out, Exclusion{i, void})
			continue
		}
		use = append(use, xy{index: i, x: x, level: p.Batch, sample: sample})
	}
	return use, out
}

// withoutIdle takes batch 1 out of the points of TTFT when three or more busier
// ones remain: a request that finds the server idle does not wait for the running
// iteration, as every other does, so it lies below their line.
func withoutIdle(points []xy, out []Exclusion) ([]xy, []Exclusion) {
	var busy []xy
	var idle []Exclusion
	for _, p := range points {
		if p.level < 1.5 {
			idle = append(idle, Exclusion{p.index, "an idle server answers its first token sooner than the line of the busy ones"})
		} else {
			busy = append(busy, p)
		}
	}
	if different(busy) < 3 {
		return points, out
	}
	return busy, append(out, idle...)
}

// different counts the different abscissas.
func different(points []xy) int {
	xs := make([]float64, len(points))
	for i, p := range points {
		xs[i] = p.x
	}
	return distinct(xs)
}

// distinct counts the different values; it sorts them.
func distinct(xs []float64) int {
	slices.Sort(xs)
	n := 0
	for i, x := range xs {
		if i == 0 || x > xs[i-1]*(1+1e-9) {
			n++
		}
	}
	return n
}

// line fits one of the two lines, or refuses.
func (f *Linear4) line(to **Line, names string, points []xy, out []Exclusion, tolerance float64) *Line {
	if !f.enough(names, points, out) {
		return nil
	}
	line, err := fitLine(points, tolerance)
	if err != nil {
		f.refuse(names, err.Error())
		return nil
	}
	line.Out = append(out, line.Out...)
	*to = line
	return line
}

// twoPoint draws the line through the smallest and the largest batch.
func (f *Linear4) twoPoint(to **Line, names string, points []xy, out []Exclusion) {
	if !f.enough(names, points, out) {
		return
	}
	low, high := points[0], points[0]
	for _, p := range points {
		if p.x < low.x {
			low = p
		}
		if p.x >= high.x {
			high = p
		}
	}
	for _, p := range points {
		if p.index != low.index && p.index != high.index {
			out = append(out, Exclusion{p.index, "the method two-point uses the smallest and the largest batch only"})
		}
	}
	line, err := fitLine([]xy{low, high}, 0)
	if err != nil {
		f.refuse(names, err.Error())
		return
	}
	line.Out = out
	*to = line
}

// enough refuses fewer than two different batches.
func (f *Linear4) enough(names string, points []xy, out []Exclusion) bool {
	if different(points) >= 2 {
		return true
	}
	why := fmt.Sprintf("all %d points that can be used are at one batch size; a line needs two", len(points))
	switch len(points) {
	case 0:
		why = "no point can be used"
	case 1:
		why = "only one point can be used; a line needs two batch sizes"
	}
	if len(out) > 0 {
		why += fmt.Sprintf("; %d left out, the first because: %s", len(out), out[0].Reason)
	}
	f.refuse(names, why)
	return false
}

// refuse says once what keeps all four parameters from being estimated.
func (f *Linear4) refuse(names, why string) {
	r := reason.New(reason.Few, "%s: %s", names, why)
	if n := len(f.Verdict.Findings); n > 0 {
		if before, found := strings.CutSuffix(f.Verdict.Findings[n-1].Text, ": "+why); found {
			r.Text = before + ", " + r.Text
			f.Verdict.Findings, f.Verdict.Reasons, f.Verdict.refusals = f.Verdict.Findings[:n-1], f.Verdict.Reasons[:n-1], f.Verdict.refusals-1
		}
	}
	f.Verdict.Refuse(r)
}

func predictionErrors(points []Point, l *Line, of func(Point) (x, measured float64)) []float64 {
	errs := make([]float64, len(points))
	for i, p := range points {
		x, measured := of(p)
		errs[i] = math.NaN()
		if measured > 0 && x > 0 {
			errs[i] = l.At(x)/measured - 1
		}
	}
	return errs
}

// judge applies the rules of the verdict to the numbers.
func (f *Linear4) judge(points []Point) {
	f.judgeUnits(points)
	var uncertain []string
	for _, p := range []struct {
		name string
		Parameter
		line *Line
		more string // what to do about an uncertain one
	}{
		{"alpha", f.Alpha, f.ITL, "measure small batches longer"},
		{"beta", f.Beta, f.ITL, "measure larger batches, or longer"},
		{"gamma", f.Gamma, f.TTFT, "measure small batches longer"},
		{"delta", f.Delta, f.TTFT, "measure larger batches, or longer"},
	} {
		if p.line == nil {
			continue // refused already
		}
		switch {
		case math.IsNaN(p.Value) || math.IsInf(p.Value, 0):
			f.Verdict.Refuse(reason.New(reason.Misfit, "%s is %v", p.name, p.Value))
		case p.Value <= 0 && p.HasInterval() && p.High > 0:
			f.Verdict.Refuse(reason.New(reason.Zero, "%s is %.4g with the interval [%.4g, %.4g]: it cannot be told from 0, and consumers take no value that is not above 0; %s", p.name, p.Value, p.Low, p.High, p.more))
		case p.Value <= 0:
			f.Verdict.Refuse(reason.New(reason.Zero, "%s is %.4g, not above 0: the points do not follow the model; were requests queueing?", p.name, p.Value))
		case !p.HasInterval():
			uncertain = append(uncertain, p.name)
		case p.High-p.Low > widestRange*p.Value:
			f.Verdict.Warn(reason.New(reason.Wide, "%s is uncertain by %.3g %% (interval [%.4g, %.4g]); %s", p.name, 50*(p.High-p.Low)/p.Value, p.Low, p.High, p.more))
		}
	}
	if len(uncertain) > 0 {
		f.Verdict.Warn(reason.New(reason.Few, "%s: no interval: two points without errors of their own say nothing of their certainty", strings.Join(uncertain, ", ")))
	}
	f.judgeLine(points, "ITL", f.ITL, "alpha", "beta", 0)
	idle := 0
	if f.TTFT != nil {
		for _, o := range f.TTFT.Out {
			if p := points[o.Index]; p.Batch < 1.5 && p.Void == "" && p.VoidTTFT == "" {
				idle = 1 // measured, and kept out of the line for a good reason
			}
		}
	}
	f.judgeLine(points, "TTFT", f.TTFT, "gamma", "delta", idle)
}

func (f *Linear4) judgeLine(points []Point, name string, l *Line, intercept, slope string, more int) {
	if l == nil {
		return
	}
	batches := make([]float64, len(l.Used))
	for at, i := range l.Used {
		batches[at] = points[i].Batch
	}
	if n := distinct(batches) + more; n < enoughPoints {
		f.Verdict.Warn(reason.New(reason.Few, "%s: %d points; %d or more show whether a line holds", name, n, enoughPoints))
	}
	if l.R2 < leastR2 {
		f.Verdict.Warn(reason.New(reason.Misfit, "%s: R2 is %.3f, below %.2f", name, l.R2, leastR2))
	}
	worst, at := 0.0, 0
	for _, i := range l.Used {
		if e := math.Abs(l.Residuals[i]); e > worst {
			worst, at = e, i
		}
	}
	if worst > mostResidual {
		f.Verdict.Warn(reason.New(reason.Misfit, "%s: the line is %+.1f %% off at %s", name, 100*l.Residuals[at], points[at].Label))
	}
	if l.Scattered {
		f.Verdict.Warn(reason.New(reason.Scatter, "%s: the points scatter about the line more than their own errors explain; the conditions differed between them (the intervals allow for it)", name))
	}
	for _, i := range l.Influential {
		parameter := intercept
		if i.Slope {
			parameter = slope
		}
		f.Verdict.Warn(reason.New(reason.Influence, "%s: %s alone moves %s by %+.1f %%; measure it again", name, points[i.Index].Label, parameter, i.Percent))
	}
}

// judgeUnits refuses values that cannot be milliseconds.
func (f *Linear4) judgeUnits(points []Point) {
	for _, l := range []struct {
		name             string
		line             *Line
		fastest, slowest float64
		of               func(Point) Sample
	}{
		{"ITL", f.ITL, fastestITL, slowestITL, func(p Point) Sample { return p.ITL }},
		{"TTFT", f.TTFT, fastestTTFT, slowestTTFT, func(p Point) Sample { return p.TTFT }},
	} {
		if l.line == nil {
			continue
		}
		p := points[l.line.Used[0]]
		switch ms := l.of(p).MS; {
		case ms < l.fastest:
			f.Verdict.Refuse(reason.New(reason.Units, "the %s of %s is %.3g ms: that looks like seconds, not milliseconds", l.name, p.Label, ms))
		case ms > l.slowest:
			f.Verdict.Refuse(reason.New(reason.Units, "the %s of %s is %.3g ms: that looks like microseconds, not milliseconds", l.name, p.Label, ms))
		}
	}
}
