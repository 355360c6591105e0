// Package aggregate turns the measurements of a sweep, read from wherever they
// lie, into parameters, a summary and a table.
package aggregate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
	"wfgen.dev/internal/sweep/precision"
)

// Which batch size a fit is over.
const (
	Nominal  = "nominal"
	Measured = "measured"
)

// Options say how to estimate.
type Options struct {
	Method string // fit.WLS or fit.TwoPoint
	Source string // witness: measurement.Auto, Server or Client
	TTFT   string // statistic: measurement.Auto, Mean or Median
	Batch  string // Nominal, Measured, or measurement.Auto: nominal for two-point, which is defined so, else measured

	WeightsGB  float64 // bytes of the model's weights, 10^9; 0: not known
	CacheBytes float64 // bytes of KV cache of one token, of all GPUs together; 0: not known
	GPUs       int     // that share both (tensor parallelism); 0: one

	From, To float64 // range of batches that the lines are for; 0: all that were measured

	Precision precision.Goals // that were asked for; the verdict warns of those that were not reached

	Expect []string      // accelerators that must end with parameters
	Shapes []sweep.Shape // the order of shapes; others follow
}

// Inputs is what an estimate is made of.
type Inputs struct {
	Measurements []Source
	Parameters   []parameters.Parameters // made already: they go into the summary as they are
	Joint        []parameters.Joint      // made already; where the measurements are here too, they are made again
	Failures     []parameters.Failure    // known already
	Notes        []string
}

// Source is a measurement and where it is from.
type Source struct {
	measurement.Measurement
	File   string
	Report bool // reduced from a raw report just now
}

// key is what one set of parameters is for.
type key struct {
	model, accelerator string
	shape              sweep.Shape
}

func (k key) String() string {
	return fmt.Sprintf("%s on %s, %s", k.model, k.accelerator, k.shape)
}

// Limits of the verdict that concern whole points.
const (
	mostBatchDifference = 0.10 // nominal against measured
	mostErrors          = 0.01 // of requests
)

// Estimate fits every group of measurements and summarises all.
func Estimate(in Inputs, o Options) parameters.Summary {
	if o.Batch == measurement.Auto {
		o.Batch = Measured
		if o.Method == fit.TwoPoint {
			o.Batch = Nominal
		}
	}
	groups, notes := group(in.Measurements)
	s := parameters.Summary{Notes: append(slices.Clone(in.Notes), notes...), Failures: slices.Clone(in.Failures)}
	seen := map[key]parameters.Parameters{}
	points := map[key][]fit.Point{}
	for k, ms := range groups {
		points[k] = pointsOf(k, ms, o)
		seen[k] = estimate(k, ms, points[k], o)
	}
	for _, p := range in.Parameters {
		k := key{p.Model, p.Accelerator, p.Shape}
		before, ok := seen[k]
		switch {
		case !ok:
			seen[k] = p
		case groups[k] != nil:
			// The measurements say it again, by what is known now.
		case p.Provenance.MeasuredTo > before.Provenance.MeasuredTo:
			seen[k] = p
			s.Notes = append(s.Notes, fmt.Sprintf("%s: estimated twice; the newer is taken", k))
		case p.Provenance.MeasuredTo < before.Provenance.MeasuredTo:
			s.Notes = append(s.Notes, fmt.Sprintf("%s: estimated twice; the newer is taken", k))
		}
	}
	for _, p := range seen {
		s.Parameters = append(s.Parameters, p)
		s.Totals.Points += len(p.Fit.Points)
		s.Totals.Seconds += p.Provenance.Seconds
		s.Totals.OverheadSeconds += p.Provenance.OverheadSeconds
	}
	rank := func(shape sweep.Shape) int {
		if i := slices.Index(o.Shapes, shape); i >= 0 {
			return i
		}
		return len(o.Shapes)
	}
	slices.SortFunc(s.Parameters, func(a, b parameters.Parameters) int {
		return cmp.Or(
			cmp.Compare(a.Model, b.Model), cmp.Compare(a.Accelerator, b.Accelerator), cmp.Compare(rank(a.Shape), rank(b.Shape)),
			cmp.Compare(a.Shape.PromptTokens, b.Shape.PromptTokens), cmp.Compare(a.Shape.OutputTokens, b.Shape.OutputTokens))
	})

	s.Joint = joint(in.Joint, groups, points, seen, o)

	has := func(accelerator string) bool {
		return slices.ContainsFunc(s.Parameters, func(p parameters.Parameters) bool { return p.Accelerator == accelerator })
	}
	// What failed earlier may have been fixed since.
	s.Failures = slices.DeleteFunc(s.Failures, func(f parameters.Failure) bool { return f.Shape == nil && has(f.Accelerator) })
	for _, name := range o.Expect {
		known := slices.ContainsFunc(s.Failures, func(f parameters.Failure) bool { return f.Accelerator == name })
		if !has(name) && !known {
			s.Failures = append(s.Failures, parameters.Failure{Accelerator: name,
				Reasons: []string{"no measurement of it is among the inputs: none of its points was finished; see its log"}})
		}
	}
	slices.SortFunc(s.Failures, func(a, b parameters.Failure) int {
		return cmp.Or(cmp.Compare(a.Accelerator, b.Accelerator), cmp.Compare(fmt.Sprint(a.Shape), fmt.Sprint(b.Shape)))
	})

	s.Verdict = fit.Accepted
	for _, p := range s.Parameters {
		if p.Verdict.Level == fit.Refused || p.Verdict.Level == fit.Warned && s.Verdict == fit.Accepted {
			s.Verdict = p.Verdict.Level
		}
	}
	if len(s.Failures) > 0 || len(s.Parameters) == 0 {
		s.Verdict = fit.Refused
	}
	return s
}

