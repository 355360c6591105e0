package stepcli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/tests/pipes"
)

func TestMain(m *testing.M) {
	pipes.Lay()
	os.Exit(m.Run())
}

// A server that is faster than its parameters bears the claim.
func TestCheck(t *testing.T) {
	from, out := swept(t, 0.02, "NVIDIA A100"), t.TempDir()
	synctest.Test(t, func(t *testing.T) { check(t, from, out) })
	code, _, stderr := step("check", "--target", "x", "--model", "m", "--accelerator", "A100", "--slo", "x", "--max-seconds", "0", "--max-num-seqs", "-1", "--output", t.TempDir())
	for _, want := range []string{"nothing to read", "--slo", "--max-seconds", "--max-num-seqs"} {
		if code != exit.Usage || !strings.Contains(stderr, want) {
			t.Errorf("code %d, %s", code, stderr)
		}
	}
}

func check(t *testing.T, from, out string) {
	sim, err := simulate.NewVirtual(simulate.Config{Model: "org/model", Alpha: 1, Gamma: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	server := pipes.Serve(t, sim.Handler())
	code, stdout, stderr := step("check", from+"/summary.json", "--target", server.URL, "--model", "org/model", "--accelerator", "A100",
		"--slo", "itl=9ms", "--shapes", "128/128", "--max-seconds", "1", "--price", "2.5", "--output", out)
	if code != 0 || !strings.Contains(stdout, "checked by a measurement: "+capacity.Held) {
		t.Fatalf("code %d\n%s%s", code, stdout, stderr)
	}
	file, err := os.Open(filepath.Join(out, "capacity.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f, err := capacity.Decode(file, "capacity.json")
	if err != nil || f.Capacities[0].Check == nil || len(f.Capacities[0].Check.Points) != 2 {
		t.Errorf("%+v, %v", f, err)
	}
	for _, name := range []string{"capacity", "concurrency", "cost"} {
		if text, err := os.ReadFile(filepath.Join(out, "outputs", name)); err != nil || len(text) == 0 {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// The summary of a run shows what the checks of its accelerators said, and a claim that
// its own measurement contradicts does not let it end well.
func TestSummaryKnowsTheChecks(t *testing.T) {
	from := swept(t, 0.02, "NVIDIA A100")
	code, stdout, stderr := step("capacity", from+"/summary.json", "--slo", "itl=9ms", "--json")
	if code != 0 {
		t.Fatalf("code %d, %s", code, stderr)
	}
	f, err := capacity.Decode(strings.NewReader(stdout), "stdout")
	if err != nil {
		t.Fatal(err)
	}
	for verdict, wanted := range map[string]int{capacity.Held: exit.Done, capacity.Contradicted: exit.Refused} {
		c := f.Capacities[0]
		c.Check = &capacity.Check{Verdict: verdict, Points: []capacity.Checked{{Rate: c.Rate.Safe(), Arrivals: sweep.Poisson, Behind: verdict != capacity.Held, Met: verdict == capacity.Held}}}
		data, err := capacity.File{SLO: f.SLO, Capacities: []capacity.Capacity{c}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		evidence, out := t.TempDir(), t.TempDir()
		if err := os.MkdirAll(filepath.Join(evidence, "capacity-a100"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(evidence, "capacity-a100", "capacity.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := step("aggregate", from+"/summary.json", "--evidence", evidence, "--output", out)
		page, err := os.ReadFile(filepath.Join(out, "report", "index.html"))
		if err != nil || code != wanted || !strings.Contains(string(page), "measured: "+verdict) {
			t.Errorf("%s: code %d, %v, %s", verdict, code, err, stderr)
		}
		if wanted != exit.Done && !strings.Contains(stderr, "capacity of "+c.Accelerator) {
			t.Errorf("%s: %s", verdict, stderr)
		}
		if code, stdout, _ := step("report", from, evidence, "--format", "markdown"); code != 0 || !strings.Contains(stdout, "| "+verdict+" |") {
			t.Errorf("report: code %d, %s", code, stdout)
		}
	}
}
