// Package llm is what can be asked of an OpenAI-compatible LLM server: is it
// ready, what does it serve, how many tokens is this text, what does it say of
// itself under /metrics.
package llm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
)

// Client asks one server. It is safe for concurrent use.
type Client struct {
	base    *url.URL
	api     string // version of the API below base, such as /v1
	apiKey  string
	secrets redact.Secrets
	HTTP    *http.Client

	metricsAt atomic.Pointer[string] // path of the metrics, once it is known
}

// New makes a client of the server at target, such as http://vllm:8000, or below a
// path, http://gateway/llm. A trailing version, /v1, is accepted, since that is what
// OpenAI clients are given; another one, /v4, is then that of every request.
// White space around the key is no part of it: it comes of "echo key | base64".
func New(target, apiKey string) (*Client, error) {
	apiKey = strings.TrimSpace(apiKey)
	if !redact.Plain(apiKey) {
		return nil, exit.Errorf(exit.Usage, "the API key holds a line break or another control character, which no header can; give it in one line")
	}
	base, err := url.Parse(strings.TrimRight(target, "/"))
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, exit.Errorf(exit.Usage, "target %q: expected the URL of a server, such as http://vllm:8000", redact.URL(target))
	}
	api := "/v1"
	if version := apiVersion.FindString(base.Path); version != "" {
		api, base.Path, base.RawPath = version, strings.TrimSuffix(base.Path, version), ""
	}
	// Every stream keeps its connection: a new one for each request would put
	// the handshake into the time to first token.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 4096
	transport.DisableCompression = true
	return &Client{
		base: base, api: api, apiKey: apiKey, secrets: redact.Of(apiKey),
		HTTP: &http.Client{Transport: transport, CheckRedirect: sameServer},
	}, nil
}

var apiVersion = regexp.MustCompile(`/v\d+[a-z0-9]*$`)

// sameServer follows redirects as long as they leave the request what it is: after a
// 301 or 302 net/http would ask for a page where a prompt was to be sent, and at another
// place the key would go to somebody whom nobody has named, or in the clear, and another
// server be measured.
func sameServer(req *http.Request, via []*http.Request) error {
	from := via[0].URL
	if len(via) >= 10 || req.Method != via[0].Method || req.URL.Scheme != from.Scheme || req.URL.Host != from.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// Target is the server's URL without credentials.
func (c *Client) Target() string { return redact.URL(c.base.String()) }

// Said is what a server said, fit to be repeated: in one line, cut at 300 bytes, and
// without the key, which some servers answer with.
func (c *Client) Said(text string) string {
	return redact.Line(redact.Text(string(c.secrets.Bytes([]byte(text)))), 300)
}

// StatusError is an answer other than 200.
type StatusError struct {
	Path    string
	Code    int
	Message string // what the server said, one line
}

func (e *StatusError) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("%s: HTTP %d %s: %s", e.Path, e.Code, http.StatusText(e.Code), e.Message), ": ")
}

// Do sends a request and returns its answer when the status is 200; otherwise a
// *StatusError, or the error of the connection. A nil body makes it a GET.
func (c *Client) Do(ctx context.Context, path string, body any) (*http.Response, error) {
	method, reader := http.MethodGet, io.Reader(nil)
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		method, reader = http.MethodPost, bytes.NewReader(data)
	}
	if rest, ok := strings.CutPrefix(path, "/v1/"); ok {
		path = c.api + "/" + rest
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.JoinPath(path).String(), reader)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		// A connection that the server had closed meanwhile is no failure of the request:
		// with this header, which is not sent, net/http tries it again on another one.
		req.Header["X-Idempotency-Key"] = nil
	}
	if c.apiKey != "" {
		req.Header.Set("Authorization", "Bearer "+c.apiKey)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if to := resp.Header.Get("Location"); to != "" {
		text = fmt.Appendf(nil, "it redirects to %s; give that server as --target", redact.URL(to))
	}
	return nil, &StatusError{Path: path, Code: resp.StatusCode, Message: c.Said(ErrorMessage(text))}
}