// group sorts measurements into what gets one fit each, ascending in batch size. A
// point that was measured again is there as often as it was measured, unless only one
// of its measurements can be used; a measurement and the report that it was made of
// are one.
func group(all []Source) (map[key][]Source, []string) {
	groups := map[key][]Source{}
	var notes []string
	for _, m := range all {
		k := key{m.Model, m.Accelerator, m.Shape}
		if m.Open != nil {
			notes = append(notes, fmt.Sprintf("%s, %.4g requests/s: arrived at a rate, so %s checks a capacity and is no point of an estimate", k, m.Open.Rate, m.File))
			continue
		}
		i := slices.IndexFunc(groups[k], func(o Source) bool { return sameRun(o, m) })
		if i < 0 {
			groups[k] = append(groups[k], m)
			continue
		}
		kept, other := groups[k][i], m
		if better(other, kept) {
			kept, other = other, kept
		}
		groups[k][i] = kept
		if kept.Report == other.Report && kept.StartedAt != other.StartedAt {
			notes = append(notes, fmt.Sprintf("%s, batch %d: measured twice; %s is taken, %s is not", k, m.BatchSize, kept.File, other.File))
		}
	}
	for _, points := range groups {
		slices.SortFunc(points, func(a, b Source) int {
			return cmp.Or(cmp.Compare(a.BatchSize, b.BatchSize), cmp.Compare(a.StartedAt, b.StartedAt), cmp.Compare(a.File, b.File))
		})
	}
	slices.Sort(notes)
	return groups, notes
}

// sameRun tells whether of two measurements one can only stand for the other: they are
// of one point and overlap in time, or do not both know when they were, or one of them
// cannot be used.
func sameRun(a, b Source) bool {
	if a.BatchSize != b.BatchSize {
		return false
	}
	if a.StartedAt == 0 || b.StartedAt == 0 || len(a.Taken.Void) > 0 || len(b.Taken.Void) > 0 {
		return true
	}
	first, second := a, b
	if second.StartedAt < first.StartedAt {
		first, second = second, first
	}
	return second.StartedAt < first.StartedAt+max(1, first.Seconds)
}

// better tells which of two measurements of one point is taken: one that can be
// used, one that is a measurement already, the newer.
func better(a, b Source) bool {
	if a, b := len(a.Taken.Void) == 0, len(b.Taken.Void) == 0; a != b {
		return a
	}
	if a.Report != b.Report {
		return b.Report
	}
	return a.StartedAt > b.StartedAt
}

