package llm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/tests/pipes"
)

func TestMain(m *testing.M) {
	pipes.Lay()
	os.Exit(m.Run())
}

// serve starts a simulated server and a client of it.
func serve(t *testing.T, cfg simulate.Config, key string) *Client {
	t.Helper()
	s, err := simulate.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() { h.Close(); s.Close() })
	return client(t, h.URL, key)
}

// handle starts any server and a client of it.
func handle(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return client(t, s.URL, "")
}

func client(t *testing.T, url, key string) *Client {
	t.Helper()
	c, err := New(url, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func law() simulate.Config {
	return simulate.Config{Model: "org/model", Alpha: 1, Beta: 0.01, Gamma: 2, Delta: 0.001, MaxModelLen: 512}
}

func TestFind(t *testing.T) {
	ctx := context.Background()
	c := serve(t, law(), "")
	if m, err := c.Find(ctx, "org/model"); err != nil || m.MaxModelLen != 512 {
		t.Errorf("%+v, %v", m, err)
	}
	_, err := c.Find(ctx, "other")
	if exit.Code(err) != exit.Unusable || !strings.Contains(err.Error(), "serves org/model") {
		t.Errorf("another model: exit %d, %v", exit.Code(err), err)
	}

	starting := law()
	starting.StartDelay = time.Hour
	if _, err := serve(t, starting, "").Find(ctx, "org/model"); exit.Code(err) != exit.TryAgain {
		t.Errorf("a server that starts: exit %d, %v", exit.Code(err), err)
	}

	locked := law()
	locked.APIKey = "the key"
	if _, err := serve(t, locked, "the key").Find(ctx, "org/model"); err != nil {
		t.Errorf("with its key: %v", err)
	}
	if _, err := serve(t, locked, "another").Find(ctx, "org/model"); exit.Code(err) != exit.Unusable || strings.Contains(err.Error(), "another") {
		t.Errorf("with another key: exit %d, %v", exit.Code(err), err)
	}

	if _, err := client(t, "http://127.0.0.1:1", "").Find(ctx, "m"); exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), "127.0.0.1:1 is not ready") {
		t.Errorf("nobody there: exit %d, %v", exit.Code(err), err)
	}
}

func TestServersWithoutHealthAreAskedForTheirModels(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/models", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"data":[{"id":"m"}]}`))
	})
	h := httptest.NewServer(mux)
	defer h.Close()
	if m, err := client(t, h.URL+"/v1/", "").Find(context.Background(), "m"); err != nil || m.ID != "m" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, wait)
}

func wait(t *testing.T) {
	at := func(h http.Handler) *Client { return client(t, pipes.Serve(t, h).URL, "") }
	starting := func(delay time.Duration) *Client {
		config := law()
		config.StartDelay = delay
		s, err := simulate.NewVirtual(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return at(s.Handler())
	}
	soon := starting(time.Minute)
	var said []string
	if _, err := soon.Wait(t.Context(), "org/model", time.Hour, func(s string) { said = append(said, s) }); err != nil {
		t.Fatal(err)
	}
	if len(said) == 0 || len(said) > 5 {
		t.Errorf("of a minute it said %q", said)
	}
	_, err := starting(time.Hour).Wait(t.Context(), "org/model", 10*time.Minute, func(string) {})
	if exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), "gave up after 10m0s") {
		t.Errorf("exit %d, %v", exit.Code(err), err)
	}
	begin := time.Now()
	if _, err := soon.Wait(t.Context(), "other", time.Hour, func(string) {}); exit.Code(err) != exit.Unusable || time.Since(begin) > 10*time.Second {
		t.Errorf("another model is waited for: exit %d, %v", exit.Code(err), err)
	}

	// The last question is cut short by the end of the wait; what was known before it is said.
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(3 * time.Second):
			http.Error(w, "loading the weights", http.StatusServiceUnavailable)
		case <-r.Context().Done():
		}
	})
	if _, err := at(slow).Wait(t.Context(), "m", 16*time.Second, func(string) {}); err == nil || !strings.Contains(err.Error(), "503") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cut short while it asked: %v", err)
	}
}

