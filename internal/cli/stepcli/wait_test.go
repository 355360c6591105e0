package stepcli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
)

// simulated is a server of the model m at a port of 127.0.0.1.
func simulated(t *testing.T, c simulate.Config) *url.URL {
	t.Helper()
	c.Model = "m"
	s, err := simulate.New(c)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() { h.Close(); s.Close() })
	u, err := url.Parse(h.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestWaitTellsBenchWhatItFound(t *testing.T) {
	u := simulated(t, simulate.Config{Alpha: 5, Gamma: 10})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/pods") && r.URL.Query().Get("labelSelector") == "app=vllm":
			_, _ = fmt.Fprintf(w, `{"items":[{"metadata":{"name":"vllm-1"},"spec":{"nodeName":"n1","containers":[{"name":"vllm","image":"vllm:v1","args":["--model","m"]}]},
				"status":{"phase":"Running","podIP":"127.0.0.1","containerStatuses":[{"name":"vllm","ready":true,"imageID":"docker.io/vllm@sha256:ab"}]}}]}`)
		case r.URL.Path == "/api/v1/nodes/n1":
			_, _ = io.WriteString(w, `{"metadata":{"labels":{"nvidia.com/gpu.product":"NVIDIA-L4"}}}`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer api.Close()
	inCluster = func() (*kube.Client, error) { return kube.New(api.URL, "llm", "", api.Client()), nil }
	defer func() { inCluster = kube.InCluster }()

	out := t.TempDir()
	code, _, words := step("wait", "--pods", "app=vllm", "--port", u.Port(), "--model", "m", "--output", out)
	if code != exit.Done {
		t.Fatalf("exit %d: %s", code, words)
	}
	output := func(name string) string {
		data, err := os.ReadFile(filepath.Join(out, "outputs", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if got := output("target"); got != u.String() {
		t.Errorf("target %q", got)
	}
	want := `{"pod":"vllm-1","node":"n1","image":"vllm:v1","image_digest":"sha256:ab","args":["--model","m"],"gpu":"NVIDIA-L4"}`
	if got := output("server"); got != want {
		t.Errorf("server %s", got)
	}

	code, _, words = step("bench", "--accelerator", "A100", "--target", output("target"), "--server", output("server"), "--model", "m", "--batch-size", "2",
		"--prompt-tokens", "8", "--output-tokens", "4", "--max-seconds", "0", "--max-requests", "20", "--output", out)
	if code != exit.Done {
		t.Fatalf("exit %d: %s", code, words)
	}
	data, err := os.ReadFile(filepath.Join(out, "measurement.json"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := measurement.Decode(bytes.NewReader(data), "measurement.json")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := json.Marshal(m.Provenance.Instance); err != nil || string(got) != want {
		t.Errorf("kept with the measurement: %s, %v", got, err)
	}
}

func TestWaitWithoutACluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	code, _, words := step("wait", "--pods", "app=vllm", "--model", "m")
	if code != exit.Usage || !strings.Contains(words, "from inside a pod") {
		t.Errorf("exit %d: %s", code, words)
	}
	out := t.TempDir()
	u := simulated(t, simulate.Config{})
	code, stdout, words := step("wait", "--pods", "app=vllm", "--target", u.String(), "--model", "m", "--output", out)
	if code != exit.Done || !strings.Contains(words, "health alone") || !strings.Contains(stdout, "serves m") {
		t.Errorf("exit %d: %s%s", code, stdout, words)
	}
	if data, err := os.ReadFile(filepath.Join(out, "outputs", "server")); err != nil || string(data) != "{}" {
		t.Errorf("nothing is known of it: %s, %v", data, err)
	}
}

func TestWaitNamesEveryMistake(t *testing.T) {
	code, _, words := step("wait", "--model", "m", "--port", "0", "--timeout", "-1s", "--end-pod")
	for _, want := range []string{"--target or --pods", "--port", "--timeout", "--end-pod"} {
		if code != exit.Usage || !strings.Contains(words, want) {
			t.Errorf("exit %d, %q is not in: %s", code, want, words)
		}
	}
}

func TestBenchRefusesAServerThatIsNoJSON(t *testing.T) {
	code, _, words := step("bench", "--accelerator", "A100", "--target", "http://127.0.0.1:1", "--server", "a100", "--model", "m", "--batch-size", "1", "--output", t.TempDir())
	if code != exit.Usage || !strings.Contains(words, "--server") {
		t.Errorf("exit %d: %s", code, words)
	}
}

func TestWaitChecksThePlan(t *testing.T) {
	u := simulated(t, simulate.Config{MaxModelLen: 512, MaxNumSeqs: 8})
	code, stdout, words := step("wait", "--target", u.String(), "--model", "m", "--batch-sizes", "1,8", "--shapes", "128/128")
	if code != exit.Done || !strings.Contains(stdout, "batch that fits") || !strings.Contains(stdout, "serves m") {
		t.Errorf("exit %d: %s%s", code, stdout, words)
	}
	out := t.TempDir()
	code, _, words = step("wait", "--target", u.String(), "--model", "m", "--batch-sizes", "[1,64]", "--shapes", "128/128,1024/256", "--output", out)
	if code != exit.Unusable || !strings.Contains(words, "1024/256 needs 1280 tokens") || !strings.Contains(words, "at batch sizes 64") {
		t.Errorf("exit %d: %s", code, words)
	}
	if files, err := os.ReadDir(out); err != nil || len(files) != 0 {
		t.Errorf("a server that cannot be used is handed on: %v, %v", files, err)
	}
	code, _, words = step("preflight", "--target", u.String(), "--model", "m", "--batch-sizes", "0,x", "--shapes", "1")
	if code != exit.Usage || !strings.Contains(words, "--batch-sizes") || !strings.Contains(words, "--shapes") {
		t.Errorf("exit %d: %s", code, words)
	}
}

// What keeps a server from coming up must reach whoever looks at the pod, and whoever
// reads the summary: an exit code alone tells nothing.
func TestWaitLeavesItsReason(t *testing.T) {
	out := t.TempDir()
	log := filepath.Join(t.TempDir(), "termination-log")
	t.Setenv("STEP_TERMINATION_LOG", log)
	code, _, words := step("wait", "--target", "http://127.0.0.1:1", "--model", "m", "--timeout", "100ms", "--accelerator", "A100", "--output", out)
	if code != exit.TryAgain {
		t.Fatalf("exit %d: %s", code, words)
	}
	message, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(message), "127.0.0.1:1 is not ready") {
		t.Errorf("message %q, %v", message, err)
	}
	f, err := os.Open(filepath.Join(out, "summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := parameters.DecodeSummary(f, f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Failures) != 1 || s.Failures[0].Accelerator != "A100" || s.Failures[0].Reasons[0] != string(message) {
		t.Errorf("failures %+v", s.Failures)
	}

	merged := t.TempDir()
	code, table, words := step("aggregate", out, "--expect", "A100", "--output", merged)
	if code != exit.Refused || !strings.Contains(table+words, "is not ready") || strings.Contains(table+words, "none of its points was finished") {
		t.Errorf("exit %d: %s%s", code, table, words)
	}
}
