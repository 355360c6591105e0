package native

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"wfgen.dev/internal/llm"
)

// completion is a request of /v1/completions that streams. ignore_eos makes
// vLLM and SGLang write the asked number of tokens whatever the model would say.
type completion struct {
	Model         string         `json:"model"`
	Prompt        string         `json:"prompt"`
	MaxTokens     int            `json:"max_tokens"`
	IgnoreEOS     bool           `json:"ignore_eos"`
	Stream        bool           `json:"stream"`
	StreamOptions map[string]any `json:"stream_options"`
}

// answer is one streamed answer as it arrived.
type answer struct {
	start        time.Time
	chunks       []time.Time // arrival of each chunk that carried a token
	end          time.Time
	promptTokens int // counted by the server; 0: it sent no usage
	outputTokens int
}

var (
	data = []byte("data:")
	done = []byte("[DONE]")
)

// stall is how long an answer may stand still before it is given up: longer than
// any queue that a point may sensibly have.
const stall = 2 * time.Minute

// complete sends a prompt and reads the answer, noting when each token came. An
// answer that came in part is returned beside the error.
func complete(ctx context.Context, s *llm.Client, model, prompt string, tokens int, stall time.Duration) (answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(stall, func() { cancel(fmt.Errorf("the server sent nothing for %s", stall)) })
	defer patience.Stop()
	a, err := stream(ctx, s, model, prompt, tokens, func() { patience.Reset(stall) })
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return a, err
}

// stream is complete without its patience; alive is called for every line.
func stream(ctx context.Context, s *llm.Client, model, prompt string, tokens int, alive func()) (answer, error) {
	a := answer{chunks: make([]time.Time, 0, tokens+1), start: time.Now()}
	resp, err := s.Do(ctx, "/v1/completions", completion{
		Model: model, Prompt: prompt, MaxTokens: tokens, IgnoreEOS: true, Stream: true,
		StreamOptions: map[string]any{"include_usage": true},
	})
	if err != nil {
		return a, llm.Brief(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReaderSize(resp.Body, 64<<10)
	lastEmpty := false // the last chunk had no text: perhaps only a finish reason
	for {
		line, err := lines.ReadSlice('\n')
		now := time.Now()
		alive()
		if payload, ok := bytes.CutPrefix(line, data); ok {
			payload = bytes.TrimSpace(payload)
			if bytes.Equal(payload, done) {
				a.end = now
				// reading to the end lets the connection be used again
				_, _ = io.Copy(io.Discard, lines)
				return a, a.settle(lastEmpty)
			}
			var chunk struct {
				Choices []struct{ Text string }
				Usage   *struct {
					PromptTokens     int `json:"prompt_tokens"`
					CompletionTokens int `json:"completion_tokens"`
				}
				Error *struct{ Message string }
			}
			if err := json.Unmarshal(payload, &chunk); err != nil {
				return a, fmt.Errorf("the stream holds a chunk that is not JSON: %w", err)
			}
			if chunk.Error != nil {
				return a, fmt.Errorf("the server broke off with an error: %s", chunk.Error.Message)
			}
			if len(chunk.Choices) > 0 {
				a.chunks = append(a.chunks, now)
				lastEmpty = chunk.Choices[0].Text == ""
			}
			if chunk.Usage != nil {
				a.promptTokens, a.outputTokens = chunk.Usage.PromptTokens, chunk.Usage.CompletionTokens
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("the connection was closed before the answer was complete")
			}
			return a, llm.Brief(err)
		}
	}
}

// settle closes the books of a complete answer: a last chunk that carried only
// the finish reason is no token, and an answer without tokens is no answer.
func (a *answer) settle(lastEmpty bool) error {
	if lastEmpty && len(a.chunks) > a.outputTokens && a.outputTokens > 0 {
		a.chunks = a.chunks[:len(a.chunks)-1]
	}
	if len(a.chunks) == 0 {
		return errors.New("the answer held no token")
	}
	if a.outputTokens == 0 {
		return errors.New("the server sent no usage: tokens asked for are not tokens counted; it must honour stream_options.include_usage")
	}
	return nil
}
