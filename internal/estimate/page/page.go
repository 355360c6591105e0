// Package page makes the report of a sweep that people look at: one HTML file from
// the answer down to the evidence, or the same answer in Markdown. The file has no
// script, asks nobody for anything, and keeps its styles and pictures inside, so that
// it can be read under a strict Content-Security-Policy, in a mail and on paper. It
// does no I/O but writing to an io.Writer.
package page

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/compare"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
)

// Content is what a report is made of.
type Content struct {
	Summary      parameters.Summary
	Capacity     []capacity.Capacity       // where objectives were given
	Measurements []measurement.Measurement // what the pictures of time and distribution are made of; without them these are left out

	Before  string           // what Changes compares with, as the user named it
	Changes []compare.Result // from there to the summary
	Notes   []string         // what could not be compared
}

//go:embed style.css
var style string

//go:embed page.html.tmpl
var source string

var page = template.Must(template.New("page").Parse(source))

// HTML writes the report as one HTML file.
func HTML(w io.Writer, c Content) error {
	var b strings.Builder
	if err := page.Execute(&b, viewOf(c)); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := io.WriteString(w, redact.Clean(b.String()))
	return err
}

// mostOpen is how many sets of parameters are shown in full at once; more are folded,
// each under its name.
const mostOpen = 6

// view is a report as the template reads it: words and pictures, nothing to compute.
type view struct {
	Style         template.CSS
	Title, Answer string
	About         string
	Keys          string // heading of the names of sets
	Level         fit.Level
	Concerns      []concern
	Sections      []section
	Capacity      []bearing
	Bears         []concern // what must be known of those
	Objectives    string    // that the capacity is for
	Comparison    []figure
	Sets          []set
	Joint         []joint
	Provenance    []origin
	Commands      []command
	Before        string
	Changes       []change
	ChangeNotes   []string
}

type section struct{ ID, Title string }

// concern is what a reader must know before he takes a number.
type concern struct{ Where, Text, Cure string }

// set is one set of parameters with its evidence.
type set struct {
	ID, Name  string
	Level     fit.Level
	Cells     []cell
	Formula   string
	Findings  []reason.Reason
	Figures   []figure
	Points    []point
	Witnesses []witnesses
	LeftOut   []string
	Notes     []string
	Open      bool
}

type cell struct{ Value, Within string }

type point struct {
	Nominal   int
	Measured  string
	ITL, TTFT measured
}

type measured struct{ MS, From, Predicted, Error string }

type witnesses struct {
	Batch     int
	ITL, TTFT pair
}

type pair struct{ Client, Other, Differ string }

type joint struct {
	Name, Text string
	Level      fit.Level
	Findings   []reason.Reason
	Terms      []term
}

type term struct{ Name, Value, Interval, Unit string }

// bearing is what one replica bears within the objectives.
type bearing struct {
	Name                                            string
	Level                                           fit.Level
	Rate, InFlight, Most, OutputTokens, Cost, Limit cell
}

// origin is one value of one field of the provenance, and what has it.
type origin struct {
	Field, Value, Of string
	Differs          bool
}

type command struct{ Text, Code string }

type change struct {
	What, Model, Verdict string
	Level                fit.Level
	Rows                 []changed
	Warnings             []string
}

type changed struct{ Name, Old, New, Change, Interval string }

