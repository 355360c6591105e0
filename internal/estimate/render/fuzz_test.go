package render

import (
	"bytes"
	"encoding/json"
	"testing"

	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/estimate/prefill"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep/slo"
)

// FuzzRender: whatever parameters, measurements, capacities and prefill records can be
// read, each format of a consumer is written from them, or refused with a code; what is
// written as JSON or YAML is such.
func FuzzRender(f *testing.F) {
	p := sample("A100", 7)
	p.Fit.Model, p.ITLSynchronous, p.ITLThroughput, p.BatchSize = parameters.Linear4, new(7.0), new(8.7), 64
	p.TTFTSynchronous, p.TTFTThroughput, p.InputTokens = new(15.0), new(26.0), 128
	objectives := []slo.Objective{{Metric: slo.ITL, Statistic: slo.Mean, MS: 20}, {Metric: slo.TTFT, Statistic: slo.Mean, MS: 2000}}
	add := func(data []byte, err error) {
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	add(p.Encode())
	m := point(p, 8)
	m.Schema = measurement.Schema
	add(measurement.Encode(m))
	add(capacity.Of(parameters.Summary{Parameters: []parameters.Parameters{p}}, capacity.Options{SLOs: objectives}).Encode())
	add(prefilled().Prefills[0].Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		o := Options{SLOs: objectives, UncachedTokens: 1, ScaleTarget: "d", Points: []measurement.Measurement{m}}
		check := func(format string, out []byte, err error) {
			t.Helper()
			switch {
			case err != nil:
				if code := exit.Code(err); code != exit.Usage && code != exit.Refused {
					t.Errorf("%s: code %d: %v", format, code, err)
				}
			case File(format) == format+".json" && !json.Valid(out):
				t.Errorf("%s: %s", format, out)
			case File(format) == format+".yaml":
				for doc := range bytes.SplitSeq(out, []byte("\n---\n")) {
					if err := yaml.Unmarshal(doc, new(any)); err != nil {
						t.Errorf("%s: %v: %s", format, err, doc)
					}
				}
			}
		}
		if p, err := parameters.Decode(bytes.NewReader(data), "f"); err == nil {
			for format := range formats {
				out, err := Render(format, []parameters.Parameters{p}, o)
				check(format, out, err)
			}
		}
		if m, err := measurement.Decode(bytes.NewReader(data), "f"); err == nil {
			of := p
			of.Model, of.Accelerator, of.Shape = m.Model, m.Accelerator, m.Shape
			o.Points = []measurement.Measurement{m}
			for format := range formats {
				out, err := Render(format, []parameters.Parameters{of}, o)
				check(format, out, err)
			}
		}
		if c, err := capacity.Decode(bytes.NewReader(data), "f"); err == nil {
			o.Capacities = c.Capacities
			for format := range capacityFormats {
				out, err := Capacity(format, c.Capacities, o)
				check(format, out, err)
			}
		}
		if r, err := prefill.Decode(bytes.NewReader(data), "f"); err == nil {
			o.Prefills = []prefill.Record{r}
			for format := range prefillFormats {
				out, err := Prefill(format, o)
				check(format, out, err)
			}
		}
	})
}
