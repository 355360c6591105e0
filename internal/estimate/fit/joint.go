package fit

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"wfgen.dev/internal/run/reason"
)

// Choices of the joint models.
const (
	// mostJointCondition of a design with columns scaled to length one: beyond
	// it, noise decides between two terms. Fits to random choices of three to
	// eight of 16 public shapes predicted the other shapes up to 40 % wrong
	// without such a limit, and the worst of them went with it.
	mostJointCondition = 20

	// poorCondition is up to where such a model is published all the same, with a
	// warning, where it predicts: its terms cannot be told apart, and its predictions
	// at shapes like those measured do not need that.
	poorCondition = 100

	// mostTTFTCondition is the same for the engine's terms of TTFT, which are
	// less alike in what they predict than in their columns.
	mostTTFTCondition = 60

	// mostLeftOut is the mean error in predicting shapes left out of the fit, above
	// which a prediction for a shape that was not measured is worth little.
	mostLeftOut = 0.05

	// spareShapes is how many shapes beyond the number of parameters it takes
	// before the shapes themselves can say how well parameters are known.
	spareShapes = 3
)

// Term is one parameter of a joint model. A term that the points cannot tell from
// zero is zero and says why.
type Term struct {
	Name    string
	Unit    string
	Dropped string // why the term is zero; empty: it was estimated
	Parameter
}

// Joint is a model whose parameters hold for all shapes of one model on one
// accelerator: Iteration3 or Engine.
type Joint struct {
	Model      string
	Terms      []Term        // all of the model
	Covariance *mat.SymDense // of Terms, 0 for those that were dropped; nil when unknown
	Clustered  bool          // the covariance is that of leaving out one shape at a time
	Condition  float64       // of the design for ITL, columns scaled to length one
	Used       []int         // indices of the points that ITL was fitted to
	Out        []Exclusion
	Residuals  []float64 // per point: predicted ITL, with the measured TTFT where the model takes it, over measured minus one; NaN where nothing was measured
	TTFT       []float64 // per point: predicted TTFT over measured minus one; NaN where nothing was measured or the point is void for TTFT
	MeanError  float64   // mean absolute residual of the used points
	MeanTTFT   float64   // mean absolute TTFT of the used points whose TTFT counts; NaN when there are none
	WorstError float64   // largest absolute residual of the used points
	Spread     Spread    // of a prediction about the truth, beside what is not known of the terms
	LeftOut    float64   // mean absolute residual when each shape is predicted from the others; NaN when they do not suffice
	Range      Range     // of the used points
	Shapes     int       // shapes among the used points
	Verdict    Verdict

	law law
}

// Spread is how far the latencies of a shape that was not measured are off the model,
// relative, root mean square: of the shapes left out of the fit, or where they are too
// few, of the points used. TTFT is that of the points used.
type Spread struct{ ITL, TTFT float64 }

// Range is what was measured; beyond it a prediction is an extrapolation.
type Range struct {
	Batch        [2]float64 // smallest and largest, requests
	PromptTokens [2]float64
	Context      [2]float64 // prompt and half the output, tokens
	Cached       [2]float64 // tokens of context of all requests together
}

// law predicts ITL and TTFT (ms) from the values of all terms. ttft is the measured
// TTFT, 0 where it is to be predicted.
type law func(terms []float64, w Work, ttft float64) (itl, first float64)

// Work is what a server has to do: batch requests together, each of so many tokens.
type Work struct {
	Batch, PromptTokens, OutputTokens float64
	Open                              bool // requests arrive at a rate; otherwise each answer is followed by the next request
}

func (p Point) work() Work { return Work{p.Batch, p.PromptTokens, p.OutputTokens, p.Open} }

// context is the mean number of tokens that a decoding request has in the cache.
func (w Work) context() float64 { return w.PromptTokens + w.OutputTokens/2 }

// values are those of all terms, zero for the dropped ones.
func (j *Joint) values() []float64 {
	v := make([]float64, len(j.Terms))
	for i, t := range j.Terms {
		v[i] = t.Value
	}
	return v
}

// Predict is the inter-token latency and the time to first token, ms, at the given
// work. Only for models that are not refused.
func (j *Joint) Predict(w Work) (itl, ttft float64) { return j.law(j.values(), w, 0) }

// PredictITL is the inter-token latency, ms, where the time to first token, ms, is
// known, which the engine makes use of. Only for models that are not refused.
func (j *Joint) PredictITL(w Work, ttft float64) float64 {
	itl, _ := j.law(j.values(), w, ttft)
	return itl
}

