package stepcli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// What consumers read lies beside the results and in the ConfigMap; a format that cannot be
// made is said and taken away; where something drifted all of it stays as it was.
func TestPublishedForConsumers(t *testing.T) {
	var got struct{ Data map[string]*string }
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Data = nil
		if r.Method != http.MethodPatch || r.URL.Path != "/api/v1/namespaces/llm/configmaps/sweep-results" || json.NewDecoder(r.Body).Decode(&got) != nil {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		_, _ = w.Write([]byte("{}"))
	}))
	defer api.Close()
	inCluster = func() (*kube.Client, error) { return kube.New(api.URL, "llm", "", api.Client()), nil }
	defer func() { inCluster = kube.InCluster }()

	server := func(factor float64) string {
		return sweptBy(t, "NVIDIA A100", func(s sweep.Shape, n float64) (itl, ttft float64) {
			return factor * (7 + 0.05*n), factor * (15 + 0.0014*float64(s.PromptTokens)*n)
		})
	}
	from, latest, capacities := server(1), t.TempDir(), t.TempDir()
	if code, _, stderr := step("capacity", from, "--slo", "itl=8ms", "--output", capacities); code != 0 {
		t.Fatal(stderr)
	}
	publish := func(summary string, more ...string) (stderr, out string) {
		t.Helper()
		out = t.TempDir()
		code, _, stderr := step(append([]string{"aggregate", summary + "/summary.json", "--output", out, "--latest", latest, "--drift-band", "5%", "--configmap", "sweep-results",
			"--formats", "keda,csv,planner", "--scale-target", "vllm-{accelerator}", "--target-namespace", "llm", "--prometheus", "http://prom:9090", "--max-replicas", "3",
			"--metrics", "sglang", "--shapes", "1024/128,128/128"}, more...)...)
		if code != 0 {
			t.Fatalf("code %d: %s", code, stderr)
		}
		return stderr, out
	}
	stderr, out := publish(from, "--evidence", capacities)
	for name, want := range map[string][]string{
		"keda.yaml":      {"kind: ScaledObject", "name: vllm-a100", "namespace: llm", "serverAddress: http://prom:9090", "maxReplicaCount: 3", "sglang:num_running_reqs", "1024/128"},
		"parameters.csv": {"A100"},
	} {
		file, err := os.ReadFile(out + "/rendered/" + name)
		if err != nil || got.Data[name] == nil || *got.Data[name] != string(file) {
			t.Fatalf("%s: %v, in the ConfigMap %v", name, err, got.Data[name])
		}
		for _, text := range want {
			if !strings.Contains(string(file), text) {
				t.Errorf("%s lacks %q:\n%s", name, text, file)
			}
		}
	}
	if gone, is := got.Data["planner.json"]; !is || gone != nil || !strings.Contains(stderr, "planner: not made:") {
		t.Errorf("planner, of no points: %v\n%s", gone, stderr)
	}

	stderr, _ = publish(from) // without a capacity
	if gone, is := got.Data["keda.yaml"]; !is || gone != nil || !strings.Contains(stderr, "keda: not made: no capacity is known") {
		t.Errorf("keda without a capacity: %v\n%s", gone, stderr)
	}

	stderr, out = publish(server(1.08), "--evidence", capacities)
	if _, err := os.Stat(out + "/rendered"); err == nil || len(got.Data) != 1 || got.Data["summary.json"] == nil || !strings.Contains(stderr, "left as they are") {
		t.Errorf("what drifted is published: %d keys\n%s", len(got.Data), stderr)
	}

	if code, _, stderr := step("aggregate", from, "--output", t.TempDir(), "--formats", "kedda,calibration"); code != exit.Usage || !strings.Contains(stderr, `"kedda" is none of`) || !strings.Contains(stderr, "calibration is of one accelerator") {
		t.Errorf("code %d: %s", code, stderr)
	}
}
