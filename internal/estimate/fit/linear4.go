package fit

import (
	"fmt"
	"math"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"wfgen.dev/internal/run/reason"
)

// Methods of the linear4 fit.
const (
	WLS      = "wls"       // weighted least squares over all points
	TwoPoint = "two-point" // the smallest and the largest batch only, as the two-run recipe has it
)

// Limits of the verdict. 10 % in alpha moves the capacity that an autoscaler
// plans by 4-13 %, and by 60-70 % where the target is tight.
const (
	widestPrediction = 0.10 // half of its interval, relative
	mostMisfit       = 0.15 // root mean square of the relative residuals, above which a pair is refused
	mostResidual     = 0.10 // of one point
	level            = 0.05 // of significance, of a test whose outcome chooses between two sentences
	enoughPoints     = 5
	bendTolerance    = 0.02 // ITL: a line this close to all points is as good as straight
	ttftTolerance    = 0.04 // TTFT: the same; it is noisier and matters less

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
	Open         bool    // requests arrived at a rate; otherwise each answer was followed by the next request
	At           float64 // middle of its measuring, Unix seconds; 0: not known
	InStep       bool    // its streams began their requests together
	ITL, TTFT    Sample
	Void         *reason.Reason // why no parameter may use it; nil: it may
	VoidTTFT     *reason.Reason // why gamma and delta may not use it
}

// Options say how linear4 is fitted.
type Options struct {
	Method   string  // WLS or TwoPoint
	From, To float64 // range of batches that the lines are for; 0: all that were measured
}

// Linear4 is the model with four parameters of one model, accelerator and shape:
//
//	ITL  = alpha + beta*batch                 (ms)
//	TTFT = gamma + delta*promptTokens*batch   (ms)
//
// Its two lines are judged apart: where one is refused, its parameters are NaN and the
// verdict names them, and the other is published.
type Linear4 struct {
	Method                    string
	Alpha, Beta, Gamma, Delta Parameter // NaN where they are refused
	ITL, TTFT                 *Line     // over batch and over promptTokens*batch; nil where none could be fitted
	Verdict                   Verdict
}

// half is one of the two lines while it is made.
type half struct {
	name, names string // ITL; alpha, beta
	inStep      bool   // of most points
	points      []xy
	out         []Exclusion
	line        *Line
	refused     []reason.Reason
	tolerance   float64

	fastest, slowest float64 // ms
	of               func(Point) (x float64, s Sample)
}

func (h *half) refuse(code reason.Code, format string, args ...any) {
	h.refused = append(h.refused, reason.New(code, format, args...))
}

// FitLinear4 estimates the four parameters. It always returns: what cannot be
// estimated or must not be published is refused with its reasons.
func FitLinear4(points []Point, o Options) Linear4 {
	f := Linear4{Method: o.Method, Verdict: NewVerdict()}
	for _, p := range []*Parameter{&f.Alpha, &f.Beta, &f.Gamma, &f.Delta} {
		*p = unknown()
	}
	for _, p := range points {
		if p.Group != points[0].Group {
			f.Verdict.Refuse(reason.New(reason.Mixed, "points of %s and of %s are mixed; each needs a fit of its own", points[0].Group, p.Group))
			return f
		}
	}
	points = markQueued(points)
	itl := &half{name: "ITL", names: "alpha, beta", tolerance: bendTolerance, fastest: fastestITL, slowest: slowestITL, of: ofITL}
	ttft := &half{name: "TTFT", names: "gamma, delta", tolerance: ttftTolerance, fastest: fastestTTFT, slowest: slowestTTFT, of: ofTTFT}
	for _, h := range []*half{itl, ttft} {
		h.inStep = inStep(points)
		h.points, h.out = accepted(points, h.name, h.of, h == ttft)
		if o.Method == WLS {
			h.keepTo(o.From, o.To)
		}
	}
	if o.Method == WLS {
		itl.fit()
		if itl.line != nil && itl.line.BendFrom != nil {
			ttft.below(*itl.line.BendFrom)
		}
		ttft.withoutIdle()
		ttft.fit()
	} else {
		itl.twoPoint()
		ttft.twoPoint()
	}
	f.ITL, f.TTFT = itl.line, ttft.line
	for _, h := range []*half{itl, ttft} {
		if h.line != nil {
			h.line.Out = append(h.out, h.line.Out...)
			h.line.Residuals = predictionErrors(points, h.line, h.of)
			h.judge(points)
		}
	}
	f.publish(itl, ttft, points)
	return f
}

