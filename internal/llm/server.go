// Package llm is what can be asked of an OpenAI-compatible LLM server: is it
// ready, what does it serve, how many tokens is this text, what does it say of
// itself under /metrics.
package llm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"wfgen.dev/internal/run/exit"
)

// Client asks one server. It is safe for concurrent use.
type Client struct {
	base   *url.URL
	apiKey string
	HTTP   *http.Client
}

// New makes a client of the server at target, such as http://vllm:8000; a
// trailing /v1 is accepted, since that is what OpenAI clients are given.
func New(target, apiKey string) (*Client, error) {
	base, err := url.Parse(strings.TrimSuffix(strings.TrimRight(target, "/"), "/v1"))
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, exit.Errorf(exit.Usage, "target %q: expected the URL of a server, such as http://vllm:8000", target)
	}
	// Every stream keeps its connection: a new one for each request would put
	// the handshake into the time to first token.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 4096
	transport.DisableCompression = true
	return &Client{base: base, apiKey: apiKey, HTTP: &http.Client{Transport: transport}}, nil
}

// Target is the server's URL without credentials.
func (c *Client) Target() string { return c.base.Redacted() }

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
	req, err := http.NewRequestWithContext(ctx, method, c.base.JoinPath(path).String(), reader)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
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
	return nil, &StatusError{Path: path, Code: resp.StatusCode, Message: errorMessage(text)}
}

// errorMessage is the message of an OpenAI-style error body, or the body's start.
func errorMessage(body []byte) string {
	var e struct {
		Error   struct{ Message string }
		Message string
	}
	text := string(body)
	if json.Unmarshal(body, &e) == nil {
		if e.Error.Message != "" {
			text = e.Error.Message
		} else if e.Message != "" {
			text = e.Message
		}
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return text
}

func (c *Client) getJSON(ctx context.Context, path string, body, into any) error {
	resp, err := c.Do(ctx, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(into); err != nil {
		return fmt.Errorf("%s: the answer is not the expected JSON: %w", path, err)
	}
	return nil
}

// Model is one entry of /v1/models. MaxModelLen is 0 where the server does not
// say it.
type Model struct {
	ID          string `json:"id"`
	MaxModelLen int    `json:"max_model_len"`
}

// Models lists what the server serves.
func (c *Client) Models(ctx context.Context) ([]Model, error) {
	var list struct{ Data []Model }
	err := c.getJSON(ctx, "/v1/models", nil, &list)
	return list.Data, err
}

// Version is the server's own version, empty where it does not say.
func (c *Client) Version(ctx context.Context) string {
	var v struct{ Version string }
	if c.getJSON(ctx, "/version", nil, &v) != nil {
		return ""
	}
	return v.Version
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

// Find asks once whether the server is ready and serves the model. The error is
// exit.Unusable when it serves others (waiting will not mend that) or wants
// another key, and exit.TryAgain while it is not ready.
func (c *Client) Find(ctx context.Context, model string) (Model, error) {
	if resp, err := c.Do(ctx, "/health", nil); err == nil {
		resp.Body.Close()
	} else if status := (*StatusError)(nil); !errors.As(err, &status) || status.Code != http.StatusNotFound {
		// a server without /health is asked for its models alone
		return Model{}, c.unready(err)
	}
	models, err := c.Models(ctx)
	if err != nil {
		return Model{}, c.unready(err)
	}
	var served []string
	for _, m := range models {
		if m.ID == model {
			return m, nil
		}
		served = append(served, m.ID)
	}
	if len(served) == 0 {
		return Model{}, exit.Errorf(exit.TryAgain, "%s serves no model yet", c.Target())
	}
	return Model{}, exit.Errorf(exit.Unusable, "%s serves %s, not %q; give --model one of them, or --target another server",
		c.Target(), strings.Join(served, ", "), model)
}

func (c *Client) unready(err error) error {
	var status *StatusError
	if errors.As(err, &status) && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden) {
		return exit.Errorf(exit.Unusable, "%s: %w; give the server's key in STEP_API_KEY", c.Target(), err)
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
	for {
		probe, done := context.WithTimeout(ctx, 10*time.Second) // a server that accepts and never answers
		m, err := c.Find(probe, model)
		done()
		if err == nil || exit.Code(err) != exit.TryAgain {
			return m, err
		}
		if time.Since(said) > 15*time.Second {
			say(fmt.Sprintf("waiting, %.0f s: %v", time.Since(start).Seconds(), err))
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return Model{}, exit.Errorf(exit.TryAgain, "gave up after %s: %w", timeout, err)
			}
			return Model{}, exit.Errorf(exit.TryAgain, "interrupted while waiting: %w", err)
		case <-time.After(pause):
			pause = min(2*pause, 5*time.Second)
		}
	}
}
