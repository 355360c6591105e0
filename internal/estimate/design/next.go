package design

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
	"wfgen.dev/internal/sweep/precision"
)

// Measured is a point of one shape that was measured, with what it took.
type Measured struct {
	fit.Point
	BatchSize int     // asked for
	Window    float64 // seconds that its means are made of; 0: not known
	Seconds   float64 // that it kept the server, overhead included
}

// Capacity is what is known of the capacity of one replica, where that is a goal.
type Capacity struct {
	Share float64 // half width of its interval, relative; NaN where it has none
	Batch float64 // requests in flight at it
}

// Wish is what is wanted of one shape, and what may be spent on it.
type Wish struct {
	Shape      sweep.Shape
	BatchSizes []int
	Goals      precision.Goals
	Capacity   func() Capacity // asked where it is a goal
	MaxSeconds float64         // longest point; 0: LongestPoint
	Overhead   float64         // of a point beyond its own seconds: its node's, and its driver's before the first is measured
	Left       float64         // seconds of the server that may still be spent
	Round      int             // the one to be chosen; the first is 1
	MostRounds int
}

// Choices of the rounds.
const (
	LongestPoint = 600.0 // seconds, where nobody says
	leastSeconds = 12.0
	leastBlocks  = 9.0  // requests one after another in a stream's window: five blocks, and some are cut off
	FirstSeconds = 12.0 // of a point before anything is known of the server
	aim          = 0.98
	fewestPoints = 8
)

// fewestSizes of the first round show whether a line holds.
const fewestSizes = precision.FirstPoints - 1

// Run is a point to be measured.
type Run struct {
	BatchSize int
	Seconds   float64 // of its load, whole
}

// State is how far one of the goals is.
type State struct {
	precision.Goal
	Share float64 // that was reached; +Inf: nothing is known

	// Expected is the half width that so many points have in the mean. An interval can be
	// narrower by chance, and who stops there stops when it is wrong.
	Expected float64

	// Floor is what no further point takes off Share: a capacity is as uncertain as the
	// small engine that tells it.
	Floor float64
}

func (s State) ratio() float64 { return max(s.Share, s.Expected) / s.Goal.Share }

// String is the state for people: beta ±6.1 % (wanted ±5 %).
func (s State) String() string {
	of := s.Of
	if s.Effect {
		of += "'s effect"
	}
	if math.IsInf(s.Share, 1) {
		return of + " not told"
	}
	text := of + " ±" + precision.Percent(s.Share)
	if s.ratio() > 1 {
		text += " (wanted ±" + precision.Percent(s.Goal.Share) + ")"
	}
	return text
}

// Decision is the next round of one shape.
type Decision struct {
	Runs   []Run   // in the order in which they are measured; none: the sweep ends
	Why    string  // it ends: precision.Reached and others; empty: it does not
	Detail string  // of why it ends, where the states do not say it
	States []State // after what was measured
	Drift  string  // how the server changed meanwhile; empty: not that anybody can see

	line fit.Linear4
}

// Next chooses the next round of points, after those that were measured. The first
// round are short points of five batch sizes, the first measured again at its end.
// What follows are the points that bring the widest of the intervals, relative to what
// is wanted of it, down most: one after another, until all are expected to be narrow
// enough (a greedy optimal design: V. V. Fedorov, "Theory of Optimal Experiments",
// 1972). A point is so long that its own error and what two runs differ by cost least
// together: sqrt(v*h)/tau seconds, for a mean whose relative variance is v over its
// seconds, h seconds that a point costs besides, and a difference of tau between runs
// (W. G. Cochran, "Sampling Techniques", 1977, section 10.6).
//
// The lengths of a round follow from the rounds before it, never from itself.
func Next(points []Measured, w Wish) Decision {
	if w.MaxSeconds <= 0 {
		w.MaxSeconds = LongestPoint
	}
	if len(points) == 0 {
		return w.first()
	}
	d := w.state(points)
	switch {
	case d.Why != "":
		return d
	case d.reached() && len(points) >= fewestPoints:
		if d.Why = precision.Reached; d.Drift != "" {
			d.Why = precision.Drift
		}
		return d
	case w.Round > w.MostRounds:
		d.Why = precision.Rounds
		return d
	}
	if d.Runs = w.runs(points, d); len(d.Runs) == 0 {
		d.Why = precision.Budget
		if len(w.candidates(points, w.evidence(points, d.line))) == 0 {
			d.Why, d.Detail = precision.Refused, "no batch size is left that could be used"
		} else if d.reached() {
			d.Detail = tooFew(len(points))
		}
	}
	return d
}

