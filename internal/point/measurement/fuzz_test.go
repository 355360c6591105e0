package measurement

import (
	"bytes"
	"testing"
)

// FuzzDecode: what is read can be written, and read again.
func FuzzDecode(f *testing.F) {
	data, err := Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"schema": "wfgen.dev/measurement/v1", "batch_size": 1e99}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(bytes.NewReader(data), "f")
		if err != nil {
			return
		}
		again, err := Encode(m)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := Decode(bytes.NewReader(again), "f"); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		_ = m.Weigh(Auto, Auto)
	})
}
