package completion

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

func text(s string) string {
	return `{"choices":[{"index":0,"text":"` + s + `","finish_reason":null}]}`
}

const (
	finish = `{"choices":[{"index":0,"text":"","finish_reason":"length"}]}`
	counts = `{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}`
)

func sse(payloads ...string) string {
	var b strings.Builder
	for _, p := range payloads {
		b.WriteString("data: " + p + "\n\n")
	}
	return b.String()
}

// Whatever a stream is dressed in, the same three tokens are in it.
func TestStreamsAsTheyAre(t *testing.T) {
	plain := sse(text("a"), text("b"), text("c"), finish, counts, "[DONE]")
	for name, stream := range map[string]string{
		"as documented":               plain,
		"CR LF":                       strings.ReplaceAll(plain, "\n", "\r\n"),
		"CR alone":                    strings.ReplaceAll(plain, "\n", "\r"),
		"byte order mark":             "\xef\xbb\xbf" + plain,
		"no space after the colon":    strings.ReplaceAll(plain, "data: ", "data:"),
		"comments and other fields":   ": ping\n\nid: 7\nretry: 10\nevent: completion\n" + strings.ReplaceAll(plain, "\n\n", "\n\n: keep-alive\n\n"),
		"no empty lines":              strings.ReplaceAll(plain, "\n\n", "\n"),
		"no [DONE]":                   sse(text("a"), text("b"), text("c"), finish, counts),
		"no end of the last line":     strings.TrimRight(plain, "\n"),
		"an event over several lines": "data: {\"choices\":\ndata: [{\"text\":\"a\"}]}\n\n" + sse(text("b"), text("c"), finish, counts, "[DONE]"),
		"usage with each, null first": sse(`{"choices":[{"text":"a"}],"usage":null}`, `{"choices":[{"text":"b"}],"usage":{"prompt_tokens":5,"completion_tokens":2}}`, `{"choices":[{"text":"c","finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":3}}`, "[DONE]"),
		"usage in the last but one":   sse(text("a"), text("b"), counts, text("c"), finish, "[DONE]"),
		"zeros at the end":            sse(text("a"), text("b"), text("c"), counts, `{"choices":[{"text":"","finish_reason":"stop"}],"usage":{"prompt_tokens":0,"completion_tokens":0}}`, "[DONE]"),
		"counts as floats and texts":  sse(text("a"), text("b"), text("c"), finish, `{"choices":null,"usage":{"prompt_tokens":5.0,"completion_tokens":"3"}}`, "[DONE]"),
		"null beside every chunk":     sse(`{"error":null,"choices":[{"text":"a"}]}`, text("b"), text("c"), finish, counts, "[DONE]"),
		"empty pieces everywhere":     sse(text(""), text("a"), text(""), text("b"), text(""), text("c"), finish, counts, "[DONE]"),
		"a chat": sse(`{"choices":[{"delta":{"role":"assistant","content":""}}]}`, `{"choices":[{"delta":{"reasoning_content":"a"}}]}`, `{"choices":[{"delta":{"content":[{"type":"text","text":"b"}]}}]}`,
			`{"choices":[{"delta":{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"c"}}]}}]}`, `{"choices":[{"delta":{},"finish_reason":"length"}]}`, counts, "[DONE]"),
		"other choices":           sse(text("a"), `{"choices":[{"index":1,"text":"x"}]}`, text("b"), text("c"), finish, counts, "[DONE]"),
		"a line of 300 KiB":       sse(`{"choices":[{"text":"a","logprobs":"`+strings.Repeat("x", 300<<10)+`"}]}`, text("b"), text("c"), finish, counts, "[DONE]"),
		"a field of another kind": sse(`{"choices":[{"text":"a","finish_reason":false}],"timings":"none"}`, text("b"), text("c"), finish, counts, "[DONE]"),
	} {
		t.Run(name, func(t *testing.T) {
			for _, piece := range []int{1, 7, 1 << 20} {
				a := Answer{Asked: 3}
				if err := a.read(&slow{[]byte(stream), piece}, func(time.Duration) {}); err != nil {
					t.Fatalf("in pieces of %d: %v", piece, err)
				}
				if len(a.Pieces) != 3 || a.OutputTokens != 3 || a.PromptTokens != 5 || a.Cut() || a.End.IsZero() {
					t.Errorf("in pieces of %d: %+v", piece, a)
				}
			}
		})
	}
}

