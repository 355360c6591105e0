//go:build vllm

package vllm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// sideBySide asks for the table of docs/capacity.md, which takes ten minutes.
const sideBySide = "WFGEN_CAPACITY"

// TestCapacity puts side by side what is claimed of a server within objectives, what open
// loops attained at that rate, and what guidellm says of requests at even intervals of the
// same rate: of step simulate and of the real vLLM. It prints the table of
// docs/capacity.md, and fails where there are no numbers, not where they differ.
func TestCapacity(t *testing.T) {
	if os.Getenv(sideBySide) == "" {
		t.Skipf("takes ten minutes; set %s=1, or make compare-capacity", sideBySide)
	}
	out, err := exec.Command("../../../hack/guidellm/install.sh", "0.6.1").Output()
	if err != nil {
		t.Fatalf("hack/guidellm/install.sh: %v\n%s", err, stderr(err))
	}
	guidellm := strings.TrimSpace(string(out))
	w := start(t)
	simulated := *w
	simulated.url = simulatedServer(t, w)
	for _, one := range []struct {
		name string
		world
	}{{"step simulate", simulated}, {"vLLM 0.32.0", *w}} {
		t.Run(one.name, func(t *testing.T) { one.compare(t, one.name, guidellm) })
	}
}

// simulatedServer starts a server that works as an engine does, slow enough for a machine that has other work to do.
func simulatedServer(t *testing.T, w *world) (url string) {
	t.Helper()
	return simulatedBy(t, w, "--latency=engine", "--base=30", "--seq=2.5", "--ctx=5e-4", "--pre=0.2", "--pre2=0", "--jitter=0.05")
}

// simulatedBy starts a simulated server of that law, with the limits of the real one.
func simulatedBy(t *testing.T, w *world, law ...string) (url string) {
	t.Helper()
	c := exec.Command(w.step, append([]string{"simulate", "--listen=127.0.0.1:0", "--model=" + model, "--max-num-seqs=" + strconv.Itoa(maxNumSeqs), "--max-model-len=" + strconv.Itoa(maxModelLen)}, law...)...)
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, url, _ = strings.Cut(strings.TrimSpace(line), "listening on ")
	return url
}

func (w *world) must(t *testing.T, codes []int, args ...string) (stdout string) {
	t.Helper()
	code, stdout, words := w.run(t, args...)
	for _, c := range codes {
		if code == c {
			return stdout
		}
	}
	t.Fatalf("step %s: exit %d\n%s%s", strings.Join(args, " "), code, stdout, words)
	return ""
}

func (w *world) compare(t *testing.T, name, guidellm string) {
	dir := t.TempDir()
	shape := sweep.Shape{PromptTokens: 64, OutputTokens: 32}
	for _, b := range []int{6, 2, 8, 1, 4} {
		w.must(t, []int{exit.Done}, "bench", "--accelerator=CPU", "--batch-size="+strconv.Itoa(b), "--prompt-tokens=64", "--output-tokens=32",
			"--max-seconds=15", "--output="+filepath.Join(dir, "points", fmt.Sprintf("b%d", b)))
	}
	run := filepath.Join(dir, "run")
	w.must(t, []int{exit.Done, exit.Refused}, "aggregate", filepath.Join(dir, "points"), "--output="+run)
	f, err := os.Open(filepath.Join(run, "summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := parameters.DecodeSummary(f, f.Name())
	if err != nil || len(s.Parameters) != 1 || s.Parameters[0].Curve == nil {
		t.Fatalf("%v, %+v", err, s)
	}
	// What the server does with five requests in flight.
	bound := at(s.Parameters[0].Curve.ITL, 5)
	slos := fmt.Sprintf("itl=%.4gms", bound)
	w.must(t, []int{exit.Done, exit.Refused}, "check", filepath.Join(run, "summary.json"), "--accelerator=CPU", "--slo="+slos, "--max-num-seqs="+strconv.Itoa(maxNumSeqs),
		"--max-seconds=30", "--output="+filepath.Join(run, "CPU"))
	c := checked(t, filepath.Join(run, "CPU", "capacity.json"))
	claimed := c.Rate
	if c.Check != nil && c.Check.Claimed != nil {
		claimed = c.Check.Claimed
	}
	if claimed == nil || c.Check == nil || len(c.Check.Points) == 0 {
		t.Fatalf("no claim, or no check: %+v", c)
	}
	report := filepath.Join(dir, "guidellm.json")
	begin := time.Now()
	g := exec.Command(guidellm, "benchmark", "run", "--target", w.url, "--model", model, "--request-format", "/v1/completions",
		"--profile", "constant", "--rate", strconv.FormatFloat(claimed.Safe(), 'f', 4, 64), "--max-seconds", "30",
		"--data", fmt.Sprintf(`{"prompt_tokens":%d,"output_tokens":%d}`, shape.PromptTokens, shape.OutputTokens), "--processor", filepath.Join(filepath.Dir(guidellm), "../../tokenizer"),
		"--sample-requests", "0", "--output-dir", dir, "--outputs", filepath.Base(report), "--disable-console-interactive")
	g.Env = append(os.Environ(), "HF_HUB_OFFLINE=1", "COLUMNS=250", "PYTHONUNBUFFERED=1", markName+"="+t.Name())
	if out, err := g.CombinedOutput(); err != nil {
		t.Fatalf("guidellm: %v\n%s", err, out)
	}
	t.Logf("guidellm took %.0f s", time.Since(begin).Seconds())
	var ms []measurement.Measurement
	if err := json.Unmarshal([]byte(w.must(t, []int{exit.Done, exit.Refused}, "measure", "--accelerator=CPU", "--slo="+slos, "--format=json", report)), &ms); err != nil || len(ms) != 1 || ms[0].Open == nil {
		t.Fatalf("%v, %+v", err, ms)
	}
	fmt.Printf("| server | load | requests/s | ITL, ms (%s) | within | in flight |\n|---|---|---|---|---|---|\n", slos)
	fmt.Printf("| %s | claim | %s | %.4g | | %s |\n", name, claimed, bound, c.InFlight)
	for _, p := range c.Check.Points {
		o := p.Objectives[0]
		fmt.Printf("| | at random | %.3g | %.4g ± %.2g | %.0f %% | %.3g |\n", p.Rate, o.AttainedMS, 2*o.StandardErrorMS, 100*o.Share, p.InFlight)
	}
	even := ms[0]
	if len(even.Open.Objectives) == 1 {
		o := even.Open.Objectives[0]
		fmt.Printf("| | guidellm, at even intervals | %.3g | %.4g ± %.2g | %.0f %% | %.3g |\n", even.Open.Rate, o.AttainedMS, 2*o.StandardErrorMS, 100*o.Share, even.Taken.Batch)
	} else {
		t.Errorf("guidellm's report says nothing of %s: %v", slos, even.Taken.Void)
	}
	fmt.Printf("| | verdict of the check | %s | | | |\n", c.Check.Verdict)
}

// at is a curve between its steps.
func at(steps []parameters.Step, batch float64) float64 {
	for i := 1; i < len(steps); i++ {
		if a, b := steps[i-1], steps[i]; batch <= b.Batch {
			return a.MS + (batch-a.Batch)/(b.Batch-a.Batch)*(b.MS-a.MS)
		}
	}
	return steps[len(steps)-1].MS
}

func checked(t *testing.T, file string) capacity.Capacity {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := capacity.Decode(f, file)
	if err != nil || len(c.Capacities) != 1 {
		t.Fatalf("%v, %+v", err, c)
	}
	return c.Capacities[0]
}
