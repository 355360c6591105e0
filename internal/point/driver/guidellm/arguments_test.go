package guidellm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/release"
)

func version(t *testing.T, text string) *Guidellm {
	t.Helper()
	r, ok := release.Parse(text)
	if !ok {
		t.Fatalf("%s is no version", text)
	}
	return &Guidellm{binary: "/opt/app-root/bin/guidellm", version: r}
}

// Words of a command line, of which none here holds a space.
func words(line string) []string { return strings.Fields(line) }

func TestArguments(t *testing.T) {
	many := driver.Options{
		Target: "http://vllm:8000", Model: "org/model", Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 64},
		BatchSize: 8, MaxSeconds: 90, MaxRequests: 500, Seed: 7, Tokenizer: "org/tokenizer",
	}
	one := many
	one.BatchSize, one.MaxSeconds, one.MaxRequests, one.Tokenizer = 1, 12.5, 0, ""
	spread := many
	spread.Spread = 0.2
	levels := many
	levels.BatchSize, levels.Levels = 0, []int{1, 8}
	counted := many
	counted.MaxSeconds = 0

	tests := []struct {
		versions string
		options  driver.Options
		want     string
	}{
		{"0.2.0 0.2.1", many, `benchmark --target http://vllm:8000 --model org/model --rate-type concurrent --rate 8.0
			--max-seconds 90 --max-requests 500 --data prompt_tokens=128,output_tokens=64,samples=516 --random-seed 7
			--processor org/tokenizer --output-path /w/report.json --disable-progress`},
		{"0.3.0 0.3.1", many, `benchmark run --target http://vllm:8000 --model org/model --rate-type concurrent --rate 8.0
			--max-seconds 90 --max-requests 500 --data prompt_tokens=128,output_tokens=64,samples=516 --random-seed 7
			--processor org/tokenizer --output-path /w/report.json --disable-progress`},
		{"0.3.1", one, `benchmark run --target http://vllm:8000 --model org/model --rate-type synchronous
			--max-seconds 12.5 --data prompt_tokens=128,output_tokens=64,samples=51 --random-seed 7
			--output-path /w/report.json --disable-progress`},
		{"0.4.0 0.5.0 0.5.1 0.5.3", many, `benchmark run --target http://vllm:8000 --model org/model --request-type text_completions
			--profile concurrent --rate 8 --max-seconds 90 --max-requests 500 --data prompt_tokens=128,output_tokens=64
			--random-seed 7 --processor org/tokenizer --output-dir /w --outputs report.json --disable-console-interactive`},
		{"0.5.4", many, `benchmark run --target http://vllm:8000 --model org/model --request-type text_completions
			--profile concurrent --rate 8 --max-seconds 90 --max-requests 500 --data prompt_tokens=128,output_tokens=64
			--random-seed 7 --processor org/tokenizer --sample-requests 0
			--output-dir /w --outputs report.json --disable-console-interactive`},
		{"0.6.0 0.6.1", many, `benchmark run --target http://vllm:8000 --model org/model --request-format /v1/completions
			--profile concurrent --rate 8 --max-seconds 90 --max-requests 500 --data prompt_tokens=128,output_tokens=64
			--random-seed 7 --processor org/tokenizer --sample-requests 0
			--output-dir /w --outputs report.json --disable-console-interactive`},
		{"0.6.1", one, `benchmark run --target http://vllm:8000 --model org/model --request-format /v1/completions
			--profile synchronous --max-seconds 12.5 --data prompt_tokens=128,output_tokens=64
			--random-seed 7 --sample-requests 0 --output-dir /w --outputs report.json --disable-console-interactive`},
		{"0.7.0 0.7.1 0.7.2 0.7.3 0.8.0.dev5+g0123abc 0.8.1 1.0.0", many, `run
			--backend {"kind":"openai_http","target":"http://vllm:8000","model":"org/model","request_format":"/v1/completions"}
			--profile {"kind":"concurrent","streams":8}
			--constraint {"kind":"max_duration","seconds":90} --constraint {"kind":"max_requests","count":500}
			--data {"kind":"synthetic_text","prompt_tokens":128,"output_tokens":64} --seed {"kind":"static","value":7}
			--tokenizer {"kind":"huggingface_auto","model":"org/tokenizer"}
			--metrics {"kind":"generative","sample_size":0} --output {"kind":"json","path":"/w/report.json"}
			--disable-console-interactive`},
		{"0.7.3", one, `run
			--backend {"kind":"openai_http","target":"http://vllm:8000","model":"org/model","request_format":"/v1/completions"}
			--profile {"kind":"synchronous"} --constraint {"kind":"max_duration","seconds":12.5}
			--data {"kind":"synthetic_text","prompt_tokens":128,"output_tokens":64} --seed {"kind":"static","value":7}
			--metrics {"kind":"generative","sample_size":0} --output {"kind":"json","path":"/w/report.json"}
			--disable-console-interactive`},
		{"0.6.1", levels, `benchmark run --target http://vllm:8000 --model org/model --request-format /v1/completions
			--profile concurrent --rate 1,8 --max-seconds 90 --max-requests 500 --data prompt_tokens=128,output_tokens=64
			--random-seed 7 --processor org/tokenizer --sample-requests 0
			--output-dir /w --outputs report.json --disable-console-interactive`},
		{"0.7.3 0.8.1", levels, `run
			--backend {"kind":"openai_http","target":"http://vllm:8000","model":"org/model","request_format":"/v1/completions"}
			--profile {"kind":"concurrent","streams":1} --override profile.streams 1,8
			--constraint {"kind":"max_duration","seconds":90} --constraint {"kind":"max_requests","count":500}
			--data {"kind":"synthetic_text","prompt_tokens":128,"output_tokens":64} --seed {"kind":"static","value":7}
			--tokenizer {"kind":"huggingface_auto","model":"org/tokenizer"}
			--metrics {"kind":"generative","sample_size":0} --output {"kind":"json","path":"/w/report.json"}
			--disable-console-interactive`},
		{"0.2.1", spread, `benchmark --target http://vllm:8000 --model org/model --rate-type concurrent --rate 8.0
			--max-seconds 90 --max-requests 500 --data prompt_tokens=128,output_tokens=64,output_tokens_min=52,output_tokens_max=75,samples=516
			--random-seed 7 --processor org/tokenizer --output-path /w/report.json --disable-progress`},
		{"0.3.1", spread, `benchmark run --target http://vllm:8000 --model org/model --rate-type concurrent --rate 8.0
			--max-seconds 90 --max-requests 500 --data prompt_tokens=128,output_tokens=64,output_tokens_min=52,output_tokens_max=76,samples=516
			--random-seed 7 --processor org/tokenizer --output-path /w/report.json --disable-progress`},
		{"0.4.0", spread, `benchmark run --target http://vllm:8000 --model org/model --request-type text_completions
			--profile concurrent --rate 8 --max-seconds 90 --max-requests 500
			--data prompt_tokens=128,output_tokens=64,output_tokens_min=52,output_tokens_max=76
			--random-seed 7 --processor org/tokenizer --output-dir /w --outputs report.json --disable-console-interactive`},
		{"0.7.3", spread, `run
			--backend {"kind":"openai_http","target":"http://vllm:8000","model":"org/model","request_format":"/v1/completions"}
			--profile {"kind":"concurrent","streams":8}
			--constraint {"kind":"max_duration","seconds":90} --constraint {"kind":"max_requests","count":500}
			--data {"kind":"synthetic_text","prompt_tokens":128,"output_tokens":64,"output_tokens_min":52,"output_tokens_max":76}
			--seed {"kind":"static","value":7} --tokenizer {"kind":"huggingface_auto","model":"org/tokenizer"}
			--metrics {"kind":"generative","sample_size":0} --output {"kind":"json","path":"/w/report.json"}
			--disable-console-interactive`},
		{"0.7.3", counted, `run
			--backend {"kind":"openai_http","target":"http://vllm:8000","model":"org/model","request_format":"/v1/completions"}
			--profile {"kind":"concurrent","streams":8} --constraint {"kind":"max_requests","count":500}
			--data {"kind":"synthetic_text","prompt_tokens":128,"output_tokens":64} --seed {"kind":"static","value":7}
			--tokenizer {"kind":"huggingface_auto","model":"org/tokenizer"}
			--metrics {"kind":"generative","sample_size":0} --output {"kind":"json","path":"/w/report.json"}
			--disable-console-interactive`},
	}
	for _, test := range tests {
		for _, v := range words(test.versions) {
			p, err := version(t, v).command(test.options)
			if err != nil {
				t.Errorf("%s: %v", v, err)
				continue
			}
			if diff := cmp.Diff(words(test.want), p.args("/w/report.json")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", v, diff)
			}
			if unknown := version(t, v).version.Newer(); unknown != slices.ContainsFunc(p.notes, func(n string) bool { return strings.Contains(n, "newer") }) {
				t.Errorf("%s: notes %q", v, p.notes)
			}
		}
	}
}

