package aggregate

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
)

func TestConfigMapHoldsWhatMayBePublished(t *testing.T) {
	one := Estimate(Inputs{Measurements: series("org/A100 80GB", 7, nil)}, defaults)
	data, err := ConfigMap(one, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(data)); !slices.Equal(got, []string{"org--A100-80GB.128-128.json", "parameters.json", "summary.json"}) {
		t.Errorf("keys %q", got)
	}
	p, err := parameters.Decode(strings.NewReader(*data["parameters.json"]), "parameters.json")
	if err != nil || p.Alpha == nil || *data["org--A100-80GB.128-128.json"] != *data["parameters.json"] {
		t.Errorf("%+v, %v", p, err)
	}

	// one that is refused is taken out, and the summary says why
	sources := append(series("A100", 7, nil), series("H100", 5, nil)[:1]...)
	data, err = ConfigMap(Estimate(Inputs{Measurements: sources}, defaults), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(data)); !slices.Equal(got, []string{"A100.128-128.json", "H100.128-128.json", "summary.json"}) {
		t.Errorf("keys %q", got)
	}
	if data["H100.128-128.json"] != nil || data["A100.128-128.json"] == nil || !strings.Contains(*data["summary.json"], `"refused"`) {
		t.Error("a refused set is published, or a good one is not")
	}
	if got := Described(data); got != "1 set of parameters, and the summary; 1 set refused, and not in it" {
		t.Error(got)
	}

	many := parameters.Summary{Verdict: one.Verdict}
	for range 200 {
		many.Parameters = append(many.Parameters, one.Parameters[0])
		many.Parameters[len(many.Parameters)-1].Accelerator = strings.Repeat("A", len(many.Parameters))
	}
	if _, err := ConfigMap(many, nil); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "1048576") {
		t.Errorf("more than fits: exit %d, %v", exit.Code(err), err)
	}
	many.Parameters = many.Parameters[:2]
	many.Parameters[0].Accelerator, many.Parameters[1].Accelerator = "A 1", "A+1"
	if _, err := ConfigMap(many, nil); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "A-1.128-128.json") {
		t.Errorf("one key for two: exit %d, %v", exit.Code(err), err)
	}
}

func TestHiddenDifferencesAreNamed(t *testing.T) {
	on, off := true, false
	for _, tc := range []struct {
		name string
		edit func(*measurement.Provenance)
		want string
	}{
		{"digest", func(p *measurement.Provenance) { p.ImageDigest = "sha256:2" }, "image digest: sha256:1, sha256:2"},
		{"two names of one image", func(p *measurement.Provenance) { p.Image = "mirror/vllm:v1" }, ""},
		{"arguments", func(p *measurement.Provenance) {
			p.Args = []string{"serve", "--max-num-seqs", "64", "--dtype=float16", "--enforce-eager"}
		},
			"server's arguments: --dtype=bfloat16 and --dtype=float16 --enforce-eager"},
		{"their order", func(p *measurement.Provenance) {
			p.Args = []string{"serve", "--dtype=bfloat16", "--max-num-seqs", "64"}
		}, ""},
		{"not known", func(p *measurement.Provenance) { p.Instance = record.Instance{} }, ""},
		{"node", func(p *measurement.Provenance) { p.Node = "n2" }, "node: n1, n2"},
		{"driver", func(p *measurement.Provenance) { p.GPUDriver = "580" }, "GPU driver: 570, 580"},
		{"version", func(p *measurement.Provenance) { p.ServerVersion = "0.33.0" }, "server version: 0.32.0, 0.33.0"},
		{"prefix caching", func(p *measurement.Provenance) { p.Cache = &record.Cache{BlockSize: 16, PrefixCaching: &on} }, "KV cache: blocks of 16 tokens; prefix caching off, blocks of 16 tokens; prefix caching on"},
		{"room", func(p *measurement.Provenance) {
			p.Cache = &record.Cache{BlockSize: 16, PrefixCaching: &off, Tokens: 7}
		}, ""},
		{"pod", func(p *measurement.Provenance) { p.Pod = "vllm-2" }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var all []Source
			for i := range 3 {
				m := Source{}
				m.Driver.Name = "native"
				m.Provenance = measurement.Provenance{ServerVersion: "0.32.0", Cache: &record.Cache{BlockSize: 16, PrefixCaching: &off, Tokens: 9}, Instance: record.Instance{
					Pod: "vllm-1", Node: "n1", Image: "vllm:v1", ImageDigest: "sha256:1", GPU: "L4", GPUDriver: "570", Args: []string{"serve", "--max-num-seqs", "64", "--dtype=bfloat16"}}}
				if i == 2 {
					tc.edit(&m.Provenance)
				}
				all = append(all, m)
			}
			got := strings.Join(differences(all), "; ")
			if want := "the points differ in their " + tc.want; tc.want == "" && got != "" || tc.want != "" && got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}
