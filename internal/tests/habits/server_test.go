package habits

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wfgen.dev/internal/tests/pipes"
)

// What the servers do, whatever they say.
const (
	trueTTFT = 80 * time.Millisecond
	trueITL  = 20 * time.Millisecond
)

// server is a server with habits; its zero is one without, and without metrics.
type server struct {
	// What it sends around the tokens.
	roleFirst, emptyFirst, emptyBetween, emptyLast, keepAlive bool
	noDone, usageEach, usageEarly, zeroLast, nullUsage        bool
	usageTexts, noUsage, longLines, manyLines, carriage, bom  bool

	// How tokens are put into pieces.
	group     int // tokens of each piece, the first included
	speculate int // tokens of each piece after the first
	split     int // pieces of each token

	// What stands before it.
	block       int  // bytes that are passed on together
	whole       bool // the answer is held until its end
	compress    bool
	compressAll bool // and held until its end
	drop        bool // closes every connection after its answer, without saying so

	// What it answers otherwise.
	asJSON, html, chatOnly, strict bool
	errorEvery                     int // request that ends in an error within the stream
	errorShape                     string
	cutAt, stopAt, morePrompt      int // tokens
	models, tokenize, health       string
	slots                          int // requests that run at once
	timings                        bool

	// What it says of itself.
	metrics    bool
	alias      string
	gaugeTimes int  // its gauges come so many times
	ranks      int  // every series comes so many times, by tp_rank
	noise      bool // lines that nobody understands
	steps      bool // the histogram of ITL counts steps
	foreign    bool // somebody else's requests are counted too
	evicts     bool
	cached     bool
	two        bool // two servers in turn answer /metrics
	page       bool // /metrics is a web page

	requests, scrapes                            atomic.Int64
	running, waiting                             atomic.Int64
	mu                                           sync.Mutex
	ttft, itl, queue, decode, inference, outputs sums
	queueOf                                      chan struct{}
}

// sums is a histogram's.
type sums struct{ sum, count float64 }

func (s *sums) add(x float64, n int) { s.sum += x * float64(n); s.count += float64(n) }

