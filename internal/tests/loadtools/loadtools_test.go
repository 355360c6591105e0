//go:build loadtools

package loadtools

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/parameters"
)

// The server's law, ms, and the shape of requests.
const (
	alpha, beta, gamma, delta = 10.0, 0.5, 30.0, 0.01
	prompt, output            = 64, 32
)

var streams = []int{1, 2, 4, 8, 16}

// world is one simulated server and the binaries.
type world struct {
	step, url, root, tokenizer string
}

func newWorld(t *testing.T) *world {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{step: filepath.Join(t.TempDir(), "step"), root: root}
	run(t, root, "go", "build", "-o", w.step, "./cmd/step")
	server := exec.CommandContext(t.Context(), w.step, "simulate", "--listen", "127.0.0.1:0", "--model", "sim", "--jitter", "0.05", "--max-num-seqs", "64",
		"--alpha", number(alpha), "--beta", number(beta), "--gamma", number(gamma), "--delta", number(delta))
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() }) // it runs until it is ended
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	w.url = strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	return w
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// run ends the test where a command fails, and gives its output.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "NO_COLOR=1", "DO_NOT_TRACK=1")
	var words bytes.Buffer
	c.Stderr = &words
	out, err := c.Output()
	if err != nil {
		tail := words.String()
		t.Fatalf("%s: %v\n%s", filepath.Base(name), err, tail[max(0, len(tail)-3000):])
	}
	return string(out)
}

// python is that of a tool's environment, installed if it is not.
func (w *world) python(t *testing.T, script string, args ...string) string {
	t.Helper()
	return strings.TrimSpace(run(t, w.root, filepath.Join(w.root, "hack", script, "install.sh"), args...))
}

// TestSGLangsArguments: those that the servers of a sweep are held against are SGLang's.
func TestSGLangsArguments(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{root: root}
	python := w.python(t, "loadtools", "sglang")
	found, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(python)), "lib/python3*/site-packages/sglang/srt/server_args.py"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	names := strings.Fields(strings.ReplaceAll(run(t, root, python, "hack/loadtools/sglang-args.py", found[0]), " !", "!"))
	slices.Sort(names)
	kept, err := os.ReadFile("../../sweep/engine/testdata/sglang-0.5.6.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(strings.ReplaceAll(string(kept), " !", "!"))
	slices.Sort(want)
	if !slices.Equal(slices.Compact(names), want) {
		t.Errorf("%d arguments, and testdata has %d", len(names), len(want))
	}
}