// pointsOf are the points of one group for a fit. It weighs the witnesses of each. One
// fit takes one statistic: where a mean of TTFT cannot be believed, all are medians.
func pointsOf(k key, ms []Source, o Options) []fit.Point {
	weigh := func(ttft string) (statistics []string) {
		for i := range ms {
			m := &ms[i]
			m.Taken = m.Weigh(o.Source, ttft)
			if v := m.Taken.TTFT; v != nil && !slices.Contains(statistics, v.Statistic) {
				statistics = append(statistics, v.Statistic)
			}
		}
		return statistics
	}
	if len(weigh(o.TTFT)) > 1 {
		weigh(measurement.Median)
	}
	points := make([]fit.Point, len(ms))
	for i, m := range ms {
		p := fit.Point{
			Group: k.String(), Pair: k.model + " on " + k.accelerator, Label: label(ms, i),
			Batch: m.Taken.Batch, PromptTokens: m.PromptTokens, OutputTokens: m.OutputTokens,
			Void: why(m.Taken, m.Taken.Void), VoidTTFT: why(m.Taken, m.Taken.VoidTTFT),
		}
		if m.StartedAt > 0 {
			p.At = m.StartedAt + m.Seconds/2
		}
		if m.Client != nil && m.Client.Crowding != nil {
			p.InStep = *m.Client.Crowding > measurement.InStep
		}
		if o.Batch == Nominal {
			p.Batch = float64(m.BatchSize)
		}
		if p.PromptTokens == 0 {
			p.PromptTokens = float64(m.Shape.PromptTokens)
		}
		if p.OutputTokens == 0 {
			p.OutputTokens = float64(m.Shape.OutputTokens)
		}
		if off := mislabelled(m); p.Void == nil && off > mostMislabelled {
			p.Void = &reason.Reason{Code: reason.Label, Text: labelText(m), Cure: labelCure}
		}
		p.ITL, p.TTFT = sample(m.Taken.ITL), sample(m.Taken.TTFT)
		points[i] = p
	}
	return points
}

// Point is a measured point as an estimate takes it.
type Point struct {
	fit.Point
	Source
}

// Points are those of an accelerator, by shape.
func Points(in Inputs, accelerator string) map[sweep.Shape][]Point {
	all := map[sweep.Shape][]Point{}
	groups, _ := group(in.Measurements)
	for k, ms := range groups {
		if k.accelerator != accelerator {
			continue
		}
		for i, p := range pointsOf(k, ms, Options{Source: measurement.Auto, TTFT: measurement.Auto, Batch: Measured}) {
			all[k.shape] = append(all[k.shape], Point{p, ms[i]})
		}
	}
	return all
}

// judgePrecision warns of what was asked for and was not reached.
func judgePrecision(f *fit.Linear4, points []fit.Point, goals precision.Goals) {
	if f.Verdict.Level == fit.Refused {
		return
	}
	var wide []string
	for _, g := range goals {
		if g.Of == precision.Capacity {
			continue
		}
		share := f.HalfWidth(g.Of, g.Effect, points)
		switch {
		case math.IsInf(share, 1):
			wide = append(wide, g.Of+" has no interval")
		case share > g.Share:
			wide = append(wide, fmt.Sprintf("%s is told to ±%s, not ±%s", g.Of, precision.Percent(share), precision.Percent(g.Share)))
		}
	}
	if len(wide) > 0 {
		f.Verdict.Warn(reason.New(reason.Imprecise, "the precision that was asked for was not reached: %s", strings.Join(wide, ", ")).Cured("allow more GPU-minutes"))
	}
}

// label is the point in sentences; one that was measured again has a number.
func label(ms []Source, i int) string {
	run := 1
	for _, m := range ms[:i] {
		if m.BatchSize == ms[i].BatchSize {
			run++
		}
	}
	if run == 1 {
		return fmt.Sprintf("batch %d", ms[i].BatchSize)
	}
	return fmt.Sprintf("batch %d (run %d)", ms[i].BatchSize, run)
}