// The key is in the environment where the version can read it there, and nowhere
// in the arguments of any; where it cannot, the run is refused.
func TestKey(t *testing.T) {
	const key = `sk-"odd" & secret`
	tests := []struct {
		versions, key string
		env           string // empty: refused
		says          string
	}{
		{"0.2.1 0.3.1", key, "GUIDELLM__OPENAI__API_KEY=" + key, ""},
		{"0.4.0 0.5.1", key, "", "cannot send an API key"},
		{"0.5.2 0.5.4 0.6.1", key, `GUIDELLM_BACKEND_KWARGS={"api_key":"sk-\"odd\" & secret"}`, ""},
		{"0.7.0 0.7.3 0.9.0", key, `GUIDELLM__SPEC__BACKEND={"kind":"openai_http","target":"http://vllm","model":"m","request_format":"/v1/completions","api_key":"sk-\"odd\" & secret"}`, ""},
		{"0.3.1 0.6.1", "short", "", "8 characters"},
		{"0.7.3", "short", `GUIDELLM__SPEC__BACKEND={"kind":"openai_http","target":"http://vllm","model":"m","request_format":"/v1/completions","api_key":"short"}`, ""},
	}
	for _, test := range tests {
		for _, v := range words(test.versions) {
			p, err := version(t, v).command(driver.Options{Target: "http://vllm", Model: "m", Shape: sweep.Shape{PromptTokens: 8, OutputTokens: 8}, BatchSize: 2, MaxRequests: 20, APIKey: test.key})
			if test.env == "" {
				if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), v) || strings.Contains(err.Error(), test.key) {
					t.Errorf("%s: code %d: %v", v, exit.Code(err), err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", v, err)
				continue
			}
			if !slices.Contains(p.env, test.env) {
				t.Errorf("%s: environment %q", v, p.env)
			}
			if args := strings.Join(p.args("/w/report.json"), " "); strings.Contains(args, "secret") || strings.Contains(args, "short") {
				t.Errorf("%s: arguments %s", v, args)
			}
		}
	}
}