// TestLoadTools: what each tool leaves gives the server's law back within the
// intervals.
func TestLoadTools(t *testing.T) {
	w := newWorld(t)
	aiperf := w.python(t, "loadtools", "aiperf")
	w.tokenizer = filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(aiperf))), "tokenizer")
	for _, tool := range []struct {
		name string
		load func(t *testing.T, dir string)
		asks []string // flags for what its files do not say
	}{
		{"native", func(t *testing.T, dir string) {
			for _, n := range streams {
				run(t, dir, w.step, "bench", "--target", w.url, "--model", "sim", "--accelerator", "CPU", "--prompt-tokens", strconv.Itoa(prompt), "--output-tokens", strconv.Itoa(output),
					"--batch-size", strconv.Itoa(n), "--max-seconds", "8", "--output", filepath.Join(dir, strconv.Itoa(n)))
			}
		}, nil},
		{"aiperf", func(t *testing.T, dir string) {
			list := strings.Trim(strings.ReplaceAll(fmt.Sprint(streams), " ", ","), "[]")
			run(t, dir, filepath.Join(filepath.Dir(aiperf), "aiperf"), "profile", "-m", "sim", "--url", w.url, "--endpoint-type", "chat", "--streaming",
				"--tokenizer", w.tokenizer, "--isl", strconv.Itoa(prompt), "--osl", strconv.Itoa(output), "--extra-inputs", "ignore_eos:true", "--concurrency", list,
				"--benchmark-duration", "8", "--warmup-request-count", "4", "--use-server-token-count", "--artifact-dir", dir, "--ui", "none", "--export-level", "records")
		}, nil},
		{"inference-perf", func(t *testing.T, dir string) {
			python := w.python(t, "loadtools", "inference-perf")
			var stages []string
			for _, n := range streams {
				stages = append(stages, fmt.Sprintf("{num_requests: %d, concurrency_level: %d}", 16*n, n))
			}
			lengths := func(n int) string {
				return fmt.Sprintf("{min: %[1]d, max: %[1]d, mean: %[1]d, std_dev: 0, total_count: 1000}", n)
			}
			config := filepath.Join(t.TempDir(), "config.yaml")
			text := fmt.Sprintf("api: {type: completion, streaming: true}\ndata: {type: random, input_distribution: %s, output_distribution: %s}\n"+
				"load: {type: concurrent, num_workers: 1, interval: 0.5, stages: [%s]}\nserver: {type: vllm, model_name: sim, base_url: %q, ignore_eos: true}\n"+
				"tokenizer: {pretrained_model_name_or_path: %q}\nreport: {request_lifecycle: {summary: true, per_stage: true, per_request: true}}\nstorage: {local_storage: {path: %q}}\n",
				lengths(prompt), lengths(output), strings.Join(stages, ", "), w.url, w.tokenizer, dir)
			if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			run(t, dir, filepath.Join(filepath.Dir(python), "inference-perf"), "-c", config)
		}, nil},
		{"sglang", func(t *testing.T, dir string) {
			python := w.python(t, "loadtools", "sglang")
			found, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(python)), "lib/python3*/site-packages/sglang/bench_serving.py"))
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			for _, n := range streams {
				run(t, dir, python, found[0], "--backend", "vllm", "--base-url", w.url, "--dataset-name", "random-ids", "--model", "sim", "--tokenizer", w.tokenizer,
					"--num-prompts", strconv.Itoa(16*n), "--random-input-len", strconv.Itoa(prompt), "--random-output-len", strconv.Itoa(output), "--random-range-ratio", "1",
					"--max-concurrency", strconv.Itoa(n), "--output-file", filepath.Join(dir, "bench.jsonl"), "--output-details", "--disable-tqdm")
			}
		}, []string{"--model", "sim"}},
		{"vllm", func(t *testing.T, dir string) {
			python := w.python(t, "vllm")
			for _, n := range streams {
				run(t, dir, python, filepath.Join(w.root, "hack/loadtools/vllm-bench.py"), "--backend", "openai", "--base-url", w.url, "--endpoint", "/v1/completions",
					"--model", "sim", "--tokenizer", w.tokenizer, "--dataset-name", "random", "--random-input-len", strconv.Itoa(prompt), "--random-output-len", strconv.Itoa(output),
					"--num-prompts", strconv.Itoa(16*n), "--max-concurrency", strconv.Itoa(n), "--ignore-eos", "--save-result", "--save-detailed", "--result-dir", dir,
					"--result-filename", fmt.Sprintf("run-%d.json", n), "--disable-tqdm")
			}
		}, nil},
		{"guidellm", func(t *testing.T, dir string) {
			guidellm := w.python(t, "guidellm", "0.8.1")
			list := strings.Trim(strings.ReplaceAll(fmt.Sprint(streams), " ", ","), "[]")
			run(t, dir, guidellm, "run", "--backend", "kind=openai_http,target="+w.url+",model=sim,request_format=/v1/completions",
				"--profile", fmt.Sprintf(`{"kind":"concurrent","streams":[%s]}`, list), "--constraint", "kind=max_duration,seconds=8",
				"--data", fmt.Sprintf("kind=synthetic_text,prompt_tokens=%d,output_tokens=%d", prompt, output), "--tokenizer", "kind=huggingface_auto,model="+w.tokenizer,
				"--output", "kind=json,path="+dir+"/r.json", "--output", "kind=yaml,path="+dir+"/y/r.yaml", "--output", "kind=csv,path="+dir+"/c/r.csv", "--disable-progress")
			// The others say the same.
			for _, other := range []string{"y", "c"} {
				to := filepath.Join(t.TempDir(), other)
				if err := os.Rename(filepath.Join(dir, other), to); err != nil {
					t.Fatal(err)
				}
				w.check(t, to, []string{"--model", "sim"})
			}
		}, nil},
	} {
		t.Run(tool.name, func(t *testing.T) {
			dir := t.TempDir()
			tool.load(t, dir)
			w.check(t, dir, tool.asks)
		})
	}
}

