package page

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
)

// figure is one picture that answers one question, and the answer in words.
type figure struct {
	ID    string
	Title string
	Text  string
	SVG   template.HTML
}

// Sizes of a picture, in units that are pixels where it is 360 pixels wide, as it is
// on a phone, in the panel of Argo's interface and in a column of a wide window.
const (
	width, height       = 360.0, 220.0
	left, right         = 44.0, 10.0
	top, bottom         = 22.0, 34.0
	tickLength, textGap = 4.0, 4.0
)

// plot is a drawing with two axes.
type plot struct {
	*drawing
	x, y scale
}

// newPlot draws the axes. xLabel stands below, yLabel above its axis.
func newPlot(h float64, x, y scale, xLabel, yLabel string) *plot {
	p := &plot{drawing: newDrawing(width, h), x: x, y: y}
	base := h - bottom
	var grid []xy
	p.group("e", func() {
		for _, v := range y.ticks(5) {
			at := y.at(v)
			grid = append(grid, xy{left, at}, xy{width - right, at})
			p.text("", left-textGap, at+3.5, tick(v))
		}
	})
	p.segments("grid", grid...)
	p.xAxis(base, xLabel)
	p.text("", 2, 12, yLabel)
	return p
}

func (p *plot) xAxis(base float64, label string) {
	marks := []xy{{left, base}, {width - right, base}}
	end := math.Inf(-1)
	p.group("m", func() {
		for _, v := range p.x.ticks(7) {
			at := p.x.at(v)
			marks = append(marks, xy{at, base}, xy{at, base + tickLength})
			text := tick(v)
			half := 3.2 * float64(len(text))
			if at-half < end || at+half > width { // it would touch the one before, or leave the picture
				continue
			}
			p.text("", at, base+14, text)
			end = at + half + 4
		}
		p.text("", (left+width-right)/2, base+29, label)
	})
	p.segments("axis", marks...)
}

// batches are the scales of batch sizes: even, on which a line is straight, and
// logarithmic, on which sizes that double are as far apart as their marks.
func batches(points []parameters.Point) (even, doubling scale) {
	most, least := 1.0, math.Inf(1)
	for _, q := range points {
		if q.Batch > 0 {
			most, least = max(most, q.Batch), min(least, q.Batch)
		}
	}
	if math.IsInf(least, 1) {
		least = 1
	}
	even = scale{low: 0, high: 1.04 * most, from: left, to: width - right}
	doubling = scale{low: 0.8 * least, high: 1.25 * most, from: left, to: width - right, log: true}
	return even, doubling
}

// latency is one of the two latencies of a set, and its line.
type latency struct {
	name  string // ITL or TTFT
	class string
	of    func(parameters.Point) *parameters.Value
	line  *parameters.Line
	curve []parameters.Step
	at    func(b float64) (ms, low, high float64) // of the line, with its 95 % interval; nil without one
}

// latencies are those of a set of parameters.
func latencies(p parameters.Parameters) []latency {
	band := func(intercept, slope *float64, ofIntercept, ofSlope *parameters.Interval, l *parameters.Line, tokens float64) func(float64) (float64, float64, float64) {
		if intercept == nil || slope == nil {
			return nil
		}
		return func(b float64) (float64, float64, float64) {
			x := tokens * b
			ms := *intercept + *slope*x
			if ofIntercept == nil || ofSlope == nil || l == nil || l.Covariance == nil || !(l.DegreesOfFreedom > 0) {
				return ms, math.NaN(), math.NaN()
			}
			variance := ofIntercept.StandardError*ofIntercept.StandardError + 2*x**l.Covariance + x*x*ofSlope.StandardError*ofSlope.StandardError
			half := fit.Reach(l.DegreesOfFreedom) * math.Sqrt(max(0, variance))
			return ms, ms - half, ms + half
		}
	}
	i, d := p.Fit.Intervals, p.Fit.Diagnostics
	curve := parameters.Curve{}
	if p.Curve != nil {
		curve = *p.Curve
	}
	return []latency{
		{name: "ITL", class: "itl", of: func(q parameters.Point) *parameters.Value { return q.ITL }, line: d.ITL, curve: curve.ITL,
			at: band(p.Alpha, p.Beta, i.Alpha, i.Beta, d.ITL, 1)},
		{name: "TTFT", class: "ttft", of: func(q parameters.Point) *parameters.Value { return q.TTFT }, line: d.TTFT, curve: curve.TTFT,
			at: band(p.Gamma, p.Delta, i.Gamma, i.Delta, d.TTFT, p.InputTokens)},
	}
}

