package parameters

import (
	"encoding/json"
	"slices"
	"testing"
)

// A field of one value, or of several, is the text that it was before it was a list.
func TestValuesAreOneTextInAFile(t *testing.T) {
	for text, want := range map[string]Values{`"vllm 0.32.0"`: {"vllm 0.32.0"}, `"a | b"`: {"a", "b"}, `""`: nil} {
		var got Values
		if err := json.Unmarshal([]byte(text), &got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
		if back, err := json.Marshal(got); err != nil || string(back) != text {
			t.Errorf("%q is written as %s, %v", got, back, err)
		}
	}
	if p := (Provenance{}); p.Image.String() != "" {
		t.Errorf("nothing known is %q", p.Image)
	}
}
