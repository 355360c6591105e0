//go:build vllm

package vllm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
)

// precisionVariable asks for the table of docs/precision.md, which takes twenty minutes.
const precisionVariable = "WFGEN_COMPARE_PRECISION"

// TestPrecision puts side by side what a precision and what the fixed default take in
// real time, and what they say: of step simulate, whose truth is known, and of the real
// vLLM. It prints the table of docs/precision.md, and fails where there are no numbers,
// not where they differ.
func TestPrecision(t *testing.T) {
	if os.Getenv(precisionVariable) == "" {
		t.Skipf("takes twenty minutes; set %s=1, or make compare-precision", precisionVariable)
	}
	w := start(t)
	wfgen := filepath.Join(filepath.Dir(w.step), "wfgen")
	if out, err := exec.Command("go", "build", "-o", wfgen, "wfgen.dev/cmd/wfgen").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	simulated := *w
	simulated.url = simulatedBy(t, w, "--alpha=20", "--beta=2", "--gamma=60", "--delta=0.05", "--jitter=0.05")
	fmt.Println("| server | design | seconds | points | alpha, ms | beta, ms |\n|---|---|---|---|---|---|")
	for _, one := range []struct {
		name string
		world
		truth [2]string
	}{{"vLLM 0.32.0", *w, [2]string{}}, {"`step simulate`", simulated, [2]string{", truth 20", ", truth 2"}}} {
		for _, design := range []struct {
			name  string
			flags []string
		}{
			{"precision", []string{"--precision=alpha=2%,beta=5%", "--max-gpu-minutes=8"}},
			{"fixed", nil},
		} {
			t.Run(one.name+"/"+design.name, func(t *testing.T) {
				dir := t.TempDir()
				c := exec.Command(wfgen, append([]string{"run", "--step=" + w.step, "--accelerators=CPU", "--target=" + one.url, "--model=" + model, "--shapes=64/32",
					"--batch-sizes=1,4,8", "--max-num-seqs=" + strconv.Itoa(maxNumSeqs), "--max-seconds=120", "--output=" + dir, "--run=r"}, design.flags...)...)
				begin := time.Now()
				words, err := c.CombinedOutput()
				seconds := time.Since(begin).Seconds()
				if err != nil && !errors.As(err, new(*exec.ExitError)) {
					t.Fatal(err)
				}
				f, err := os.Open(filepath.Join(dir, "runs", "r", "summary.json"))
				if err != nil {
					t.Fatalf("exit %d: %v\n%s", c.ProcessState.ExitCode(), err, words)
				}
				s, err := parameters.DecodeSummary(f, f.Name())
				f.Close()
				if err != nil || len(s.Parameters) != 1 {
					t.Fatalf("%v\n%s", err, words)
				}
				p := s.Parameters[0]
				var cells []string
				for i, name := range []string{"alpha", "beta"} {
					cell := "refused"
					if value, low, high, ok := p.Parameter(name); ok {
						cell = fmt.Sprintf("%.4g ± %.2g %%%s", value, 100*(high-low)/2/value, one.truth[i])
					}
					cells = append(cells, cell)
				}
				fmt.Printf("| %s | %s | %.0f | %d | %s |\n", one.name, design.name, seconds, len(p.Fit.Points), strings.Join(cells, " | "))
				t.Logf("%s, %s: exit %d, %s: %v", one.name, design.name, c.ProcessState.ExitCode(), p.Verdict.Level, p.Verdict.Reasons)
				if code := c.ProcessState.ExitCode(); code != exit.Done && code != exit.Imprecise && code != exit.Refused {
					t.Errorf("exit %d:\n%s", code, words)
				}
			})
		}
	}
}