// check estimates from what lies in a directory and compares with the law.
func (w *world) check(t *testing.T, dir string, asks []string) {
	t.Helper()
	measured, out := t.TempDir(), t.TempDir()
	if matches, _ := filepath.Glob(filepath.Join(dir, "*/measurement.json")); len(matches) > 0 { // step's own
		measured = dir
	} else {
		t.Log(run(t, dir, w.step, append(append([]string{"measure", "--accelerator", "CPU", "--output", measured}, asks...), dir)...))
	}
	c := exec.CommandContext(t.Context(), w.step, "aggregate", measured, "--source", "client", "--output", out)
	table, err := c.CombinedOutput()
	t.Logf("%s", table)
	if err != nil && c.ProcessState.ExitCode() != 65 {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(out, "summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s parameters.Summary
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Parameters) != 1 || s.Parameters[0].Alpha == nil || s.Parameters[0].Beta == nil {
		t.Fatalf("no alpha and beta: %s", data)
	}
	p := s.Parameters[0]
	for name, truth := range map[string]float64{"alpha": alpha, "beta": beta} {
		value, low, high, ok := p.Parameter(name)
		// One in twenty intervals of each misses; a client on cores that others use, too, is late.
		slack := (high - low) / 4
		if !ok || math.IsNaN(low) || truth < low-slack || truth > high+slack {
			t.Errorf("%s: %.4g [%.4g, %.4g], truth %.4g", name, value, low, high, truth)
		}
	}
	if p.Gamma != nil && p.Delta != nil { // the client's own delays are in its TTFT
		if got, truth := p.TTFTAt(8, prompt), gamma+delta*prompt*8; got < 0.9*truth || got > 1.5*truth {
			t.Errorf("TTFT at 8: %.4g ms, truth %.4g", got, truth)
		}
	}
}

// TestConsumers: the consumers' own code reads what step render writes.
func TestConsumers(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	for _, n := range []int{1, 4} {
		run(t, dir, w.step, "bench", "--target", w.url, "--model", "sim", "--accelerator", "CPU", "--prompt-tokens", "64", "--output-tokens", "32", "--batch-size", strconv.Itoa(n), "--max-seconds", "6",
			"--output", filepath.Join(dir, strconv.Itoa(n)))
	}
	out := t.TempDir()
	run(t, dir, w.step, "aggregate", dir, "--source", "client", "--output", out)
	for format, tool := range map[string]string{"planner": "llm-d-planner", "benchmark-report": "inference-perf"} {
		file := filepath.Join(out, format)
		text := run(t, dir, w.step, "render", "--format", format, filepath.Join(out, "summary.json"), dir)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := run(t, dir, w.python(t, "loadtools", tool), filepath.Join(w.root, "hack/consumers/read-back.py"), format, file); !strings.HasPrefix(got, "2 ") {
			t.Errorf("%s: %s", format, got)
		}
	}
}

// TestConsumersOfMatrices: those that take many shapes, of a table that follows the law.
func TestConsumersOfMatrices(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	table := "accelerator,model,prompt_tokens,output_tokens,concurrency,itl_ms,ttft_ms,itl_error_ms,ttft_error_ms,requests\n"
	for _, in := range []int{128, 512, 1024, 2048} {
		for _, out := range []int{64, 256} {
			for _, n := range []int{1, 2, 4, 8, 16, 32} {
				table += fmt.Sprintf("CPU,sim,%d,%d,%d,%g,%g,0.01,0.05,1000\n", in, out, n, alpha+beta*float64(n)+1e-3*float64(in*n)/64, gamma+delta*float64(in*n)/10)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "table.csv"), []byte(table), 0o644); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	run(t, dir, w.step, "aggregate", filepath.Join(dir, "table.csv"), "--source", "client", "--output", out)
	for format, test := range map[string]struct {
		tool string
		asks []string
		want string
	}{
		"aibrix": {"aibrix", []string{"--slo", "itl=30ms,ttft=1s"}, "2 x 4 rates of CPU"},
		"dynamo": {"ai-dynamo", []string{"--kv-tokens", "200000"}, "4 prompts, 48 points of decode, 1 2 4 8 16 32 requests"},
	} {
		file := filepath.Join(out, format)
		text := run(t, dir, w.step, append([]string{"render", "--format", format, filepath.Join(out, "summary.json")}, test.asks...)...)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := run(t, dir, w.python(t, "loadtools", test.tool), filepath.Join(w.root, "hack/consumers/read-back.py"), format, file); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %s, want %s", format, got, test.want)
		}
	}
}
