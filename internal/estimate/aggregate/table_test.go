package aggregate

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
)

func printed(t *testing.T, in Inputs, verbose bool) string {
	t.Helper()
	var b strings.Builder
	if err := Print(&b, Estimate(in, defaults), verbose); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The answer comes first, what to know last, and nothing is wider than a terminal.
func TestPrint(t *testing.T) {
	off := func(m *measurement.Measurement) {
		m.Client.Plain = &measurement.Plain{ITLMS: 2 * m.Client.ITL.MeanMS, TTFTMS: 9, Batch: 0.7 * float64(m.BatchSize)}
		m.Notes = []string{"a note"}
	}
	in := Inputs{
		Measurements: append(series("A100", 7, off), series("NVIDIA-H100-80GB-HBM3-with-a-name-that-goes-on-and-on", 4, off)...),
		Failures:     []parameters.Failure{{Accelerator: "MI300X", Reasons: []string{strings.Repeat("no node has amd.com/gpu ", 10)}}},
	}
	brief, full := printed(t, in, false), printed(t, in, true)
	if first, _, _ := strings.Cut(brief, "\n"); !strings.HasPrefix(first, "REFUSED: ") || !strings.Contains(first, "sets of parameters") {
		t.Errorf("the first line is %q", first)
	}
	for _, text := range []string{brief, full} {
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > parameters.Columns {
				t.Errorf("%d columns: %s", n, line)
			}
			if strings.TrimRight(line, " \n") != strings.TrimRight(line, "\n") {
				t.Errorf("ends in spaces: %q", line)
			}
		}
		if strings.Index(text, "alpha") > strings.Index(text, "no node has") {
			t.Error("the numbers come after the notes")
		}
	}
	if strings.Contains(brief, "plain report") || strings.Count(full, "A plain report") != 2 {
		t.Errorf("what a plain report says is told once for each set, if asked for:\n%s", full)
	}
	if !strings.Contains(brief, "██████████") {
		t.Errorf("no curve:\n%s", brief)
	}
}

// A fleet is a table and a handful of remarks, each said once.
func TestPrintFleet(t *testing.T) {
	var in Inputs
	for i := range 30 {
		in.Measurements = append(in.Measurements, series(fmt.Sprintf("GPU-%d", i), 7, func(m *measurement.Measurement) {
			m.Requests.Errored = m.Requests.Successful / 10
			m.Partial = m.BatchSize > 4
			m.Provenance.Node = fmt.Sprint(m.BatchSize) // differs
		})...)
	}
	text := printed(t, in, false)
	if n := strings.Count(text, "\n"); n > 60 {
		t.Errorf("%d lines:\n%s", n, text)
	}
	if !strings.Contains(text, "GPU-0 128/128, GPU-1 128/128, 28 more: ") || !strings.Contains(text, "more (--verbose, or the report)") {
		t.Errorf("remarks are not gathered:\n%s", text)
	}
}
