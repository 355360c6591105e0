package stepcli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
)

func step(args ...string) (code int, stdout, stderr string) {
	var out, words bytes.Buffer
	code = Run(context.Background(), args, strings.NewReader(""), &out, &words)
	return code, out.String(), words.String()
}

func TestAggregateFromReports(t *testing.T) {
	sweep := unpack(t, "v0.7.3-concurrent-sweep.json")
	out := t.TempDir()
	code, stdout, stderr := step("aggregate", sweep, "--accelerator", "A100", "--output", out, "--expect", "A100", "--verbose")
	if code != 0 {
		t.Fatalf("code %d: %s", code, stderr)
	}
	for _, want := range []string{
		"WARNED: The parameters can be used with", "(linear4, ms; ±: 95 %)", "mock-model on A100, 128/32 tokens: warned (wls over measured batch)",
		"alpha, beta: no interval", "client mean", "check at batch 1: ITL 9.66294 ms, measured 9.66294 (+0.00 %)", "check at batch 4: ITL ",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("stdout does not say %q:\n%s", want, stdout)
		}
	}
	got := strings.Join(files(t, out), " ")
	want := "A100/parameters/128-32.json outputs/alpha outputs/answer outputs/beta outputs/delta outputs/drift outputs/drift-percent outputs/gamma outputs/parameters outputs/reasons outputs/verdict parameters.json report/index.html summary.json"
	if got != want {
		t.Errorf("wrote %s", got)
	}

	code, stdout, stderr = step("render", filepath.Join(out, "summary.json"), filepath.Join(out, "parameters.json"), "--format", "variantautoscaling")
	if code != 0 || !strings.Contains(stdout, `alpha: "9.27`) || !strings.Contains(stdout, "name: mock-model") {
		t.Errorf("render: code %d, %s%s", code, stdout, stderr)
	}
}

// Where every accelerator failed nobody made the directory; the summary says who failed.
func TestAggregateOfNothing(t *testing.T) {
	absent, out := filepath.Join(t.TempDir(), "summaries"), t.TempDir()
	code, stdout, stderr := step("aggregate", absent, "--output", out, "--expect", "A100,H100")
	if code != exit.Refused || !strings.Contains(stderr, absent+": not there") || !strings.Contains(stderr, "A100: no measurement") || !strings.Contains(stderr, "H100: no measurement") {
		t.Errorf("code %d: %s%s", code, stdout, stderr)
	}
	data, err := os.ReadFile(filepath.Join(out, "summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := parameters.DecodeSummary(bytes.NewReader(data), "summary.json"); err != nil || len(s.Failures) != 2 {
		t.Errorf("%+v, %v", s.Failures, err)
	}
	if code, _, stderr := step("aggregate", absent, "--output", out); code != exit.Usage || !strings.Contains(stderr, "no such file") {
		t.Errorf("without --expect: code %d: %s", code, stderr)
	}
}

func TestAggregateWritesWhatIsGoodAndRefusesTheRest(t *testing.T) {
	sweep, failed := unpack(t, "v0.7.3-concurrent-sweep.json"), unpack(t, "v0.7.3-all500.json")
	out := t.TempDir()
	code, stdout, stderr := step("aggregate", sweep, failed, "--accelerator", "A100", "--output", out, "--expect", "A100,H100")
	if code != exit.Refused || !strings.Contains(stderr, "none of 6 requests succeeded") || !strings.Contains(stderr, "H100: no measurement") {
		t.Errorf("code %d: %s", code, stderr)
	}
	if !strings.Contains(stdout, "REFUSED: 1 of 2 sets") || !strings.Contains(stdout, "H100: no parameters") || strings.Contains(stdout, "check at") {
		t.Error(stdout)
	}
	if got := strings.Join(files(t, out), " "); !strings.Contains(got, "A100/parameters/128-32.json A100/parameters/32-8.json") {
		t.Errorf("wrote %s", got)
	}
	code, stdout, stderr = step("render", out, "--format", "variantautoscaling", "--shape", "32/8")
	if code != exit.Refused || stdout != "" || !strings.Contains(stderr, "is refused") {
		t.Errorf("render of what is refused: code %d, %q, %s", code, stdout, stderr)
	}
	if code, stdout, _ = step("render", out, "--format", "variantautoscaling", "--shape", "128/32", "--name", "x", "--max-batch-size", "256", "--acc-count", "A100=2"); code != 0 ||
		!strings.Contains(stdout, "maxBatchSize: 256") || !strings.Contains(stdout, "accCount: 2") {
		t.Errorf("render of what is good: code %d, %s", code, stdout)
	}
}

func TestAggregateAndRenderUsage(t *testing.T) {
	out := t.TempDir()
	empty := t.TempDir()
	blocked := filepath.Join(empty, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	noModel := unpack(t, "v0.4.0-concurrent-sweep.json")
	for _, c := range []struct {
		args string
		code int
		says []string
	}{
		{"aggregate", exit.Usage, []string{"--output: not given"}},
		{"aggregate --output " + out + " --method guess --source me --ttft p99 --batch big --shapes 1x2", exit.Usage,
			[]string{"nothing to read", `--method: found "guess", expected one of wls, two-point`, "--source", "--ttft", "--batch", "--shapes"}},
		{"aggregate " + empty + "/none --output " + out, exit.Usage, []string{"no such file"}},
		{"aggregate " + t.TempDir() + " --output " + out, exit.Refused, []string{"no measurement, report, parameters or summary found"}},
		{"aggregate " + noModel + " --output " + out, exit.Usage, []string{"does not name its model; give it with --model"}},
		{"aggregate " + noModel + " --model m --output ftp://x", exit.Usage, []string{"ftp:// is not supported"}},
		{"render --format variantautoscaling", exit.Usage, []string{"nothing to read"}},
		{"render --format variantautoscaling --max-batch-size 0 --acc-count A=x --shape 3 --slo-class x " + out, exit.Usage,
			[]string{"--max-batch-size", "--acc-count", "--shape", "--slo-class"}},
		{"render --format yaml " + empty, exit.Refused, []string{"no parameters found"}},
		{"render --format variantautoscaling " + noModel, exit.Refused, []string{"step aggregate"}},
	} {
		code, stdout, stderr := step(strings.Fields(c.args)...)
		if code != c.code || strings.Contains(stdout, "linear4") {
			t.Errorf("step %s: code %d, want %d: %s", c.args, code, c.code, stderr)
		}
		for _, want := range c.says {
			if !strings.Contains(stderr, want) {
				t.Errorf("step %s: %q does not say %q", c.args, stderr, want)
			}
		}
	}
	// Nowhere to write: an error, and not the one of a refusal.
	if code, _, stderr := step("aggregate", unpack(t, "v0.7.3-concurrent-sweep.json"), "--output", blocked); code == 0 || code == exit.Refused {
		t.Errorf("unwritable output: code %d: %s", code, stderr)
	}
}

func TestAggregateIntoAConfigMap(t *testing.T) {
	var got struct{ Data map[string]string }
	code := http.StatusCreated
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case code != http.StatusCreated:
			w.WriteHeader(code)
		case r.Method == http.MethodPatch:
			w.WriteHeader(http.StatusNotFound)
		default:
			if r.URL.Path != "/api/v1/namespaces/llm/configmaps" || json.NewDecoder(r.Body).Decode(&got) != nil {
				t.Errorf("%s %s", r.Method, r.URL)
			}
			w.WriteHeader(code)
		}
	}))
	defer api.Close()
	inCluster = func() (*kube.Client, error) { return kube.New(api.URL, "llm", "", api.Client()), nil }
	defer func() { inCluster = kube.InCluster }()

	sweep, out := unpack(t, "v0.7.3-concurrent-sweep.json"), t.TempDir()
	if code, _, words := step("aggregate", sweep, "--accelerator", "A100", "--output", out, "--configmap", "results"); code != exit.Done || !strings.Contains(words, "ConfigMap results in namespace llm: 1 set of parameters") {
		t.Fatalf("exit %d: %s", code, words)
	}
	file, err := os.ReadFile(filepath.Join(out, "parameters.json"))
	if err != nil || got.Data["parameters.json"] != string(file) || got.Data["A100.128-32.json"] != string(file) || got.Data["summary.json"] == "" {
		t.Errorf("the ConfigMap differs from the files: %v, %v", got.Data, err)
	}
	for answer, want := range map[int]int{http.StatusForbidden: exit.Unusable, http.StatusUnprocessableEntity: exit.Usage, http.StatusInternalServerError: exit.TryAgain} {
		code = answer
		if exited, _, words := step("aggregate", sweep, "--accelerator", "A100", "--output", out, "--configmap", "results"); exited != want {
			t.Errorf("HTTP %d: exit %d: %s", answer, exited, words)
		}
	}
}

