package render

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

func able(accelerator string, rate, flight, most float64) capacity.Capacity {
	e := func(x float64) *capacity.Estimate {
		return &capacity.Estimate{Value: x, Low: new(0.9 * x), High: new(1.1 * x)}
	}
	objective := slo.Objective{Metric: slo.ITL, Statistic: slo.Mean, MS: 20}
	return capacity.Capacity{
		Model: "unsloth/Meta-Llama-3.1-8B", Accelerator: accelerator, Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 128},
		Rate: e(rate), InFlight: e(flight), MostInFlight: e(most), Binding: "itl",
		Objectives: []capacity.Objective{{Objective: objective, Name: "itl"}}, Verdict: fit.NewVerdict(),
		Check: &capacity.Check{Verdict: capacity.Held, Points: []capacity.Checked{{Rate: 0.9 * rate, Met: true,
			Objectives: []measurement.Attained{{Objective: objective, Name: "itl", AttainedMS: 19.2, Share: 0.87, Met: true}}}}},
	}
}

// The golden files are what the consumers take: fields and their units are those of
// keda.sh/docs (prometheus scaler), kubernetes.io (autoscaling/v2), docs.ray.io (Serve
// autoscaling), docs.skypilot.co (SkyServe autoscaling) and knative.dev (concurrency).
func TestCapacityFormats(t *testing.T) {
	fleet := []capacity.Capacity{able("A100", 20, 41.3, 47), able("H100", 44, 72, 80)}
	o := Options{Name: "llama", Namespace: "llm", ScaleTarget: "vllm-{accelerator}", MostReplicas: 12, Prometheus: "http://prometheus:9090"}
	for _, format := range []string{"keda", "hpa", "ray", "skyserve", "knative"} {
		if !TakesCapacity(format) {
			t.Errorf("%s does not take a capacity", format)
		}
		got, err := Capacity(format, fleet, o)
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", "capacity-"+format+".yaml")
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
	one, err := Capacity("skyserve", fleet[:1], o)
	if err != nil || !strings.Contains(string(one), "target_qps_per_replica: 18\n") || strings.Contains(string(one), "instance_aware") {
		t.Errorf("%s, %v", one, err)
	}
}

func TestTheHPAIsKuberneteses(t *testing.T) {
	text, err := Capacity("hpa", []capacity.Capacity{able("A100", 20, 41.3, 47)}, Options{ScaleTarget: "vllm"})
	if err != nil {
		t.Fatal(err)
	}
	var h autoscalingv2.HorizontalPodAutoscaler
	if err := yaml.UnmarshalStrict(text, &h); err != nil {
		t.Fatal(err)
	}
	if v := h.Spec.Metrics[0].Pods.Target.AverageValue.MilliValue(); v != 37170 || h.Spec.ScaleTargetRef.Name != "vllm" || h.Spec.MaxReplicas != 8 {
		t.Errorf("%d, %+v", v, h.Spec)
	}
}

// The CRD is in KEDA's own module, which is looked for in the module cache only.
func TestTheScaledObjectIsKEDAs(t *testing.T) {
	download := exec.Command("go", "mod", "download", "-json", "github.com/kedacore/keda/v2@v2.21.0")
	download.Dir, download.Env = t.TempDir(), append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := download.Output()
	var module struct{ Dir string }
	if err != nil || json.Unmarshal(out, &module) != nil {
		t.Skip("KEDA's module is not in the module cache; get it: go mod download github.com/kedacore/keda/v2@v2.21.0")
	}
	data, err := os.ReadFile(filepath.Join(module.Dir, "config", "crd", "bases", "keda.sh_scaledobjects.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(data, &crd); err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	closed(schema)
	if err := c.AddResource("crd.json", schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("crd.json")
	if err != nil {
		t.Fatal(err)
	}
	check := func(text []byte) error {
		var v any
		if err := yaml.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		return compiled.Validate(v)
	}
	text, err := Capacity("keda", []capacity.Capacity{able("A100", 20, 41.3, 47)}, Options{ScaleTarget: "vllm", Namespace: "llm"})
	if err != nil {
		t.Fatal(err)
	}
	if err := check(text); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	tokens, err := Prefill("keda-tokens", prefilled())
	if err != nil {
		t.Fatal(err)
	}
	if err := check(tokens); err != nil {
		t.Errorf("%v\n%s", err, tokens)
	}
	if check([]byte(strings.Replace(string(text), "minReplicaCount", "minReplicas", 1))) == nil {
		t.Error("the schema takes any field")
	}
}

// closed makes a schema refuse fields that it does not name, as a strict API server does.
func closed(schema map[string]any) {
	if properties, ok := schema["properties"].(map[string]any); ok {
		if _, given := schema["additionalProperties"]; !given && len(properties) > 0 {
			schema["additionalProperties"] = false
		}
		for name, p := range properties {
			if m, ok := p.(map[string]any); ok && name != "metadata" {
				closed(m)
			}
		}
	}
	if items, ok := schema["items"].(map[string]any); ok {
		closed(items)
	}
}

func TestCapacityRefuses(t *testing.T) {
	good, other := able("A100", 20, 41, 47), able("A100", 20, 41, 47)
	other.Shape.PromptTokens = 1024
	refused := able("L4", 1, 1, 1)
	refused.Rate, refused.Verdict = nil, fit.Verdict{Level: fit.Refused, Reasons: []string{"no load meets the objectives"}}
	none := able("T4", 1, 1, 1)
	none.Rate.Low = new(0.0)
	for _, c := range []struct {
		name   string
		format string
		cs     []capacity.Capacity
		o      Options
		code   int
		says   string
	}{
		{"two shapes", "ray", []capacity.Capacity{good, other}, Options{}, exit.Usage, "--shape 128/128 or 1024/128"},
		{"a refused verdict", "ray", []capacity.Capacity{refused}, Options{}, exit.Refused, "no load meets the objectives"},
		{"an interval that reaches 0", "ray", []capacity.Capacity{none}, Options{}, exit.Refused, "reaches 0"},
		{"nothing", "ray", nil, Options{}, exit.Usage, "no capacity"},
		{"no target", "keda", []capacity.Capacity{good}, Options{}, exit.Usage, "--scale-target: missing"},
		{"one target for two", "hpa", []capacity.Capacity{good, able("H100", 1, 1, 1)}, Options{ScaleTarget: "vllm"}, exit.Usage, "{accelerator}"},
		{"pods of the picker", "hpa", []capacity.Capacity{good}, Options{ScaleTarget: "vllm", Metrics: "epp"}, exit.Usage, "--format keda"},
		{"a format nobody knows", "toml", []capacity.Capacity{good}, Options{}, exit.Usage, "keda"},
	} {
		got, err := Capacity(c.format, c.cs, c.o)
		var coded *exit.Error
		if got != nil || err == nil || !strings.Contains(err.Error(), c.says) || !errors.As(err, &coded) || exit.Code(err) != c.code {
			t.Errorf("%s: code %d, %v", c.name, exit.Code(err), err)
		}
	}
}

func TestRouterTakesACapacity(t *testing.T) {
	p := sample("A100", 6.973015873)
	p.Fit.Points = []parameters.Point{{BatchSize: 1, Batch: 1, PromptTokens: 128, TTFT: &parameters.Value{MS: 16, From: "server", Statistic: "mean"}}}
	text, err := Render("router", []parameters.Parameters{p}, Options{Capacities: []capacity.Capacity{able("A100", 20, 41, 50)}})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]map[string]int
	if err := yaml.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"peakPrefillThroughput": 8000, "maxConcurrency": 45, "maxTokenConcurrency": 45 * 192}, got["A100"]); diff != "" {
		t.Error(diff)
	}
}