// overBatch shows a latency over the batch size: points, their errors, the line and
// its interval, what was left out, and the bend.
func (l latency) overBatch(id string, points []parameters.Point) (figure, bool) {
	x, _ := batches(points)
	var values []float64
	lowest, highest := math.Inf(1), 0.0 // of what the line uses
	used, out := 0, 0
	for _, q := range points {
		v := l.of(q)
		if v == nil || !(v.MS > 0) {
			continue
		}
		values = append(values, v.MS-2*v.StandardErrorMS, v.MS+2*v.StandardErrorMS)
		if v.Used {
			used++
			lowest, highest = min(lowest, q.Batch), max(highest, q.Batch)
		} else {
			out++
		}
	}
	if len(values) == 0 {
		return figure{}, false
	}
	if l.at != nil && highest > 0 {
		for _, b := range []float64{lowest, highest} {
			ms, _, _ := l.at(b)
			values = append(values, ms)
		}
	}
	y := around(values, height-bottom, top, 5)
	p := newPlot(height, x, y, "batch: requests running together", l.name+", ms")

	bends := l.line != nil && l.line.BendFrom != nil
	if bends {
		at := x.clamped((l.line.LinearTo + *l.line.BendFrom) / 2)
		p.rect("beyond", at, top, width-right-at, height-bottom-top)
		if at > width/2 {
			p.text("e note", at-4, top+10, "the line ends here")
		} else {
			p.text("note", at+4, top+10, "the line ends here")
		}
	}
	l.drawCurve(p)
	if l.at != nil && highest > 0 {
		const steps = 12
		end := x.high
		if bends {
			end = (l.line.LinearTo + *l.line.BendFrom) / 2
		}
		var line, low, high []xy
		for i := range steps + 1 {
			b := end * float64(i) / steps
			ms, lo, hi := l.at(b)
			at := x.at(b)
			if y.holds(ms) {
				line = append(line, xy{at, y.at(ms)})
			}
			if !math.IsNaN(lo) {
				low, high = append(low, xy{at, y.clamped(lo)}), append(high, xy{at, y.clamped(hi)})
			}
		}
		p.area(l.class+" band", low, high)
		p.lines(l.class+" line", line)
	}
	var errors []xy
	for _, q := range points {
		if v := l.of(q); v != nil && v.StandardErrorMS > 0 {
			at := x.clamped(q.Batch)
			errors = append(errors, xy{at, y.clamped(v.MS - 1.96*v.StandardErrorMS)}, xy{at, y.clamped(v.MS + 1.96*v.StandardErrorMS)})
		}
	}
	p.segments(l.class+" error", errors...)
	var dots []xy
	for _, q := range points {
		switch v := l.of(q); {
		case v == nil || !(v.MS > 0):
		case v.Used:
			dots = append(dots, xy{x.clamped(q.Batch), y.clamped(v.MS)})
		default:
			p.outlier(xy{x.clamped(q.Batch), y.clamped(v.MS)}, says(q, parameters.Brief(v.MS)+" ms"))
		}
	}
	p.dots(l.class, dots)
	return figure{ID: id, Title: l.name + " over the batch size", Text: l.words(points, used, out), SVG: p.svg(id + "-t")}, true
}

// says is what a point says when it is pointed at.
func says(q parameters.Point, what string) string {
	text := "batch " + batch(q.Batch) + ": " + what
	if len(q.LeftOut) > 0 {
		text += "; " + shortened(q.LeftOut[0], 100)
	}
	return text
}

