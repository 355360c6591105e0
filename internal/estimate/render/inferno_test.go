package render

import (
	"encoding/json"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

func iteration3(accelerator string) parameters.Joint {
	j := parameters.Joint{Fit: fit.Iteration3, Model: "unsloth/Meta-Llama-3.1-8B", Accelerator: accelerator, Verdict: fit.Verdict{Level: fit.Warned, Reasons: []string{"beta is uncertain by 7 %"}}}
	for i, name := range fit.TermNames(fit.Iteration3) {
		j.Terms = append(j.Terms, parameters.Term{Name: name, Value: []float64{6.569, 0.01973, 5.439e-5}[i]})
	}
	return j
}

func TestInferno(t *testing.T) {
	long := sample("A100", 7)
	long.Shape = sweep.Shape{PromptTokens: 1024, OutputTokens: 256}
	refused := iteration3("A100")
	refused.Verdict, refused.Terms = fit.Verdict{Level: fit.Refused, Reasons: []string{"of one shape"}}, nil
	var notes []string
	o := Options{Joint: []parameters.Joint{iteration3("A100")}, Shape: &long.Shape, MaxBatch: map[string]int{"": 256}, Count: map[string]int{"A100": 2}, Note: func(n string) { notes = append(notes, n) }}
	text, err := Render("inferno", []parameters.Parameters{sample("A100", 7), long}, o)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Models []struct {
			Name, Acc                        string
			AccCount, MaxBatchSize, AtTokens int
			PerfParms                        struct{ Alpha, Beta, Gamma float64 }
		}
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	m := got.Models[0]
	if len(got.Models) != 1 || m.Name != "unsloth/Meta-Llama-3.1-8B" || m.Acc != "A100" || m.AccCount != 2 || m.MaxBatchSize != 256 || m.AtTokens != 256 ||
		m.PerfParms.Alpha != 6.569 || m.PerfParms.Beta != 0.01973 || m.PerfParms.Gamma != 5.439e-5 || strings.Contains(string(text), "e-") || len(notes) != 1 {
		t.Errorf("%s %q", text, notes)
	}
	for _, c := range []struct {
		name string
		ps   []parameters.Parameters
		o    Options
		code int
		says string
	}{
		{"no joint model", []parameters.Parameters{long}, Options{}, exit.Refused, "no iteration3 among the inputs"},
		{"another accelerator's", []parameters.Parameters{sample("H100", 4)}, o, exit.Usage, "no parameters of it"},
		{"several shapes", []parameters.Parameters{sample("A100", 7), long}, Options{Joint: o.Joint}, exit.Usage, "--shape 128/128 or 1024/256"},
		{"refused", []parameters.Parameters{long}, Options{Joint: []parameters.Joint{refused}}, exit.Refused, "of one shape"},
	} {
		if _, err := Render("inferno", c.ps, c.o); exit.Code(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestRouter(t *testing.T) {
	long := sample("A100", 7)
	long.Shape.PromptTokens = 8192
	long.Provenance.GPU = parameters.Values{"NVIDIA A100"}
	long.Fit.Points = []parameters.Point{{BatchSize: 1, PromptTokens: 8190, TTFT: &parameters.Value{MS: 512, From: "server", Statistic: "mean"}}}
	text, err := Render("router", []parameters.Parameters{long, sample("A100", 7)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]map[string]float64
	if err := yaml.Unmarshal(text, &got); err != nil || got["A100"]["peakPrefillThroughput"] != 15996 || !strings.Contains(string(text), "# A100: 8190 prompt tokens, TTFT 512.000 ms (server mean)") || !strings.Contains(string(text), "GPU: NVIDIA A100") {
		t.Errorf("%v\n%s", err, text)
	}
	other := long
	other.Model = "other"
	for _, c := range []struct {
		ps   []parameters.Parameters
		code int
		says string
	}{
		{[]parameters.Parameters{sample("A100", 7)}, exit.Refused, "no TTFT at batch 1"},
		{[]parameters.Parameters{long, other}, exit.Usage, "render them apart"},
	} {
		if _, err := Render("router", c.ps, Options{}); exit.Code(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Error(err)
		}
	}
}