// why is the first of the sentences with its code, and the others after it; nil for
// none.
func why(t measurement.Taken, sentences []string) *reason.Reason {
	if len(sentences) == 0 {
		return nil
	}
	r := t.Finding(sentences[0])
	for _, more := range sentences[1:] {
		if r.Cure == "" {
			r.Text += "; " + more
		} else {
			r.Cure += "; " + more
		}
	}
	return &r
}

// How far the counted tokens may be off the shape, relative: templates add a few, and
// lengths that vary by a fifth do so about their mean.
const (
	mislabelledWarns = 0.10
	mostMislabelled  = 0.25
	templateTokens   = 64 // of a prompt, that a chat template may add
)

// mislabelled is how far the tokens of a point are off its shape, relative.
func mislabelled(m Source) float64 {
	off := 0.0
	if in := float64(m.Shape.PromptTokens); m.PromptTokens > 0 {
		off = max(0, (m.PromptTokens-templateTokens)/in-1, 1-m.PromptTokens/in)
	}
	if m.OutputTokens > 0 {
		off = max(off, math.Abs(m.OutputTokens/float64(m.Shape.OutputTokens)-1))
	}
	return off
}

func labelText(m Source) string {
	return fmt.Sprintf("its requests had %.4g/%.4g tokens, not %s", m.PromptTokens, m.OutputTokens, m.Shape)
}

const labelCure = "name the shape that was measured, or let the server ignore the end of a text (ignore_eos)"

// estimate fits one group.
func estimate(k key, ms []Source, points []fit.Point, o Options) parameters.Parameters {
	f := fit.FitLinear4(points, fit.Options{Method: o.Method, From: o.From, To: o.To})
	judge(&f, ms)
	judgePrecision(&f, points, o.Precision)
	bandwidth := holdAgainstFloor(&f, k.accelerator, ms, o)

	p := parameters.Parameters{
		Model: k.model, Accelerator: k.accelerator, Shape: k.shape,
		Fit:         parameters.Fit{Model: parameters.Linear4, Method: o.Method, Batch: o.Batch},
		Verdict:     f.Verdict,
		InputTokens: float64(k.shape.PromptTokens),
	}
	if o.To > 0 {
		p.Fit.Range = &[2]float64{o.From, o.To}
	}
	for i, e := range []fit.Parameter{f.Alpha, f.Beta, f.Gamma, f.Delta} {
		if f.Verdict.Level != fit.Refused && !math.IsNaN(e.Value) {
			p.Set(linear4.Names()[i], e)
		}
	}
	perBatch := 0.0
	for _, q := range points {
		perBatch += q.PromptTokens / float64(len(points))
	}
	p.Fit.Diagnostics = parameters.Diagnostics{ITL: diagnostics(f.ITL, points, 1), TTFT: diagnostics(f.TTFT, points, perBatch), BandwidthPercent: bandwidth}
	p.Curve = parameters.NewCurve(fit.MeasuredCurve(points, fit.BetweenRuns))
	p.Provenance = provenance(ms)
	for i, m := range ms {
		p.Fit.Points = append(p.Fit.Points, describe(m, points[i], i, f))
	}
	ends(&p, f, ms, points)
	return p
}

func sample(v *measurement.Value) fit.Sample {
	if v == nil {
		return fit.Sample{}
	}
	return fit.Sample{MS: v.MS, StandardError: v.StandardErrorMS, Blocks: v.Blocks}
}

// ends fills the fields of the two-run recipe: what was measured at the smallest
// and at the largest batch that the estimate uses.
func ends(p *parameters.Parameters, f fit.Linear4, ms []Source, points []fit.Point) {
	if f.ITL == nil {
		return
	}
	low, high := f.ITL.Used[0], f.ITL.Used[0]
	for _, i := range f.ITL.Used {
		if points[i].Batch < points[low].Batch {
			low = i
		}
		if points[i].Batch > points[high].Batch {
			high = i
		}
	}
	ttft := func(i int) *float64 { // also where the line leaves it out
		if q := points[i]; q.VoidTTFT == nil && q.TTFT.MS > 0 {
			return &q.TTFT.MS
		}
		return nil
	}
	p.ITLSynchronous, p.ITLThroughput = &points[low].ITL.MS, &points[high].ITL.MS
	p.TTFTSynchronous, p.TTFTThroughput = ttft(low), ttft(high)
	p.BatchSize = float64(ms[high].BatchSize)
	if f.TTFT != nil {
		p.InputTokens = 0
		for _, i := range f.TTFT.Used {
			p.InputTokens += points[i].PromptTokens
		}
		p.InputTokens /= float64(len(f.TTFT.Used))
	}
}

