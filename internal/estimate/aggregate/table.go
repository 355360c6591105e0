package aggregate

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep/linear4"
)

// Limits of what is printed without being asked for.
const (
	detailed = 4 // sets of parameters whose points are shown
	remarks  = 8 // things to know

	longestName = 24 // of an accelerator, among the numbers
)

// Print writes the summary for people: the answer, the numbers, then what to know of
// them. Verbose, it goes on with everything that is known of each set, beside what a
// plain report would have said.
func Print(w io.Writer, s parameters.Summary, verbose bool) error {
	t := &table{w: w}
	t.wrapped("", strings.ToUpper(string(s.Verdict))+": "+s.Answer())
	if len(s.Parameters) > 0 {
		t.line("")
		t.overview(s)
	}
	for _, p := range s.Parameters {
		if len(s.Parameters) <= detailed && len(p.Fit.Points) > 0 {
			t.line("")
			t.points(p)
		}
	}
	if fitted := slices.DeleteFunc(slices.Clone(s.Joint), func(j parameters.Joint) bool { return j.Verdict.Level == fit.Refused }); len(fitted) > 0 {
		t.line("")
		for _, j := range fitted {
			t.wrapped("", inBrief(j))
		}
	}
	t.remarks(s, verbose)
	if verbose {
		for _, p := range s.Parameters {
			t.line("")
			t.one(p)
		}
		for _, j := range s.Joint {
			t.line("")
			t.joint(j)
		}
	}
	if s.Totals.Points > 0 {
		t.line("")
		t.line("%s, %.1f min measured, %.1f min of overhead", parameters.Counted(s.Totals.Points, "point"), s.Totals.Seconds/60, s.Totals.OverheadSeconds/60)
	}
	return t.err
}

// table remembers the first error of a writer.
type table struct {
	w   io.Writer
	err error
}

func (t *table) line(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format+"\n", args...)
	}
}

// wrapped writes a text in lines that a terminal holds.
func (t *table) wrapped(indent, text string) {
	for _, line := range parameters.Wrapped(indent, text) {
		t.line("%s", line)
	}
}

func (t *table) bullets(lines []string) {
	for _, l := range lines {
		t.wrapped("  ", "- "+l)
	}
}

// columns writes rows of cells under each other, right-aligned.
func (t *table) columns(rows [][]string) {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		fmt.Fprintln(tw, strings.Join(row, "\t")+"\t")
	}
	_ = tw.Flush() // into memory
	for line := range strings.Lines(b.String()) {
		t.line("%s", strings.TrimRight(line, " \n"))
	}
}

func (t *table) one(p parameters.Parameters) {
	t.wrapped("", fmt.Sprintf("%s on %s, %s tokens: %s (%s over %s batch)", p.Model, p.Accelerator, p.Shape, p.Verdict.Level, p.Fit.Method, p.Fit.Batch))
	t.bullets(p.Verdict.Reasons)
	var rows [][]string
	for _, parameter := range linear4.Parameters {
		name := parameter.Name
		value, low, high, ok := p.Parameter(name)
		switch {
		case !ok:
			continue
		case math.IsNaN(low):
			rows = append(rows, []string{name, parameters.Format(value), "", "no interval", parameter.Unit})
		default:
			rows = append(rows, []string{name, parameters.Format(value), parameters.Within(value, low, high),
				fmt.Sprintf("95 %% [%s, %s]", parameters.Format(low), parameters.Format(high)), parameter.Unit})
		}
	}
	t.columns(rows)
	for _, d := range lines(p) {
		text := fmt.Sprintf("%s: %s up to batch %.4g, RMSE %.4f ms", d.name, parameters.Counted(d.line.PointsUsed, "point"), d.line.LinearTo, d.line.RMSEMS)
		if d.line.R2 != nil {
			text += fmt.Sprintf(", R2 %.4f", *d.line.R2)
		}
		if d.line.BendFrom != nil {
			text += fmt.Sprintf("; bends before batch %.4g", *d.line.BendFrom)
		}
		t.wrapped("  ", text+". "+d.line.Words())
	}
	t.beyond(p)

	rows = [][]string{{"batch", "measured", "ITL ms", "line", "error", "from", "TTFT ms", "line", "error", "from"}}
	var notes []string
	plain := [][]string{{"batch", "ITL ms", "TTFT ms", "requests together"}}
	for _, q := range p.Fit.Points {
		row := []string{fmt.Sprint(q.BatchSize), fmt.Sprintf("%.4g", q.Batch)}
		row = append(row, cells(q.ITL, q.Basis)...)
		row = append(row, cells(q.TTFT, q.Basis)...)
		rows = append(rows, row)
		if q.Plain != nil {
			plain = append(plain, []string{fmt.Sprint(q.BatchSize), parameters.Brief(q.Plain.ITLMS), parameters.Brief(q.Plain.TTFTMS), parameters.Brief(q.Plain.Batch)})
		}
		for _, r := range q.LeftOut {
			notes = append(notes, fmt.Sprintf("batch %d left out: %s", q.BatchSize, r))
		}
	}
	t.columns(rows)
	t.bullets(notes)
	if len(plain) > 1 {
		t.line("  A plain report, with start-up, drain and the client's own delays in it, would have said:")
		t.columns(plain)
	}
	t.verify(p)
}