// inStep tells whether the streams of most points marched in step.
func inStep(points []Point) bool {
	n := 0
	for _, p := range points {
		if p.InStep {
			n++
		}
	}
	return 2*n > len(points)
}

func unknown() Parameter {
	return Parameter{Value: math.NaN(), StandardError: math.NaN(), Low: math.NaN(), High: math.NaN()}
}

func ofITL(p Point) (x float64, s Sample)  { return p.Batch, p.ITL }
func ofTTFT(p Point) (x float64, s Sample) { return p.Batch * p.PromptTokens, p.TTFT }

// accepted splits the points into those that a line may use and the others.
func accepted(points []Point, name string, of func(Point) (float64, Sample), ttft bool) (use []xy, out []Exclusion) {
	for i, p := range points {
		x, sample := of(p)
		why := p.Void
		if why == nil && ttft {
			why = p.VoidTTFT
		}
		void := func(format string, value float64) { why = new(reason.New(reason.Void, format, value)) }
		switch {
		case why != nil:
		case !(p.Batch > 0) || math.IsInf(p.Batch, 0):
			void("its batch is %v", p.Batch)
		case !(x > 0) || math.IsInf(x, 0):
			void("its prompt length is %v", p.PromptTokens)
		case !(sample.MS > 0) || math.IsInf(sample.MS, 0):
			void("its "+name+" is %v ms", sample.MS)
		}
		if why != nil {
			out = append(out, Exclusion{i, *why})
			continue
		}
		use = append(use, xy{index: i, x: x, level: p.Batch, at: p.At, sample: sample})
	}
	return use, out
}

// keep leaves out the points that are not to be kept.
func (h *half) keep(keep func(xy) bool, why reason.Reason) {
	var use []xy
	for _, p := range h.points {
		if keep(p) {
			use = append(use, p)
			continue
		}
		h.out = append(h.out, Exclusion{p.index, why})
	}
	h.points = use
}

// keepTo keeps the batches of the range that was asked for.
func (h *half) keepTo(from, to float64) {
	if to <= 0 {
		return
	}
	h.keep(func(p xy) bool { return p.level >= from*(1-sameBatch) && p.level <= to*(1+sameBatch) },
		reason.New(reason.Other, "outside the range %.4g..%.4g that was asked for", from, to))
}

// below keeps the points of TTFT within the linear range of ITL: beyond it the server
// is another.
func (h *half) below(bend float64) {
	h.keep(func(p xy) bool { return p.level < bend }, reason.New(reason.Bend, "beyond the linear range of ITL"))
}

// withoutIdle takes batch 1 out of the points of TTFT when three or more busier
// ones remain: a request that finds the server idle does not wait for the running
// iteration, as every other does, so it lies below their line.
func (h *half) withoutIdle() {
	busy := func(p xy) bool { return p.level >= 1.5 }
	var rest []xy
	for _, p := range h.points {
		if busy(p) {
			rest = append(rest, p)
		}
	}
	if len(replicates(rest)) >= 3 {
		h.keep(busy, reason.New(reason.Other, "an idle server answers its first token sooner than the line of the busy ones"))
	}
}

// fit fits the line, or refuses.
func (h *half) fit() {
	if !h.enough() {
		return
	}
	line, err := fitLine(h.points, h.tolerance)
	if err != nil {
		h.refuse(reason.Unidentified, "%v", err)
		return
	}
	h.line = line
}