// drawCurve draws what was measured where no line holds: everywhere, or beyond a bend.
func (l latency) drawCurve(p *plot) {
	var line, low, high []xy
	for _, s := range l.curve {
		if l.at != nil && (l.line == nil || l.line.BendFrom == nil || s.Batch < l.line.LinearTo) {
			continue
		}
		x := p.x.clamped(s.Batch)
		line = append(line, xy{x, p.y.clamped(s.MS)})
		low, high = append(low, xy{x, p.y.clamped(s.Low)}), append(high, xy{x, p.y.clamped(s.High)})
	}
	if len(line) > 1 {
		p.area("server band", low, high)
		p.lines("curve", line)
	}
}

// words say what overBatch shows.
func (l latency) words(points []parameters.Point, used, out int) string {
	var first, last *parameters.Point
	for i := range points {
		if v := l.of(points[i]); v != nil && v.MS > 0 {
			if first == nil || points[i].Batch < first.Batch {
				first = &points[i]
			}
			if last == nil || points[i].Batch > last.Batch {
				last = &points[i]
			}
		}
	}
	text := fmt.Sprintf("%s ms at batch %s, %s ms at batch %s.", parameters.Brief(l.of(*first).MS), batch(first.Batch), parameters.Brief(l.of(*last).MS), batch(last.Batch))
	if first == last {
		text = fmt.Sprintf("%s ms at batch %s.", parameters.Brief(l.of(*first).MS), batch(first.Batch))
	}
	if l.line != nil && l.at != nil {
		text += " " + l.line.Words()
	} else {
		text += " No line is published."
	}
	if l.line != nil && l.line.BendFrom != nil {
		text += fmt.Sprintf(" Between the batches %s and %s it bends: the line holds below.", batch(l.line.LinearTo), batch(*l.line.BendFrom))
	}
	if out > 0 && used > 0 {
		text += fmt.Sprintf(" %s left out (diamonds).", parameters.Counted(out, "point"))
	}
	return text
}

// residuals show how far the lines are off at each point.
func residuals(id string, p parameters.Parameters) (figure, bool) {
	const most = 100.0 // percent: what is further off is drawn at the edge
	points := p.Fit.Points
	_, x := batches(points)
	worst, where := 0.0, ""
	both := latencies(p)
	for _, l := range both {
		for _, q := range points {
			if v := l.of(q); v != nil && v.ErrorPercent != nil && v.Used && math.Abs(*v.ErrorPercent) >= worst {
				worst, where = math.Abs(*v.ErrorPercent), fmt.Sprintf("%s at batch %s, %+.2g %%", l.name, batch(q.Batch), *v.ErrorPercent)
			}
		}
	}
	if where == "" {
		return figure{}, false
	}
	extent := worst
	for _, l := range both {
		for _, q := range points {
			if v := l.of(q); v != nil && v.ErrorPercent != nil {
				extent = max(extent, math.Abs(*v.ErrorPercent))
			}
		}
	}
	extent = min(max(1, extent), 4*max(worst, 1), most)
	y := around([]float64{-extent, extent}, height-bottom, top, 5)
	d := newPlot(height, x, y, "batch, doubling", "predicted against measured, %")
	d.segments("axis", xy{left, y.at(0)}, xy{width - right, y.at(0)})
	for i, l := range both {
		shift := []float64{-3, 3}[i] // so that both can be seen
		var dots []xy
		for _, q := range points {
			v := l.of(q)
			if v == nil || v.ErrorPercent == nil || !(q.Batch > 0) {
				continue
			}
			if at := (xy{x.at(q.Batch) + shift, y.clamped(*v.ErrorPercent)}); v.Used {
				dots = append(dots, at)
			} else {
				d.outlier(at, says(q, fmt.Sprintf("%s %+.3g %%", l.name, *v.ErrorPercent)))
			}
		}
		d.dots(l.class, dots)
	}
	return figure{ID: id, Title: "Residuals", SVG: d.svg(id + "-t"),
		Text: "How far each line is off at each point. Largest of the points used: " + where + "."}, true
}