// tooFew says why intervals that are narrow enough do not end a sweep.
func tooFew(points int) string {
	return fmt.Sprintf("%d points are too few to tell that from chance: %d are needed", points, fewestPoints)
}

// first is the first round.
func (w Wish) first() Decision {
	sizes := spread(w.BatchSizes, fewestSizes)
	expected := OrdinaryLinear4(w.Shape)
	d := Decision{}
	cost := 0.0
	add := func(batch int) {
		request := requestSeconds(expected, w.Shape, batch)
		seconds := math.Ceil(min(w.MaxSeconds, max(FirstSeconds, leastBlocks*request)))
		d.Runs = append(d.Runs, Run{batch, seconds})
		cost += seconds + 2*request + w.Overhead
	}
	order := sweep.Order(sizes)
	for _, b := range order {
		add(b)
	}
	if len(sizes) >= sweep.FewestForAgain {
		add(order[0])
	}
	if cost > w.Left {
		d.Why, d.Runs = precision.Budget, nil
		d.Detail = fmt.Sprintf("the first round alone keeps the server for about %.1f minutes", cost/60)
	}
	return d
}

// spread are n of the sizes, the ends among them, evenly spaced.
func spread(sizes []int, n int) []int {
	sorted := slices.Sorted(slices.Values(sizes))
	if len(sorted) <= n {
		return sorted
	}
	var some []int
	for i := range n {
		some = append(some, sorted[int(math.Round(float64(i*(len(sorted)-1))/float64(n-1)))])
	}
	return some
}

// state is what the points say.
func (w Wish) state(points []Measured) Decision {
	all := make([]fit.Point, len(points))
	for i, p := range points {
		all[i] = p.Point
	}
	f := fit.FitLinear4(all, fit.Options{Method: fit.WLS})
	d := Decision{line: f}
	for _, g := range w.Goals {
		s := State{Goal: g}
		if g.Of != precision.Capacity {
			s.Share = f.HalfWidth(g.Of, g.Effect, all)
		} else if s.Share = w.Capacity().Share; !(s.Share > 0) {
			s.Share = math.Inf(1)
		}
		d.States = append(d.States, s)
	}
	for _, r := range f.Verdict.Findings {
		if r.Code == reason.Drift {
			d.Drift = r.Text
		}
	}
	if text, hopeless := w.hopeless(points, f); hopeless {
		d.Why, d.Detail = precision.Refused, text
		return d
	}
	s := w.evidence(points, f)
	for i, e := range modelled(s.information(points), w.functionals(s)) {
		freedom := s.itl.freedom
		if of := d.States[i].Of; of == "gamma" || of == "delta" {
			freedom = s.ttft.freedom
		}
		g, own := &d.States[i], e*fit.Reach(freedom)
		if g.Of != precision.Capacity {
			g.Expected = own
			continue
		}
		if g.Floor = math.Sqrt(max(0, g.Share*g.Share-own*own)); g.Floor > g.Goal.Share && !math.IsInf(g.Share, 1) && len(points) >= fewestPoints {
			d.Why, d.Detail = precision.Refused, fmt.Sprintf("no further point tells the capacity to ±%s: ±%s are what the model of the server may be off by", precision.Percent(g.Goal.Share), precision.Percent(g.Floor))
		}
	}
	return d
}

func (w Wish) largest() float64 { return float64(slices.Max(w.BatchSizes)) }

// hopeless tells whether a pair of parameters that is wanted is refused although as many
// batch sizes were measured as show whether a line holds: more points do not help.
func (w Wish) hopeless(points []Measured, f fit.Linear4) (why string, yes bool) {
	var sizes []int
	for _, p := range points {
		sizes = append(sizes, p.BatchSize)
	}
	slices.Sort(sizes)
	if len(slices.Compact(sizes)) < min(fewestSizes, len(w.BatchSizes)) {
		return "", false
	}
	itl := math.IsNaN(f.Alpha.Value) && (w.Goals.Wants("alpha") || w.Goals.Wants("beta") || w.Goals.Wants(precision.Capacity))
	ttft := math.IsNaN(f.Gamma.Value) && (w.Goals.Wants("gamma") || w.Goals.Wants("delta"))
	if !itl && !ttft || len(f.Verdict.Findings) == 0 {
		return "", false
	}
	return f.Verdict.Findings[0].String(), true
}

func (d Decision) reached() bool {
	return !slices.ContainsFunc(d.States, func(s State) bool { return !(s.ratio() <= 1) })
}

// side is what is known of the noise of ITL or of TTFT.
type side struct {
	noise float64 // relative variance of a mean over a second
	tau   float64 // what two runs differ by, relative

	freedom float64 // degrees of freedom behind what is known of tau
}