// twoPoint draws the line through the smallest and the largest batch.
func (h *half) twoPoint() {
	if !h.enough() {
		return
	}
	low, high := h.points[0], h.points[0]
	for _, p := range h.points {
		if p.x < low.x {
			low = p
		}
		if p.x >= high.x {
			high = p
		}
	}
	h.keep(func(p xy) bool { return p.index == low.index || p.index == high.index },
		reason.New(reason.Other, "the method two-point uses the smallest and the largest batch only"))
	h.fit()
}

// enough refuses fewer than two different batches.
func (h *half) enough() bool {
	if len(replicates(h.points)) >= 2 {
		return true
	}
	why := fmt.Sprintf("all %d points that can be used are at one batch size; a line needs two", len(h.points))
	switch len(h.points) {
	case 0:
		why = "no point can be used"
	case 1:
		why = "only one point can be used; a line needs two batch sizes"
	}
	code := reason.Few
	if len(h.out) > 0 {
		why += fmt.Sprintf("; %d left out, the first because: %s", len(h.out), h.out[0].Why)
		if len(h.points) == 0 {
			code = h.out[0].Why.Code
		}
	}
	h.refused = append(h.refused, reason.Reason{Code: code, Text: why})
	return false
}

func predictionErrors(points []Point, l *Line, of func(Point) (float64, Sample)) []float64 {
	errs := make([]float64, len(points))
	for i, p := range points {
		x, measured := of(p)
		errs[i] = math.NaN()
		if measured.MS > 0 && x > 0 {
			errs[i] = l.At(x)/measured.MS - 1
		}
	}
	return errs
}

// judge refuses a line that must not be published.
func (h *half) judge(points []Point) {
	l := h.line
	first := points[l.Used[0]]
	_, sample := h.of(first)
	switch ms := sample.MS; {
	case ms < h.fastest:
		h.refuse(reason.Units, "the %s of %s is %.3g ms: that looks like seconds, not milliseconds", h.name, first.Label, ms)
		return
	case ms > h.slowest:
		h.refuse(reason.Units, "the %s of %s is %.3g ms: that looks like microseconds, not milliseconds", h.name, first.Label, ms)
		return
	}
	squares := 0.0
	for _, i := range l.Used {
		squares += l.Residuals[i] * l.Residuals[i] / float64(len(l.Used))
	}
	names := strings.Split(h.names, ", ")
	for k, p := range []Parameter{l.Intercept, l.Slope} {
		switch {
		case math.IsNaN(p.Value) || math.IsInf(p.Value, 0):
			h.refuse(reason.Unidentified, "%s is %v", names[k], p.Value)
		case p.Value <= 0:
			text := fmt.Sprintf("%s is %.4g, not above 0", names[k], p.Value)
			if p.HasInterval() {
				text = fmt.Sprintf("%s is %.4g with the interval [%.4g, %.4g], not above 0", names[k], p.Value, p.Low, p.High)
			}
			h.refused = append(h.refused, reason.New(reason.Misfit, "%s: the points do not follow the model", text).Cured("look for requests that queued, or for a batch that was not reached"))
		}
	}
	if miss := math.Sqrt(squares); len(h.refused) == 0 && !(miss <= mostMisfit) {
		r := reason.New(h.cause(), "the line misses its own points by %.3g %% in the root mean square", 100*miss)
		h.refused = append(h.refused, r.Cured("%s", cures[r.Code]))
	}
}

// cause names what most likely keeps the points from lying on the line.
func (h *half) cause() reason.Code {
	switch l := h.line; {
	case l.Shape != "":
		return l.Shape
	case l.drifts():
		return reason.Drift
	case h.inStep:
		return reason.InStep
	case h.lacksFit():
		return reason.Misfit
	default:
		return reason.Scatter
	}
}

