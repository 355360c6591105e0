package simulate

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzRequest: whatever a client sends, it is understood as a prompt and an output that
// fit the model, or refused as the client's mistake.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"model":"m","prompt":"a b","max_tokens":2,"stream":true}`, `{"prompt":[[1,2]],"n":0}`, `{"prompt":["a"],"min_tokens":99}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"max_completion_tokens":-1}`, `{"messages":[{"content":null}]}`, `[]`, `{"prompt":1e999}`,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	c := Config{Model: "m", MaxModelLen: 64}.WithDefaults()
	f.Fuzz(func(t *testing.T, body []byte, chat bool) {
		q, err := readRequest(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(body))))
		prompt, output := 0, 0
		if err == nil {
			prompt, output, err = q.limits(c, chat)
		}
		if err != nil {
			if e := asRequestError(err); e.Code/100 != 4 || e.Message == "" {
				t.Errorf("%+v", e)
			}
			return
		}
		if prompt < 1 || output < 1 || prompt+output > c.MaxModelLen {
			t.Errorf("prompt %d, output %d", prompt, output)
		}
	})
}