// What a few points say of the difference between runs is uncertain: what is supposed
// of servers counts for so many points more.
const (
	supposed = 4
	mostTau  = 0.02
)

func sideOf(points []Measured, l *fit.Line, of func(Measured) fit.Sample) side {
	s := side{tau: repeat, freedom: supposed}
	if l != nil {
		known := float64(max(0, len(l.Used)-2))
		s.freedom = max(1, known)
		s.tau = min(mostTau, math.Sqrt((supposed*repeat*repeat+known*l.Between*l.Between)/(supposed+known)))
	}
	sum, weight := 0.0, 0.0
	for _, p := range points {
		x := of(p)
		if p.Void != nil || x.StandardError <= 0 || x.Blocks < 2 || p.Window <= 0 {
			continue
		}
		e := x.StandardError / x.MS
		freedom := float64(x.Blocks - 1)
		sum, weight = sum+freedom*e*e*p.Window, weight+freedom
	}
	if weight > 0 {
		s.noise = sum / weight
	}
	return s
}

// over is the relative variance of a mean over so many seconds.
func (s side) over(seconds float64) float64 { return s.noise/max(seconds, 1) + s.tau*s.tau }

// evidence is what the points say of the server, as far as the choice of more needs it.
type evidence struct {
	law       [4]float64 // alpha to delta
	itl, ttft side
	overhead  float64 // of a point, seconds
	from, to  float64 // batches of the line
	tokens    float64
}

func (w Wish) evidence(points []Measured, f fit.Linear4) evidence {
	s := evidence{
		law: OrdinaryLinear4(w.Shape), tokens: float64(w.Shape.PromptTokens), to: w.largest(),
		itl:  sideOf(points, f.ITL, func(m Measured) fit.Sample { return m.ITL }),
		ttft: sideOf(points, f.TTFT, func(m Measured) fit.Sample { return m.TTFT }),
	}
	for i, p := range []fit.Parameter{f.Alpha, f.Beta, f.Gamma, f.Delta} {
		if p.Value > 0 {
			s.law[i] = p.Value
		}
	}
	if l := f.ITL; l != nil && l.Shape != "" {
		s.from, s.to = l.LinearFrom, l.LinearTo
	}
	var costs []float64
	for _, p := range points {
		if p.Window > 0 && p.Seconds > p.Window {
			costs = append(costs, p.Seconds-p.Window)
		}
	}
	slices.Sort(costs)
	if s.overhead = w.Overhead; len(costs) > 0 {
		s.overhead += costs[len(costs)/2]
	}
	return s
}

// rows are how a point's latencies depend on the logarithms of the parameters.
func (s evidence) rows(batch float64) (itl, ttft []float64) {
	a, b := s.law[0]+s.law[1]*batch, s.law[2]+s.law[3]*s.tokens*batch
	return []float64{s.law[0] / a, s.law[1] * batch / a, 0, 0}, []float64{0, 0, s.law[2] / b, s.law[3] * s.tokens * batch / b}
}

// add adds what a point of so many seconds tells.
func (s evidence) add(m *mat.SymDense, batch, seconds float64, itl, ttft bool) {
	x, y := s.rows(batch)
	if itl {
		m.SymRankOne(m, 1/s.itl.over(seconds), mat.NewVecDense(4, x))
	}
	if ttft && batch >= 1.5 {
		m.SymRankOne(m, 1/s.ttft.over(seconds), mat.NewVecDense(4, y))
	}
}

// information is what the points tell of the logarithms of the parameters, with a trace
// of it from the start, so that the first can be told apart.
func (s evidence) information(points []Measured) *mat.SymDense {
	m := mat.NewSymDense(4, nil)
	for i := range 4 {
		m.SetSym(i, i, 1e-6)
	}
	for _, p := range points {
		if p.Void == nil && p.Batch > 0 && p.Batch >= s.from*0.98 && p.Batch <= s.to*1.02 {
			s.add(m, p.Batch, cmp.Or(p.Window, p.Seconds), p.ITL.MS > 0, p.TTFT.MS > 0 && p.VoidTTFT == nil)
		}
	}
	return m
}

// request is how long a request takes, seconds.
func (s evidence) request(shape sweep.Shape, batch float64) float64 {
	return (s.law[2] + s.law[3]*s.tokens*batch + float64(shape.OutputTokens-1)*(s.law[0]+s.law[1]*batch)) / 1000
}