func viewOf(c Content) view {
	s := c.Summary
	names := namesOf(s)
	v := view{Style: template.CSS(style), Level: s.Verdict, Answer: s.Answer(), Title: title(s), About: about(s), Keys: "accelerator"} //nolint:gosec // it is ours
	if names.shapes {
		v.Keys = "accelerator, shape"
	}
	of := measurementsBySet(c.Measurements)
	for i, p := range s.Parameters {
		v.Sets = append(v.Sets, setOf(fmt.Sprintf("set-%d", i+1), names.of(p), p, of[keyOf(p)], len(s.Parameters) <= mostOpen))
	}
	v.Concerns = concerns(s, names)
	v.Comparison = comparison(s, names)
	said := func(reason string) bool {
		return slices.ContainsFunc(s.Parameters, func(p parameters.Parameters) bool { return slices.Contains(p.Verdict.Reasons, reason) })
	}
	for _, one := range c.Capacity {
		v.Capacity = append(v.Capacity, bearingOf(one, names))
		v.Bears = append(v.Bears, bearingNotes(one, names, said)...)
	}
	v.Objectives = objectives(c.Capacity)
	v.Comparison = append(v.Comparison, comparedCapacity(c.Capacity, names)...)
	for _, j := range s.Joint {
		v.Joint = append(v.Joint, jointOf(j))
	}
	v.Provenance = provenance(s, names)
	v.Commands = commands(s, c.Measurements, c.Capacity)
	v.Before, v.ChangeNotes = c.Before, append(driftsOf(s.Drift, names), c.Notes...)
	for _, r := range c.Changes {
		v.Changes = append(v.Changes, changeOf(r))
	}
	for _, x := range []struct {
		section
		there bool
	}{
		{section{"capacity", "Capacity"}, len(v.Capacity) > 0},
		{section{"comparison", "Side by side"}, len(v.Comparison) > 0},
		{section{"evidence", "Evidence"}, len(v.Sets) > 0},
		{section{"joint", "All shapes together"}, len(v.Joint) > 0},
		{section{"provenance", "Provenance"}, len(v.Provenance) > 0},
		{section{"reproduce", "How to do it again"}, len(v.Commands) > 0},
		{section{"changes", "What changed"}, len(v.Changes)+len(v.ChangeNotes) > 0},
	} {
		if x.there {
			v.Sections = append(v.Sections, x.section)
		}
	}
	return v
}

// names says what tells the sets of a summary apart.
type names struct{ models, shapes bool }

func namesOf(s parameters.Summary) names {
	var n names
	for _, p := range s.Parameters {
		n.models = n.models || p.Model != s.Parameters[0].Model
		n.shapes = n.shapes || p.Shape != s.Parameters[0].Shape
	}
	return n
}

func (n names) of(p parameters.Parameters) string { return n.join(p.Model, p.Accelerator, p.Shape) }

func (n names) join(model, accelerator string, shape sweep.Shape) string {
	name := accelerator
	if n.models {
		name = model + " on " + name
	}
	if n.shapes {
		name += ", " + shape.String()
	}
	return name
}

func title(s parameters.Summary) string {
	models := parameters.Distinct(s.Parameters, func(p parameters.Parameters) string { return p.Model })
	switch len(models) {
	case 0:
		return "Latency parameters"
	case 1:
		return "Latency parameters of " + models[0]
	default:
		return fmt.Sprintf("Latency parameters of %d models", len(models))
	}
}

// about is what was measured, and when.
func about(s parameters.Summary) string {
	var parts []string
	if a := parameters.Distinct(s.Parameters, func(p parameters.Parameters) string { return p.Accelerator }); len(a) > 0 {
		parts = append(parts, parameters.Few(a, 6))
	}
	if shapes := parameters.Distinct(s.Parameters, func(p parameters.Parameters) string { return p.Shape.String() }); len(shapes) > 0 {
		parts = append(parts, parameters.Few(shapes, 6)+" tokens")
	}
	if from, to := measuredWhen(s.Parameters); to > 0 {
		parts = append(parts, period(from, to))
	}
	if s.Totals.Points > 0 {
		parts = append(parts, fmt.Sprintf("%s, %s of load", parameters.Counted(s.Totals.Points, "point"), duration(s.Totals.Seconds)))
	}
	return strings.Join(parts, " · ")
}

func measuredWhen(all []parameters.Parameters) (from, to float64) {
	for _, p := range all {
		if f := p.Provenance.MeasuredFrom; f > 0 && (from == 0 || f < from) {
			from = f
		}
		to = max(to, p.Provenance.MeasuredTo)
	}
	return from, to
}