func TestPlanRefusesAndNotes(t *testing.T) {
	good := driver.Options{Target: "http://vllm", Model: "m", Shape: sweep.Shape{PromptTokens: 8, OutputTokens: 8}, BatchSize: 4, MaxRequests: 39}
	p, err := version(t, "0.7.3").command(good)
	if err != nil || len(p.notes) != 1 || !strings.Contains(p.notes[0], "fewer than 10 in each of 4 streams") {
		t.Errorf("notes %q, %v", p.notes, err)
	}
	for target, says := range map[string]string{"http://me:hunter2@vllm": "credentials", "vllm:8000": "http://vllm:8000", "": "URL", "http://me:hunter2@%zz": "URL"} {
		o := good
		o.Target = target
		_, err := version(t, "0.7.3").command(o)
		if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: code %d: %v", target, exit.Code(err), err)
		}
	}
	shared := good
	shared.Levels = []int{1, 4}
	if _, err := version(t, "0.3.1").command(shared); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "share") {
		t.Errorf("levels of 0.3.1: %v", err)
	}
}

// guidellm runs in another directory, so that a tokenizer given by a relative
// path must be made absolute; a model id must not.
func TestTokenizerPath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("tok", 0o755); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{"tok": filepath.Join(dir, "tok"), "./tok": filepath.Join(dir, "tok"), "org/model": "org/model"} {
		p, err := version(t, "0.6.1").command(driver.Options{Target: "http://vllm", Model: "m", Shape: sweep.Shape{PromptTokens: 8, OutputTokens: 8}, BatchSize: 1, MaxSeconds: 1, Tokenizer: given})
		if err != nil {
			t.Fatal(err)
		}
		args := p.args("/w/r.json")
		if got := args[slices.Index(args, "--processor")+1]; got != want {
			t.Errorf("%s became %s, want %s", given, got, want)
		}
	}
}