// Interval is the 95 % interval of what would be measured at the work: what is not known
// of the terms (delta method), and how far the model is off shapes that it has not
// seen. NaN where the points give none. ttft is the measured time to first token, 0
// where it is to be predicted.
func (j *Joint) Interval(w Work, ttft float64) (itl, first [2]float64) {
	terms := j.values()
	at, firstAt := j.law(terms, w, ttft)
	slopes := [2][]float64{make([]float64, len(terms)), make([]float64, len(terms))}
	freedom := math.Inf(1)
	for i, t := range j.Terms {
		if t.Dropped != "" {
			continue
		}
		freedom = min(freedom, t.DegreesOfFreedom)
		step := 1e-4 * math.Abs(t.Value)
		high, low := slices.Clone(terms), slices.Clone(terms)
		high[i] += step
		low[i] -= step
		upITL, upTTFT := j.law(high, w, ttft)
		downITL, downTTFT := j.law(low, w, ttft)
		slopes[0][i], slopes[1][i] = (upITL-downITL)/(2*step), (upTTFT-downTTFT)/(2*step)
	}
	out := [2][2]float64{{math.NaN(), math.NaN()}, {math.NaN(), math.NaN()}}
	for k, v := range [2]struct{ ms, spread float64 }{{at, j.Spread.ITL}, {firstAt, j.Spread.TTFT}} {
		if j.Covariance == nil || !(v.spread >= 0) || !(freedom >= 1) {
			continue
		}
		g := mat.NewVecDense(len(terms), slopes[k])
		p := interval(v.ms, math.Sqrt(max(0, mat.Inner(g, j.Covariance, g))+v.spread*v.spread*v.ms*v.ms), freedom)
		out[k] = [2]float64{max(0, p.Low), p.High}
	}
	return out[0], out[1]
}

// Outside says in which respects the work lies beyond what was measured; a
// prediction there is an extrapolation.
func (j *Joint) Outside(w Work) []string { return j.Range.Outside(w) }

// Outside says in which respects the work lies beyond the range.
func (r Range) Outside(w Work) []string {
	var beyond []string
	for _, d := range []struct {
		name  string
		value float64
		span  [2]float64
	}{{"batch", w.Batch, r.Batch}, {"prompt tokens", w.PromptTokens, r.PromptTokens}, {"tokens of context (prompt and half the output)", w.context(), r.Context}, {"tokens of context of all requests together", w.Batch * w.context(), r.Cached}} {
		const slack = 0.05 // requests never have exactly the length that was asked for
		if d.value < d.span[0]*(1-slack) || d.value > d.span[1]*(1+slack) {
			beyond = append(beyond, fmt.Sprintf("%.4g %s, where %.4g to %.4g were measured", d.value, d.name, d.span[0], d.span[1]))
		}
	}
	return beyond
}

// Linear4At is the linear4 that the model implies at a shape between two batch
// sizes: the line through its predictions, with the intervals that follow from its
// covariance (delta method). Closed loop.
func (j *Joint) Linear4At(promptTokens, outputTokens, from, to float64) (alpha, beta, gamma, delta Parameter) {
	at := func(terms []float64) [4]float64 {
		const steps = 16
		var batches, tokens, itls, ttfts, ofITL, ofTTFT [steps]float64
		for i := range steps {
			n := from + (to-from)*float64(i)/(steps-1)
			a, b := j.law(terms, Work{Batch: n, PromptTokens: promptTokens, OutputTokens: outputTokens}, 0)
			batches[i], itls[i], ofITL[i] = n, a, 1/(a*a)
			tokens[i], ttfts[i], ofTTFT[i] = n*promptTokens, b, 1/(b*b)
		}
		a, b := stat.LinearRegression(batches[:], itls[:], ofITL[:], false)
		c, d := stat.LinearRegression(tokens[:], ttfts[:], ofTTFT[:], false)
		return [4]float64{a, b, c, d}
	}
	terms := j.values()
	center := at(terms)
	freedom := math.Inf(1)
	var slopes [4][]float64
	for k := range slopes {
		slopes[k] = make([]float64, len(terms))
	}
	for i, t := range j.Terms {
		if t.Dropped != "" {
			continue
		}
		freedom = min(freedom, t.DegreesOfFreedom)
		step := 1e-4 * math.Abs(t.Value)
		high, low := slices.Clone(terms), slices.Clone(terms)
		high[i] += step
		low[i] -= step
		up, down := at(high), at(low)
		for k := range slopes {
			slopes[k][i] = (up[k] - down[k]) / (2 * step)
		}
	}
	var out [4]Parameter
	reach := Reach(freedom)
	for k := range out {
		out[k] = Parameter{Value: center[k], StandardError: math.NaN(), Low: math.NaN(), High: math.NaN(), DegreesOfFreedom: freedom}
		if j.Covariance != nil {
			g := mat.NewVecDense(len(terms), slopes[k])
			out[k] = within(center[k], math.Sqrt(max(0, mat.Inner(g, j.Covariance, g))), freedom, reach)
		}
	}
	return out[0], out[1], out[2], out[3]
}