// formulas of the joint models.
var formulas = map[string]string{
	fit.Iteration3: "ITL = alpha + n*(beta*(in+out)/(out+1) + gamma*(in+out/2)) + beta + gamma*(in+(out+1)/2)",
	fit.Engine:     "ITL = base + decoding*(seq + ctx*(in+out/2)) + prefills*(pre*in + pre2*in^2), TTFT = first + first_pre*in + first_pre2*in^2 + first_wait*ITL",
}

// joint is a model of all shapes; its letters are not those of linear4.
func (t *table) joint(j parameters.Joint) {
	t.line("%s of %s on %s, %d shapes together: %s", j.Fit, j.Model, j.Accelerator, j.Shapes, strings.ToUpper(string(j.Verdict.Level)))
	t.bullets(j.Verdict.Reasons)
	if j.Verdict.Level == fit.Refused {
		return
	}
	t.wrapped("  ", formulas[j.Fit]+" (ms)")
	var rows [][]string
	for _, e := range j.Terms {
		switch {
		case e.Dropped != "":
			rows = append(rows, []string{j.Fit + "." + e.Name, "0", "", e.Dropped, e.Unit})
		case e.Interval == nil:
			rows = append(rows, []string{j.Fit + "." + e.Name, parameters.Format(e.Value), "", "no interval", e.Unit})
		default:
			rows = append(rows, []string{j.Fit + "." + e.Name, parameters.Format(e.Value), parameters.Within(e.Value, e.Interval.Low, e.Interval.High),
				fmt.Sprintf("95 %% [%s, %s]", parameters.Format(e.Interval.Low), parameters.Format(e.Interval.High)), e.Unit})
		}
	}
	t.columns(rows)
	for _, e := range j.Terms {
		if e.BandwidthPercent != nil {
			t.wrapped("  ", fmt.Sprintf("%s reads at %s", e.Name, parameters.Bandwidth(*e.BandwidthPercent)))
		}
	}
	text := fmt.Sprintf("ITL: %s", parameters.Counted(j.PointsUsed, "point"))
	for _, e := range []struct {
		name  string
		value *float64
	}{{"mean error", j.MeanErrorPercent}, {"largest", j.LargestErrorPercent}, {"of a shape left out of the fit", j.LeftOutErrorPercent}, {"TTFT: mean error", j.TTFTErrorPercent}} {
		if e.value != nil {
			text += fmt.Sprintf(", %s %.2f %%", e.name, *e.value)
		}
	}
	t.wrapped("  ", text)
	rows = [][]string{{"implies at", "batch", "alpha", "beta", "gamma", "delta", "ITL vs. own", "TTFT"}}
	for _, i := range j.Linear4 {
		row := []string{i.Shape.String(), fmt.Sprintf("%.3g to %.4g", i.Batch[0], i.Batch[1]),
			parameters.Format(i.Alpha), parameters.Format(i.Beta), parameters.Format(i.Gamma), parameters.Format(i.Delta)}
		for _, d := range []*float64{i.ITLDifferencePercent, i.TTFTDifferencePercent} {
			if d == nil {
				row = append(row, "-")
				continue
			}
			row = append(row, fmt.Sprintf("%+.1f %%", *d))
		}
		rows = append(rows, row)
	}
	t.columns(rows)
}

// cells are the columns of one latency; what the line was not fitted to stands in
// parentheses.
func cells(v *parameters.Value, basis string) []string {
	if v == nil {
		return []string{"-", "", "", ""}
	}
	ms := fmt.Sprintf("%.4g", v.MS)
	if !v.Used {
		ms = "(" + ms + ")"
	}
	from := v.From + " " + v.Statistic
	if v.From == measurement.Client && (basis == measurement.BasisSummary || basis == measurement.BasisConsole) {
		from += ", " + basis
	}
	if v.PredictedMS == nil {
		return []string{ms, "", "", from}
	}
	return []string{ms, fmt.Sprintf("%.4g", *v.PredictedMS), fmt.Sprintf("%+.2f %%", *v.ErrorPercent), from}
}

