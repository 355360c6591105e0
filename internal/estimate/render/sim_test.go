package render

import (
	"math"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
)

func TestSim(t *testing.T) {
	p := sample("A100", 6.973015873)
	text, err := Render("sim", []parameters.Parameters{p}, Options{MaxBatch: map[string]int{"": 128}})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Model   string  `json:"model"`
		Most    float64 `json:"max-num-seqs"`
		ITL     string  `json:"inter-token-latency"`
		Prefill string  `json:"prefill-time-per-token"`
		Factor  float64 `json:"time-factor-under-load"`
	}
	if err := yaml.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	ms := func(text string) float64 {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		return float64(d) / 1e6
	}
	// As the simulator computes it.
	load := func(n float64) float64 { return 1 + (got.Factor-1)*(n-1)/(got.Most-1) }
	for _, n := range []float64{1, 8, 64, 128} {
		if itl := ms(got.ITL) * load(n); math.Abs(itl/p.ITLAt(n)-1) > 1e-3 {
			t.Errorf("ITL at %v: %v ms, want %v", n, itl, p.ITLAt(n))
		}
	}
	if ttft := 128 * ms(got.Prefill) * load(64.5); math.Abs(ttft/p.TTFTAt(64.5, 128)-1) > 1e-3 {
		t.Errorf("TTFT %v ms, want %v", ttft, p.TTFTAt(64.5, 128))
	}
	if got.Model != p.Model || got.Most != 128 || !strings.Contains(string(text), "# Measured up to a batch of 64") {
		t.Errorf("%s", text)
	}
	p.BatchSize = 1
	for _, ps := range [][]parameters.Parameters{{p}, {sample("A100", 7), sample("H100", 4)}} {
		if _, err := Render("sim", ps, Options{}); exit.Code(err) != exit.Usage {
			t.Error(err)
		}
	}
}
