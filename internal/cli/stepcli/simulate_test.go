package stepcli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep/engine"
)

func TestSimulateAnnouncesItselfAndEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, out := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, []string{"simulate", "--listen", "127.0.0.1:0", "--model", "m", "--alpha", "20.5"}, strings.NewReader(""), out, &stderr)
		_ = out.Close()
	}()
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		t.Fatalf("no line on stdout; stderr: %s", stderr.String())
	}
	url, ok := strings.CutPrefix(lines.Text(), "listening on ")
	if !ok {
		t.Fatalf("stdout %q", lines.Text())
	}
	response, err := http.Get(url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	models, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || !bytes.Contains(models, []byte(`"id":"m"`)) {
		t.Errorf("/v1/models: %s, %v", models, err)
	}
	cancel()
	select {
	case got := <-code:
		if got != exit.Done {
			t.Errorf("exit code %d", got)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the server goes on after it was told to end")
	}
	if lines.Scan() {
		t.Errorf("another line on stdout: %q", lines.Text())
	}
	if !strings.Contains(stderr.String(), "alpha 20.5 ms") {
		t.Errorf("stderr does not say the truth: %q", stderr.String())
	}
}

// The command line that wfgen writes for vLLM.
func TestSimulateTakesVLLMsArguments(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"org/model"}, "org/model"},
		{[]string{"/opt/model", "--served-model-name=org/model"}, "org/model"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		stdout, out := io.Pipe()
		var stderr bytes.Buffer
		done := make(chan int, 1)
		go func() {
			args := append([]string{"simulate"}, test.args...)
			done <- Run(ctx, append(args, "--host=127.0.0.1", "--port=0", "--tensor-parallel-size=2", "--dtype=auto", "--max-num-seqs=16",
				"--max-model-len=409", "--no-enable-prefix-caching"), strings.NewReader(""), out, &stderr)
			_ = out.Close()
		}()
		lines := bufio.NewScanner(stdout)
		if !lines.Scan() {
			t.Fatalf("%q: no line on stdout; stderr: %s", test.args, stderr.String())
		}
		response, err := http.Get(strings.TrimPrefix(lines.Text(), "listening on ") + "/v1/models")
		if err != nil {
			t.Fatal(err)
		}
		models, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || !bytes.Contains(models, []byte(`"id":"`+test.want+`"`)) || !bytes.Contains(models, []byte(`409`)) {
			t.Errorf("%q: /v1/models: %s, %v; want %s of length 409", test.args, models, err, test.want)
		}
		cancel()
		if code := <-done; code != exit.Done {
			t.Errorf("%q: exit code %d: %s", test.args, code, stderr.String())
		}
	}
}

// The command line that wfgen writes for SGLang: the server says what SGLang says, has the
// limits that it was given, and its metrics tell a point's latencies.
func TestSimulateTakesSGLangsArguments(t *testing.T) {
	sglang, _ := engine.Find(engine.SGLang)
	args := sglang.Args(engine.Settings{Path: "/cache/m", Model: "org/m", GPUs: 2, DType: "auto", MaxNumSeqs: "4", MaxModelLen: "409", Key: true})
	ctx, cancel := context.WithCancel(t.Context())
	stdout, out := io.Pipe()
	var stderr bytes.Buffer
	done := make(chan int, 1)
	go func() {
		for i, a := range args { // as the kubelet does, on this machine alone
			args[i] = strings.ReplaceAll(strings.ReplaceAll(a, "$(SGLANG_API_KEY)", "k"), "0.0.0.0", "127.0.0.1")
		}
		done <- Run(ctx, append([]string{"simulate"}, args...), strings.NewReader(""), out, &stderr)
		_ = out.Close()
	}()
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		t.Fatalf("no line on stdout; stderr: %s", stderr.String())
	}
	url := strings.TrimPrefix(lines.Text(), "listening on ")
	t.Setenv("STEP_API_KEY", "k")
	at := []string{"--target", url, "--model", "org/m"}
	code, table, words := step(append([]string{"preflight", "--batch-sizes", "1,8", "--shapes", "16/8"}, at...)...)
	if code != exit.Unusable || !strings.Contains(words, "above the server's max-num-seqs 4") || !strings.Contains(table, "prefix caching    off") || !strings.Contains(table, "409") {
		t.Errorf("preflight: exit %d\n%s%s", code, table, words)
	}
	dir := t.TempDir()
	code, _, words = step(append([]string{"bench", "--accelerator", "A100", "--batch-size", "2", "--prompt-tokens", "16", "--output-tokens", "8", "--max-requests", "16", "--max-seconds", "0", "--output", dir}, at...)...)
	data, err := os.ReadFile(filepath.Join(dir, "measurement.json"))
	var m measurement.Measurement
	if err := errors.Join(err, json.Unmarshal(data, &m)); code != 0 || err != nil || m.Taken.TTFT == nil || m.Taken.TTFT.From != measurement.Server {
		t.Errorf("bench: exit %d, %v, TTFT of %+v\n%s", code, err, m.Taken.TTFT, words)
	}
	cancel()
	if code := <-done; code != exit.Done {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

func TestSimulateMistakes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"all at once", []string{"--listen", "nowhere", "--beta", "-1", "--max-num-seqs", "0", "--abort-rate", "2"}, []string{"listen: \"nowhere\"", "beta: -1", "max-num-seqs: 0", "abort-rate: 2"}},
		{"flags of the engine", []string{"--pre", "0.1", "--base", "5"}, []string{"pre: belongs to --latency engine", "base: belongs to --latency engine"}},
		{"flags of linear4", []string{"--latency", "engine", "--gamma", "3", "--wander", "2"}, []string{"gamma: belongs to --latency linear4", "wander: 2"}},
		{"engine", []string{"--latency", "engine", "--base", "0", "--seq", "-1", "--max-num-batched-tokens", "8"}, []string{"base: 0;", "seq: -1", "max-num-batched-tokens: 8 is below the 256"}},
		{"latency", []string{"--latency", "exact", "--wander-memory", "0"}, []string{`latency: "exact"`, "wander-memory: 0"}},
		{"port in use", []string{"--listen", taken.Addr().String()}, []string{"in use by another process", "--listen"}},
		{"unknown flag", []string{"--gama", "3"}, []string{"-gama"}},
		{"two models", []string{"org/a", "org/b"}, []string{"one model is served", "org/a org/b"}},
		{"model twice", []string{"org/a", "--model", "org/b"}, []string{"given twice", "org/a", "org/b"}},
		{"arguments of two engines", []string{"--model-path", "/m", "--max-num-seqs", "3"}, []string{"--model-path makes it SGLang's"}},
		{"arguments of SGLang", []string{"--enable-metrics", "--context-length", "3"}, []string{"enable-metrics: is SGLang's", "context-length: is"}},
		{"address twice", []string{"--listen", "127.0.0.1:0", "--port", "8000"}, []string{"listen: says the same as host and port"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := Run(t.Context(), append([]string{"simulate"}, c.args...), strings.NewReader(""), &stdout, &stderr)
			if code != exit.Usage || stdout.Len() > 0 {
				t.Errorf("exit code %d, stdout %q, want code %d and nothing", code, stdout.String(), exit.Usage)
			}
			for _, want := range c.want {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr does not say %q:\n%s", want, stderr.String())
				}
			}
		})
	}
}