// runs are the points of the next round.
func (w Wish) runs(points []Measured, d Decision) []Run {
	s := w.evidence(points, d.line)
	have := s.information(points)
	functionals := w.functionals(s)
	now := modelled(have, functionals)
	// What the model says of the intervals is held to what they are.
	ratios := func(m *mat.SymDense) []float64 {
		widths := modelled(m, functionals)
		for i, g := range d.States {
			r := widths[i] / now[i] * g.ratio()
			if g.Floor > 0 {
				own := widths[i] / now[i]
				r = math.Sqrt(g.Floor*g.Floor+own*own*(g.Share*g.Share-g.Floor*g.Floor)) / g.Goal.Share
			}
			if math.IsInf(g.Share, 1) {
				r = 2 * widths[i] / g.Goal.Share
			}
			widths[i] = r
		}
		return widths
	}
	var runs []Run
	left := w.Left
	for reached := ratios(have); len(runs) < precision.NextPoints && (slices.Max(reached) > aim || len(points)+len(runs) < fewestPoints); {
		best, with := w.best(s, w.candidates(points, s), have, left, ratios)
		if with == nil {
			break
		}
		runs, have = append(runs, best), with
		left -= best.Seconds + s.overhead
		reached = ratios(have)
	}
	return inOrder(runs)
}

// best is the point that brings the goals nearest, and what is then told; nil where none
// can be afforded.
func (w Wish) best(s evidence, sizes []int, have *mat.SymDense, left float64, ratios func(*mat.SymDense) []float64) (best Run, with *mat.SymDense) {
	reached, least := ratios(have), math.Inf(1)
	for _, b := range sizes {
		seconds := w.length(s, float64(b), reached)
		m := mat.NewSymDense(4, nil)
		m.CopySym(have)
		s.add(m, float64(b), seconds, true, true)
		if lack := lacking(ratios(m)); lack < least && seconds+s.overhead <= left {
			best, least, with = Run{b, seconds}, lack, m
		}
	}
	return best, with
}

// lacking is how much is missing of all goals.
func lacking(ratios []float64) float64 {
	sum := 0.0
	for _, r := range ratios {
		sum += max(r, aim) * max(r, aim)
	}
	return sum
}

// length of a point whose error costs least.
func (w Wish) length(s evidence, batch float64, ratios []float64) float64 {
	longest := 0.0
	for i, g := range w.Goals {
		if ratios[i] <= aim {
			continue
		}
		sides := []side{s.itl}
		switch g.Of {
		case "gamma", "delta":
			sides = []side{s.ttft}
		case precision.Capacity:
			sides = append(sides, s.ttft)
		}
		for _, one := range sides {
			longest = max(longest, math.Sqrt(one.noise*s.overhead)/one.tau)
		}
	}
	return math.Ceil(min(w.MaxSeconds, max(longest, leastSeconds, leastBlocks*s.request(w.Shape, batch))))
}

// candidates are the batch sizes that may be measured again, or for the first time:
// those of the line, but for those that could not be used.
func (w Wish) candidates(points []Measured, s evidence) []int {
	var sizes []int
	for _, b := range w.BatchSizes {
		n := float64(b)
		bad := slices.ContainsFunc(points, func(p Measured) bool { return p.BatchSize == b && p.Void != nil })
		if n >= s.from*0.98 && n <= s.to*1.02 && !bad {
			sizes = append(sizes, b)
		}
	}
	return sizes
}

// functionals are what the goals are about, in the logarithms of the parameters.
func (w Wish) functionals(s evidence) [][][]float64 {
	var all [][][]float64
	for _, g := range w.Goals {
		if g.Of == precision.Capacity {
			// The load at which a latency is met moves by so much more than the latency.
			n := max(1, w.Capacity().Batch)
			x, y := s.rows(n)
			floats.Scale(1/max(0.05, x[1]), x)
			floats.Scale(1/max(0.05, y[3]), y)
			all = append(all, [][]float64{x, y})
			continue
		}
		one := make([]float64, 4)
		i := slices.Index(linear4.Names(), g.Of)
		if one[i] = 1; g.Effect {
			one[i] = s.law[3] * s.tokens * w.largest() / (s.law[2] + s.law[3]*s.tokens*w.largest())
		}
		all = append(all, [][]float64{one})
	}
	return all
}

// modelled are the standard errors of the functionals.
func modelled(information *mat.SymDense, functionals [][][]float64) []float64 {
	errs := make([]float64, len(functionals))
	var c mat.Cholesky
	var inverse mat.SymDense
	ok := c.Factorize(information) && c.InverseTo(&inverse) == nil
	for i, rows := range functionals {
		variance := 0.0
		for _, r := range rows {
			v := mat.NewVecDense(4, r)
			if ok {
				variance += mat.Inner(v, &inverse, v)
			}
		}
		if errs[i] = math.Sqrt(variance); !ok {
			errs[i] = math.Inf(1)
		}
	}
	return errs
}

