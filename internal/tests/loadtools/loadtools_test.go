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
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
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
	python := w.python(t, "loadtools", "aiperf")
	w.tokenizer = filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(python))), "tokenizer")
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
	list := strings.Trim(strings.ReplaceAll(fmt.Sprint(streams), " ", ","), "[]")
	for _, tool := range []struct {
		name string
		load func(t *testing.T, dir string)
		asks []string // flags for what its files do not say
		file string   // that is read; empty: the directory
	}{
		{"native", func(t *testing.T, dir string) {
			for _, n := range streams {
				run(t, dir, w.step, "bench", "--target", w.url, "--model", "sim", "--accelerator", "CPU", "--prompt-tokens", strconv.Itoa(prompt), "--output-tokens", strconv.Itoa(output),
					"--batch-size", strconv.Itoa(n), "--max-seconds", "8", "--output", filepath.Join(dir, strconv.Itoa(n)))
			}
		}, nil, ""},
		{"aiperf 0.11.0", func(t *testing.T, dir string) { w.aiperf(t, "0.11.0", dir, "--concurrency", list) }, nil, ""},
		{"aiperf 0.12.0", func(t *testing.T, dir string) { w.aiperf(t, "0.12.0", dir, "--concurrency", list) }, nil, ""},
		{"aiperf 0.13.0", func(t *testing.T, dir string) { w.aiperf(t, "0.13.0", dir, "--concurrency", list) }, nil, ""},
		{"inference-perf", func(t *testing.T, dir string) {
			var stages []string
			for _, n := range streams {
				stages = append(stages, fmt.Sprintf("{num_requests: %d, concurrency_level: %d}", 16*n, n))
			}
			w.inferencePerf(t, dir, "concurrent", stages...)
		}, nil, ""},
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
		}, []string{"--model", "sim"}, ""},
		{"vllm", func(t *testing.T, dir string) {
			for _, n := range streams {
				w.vllmBench(t, dir, "--num-prompts", strconv.Itoa(16*n), "--max-concurrency", strconv.Itoa(n), "--result-filename", fmt.Sprintf("run-%d.json", n))
			}
		}, nil, ""},
		{"vllm sweep", func(t *testing.T, dir string) {
			// It starts its servers itself, and asks at the port of their command.
			port := w.url[strings.LastIndex(w.url, ":")+1:]
			serve, params := filepath.Join(t.TempDir(), "serve"), filepath.Join(t.TempDir(), "params.json")
			if err := os.WriteFile(serve, []byte("#!/bin/sh\nsleep 3600\n"), 0o755); err != nil { // the server is there already
				t.Fatal(err)
			}
			var levels []string
			for _, n := range streams {
				levels = append(levels, fmt.Sprintf(`{"max_concurrency": %d, "num_prompts": %d}`, n, 16*n))
			}
			if err := os.WriteFile(params, []byte("["+strings.Join(levels, ", ")+"]"), 0o644); err != nil {
				t.Fatal(err)
			}
			python := w.python(t, "vllm")
			run(t, dir, strings.TrimSpace(run(t, w.root, "hack/uv.sh")), "pip", "install", "--quiet", "--python", python, "pandas") // for its summary
			run(t, dir, python, "-m", "vllm.benchmarks.sweep.serve", "--serve-cmd", serve+" --host 127.0.0.1 --port "+port,
				"--bench-cmd", strings.Join(w.vllmCommand(t, "--save-detailed"), " "), "--after-bench-cmd", "true", "--bench-params", params,
				"--num-runs", "1", "--warmup-num-prompts", "4", "--output-dir", dir, "--experiment-name", "sweep")
		}, nil, ""},
		{"guidellm", func(t *testing.T, dir string) {
			w.guidellm(t, "0.8.1", fmt.Sprintf(`{"kind":"concurrent","streams":[%s]}`, list),
				"--output", "kind=json,path="+dir+"/r.json", "--output", "kind=yaml,path="+dir+"/y/r.yaml", "--output", "kind=csv,path="+dir+"/c/r.csv")
			// The others say the same.
			for _, other := range []string{"y", "c"} {
				to := filepath.Join(t.TempDir(), other)
				if err := os.Rename(filepath.Join(dir, other), to); err != nil {
					t.Fatal(err)
				}
				w.check(t, to, []string{"--model", "sim"})
			}
		}, nil, ""},
		{"guidellm 0.7.3 HTML", func(t *testing.T, dir string) {
			// The page comes from the network; what guidellm writes into it does not.
			page := filepath.Join(t.TempDir(), "index.html")
			if err := os.WriteFile(page, []byte("<!DOCTYPE html><html><head><title>GuideLLM</title><script>window.runInfo = {}; window.workloadDetails = {}; window.benchmarks = {};</script></head></html>"), 0o644); err != nil {
				t.Fatal(err)
			}
			t.Setenv("GUIDELLM__REPORT_GENERATION__SOURCE", page)
			w.guidellm(t, "0.7.3", fmt.Sprintf(`{"kind":"concurrent","streams":[%s]}`, list), "--output", "kind=html,path="+dir+"/r.html")
		}, []string{"--model", "sim"}, "r.html"},
	} {
		t.Run(tool.name, func(t *testing.T) {
			dir := t.TempDir()
			tool.load(t, dir)
			w.check(t, filepath.Join(dir, tool.file), tool.asks)
		})
	}
}

