package render

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/estimate/prefill"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep/slo"
)

// prefilled is the example of the router's pull request: 8192 tokens in 0.5143 s.
func prefilled() Options {
	r := prefill.Record{Model: "Qwen/Qwen3-32B", Accelerator: "H100", ChunkTokens: 8192}
	r.Instance = record.Instance{ImageDigest: "sha256:0123"}
	r.Identity = prefill.IdentityOf(r.Model, r.Accelerator, "9216db5", r.ChunkTokens, r.Instance)
	for range 20 {
		r.Samples = append(r.Samples, measurement.Prefill{PromptTokens: 8192, ClientMS: 515, ServerMS: new(514.3)})
	}
	r.Samples = append(r.Samples, measurement.Prefill{PromptTokens: 8191, ClientMS: 515, LeftOut: "another length"})
	r.Judge(prefill.MostSpread)
	return Options{
		Prefills: []prefill.Record{r}, SLOs: []slo.Objective{{Metric: slo.ITL, Statistic: slo.Mean, MS: 20}, {Metric: slo.TTFT, Statistic: "p90", MS: 2000}},
		UncachedTokens: 4096, ScaleTarget: "vllm-qwen", Namespace: "llm", Prometheus: "http://prometheus:9090",
	}
}

// The golden files are as consumers document them: llm-d-router's pull request 2938, and
// llm-d's guide for KEDA of 2026-09 (pull request 2466).
func TestPrefillFormats(t *testing.T) {
	for format, file := range map[string]string{"calibration": "prefill-calibration.json", "keda-tokens": "prefill-keda-tokens.yaml"} {
		got, err := Prefill(format, prefilled())
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", file)
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
}

func TestPrefillRefuses(t *testing.T) {
	refused := prefilled()
	refused.Prefills[0].Judge(-1)
	two := prefilled()
	two.Prefills = append(two.Prefills, two.Prefills[0])
	tight := prefilled()
	tight.SLOs[1].MS = 200
	for name, c := range map[string]struct {
		format string
		o      Options
		code   int
		says   []string
	}{
		"refused":       {"calibration", refused, exit.Refused, []string{"of the median"}},
		"two":           {"calibration", two, exit.Usage, []string{"2 are among the inputs", "--runs-on"}},
		"none":          {"keda-tokens", Options{}, exit.Usage, []string{"step prefill"}},
		"nothing given": {"keda-tokens", Options{Prefills: two.Prefills[:1]}, exit.Usage, []string{"--slo", "--uncached-tokens", "--scale-target"}},
		"too tight":     {"keda-tokens", tight, exit.Refused, []string{"p90.ttft=200ms", "alone take 0.257"}},
	} {
		_, err := Prefill(c.format, c.o)
		for _, says := range c.says {
			if exit.Code(err) != c.code || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: code %d, %v", name, exit.Code(err), err)
			}
		}
	}
}

func TestRouterTakesAPrefillRecord(t *testing.T) {
	p := sample("H100", 6.973015873)
	p.Model = "Qwen/Qwen3-32B"
	text, err := Render("router", []parameters.Parameters{p}, prefilled())
	if err != nil || !strings.Contains(string(text), "peakPrefillThroughput: 15928\n") {
		t.Errorf("%s, %v", text, err)
	}
}