// lacksFit tells whether the batch sizes lie off the line by more than runs of one batch
// size differ: then the server is no line, and otherwise the conditions differed. It is
// the F test of lack of fit (R. A. Fisher, 1922); few repeats are helped by what is
// supposed where there are none.
func (h *half) lacksFit() bool {
	within := enoughScatter * (BetweenRuns*BetweenRuns + h.line.own)
	repeats, off, sizes := float64(enoughScatter), 0.0, -2.0
	for _, group := range replicates(h.points) {
		mean := 0.0
		for _, p := range group {
			mean += (p.sample.MS/h.line.At(p.x) - 1) / float64(len(group))
		}
		off += float64(len(group)) * mean * mean
		sizes++
		for _, p := range group {
			d := p.sample.MS/h.line.At(p.x) - 1 - mean
			within += d * d
			repeats++
		}
		repeats--
	}
	if sizes < 1 {
		return false
	}
	return distuv.F{D1: sizes, D2: repeats}.Survival(off/sizes/(within/repeats)) < level
}

// repeats is how far two runs of the same point differ at most, relative; 0 where none
// was measured twice.
func (h *half) repeats() float64 {
	most := 0.0
	for _, group := range replicates(h.points) {
		low, high := math.Inf(1), 0.0
		for _, p := range group {
			low, high = min(low, p.sample.MS), max(high, p.sample.MS)
		}
		most = max(most, high/low-1)
	}
	return most
}

// cures by cause.
var cures = map[reason.Code]string{
	reason.Bend:    "give a --range that ends before the bend, or use the measured curve",
	reason.Concave: "give a --range over the batches that the server will run, such as the upper half, or use the measured curve",
	reason.Drift:   "let the server warm up first, fix its clocks, and measure again",
	reason.Scatter: "keep others off the server and its node, and measure again",
	reason.Misfit:  "look at the points: a step of the server's own (batch sizes that it compiles for) is no noise; give a --range without it, or use the measured curve",
	reason.Wide:    "measure the points longer, or again",
	reason.InStep:  "let the lengths of answers differ and the streams begin one after the other, as step's own driver does (--output-spread)",
}

// publish makes the verdict of both halves and the parameters of those that may be
// published.
func (f *Linear4) publish(itl, ttft *half, points []Point) {
	halves := []*half{itl, ttft}
	refused := 0
	for _, h := range halves {
		if len(h.refused) > 0 {
			refused++
		}
	}
	add := f.Verdict.Warn
	if refused == len(halves) {
		add = f.Verdict.Refuse
	}
	if refused == 2 && itl.refused[0] == ttft.refused[0] { // said once
		r := itl.refused[0]
		r.Text = itl.names + ", " + ttft.names + ": " + r.Text
		add(r)
		itl.refused, ttft.refused = itl.refused[1:], ttft.refused[1:]
	}
	for _, h := range halves {
		for _, r := range h.refused {
			r.Text = h.names + ": " + r.Text
			if refused == 1 {
				r.Text = h.names + " are refused: " + strings.TrimPrefix(r.Text, h.names+": ")
			}
			add(r)
		}
	}
	if refused == 2 {
		return
	}
	if len(itl.refused) == 0 {
		f.Alpha, f.Beta = itl.line.Intercept, itl.line.Slope
		itl.warn(&f.Verdict, points)
	}
	if len(ttft.refused) == 0 {
		f.Gamma, f.Delta = ttft.line.Intercept, ttft.line.Slope
		ttft.warn(&f.Verdict, points)
	}
	f.warnOfVoid(halves, points)
}

// RefuseITL takes alpha and beta back for a reason that the points do not hold.
func (f *Linear4) RefuseITL(why reason.Reason) {
	f.Alpha, f.Beta = unknown(), unknown()
	why.Text = "alpha, beta are refused: " + why.Text
	if math.IsNaN(f.Gamma.Value) {
		f.Verdict.Refuse(why)
		return
	}
	f.Verdict.Warn(why)
}