func TestTargets(t *testing.T) {
	for _, target := range []string{"", "vllm:8000", "ftp://vllm", "http://", "http://[::1"} {
		if _, err := New(target, ""); exit.Code(err) != exit.Usage {
			t.Errorf("%q: exit %d, %v", target, exit.Code(err), err)
		}
	}
	for _, target := range []string{"http://user:secret@vllm:8000", "http://secret@vllm:8000", "http://vllm:8000?token=secret"} {
		if c := client(t, target, ""); strings.Contains(c.Target(), "secret") {
			t.Errorf("a password is shown: %s", c.Target())
		}
	}
	for _, target := range []string{"http://user:secret@", "http://user:secret@[vllm", "http://us:sec/secret@vllm"} {
		if _, err := New(target, ""); exit.Code(err) != exit.Usage || strings.Contains(err.Error(), "secret") {
			t.Errorf("exit %d, %v", exit.Code(err), err)
		}
	}
}

// The usual "echo key | base64" ends the key with a newline; a break within it can be
// no key.
func TestKeysFromFiles(t *testing.T) {
	var got string
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") }))
	defer s.Close()
	if _, err := client(t, s.URL, " key-of-the-server\n").Do(t.Context(), "/", nil); err != nil || got != "Bearer key-of-the-server" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := New(s.URL, "two\nkeys"); exit.Code(err) != exit.Usage || strings.Contains(err.Error(), "keys") {
		t.Errorf("exit %d, %v", exit.Code(err), err)
	}
}

// A redirect to another place is not followed: the key would go there, and another
// server be measured. One to the same server is.
func TestRedirects(t *testing.T) {
	var stolen atomic.Int32
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Add(1) }))
	defer thief.Close()
	to := thief.URL
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/again":
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
		case "/in":
			http.Redirect(w, r, "/out", http.StatusFound)
		case "/circle":
			http.Redirect(w, r, "/circle", http.StatusFound)
		}
	}))
	defer s.Close()
	c := client(t, s.URL, "key-of-the-server")
	c.HTTP.Transport.(*http.Transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	for _, to = range []string{thief.URL, strings.Replace(s.URL, "https", "http", 1), "//elsewhere"} {
		if _, err := c.Do(t.Context(), "/again", map[string]int{}); err == nil || !Incurable(err) || !strings.Contains(err.Error(), "redirects to") {
			t.Errorf("to %s: exit %d, %v", to, exit.Code(err), err)
		}
	}
	if _, err := c.Do(t.Context(), "/circle", nil); err == nil || !Incurable(err) {
		t.Errorf("in a circle: exit %d, %v", exit.Code(err), err)
	}
	if resp, err := c.Do(t.Context(), "/in", nil); err != nil {
		t.Error(err)
	} else {
		resp.Body.Close()
	}
	if stolen.Load() > 0 {
		t.Error("a redirect was followed to another server")
	}
}

// What waiting does not fix is not waited for.
func TestCertificates(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	for target, says := range map[string]string{s.URL: "SSL_CERT_FILE"} {
		if _, err := client(t, target, "").Find(t.Context(), "m"); exit.Code(err) != exit.Unusable || !strings.Contains(err.Error(), says) {
			t.Errorf("exit %d, %v", exit.Code(err), err)
		}
	}
}