// TestOpenLoops: requests that arrive at a rate are read as what they are, each tool's
// way, and their ITL is the law's at the batch that they made.
func TestOpenLoops(t *testing.T) {
	w := newWorld(t)
	const rate, seconds = 8, 10
	stage := fmt.Sprintf("{rate: %d, duration: %d}", rate, seconds)
	for _, tool := range []struct { // names are in paths, in which guidellm's options bear no comma
		name, arrivals string
		load           func(t *testing.T, dir string)
	}{
		{"vllm", "poisson", func(t *testing.T, dir string) {
			w.vllmBench(t, dir, "--num-prompts", strconv.Itoa(rate*seconds), "--request-rate", strconv.Itoa(rate), "--result-filename", "rate.json")
		}},
		{"aiperf", "poisson", func(t *testing.T, dir string) { w.aiperf(t, "0.13.0", dir, "--request-rate", strconv.Itoa(rate)) }},
		{"aiperf constant", "constant", func(t *testing.T, dir string) {
			w.aiperf(t, "0.13.0", dir, "--request-rate", strconv.Itoa(rate), "--arrival-pattern", "constant")
		}},
		{"inference-perf constant", "constant", func(t *testing.T, dir string) { w.inferencePerf(t, dir, "constant", stage) }},
		{"inference-perf poisson", "poisson", func(t *testing.T, dir string) { w.inferencePerf(t, dir, "poisson", stage) }},
		{"guidellm constant", "constant", func(t *testing.T, dir string) {
			w.guidellm(t, "0.8.1", fmt.Sprintf(`{"kind":"constant","rate":[%d]}`, rate), "--output", "kind=json,path="+dir+"/r.json")
		}},
		{"guidellm poisson", "poisson", func(t *testing.T, dir string) {
			t.Setenv("GUIDELLM__MAX_WORKER_PROCESSES", "1") // otherwise requests come in clumps, which TestClumps shows
			w.guidellm(t, "0.8.1", fmt.Sprintf(`{"kind":"poisson","rate":[%d]}`, rate), "--output", "kind=json,path="+dir+"/r.json")
		}},
	} {
		t.Run(tool.name, func(t *testing.T) {
			dir, out := t.TempDir(), t.TempDir()
			tool.load(t, dir)
			t.Log(run(t, dir, w.step, "measure", "--accelerator", "CPU", "--slo", "itl=30ms", "--output", out, dir))
			found, err := filepath.Glob(filepath.Join(out, "CPU/check/*/measurement.json"))
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			data, err := os.ReadFile(found[0])
			if err != nil {
				t.Fatal(err)
			}
			m, err := measurement.Decode(bytes.NewReader(data), found[0])
			if err != nil {
				t.Fatal(err)
			}
			if m.Open == nil || m.Open.Rate != rate || m.Open.Arrivals != tool.arrivals || len(m.Taken.Void) > 0 || m.Taken.ITL == nil || len(m.Open.Objectives) != 1 || !m.Open.Objectives[0].Met {
				t.Fatalf("%s", data)
			}
			if law := gamma + delta*prompt*m.Taken.Batch; m.Taken.TTFT != nil && (m.Taken.TTFT.MS < 0.5*law || m.Taken.TTFT.MS > 100*law) {
				t.Fatalf("TTFT %.4g ms, truth %.4g: no lack of CPU explains that", m.Taken.TTFT.MS, law)
			} else if m.Taken.TTFT != nil && m.Taken.TTFT.MS > 3*law {
				t.Skipf("the client had no CPU: its TTFT is %.4g ms where the server's law is %.4g, and what it saw of ITL is its own", m.Taken.TTFT.MS, law)
			}
			met := m.Taken.Batch
			if tool.arrivals == sweep.Poisson { // of whom each request sees as many as there are in the mean, besides itself
				met++
			}
			if law := alpha + beta*met; math.Abs(m.Taken.ITL.MS-law) > max(0.1*law, 3*m.Taken.ITL.StandardErrorMS) { // a client on cores that others use knows how uncertain it is
				t.Errorf("ITL %.4g ms at a batch of %.3g, truth %.4g", m.Taken.ITL.MS, m.Taken.Batch, law)
			}
		})
	}
}

