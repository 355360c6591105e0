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
	if code, _, stderr := step("aggregate", history+"/0/summary.json", "--output", t.TempDir(), "--history", history+"/none"); code != 2 {
		t.Errorf("no such history: %d %s", code, stderr)
	}
}