// A directory that is not there would be looked for as a model, after a start.
func TestMissingTokenizer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokenizer.json")
	if err := os.WriteFile(file, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, given := range []string{"/no/such", "./no/such", "../no", file} {
		_, err := version(t, "0.7.3").command(driver.Options{Target: "http://vllm", Model: "m", Shape: sweep.Shape{PromptTokens: 8, OutputTokens: 8}, BatchSize: 1, MaxSeconds: 1, Tokenizer: given})
		if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "give --tokenizer") {
			t.Errorf("%s: code %d: %v", given, exit.Code(err), err)
		}
	}
}

func TestSamples(t *testing.T) {
	for _, test := range []struct {
		in, out, batch int
		seconds        float64
		requests, want int
	}{
		{128, 128, 1, 60, 0, 118 + 2},           // 60 s of 0.512 s each
		{128, 128, 64, 60, 0, 7500 + 128},       // 64 at once
		{4096, 64, 64, 60, 0, 1465 + 128},       // bound by reading prompts
		{128, 128, 64, 60, 640, 640 + 128},      // bound by the requests
		{128, 128, 64, 0, 10_000, 10_000 + 128}, // by them alone
	} {
		o := driver.Options{Shape: sweep.Shape{PromptTokens: test.in, OutputTokens: test.out}, BatchSize: test.batch, MaxSeconds: test.seconds, MaxRequests: test.requests}
		if got := samples(o); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}

func TestEnvironment(t *testing.T) {
	p, err := version(t, "0.6.1").command(driver.Options{Target: "http://vllm", Model: "m", Shape: sweep.Shape{PromptTokens: 8, OutputTokens: 8}, BatchSize: 1, MaxSeconds: 1, APIKey: "a-key-of-ours"})
	if err != nil {
		t.Fatal(err)
	}
	got := p.environment(words(`PATH=/bin HF_HUB_OFFLINE=1 HF_TOKEN=x COLUMNS=80
		STEP_API_KEY=a-key-of-ours AWS_SECRET_ACCESS_KEY=x AWS_SESSION_TOKEN=x DATABASE_PASSWORD=x KUBERNETES_SERVICE_HOST=x PATHOLOGY=x
		GUIDELLM_OUTPUT_PATH=/results/benchmarks.json GUIDELLM_OUTPUT_DIR=/results GUIDELLM_RATE=3 GUIDELLM_BACKEND_KWARGS={}
		GUIDELLM__DEFAULT_RESULTS_DIR=/results GUIDELLM__SPEC__BACKEND={} GUIDELLM__OPENAI__API_KEY=other
		GUIDELLM__MAX_WORKER_PROCESSES=4 GUIDELLM__OPENAI__VERIFY=false`))
	want := words(`PATH=/bin HF_HUB_OFFLINE=1 HF_TOKEN=x GUIDELLM__MAX_WORKER_PROCESSES=4 GUIDELLM__OPENAI__VERIFY=false
		GUIDELLM_BACKEND_KWARGS={"api_key":"a-key-of-ours"} COLUMNS=250 PYTHONUNBUFFERED=1`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
