package page

import (
	"html"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"

	"wfgen.dev/internal/estimate/parameters"
)

// drawing writes one SVG. Its colours, widths and fonts are classes of the page's
// style, so that dark mode and paper reach them; text is escaped here and nowhere else.
type drawing struct {
	b    strings.Builder
	w, h float64
}

type xy struct{ x, y float64 }

func newDrawing(w, h float64) *drawing { return &drawing{w: w, h: h} }

// svg is the whole picture. The element labelledBy says what it shows.
func (d *drawing) svg(labelledBy string) template.HTML {
	return template.HTML(`<svg viewBox="0 0 ` + px(d.w) + ` ` + px(d.h) + `" role="img" aria-labelledby="` + html.EscapeString(labelledBy) + `">` + d.b.String() + `</svg>`) //nolint:gosec // text was escaped when it was drawn
}

// px is a coordinate: a tenth of a pixel is more than can be seen.
func px(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		v = 0
	}
	text := strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
	if text == "-0" {
		return "0"
	}
	return text
}

func (d *drawing) write(parts ...string) {
	for _, p := range parts {
		d.b.WriteString(p)
	}
}

// segments are lines from the first to the second of each pair of points.
func (d *drawing) segments(class string, ends ...xy) {
	if len(ends) < 2 {
		return
	}
	d.write(`<path class="`, class, `" d="`)
	for i := 0; i+1 < len(ends); i += 2 {
		a, b := ends[i], ends[i+1]
		d.write("M", px(a.x), " ", px(a.y))
		switch {
		case a.y == b.y:
			d.write("H", px(b.x))
		case a.x == b.x:
			d.write("V", px(b.y))
		default:
			d.write("L", px(b.x), " ", px(b.y))
		}
	}
	d.write(`"/>`)
}

// lines are connected runs of points.
func (d *drawing) lines(class string, runs ...[]xy) {
	var path strings.Builder
	for _, run := range runs {
		if len(run) == 1 { // a value alone between two spans without one
			run = []xy{{run[0].x - 1, run[0].y}, {run[0].x + 1, run[0].y}}
		}
		trace(&path, run)
	}
	if path.Len() > 0 {
		d.write(`<path class="`, class, `" d="`, path.String(), `"/>`)
	}
}

// trace writes a run of points, each from the one before: a page has thousands.
func trace(path *strings.Builder, run []xy) {
	at := xy{}
	for i, p := range run {
		p = xy{math.Round(10*p.x) / 10, math.Round(10*p.y) / 10}
		switch i {
		case 0:
			path.WriteString("M" + px(p.x) + " " + px(p.y))
		case 1:
			path.WriteString("l" + px(p.x-at.x) + separated(p.y-at.y))
		default:
			path.WriteString(separated(p.x-at.x) + separated(p.y-at.y))
		}
		at = p
	}
}

// separated is a coordinate after another one, from which a minus separates it.
func separated(v float64) string {
	if text := px(v); text[0] == '-' {
		return text
	}
	return " " + px(v)
}

// area lies between two runs of points with the same x.
func (d *drawing) area(class string, low, high []xy) {
	if len(low) < 2 {
		return
	}
	around := slices.Clone(high)
	slices.Reverse(around)
	var path strings.Builder
	trace(&path, slices.Concat(low, around))
	d.write(`<path class="`, class, `" d="`, path.String(), `z"/>`)
}

func (d *drawing) rect(class string, x, y, w, h float64) {
	d.write(`<rect class="`, class, `" x="`, px(x), `" y="`, px(y), `" width="`, px(w), `" height="`, px(h), `"/>`)
}

// group gives all that draw draws a class.
func (d *drawing) group(class string, draw func()) {
	d.write(`<g class="`, class, `">`)
	draw()
	d.write(`</g>`)
}

// text is anchored at its start, or by class "m" at its middle and "e" at its end.
func (d *drawing) text(class string, x, y float64, s string) {
	d.write(`<text`)
	if class != "" {
		d.write(` class="`, class, `"`)
	}
	d.write(` x="`, px(x), `" y="`, px(y), `">`, html.EscapeString(s), `</text>`)
}

// dots are points.
func (d *drawing) dots(class string, points []xy) {
	if len(points) == 0 {
		return
	}
	d.write(`<path class="`, class, ` dot" d="`)
	for _, p := range points {
		d.write("M", px(p.x), " ", px(p.y), "h0")
	}
	d.write(`"/>`)
}

// outlier is a point that was left out, with what it says when it is pointed at: a
// diamond, which can be told from a dot without its colour.
func (d *drawing) outlier(p xy, says string) {
	d.write(`<path class="out" d="M`, px(p.x), ` `, px(p.y-4.5), `l4.5 4.5l-4.5 4.5l-4.5-4.5z"><title>`, html.EscapeString(says), `</title></path>`)
}

// scale maps values to pixels, by their logarithm where they double.
type scale struct {
	low, high float64 // values
	from, to  float64 // pixels
	log       bool
}

func (s scale) at(v float64) float64 {
	low, high := s.low, s.high
	if s.log {
		low, high, v = math.Log(low), math.Log(high), math.Log(v)
	}
	return s.from + (v-low)/(high-low)*(s.to-s.from)
}

// clamped is at, kept on the axis.
func (s scale) clamped(v float64) float64 {
	return s.at(max(s.low, min(s.high, v)))
}

func (s scale) holds(v float64) bool {
	slack := 1e-9 * (s.high - s.low)
	return v >= s.low-slack && v <= s.high+slack
}

// ticks are the labelled values of an axis: multiples of 1, 2 or 5 times a power of
// ten, about n of them; powers of two where values double, fewer where many.
func (s scale) ticks(n int) []float64 {
	var list []float64
	if s.log {
		factor := 2.0
		for math.Log(s.high/s.low)/math.Log(factor) > float64(n) {
			factor *= 2
		}
		for v := 1.0; v <= s.high*1.0001; v *= factor {
			if s.holds(v) {
				list = append(list, v)
			}
		}
		return list
	}
	step := niceStep((s.high - s.low) / float64(n))
	for i := math.Ceil(s.low/step - 1e-9); i*step <= s.high+1e-9*step; i++ {
		list = append(list, i*step)
	}
	return list
}

// niceStep is the smallest of 1, 2 and 5 times a power of ten that is not below x.
func niceStep(x float64) float64 {
	if !(x > 0) || math.IsInf(x, 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= x*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// around is a scale that ends at ticks and holds all values, with a little room.
func around(values []float64, from, to float64, n int) scale {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			low, high = min(low, v), max(high, v)
		}
	}
	if !(low <= high) {
		low, high = 0, 1
	}
	if room := 0.04 * (high - low); room > 0 {
		low, high = max(low-room, min(low, 0)), high+room
	} else {
		low, high = low-0.05*math.Abs(low), high+0.05*math.Abs(high)+1e-9
	}
	step := niceStep((high - low) / float64(n))
	return scale{low: step * math.Floor(low/step+1e-9), high: step * math.Ceil(high/step-1e-9), from: from, to: to}
}

// tick writes a value beside an axis, where there is little room.
func tick(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return parameters.Brief(v/1e6) + "M"
	case a >= 1e4:
		return parameters.Brief(v/1e3) + "k"
	}
	return parameters.Brief(v)
}