// put writes what was estimated into the terms of the joint model, offset by first.
func (j *Joint) put(v *solved, first int) {
	if j.Covariance == nil && v.covariance != nil && first == 0 {
		j.Covariance = mat.NewSymDense(len(j.Terms), nil)
	}
	for a, t := range v.terms {
		j.Terms[first+t].Parameter = v.parameters[a]
		for b := range v.terms[:a+1] {
			if j.Covariance != nil && v.covariance != nil {
				j.Covariance.SetSym(first+t, first+v.terms[b], v.covariance.At(a, b))
			}
		}
	}
	if first > 0 && v.covariance == nil {
		j.Covariance = nil
	}
}

// drop makes a term zero.
func (j *Joint) drop(term int, why string) { j.Terms[term].Dropped = why }

// score fills in how well the model describes the points. left are the terms
// estimated without each shape.
func (j *Joint) score(points []Point, use []jointPoint, without map[int][]float64) {
	j.Residuals, j.TTFT = make([]float64, len(points)), make([]float64, len(points))
	terms := j.values()
	ttftSum, ttftPoints := 0.0, 0.0
	for i, p := range points {
		j.Residuals[i], j.TTFT[i] = math.NaN(), math.NaN()
		if p.unfitForJoint(false) != nil || !(p.Batch > 0) || !(p.ITL.MS > 0) {
			continue
		}
		known := p.unfitForJoint(true) == nil
		ttft := 0.0
		if known {
			ttft = p.TTFT.MS
		}
		itl, _ := j.law(terms, p.work(), ttft)
		j.Residuals[i] = itl/p.ITL.MS - 1
		if known {
			_, first := j.law(terms, p.work(), 0)
			j.TTFT[i] = first/p.TTFT.MS - 1
		}
	}
	j.MeanError, j.WorstError, j.LeftOut = 0, 0, 0
	used, left, waits := 0.0, 0.0, 0.0 // sums of squares
	for _, p := range use {
		if t := math.Abs(j.TTFT[p.index]); !math.IsNaN(t) {
			ttftSum += t
			waits += t * t
			ttftPoints++
		}
		e := math.Abs(j.Residuals[p.index])
		used += e * e
		j.MeanError += e / float64(len(use))
		j.WorstError = max(j.WorstError, e)
		terms, ok := without[p.shape]
		if !ok {
			j.LeftOut = math.NaN()
			continue
		}
		itl, _ := j.law(terms, p.work(), p.TTFT.MS)
		off := itl/p.ITL.MS - 1
		j.LeftOut += math.Abs(off) / float64(len(use))
		left += off * off
	}
	j.MeanTTFT = ttftSum / ttftPoints
	if math.IsNaN(j.LeftOut) {
		left = used
	}
	j.Spread = Spread{ITL: math.Sqrt(left / float64(len(use))), TTFT: math.Sqrt(waits / ttftPoints)}
}

