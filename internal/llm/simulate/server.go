package simulate

import (
	"context"
	"crypto/subtle"
	"fmt"
	"hash/fnv"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server is a simulated LLM server. Make it with New and end it with Close.
type Server struct {
	config  Config
	pacer   *pacer
	metrics *metrics
	handler http.Handler
	created int64         // Unix time
	ready   time.Duration // on the pacer's clock
	number  atomic.Uint64 // of requests that passed validation

	close  sync.Once
	closed chan struct{}
}

// New starts a server; zeros of config that have a default get it. The error
// holds every mistake of config.
func New(config Config) (*Server, error) { return open(config, newAlarm) }

// NewVirtual is New in the virtual time of testing/synctest, which knows the runtime's
// timers and no others.
func NewVirtual(config Config) (*Server, error) {
	return open(config, func() (alarm, error) { return newTimer(), nil })
}

func open(config Config, newAlarm func() (alarm, error)) (*Server, error) {
	config = config.WithDefaults()
	if err := config.Validate(); err != nil {
		return nil, err
	}
	s := &Server{config: config, created: time.Now().Unix(), ready: config.StartDelay, closed: make(chan struct{})}
	s.metrics = newMetrics(config, func() (int, int, int) { return s.pacer.load() })
	a, err := newAlarm()
	if err != nil {
		return nil, fmt.Errorf("start the clock: %w", err)
	}
	s.pacer = startPacer(a, newScheduler(config, func(tokens int) { s.metrics.iteration.Observe(float64(tokens)) }))
	s.handler = s.routes()
	return s, nil
}

// Handler answers the server's HTTP requests.
func (s *Server) Handler() http.Handler { return s.handler }

// Close ends the clock and cuts the requests that still wait for tokens.
func (s *Server) Close() {
	s.close.Do(func() {
		close(s.closed)
		s.pacer.stop()
	})
}

// shutdownGrace is how long open streams may go on after Serve was told to end.
const shutdownGrace = 300 * time.Millisecond

// Serve answers on l, which it closes, until ctx ends; streams that are open
// then are cut soon after. The error is nil unless accepting failed.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close() // its listener is closed already, which is all it could complain about
	}
	return nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		if s.starting() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	if s.config.SGLang {
		mux.HandleFunc("GET /server_info", s.started(s.serverInfo))
	} else {
		mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, map[string]string{"version": s.config.Version})
		})
	}
	if !s.config.NoMetrics {
		mux.Handle("GET /metrics", s.metrics.handler(s.config.SGLang))
	}
	mux.HandleFunc("GET /v1/models", s.started(s.models))
	mux.HandleFunc("POST /tokenize", s.started(s.tokenize))
	mux.HandleFunc("POST /v1/completions", s.started(func(w http.ResponseWriter, r *http.Request) { s.generate(w, r, false) }))
	mux.HandleFunc("POST /v1/chat/completions", s.started(func(w http.ResponseWriter, r *http.Request) { s.generate(w, r, true) }))
	return detailed(mux)
}

// detailed answers what the routes do not know as vLLM's web framework does.
func detailed(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		status := http.StatusNotFound
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			other := r.Clone(r.Context())
			other.Method = method
			if _, pattern := mux.Handler(other); pattern != "" {
				w.Header().Set("Allow", method)
				status = http.StatusMethodNotAllowed
			}
		}
		writeJSON(w, status, map[string]string{"detail": http.StatusText(status)})
	})
}

func (s *Server) starting() bool { return s.pacer.now() < s.ready }

// started refuses requests before the start delay is over, and under /v1 those
// without the key, as vLLM does.
func (s *Server) started(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.starting():
			writeError(w, &requestError{
				Message: "The model is still loading.", Type: "ServiceUnavailableError", Code: http.StatusServiceUnavailable,
			})
		case s.config.APIKey != "" && r.URL.Path != "/tokenize" && !s.authorized(r):
			writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "Unauthorized"})
		default:
			next(w, r)
		}
	}
}

func (s *Server) authorized(r *http.Request) bool {
	given := []byte(r.Header.Get("Authorization"))
	return subtle.ConstantTimeCompare(given, []byte("Bearer "+s.config.APIKey)) == 1
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"object": "list",
		"data": []any{map[string]any{
			"id": s.config.Model, "object": "model", "created": s.created, "owned_by": "vllm",
			"root": s.config.Model, "parent": nil, "max_model_len": s.config.MaxModelLen,
			"permission": []any{map[string]any{
				"id": fmt.Sprintf("modelperm-%016x", s.created), "object": "model_permission", "created": s.created,
				"allow_create_engine": false, "allow_sampling": true, "allow_logprobs": true,
				"allow_search_indices": false, "allow_view": true, "allow_fine_tuning": false,
				"organization": "*", "group": nil, "is_blocking": false,
			}},
		}},
	})
}

