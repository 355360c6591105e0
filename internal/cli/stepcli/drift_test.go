package stepcli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/tests/schematest"
)

// What moved beyond the band is said with its interval, stays out of latest/ and fails
// where that is asked for; what did not move is silent and becomes latest.
func TestDriftSinceTheLastAccepted(t *testing.T) {
	server := func(factor float64, gpu string) string { // linear4's law
		return sweptBy(t, gpu, func(s sweep.Shape, n float64) (itl, ttft float64) {
			return factor * (7 + 0.05*n), factor * (15 + 0.0014*float64(s.PromptTokens)*n)
		})
	}
	before, same, slower := server(1, "NVIDIA A100"), server(1, "NVIDIA A100"), server(1.08, "NVIDIA A100 80GB")
	latest := t.TempDir()
	shape := sweep.Shape{PromptTokens: 128, OutputTokens: 128}
	kept := filepath.Join(latest, layout.LatestOf("org/model", "A100", shape))
	read := func(path string) string {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	run := func(results string, more ...string) (code int, out, stderr string) {
		out = t.TempDir()
		code, _, stderr = step(append([]string{"aggregate", results + "/summary.json", "--output", out, "--latest", latest, "--drift-band", "5%"}, more...)...)
		return code, out, stderr
	}

	code, _, stderr := run(before) // nothing was accepted yet
	if code != 0 || strings.Contains(stderr, "drift") {
		t.Fatalf("first: %d %s", code, stderr)
	}
	first := read(kept)
	code, out, stderr := run(same, "--fail-on-drift")
	if code != 0 || strings.Contains(stderr, "drift") || read(out+"/outputs/drift") != "" || read(out+"/outputs/drift-percent") != "0.00" {
		t.Errorf("unchanged: %d %s", code, stderr)
	}

	accepted := read(kept)
	if accepted == first {
		t.Error("what did not move did not become latest")
	}

	code, out, stderr = run(slower)
	moved := read(out + "/outputs/drift")
	if code != 0 || !strings.Contains(stderr, "drift: org/model on A100, 128/128: alpha 6.99") || !strings.Contains(moved, " % [+") ||
		!strings.Contains(moved, "the GPU differs: NVIDIA A100, now NVIDIA A100 80GB") || strings.HasPrefix(read(out+"/outputs/drift-percent"), "0.0") {
		t.Errorf("slower: %d %s\n%s", code, stderr, moved)
	}
	if read(kept) != accepted {
		t.Error("what drifted became latest")
	}
	data := read(out + "/summary.json")
	schematest.Validate(t, "../../estimate/parameters/summary.schema.json", []byte(data))
	s, err := parameters.DecodeSummary(strings.NewReader(data), "summary.json")
	if err != nil || s.Drift == nil || len(s.Drift.Sets) != 3 {
		t.Fatalf("summary %+v, %v", s.Drift, err)
	}
	schematest.Describes(t, "../../estimate/parameters/summary.schema.json", s)
	for _, set := range s.Drift.Sets {
		if len(set.Changes) != 4 || len(set.Drifted) == 0 {
			t.Errorf("%+v", set)
		}
	}

	if code, _, stderr = run(slower, "--fail-on-drift"); code != exit.Drift || !strings.Contains(stderr, "beyond the band of 5%: org/model on A100") {
		t.Errorf("failing: %d %s", code, stderr)
	}
	if code, _, _ = run(slower, "--previous", before, "--latest", t.TempDir()); code != 0 {
		t.Errorf("previous elsewhere: %d", code)
	}
	if code, out, _ = run(slower, "--drift-band", "off"); code != 0 || read(kept) == accepted || read(out+"/outputs/drift-percent") != "0.00" {
		t.Errorf("accepted by hand: %d", code)
	}
	for _, args := range [][]string{{"--drift-band", "5"}, {"--drift-band", "5%", "--latest", ""}} {
		if code, _, stderr := run(same, args...); code != exit.Usage || !strings.Contains(stderr, "--drift-band: ") {
			t.Errorf("%v: %d %s", args, code, stderr)
		}
	}
}
