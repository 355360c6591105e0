// Package completion asks a server for one streamed answer and notes when each piece
// of it came. It reads streams as servers write them, which is not always as OpenAI
// documents them, and knows a piece that carries a token from one that carries none.
package completion

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/run/exit"
)

// Ask is what is wanted of a server.
type Ask struct {
	Model  string
	Prompt string
	Tokens int // of the answer
}

// Answer is one streamed answer as it arrived.
type Answer struct {
	Start  time.Time
	Pieces []time.Time // arrival of each piece with content: text, reasoning or a tool call
	End    time.Time

	PromptTokens int // counted by the server; 0: it sent no usage
	OutputTokens int
	CachedTokens int // of the prompt, found in the server's cache
	Asked        int // tokens
	Finish       string

	// FirstTokens is how many tokens came together with the first: more than one where
	// the server, or a proxy, hands over several at once. TTFT is then not theirs.
	FirstTokens float64

	// The server's own times of this request, where it tells them (llama.cpp).
	PrefillMS, DecodeMS float64

	sizes   []int // of the pieces, bytes
	counted int   // tokens that the server had counted at the first piece
}

// Cut says that the server ended the answer for its length, before it was as long as
// was asked for: its context was full.
func (a *Answer) Cut() bool {
	return a.Finish == "length" && a.OutputTokens > 0 && a.OutputTokens < a.Asked
}

// Errors that no later attempt changes: the server answers so by nature.
var (
	// ErrNoUsage says that the server counts no tokens.
	ErrNoUsage = errors.New("the server sent no usage: tokens asked for are not tokens counted; it must honour stream_options.include_usage")
	// ErrWhole says that the server, or what stands before it, does not stream.
	ErrWhole = errors.New("the server answered in one piece where a stream was asked for: nothing can be timed; let it, and every proxy before it, pass stream: true on")
	// ErrNotLLM says that what answered is no LLM server.
	ErrNotLLM = errors.New("the answer is a web page and no completion: is the URL that of the server's API?")
)

// Incurable says whether an error is the server's nature, which no later attempt changes.
func Incurable(err error) bool {
	return errors.Is(err, ErrNoUsage) || errors.Is(err, ErrWhole) || errors.Is(err, ErrNotLLM) || llm.Incurable(err)
}

// Classify gives the error of a request its exit code: exit.Refused for an answer that
// is no stream, exit.Unusable for others that come again however often one asks, and
// exit.TryAgain for the rest.
func Classify(s *llm.Client, err error) error {
	code := exit.TryAgain
	switch {
	case errors.Is(err, ErrWhole):
		code = exit.Refused
	case Incurable(err):
		code = exit.Unusable
	}
	return exit.Errorf(code, "%s: %w", s.Target(), err)
}

// Stall is how long an answer may stand still before it is given up: longer than any
// queue that a point may sensibly have.
const Stall = 2 * time.Minute

// farewell is how long a connection may stay open after an answer's end; one that ends
// in it can be used again.
const farewell = time.Second

// Stream sends a prompt and reads the answer, noting when each token came. An answer
// that came in part is returned beside the error.
func Stream(ctx context.Context, s *llm.Client, d Dialect, q Ask, stall time.Duration) (Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(stall, func() { cancel(fmt.Errorf("the server sent nothing for %s", stall)) })
	defer patience.Stop()
	a := Answer{Pieces: make([]time.Time, 0, q.Tokens+1), Asked: q.Tokens, Start: time.Now()}
	err := a.stream(ctx, s, d, q, func(next time.Duration) { patience.Reset(cmp.Or(next, stall)) })
	var said *ServerError
	switch {
	case err != nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.As(err, &said):
		said.Message = s.Said(said.Message)
	}
	return a, err
}

func (a *Answer) stream(ctx context.Context, s *llm.Client, d Dialect, q Ask, patience func(time.Duration)) error {
	resp, err := s.Do(ctx, d.Path(), d.body(q))
	if err != nil {
		return llm.Brief(err)
	}
	defer resp.Body.Close()
	body, err := plain(resp)
	if err != nil {
		return err
	}
	if kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); strings.HasSuffix(kind, "json") || kind == "text/html" {
		return whole(s, body)
	}
	return a.read(body, patience)
}

var done = []byte("[DONE]")

// errDone ends the reading of a stream.
var errDone = errors.New("done")

// read reads a stream of events to its end.
func (a *Answer) read(body io.Reader, patience func(time.Duration)) error {
	in := newEvents(body, time.Now)
	defer in.close()
	finished := time.Time{} // when a finish reason came
	seen := false
	err := in.next(func() { patience(0) }, func(e event) (bool, error) {
		seen = true
		data := bytes.TrimSpace(e.data)
		if len(data) == 0 {
			return true, nil
		}
		if bytes.Equal(data, done) {
			a.End = e.at
			return true, errDone
		}
		c, err := decode(e)
		if errors.Is(err, errIncomplete) {
			return false, nil
		}
		if err != nil {
			var broken *json.SyntaxError
			if errors.As(err, &broken) {
				err = fmt.Errorf("the stream holds a chunk that is not JSON: %w", err)
			}
			return true, err
		}
		if a.add(c, e.at) {
			finished = e.at
		}
		return true, nil
	})
	switch {
	case errors.Is(err, errDone):
		// Read to its end the connection can be used again.
		patience(farewell)
		_, _ = io.Copy(io.Discard, io.LimitReader(body, 64<<10))
	case errors.Is(err, io.EOF) && !seen && len(a.Pieces) == 0:
		return errors.New("the answer was empty")
	case errors.Is(err, io.EOF) && !finished.IsZero():
		a.End = in.at
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection was closed before the answer was complete")
	default:
		return llm.Brief(err)
	}
	return a.settle(finished)
}

