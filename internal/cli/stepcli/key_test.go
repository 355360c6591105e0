package stepcli

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"wfgen.dev/internal/run/exit"
)

func TestMayHaveKey(t *testing.T) {
	for _, tc := range []struct {
		target, pattern string
		want            bool
	}{
		{"http://vllm-a100:8000", "http://vllm-a100:8000", true},
		{"http://vllm-a100:8000/v1", "http://VLLM-a100:8000", true},
		{"https://vllm-a100:8000", "http://vllm-a100:8000", false},
		{"http://vllm-a100:8001", "http://vllm-a100:8000", false},
		{"http://evil:8000", "http://vllm-a100:8000", false},
		{"http://vllm-a100:8000@evil", "http://vllm-a100:8000", false},
		{"http://a100-12ab.sweep:8000", "http://*.sweep:8000", true},
		{"http://a.b.sweep:8000", "http://*.sweep:8000", false},
		{"http://sweep:8000", "http://*.sweep:8000", false},
		{"http://a100.sweep.evil:8000", "http://*.sweep:8000", false},
		{"http://a100.sweep:8000", "", false},
	} {
		if got := mayHaveKey(tc.target, tc.pattern); got != tc.want {
			t.Errorf("%s for %s: %v", tc.target, tc.pattern, got)
		}
	}
}

// Who may only submit chooses the target, and does not get the key by it.
func TestTheKeyGoesToItsServersAlone(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer s.Close()
	t.Setenv("STEP_API_KEY", "key-of-the-server")
	t.Setenv("STEP_API_KEY_FOR", "http://vllm-a100:8000,http://*.sweep:8000")
	for _, args := range [][]string{
		{"wait", "--target", s.URL, "--model", "m", "--timeout", "5s"},
		{"preflight", "--target", s.URL, "--model", "m", "--batch-sizes", "1", "--shapes", "8/8"},
		{"bench", "--accelerator", "A100", "--target", s.URL, "--model", "m", "--batch-size", "1", "--output", t.TempDir()},
	} {
		code, _, words := step(args...)
		if code != exit.Usage || !strings.Contains(words, "none of the servers that the API key is for") {
			t.Errorf("%s: exit %d, %s", args[0], code, words)
		}
	}
	if asked.Load() > 0 {
		t.Error("the server was asked")
	}
}
