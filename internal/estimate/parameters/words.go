package parameters

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"wfgen.dev/internal/estimate/fit"
)

// Answer is the verdict in a sentence or two.
func (s *Summary) Answer() string {
	count := map[fit.Level]int{}
	for _, p := range s.Parameters {
		count[p.Verdict.Level]++
	}
	var parts []string
	if len(s.Parameters) == 1 {
		parts = append(parts, map[fit.Level]string{
			fit.Accepted: "The parameters can be used as they are.",
			fit.Warned:   "The parameters can be used with the warnings below in mind.",
			fit.Refused:  "Nothing is published: the reasons are below.",
		}[s.Parameters[0].Verdict.Level])
	} else if n := len(s.Parameters); n > 0 {
		var words []string
		sets := "sets of parameters "
		for _, l := range []struct {
			level fit.Level
			word  string
		}{{fit.Accepted, "accepted"}, {fit.Warned, "published with a warning"}, {fit.Refused, "refused"}} {
			switch count[l.level] {
			case 0:
			case n:
				words = append(words, fmt.Sprintf("All %d %sare %s", n, sets, l.word))
			default:
				words = append(words, fmt.Sprintf("%d of %d %s%s %s", count[l.level], n, sets, isAre(count[l.level]), l.word))
			}
			if count[l.level] > 0 {
				sets = ""
			}
		}
		parts = append(parts, strings.Join(words, ", ")+".")
	}
	if n := len(s.Failures); n > 0 {
		parts = append(parts, fmt.Sprintf("%s without parameters: %s.", Counted(n, "part"), Few(Distinct(s.Failures, func(f Failure) string { return f.Accelerator }), 8)))
	}
	if len(parts) == 0 {
		return "Nothing was measured."
	}
	return strings.Join(parts, " ")
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// Words say how far the line is off the points that it was fitted to and all that were
// measured, and within what a run is predicted at the ends of its range.
func (l *Line) Words() string {
	text := fmt.Sprintf("The line lies within %.2g %% of the %s that it was fitted to (%.2g %% in the mean)",
		l.LargestErrorPercent, Counted(l.PointsUsed, "point"), l.MeanErrorPercent)
	if l.AllMeanErrorPercent != nil && l.AllLargestErrorPercent != nil {
		text += fmt.Sprintf(", within %.2g %% of all that were measured (%.2g %%)", *l.AllLargestErrorPercent, *l.AllMeanErrorPercent)
	}
	for i, p := range l.Predictions {
		if i == 0 {
			text += "; it predicts a run"
		} else {
			text += ","
		}
		text += fmt.Sprintf(" at batch %.3g within %s", p.Batch, Within(p.MS, p.Low, p.High))
	}
	return text + "."
}

// AcrossWords say what another run would have, by this and earlier ones; empty where
// none were given.
func (p *Parameters) AcrossWords() string {
	var parts []string
	for _, a := range p.Fit.Across {
		parts = append(parts, fmt.Sprintf("%s %s %s (%d runs, which differ by %.2g %%)", a.Name, Brief(a.Value), Within(a.Value, a.Low, a.High), a.Runs, a.BetweenPercent))
	}
	if len(parts) == 0 {
		return ""
	}
	return "Another run would have " + strings.Join(parts, ", ") + "."
}

// Bandwidth says what share of the accelerator's memory bandwidth is reached, percent.
func Bandwidth(percent float64) string {
	return fmt.Sprintf("%.2g %% of the memory's bandwidth", percent)
}

// Distinct are the different values, in order of appearance, without empty ones.
func Distinct[T any](list []T, of func(T) string) []string {
	var values []string
	seen := map[string]bool{}
	for _, x := range list {
		if v := of(x); v != "" && !seen[v] {
			seen[v] = true
			values = append(values, v)
		}
	}
	return values
}

// Few joins at most n of the texts, and counts the others.
func Few(list []string, n int) string {
	if len(list) > n {
		return strings.Join(list[:n], ", ") + fmt.Sprintf(" and %d more", len(list)-n)
	}
	return strings.Join(list, ", ")
}

// Counted is a number with what it counts.
func Counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Brief writes a number for people: four significant digits, without an exponent where
// it can be read without.
func Brief(x float64) string {
	if a := math.Abs(x); a != 0 && (a >= 1e6 || a < 1e-6) {
		return strconv.FormatFloat(x, 'g', 3, 64)
	}
	digits := 0
	if x != 0 {
		digits = max(0, 3-int(math.Floor(math.Log10(math.Abs(x)))))
	}
	text := strconv.FormatFloat(x, 'f', digits, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	if text == "-0" {
		return "0"
	}
	return text
}

// Within writes half of an interval, relative to the value: ±3.4 %.
func Within(value, low, high float64) string {
	percent := math.Abs(50 * (high - low) / value)
	if percent >= 10 {
		return fmt.Sprintf("±%.0f %%", percent)
	}
	return fmt.Sprintf("±%.2g %%", percent)
}