// Incurable says whether an error will come again however often one asks: a certificate
// that nobody vouches for, TLS spoken to a server that speaks none or the other way
// round, a redirect that makes a GET of a POST or leads to another server.
func Incurable(err error) bool {
	var status *StatusError
	return advice(err) != "" || errors.As(err, &status) && status.Code >= 300 && status.Code < 400
}

// advice is what to do about an error of the connection that waiting does not change;
// empty: it may change.
func advice(err error) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return "give the certificate of the authority that signed it: SSL_CERT_FILE=ca.crt step …, in a container mounted and named by the same variable"
	case errors.As(err, &host):
		return "give --target the name that the certificate is for"
	case errors.As(err, &invalid):
		return "the server needs a new certificate"
	case errors.As(err, new(tls.RecordHeaderError)), err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it speaks no TLS: give --target with http://"
	}
	return ""
}

// ErrorMessage is what the body of an error says: the message where it is JSON of a
// known shape, the title of a page, and otherwise all of it. Said makes it fit to be repeated.
func ErrorMessage(body []byte) string {
	text, ok := FindError(body)
	if ok {
		return text
	}
	if page := title.FindSubmatch(body); page != nil { // of a proxy's page of an error
		return string(page[1])
	}
	return string(body)
}

var title = regexp.MustCompile(`(?is)<title>(.*?)</title>`)

// FindError finds the message of an error in JSON, in the shapes that servers use: an
// object, a text or a list under error or errors (OpenAI, llama.cpp, TGI), message
// beside "object": "error" (vLLM's older ones) or beside a code, detail (FastAPI). What
// holds choices is no error, unless it says error.
func FindError(body []byte) (string, bool) {
	var e struct {
		Error, Errors, Detail, Message, Code, Choices json.RawMessage
		Object, Type, Status                          any
	}
	if json.Unmarshal(body, &e) != nil {
		return "", false
	}
	for _, raw := range []json.RawMessage{e.Error, e.Errors} {
		if text := message(raw); text != "" {
			return text, true
		}
	}
	if len(e.Choices) > 0 && string(e.Choices) != "null" {
		return "", false
	}
	for _, raw := range []json.RawMessage{e.Detail, e.Message} {
		if text := message(raw); text != "" {
			return text, true
		}
	}
	if e.Object == "error" || e.Type == "error" {
		return string(body), true
	}
	return "", false
}

// message is the text in a JSON value that describes an error; empty: there is none.
func message(raw json.RawMessage) string {
	var text string
	var list []json.RawMessage
	var object map[string]json.RawMessage
	switch {
	case len(raw) == 0 || string(raw) == "null" || string(raw) == "false":
		return ""
	case json.Unmarshal(raw, &text) == nil:
		return text
	case json.Unmarshal(raw, &list) == nil:
		if len(list) == 0 {
			return ""
		}
		return message(list[0])
	case json.Unmarshal(raw, &object) == nil:
		for _, name := range []string{"message", "msg", "detail", "error"} {
			if text := message(object[name]); text != "" {
				// FastAPI says beside the text which field it is about
				if where := message(lastOf(object["loc"])); where != "" {
					text = where + ": " + text
				}
				return text
			}
		}
		if len(object) == 0 {
			return ""
		}
	}
	return string(raw)
}

// lastOf is the last element of a list, or nothing.
func lastOf(raw json.RawMessage) json.RawMessage {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return nil
	}
	return list[len(list)-1]
}

// patience is how long the answer to a question may take, other than to a prompt.
const patience = 15 * time.Second