func period(from, to float64) string {
	a, b := time.Unix(int64(from), 0).UTC(), time.Unix(int64(to), 0).UTC()
	end := "15:04"
	if a.YearDay() != b.YearDay() || a.Year() != b.Year() {
		end = "2006-01-02 15:04"
	}
	return a.Format("2006-01-02 15:04") + " to " + b.Format(end) + " UTC"
}

func duration(seconds float64) string {
	switch {
	case seconds < 90:
		return parameters.Brief(math.Round(seconds)) + " s"
	case seconds < 5400:
		return parameters.Brief(math.Round(seconds/6)/10) + " min"
	default:
		return parameters.Brief(math.Round(seconds/360)/10) + " h"
	}
}

// concerns are what every failed and refused part says, and where there are few sets
// the first that each of the others says too; all of it is with the evidence.
func concerns(s parameters.Summary, n names) []concern {
	var list []concern
	for _, f := range s.Failures {
		where := f.Accelerator
		if f.Shape != nil {
			where += ", " + f.Shape.String()
		}
		for _, r := range f.Reasons {
			list = append(list, concern{Where: where, Text: r})
		}
	}
	for _, level := range []fit.Level{fit.Refused, fit.Warned} {
		for _, p := range s.Parameters {
			if all := findings(p.Verdict); p.Verdict.Level == level && len(all) > 0 && (level == fit.Refused || len(s.Parameters) <= mostOpen) {
				text := all[0].Text
				if rest := len(all) - 1; rest > 0 {
					text += fmt.Sprintf(" (and %d more)", rest)
				}
				list = append(list, concern{Where: n.of(p), Text: text, Cure: all[0].Cure})
			}
		}
	}
	return list
}

// findings of a verdict; files of earlier versions hold sentences alone.
func findings(v fit.Verdict) []reason.Reason {
	if len(v.Findings) > 0 {
		return v.Findings
	}
	var list []reason.Reason
	for _, r := range v.Reasons {
		list = append(list, reason.Reason{Text: r})
	}
	return list
}

// setKey is what measurements and parameters belong together by.
type setKey struct {
	model, accelerator string
	shape              sweep.Shape
}

func keyOf(p parameters.Parameters) setKey { return setKey{p.Model, p.Accelerator, p.Shape} }

func measurementsBySet(all []measurement.Measurement) map[setKey][]measurement.Measurement {
	of := map[setKey][]measurement.Measurement{}
	for _, m := range all {
		k := setKey{m.Model, m.Accelerator, m.Shape}
		of[k] = append(of[k], m)
	}
	for _, ms := range of {
		slices.SortStableFunc(ms, func(a, b measurement.Measurement) int {
			return cmp.Or(cmp.Compare(a.BatchSize, b.BatchSize), cmp.Compare(a.StartedAt, b.StartedAt))
		})
	}
	return of
}

func setOf(id, name string, p parameters.Parameters, ms []measurement.Measurement, open bool) set {
	s := set{ID: id, Name: name, Level: p.Verdict.Level, Formula: formula(p), Findings: findings(p.Verdict), Open: open}
	for _, parameter := range linear4.Names() {
		s.Cells = append(s.Cells, cellOf(p, parameter))
	}
	add := func(f figure, ok bool) {
		if ok {
			s.Figures = append(s.Figures, f)
		}
	}
	both := latencies(p)
	for _, l := range both {
		add(l.overBatch(id+"-"+l.class, p.Fit.Points))
	}
	add(residuals(id+"-off", p))
	add(course(id+"-time", ms))
	add(spread(id+"-itls", "ITL", "itl", ms, func(w *measurement.Witness) *measurement.Estimate { return w.ITL }))
	add(spread(id+"-ttfts", "TTFT", "ttft", ms, func(w *measurement.Witness) *measurement.Estimate { return w.TTFT }))

	for _, q := range p.Fit.Points {
		s.Points = append(s.Points, point{q.BatchSize, batch(q.Batch), measuredOf(q.ITL), measuredOf(q.TTFT)})
		for _, r := range q.LeftOut {
			s.LeftOut = append(s.LeftOut, fmt.Sprintf("batch %d: %s", q.BatchSize, r))
		}
		for _, r := range q.Warnings {
			s.Notes = append(s.Notes, fmt.Sprintf("batch %d: %s", q.BatchSize, r))
		}
	}
	for _, m := range ms {
		s.Witnesses = append(s.Witnesses, witnesses{m.BatchSize,
			pairOf(m, func(w *measurement.Witness) *measurement.Estimate { return w.ITL }, m.Taken.ITLDifferencePercent),
			pairOf(m, func(w *measurement.Witness) *measurement.Estimate { return w.TTFT }, m.Taken.TTFTDifferencePercent)})
		for _, n := range m.Notes {
			s.Notes = append(s.Notes, fmt.Sprintf("batch %d: %s", m.BatchSize, n))
		}
	}
	return s
}

