package stepcli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// law is a server's ITL and TTFT, ms, of n requests of a shape.
type law func(s sweep.Shape, n float64) (itl, ttft float64)

// iteration is a server that follows iteration3 with the given beta.
func iteration(beta float64) law {
	return func(s sweep.Shape, n float64) (itl, ttft float64) {
		in, out := float64(s.PromptTokens), float64(s.OutputTokens)
		turn := 6.5 + n*(beta*(in+out)/(out+1)+5e-5*(in+out/2))
		return turn + beta + 5e-5*(in+(out+1)/2), turn + (beta+5e-5)*in
	}
}

// swept estimates what was measured of such a server, and returns the directory of the
// results.
func swept(t *testing.T, beta float64, gpu string) string {
	t.Helper()
	return sweptBy(t, gpu, iteration(beta))
}

// sweptBy does so of a server with any law.
func sweptBy(t *testing.T, gpu string, of law) string {
	t.Helper()
	out := t.TempDir()
	if code, _, stderr := step("aggregate", measured(t, gpu, of), "--output", out); code != 0 {
		t.Fatalf("aggregate: %d %s", code, stderr)
	}
	return out
}

// measured writes measurements of a server and returns their directory.
func measured(t *testing.T, gpu string, law law) string {
	t.Helper()
	dir := t.TempDir()
	for _, s := range []sweep.Shape{{PromptTokens: 128, OutputTokens: 128}, {PromptTokens: 1024, OutputTokens: 128}, {PromptTokens: 128, OutputTokens: 1024}} {
		for i, b := range []int{1, 2, 4, 8, 16, 32} {
			n, in, out := float64(b), float64(s.PromptTokens), float64(s.OutputTokens)
			itl, ttft := law(s, n)
			noise := 1 + 0.002*float64(i%3-1)
			w := measurement.Witness{
				ITL:   &measurement.Estimate{MeanMS: noise * itl, StandardErrorMS: 0.01, Blocks: 10, Samples: 100},
				TTFT:  &measurement.Estimate{MeanMS: noise * ttft, MedianMS: ttft, StandardErrorMS: 0.05, Blocks: 10, Samples: 100},
				Batch: n, Requests: 100, WindowSeconds: 60, Basis: measurement.BasisRows,
			}
			m := measurement.Measurement{
				Schema: measurement.Schema, Model: "org/model", Accelerator: "A100", Shape: s, BatchSize: b, Client: &w,
				Requests: measurement.Requests{Successful: 100}, PromptTokens: in, OutputTokens: out,
				Driver: measurement.Driver{Name: "native"}, StartedAt: 1.7e9, Seconds: 60, Provenance: measurement.Provenance{Instance: record.Instance{GPU: gpu}},
			}
			data, err := measurement.Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-b%d.json", s.Slug(), b)), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestCompare(t *testing.T) {
	before, same, slower := swept(t, 0.02, "NVIDIA A100"), swept(t, 0.02, "NVIDIA A100"), swept(t, 0.025, "NVIDIA A100 80GB")
	code, stdout, stderr := step("compare", before, same)
	if code != 0 || stderr != "" || !strings.Contains(stdout, "linear4 of org/model on A100, 128/128") || !strings.Contains(stdout, "+0.0 %") ||
		!strings.Contains(stdout, "iteration3 of org/model on A100") || !strings.Contains(stdout, "joint test of 4 parameters p=1.000") {
		t.Errorf("the same: code %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = step("compare", before+"/summary.json", slower+"/summary.json", "--band", "5%")
	if code != exit.Drift || !strings.Contains(stdout, "DRIFT: ") || !strings.Contains(stdout, "beta   0.02") || !strings.Contains(stdout, "p<0.001") ||
		!strings.Contains(stderr, "beyond the band of 5%: ") || !strings.Contains(stderr, "the GPU differs: NVIDIA A100, now NVIDIA A100 80GB") {
		t.Errorf("slower: code %d\n%s%s", code, stdout, stderr)
	}
	if code, stdout, stderr = step("compare", before, slower, "--band", "0.9"); code != 0 || strings.Contains(stdout, "DRIFT") {
		t.Errorf("within a wide band: code %d\n%s%s", code, stdout, stderr)
	}
	one := filepath.Join(before, "A100/parameters/128-128.json")
	other := filepath.Join(slower, "A100/parameters/1024-128.json")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{one, other}, exit.Usage, "no model, accelerator and shape in common"},
		{[]string{one}, exit.Usage, "expected OLD and NEW, found 1"},
		{[]string{one, other, "--band", "five"}, exit.Usage, `--band: found "five"`},
		{[]string{one, t.TempDir()}, exit.Refused, "no parameters found"},
	} {
		if code, _, stderr := step(append([]string{"compare"}, c.args...)...); code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("%v: code %d: %s", c.args, code, stderr)
		}
	}
}

func TestPredict(t *testing.T) {
	run := swept(t, 0.02, "")
	code, stdout, stderr := step("predict", run, "--shape", "512/256", "--batch", "16", "--fit", "iteration3")
	// 6.5 + 16*(0.02*768/257 + 5e-5*640) + 0.02 + 5e-5*640.5
	if code != 0 || !strings.Contains(stdout, "batch 16: ITL 8.0") || !strings.Contains(stdout, " ms 95 % [") || !strings.Contains(stdout, "linear4 between the batches 1 and 16") || !strings.Contains(stdout, "delta") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	// What is asked for is predicted by the better of both, which the server is here.
	if code, stdout, stderr := step("predict", run, "--shape", "512/256", "--batch", "16"); code != 0 || !strings.HasPrefix(stdout, "iteration3 of ") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	// Batch 1 can be asked for, and a measured shape by its own lines.
	if code, stdout, stderr := step("predict", run, "--shape", "512/256", "--batch", "1"); code != 0 || !strings.Contains(stdout, "batch 1: ITL ") || strings.Contains(stdout, "linear4") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := step("predict", run, "--shape", "128/128", "--batch", "16", "--fit", "linear4"); code != 0 || !strings.Contains(stdout, "linear4 of org/model on A100, 128/128 tokens, batch 16: ITL 7.3") || strings.Count(stdout, " ms 95 % [") != 2 {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--shape 512/256 --batch 200", exit.Refused, "beyond what was measured: 200 batch"},
		{"--shape 9000/256 --batch 16 --extrapolate", exit.Done, "EXTRAPOLATED: 9000 prompt tokens"},
		{"--shape 512 --batch 0 --fit linear5", exit.Usage, "--fit"},
		{"--shape 512/256 --batch 4 --fit linear4", exit.Refused, "holds no parameters of 512/256"},
		{"--shape 128/128 --batch 64 --fit linear4", exit.Refused, "ITL: batch 64, where the line is that of the batches 1 to 32"},
		{"--shape 512/256 --batch 16 --accelerator H100", exit.Refused, "holds no model of all shapes"},
	} {
		code, _, stderr := step(append([]string{"predict", run}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: code %d: %s", c.args, code, stderr)
		}
	}
}