func (c *Client) getJSON(ctx context.Context, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.Do(ctx, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(into); err != nil {
		if errors.As(err, new(net.Error)) {
			return fmt.Errorf("%s: %w", path, err)
		}
		return fmt.Errorf("%s: %w: %w", path, errContent, err)
	}
	return nil
}

// errContent says that a question was answered with something else: a gateway that has
// a page for everything also says 200.
var errContent = errors.New("the answer is not the expected JSON")

// Model is one entry of /v1/models. MaxModelLen is 0 where the server does not say it.
type Model struct {
	ID          string
	MaxModelLen int // tokens of a prompt and its answer
}

// UnmarshalJSON takes an entry as servers write it: the length of the context has no
// name that all use, and is no number everywhere. llama.cpp says that of one slot.
func (m *Model) UnmarshalJSON(b []byte) error {
	var e struct {
		ID, Name, Model  any
		MaxModelLen      any `json:"max_model_len"`      // vLLM, SGLang
		MaxContextLength any `json:"max_context_length"` // LM Studio, Mistral
		ContextLength    any `json:"context_length"`     // Together, OpenRouter
		ContextWindow    any `json:"context_window"`     // Groq
		MaxInputTokens   any `json:"max_input_tokens"`
		Meta             struct {
			Context any `json:"n_ctx"`
		}
	}
	if json.Unmarshal(b, &e.ID) == nil {
		if id, ok := e.ID.(string); ok { // a list of names
			m.ID = id
			return nil
		}
	}
	e.ID = nil
	var mismatch *json.UnmarshalTypeError
	if err := json.Unmarshal(b, &e); err != nil && !errors.As(err, &mismatch) {
		return err
	}
	for _, id := range []any{e.ID, e.Model, e.Name} {
		if text, ok := id.(string); ok && m.ID == "" {
			m.ID = text
		}
	}
	for _, n := range []any{e.MaxModelLen, e.Meta.Context, e.MaxContextLength, e.ContextLength, e.ContextWindow} {
		x, err := strconv.ParseFloat(fmt.Sprint(n), 64)
		if err == nil && x >= 1 && x < math.MaxInt32 && m.MaxModelLen == 0 {
			m.MaxModelLen = int(x)
		}
	}
	return nil
}

// Models lists what the server serves: OpenAI's list under data, a bare one, or
// Ollama's under models.
func (c *Client) Models(ctx context.Context) ([]Model, error) {
	var raw json.RawMessage
	if err := c.getJSON(ctx, "/v1/models", nil, &raw); err != nil {
		return nil, err
	}
	var models []Model
	if json.Unmarshal(raw, &models) == nil {
		return models, nil
	}
	var list struct{ Data, Models []Model }
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("/v1/models: %w: no list of models", errContent)
	}
	return append(list.Data, list.Models...), nil
}

// Version is the server's own version, empty where it does not say.
func (c *Client) Version(ctx context.Context) string {
	var v struct{ Version string }
	if c.getJSON(ctx, "/version", nil, &v) != nil {
		return ""
	}
	return c.Said(v.Version)
}

// Tokenize counts the tokens of a prompt, special tokens included, as vLLM's
// /tokenize does.
func (c *Client) Tokenize(ctx context.Context, model, prompt string) (int, error) {
	var answer struct{ Count *int }
	err := c.getJSON(ctx, "/tokenize", map[string]any{"model": model, "prompt": prompt}, &answer)
	if err == nil && answer.Count == nil {
		err = errors.New("/tokenize: the answer has no count")
	}
	if err != nil {
		return 0, err
	}
	return *answer.Count, nil
}

// healthPatience is how long /health may take: behind some gateways nobody answers it.
const healthPatience = 3 * time.Second

// Find asks once whether the server is ready and serves the model. The error is
// exit.Unusable when it serves others (waiting will not fix that), wants another key or
// cannot be reached for a reason that stays, and exit.TryAgain while it is not ready.
// A server that does not list its models is believed to serve the one asked for: the
// first request will tell.
func (c *Client) Find(ctx context.Context, model string) (Model, error) {
	if err := c.health(ctx); err != nil {
		return Model{}, c.unready(err)
	}
	models, err := c.Models(ctx)
	if err != nil {
		if unanswered(err) {
			return Model{ID: model}, c.answers(ctx, model, err)
		}
		return Model{}, c.unready(err)
	}
	var served []string
	for _, m := range models {
		if m.ID == model {
			return m, nil
		}
		served = append(served, c.Said(m.ID))
	}
	if len(served) == 0 {
		return Model{}, exit.Errorf(exit.TryAgain, "%s serves no model yet", c.Target())
	}
	return Model{}, exit.Errorf(exit.Unusable, "%s serves %s, not %q; give --model one of them, or --target another server",
		c.Target(), redact.Line(strings.Join(served, ", "), 2000), model)
}

