package capacity

import (
	"bytes"
	"testing"
)

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