// inOrder puts the runs in an order that does not rise with the batch: what a server
// changes meanwhile falls on small and large alike.
func inOrder(runs []Run) []Run {
	seconds := map[int]float64{}
	var sizes []int
	for _, r := range runs {
		sizes = append(sizes, r.BatchSize)
		seconds[r.BatchSize] = max(seconds[r.BatchSize], r.Seconds)
	}
	var ordered []Run
	for _, b := range sweep.Order(sizes) {
		ordered = append(ordered, Run{b, seconds[b]})
	}
	return ordered
}

// Describe says how far the goals are, and why the sweep ends.
func (d Decision) Describe() string {
	var states []string
	for _, s := range d.States {
		states = append(states, s.String())
	}
	text := strings.Join(states, ", ")
	if d.Detail != "" {
		text = strings.Trim(text+"; "+d.Detail, "; ")
	}
	if d.Drift != "" {
		text += "; " + d.Drift
	}
	return text
}

// Alternative is another way to measure the same, and what it is expected to give.
type Alternative struct {
	Seconds float64   // of the server
	Widths  []float64 // half widths of the goals' intervals, relative, in the order of the goals
}

// The two-run recipe: two runs of so many seconds, at batch 1 and at the largest.
const recipeSeconds = 360

// Alternatives are what the fixed design, every batch size for so many seconds and the
// first again, and the two-run recipe would have taken on the server that was measured.
// The recipe has no intervals: its widths are 1.96 times the scatter of its estimates.
func Alternatives(points []Measured, w Wish, seconds float64) (fixed, recipe Alternative) {
	d := w.state(points)
	s := w.evidence(points, d.line)
	of := func(sizes []int, seconds, overhead float64, quantile func(runs int) float64) (a Alternative) {
		m := s.information(nil)
		for _, b := range sizes {
			s.add(m, float64(b), seconds, true, true)
			a.Seconds += seconds + overhead
		}
		for i, e := range modelled(m, w.functionals(s)) {
			a.Widths = append(a.Widths, math.Hypot(e*quantile(len(sizes)), d.States[i].Floor))
		}
		return a
	}
	order := sweep.Order(w.BatchSizes)
	if len(order) >= sweep.FewestForAgain {
		order = append(order, order[0])
	}
	fixed = of(order, seconds, s.overhead, func(runs int) float64 {
		return fit.Reach(float64(max(1, runs-2)))
	})
	recipe = of([]int{2, int(w.largest())}, recipeSeconds, 0, func(int) float64 { return 1.96 }) // 2: TTFT at 1 tells nothing of the line
	return fixed, recipe
}

// Expect is what a sweep is expected to measure on a server of ordinary speed and noise
// until the goals are reached, and how long that keeps the server, seconds. It may end
// for what is left, or for the number of rounds, without having reached them.
func Expect(w Wish) (runs []Run, seconds float64, reached bool) {
	if w.MaxSeconds <= 0 {
		w.MaxSeconds = LongestPoint
	}
	s := evidence{
		law: OrdinaryLinear4(w.Shape), tokens: float64(w.Shape.PromptTokens), to: w.largest(), overhead: w.Overhead,
		itl: side{noise: DefaultNoise.ITL * DefaultNoise.ITL, tau: repeat}, ttft: side{noise: DefaultNoise.TTFT * DefaultNoise.TTFT, tau: repeat},
	}
	have := s.information(nil)
	take := func(r Run) {
		s.add(have, float64(r.BatchSize), r.Seconds, true, true)
		seconds += r.Seconds + s.overhead + 2*s.request(w.Shape, float64(r.BatchSize))
	}
	runs = w.first().Runs
	for _, r := range runs {
		take(r)
	}
	functionals := w.functionals(s)
	ratios := func(m *mat.SymDense) []float64 {
		widths := modelled(m, functionals)
		for i, g := range w.Goals {
			widths[i] *= fit.Reach(float64(max(1, len(runs)-2))) / g.Share
		}
		return widths
	}
	most := len(runs) + precision.NextPoints*(w.MostRounds-1)
	for {
		if reached = slices.Max(ratios(have)) <= 1 && len(runs) >= fewestPoints; reached || len(runs) == 0 || len(runs) >= most {
			return runs, seconds, reached
		}
		best, with := w.best(s, w.BatchSizes, have, w.Left-seconds, ratios)
		if with == nil {
			return runs, seconds, false
		}
		runs = append(runs, best)
		take(best)
	}
}
