package parameters

import (
	"bytes"
	"testing"
)

// FuzzDecode: what is read can be written, and read again, as parameters and as a
// summary of such.
func FuzzDecode(f *testing.F) {
	data, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	summary, err := Summary{Schema: SummarySchema, Verdict: "refused", Failures: []Failure{{Accelerator: "A100", Reasons: []string{"x"}}}}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(summary)
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := Decode(bytes.NewReader(data), "f"); err == nil {
			again, err := p.Encode()
			if err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
			if _, err := Decode(bytes.NewReader(again), "f"); err != nil {
				t.Fatalf("what was written cannot be read: %v", err)
			}
		}
		if s, err := DecodeSummary(bytes.NewReader(data), "f"); err == nil {
			again, err := s.Encode()
			if err != nil {
				t.Fatalf("the summary that was read cannot be written: %v", err)
			}
			if _, err := DecodeSummary(bytes.NewReader(again), "f"); err != nil {
				t.Fatalf("the summary that was written cannot be read: %v", err)
			}
		}
	})
}