// diagnostics of a line; perBatch is how much its abscissa is that of a request.
func diagnostics(l *fit.Line, points []fit.Point, perBatch float64) *parameters.Line {
	if l == nil || !finite(l.RMSE) || !finite(l.Condition) { // a line through points that are none
		return nil
	}
	d := &parameters.Line{RMSEMS: l.RMSE, ConditionNumber: l.Condition, DegreesOfFreedom: l.DegreesOfFreedom, PointsUsed: len(l.Used), Shape: string(l.Shape)}
	if !math.IsNaN(l.R2) {
		d.R2 = &l.R2
	}
	if c := l.Covariance[0][1]; !math.IsNaN(c) {
		d.Covariance = &c
		d.BetweenRunsPercent, d.ScatterPercent, d.WanderPercent = new(100*l.Between), new(100*l.Scatter), 100*l.Wander
	}
	if e := l.Drift; e != nil {
		d.Drift = &parameters.Change{Percent: 100 * e.Value, Low: 100 * e.Low, High: 100 * e.High}
	}
	d.LinearFrom = math.Inf(1)
	for _, i := range l.Used {
		d.LinearFrom, d.LinearTo = min(d.LinearFrom, points[i].Batch), max(d.LinearTo, points[i].Batch)
		e := 100 * math.Abs(l.Residuals[i])
		d.MeanErrorPercent += e / float64(len(l.Used))
		d.LargestErrorPercent = max(d.LargestErrorPercent, e)
	}
	if l.BendFrom != nil {
		for _, p := range points {
			if p.Batch > d.LinearTo && (d.BendFrom == nil || p.Batch < *d.BendFrom) {
				d.BendFrom = new(p.Batch)
			}
		}
	}
	all, largest, n := 0.0, 0.0, 0.0
	for i, e := range l.Residuals {
		if !math.IsNaN(e) && points[i].Void == nil && (perBatch == 1 || points[i].VoidTTFT == nil) {
			all, largest, n = all+100*math.Abs(e), max(largest, 100*math.Abs(e)), n+1
		}
	}
	if n > 0 {
		d.AllMeanErrorPercent, d.AllLargestErrorPercent = new(all/n), &largest
	}
	for _, batch := range []float64{d.LinearFrom, d.LinearTo} {
		if ms, low, high := l.Predict(batch * perBatch); !math.IsNaN(low) {
			d.Predictions = append(d.Predictions, parameters.Step{Batch: batch, MS: ms, Low: low, High: high})
		}
	}
	return d
}