// verify repeats the check of the two-run recipe: what the parameters say at the
// smallest and at the largest batch beside what was measured there.
func (t *table) verify(p parameters.Parameters) {
	var used []parameters.Point
	for _, q := range p.Fit.Points {
		if q.ITL != nil && q.ITL.Used {
			used = append(used, q)
		}
	}
	if !p.Published() || len(used) == 0 {
		return
	}
	check := func(name string, v *parameters.Value) string {
		if v == nil || v.PredictedMS == nil {
			return name + " not measured"
		}
		return fmt.Sprintf("%s %s ms, measured %s (%+.2f %%)", name, parameters.Format(*v.PredictedMS), parameters.Format(v.MS), *v.ErrorPercent)
	}
	for _, q := range []parameters.Point{used[0], used[len(used)-1]} {
		t.wrapped("  ", fmt.Sprintf("check at batch %d: %s; %s", q.BatchSize, check("ITL", q.ITL), check("TTFT", q.TTFT)))
	}
}

// overview is one line for each set of parameters, under the name of its model.
func (t *table) overview(s parameters.Summary) {
	var rows [][]string
	short := parameters.Shortened(parameters.Distinct(s.Parameters, func(p parameters.Parameters) string { return p.Accelerator }), longestName)
	for i, p := range s.Parameters {
		if i == 0 || p.Model != s.Parameters[i-1].Model {
			rows = append(rows, []string{p.Model})
			rows = append(rows, []string{"accelerator", "shape", "verdict", "alpha", "beta", "gamma", "delta"})
		}
		row := []string{short(p.Accelerator), p.Shape.String(), string(p.Verdict.Level)}
		for _, name := range linear4.Names() {
			cell := "-"
			if value, low, high, ok := p.Parameter(name); ok {
				cell = parameters.Brief(value)
				if !math.IsNaN(low) {
					cell += " " + parameters.Within(value, low, high)
				}
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	for len(rows) > 0 {
		t.line("%s", rows[0][0])
		n := 1
		for n < len(rows) && len(rows[n]) > 1 {
			n++
		}
		t.columns(rows[1:n])
		if rows = rows[n:]; len(rows) > 0 {
			t.line("")
		}
	}
	t.line("  %s (linear4, ms; ±: 95 %%)", linear4.Formula)
}

// points shows what was measured beside the lines, and how it grows.
func (t *table) points(p parameters.Parameters) {
	t.line("%s, %s", p.Accelerator, p.Shape)
	largest := func(of func(parameters.Point) *parameters.Value) float64 {
		ms := 0.0
		for _, q := range p.Fit.Points {
			if v := of(q); v != nil {
				ms = max(ms, v.MS)
			}
		}
		return ms
	}
	itl := func(q parameters.Point) *parameters.Value { return q.ITL }
	ttft := func(q parameters.Point) *parameters.Value { return q.TTFT }
	mostITL, mostTTFT := largest(itl), largest(ttft)
	rows := [][]string{{"batch", "ITL ms", "line", "error", "", "TTFT ms", "line", "error", ""}}
	for _, q := range p.Fit.Points {
		row := []string{fmt.Sprint(q.BatchSize)}
		if whole := float64(q.BatchSize); q.Batch > 0 && math.Abs(q.Batch/whole-1) > mostBatchDifference {
			row[0] += fmt.Sprintf(" (%s)", parameters.Brief(q.Batch))
		}
		row = append(row, beside(q.ITL)...)
		row = append(row, lengthOf(q.ITL, mostITL))
		row = append(row, beside(q.TTFT)...)
		row = append(row, lengthOf(q.TTFT, mostTTFT))
		rows = append(rows, row)
	}
	t.columns(rows)
	for _, d := range lines(p) {
		t.wrapped("  ", d.name+": "+d.line.Words())
	}
	t.beyond(p)
}

// beyond says what earlier runs tell, and how near alpha is to what the accelerator
// can do.
func (t *table) beyond(p parameters.Parameters) {
	if text := p.AcrossWords(); text != "" {
		t.wrapped("  ", text)
	}
	if share := p.Fit.Diagnostics.BandwidthPercent; share != nil {
		t.wrapped("  ", "alpha reads the weights at "+parameters.Bandwidth(*share))
	}
}

// named is a line with the name of its latency.
type named struct {
	name string
	line *parameters.Line
}

// lines are those of the set that are published.
func lines(p parameters.Parameters) []named {
	var all []named
	for _, l := range []struct {
		named
		published *float64
	}{{named{"ITL", p.Fit.Diagnostics.ITL}, p.Alpha}, {named{"TTFT", p.Fit.Diagnostics.TTFT}, p.Gamma}} {
		if l.line != nil && l.published != nil {
			all = append(all, l.named)
		}
	}
	return all
}

// beside are a latency, what the line says, and how far that is off.
func beside(v *parameters.Value) []string {
	if v == nil {
		return []string{"-", "", ""}
	}
	ms := parameters.Brief(v.MS)
	if v.StandardErrorMS > 0 {
		if half := 1.96 * v.StandardErrorMS; half < 1 {
			ms += fmt.Sprintf(" ±%.1g", half)
		} else {
			ms += fmt.Sprintf(" ±%.0f", half)
		}
	}
	if !v.Used {
		ms = "(" + ms + ")"
	}
	if v.PredictedMS == nil {
		return []string{ms, "", ""}
	}
	return []string{ms, parameters.Brief(*v.PredictedMS), fmt.Sprintf("%+.1f %%", *v.ErrorPercent)}
}

// lengthOf draws a latency as a bar, padded to the length of the largest.
func lengthOf(v *parameters.Value, largest float64) string {
	const cells = 10
	if v == nil || !(largest > 0) {
		return strings.Repeat(" ", cells)
	}
	eighths := int(math.Round(8 * cells * v.MS / largest))
	bar := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		bar += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return bar + strings.Repeat(" ", cells-utf8.RuneCountInString(bar))
}

// inBrief is a model of all shapes in a sentence.
func inBrief(j parameters.Joint) string {
	text := fmt.Sprintf("%s of %s on %s, %d shapes together: %s", j.Fit, j.Model, j.Accelerator, j.Shapes, j.Verdict.Level)
	for _, e := range []struct {
		name  string
		value *float64
	}{{"mean error of ITL", j.MeanErrorPercent}, {"of a shape left out", j.LeftOutErrorPercent}} {
		if e.value != nil {
			text += fmt.Sprintf(", %s %.2g %%", e.name, *e.value)
		}
	}
	return text
}

// remarks are what to know: what failed, why sets are refused, why they are warned of,
// each thing once however many sets it concerns.
func (t *table) remarks(s parameters.Summary, verbose bool) {
	var texts []string
	of := map[string][]string{}
	add := func(where, text string) {
		if of[text] == nil {
			texts = append(texts, text)
		}
		of[text] = append(of[text], where)
	}
	for _, f := range s.Failures {
		where := f.Accelerator
		if f.Shape != nil {
			where += " " + f.Shape.String()
		}
		for _, r := range f.Reasons {
			add(where, "no parameters: "+r)
		}
	}
	for _, level := range []fit.Level{fit.Refused, fit.Warned} {
		for _, p := range s.Parameters {
			if p.Verdict.Level == level {
				for _, r := range p.Verdict.Reasons {
					add(p.Accelerator+" "+p.Shape.String(), r)
				}
			}
		}
	}
	var left int // points that a line leaves out
	for _, p := range s.Parameters {
		for _, q := range p.Fit.Points {
			if len(q.LeftOut) > 0 {
				left++
			}
		}
	}
	if len(texts) == 0 && left == 0 {
		return
	}
	t.line("")
	for i, text := range texts {
		if i == remarks && len(texts) > remarks+1 && !verbose {
			t.wrapped("  ", fmt.Sprintf("- and %d more (--verbose, or the report)", len(texts)-remarks))
			break
		}
		where := of[text]
		if n := len(where); n > 3 {
			where = append(slices.Clone(where[:2]), fmt.Sprintf("%d more", n-2))
		}
		t.wrapped("  ", "- "+strings.Join(where, ", ")+": "+text)
	}
	if left > 0 && len(s.Parameters) <= detailed && !verbose {
		t.wrapped("  ", "- in parentheses: left out of the line (--verbose, or the report, says why)")
	}
}

// Refusals says in one line what keeps a summary from being good, or "".
func Refusals(s parameters.Summary) string {
	var bad []string
	for _, p := range s.Parameters {
		if p.Verdict.Level == fit.Refused {
			bad = append(bad, fmt.Sprintf("%s, %s: %s", p.Accelerator, p.Shape, p.Verdict.Reasons[0]))
		}
	}
	for _, f := range s.Failures {
		bad = append(bad, fmt.Sprintf("%s: %s", f.Accelerator, f.Reasons[0]))
	}
	const enough = 5
	if n := len(bad); n > enough {
		bad = append(bad[:enough], fmt.Sprintf("and %d more", n-enough))
	}
	return strings.Join(bad, "; ")
}