// A server that answers with the key, or with what draws on a terminal, has it said by
// nobody.
func TestWhatServersSay(t *testing.T) {
	const key = "key-of-the-server"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
		case "/version":
			fmt.Fprintf(w, `{"version": "1.0 \u001b[1m%s%s"}`, key, strings.Repeat("x", 1000))
		case "/v1/models":
			fmt.Fprintf(w, `{"data": [{"id": "%s\nACCEPTED \u001b[2J"}]}`, key)
		default:
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, `{"error": {"message": "%s%s"}}`, strings.Repeat("y", 295), key)
		}
	}))
	defer s.Close()
	c := client(t, s.URL, key)
	_, find := c.Find(t.Context(), "m")
	_, other := c.Do(t.Context(), "/other", nil)
	for _, text := range []string{c.Version(t.Context()), find.Error(), other.Error()} {
		if strings.Contains(text, key[:6]) || strings.ContainsAny(text, "\n\x1b") || len(text) > 500 {
			t.Errorf("%q", text)
		}
	}
}

func TestTokenizeAndScrape(t *testing.T) {
	ctx := context.Background()
	c := serve(t, law(), "")
	if n, err := c.Tokenize(ctx, "org/model", "three short words"); err != nil || n != 3 {
		t.Errorf("%d tokens, %v", n, err)
	}
	before, err := c.Scrape(ctx, "org/model")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(ctx, "/v1/completions", map[string]any{"model": "org/model", "prompt": "a b", "max_tokens": 5, "ignore_eos": true})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	after, err := c.Scrape(ctx, "org/model")
	if err != nil {
		t.Fatal(err)
	}
	if got := *after.Successes - *before.Successes; got != 1 {
		t.Errorf("%v requests counted", got)
	}
	if got := after.ITL.Count - before.ITL.Count; got != 4 {
		t.Errorf("%v gaps of 5 tokens", got)
	}
	if got := 1000 * (after.TTFT.SumSeconds - before.TTFT.SumSeconds); got < 2 {
		t.Errorf("TTFT %v ms is below its law", got)
	}
	if after.Queue == nil || after.Prefill == nil || after.Preemptions == nil || after.PrefixCacheHits == nil || after.KVCacheUsage == nil {
		t.Errorf("missing: %+v", after)
	}
}

// page is what older and other servers write.
func TestScrapeOtherServers(t *testing.T) {
	for name, tc := range map[string]struct {
		text    string
		running float64
		itl     float64 // count
		fails   bool
	}{
		"several engines, another model behind the same address": {text: `
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3
vllm:num_requests_running{engine="1",model_name="m"} 4
vllm:num_requests_running{engine="0",model_name="other"} 100
# TYPE vllm:time_per_output_token_seconds histogram
vllm:time_per_output_token_seconds_bucket{model_name="m",le="+Inf"} 7
vllm:time_per_output_token_seconds_sum{model_name="m"} 0.07
vllm:time_per_output_token_seconds_count{model_name="m"} 7
`, running: 7, itl: 7},
		"SGLang": {text: `
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m"} 2
# TYPE sglang:inter_token_latency_seconds histogram
sglang:inter_token_latency_seconds_bucket{model_name="m",le="+Inf"} 9
sglang:inter_token_latency_seconds_sum{model_name="m"} 0.1
sglang:inter_token_latency_seconds_count{model_name="m"} 9
`, running: 2, itl: 9},
		"no LLM server": {text: "# TYPE go_goroutines gauge\ngo_goroutines 5\n", fails: true},
		"no metrics":    {text: "<html>", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(tc.text)) }))
			defer h.Close()
			s, err := client(t, h.URL, "").Scrape(context.Background(), "m")
			if (err != nil) != tc.fails {
				t.Fatal(err)
			}
			if !tc.fails && (s.Running != tc.running || s.ITL.Count != tc.itl) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestStatusErrorsSayWhatTheServerSaid(t *testing.T) {
	c := serve(t, law(), "")
	resp, err := c.Do(context.Background(), "/v1/completions", map[string]any{"model": "org/model", "prompt": "a", "max_tokens": 100000})
	if err == nil {
		resp.Body.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "HTTP 400") || !strings.Contains(err.Error(), "512") {
		t.Errorf("%v", err)
	}
}