// judge applies the rules of the verdict.
func (j *Joint) judge(points []Point) {
	var uncertain []string
	for _, t := range j.Terms {
		switch {
		case t.Dropped != "":
		case math.IsNaN(t.Value) || math.IsInf(t.Value, 0):
			j.Verdict.Refuse(reason.New(reason.Misfit, "%s is %v", t.Name, t.Value))
		case t.Value <= 0:
			j.Verdict.Refuse(reason.New(reason.Zero, "%s is %.4g, not above 0: the points do not follow the model; %s", t.Name, t.Value, j.toAdd()))
		case !t.HasInterval():
			uncertain = append(uncertain, t.Name)
		case t.Low <= 0:
			j.Verdict.Warn(reason.New(reason.Zero, "%s cannot be told from 0 (interval [%.4g, %.4g])", t.Name, t.Low, t.High))
		}
	}
	if len(uncertain) > 0 {
		j.Verdict.Warn(reason.New(reason.Few, "%s: no interval: as many points as parameters say nothing of their certainty", strings.Join(uncertain, ", ")))
	}
	worst, at := 0.0, -1
	for _, i := range j.Used {
		if e := math.Abs(j.Residuals[i]); e > worst {
			worst, at = e, i
		}
	}
	if j.Condition > mostJointCondition {
		j.Verdict.Warn(reason.New(reason.Unidentified, "the points hardly tell its terms apart (condition number %.3g): believe its predictions at shapes like those measured, not its terms; %s", j.Condition, j.toAdd()))
	}
	code, why := reason.Misfit, ""
	if inStep(points) {
		code, why = reason.InStep, ": the streams marched in step, which the model does not know; "+cures[reason.InStep]
	}
	squares := 0.0
	for _, i := range j.Used {
		squares += j.Residuals[i] * j.Residuals[i] / float64(len(j.Used))
	}
	switch miss := math.Sqrt(squares); {
	case miss > mostMisfit:
		j.Verdict.Refuse(reason.New(code, "ITL: the model misses its own points by %.3g %% in the root mean square, and is %+.1f %% off at %s", 100*miss, 100*j.Residuals[at], points[at].Label))
	case worst > mostResidual:
		j.Verdict.Warn(reason.New(code, "ITL: the model is %+.1f %% off at %s%s", 100*j.Residuals[at], points[at].Label, why))
	}
	if miss := j.Spread.TTFT; miss > mostMisfit {
		r := reason.New(reason.Misfit, "TTFT: the model misses its own points by %.3g %% in the root mean square", 100*miss).Cured("take TTFT from the linear4 of a shape that was measured")
		if j.marches(points) {
			r = reason.New(reason.InStep, "%s: the streams marched in step, which the model does not know", r.Text).Cured("%s", cures[reason.InStep])
		}
		j.Verdict.Warn(r)
	}
	switch {
	case math.IsNaN(j.LeftOut):
		j.Verdict.Warn(reason.New(reason.Few, "%d shapes are too few to try how well a shape that was not measured is predicted; %s", j.Shapes, j.toAdd()))
	case j.LeftOut > mostLeftOut:
		j.Verdict.Warn(reason.New(code, "a shape that is left out of the fit is predicted %.1f %% wrong in the mean%s", 100*j.LeftOut, why))
	}
}

// marches tells whether streams marched in step in a good part of the points whose TTFT
// the model misses: those of long prompts, which one iteration has no room for, part.
func (j *Joint) marches(points []Point) bool {
	missed, inStep := 0, 0
	for _, i := range j.Used {
		if points[i].Batch < 1.5 || !(math.Abs(j.TTFT[i]) > mostMisfit) {
			continue
		}
		missed++
		if points[i].InStep {
			inStep++
		}
	}
	return missed > 0 && 4*inStep >= missed
}

// unidentified refuses, saying what to measure.
func (j *Joint) unidentified(err error) {
	if errors.Is(err, ErrUnidentified) {
		j.Verdict.Refuse(reason.New(reason.Unidentified, "%v; %s", err, j.toAdd()))
		return
	}
	j.Verdict.Refuse(reason.New(reason.Unidentified, "%v", err))
}

// laws by the names of their models, and the names of their terms.
var laws = map[string]struct {
	law   law
	terms []Term
}{
	Iteration3: {iteration3, []Term{{Name: "alpha", Unit: "ms"}, {Name: "beta", Unit: "ms per token"}, {Name: "gamma", Unit: "ms per token of context"}}},
	Engine: {engine, []Term{
		base: {Name: "base", Unit: "ms"}, seq: {Name: "seq", Unit: "ms per sequence"}, ctx: {Name: "ctx", Unit: "ms per token of context"},
		pre: {Name: "pre", Unit: "ms per prompt token"}, pre2: {Name: "pre2", Unit: "ms per prompt token squared"},
		first: {Name: "first", Unit: "ms"}, firstPre: {Name: "first_pre", Unit: "ms per prompt token"},
		firstPre2: {Name: "first_pre2", Unit: "ms per prompt token squared"}, firstWait: {Name: "first_wait", Unit: "iterations"},
	}},
}

// TermNames are the names of a joint model's terms, in their order; nil for a model
// that is not known.
func TermNames(model string) []string {
	var names []string
	for _, t := range laws[model].terms {
		names = append(names, t.Name)
	}
	return names
}

// Restore makes a joint model that predicts from what was stored of one: all terms in
// their order, their covariance (nil where it is unknown), the range measured and the
// spread of predictions (NaN where it is unknown).
func Restore(model string, terms []Term, covariance *mat.SymDense, measured Range, spread Spread) (Joint, error) {
	names := TermNames(model)
	if names == nil {
		return Joint{}, fmt.Errorf("model %q: expected %s or %s", model, Iteration3, Engine)
	}
	if !slices.EqualFunc(names, terms, func(name string, t Term) bool { return name == t.Name }) {
		return Joint{}, fmt.Errorf("%s has the terms %s", model, strings.Join(names, ", "))
	}
	return Joint{Model: model, Terms: terms, Covariance: covariance, Range: measured, Spread: spread, Verdict: NewVerdict(), law: laws[model].law}, nil
}