func (s *server) start(t *testing.T) string {
	t.Helper()
	if s.slots > 0 {
		s.queueOf = make(chan struct{}, s.slots)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		switch s.health {
		case "missing":
			http.NotFound(w, r)
		case "not allowed":
			w.WriteHeader(http.StatusMethodNotAllowed)
		case "501":
			w.WriteHeader(http.StatusNotImplemented)
		case "hangs":
			<-r.Context().Done()
		}
	})
	mux.HandleFunc("/v1/models", func(w http.ResponseWriter, r *http.Request) {
		switch s.models {
		case "bare":
			_, _ = io.WriteString(w, `[{"id":"m","max_model_len":"4096.0"}]`)
		case "texts":
			_, _ = io.WriteString(w, `["other","m"]`)
		case "odd":
			_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"m","max_model_len":null,"created":"today","meta":{"n_ctx":4096.0}}]}`)
		case "page":
			_, _ = io.WriteString(w, "<!doctype html>welcome")
		case "missing":
			http.NotFound(w, r)
		default:
			_, _ = io.WriteString(w, `{"data":[{"id":"m","max_model_len":4096}]}`)
		}
	})
	mux.HandleFunc("/tokenize", func(w http.ResponseWriter, r *http.Request) {
		switch s.tokenize {
		case "empty":
			_, _ = io.WriteString(w, `{"tokens":[]}`)
		case "page":
			_, _ = io.WriteString(w, "<!doctype html>welcome")
		case "zero":
			_, _ = io.WriteString(w, `{"count":0}`)
		default:
			http.NotFound(w, r)
		}
	})
	mux.HandleFunc("/metrics", s.writeMetrics)
	mux.HandleFunc("/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { s.generate(w, r, true) })
	mux.HandleFunc("/v1/completions", func(w http.ResponseWriter, r *http.Request) {
		if s.chatOnly {
			http.NotFound(w, r)
			return
		}
		s.generate(w, r, false)
	})
	return pipes.Serve(t, mux).URL
}

// generate answers a prompt.
func (s *server) generate(w http.ResponseWriter, r *http.Request, chat bool) {
	body, _ := io.ReadAll(r.Body)
	var q struct {
		Prompt    string
		Messages  []struct{ Content string }
		MaxTokens int   `json:"max_tokens"`
		IgnoreEOS *bool `json:"ignore_eos"`
		Stream    bool
	}
	_ = json.Unmarshal(body, &q)
	if s.strict && q.IgnoreEOS != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"detail":[{"loc":["body","ignore_eos"],"msg":"Extra inputs are not permitted"}]}`)
		return
	}
	prompt := len(strings.Fields(q.Prompt)) + s.morePrompt
	if chat {
		prompt = len(strings.Fields(q.Messages[0].Content)) + 7 + s.morePrompt
	}
	tokens, finish := q.MaxTokens, "length"
	if s.cutAt > 0 {
		tokens = min(tokens, s.cutAt)
	}
	if s.stopAt > 0 && s.stopAt < tokens {
		tokens, finish = s.stopAt, "stop"
	}
	number := s.requests.Add(1)
	arrived := time.Now()
	if s.queueOf != nil {
		s.waiting.Add(1)
		s.queueOf <- struct{}{}
		s.waiting.Add(-1)
		defer func() { <-s.queueOf }()
	}
	admitted := time.Now()
	s.running.Add(1)
	defer s.running.Add(-1)

	out := s.writer(w)
	usage := func(n int) string {
		switch {
		case s.noUsage:
			return ""
		case s.usageTexts:
			return fmt.Sprintf(`"usage":{"prompt_tokens":"%d","completion_tokens":%d.0}`, prompt, n)
		}
		return fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":%d}`, prompt, n)
	}
	content := func(text string) string {
		if chat {
			return fmt.Sprintf(`{"index":0,"delta":{"content":%q},"finish_reason":null}`, text)
		}
		return fmt.Sprintf(`{"index":0,"text":%q,"finish_reason":null}`, text)
	}
	chunk := func(choices, more string) {
		if s.longLines {
			more = strings.TrimPrefix(more+`,"padding":"`+strings.Repeat("x", 100<<10)+`"`, ",")
		}
		if more != "" {
			more = "," + more
		}
		s.event(out, fmt.Sprintf(`{"id":"1","choices":[%s]%s}`, choices, more))
	}
	if s.html {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html>welcome")
		return
	}
	if s.asJSON || !q.Stream {
		time.Sleep(trueTTFT + time.Duration(tokens-1)*trueITL)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"choices":[{"index":0,"text":%q,"finish_reason":"length"}],%s}`, strings.Repeat(" w", tokens), usage(tokens))
		return
	}
	if s.bom {
		out.Write([]byte("\xef\xbb\xbf"))
	}
	if s.roleFirst {
		chunk(`{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}`, "")
	}
	if s.emptyFirst {
		chunk(content(""), "")
	}
	first := admitted.Add(trueTTFT)
	at := func(i int) time.Time { return first.Add(time.Duration(i) * trueITL) }
	piece := func(i int) (n int) { // tokens of the piece that begins with token i
		switch {
		case s.group > 1:
			return min(s.group, tokens-i)
		case s.speculate > 1 && i > 0:
			return min(s.speculate, tokens-i)
		}
		return 1
	}
	for i := 0; i < tokens; {
		n := piece(i)
		time.Sleep(time.Until(at(i + n - 1)))
		if s.keepAlive {
			out.Write([]byte(": ping\n\n"))
		}
		if s.errorEvery > 0 && number%int64(s.errorEvery) == 0 && i > tokens/2 {
			out.Write([]byte(s.errorShape))
			out.finish()
			return
		}
		if s.emptyBetween && i > 0 {
			chunk(content(""), "")
		}
		more := ""
		if s.usageEach || s.usageEarly && i+n == tokens {
			more = usage(i + n)
		} else if s.nullUsage {
			more = `"usage":null`
		}
		if s.split > 1 {
			for range s.split {
				chunk(content("w"), more)
			}
		} else {
			chunk(content(strings.Repeat(" w", n)), more)
		}
		i += n
	}
	ended := time.Now()
	s.count(arrived, admitted, ended, tokens)
	last := fmt.Sprintf(`{"index":0,"text":"","finish_reason":%q}`, finish)
	timings := ""
	if s.timings {
		timings = fmt.Sprintf(`"timings":{"prompt_ms":%d,"predicted_n":%d,"predicted_ms":%d}`, trueTTFT.Milliseconds(), tokens, time.Duration(tokens-1)*trueITL/time.Millisecond)
	}
	chunk(last, timings)
	if u := usage(tokens); u != "" && !s.usageEarly {
		chunk("", u)
	}
	if s.emptyLast {
		chunk(content(""), "")
	}
	if s.zeroLast {
		chunk("", `"usage":{"prompt_tokens":0,"completion_tokens":0}`)
	}
	if !s.noDone {
		s.event(out, "[DONE]")
	}
	out.finish()
	if s.drop {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.Close()
		}
	}
}

// event writes one event.
func (s *server) event(out *writer, data string) {
	end := "\n"
	if s.carriage {
		end = "\r"
	}
	if s.manyLines {
		data = strings.Replace(data, `"choices":`, `"choices":`+end+"data: ", 1)
	}
	out.Write([]byte("data: " + data + end + end))
}

// count keeps what the server says of a finished request.
func (s *server) count(arrived, admitted, ended time.Time, tokens int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := admitted.Sub(arrived).Seconds()
	s.ttft.add(wait+trueTTFT.Seconds(), 1)
	s.queue.add(wait, 1)
	gaps, each := tokens-1, trueITL
	if s.steps && s.speculate > 1 {
		gaps = (gaps + s.speculate - 1) / s.speculate
		each = time.Duration(tokens-1) * trueITL / time.Duration(max(1, gaps))
	}
	s.itl.add(each.Seconds(), gaps)
	s.decode.add(float64(tokens-1)*trueITL.Seconds(), 1)
	s.inference.add(ended.Sub(admitted).Seconds(), 1)
	s.outputs.add(float64(tokens), 1)
}

func (s *server) writeMetrics(w http.ResponseWriter, r *http.Request) {
	n := s.scrapes.Add(1)
	switch {
	case s.page:
		_, _ = io.WriteString(w, "<!doctype html>welcome")
		return
	case !s.metrics:
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	more := 0.0
	if s.foreign {
		more = float64(n * 3)
	}
	if s.two && n%2 == 0 {
		more += 1000
	}
	name := s.alias
	if name == "" {
		name = "m"
	}
	line := func(times int, metric string, v float64) {
		for i := range max(1, times) {
			for rank := range max(1, s.ranks) {
				fmt.Fprintf(w, "vllm:%s{model_name=%q,engine=\"%d\",tp_rank=\"%d\"} %g\n", metric, name, i, rank, v)
			}
		}
	}
	if s.noise {
		_, _ = io.WriteString(w, "# HELP vllm:x\n# HELP vllm:x\n???\nvllm:num_requests_running{ 1\n{\"größe\"} 2\nvllm:time_to_first_token_seconds_sum NaN\n")
	}
	histogram := func(metric string, h sums) {
		line(1, metric+"_sum", h.sum)
		line(1, metric+"_count", h.count)
	}
	line(s.gaugeTimes, "num_requests_running", float64(s.running.Load()))
	line(s.gaugeTimes, "num_requests_waiting", float64(s.waiting.Load()))
	line(1, "request_success_total", s.outputs.count+more)
	line(1, "generation_tokens_total", s.outputs.sum+more)
	histogram("inter_token_latency_seconds", s.itl)
	histogram("time_to_first_token_seconds", s.ttft)
	histogram("request_queue_time_seconds", s.queue)
	histogram("request_decode_time_seconds", s.decode)
	histogram("request_inference_time_seconds", s.inference)
	histogram("request_generation_tokens", s.outputs)
	if s.evicts {
		line(1, "num_preemptions_total", float64(n))
	}
	if s.cached {
		line(1, "prefix_cache_hits_total", 100*float64(n))
	}
}

// writer is what stands between the server and its client.
type writer struct {
	w     http.ResponseWriter
	gz    *gzip.Writer
	held  bytes.Buffer
	block int // 0: nothing is held
}

func (s *server) writer(w http.ResponseWriter) *writer {
	out := &writer{w: w, block: s.block}
	w.Header().Set("Content-Type", "text/event-stream")
	if s.whole || s.compressAll {
		out.block = 1 << 30
	}
	if s.compress || s.compressAll {
		w.Header().Set("Content-Encoding", "gzip")
		out.gz = gzip.NewWriter(&out.held)
	}
	return out
}

func (o *writer) Write(p []byte) {
	if o.gz == nil {
		o.held.Write(p)
	} else {
		_, _ = o.gz.Write(p)
		_ = o.gz.Flush()
	}
	for o.block > 0 && o.held.Len() >= o.block {
		o.pass(o.block)
	}
	if o.block == 0 {
		o.pass(o.held.Len())
	}
}

func (o *writer) pass(n int) {
	_, _ = o.w.Write(o.held.Next(n))
	_ = http.NewResponseController(o.w).Flush()
}

func (o *writer) finish() {
	if o.gz != nil {
		_ = o.gz.Close()
	}
	o.pass(o.held.Len())
}