// describe is what the estimate made of point i.
func describe(m Source, p fit.Point, i int, f fit.Linear4) parameters.Point {
	d := parameters.Point{
		BatchSize: m.BatchSize, Batch: m.Taken.Batch, PromptTokens: p.PromptTokens,
		Warnings: m.Taken.Warnings, Source: m.File,
		ITLDifferencePercent: m.Taken.ITLDifferencePercent, TTFTDifferencePercent: m.Taken.TTFTDifferencePercent,
	}
	var client measurement.Witness
	if m.Client != nil {
		client = *m.Client
		d.Plain, d.Basis = client.Plain, client.Basis
	}
	value := func(v *measurement.Value, of *measurement.Estimate, l *fit.Line, x float64) *parameters.Value {
		if v == nil {
			return nil
		}
		out := &parameters.Value{MS: v.MS, StandardErrorMS: v.StandardErrorMS, From: v.From, Statistic: v.Statistic}
		if of != nil { // only clients see single requests
			out.SpreadMS = max(0, of.Quantiles.StandardDeviation())
		}
		if l == nil {
			return out
		}
		out.Used = slices.Contains(l.Used, i)
		if predicted := l.At(x); f.Verdict.Level != fit.Refused && x > 0 && finite(predicted) {
			out.PredictedMS, out.ErrorPercent = &predicted, new(100*(predicted/v.MS-1))
			if _, low, high := l.Predict(x); !math.IsNaN(low) {
				out.PredictedLowMS, out.PredictedHighMS = &low, &high
			}
		}
		return out
	}
	d.ITL = value(m.Taken.ITL, client.ITL, f.ITL, p.Batch)
	d.TTFT = value(m.Taken.TTFT, client.TTFT, f.TTFT, p.Batch*p.PromptTokens)

	reasons := func(of string, l *fit.Line, void *reason.Reason) {
		if l == nil {
			if void != nil {
				d.LeftOut = append(d.LeftOut, of+void.String())
			}
			return
		}
		for _, o := range l.Out {
			if o.Index == i {
				d.LeftOut = append(d.LeftOut, of+o.Why.String())
			}
		}
	}
	if p.Void != nil {
		d.LeftOut = []string{p.Void.String()}
	} else {
		reasons("ITL: ", f.ITL, nil)
		reasons("TTFT: ", f.TTFT, p.VoidTTFT)
	}
	return d
}

// judge applies the rules of the verdict that concern whole points.
func judge(f *fit.Linear4, ms []Source) {
	if f.ITL == nil {
		return // refused, and the reasons say what to do
	}
	summarized := 0
	for _, i := range f.ITL.Used {
		if c := ms[i].Client; c != nil && ms[i].Taken.ITL.From == measurement.Client && (c.Basis == measurement.BasisSummary || c.Basis == measurement.BasisConsole) {
			summarized++
		}
	}
	if summarized > 0 {
		f.Verdict.Warn(reason.New(reason.Summary, "%d of %d points are made of a tool's own statistics (basis summary), in which start-up and drain are included and whose errors are assumed", summarized, len(f.ITL.Used)).
			Cured("let the tool keep every request; docs/formats.md says how"))
	}
	var warnings []reason.Reason
	warn := func(m Source, code reason.Code, format string, args ...any) {
		warnings = append(warnings, reason.New(code, "batch %d: %s", m.BatchSize, fmt.Sprintf(format, args...)))
	}
	for _, i := range f.ITL.Used {
		m := ms[i]
		if b := float64(m.BatchSize); math.Abs(m.Taken.Batch/b-1) > mostBatchDifference {
			warn(m, reason.Batch, "%.4g requests ran together in fact (%+.0f %%)", m.Taken.Batch, 100*(m.Taken.Batch/b-1))
		}
		if all := m.Requests.Successful + m.Requests.Errored; all > 0 && float64(m.Requests.Errored) > mostErrors*float64(all) {
			warn(m, reason.Errors, "%d of %d requests failed%s", m.Requests.Errored, all, most(m.Requests.Errors))
		}
		if m.Partial {
			warn(m, reason.Interrupted, "interrupted; only %.3g s were measured", m.Seconds)
		}
		for _, w := range m.Taken.Warnings {
			r := m.Taken.Finding(w)
			if r.Code == reason.Void {
				r.Code = reason.Witness
			}
			r.Text = fmt.Sprintf("batch %d: %s", m.BatchSize, r.Text)
			warnings = append(warnings, r)
		}
		if mislabelled(m) > mislabelledWarns {
			r := reason.Reason{Code: reason.Label, Text: fmt.Sprintf("batch %d: %s", m.BatchSize, labelText(m)), Cure: labelCure}
			warnings = append(warnings, r)
		}
	}
	if tokens := tokensAtOnce(f.ITL.Used, ms); tokens > 0 {
		f.Verdict.Warn(reason.New(reason.Speculative, "tokens come %.2g at a time, as with speculative decoding: ITL is the mean over tokens, and depends on how many guesses these prompts let the server keep", tokens).
			Cured("measure with prompts of the real traffic, or without speculation"))
	}
	const enough = 8
	for i, w := range warnings {
		if i == enough && len(warnings) > enough+1 {
			f.Verdict.Warn(reason.New(reason.Other, "and %d more such warnings; see the points", len(warnings)-enough))
			break
		}
		f.Verdict.Warn(w)
	}
	warnOfDifferences(&f.Verdict, ms, f.ITL.Used)
}

