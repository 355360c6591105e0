package render

import (
	"bytes"
	"encoding/json"
	"testing"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
)

// FuzzRender: whatever parameters can be read, each format of a consumer is written from
// them, or refused with a code.
func FuzzRender(f *testing.F) {
	p := sample("A100", 7)
	p.Fit.Model, p.ITLSynchronous, p.ITLThroughput, p.BatchSize = parameters.Linear4, new(7.0), new(8.7), 64
	p.TTFTSynchronous, p.TTFTThroughput, p.InputTokens = new(15.0), new(26.0), 128
	data, err := p.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parameters.Decode(bytes.NewReader(data), "f")
		if err != nil {
			return
		}
		for format := range formats {
			out, err := Render(format, []parameters.Parameters{p}, Options{})
			switch {
			case err != nil:
				if code := exit.Code(err); code != exit.Usage && code != exit.Refused {
					t.Errorf("%s: code %d: %v", format, code, err)
				}
			case len(out) > 0 && out[0] == '{' && !json.Valid(out):
				t.Errorf("%s: %s", format, out)
			}
		}
	})
}