func cellOf(p parameters.Parameters, name string) cell {
	value, low, high, ok := p.Parameter(name)
	switch {
	case !ok:
		return cell{Value: "–"}
	case math.IsNaN(low):
		return cell{parameters.Brief(value), "no interval"}
	default:
		return cell{parameters.Brief(value), parameters.Within(value, low, high)}
	}
}

func formula(p parameters.Parameters) string {
	var parts []string
	if a, _, _, ok := p.Parameter("alpha"); ok {
		b, _, _, _ := p.Parameter("beta")
		parts = append(parts, fmt.Sprintf("ITL = %s ms + %s ms × batch", parameters.Brief(a), parameters.Brief(b)))
	}
	if g, _, _, ok := p.Parameter("gamma"); ok {
		d, _, _, _ := p.Parameter("delta")
		parts = append(parts, fmt.Sprintf("TTFT = %s ms + %s ms × prompt tokens × batch", parameters.Brief(g), parameters.Brief(d)))
	}
	text := "No parameters."
	if len(parts) > 0 {
		text = strings.Join(parts, ", ") + "."
	}
	if share := p.Fit.Diagnostics.BandwidthPercent; share != nil {
		text += fmt.Sprintf(" alpha reads the weights at %s.", parameters.Bandwidth(*share))
	}
	if across := p.AcrossWords(); across != "" {
		text += " " + across
	}
	return fmt.Sprintf("%s %s, %s tokens; method %s over the %s batch.", text, p.Model, p.Shape, p.Fit.Method, p.Fit.Batch)
}

func measuredOf(v *parameters.Value) measured {
	if v == nil {
		return measured{MS: "–"}
	}
	m := measured{MS: parameters.Brief(v.MS), From: v.From + " " + v.Statistic}
	if v.StandardErrorMS > 0 {
		m.MS += fmt.Sprintf(" ±%.2g", 1.96*v.StandardErrorMS)
	}
	if !v.Used {
		m.MS = "(" + m.MS + ")"
	}
	if v.PredictedMS != nil && v.ErrorPercent != nil {
		m.Predicted, m.Error = parameters.Brief(*v.PredictedMS), fmt.Sprintf("%+.2g %%", *v.ErrorPercent)
	}
	return m
}

func pairOf(m measurement.Measurement, of func(*measurement.Witness) *measurement.Estimate, differ *float64) pair {
	ms := func(w *measurement.Witness) string {
		if w == nil || of(w) == nil {
			return "–"
		}
		return parameters.Brief(of(w).MeanMS)
	}
	p := pair{Client: ms(m.Client), Other: ms(m.Server), Differ: "–"}
	if m.Probe != nil {
		p.Other = ms(m.Probe) + " (probe)"
	}
	if differ != nil {
		p.Differ = fmt.Sprintf("%+.2g %%", *differ)
	}
	return p
}

