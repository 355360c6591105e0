package aggregate

import (
	"bytes"
	"testing"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

// FuzzLoad: whatever kind of file is given, it is read as that kind, or refused with a
// code that says whether it is the file or the question.
func FuzzLoad(f *testing.F) {
	m := measurement.Measurement{Model: "m", Accelerator: "A100", Shape: sweep.Shape{PromptTokens: 128, OutputTokens: 128}, BatchSize: 1,
		Requests: measurement.Requests{Successful: 10}}
	m.Taken = m.Weigh(measurement.Auto, measurement.Auto)
	one, err := measurement.Encode(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(one)
	f.Add([]byte("[" + string(one) + "," + string(one) + "]"))
	f.Add([]byte(` [ {"schema":"wfgen.dev/parameters/v1"`))
	for _, schema := range []string{parameters.Schema, parameters.SummarySchema, "wfgen.dev/plan/v1", "wfgen.dev/prefill/v1", "wfgen.dev/round/v1", "wfgen.dev/none/v9"} {
		f.Add([]byte(`{"x":1,"schema":"` + schema + `"}`))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, o := range []*report.Options{nil, {}} {
			in, skipped, err := Load(store.WithStdin(t.Context(), bytes.NewReader(data)), []string{store.Stdin}, "", o)
			if code := exit.Code(err); err != nil && code != exit.Refused && code != exit.Usage || len(skipped) > 0 {
				t.Errorf("code %d, skipped %q: %v", code, skipped, err)
			}
			if o == nil {
				for _, m := range in.Measurements {
					if m.Report {
						t.Errorf("a report was read: %+v", m)
					}
				}
			}
		}
	})
}
