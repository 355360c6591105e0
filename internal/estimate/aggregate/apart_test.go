package aggregate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

const worked = "../../point/report/testdata/worked-example/"

// put copies a report of the worked example.
func put(t *testing.T, name, from string) {
	t.Helper()
	data, err := os.ReadFile(worked + from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The raw report of a point without a measurement is of one that failed or was refused:
// a scan does not publish what was refused before. Reports of a user's own are read, and
// what has no name is asked for one.
func TestWhatWasRefusedStaysRefused(t *testing.T) {
	run := t.TempDir()
	for _, name := range []string{"A100/reports/128-128/throughput", "reports/shared"} {
		put(t, filepath.Join(run, name+".json"), "throughput.json")
		put(t, filepath.Join(run, name+"-log.txt"), "throughput.json")
	}
	put(t, filepath.Join(run, "plan.json"), "throughput.json")
	put(t, filepath.Join(run, "claims", "a.json"), "throughput.json")
	in, skipped, err := Load(t.Context(), []string{run}, "", &report.Options{Accelerator: "A100"})
	if err != nil || len(in.Measurements) > 0 || len(skipped) > 0 {
		t.Errorf("%d measurements, skipped %q, %v", len(in.Measurements), skipped, err)
	}

	own := t.TempDir()
	put(t, filepath.Join(own, "synchronous.json"), "synchronous.json")
	put(t, filepath.Join(own, "synchronous-log.txt"), "synchronous.json")
	put(t, filepath.Join(own, "reports", "of-mine.json"), "throughput.json")
	if in, _, err := Load(t.Context(), []string{own}, "", &report.Options{Accelerator: "A100"}); err != nil || len(in.Measurements) != 2 {
		t.Errorf("%d measurements of one's own reports, %v", len(in.Measurements), err)
	}
	if _, _, err := Load(t.Context(), []string{own}, "", &report.Options{}); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "--accelerator") {
		t.Errorf("no accelerator: exit %d, %v", exit.Code(err), err)
	}
}

// Two models of one accelerator do not write one file.
func TestModelsDoNotMeet(t *testing.T) {
	dir := t.TempDir()
	out, err := store.New(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	s := parameters.Summary{Schema: parameters.SummarySchema, Verdict: fit.Refused}
	for _, model := range []string{"a/b", "a--b"} {
		p := parameters.Parameters{Schema: parameters.Schema, Model: model, Accelerator: "A100", Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 128}}
		p.Fit.Model, p.Verdict = parameters.Linear4, fit.Verdict{Level: fit.Refused, Reasons: []string{"for the test"}}
		s.Parameters = append(s.Parameters, p)
	}
	if err := Write(t.Context(), s, out, nil); err != nil {
		t.Fatal(err)
	}
	keys, err := out.List(t.Context(), "")
	for _, want := range []string{"a--b/A100/parameters/128-128.json", "a-%2Db/A100/parameters/128-128.json"} {
		if err != nil || !slices.Contains(keys, want) {
			t.Errorf("%s is missing in %q, %v", want, keys, err)
		}
	}
}
