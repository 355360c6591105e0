package page

import (
	"fmt"
	"io"
	"math"
	"strings"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/sweep/linear4"
)

// Markdown writes the answer of the report for pull requests and chat: the verdicts,
// the numbers with their intervals, and what has changed.
func Markdown(w io.Writer, c Content) error {
	s, n := c.Summary, namesOf(c.Summary)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("### %s", literal(title(s)))
	line("")
	line("**%s** %s", strings.ToUpper(string(s.Verdict)), literal(s.Answer()))
	line("")
	if about := about(s); about != "" {
		line("%s", literal(about))
		line("")
	}
	if len(s.Parameters) > 0 {
		line("| | verdict | alpha, ms | beta, ms/request | gamma, ms | delta, ms/token/request |")
		line("|---|---|---|---|---|---|")
	}
	for _, p := range s.Parameters {
		row := []string{literal(n.of(p)), string(p.Verdict.Level)}
		for _, name := range linear4.Names() {
			x := cellOf(p, name)
			row = append(row, strings.TrimSpace(x.Value+" "+x.Within))
		}
		line("| %s |", strings.Join(row, " | "))
	}
	if len(c.Capacity) > 0 {
		line("")
		line("| one replica within %s | requests/s | in flight | cost of 1M tokens | measured |", literal(objectives(c.Capacity)))
		line("|---|---|---|---|---|")
		for _, one := range c.Capacity {
			b := bearingOf(one, n)
			row := []string{literal(b.Name)}
			for _, x := range []cell{b.Rate, b.InFlight, b.Cost} {
				if x.Within != "" {
					x.Value += " (" + x.Within + ")"
				}
				row = append(row, x.Value)
			}
			measured := "no"
			if one.Check != nil {
				measured = one.Check.Verdict
			}
			line("| %s |", strings.Join(append(row, measured), " | "))
		}
	}
	if all := concerns(s, n); len(all) > 0 {
		line("")
		const most = 6
		for i, x := range all {
			if i == most {
				line("- and %d more", len(all)-most)
				break
			}
			text := x.Where + ": " + x.Text
			if x.Cure != "" {
				text += "; " + x.Cure
			}
			line("- %s", literal(text))
		}
	}
	if c.Before != "" {
		line("")
		line("Since %s:", literal(c.Before))
		line("")
		for _, r := range c.Changes {
			x := changeOf(r)
			var moved []string
			for _, y := range r.Changes {
				if y.Note == "" && !math.IsNaN(y.Percent) {
					moved = append(moved, fmt.Sprintf("%s %+.2g %%", literal(y.Name), y.Percent))
				}
			}
			line("- %s, %s: **%s** (%s)", literal(x.What), x.Model, literal(x.Verdict), strings.Join(moved, ", "))
		}
		for _, note := range c.Notes {
			line("- %s", literal(note))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// literal is a text as Markdown shows it as it stands, on one line: names come from
// files, and must make no links, tables or markup.
func literal(text string) string {
	var b strings.Builder
	for _, r := range redact.Line(text, 0) {
		if strings.ContainsRune("\\`*_{}[]<>|~#@!$&", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