// tokensAtOnce is how many tokens a step of the server makes in the mean, where it is
// more than one in most of the points; 0 otherwise.
func tokensAtOnce(used []int, ms []Source) float64 {
	const several = 1.15 // counts of pieces are never quite those of tokens
	sum, n := 0.0, 0
	for _, i := range used {
		tokens := 0.0
		if w := ms[i].Server; w != nil && w.TokensPerGap != nil {
			tokens = *w.TokensPerGap
		} else if w := ms[i].Client; w != nil && w.Stream != nil && w.Stream.PiecesPerToken > 0 && w.Stream.FirstTokens <= several {
			tokens = 1 / w.Stream.PiecesPerToken
		}
		if tokens > several {
			sum, n = sum+tokens, n+1
		}
	}
	if 2*n <= len(used) {
		return 0
	}
	return sum / float64(n)
}

// most names the commonest error.
func most(errs map[string]int) string {
	worst := ""
	for e, n := range errs {
		if worst == "" || n > errs[worst] || n == errs[worst] && e < worst {
			worst = e
		}
	}
	if worst == "" {
		return ""
	}
	return fmt.Sprintf(" (%d times %s)", errs[worst], worst)
}

func driver(m Source) string {
	return strings.TrimSpace(m.Driver.Name + " " + m.Driver.Version)
}

// collect are the different values of a field, in order of appearance.
func collect(ms []Source, of func(Source) string) parameters.Values {
	return parameters.Distinct(ms, of)
}

func provenance(ms []Source) parameters.Provenance {
	p := parameters.Provenance{
		Driver:        collect(ms, driver),
		ServerVersion: collect(ms, func(m Source) string { return m.Provenance.ServerVersion }),
		Image:         collect(ms, func(m Source) string { return m.Provenance.Image }),
		ImageDigest:   collect(ms, func(m Source) string { return m.Provenance.ImageDigest }),
		Args:          collect(ms, func(m Source) string { return strings.Join(m.Provenance.Args, " ") }),
		Cache:         collect(ms, cache),
		GPU:           collect(ms, func(m Source) string { return m.Provenance.GPU }),
		GPUDriver:     collect(ms, func(m Source) string { return m.Provenance.GPUDriver }),
		Node:          collect(ms, func(m Source) string { return m.Provenance.Node }),
		Pod:           collect(ms, func(m Source) string { return m.Provenance.Pod }),
		Target:        collect(ms, func(m Source) string { return m.Provenance.Target }),
		Tool:          collect(ms, func(m Source) string { return m.Provenance.Tool }),
	}
	for _, m := range ms {
		if m.StartedAt > 0 && (p.MeasuredFrom == 0 || m.StartedAt < p.MeasuredFrom) {
			p.MeasuredFrom = m.StartedAt
		}
		if m.StartedAt > 0 {
			p.MeasuredTo = max(p.MeasuredTo, m.StartedAt+m.Seconds)
		}
		p.Seconds += m.Seconds
		p.OverheadSeconds += m.OverheadSeconds
		p.Requests += m.Requests.Successful
		p.ErroredRequests += m.Requests.Errored
	}
	return p
}

// Shown is the summary of the inputs as a report shows it: parameters that were made
// already as they are, for they are what was published; measurements are estimated
// only where there are none.
func Shown(in Inputs, o Options) parameters.Summary {
	made := map[key]bool{}
	for _, p := range in.Parameters {
		made[key{p.Model, p.Accelerator, p.Shape}] = true
	}
	in.Measurements = slices.DeleteFunc(slices.Clone(in.Measurements), func(m Source) bool { return made[key{m.Model, m.Accelerator, m.Shape}] })
	return Estimate(in, o)
}