func (s *Server) checkModel(q *request) error {
	if q.Model == "" || q.Model == s.config.Model {
		return nil
	}
	param := "model"
	return &requestError{
		Message: fmt.Sprintf("The model `%s` does not exist. Valid aliases: %s.", q.Model, s.config.Model),
		Type:    "NotFoundError", Param: &param, Code: http.StatusNotFound,
	}
}

func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) {
	q, err := readRequest(w, r)
	if err == nil {
		err = s.checkModel(q)
	}
	var words []string
	if err == nil && len(q.Prompt) == 0 && q.Messages == nil {
		err = invalid("body.prompt", "missing", "Field required")
	}
	if err == nil {
		words, err = q.words(q.Messages != nil)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	ids := make([]uint32, len(words))
	for i, word := range words {
		h := fnv.New32a()
		h.Write([]byte(word))
		ids[i] = h.Sum32() % 128_000 // a vocabulary of usual size
	}
	answer := map[string]any{"count": len(words), "max_model_len": s.config.MaxModelLen, "tokens": ids, "token_strs": nil}
	if q.ReturnTokenStrings {
		answer["token_strs"] = words
	}
	writeJSON(w, http.StatusOK, answer)
}

// generate answers a request for tokens, from /v1/chat/completions if chat.
func (s *Server) generate(w http.ResponseWriter, r *http.Request, chat bool) {
	arrived := s.pacer.now()
	q, err := readRequest(w, r)
	if err == nil {
		err = s.checkModel(q)
	}
	var prompt, output int
	if err == nil {
		prompt, output, err = q.limits(s.config, chat)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	if s.config.Hang {
		s.hang(r)
	}
	f := s.config.fate(s.number.Add(1) - 1)
	if f.fail {
		writeError(w, &requestError{
			Message: "Internal server error", Type: "InternalServerError", Code: http.StatusInternalServerError,
		})
		return
	}
	finish, asked := finishLength, output
	if natural := max(f.natural, q.MinTokens); !q.IgnoreEOS && natural <= output {
		output, finish = natural, finishStop
	}
	var stream *http.ResponseController
	if q.Stream {
		// The status goes out at once, as it does from vLLM: clients must not
		// take it for the first token.
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		stream = http.NewResponseController(w)
		if stream.Flush() != nil {
			return
		}
	}
	answer := newResponse(s.config, q, chat, prompt, finish, f)
	tokens := newSequence(prompt, output, arrived, f)
	tokens.wake = make(chan struct{}, 1)
	s.deliver(w, r, stream, tokens, answer, asked, f)
}

// hang keeps a request until its client, or the server, has enough.
func (s *Server) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.closed:
	}
	panic(http.ErrAbortHandler)
}

// deliver runs a request, which asked for at most so many tokens, through the
// scheduler and hands its tokens over as they come, or all together where stream is
// nil.
func (s *Server) deliver(w http.ResponseWriter, r *http.Request, stream *http.ResponseController, q *sequence, answer *response, asked int, f fate) {
	end := q.output
	if f.abort {
		// At least one token where there are two, and never the last.
		end = min(1+int(f.abortAt*float64(q.output-1)), q.output-1)
	}
	tokens := timing{metrics: s.metrics, sequence: q}
	abandon := func() {
		s.pacer.leave(q)            // counted as begun and not as finished, which is what vLLM does
		panic(http.ErrAbortHandler) // closes the connection without an end of the response
	}
	s.pacer.submit(q)
	for tokens.tokens < end {
		select {
		case <-q.wake:
		case <-r.Context().Done():
			abandon()
		case <-s.closed:
			abandon()
		}
		n := min(int(q.released.Load()), end) - tokens.tokens
		if n == 0 {
			continue // told twice of the same token
		}
		// The counts must be right when the client sees its last bytes, so
		// they come before the write.
		tokens.delivered(n, s.pacer.now())
		last := tokens.tokens == q.output
		if last {
			tokens.complete(answer.finish, asked)
		}
		if stream == nil {
			continue
		}
		_, err := w.Write(answer.chunks(n, last))
		if err == nil {
			err = stream.Flush()
		}
		if err != nil && !last { // a finished request is no longer aborted
			abandon()
		}
	}
	switch {
	case f.abort:
		abandon()
	case stream == nil:
		writeJSON(w, http.StatusOK, answer.whole(q.output))
	}
}