func TestAggregateOverARange(t *testing.T) {
	dir, out := measured(t, "", iteration(0.02)), t.TempDir()
	if code, _, stderr := step("aggregate", dir, "--output", out, "--range", "4..32"); code != 0 {
		t.Fatalf("code %d: %s", code, stderr)
	}
	code, stdout, stderr := step("predict", out, "--shape", "128/128", "--batch", "2", "--fit", "linear4")
	if code != exit.Refused || !strings.Contains(stderr, "the line is that of the batches 4 to 32") {
		t.Errorf("code %d: %s%s", code, stdout, stderr)
	}
	code, _, stderr = step("aggregate", dir, "--output", t.TempDir(), "--range", "four..2")
	if code != exit.Usage || !strings.Contains(stderr, `--range: found "four..2"`) {
		t.Errorf("code %d: %s", code, stderr)
	}
}

// What a raw report does not say is asked for, and given as step measure takes it.
func TestAggregateOfReportsThatSayLittle(t *testing.T) {
	report := unpack(t, "tools/aiperf-0.13.0/concurrency_4/profile_export_aiperf.csv")
	_, _, stderr := step("aggregate", report, "--accelerator", "CPU", "--output", t.TempDir())
	if !strings.Contains(stderr, "--model") {
		t.Errorf("without: %s", stderr)
	}
	out := t.TempDir()
	step("aggregate", report, "--accelerator", "CPU", "--model", "m", "--batch-size", "4", "--shape", "64/32", "--output", out)
	summary, err := os.ReadFile(out + "/summary.json")
	if err != nil || !strings.Contains(string(summary), `"prompt_tokens": 64`) {
		t.Errorf("with all of them: %v\n%s", err, summary)
	}
	if code, _, stderr := step("aggregate", report, "--batch-size", "0", "--shape", "64", "--output", out); code != exit.Usage || !strings.Contains(stderr, "--batch-size: 0") || !strings.Contains(stderr, "--shape: ") {
		t.Errorf("code %d: %s", code, stderr)
	}
}