func jointOf(j parameters.Joint) joint {
	v := joint{Name: fmt.Sprintf("%s of %s on %s", j.Fit, j.Model, j.Accelerator), Level: j.Verdict.Level, Findings: findings(j.Verdict)}
	var parts []string
	for _, e := range []struct {
		text  string
		value *float64
	}{
		{"ITL of the points used: mean error %.2g %%", j.MeanErrorPercent}, {"largest %.2g %%", j.LargestErrorPercent},
		{"of a shape left out of the fit %.2g %%", j.LeftOutErrorPercent}, {"TTFT: mean error %.2g %%", j.TTFTErrorPercent},
	} {
		if e.value != nil {
			parts = append(parts, fmt.Sprintf(e.text, *e.value))
		}
	}
	if len(j.Terms) > 0 && len(parts) > 0 {
		v.Text = fmt.Sprintf("%s of %s. %s.", parameters.Counted(j.PointsUsed, "point"), parameters.Counted(j.Shapes, "shape"), strings.Join(parts, ", "))
	}
	for _, t := range j.Terms {
		one := term{Name: j.Fit + "." + t.Name, Value: parameters.Brief(t.Value), Unit: t.Unit, Interval: "–"}
		switch {
		case t.Dropped != "":
			one.Interval = t.Dropped
		case t.Interval != nil:
			one.Interval = parameters.Brief(t.Interval.Low) + " to " + parameters.Brief(t.Interval.High)
		}
		if t.BandwidthPercent != nil {
			one.Interval += ", " + parameters.Bandwidth(*t.BandwidthPercent)
		}
		v.Terms = append(v.Terms, one)
	}
	return v
}

// comparison shows sets of one shape side by side, and those of one accelerator where
// there is no other.
func comparison(s parameters.Summary, n names) []figure {
	if len(s.Parameters) < 2 {
		return nil
	}
	groups := map[sweep.Shape][]parameters.Parameters{}
	var order []sweep.Shape
	accelerators := len(parameters.Distinct(s.Parameters, func(p parameters.Parameters) string { return p.Model + "\n" + p.Accelerator }))
	for _, p := range s.Parameters {
		shape := p.Shape
		if accelerators == 1 {
			shape = sweep.Shape{}
		}
		if groups[shape] == nil {
			order = append(order, shape)
		}
		groups[shape] = append(groups[shape], p)
	}
	var figures []figure
	for k, shape := range order {
		for i, name := range []string{"ITL", "TTFT"} {
			low, high := 0.0, math.Inf(1) // that all lines hold at
			var lines []latency
			var labels []string
			for _, p := range groups[shape] {
				if l := latencies(p)[i]; l.at != nil && p.Published() && l.line != nil {
					least := l.line.LinearTo
					for _, q := range p.Fit.Points {
						if v := l.of(q); v != nil && v.Used {
							least = min(least, q.Batch)
						}
					}
					low, high = max(low, least), min(high, l.line.LinearTo)
					lines, labels = append(lines, l), append(labels, n.of(p))
				}
			}
			if len(lines) < 2 || !(high > low) {
				continue
			}
			low, high = math.Ceil(low-0.05), math.Floor(high+0.05)
			var bars []bar
			best := 0
			for j, l := range lines {
				b := bar{label: labels[j]}
				var from, to [2]float64
				b.low, from[0], from[1] = l.at(low)
				b.high, to[0], to[1] = l.at(high)
				b.lowErr, b.highEr = from, to
				bars = append(bars, b)
				if b.high < bars[best].high {
					best = j
				}
			}
			title := fmt.Sprintf("%s at batch %s and %s", name, parameters.Brief(low), parameters.Brief(high))
			if accelerators > 1 {
				title += ", " + shape.String() + " tokens"
			}
			text := fmt.Sprintf("From the lines, with their 95 %% intervals; left dot batch %s, right dot %s. Lowest at %s: %s, %s ms.",
				parameters.Brief(low), parameters.Brief(high), parameters.Brief(high), bars[best].label, parameters.Brief(bars[best].high))
			figures = append(figures, compared(fmt.Sprintf("compare-%d-%s", k+1, lines[0].class), title, text, lines[0].class, "ms", bars))
		}
	}
	return figures
}

