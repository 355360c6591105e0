package llm

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzAnswers: whatever a server answers to a question that is no load, its error is text
// and its models have names or none and lengths that are none below 0.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"object":"list","data":[{"id":"m","max_model_len":4096}]}`, `["m"]`, `{"models":[{"name":"m","meta":{"n_ctx":"8"}}]}`,
		`{"error":{"message":"x","type":"y"}}`, `{"detail":[{"loc":["body","n"],"msg":"too large"}]}`, `{"errors":["x"]}`, `{"error":[[[["x"]]]]}`,
		`{"version":"0.32.0"}`, `<html><title>502</title>`, `{"data":[{"id":1e308,"max_model_len":"NaN"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if text, ok := FindError(data); ok && text == "" {
			t.Error("an error without a text")
		} else if utf8.Valid(data) && !utf8.ValidString(text) {
			t.Errorf("of valid text %q", text)
		}
		var list struct{ Data, Models []Model }
		if json.Unmarshal(data, &list) == nil {
			for _, m := range append(list.Data, list.Models...) {
				if m.MaxModelLen < 0 {
					t.Errorf("%+v", m)
				}
			}
		}
	})
}