// slow hands over so many bytes at a time.
type slow struct {
	rest []byte
	n    int
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.n)], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func TestWhatIsNoAnswer(t *testing.T) {
	for name, tc := range map[string]struct{ stream, says string }{
		"an error object":         {sse(text("a"), `{"error":{"message":"out of memory","code":500}}`), "out of memory"},
		"an error text":           {sse(text("a"), `{"error":"out of memory","error_type":"overloaded"}`), "out of memory"},
		"an error beside choices": {sse(`{"choices":[{"text":"a"}],"error":{"message":"out of memory"}}`), "out of memory"},
		"object: error":           {sse(`{"object":"error","message":"out of memory","code":400}`), "out of memory"},
		"detail":                  {sse(`{"detail":[{"loc":["body","ignore_eos"],"msg":"out of memory"}]}`), "ignore_eos: out of memory"},
		"errors":                  {sse(`{"errors":[{"message":"out of memory"}]}`), "out of memory"},
		"event: error":            {"event: error\ndata: out of memory\n\n", "out of memory"},
		"event: error with JSON":  {"event: error\ndata: {\"message\":\"out of memory\"}\n\n", "out of memory"},
		"cut":                     {sse(text("a"), text("b")), "before the answer was complete"},
		"nothing":                 {"", "empty"},
		"no token":                {sse(finish, counts, "[DONE]"), "no token"},
		"no count":                {sse(text("a"), text("b"), finish, "[DONE]"), "no usage"},
		"broken JSON":             {sse(text("a"), `{"choices":[{"text":"b"]}`, "[DONE]"), "not JSON"},
		"cut JSON":                {sse(text("a"), `{"choices":[{"text":"b"`, "[DONE]"), "cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			a := Answer{Asked: 3}
			if err := a.read(strings.NewReader(tc.stream), func(time.Duration) {}); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %q", err, tc.says)
			}
		})
	}
}

func TestACutAnswer(t *testing.T) {
	a := Answer{Asked: 200}
	if err := a.read(strings.NewReader(sse(text("a"), text("b"), text("c"), finish, counts, "[DONE]")), func(time.Duration) {}); err != nil || !a.Cut() {
		t.Errorf("%+v, %v", a, err)
	}
}

// How many tokens came with the first is what tells whether TTFT is the first's.
func TestFirstTokens(t *testing.T) {
	at := func(ms ...float64) (all []time.Time) {
		for _, x := range ms {
			all = append(all, time.Unix(0, 0).Add(time.Duration(x*1e6)))
		}
		return all
	}
	for name, tc := range map[string]struct {
		a    Answer
		want float64
	}{
		"one by one":                 {Answer{Pieces: at(0, 10, 20, 30), sizes: []int{9, 1, 4, 2}, OutputTokens: 4}, 1},
		"four at a time":             {Answer{Pieces: at(0, 40, 80), sizes: []int{16, 16, 16}, OutputTokens: 12}, 4},
		"the first alone, then four": {Answer{Pieces: at(0, 40, 80), sizes: []int{4, 16, 16}, OutputTokens: 9}, 1},
		"counted by the server":      {Answer{Pieces: at(0, 40, 80), sizes: []int{4, 16, 16}, OutputTokens: 9, counted: 2}, 2},
		"blocks of a proxy":          {Answer{Pieces: at(0, .01, .02, 30, 30.01, 30.02), sizes: []int{1, 1, 1, 1, 1, 1}, OutputTokens: 6}, 3},
		"all at once":                {Answer{Pieces: at(0, .01, .02), sizes: []int{1, 1, 1}, OutputTokens: 3}, 3},
	} {
		if got := tc.a.first(); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func serve(t *testing.T, h http.HandlerFunc) *llm.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := llm.New(s.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var ask = Ask{Model: "m", Prompt: "a b", Tokens: 3}

func TestCompressedStreams(t *testing.T) {
	stream := []byte(sse(text("a"), text("b"), text("c"), finish, counts, "[DONE]"))
	pack := func(w io.WriteCloser) { _, _ = w.Write(stream); _ = w.Close() }
	for name, compress := range map[string]func(io.Writer){
		"gzip":            func(w io.Writer) { pack(gzip.NewWriter(w)) },
		"deflate":         func(w io.Writer) { pack(zlib.NewWriter(w)) },
		"deflate of some": func(w io.Writer) { z, _ := flate.NewWriter(w, 6); pack(z) },
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				encoding, _, _ := strings.Cut(name, " ")
				w.Header().Set("Content-Encoding", encoding)
				w.Header().Set("Content-Type", "text/event-stream")
				var b bytes.Buffer
				compress(&b)
				_, _ = w.Write(b.Bytes())
			})
			if a, err := Stream(context.Background(), c, Dialect{}, ask, Stall); err != nil || len(a.Pieces) != 3 {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
}

func TestAnswersThatAreNoStream(t *testing.T) {
	for name, tc := range map[string]struct {
		kind, body string
		want       error
		code       int
	}{
		"whole":  {"application/json", `{"choices":[{"text":"a b c","finish_reason":"length"}],"usage":{"completion_tokens":3}}`, ErrWhole, exit.Refused},
		"a page": {"text/html; charset=utf-8", "<!doctype html><p>welcome", ErrNotLLM, exit.Unusable},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tc.kind)
				_, _ = io.WriteString(w, tc.body)
			})
			_, err := Stream(context.Background(), c, Dialect{}, ask, Stall)
			if !errors.Is(err, tc.want) || exit.Code(Classify(c, err)) != tc.code {
				t.Errorf("%v, exit %d", err, exit.Code(Classify(c, err)))
			}
		})
	}
}