// spread shows how the requests of each batch are distributed.
func spread(id, name, class string, ms []measurement.Measurement, of func(*measurement.Witness) *measurement.Estimate) (figure, bool) {
	type box struct {
		batch float64
		q     *measurement.Quantiles
	}
	var boxes []box
	var points []parameters.Point
	var values []float64
	for _, m := range ms {
		if m.Client == nil || of(m.Client) == nil || of(m.Client).Quantiles == nil || m.Taken.Batch <= 0 {
			continue
		}
		b := box{m.Taken.Batch, of(m.Client).Quantiles}
		boxes, points = append(boxes, b), append(points, parameters.Point{Batch: b.batch})
		values = append(values, b.q.P10, b.q.P90, b.q.P99)
	}
	if len(boxes) == 0 {
		return figure{}, false
	}
	_, x := batches(points)
	y := around(values, height-bottom, top, 5)
	p := newPlot(height, x, y, "batch, doubling", name+" of requests, ms")
	var whole, middle, medians []xy
	for _, b := range boxes {
		at := x.at(b.batch)
		whole = append(whole, xy{at, y.clamped(b.q.P10)}, xy{at, y.clamped(b.q.P90)})
		middle = append(middle, xy{at, y.clamped(b.q.P25)}, xy{at, y.clamped(b.q.P75)})
		medians = append(medians, xy{at - 7, y.clamped(b.q.P50)}, xy{at + 7, y.clamped(b.q.P50)})
	}
	p.segments(class+" error", whole...)
	p.segments(class+" box", middle...)
	p.segments("median", medians...)
	last := boxes[0]
	var tails []xy
	for _, b := range boxes {
		tails = append(tails, xy{x.at(b.batch), y.clamped(b.q.P99)})
		if b.batch > last.batch {
			last = b
		}
	}
	p.dots(class+" tail", tails)
	return figure{ID: id, Title: name + " among requests", SVG: p.svg(id + "-t"),
		Text: fmt.Sprintf("As the client saw it. At batch %s the median is %s, the 99th percentile %s ms.",
			batch(last.batch), parameters.Brief(last.q.P50), parameters.Brief(last.q.P99))}, true
}

// course shows ITL over the time of each point, as far as it departs from what was
// taken, one strip for each batch.
func course(id string, ms []measurement.Measurement) (figure, bool) {
	ms = slices.DeleteFunc(slices.Clone(ms), func(m measurement.Measurement) bool {
		return len(coursesOf(m)) == 0 || m.Taken.ITL == nil
	})
	if len(ms) == 0 {
		return figure{}, false
	}
	// As wide as what the steady windows hold, so that a start-up of ten times that
	// does not flatten them; and never narrower than what nobody cares about.
	longest, extent := 0.0, 3.0
	worst, where := 0.0, ""
	for _, m := range ms {
		begin := beginOf(m)
		for _, w := range coursesOf(m) {
			longest = max(longest, w.StartedAt-begin+w.SpanSeconds*float64(len(w.ITLMS)))
			for i, v := range w.ITLMS {
				at := w.StartedAt + (float64(i)+0.5)*w.SpanSeconds
				if v == nil || m.Client == nil || at < m.Client.WindowStart || at > m.Client.WindowStart+m.Client.WindowSeconds {
					continue
				}
				if off := 100 * (*v/m.Taken.ITL.MS - 1); math.Abs(off) > math.Abs(worst) {
					worst, where = off, fmt.Sprintf("batch %d after %s s", m.BatchSize, parameters.Brief(math.Round(10*(at-begin))/10))
				}
			}
		}
	}
	extent = min(max(extent, 1.2*math.Abs(worst)), 60)
	const strip = 26.0
	h := top + strip*float64(len(ms)) + bottom
	p := &plot{drawing: newDrawing(width, h), x: scale{low: 0, high: longest, from: left, to: width - right}}
	p.text("", 2, 12, "batch")
	p.text("e", width-right, 12, fmt.Sprintf("a strip is ±%s %% high", strconv.FormatFloat(extent, 'f', 0, 64)))
	for k, m := range ms {
		y := scale{low: -extent, high: extent, from: top + strip*float64(k+1) - 2, to: top + strip*float64(k) + 2}
		begin := beginOf(m)
		if c := m.Client; c != nil && c.WindowSeconds > 0 {
			from, to := p.x.clamped(c.WindowStart-begin), p.x.clamped(c.WindowStart+c.WindowSeconds-begin)
			p.rect("steady", from, y.to, to-from, y.from-y.to)
		}
		p.segments("grid", xy{left, y.at(0)}, xy{width - right, y.at(0)})
		p.text("e", left-textGap, y.at(0)+3.5, strconv.Itoa(m.BatchSize))
		for _, w := range coursesOf(m) {
			var runs [][]xy
			var run []xy
			for i, v := range w.ITLMS {
				if v == nil {
					runs, run = append(runs, run), nil
					continue
				}
				at := p.x.clamped(w.StartedAt - begin + (float64(i)+0.5)*w.SpanSeconds)
				run = append(run, xy{at, y.clamped(100 * (*v/m.Taken.ITL.MS - 1))})
			}
			p.lines(w.class, append(runs, run)...)
		}
	}
	p.xAxis(h-bottom, "seconds since the first request")
	text := "How ITL departed from what was taken while each point was measured."
	if where != "" {
		text += fmt.Sprintf(" Furthest off in a steady window: %+.2g %%, %s.", worst, where)
	}
	return figure{ID: id, Title: "ITL over the run", Text: text, SVG: p.svg(id + "-t")}, true
}

