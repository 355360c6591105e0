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
const longestName = 24

// Print writes the file for people.
func Print(w io.Writer, f File) error {
	p := &printer{w: w}
	p.line("one replica within %s, requests arriving at random; 95 %% intervals, plan with the low end", slo.Format(f.SLO))
	p.line("")
	prices := false
	for _, c := range f.Capacities {
		prices = prices || c.PricePerHour != nil
	}
	head := []string{"accelerator", "shape", "requests/s", "in flight", "most", "tokens/s in", "out"}
	if prices {
		head = append(head, "per 1M tokens")
	}
	rows := [][]string{append(head, "limited by")}
	short := parameters.Shortened(parameters.Distinct(f.Capacities, func(c Capacity) string { return c.Accelerator }), longestName)
	for _, c := range f.Capacities {
		row := []string{short(c.Accelerator), c.Shape.String()}
		if c.Rate == nil {
			row = append(row, "-", "-", "-", "-", "-")
			if prices {
				row = append(row, "-")
			}
			rows = append(rows, append(row, "refused"))
			continue
		}
		row = append(row, c.Rate.String(), c.InFlight.String(), c.MostInFlight.String(), brief(c.PromptTokens.Value), brief(c.OutputTokens.Value))
		if prices && c.CostPerMillion != nil {
			row = append(row, c.CostPerMillion.String())
		} else if prices {
			row = append(row, "-")
		}
		rows = append(rows, append(row, fmt.Sprintf("%s; %.0f %% of saturation", c.Binding, 100*c.Rate.Value/c.SaturationRate)))
	}
	p.columns(rows)
	for _, c := range f.Capacities {
		if c.Check != nil {
			p.line("%s, %s, checked by a measurement: %s", c.Accelerator, c.Shape, c.Check)
		}
	}
	for _, c := range f.Capacities {
		if c.Verdict.Level == fit.Accepted {
			continue
		}
		p.line("%s, %s is %s:", c.Accelerator, c.Shape, c.Verdict.Level)
		for _, r := range c.Verdict.Reasons {
			p.line("  - %s", r)
		}
	}
	if f.Fleet != nil {
		p.fleet(*f.Fleet)
	}
	return p.err
}

func (p *printer) fleet(f Fleet) {
	p.line("")
	var mix []string
	for _, m := range f.Mix {
		mix = append(mix, fmt.Sprintf("%.3g %% %s", 100*m.Part, m.Shape))
	}
	of := ""
	if len(mix) > 0 {
		of = " of " + strings.Join(mix, " and ")
	}
	p.line("%s requests/s%s need", brief(f.Traffic), of)
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
		rows = append(rows, []string{c.Accelerator, shape, replicas, price, rate, binding})
	}
	p.columns(rows)
	for _, c := range f.Choices {
		if c.Shape != nil || c.Verdict.Level == fit.Accepted {
			continue // said above
		}
		p.line("%s, the mix is %s:", c.Accelerator, c.Verdict.Level)
		for _, r := range c.Verdict.Reasons {
			p.line("  - %s", r)
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