// warn says what a reader must know of a line that is published.
func (h *half) warn(v *Verdict, points []Point) {
	l := h.line
	n := len(replicates(h.points))
	for _, o := range l.Out {
		if p := points[o.Index]; p.Batch < 1.5 && p.Void == nil && p.VoidTTFT == nil {
			n++ // measured, and kept out of the line for a good reason
			break
		}
	}
	if n < enoughPoints {
		v.Warn(reason.New(reason.Few, "%s: %d points", h.name, n).Cured("%d or more show whether a line holds", enoughPoints))
	}
	if l.Shape != "" {
		grows := "faster"
		if l.Shape == reason.Concave {
			grows = "slower"
		}
		worst, at := 0.0, -1
		for _, o := range l.Out {
			if e := l.Residuals[o.Index]; o.Why.Code == l.Shape && math.Abs(e) > math.Abs(worst) {
				worst, at = e, o.Index
			}
		}
		first, last := points[l.Used[0]], points[l.Used[len(l.Used)-1]]
		text := fmt.Sprintf("%s grows ever %s with the batch than a line; the line is that of the batches %.4g to %.4g", h.name, grows, first.Batch, last.Batch)
		if at >= 0 {
			text += fmt.Sprintf(", and is %+.1f %% off at %s", 100*worst, points[at].Label)
		}
		v.Warn(reason.Reason{Code: l.Shape, Text: text, Cure: cures[l.Shape]})
	}
	if l.drifts() {
		v.Warn(reason.New(reason.Drift, "%s changed by %+.1f %% [%+.1f, %+.1f] from the first point to the last; the line is that of the middle of the sweep",
			h.name, 100*l.Drift.Value, 100*l.Drift.Low, 100*l.Drift.High).Cured("%s", cures[reason.Drift]))
	}
	if !l.Intercept.HasInterval() {
		v.Warn(reason.New(reason.Few, "%s: no interval: two points without errors of their own say nothing of their certainty", h.names).Cured("measure more points"))
	}
	worst, at := 0.0, 0
	for _, i := range l.Used {
		if e := math.Abs(l.Residuals[i]); e > worst {
			worst, at = e, i
		}
	}
	if worst > mostResidual {
		code := h.cause()
		v.Warn(reason.New(code, "%s: the line is %+.1f %% off at %s, while repeats agree within %.1f %%", h.name, 100*l.Residuals[at], points[at].Label, 100*h.repeats()).Cured("%s", cures[code]))
	}
	if width, x := l.widest(); width > widestPrediction {
		code, why := reason.Wide, ""
		switch {
		case h.inStep:
			code, why = reason.InStep, ": the streams march in step, and it depends on how they began"
		case l.Between > 3*BetweenRuns && h.repeats() > 3*BetweenRuns:
			code, why = reason.Scatter, fmt.Sprintf(": runs of the same point differ by %s", percent(h.repeats()))
		}
		v.Warn(reason.New(code, "%s is predicted within ±%s only at batch %.4g%s", h.name, percent(width), x/h.perBatch(), why).Cured("%s", cures[code]))
	}
}

// perBatch is how much x is that of a request.
func (h *half) perBatch() float64 { return h.points[0].x / h.points[0].level }

// widest is the largest half width of the prediction over the range of the line,
// relative, and where. It is at an end: between them the line is better known.
func (l *Line) widest() (width, x float64) {
	for _, at := range []float64{l.LinearFrom, l.LinearTo} {
		if ms, low, high := l.Predict(at); (high-low)/2/ms > width {
			width, x = (high-low)/2/ms, at
		}
	}
	return width, x
}

// warnOfVoid names the causes for which points could not be used, each once.
func (f *Linear4) warnOfVoid(halves []*half, points []Point) {
	seen := map[reason.Code]bool{}
	for _, h := range halves {
		if len(h.refused) > 0 {
			continue // said already
		}
		for _, o := range h.out {
			p := points[o.Index]
			if p.Void == nil && p.VoidTTFT == nil || seen[o.Why.Code] {
				continue
			}
			seen[o.Why.Code] = true
			r := o.Why
			r.Text = p.Label + " is left out: " + r.Text
			f.Verdict.Warn(r)
		}
	}
}