// health asks /health, where only two things mean something: that the server is
// starting, and that nobody is there. Many servers and gateways have no such page, or
// guard it, or let it hang; they are asked for their models alone.
func (c *Client) health(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	resp, err := c.Do(ctx, "/health", nil)
	if err == nil {
		resp.Body.Close()
		return nil
	}
	var status *StatusError
	switch {
	case errors.As(err, &status):
		if status.Code == http.StatusServiceUnavailable || status.Code == http.StatusBadGateway || status.Code == http.StatusGatewayTimeout {
			return err
		}
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil
	}
	return err
}

// answers asks a server that lists no models for one token; why says what it answers
// instead of the list.
func (c *Client) answers(ctx context.Context, model string, why error) error {
	chat := []map[string]string{{"role": "user", "content": "a"}}
	for path, body := range map[string]any{
		"/v1/completions":      map[string]any{"model": model, "max_tokens": 1, "prompt": "a"},
		"/v1/chat/completions": map[string]any{"model": model, "max_tokens": 1, "messages": chat},
	} {
		var answer struct{ Choices []json.RawMessage }
		err := c.getJSON(ctx, path, body, &answer)
		var status *StatusError
		switch {
		case err == nil && len(answer.Choices) > 0:
			return nil
		case errors.As(err, &status) && (status.Code == http.StatusBadRequest || status.Code == http.StatusUnprocessableEntity):
			return nil // it knows the endpoint; how it wants to be asked is found out later
		case errors.As(err, &status) && status.Code == http.StatusNotFound && strings.Contains(strings.ToLower(status.Message), "model"):
			return exit.Errorf(exit.Unusable, "%s: %w", c.Target(), err)
		case err != nil && !unanswered(err):
			return c.unready(err)
		}
	}
	return exit.Errorf(exit.TryAgain, "%s is not ready, or no LLM server: it neither lists its models (%w) nor completes a prompt", c.Target(), why)
}

// unanswered says that a question is one which the server does not know, by its status
// or by what it answered.
func unanswered(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code == http.StatusNotFound || status.Code == http.StatusMethodNotAllowed || status.Code == http.StatusNotImplemented
	}
	return errors.Is(err, errContent)
}

func (c *Client) unready(err error) error {
	var status *StatusError
	if errors.As(err, &status) && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden) {
		return exit.Errorf(exit.Unusable, "%s: %w; give the server's key in STEP_API_KEY", c.Target(), err)
	}
	if cure := advice(err); cure != "" {
		return exit.Errorf(exit.Unusable, "%s: %w; %s", c.Target(), Brief(err), cure)
	}
	if Incurable(err) {
		return exit.Errorf(exit.Unusable, "%s: %w", c.Target(), Brief(err))
	}
	return exit.Errorf(exit.TryAgain, "%s is not ready: %w", c.Target(), Brief(err))
}

// Brief drops the request line that net/http puts before the cause: the caller
// has named the server already.
func Brief(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Wait asks until the server is ready, as Find does, at most for timeout. say is
// told now and then why it is not.
func (c *Client) Wait(ctx context.Context, model string, timeout time.Duration, say func(string)) (Model, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start, said, pause := time.Now(), time.Time{}, 200*time.Millisecond
	var last error
	for {
		probe, done := context.WithTimeout(ctx, 10*time.Second) // a server that accepts and never answers
		m, err := c.Find(probe, model)
		done()
		if err == nil || exit.Code(err) != exit.TryAgain {
			return m, err
		}
		if last == nil || ctx.Err() == nil { // a probe that was cut short knows less than the one before
			last = err
		}
		if time.Since(said) > 15*time.Second {
			say(fmt.Sprintf("waiting, %.0f s: %v", time.Since(start).Seconds(), last))
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return Model{}, exit.Errorf(exit.TryAgain, "gave up after %s: %w", timeout, last)
			}
			return Model{}, exit.Errorf(exit.TryAgain, "interrupted while waiting: %w", last)
		case <-time.After(pause):
			pause = min(2*pause, 5*time.Second)
		}
	}
}
