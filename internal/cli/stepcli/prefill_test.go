package stepcli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/tests/pipes"
)

func TestPrefill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, err := simulate.NewVirtual(simulate.Config{Model: "org/model", Alpha: 1, Gamma: 15, Delta: 0.01, MaxModelLen: 2048})
		if err != nil {
			t.Fatal(err)
		}
		defer sim.Close()
		server := pipes.Serve(t, sim.Handler())
		dir := t.TempDir()
		file := filepath.Join(dir, "server")
		if err := os.WriteFile(file, []byte(`{"image_digest":"sha256:1","args":["vllm","serve","--max-num-batched-tokens=256","--revision=abc"]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"prefill", "--target", server.URL, "--model", "org/model", "--accelerator", "A100", "--output", dir}
		code, stdout, stderr := step(append(args, "--server", "@"+file, "--samples", "10")...)
		if code != 0 || !strings.Contains(stdout, "org/model on A100: ") || !strings.Contains(stdout, "(256 tokens in ") {
			t.Fatalf("code %d\n%s%s", code, stdout, stderr)
		}
		for format, want := range map[string]string{"calibration": `"chunk_tokens": 256,`, "keda-tokens": "or vector(0)"} {
			code, stdout, stderr := step("render", "--format", format, dir, "--slo", "ttft=10s", "--uncached-tokens", "100", "--scale-target", "vllm")
			if code != 0 || !strings.Contains(stdout, want) {
				t.Errorf("%s: code %d\n%s%s", format, code, stdout, stderr)
			}
		}

		code, _, stderr = step(append(args, "--chunk-tokens", "2048")...)
		if code != exit.Unusable || !strings.Contains(stderr, "max-model-len is 2048") {
			t.Errorf("code %d, %s", code, stderr)
		}
		code, _, stderr = step(append(args, "--samples", "9", "--max-spread", "x", "--patience", "0s")...)
		for _, want := range []string{"--chunk-tokens: not given", "--samples", "--max-spread", "--patience"} {
			if code != exit.Usage || !strings.Contains(stderr, want) {
				t.Errorf("code %d, %s does not name %s", code, stderr, want)
			}
		}
	})
}
