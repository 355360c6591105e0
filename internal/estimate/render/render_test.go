package render

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sample(accelerator string, alpha float64) parameters.Parameters {
	return parameters.Parameters{
		Model: "unsloth/Meta-Llama-3.1-8B", Accelerator: accelerator, Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 128}, BatchSize: 64,
		Alpha: &alpha, Beta: new(0.02698412698), Gamma: new(14.82539682), Delta: new(0.001364087301),
		Verdict: fit.Verdict{Level: fit.Accepted},
	}
}

func TestVariantAutoscaling(t *testing.T) {
	h100 := sample("H100", 4.21)
	h100.Verdict = fit.Verdict{Level: fit.Warned, Reasons: []string{"beta is uncertain by 7 %"}}
	other := sample("A100", 9)
	other.Shape.PromptTokens = 1024
	for _, c := range []struct {
		name string
		ps   []parameters.Parameters
		o    Options
	}{
		{"one", []parameters.Parameters{sample("A100", 6.973015873)}, Options{}},
		{"fleet", []parameters.Parameters{sample("A100", 6.973015873), h100}, Options{
			Name: "llama", Namespace: "llm", RunsOn: "H100", MaxBatch: map[string]int{"": 256}, Count: map[string]int{"H100": 2},
			ScaleTarget: "vllm-llama", SLOName: "service-classes-config", SLOKey: "premium",
		}},
		{"unlabelled", []parameters.Parameters{sample("A100", 6.973015873), h100}, Options{Name: "llama"}},
		{"shape", []parameters.Parameters{sample("A100", 6.973015873), other}, Options{Shape: &other.Shape}},
	} {
		got, err := Render("variantautoscaling", c.ps, c.o)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		golden := filepath.Join("testdata", c.name+".yaml")
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
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		// The API server takes nothing but strings for the numbers.
		var v struct {
			Spec struct {
				ModelProfile struct {
					Accelerators []struct {
						PerfParms map[string]map[string]string `json:"perfParms"`
					} `json:"accelerators"`
				} `json:"modelProfile"`
			} `json:"spec"`
		}
		if err := yaml.Unmarshal(got, &v); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	refused := sample("A100", 7)
	refused.Alpha, refused.Beta, refused.Gamma, refused.Delta = nil, nil, nil, nil
	refused.Verdict = fit.Verdict{Level: fit.Refused, Reasons: []string{"all zeros"}}
	twice := sample("A100", 8)
	twice.Shape.PromptTokens = 1024
	foreign := sample("H100", 8)
	foreign.Model = "another"
	spaced := sample("my GPU", 7)
	for _, c := range []struct {
		name, format string
		ps           []parameters.Parameters
		o            Options
		code         int
		says         string
	}{
		{"a format nobody knows", "toml", []parameters.Parameters{sample("A100", 7)}, Options{}, exit.Usage, "variantautoscaling"},
		{"a refused verdict", "", []parameters.Parameters{sample("H100", 7), refused}, Options{}, exit.Refused, "A100, 128/128 is refused: all zeros"},
		{"two shapes", "", []parameters.Parameters{sample("A100", 7), twice}, Options{}, exit.Usage, "--shape 128/128 or 1024/128"},
		{"a shape that is not there", "", []parameters.Parameters{twice}, Options{Shape: &sweep.Shape{PromptTokens: 1, OutputTokens: 2}}, exit.Usage, "shape 1/2"},
		{"two models", "", []parameters.Parameters{sample("A100", 7), foreign}, Options{}, exit.Usage, "one model"},
		{"runs on another", "", []parameters.Parameters{sample("A100", 7)}, Options{RunsOn: "B200"}, exit.Usage, "there are A100"},
		{"no label", "", []parameters.Parameters{spaced}, Options{}, exit.Usage, "cannot be the value of a label"},
	} {
		if c.format == "" {
			c.format = "variantautoscaling"
		}
		got, err := Render(c.format, c.ps, c.o)
		if exit.Code(err) != c.code || err == nil || !strings.Contains(err.Error(), c.says) || got != nil {
			t.Errorf("%s: code %d, error %v, output %q", c.name, exit.Code(err), err, got)
		}
	}
}