// TestClumps: guidellm's arrivals at random are none while several processes make them,
// each of which draws the same gaps, and a measurement says so.
func TestClumps(t *testing.T) {
	w := newWorld(t)
	for _, processes := range []string{"10", "1"} { // 10 is guidellm's own
		t.Run(processes, func(t *testing.T) {
			t.Setenv("GUIDELLM__MAX_WORKER_PROCESSES", processes)
			dir := t.TempDir()
			w.guidellm(t, "0.8.1", `{"kind":"poisson","rate":[8]}`, "--constraint", "kind=max_duration,seconds=20", "--output", "kind=json,path="+dir+"/r.json")
			var ms []measurement.Measurement
			if err := json.Unmarshal([]byte(run(t, dir, w.step, "measure", "--accelerator", "CPU", "--format", "json", dir)), &ms); err != nil || len(ms) != 1 || ms[0].Open == nil || ms[0].Taken.ITL == nil {
				t.Fatalf("%v, %+v", err, ms)
			}
			m := ms[0]
			t.Logf("%.3g requests/s arrived, %.3g times as uneven as at random, ITL %.4g ms", m.Open.Sent, m.Open.Dispersion, m.Taken.ITL.MS)
			if clumps := processes != "1"; m.Open.Clumped != clumps || m.Taken.Has(reason.Arrivals) != clumps {
				t.Errorf("%+v, %+v", m.Open, m.Taken.Findings)
			}
		})
	}
}

// aiperf runs one of its versions.
func (w *world) aiperf(t *testing.T, version, dir string, load ...string) {
	t.Helper()
	python := w.python(t, "loadtools", "aiperf="+version)
	run(t, dir, filepath.Join(filepath.Dir(python), "aiperf"), append([]string{"profile", "-m", "sim", "--url", w.url, "--endpoint-type", "chat", "--streaming",
		"--tokenizer", w.tokenizer, "--isl", strconv.Itoa(prompt), "--osl", strconv.Itoa(output), "--extra-inputs", "ignore_eos:true",
		"--benchmark-duration", "8", "--warmup-request-count", "4", "--use-server-token-count", "--artifact-dir", dir, "--ui", "none", "--export-level", "records"}, load...)...)
}

// vllmCommand is vLLM's bench serve.
func (w *world) vllmCommand(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{w.python(t, "vllm"), filepath.Join(w.root, "hack/loadtools/vllm-bench.py"), "--backend", "openai", "--base-url", w.url, "--endpoint", "/v1/completions",
		"--model", "sim", "--tokenizer", w.tokenizer, "--dataset-name", "random", "--random-input-len", strconv.Itoa(prompt), "--random-output-len", strconv.Itoa(output),
		"--ignore-eos", "--disable-tqdm"}, more...)
}

// vllmBench runs it and keeps what it measured.
func (w *world) vllmBench(t *testing.T, dir string, load ...string) {
	t.Helper()
	c := w.vllmCommand(t, append(load, "--save-result", "--save-detailed", "--result-dir", dir)...)
	run(t, dir, c[0], c[1:]...)
}

// inferencePerf runs stages of a kind of load.
func (w *world) inferencePerf(t *testing.T, dir, load string, stages ...string) {
	t.Helper()
	python := w.python(t, "loadtools", "inference-perf")
	lengths := func(n int) string {
		return fmt.Sprintf("{min: %[1]d, max: %[1]d, mean: %[1]d, std_dev: 0, total_count: 1000}", n)
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	text := fmt.Sprintf("api: {type: completion, streaming: true}\ndata: {type: random, input_distribution: %s, output_distribution: %s}\n"+
		"load: {type: %s, num_workers: 1, interval: 0.5, stages: [%s]}\nserver: {type: vllm, model_name: sim, base_url: %q, ignore_eos: true}\n"+
		"tokenizer: {pretrained_model_name_or_path: %q}\nreport: {request_lifecycle: {summary: true, per_stage: true, per_request: true}}\nstorage: {local_storage: {path: %q}}\n",
		lengths(prompt), lengths(output), load, strings.Join(stages, ", "), w.url, w.tokenizer, dir)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, dir, filepath.Join(filepath.Dir(python), "inference-perf"), "-c", config)
}

// guidellm runs one of its versions from 0.7 on.
func (w *world) guidellm(t *testing.T, version, profile string, outputs ...string) {
	t.Helper()
	run(t, w.root, w.python(t, "guidellm", version), append([]string{"run", "--backend", "kind=openai_http,target=" + w.url + ",model=sim,request_format=/v1/completions",
		"--profile", profile, "--constraint", "kind=max_duration,seconds=8",
		"--data", fmt.Sprintf("kind=synthetic_text,prompt_tokens=%d,output_tokens=%d", prompt, output), "--tokenizer", "kind=huggingface_auto,model=" + w.tokenizer, "--disable-progress"}, outputs...)...)
}

// check estimates from a file, or from what lies in a directory, and compares with the law.
func (w *world) check(t *testing.T, from string, asks []string) {
	t.Helper()
	measured, out := t.TempDir(), t.TempDir()
	if matches, _ := filepath.Glob(filepath.Join(from, "*/measurement.json")); len(matches) > 0 { // step's own
		measured = from
	} else {
		t.Log(run(t, w.root, w.step, append(append([]string{"measure", "--accelerator", "CPU", "--output", measured}, asks...), from)...))
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
