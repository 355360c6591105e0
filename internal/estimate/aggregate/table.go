package aggregate

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
)

// detailed is how many sets of parameters are printed in full; a fleet gets the
// overview only.
const detailed = 12

// Print writes the summary for people.
func Print(w io.Writer, s parameters.Summary) error {
	t := &table{w: w}
	t.line("linear4: ITL = alpha + beta*batch, TTFT = gamma + delta*promptTokens*batch (ms)")
	if len(s.Parameters) <= detailed {
		for _, p := range s.Parameters {
			t.line("")
			t.one(p)
		}
	}
	if len(s.Parameters) != 1 {
		t.line("")
		t.overview(s)
	}
	for _, j := range s.Joint {
		t.line("")
		t.joint(j, len(s.Joint) <= detailed)
	}
	for _, f := range s.Failures {
		where := f.Accelerator
		if f.Shape != nil {
			where += ", " + f.Shape.String()
		}
		t.line("")
		t.line("%s: no parameters", where)
		t.list(f.Reasons)
	}
	if s.Totals.Points > 0 {
		t.line("")
		t.line("%s, %.1f min measured, %.1f min beside the measuring", counted(s.Totals.Points, "point"), s.Totals.Seconds/60, s.Totals.OverheadSeconds/60)
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

func (t *table) list(lines []string) {
	for _, l := range lines {
		t.line("  - %s", l)
	}
}

// columns writes rows of cells under each other, right-aligned.
func (t *table) columns(rows [][]string) {
	if t.err != nil {
		return
	}
	tw := tabwriter.NewWriter(t.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		fmt.Fprintln(tw, strings.Join(row, "\t")+"\t")
	}
	t.err = tw.Flush()
}

func (t *table) one(p parameters.Parameters) {
	t.line("%s on %s, %s tokens: %s (%s over %s batch)", p.Model, p.Accelerator, p.Shape, strings.ToUpper(string(p.Verdict.Level)), p.Fit.Method, p.Fit.Batch)
	t.list(p.Verdict.Reasons)
	units := map[string]string{"alpha": "ms", "beta": "ms per request", "gamma": "ms", "delta": "ms per token and request"}
	var rows [][]string
	for _, name := range parameters.Names {
		value, low, high, ok := p.Parameter(name)
		switch {
		case !ok:
			continue
		case math.IsNaN(low):
			rows = append(rows, []string{name, parameters.Format(value), "", "no interval", units[name]})
		default:
			rows = append(rows, []string{name, parameters.Format(value), fmt.Sprintf("±%.2g %%", 50*(high-low)/value),
				fmt.Sprintf("95 %% [%s, %s]", parameters.Format(low), parameters.Format(high)), units[name]})
		}
	}
	t.columns(rows)
	for _, d := range []struct {
		name string
		line *parameters.Line
	}{{"ITL", p.Fit.Diagnostics.ITL}, {"TTFT", p.Fit.Diagnostics.TTFT}} {
		if d.line == nil {
			continue
		}
		text := fmt.Sprintf("  %s: %s up to batch %.4g, largest error %.2f %%, RMSE %.4f ms", d.name, counted(d.line.PointsUsed, "point"), d.line.LinearTo, d.line.LargestErrorPercent, d.line.RMSEMS)
		if d.line.R2 != nil {
			text += fmt.Sprintf(", R2 %.4f", *d.line.R2)
		}
		if d.line.BendFrom != nil {
			text += fmt.Sprintf("; bends before batch %.4g", *d.line.BendFrom)
		}
		t.line("%s", text)
	}

	rows = [][]string{{"batch", "measured", "ITL ms", "predicted", "error", "from", "TTFT ms", "predicted", "error", "from"}}
	var notes []string
	for _, q := range p.Fit.Points {
		row := []string{fmt.Sprint(q.BatchSize), fmt.Sprintf("%.4g", q.Batch)}
		row = append(row, cells(q.ITL)...)
		row = append(row, cells(q.TTFT)...)
		rows = append(rows, row)
		if text := plainly(q); text != "" {
			notes = append(notes, fmt.Sprintf("batch %d: %s", q.BatchSize, text))
		}
		for _, r := range q.LeftOut {
			notes = append(notes, fmt.Sprintf("batch %d left out: %s", q.BatchSize, r))
		}
	}
	t.columns(rows)
	t.list(notes)
	t.verify(p)
}

// plainly says what a plain report would have said of a point, where that differs
// noticeably from what was taken.
func plainly(q parameters.Point) string {
	const noticeable = 0.03
	if q.Plain == nil || q.ITL == nil || q.TTFT == nil {
		return ""
	}
	off := func(plain, taken float64) bool { return math.Abs(plain/taken-1) > noticeable }
	if !off(q.Plain.ITLMS, q.ITL.MS) && !off(q.Plain.TTFTMS, q.TTFT.MS) && !off(q.Plain.Batch, q.Batch) {
		return ""
	}
	return fmt.Sprintf("a plain report, with start-up, drain and the client's own delays in it, would have said ITL %.4g ms and TTFT %.4g ms at %.4g requests together",
		q.Plain.ITLMS, q.Plain.TTFTMS, q.Plain.Batch)
}

// formulas of the joint models.
var formulas = map[string]string{
	fit.Iteration3: "ITL = alpha + n*(beta*(in+out)/(out+1) + gamma*(in+out/2)) + beta + gamma*(in+(out+1)/2)",
	fit.Engine:     "ITL = base + decoding*(seq + ctx*(in+out/2)) + prefills*(pre*in + pre2*in^2), TTFT = first + first_pre*in + first_pre2*in^2 + first_wait*ITL",
}

// joint is a model of all shapes; its letters are not those of linear4.
func (t *table) joint(j parameters.Joint, inFull bool) {
	t.line("%s of %s on %s, %d shapes together: %s", j.Fit, j.Model, j.Accelerator, j.Shapes, strings.ToUpper(string(j.Verdict.Level)))
	t.list(j.Verdict.Reasons)
	if j.Verdict.Level == fit.Refused {
		return
	}
	t.line("  %s (ms)", formulas[j.Fit])
	var rows [][]string
	for _, e := range j.Terms {
		switch {
		case e.Dropped != "":
			rows = append(rows, []string{j.Fit + "." + e.Name, "0", "", e.Dropped, e.Unit})
		case e.Interval == nil:
			rows = append(rows, []string{j.Fit + "." + e.Name, parameters.Format(e.Value), "", "no interval", e.Unit})
		default:
			rows = append(rows, []string{j.Fit + "." + e.Name, parameters.Format(e.Value), fmt.Sprintf("±%.2g %%", 50*(e.Interval.High-e.Interval.Low)/e.Value),
				fmt.Sprintf("95 %% [%s, %s]", parameters.Format(e.Interval.Low), parameters.Format(e.Interval.High)), e.Unit})
		}
	}
	t.columns(rows)
	text := fmt.Sprintf("  ITL: %s", counted(j.PointsUsed, "point"))
	for _, e := range []struct {
		name  string
		value *float64
	}{{"mean error", j.MeanErrorPercent}, {"largest", j.LargestErrorPercent}, {"of a shape left out of the fit", j.LeftOutErrorPercent}, {"TTFT: mean error", j.TTFTErrorPercent}} {
		if e.value != nil {
			text += fmt.Sprintf(", %s %.2f %%", e.name, *e.value)
		}
	}
	t.line("%s", text)
	if !inFull {
		return
	}
	rows = [][]string{{"implies at", "batch", "alpha", "beta", "gamma", "delta", "ITL against measured linear4", "TTFT"}}
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
func cells(v *parameters.Value) []string {
	if v == nil {
		return []string{"-", "", "", ""}
	}
	ms := fmt.Sprintf("%.4g", v.MS)
	if !v.Used {
		ms = "(" + ms + ")"
	}
	if v.PredictedMS == nil {
		return []string{ms, "", "", v.From + " " + v.Statistic}
	}
	return []string{ms, fmt.Sprintf("%.4g", *v.PredictedMS), fmt.Sprintf("%+.2f %%", *v.ErrorPercent), v.From + " " + v.Statistic}
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
		t.line("  check at batch %d: %s; %s", q.BatchSize, check("ITL", q.ITL), check("TTFT", q.TTFT))
	}
}

// overview is one line for each set of parameters.
func (t *table) overview(s parameters.Summary) {
	rows := [][]string{{"model", "accelerator", "shape", "verdict", "alpha", "beta", "gamma", "delta"}}
	for _, p := range s.Parameters {
		row := []string{p.Model, p.Accelerator, p.Shape.String(), string(p.Verdict.Level)}
		for _, name := range parameters.Names {
			cell := "-"
			if value, low, high, ok := p.Parameter(name); ok {
				cell = parameters.Format(value)
				if !math.IsNaN(low) {
					cell += fmt.Sprintf(" ±%.2g %%", 50*(high-low)/value)
				}
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	t.columns(rows)
	if len(s.Parameters) <= detailed {
		return
	}
	for _, p := range s.Parameters {
		if p.Verdict.Level == fit.Refused {
			t.line("%s, %s: refused", p.Accelerator, p.Shape)
			t.list(p.Verdict.Reasons)
		}
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

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
