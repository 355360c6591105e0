package stepcli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/tests/schematest"
)

// Earlier runs tell what another run would have; a copy of one counts once.
func TestHistory(t *testing.T) {
	history := t.TempDir()
	for i, factor := range []float64{1, 1.03, 0.98, 1.01} {
		from := sweptBy(t, "NVIDIA A100", func(s sweep.Shape, n float64) (itl, ttft float64) {
			return factor * (7 + 0.05*n), factor * (15 + 0.0014*float64(s.PromptTokens)*n)
		})
		data, err := os.ReadFile(filepath.Join(from, "summary.json"))
		if err != nil {
			t.Fatal(err)
		}
		const at = `"measured_from": 1700000000`
		if !strings.Contains(string(data), at) {
			t.Fatalf("no %s in\n%s", at, data)
		}
		text := strings.ReplaceAll(string(data), at, fmt.Sprintf(`"measured_from": %d`, 1700000000+int64(i)*86400))
		for _, name := range []string{"summary.json", "copy.json"} {
			file := filepath.Join(history, fmt.Sprint(i), name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	out := t.TempDir()
	code, stdout, stderr := step("aggregate", filepath.Join(history, "0", "summary.json"), "--output", out, "--history", history)
	if code != 0 || !strings.Contains(stdout, "Another run would have alpha 7.0") || !strings.Contains(stdout, "(4 runs, which differ by ") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	data, err := os.ReadFile(filepath.Join(out, "summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	schematest.Validate(t, "../../estimate/parameters/summary.schema.json", data)
	s, err := parameters.DecodeSummary(strings.NewReader(string(data)), "summary.json")
	if err != nil || len(s.Parameters) != 3 {
		t.Fatalf("%d sets, %v", len(s.Parameters), err)
	}
	for _, p := range s.Parameters {
		if len(p.Fit.Across) != 4 {
			t.Fatalf("%+v", p.Fit.Across)
		}
		a := p.Fit.Across[0]
		if a.Name != "alpha" || a.Runs != 4 || a.BetweenPercent < 1 || a.BetweenPercent > 4 || !(a.Low < 6.86 && a.High > 7.21) {
			t.Errorf("%s: %+v", p.Shape, a)
		}
	}
	// One file is enough: what was accepted last keeps those before it, of the same server.
	latest := t.TempDir()
	for i, want := range []int{0, 2, 3, 4} {
		args := []string{"aggregate", filepath.Join(history, fmt.Sprint(i), "summary.json"), "--output", out, "--latest", latest, "--drift-band", "20%"}
		if code, _, stderr := step(args...); code != 0 {
			t.Fatalf("run %d: %d %s", i, code, stderr)
		}
		if got := runsOfAlpha(t, out); got != want {
			t.Errorf("run %d tells of %d runs, want %d", i, got, want)
		}
	}
	upgraded := strings.ReplaceAll(string(data), `"gpu": "NVIDIA A100"`, `"gpu": "NVIDIA A100 80GB"`)
	if upgraded == string(data) {
		t.Fatalf("no GPU in\n%s", data)
	}
	file := filepath.Join(t.TempDir(), "summary.json")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(upgraded, `"across_runs"`, `"before"`)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := step("aggregate", file, "--output", out, "--latest", latest, "--drift-band", "20%"); code != 0 || runsOfAlpha(t, out) != 0 {
		t.Errorf("another GPU counts as a run of the same: %d %s", code, stderr)
	}

	if code, _, stderr := step("aggregate", history+"/0/summary.json", "--output", t.TempDir(), "--history", history+"/none"); code != 2 {
		t.Errorf("no such history: %d %s", code, stderr)
	}
}

// runsOfAlpha is by how many runs the first set of a summary tells of another alpha.
func runsOfAlpha(t *testing.T, dir string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	schematest.Validate(t, "../../estimate/parameters/summary.schema.json", data)
	s, err := parameters.DecodeSummary(strings.NewReader(string(data)), "summary.json")
	if err != nil {
		t.Fatal(err)
	}
	if across := s.Parameters[0].Fit.Across; len(across) > 0 {
		return across[0].Runs
	}
	return 0
}