// provenance lists every value of every field once, with the sets that have it; where
// the points of one set differ it says so.
func provenance(s parameters.Summary, n names) []origin {
	var list []origin
	for _, f := range []struct {
		name string
		of   func(parameters.Provenance) parameters.Values
	}{
		{"server", func(p parameters.Provenance) parameters.Values { return p.ServerVersion }},
		{"image", func(p parameters.Provenance) parameters.Values { return p.Image }},
		{"image digest", func(p parameters.Provenance) parameters.Values { return p.ImageDigest }},
		{"arguments", func(p parameters.Provenance) parameters.Values { return p.Args }},
		{"KV cache", func(p parameters.Provenance) parameters.Values { return p.Cache }},
		{"GPU", func(p parameters.Provenance) parameters.Values { return p.GPU }},
		{"GPU driver", func(p parameters.Provenance) parameters.Values { return p.GPUDriver }},
		{"node", func(p parameters.Provenance) parameters.Values { return p.Node }},
		{"pod", func(p parameters.Provenance) parameters.Values { return p.Pod }},
		{"target", func(p parameters.Provenance) parameters.Values { return p.Target }},
		{"load by", func(p parameters.Provenance) parameters.Values { return p.Driver }},
		{"measured by", func(p parameters.Provenance) parameters.Values { return p.Tool }},
	} {
		having, differs := map[string][]string{}, map[string]bool{}
		for _, p := range s.Parameters {
			v := f.of(p.Provenance).String()
			having[v] = append(having[v], n.of(p))
			differs[v] = len(f.of(p.Provenance)) > 1
		}
		for _, v := range parameters.Distinct(s.Parameters, func(p parameters.Parameters) string { return f.of(p.Provenance).String() }) {
			of := parameters.Few(having[v], 5)
			if len(having[v]) == len(s.Parameters) {
				of = "all"
			}
			list = append(list, origin{Field: f.name, Value: v, Of: of, Differs: differs[v]})
		}
	}
	return list
}

func changeOf(r compare.Result) change {
	c := change{What: r.What, Model: r.Model, Verdict: "no drift shown", Level: fit.Accepted, Warnings: r.Warnings}
	if len(r.Drift) > 0 {
		c.Verdict, c.Level = "drift: "+strings.Join(r.Drift, ", "), fit.Refused
	}
	for _, x := range r.Changes {
		row := changed{Name: x.Name, Old: parameters.Brief(x.Old), New: parameters.Brief(x.New), Change: fmt.Sprintf("%+.2g %%", x.Percent), Interval: "–"}
		switch {
		case x.Note != "":
			row.Change = x.Note
		case !math.IsNaN(x.Low):
			row.Interval = fmt.Sprintf("%+.2g to %+.2g %%", x.Low, x.High)
		}
		c.Rows = append(c.Rows, row)
	}
	return c
}

// driftsOf are the sets that moved beyond the band since they were accepted last, in
// words.
func driftsOf(d *parameters.Drift, n names) []string {
	if d == nil {
		return nil
	}
	var list []string
	for _, c := range d.Sets {
		if len(c.Drifted) == 0 {
			continue
		}
		var moved []string
		for _, m := range c.Changes {
			if slices.Contains(c.Drifted, m.Name) {
				moved = append(moved, fmt.Sprintf("%s %s, was %s (%+.1f %%)", m.Name, parameters.Brief(m.New), parameters.Brief(m.Old), m.Percent))
			}
		}
		line := fmt.Sprintf("%s moved by more than %.3g %% since it was accepted: %s", n.join(c.Model, c.Accelerator, c.Shape), 100*d.Band, strings.Join(moved, "; "))
		if len(c.Differences) > 0 {
			line += "; and " + strings.Join(c.Differences, "; ")
		}
		list = append(list, line)
	}
	return list
}