// add takes what a chunk says, and tells whether it gives a finish reason.
func (a *Answer) add(c chunk, at time.Time) (finished bool) {
	size := 0
	for i := range c.Choices {
		one := &c.Choices[i]
		if one.Index != 0 {
			continue
		}
		size += one.size()
		if r := one.FinishReason; r != nil && *r != "" {
			a.Finish, finished = *r, true
		}
	}
	if u := c.Usage; u != nil {
		// A count that was there does not go away: some servers end with zeros.
		a.PromptTokens = cmp.Or(u.Prompt.int(), a.PromptTokens)
		a.OutputTokens = cmp.Or(u.Completion.int(), a.OutputTokens)
		a.CachedTokens = cmp.Or(u.Details.Cached.int(), a.CachedTokens)
	}
	if t := c.Timings; t != nil {
		a.PrefillMS, a.DecodeMS = float64(t.PromptMS), float64(t.PredictedMS)
	}
	if size > 0 {
		if len(a.Pieces) == 0 && c.Usage != nil && !finished {
			a.counted = c.Usage.Completion.int()
		}
		a.Pieces = append(a.Pieces, at)
		a.sizes = append(a.sizes, size)
	}
	return finished
}

// together is the gap below which two pieces came at one moment: no model is that
// quick, so that somebody has held back the first.
const together = 100 * time.Microsecond

// settle closes the books of a complete answer.
func (a *Answer) settle(finished time.Time) error {
	if len(a.Pieces) == 0 {
		return errors.New("the answer held no token")
	}
	if a.OutputTokens == 0 {
		return ErrNoUsage
	}
	// The last token may have no text of its own: half a character, or the end.
	if len(a.Pieces) == a.OutputTokens-1 && !finished.Before(a.Pieces[len(a.Pieces)-1]) {
		a.Pieces, a.sizes = append(a.Pieces, finished), append(a.sizes, 0)
	}
	a.FirstTokens = a.first()
	return nil
}

// first is how many tokens came at the moment of the first. Where every piece is a
// token, pieces are counted; where pieces carry several, the server's own count is
// taken, or the share that they have of the text.
func (a *Answer) first() float64 {
	burst, text, all := 0, 0, 0
	for i, size := range a.sizes {
		if i == burst && (i == 0 || a.Pieces[i].Sub(a.Pieces[i-1]) < together) {
			burst++
			text += size
		}
		all += size
	}
	switch {
	case burst == len(a.Pieces):
		return float64(a.OutputTokens)
	case len(a.Pieces) >= a.OutputTokens:
		return float64(burst) * float64(a.OutputTokens) / float64(len(a.Pieces))
	case a.counted > 0 && burst == 1 && a.counted < a.OutputTokens:
		return float64(a.counted)
	default:
		return max(1, float64(a.OutputTokens)*float64(text)/float64(max(1, all)))
	}
}

// whole says what an answer is that is no stream.
func whole(s *llm.Client, body io.Reader) error {
	text, _ := io.ReadAll(io.LimitReader(body, 1<<20))
	var c chunk
	if message, ok := llm.FindError(text); ok {
		return &ServerError{message}
	}
	if json.Unmarshal(text, &c) == nil && len(c.Choices) > 0 {
		return ErrWhole
	}
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && trimmed[0] == '<' {
		return ErrNotLLM
	}
	return fmt.Errorf("the answer is neither a stream nor a completion; it begins with %q", s.Said(llm.ErrorMessage(text)))
}

// plain undoes the compression of an answer, which some proxies apply unasked. What
// they compress they may also hold back, which the times will show.
func plain(resp *http.Response) (io.Reader, error) {
	switch encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		return resp.Body, nil
	case "gzip", "x-gzip":
		// the header of gzip comes with the first bytes, not before
		return &lazy{open: func() (io.Reader, error) { return gzip.NewReader(resp.Body) }}, nil
	case "deflate":
		return &lazy{open: func() (io.Reader, error) {
			b := bufio.NewReader(resp.Body)
			// By RFC 9110 it is zlib's format; some send the bare one.
			if head, err := b.Peek(2); err == nil && head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
				return zlib.NewReader(b)
			}
			return flate.NewReader(b), nil
		}}, nil
	default:
		return nil, fmt.Errorf("the answer is compressed by %q, which was not asked for; let the proxy pass it on as it is", encoding)
	}
}

// lazy opens a reader at the first read.
type lazy struct {
	open func() (io.Reader, error)
	r    io.Reader
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.r == nil {
		r, err := l.open()
		if err != nil {
			return 0, err
		}
		l.r = r
	}
	return l.r.Read(p)
}
