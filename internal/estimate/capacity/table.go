package capacity

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/sweep/slo"
)

// longestName is how many characters of an accelerator's name stand among the numbers.
const longestName = 16

// Print writes the file for people.
func Print(w io.Writer, f File) error {
	p := &printer{w: w}
	p.wrapped("", fmt.Sprintf("one replica within %s, requests arriving at random; 95 %% intervals, plan with the low end (of money: the high end)", slo.Format(f.SLO)))
	p.line("")
	short := parameters.Shortened(parameters.Distinct(f.Capacities, func(c Capacity) string { return c.Accelerator }), longestName)
	rows := [][]string{{"accelerator", "shape", "requests/s", "in flight", "most", "load", "limited by"}}
	tokens := [][]string{{"accelerator", "shape", "tokens/s in", "out", "per 1M tokens"}}
	priced, ranged := false, false
	for _, c := range f.Capacities {
		at := []string{short(c.Accelerator), c.Shape.String()}
		if c.Rate == nil {
			rows = append(rows, append(at, "-", "-", "-", "-", "refused"))
			continue
		}
		rows = append(rows, append(at, c.Rate.String(), c.InFlight.String(), c.MostInFlight.String(), fmt.Sprintf("%.0f %%", 100*c.Rate.Value/c.SaturationRate), c.Binding))
		cost := "-"
		if c.CostPerMillion != nil {
			cost, priced = c.CostPerMillion.String(), true
		}
		tokens = append(tokens, append(at[:2:2], brief(c.PromptTokens.Value), brief(c.OutputTokens.Value), cost))
		ranged = ranged || c.Binding == Range
	}
	p.columns(rows)
	if ranged {
		p.wrapped("", "range: no more was in flight when it was measured; larger batches, up to max-num-seqs, show whether it bears more")
	}
	if len(tokens) > 1 {
		p.line("")
		if !priced {
			for i := range tokens {
				tokens[i] = tokens[i][:4]
			}
		}
		p.columns(tokens)
	}
	p.line("")
	for _, c := range f.Capacities {
		if c.Check != nil {
			p.wrapped("", fmt.Sprintf("%s, %s, checked by a measurement: %s", c.Accelerator, c.Shape, c.Check))
		}
	}
	for _, c := range f.Capacities {
		p.verdict(fmt.Sprintf("%s, %s", c.Accelerator, c.Shape), c.Verdict)
	}
	if f.Fleet != nil {
		p.fleet(*f.Fleet, short)
	}
	return p.err
}

// verdict says why a claim is not accepted.
func (p *printer) verdict(of string, v fit.Verdict) {
	if v.Level == fit.Accepted {
		return
	}
	p.line("%s is %s:", of, v.Level)
	for _, r := range v.Reasons {
		p.wrapped("  ", "- "+r)
	}
}

func (p *printer) fleet(f Fleet, short func(string) string) {
	p.line("")
	var mix []string
	for _, m := range f.Mix {
		mix = append(mix, fmt.Sprintf("%.3g %% %s", 100*m.Part, m.Shape))
	}
	of := ""
	if len(mix) > 0 {
		of = " of " + strings.Join(mix, " and ")
	}
	p.wrapped("", fmt.Sprintf("%s requests/s%s need", brief(f.Traffic), of))
	rows := [][]string{{"accelerator", "shape", "replicas", "money/h", "one bears", "limited by"}}
	for _, c := range f.Choices {
		shape, replicas, price, rate, binding := "mix", "-", "-", "-", "refused"
		if c.Shape != nil {
			shape = c.Shape.String()
		}
		if c.Replicas > 0 {
			replicas, rate, binding = fmt.Sprint(c.Replicas), c.Rate.String(), c.Binding
		}
		if c.PricePerHour != nil {
			price = brief(*c.PricePerHour)
		}
		rows = append(rows, []string{short(c.Accelerator), shape, replicas, price, rate, binding})
	}
	p.columns(rows)
	for _, c := range f.Choices {
		if c.Shape == nil { // otherwise it is said above
			p.verdict(c.Accelerator+", the mix", c.Verdict)
		}
	}
}

// String is the estimate with its interval: 40.1 [38.9, 41.2].
func (e Estimate) String() string {
	if e.Low == nil || e.High == nil {
		return brief(e.Value)
	}
	return fmt.Sprintf("%s [%s, %s]", brief(e.Value), brief(*e.Low), brief(*e.High))
}

// brief has three significant digits, and all of them before the point.
func brief(x float64) string {
	if math.Abs(x) >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return strconv.FormatFloat(round(x, 3), 'f', -1, 64)
}

func round(x float64, digits int) float64 {
	if x == 0 {
		return 0
	}
	unit := math.Pow(10, float64(digits-1)-math.Floor(math.Log10(math.Abs(x))))
	return math.Round(x*unit) / unit
}

// printer remembers the first error of a writer.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// wrapped writes a text in lines that a terminal holds.
func (p *printer) wrapped(indent, text string) {
	for _, line := range parameters.Wrapped(indent, text) {
		p.line("%s", line)
	}
}

func (p *printer) columns(rows [][]string) {
	if p.err != nil {
		return
	}
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	p.err = t.Flush()
}