type witnessCourse struct {
	*measurement.Course
	class string
}

// coursesOf are the courses of ITL that a measurement holds: the server's below the
// client's.
func coursesOf(m measurement.Measurement) []witnessCourse {
	var list []witnessCourse
	for _, w := range []struct {
		of    *measurement.Witness
		class string
	}{{m.Server, "server line"}, {m.Client, "itl line"}} {
		if w.of != nil && w.of.Course != nil && w.of.Course.SpanSeconds > 0 && len(w.of.Course.ITLMS) > 0 {
			list = append(list, witnessCourse{w.of.Course, w.class})
		}
	}
	return list
}

func beginOf(m measurement.Measurement) float64 {
	if m.Client != nil && m.Client.Course != nil {
		return m.Client.Course.StartedAt
	}
	return m.StartedAt
}

// bar is one row of a comparison: a latency from a small batch to a large one.
type bar struct {
	label          string
	low, high      float64 // ms, at the small and at the large batch
	lowErr, highEr [2]float64
}

// compared shows a latency of several sets side by side.
func compared(id, title, text, class, unit string, bars []bar) figure {
	const row = 30.0
	h := 6 + row*float64(len(bars)) + bottom
	values := []float64{0}
	for _, b := range bars {
		values = append(values, b.low, b.high)
	}
	x := around(values, 10, width-12, 6)
	p := &plot{drawing: newDrawing(width, h), x: x}
	var grid []xy
	for _, v := range x.ticks(7) {
		grid = append(grid, xy{x.at(v), 6}, xy{x.at(v), h - bottom})
	}
	p.segments("grid", grid...)
	var spans, errors []xy
	for i, b := range bars {
		y := 6 + row*float64(i) + 22
		p.text("", 10, y-9, shortened(b.label, 48))
		spans = append(spans, xy{x.at(b.low), y}, xy{x.at(b.high), y})
		for _, e := range [][2]float64{b.lowErr, b.highEr} {
			if !math.IsNaN(e[0]) && e[1] > e[0] {
				errors = append(errors, xy{x.clamped(e[0]), y}, xy{x.clamped(e[1]), y})
			}
		}
	}
	p.segments(class+" span", spans...)
	p.segments(class+" interval", errors...)
	p.dots(class, spans)
	base := h - bottom
	marks := []xy{{10, base}, {width - 12, base}}
	for _, v := range x.ticks(7) {
		marks = append(marks, xy{x.at(v), base}, xy{x.at(v), base + tickLength})
		text := tick(v)
		class, at := "m", x.at(v)
		if at+3.2*float64(len(text)) > width-2 {
			class, at = "e", width-2
		}
		p.text(class, at, base+14, text)
	}
	p.segments("axis", marks...)
	p.text("m", width/2, base+29, unit)
	return figure{ID: id, Title: title, Text: text, SVG: p.svg(id + "-t")}
}

// batch writes a measured batch: the number asked for where it is hardly off.
func batch(b float64) string {
	if whole := math.Round(b); whole > 0 && math.Abs(b/whole-1) < 0.005 {
		return parameters.Brief(whole)
	}
	return parameters.Brief(b)
}

// shortened is a text of at most n characters.
func shortened(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
