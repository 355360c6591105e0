package capacity

import (
	"bytes"
	"math"
	"testing"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

// FuzzOf: whatever parameters a line may have, the capacity is a file that can be written
// and read again, with a rate above 0 or a refusal.
func FuzzOf(f *testing.F) {
	f.Add(7.0, 0.03, 15.0, uint16(128), uint16(128), 20.0)
	f.Add(7.0, 1.75, 400.0, uint16(4096), uint16(64), 50.0)
	f.Add(1e-9, 1e-9, 1e9, uint16(1), uint16(2), 1e-6)
	f.Add(math.MaxFloat64, -1.0, 0.0, uint16(65535), uint16(65535), 1e12)
	f.Fuzz(func(t *testing.T, alpha, beta, idle float64, prompt, output uint16, bound float64) {
		if !(bound > 0) || math.IsInf(bound, 0) || math.IsNaN(alpha+beta+idle) {
			return
		}
		p := sample("A100", sweep.Shape{PromptTokens: max(1, int(prompt)%5000), OutputTokens: 2 + int(output)%500}, alpha, beta, idle)
		file := Of(parameters.Summary{Parameters: []parameters.Parameters{p}}, Options{SLOs: []slo.Objective{{Metric: slo.ITL, Statistic: slo.Mean, MS: bound}}})
		data, err := file.Encode()
		if err != nil {
			t.Fatalf("%v: %+v", err, file)
		}
		if _, err := Decode(bytes.NewReader(data), "f"); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzDecode: what is read can be written.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"schema":"` + Schema + `","capacities":[]}`))
	f.Add([]byte(`{"schema":"` + Schema + `","capacities":[{"model":"m","accelerator":"a","verdict":{"level":"refused"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if file, err := Decode(bytes.NewReader(data), "f"); err == nil {
			if _, err := file.Encode(); err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
		}
		_, _ = ParseMix(string(data)) // ends, and does not panic
	})
}