func TestTryLearnsHowToAsk(t *testing.T) {
	answer := sse(text("a"), text("b"), finish, counts, "[DONE]")
	refuse := func(field string, code int) func(http.ResponseWriter, string) bool {
		return func(w http.ResponseWriter, body string) bool {
			if !strings.Contains(body, `"`+field+`"`) {
				return false
			}
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"detail":[{"loc":["body",%q],"msg":"Extra inputs are not permitted"}]}`, field)
			return true
		}
	}
	for name, tc := range map[string]struct {
		endpoint string
		chatOnly bool
		refuses  []func(http.ResponseWriter, string) bool
		want     Dialect
	}{
		"all of it":        {sweep.Auto, false, nil, Dialect{Endpoint: sweep.Completions}},
		"strict":           {sweep.Auto, false, []func(http.ResponseWriter, string) bool{refuse("ignore_eos", 422)}, Dialect{Endpoint: sweep.Completions, WithoutIgnoreEOS: true}},
		"stricter":         {sweep.Auto, false, []func(http.ResponseWriter, string) bool{refuse("ignore_eos", 400), refuse("stream_options", 400)}, Dialect{Endpoint: sweep.Completions, WithoutIgnoreEOS: true, WithoutUsageOption: true}},
		"chat only":        {sweep.Auto, true, nil, Dialect{Endpoint: sweep.Chat}},
		"chat asked for":   {sweep.Chat, false, nil, Dialect{Endpoint: sweep.Chat}},
		"chat, and strict": {sweep.Auto, true, []func(http.ResponseWriter, string) bool{refuse("ignore_eos", 422)}, Dialect{Endpoint: sweep.Chat, WithoutIgnoreEOS: true}},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if tc.chatOnly && r.URL.Path != "/v1/chat/completions" {
					http.NotFound(w, r)
					return
				}
				body, _ := io.ReadAll(r.Body)
				for _, refused := range tc.refuses {
					if refused(w, string(body)) {
						return
					}
				}
				_, _ = io.WriteString(w, answer)
			})
			if d, _, err := Try(context.Background(), c, tc.endpoint, ask, Stall, nil); err != nil || d != tc.want {
				t.Errorf("%+v, %v; want %+v", d, err, tc.want)
			}
		})
	}
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":{"message":"The model m does not exist"}}`)
	})
	if _, _, err := Try(context.Background(), c, sweep.Auto, ask, Stall, nil); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a wrong model: %v", err)
	}
}

// A server that closes idle connections does so while a request is under way to it.
func TestAClosedConnectionIsTriedAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var connections atomic.Int64
	stream := sse(text("a"), text("b"), text("c"), finish, counts, "[DONE]")
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			go func() {
				defer conn.Close()
				b := make([]byte, 1<<16)
				if _, err := conn.Read(b); err == nil {
					fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s", len(stream), stream)
					_, _ = conn.Read(b) // takes the next request, and closes without an answer
				}
			}()
		}
	}()
	c, err := llm.New("http://"+l.Addr().String(), "")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := Stream(context.Background(), c, Dialect{}, ask, Stall); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if n := connections.Load(); n != 3 {
		t.Errorf("%d connections", n)
	}
}

// A server that leaves the connection open after [DONE] does not hold up its stream.
func TestAnOpenEnd(t *testing.T) {
	release := make(chan struct{})
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, sse(text("a"), text("b"), text("c"), finish, counts, "[DONE]"))
		_ = http.NewResponseController(w).Flush()
		<-release
	})
	defer close(release)
	begin := time.Now()
	if _, err := Stream(context.Background(), c, Dialect{}, ask, time.Hour); err != nil || time.Since(begin) > 20*time.Second {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
}

func FuzzStream(f *testing.F) {
	f.Add([]byte(sse(text("a"), text("b"), finish, counts, "[DONE]")))
	f.Add([]byte("\xef\xbb\xbfdata: {\rdata: }\r\n\r\nevent: error\ndata: x\n\n:\n\n"))
	f.Add([]byte("data: {\"choices\":[{\"delta\":{\"content\":[1]}}],\"usage\":{\"completion_tokens\":1e99}}\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, bytewise := Answer{Asked: 3}, Answer{Asked: 3}
		err := whole.read(bytes.NewReader(b), func(time.Duration) {})
		again := bytewise.read(&slow{b, 1}, func(time.Duration) {})
		if (err == nil) != (again == nil) || len(whole.Pieces) != len(bytewise.Pieces) || whole.OutputTokens != bytewise.OutputTokens {
			t.Fatalf("read at once: %v %+v; byte by byte: %v %+v", err, whole, again, bytewise)
		}
		if err == nil && (whole.OutputTokens < 1 || len(whole.Pieces) < 1 || whole.FirstTokens <= 0) {
			t.Fatalf("an answer without tokens: %+v", whole)
		}
	})
}
