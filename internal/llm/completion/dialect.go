package completion

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/sweep"
)

// Dialect is how a server wants to be asked.
type Dialect struct {
	Endpoint string // sweep.Completions or sweep.Chat

	// Fields that a strict server refuses and that are therefore left out.
	WithoutIgnoreEOS    bool // answers end where the model ends them
	WithoutUsageOption  bool // usage comes, if at all, unasked
	MaxCompletionTokens bool // instead of max_tokens
}

// Path of the requests.
func (d Dialect) Path() string {
	if d.Endpoint == sweep.Chat {
		return "/v1/chat/completions"
	}
	return "/v1/completions"
}

// body is a request that streams. ignore_eos makes vLLM, SGLang and llama.cpp write
// the asked number of tokens whatever the model would say.
func (d Dialect) body(q Ask) map[string]any {
	b := map[string]any{"model": q.Model, "stream": true}
	if d.Endpoint == sweep.Chat {
		b["messages"] = []map[string]string{{"role": "user", "content": q.Prompt}}
	} else {
		b["prompt"] = q.Prompt
	}
	if d.MaxCompletionTokens {
		b["max_completion_tokens"] = q.Tokens
	} else {
		b["max_tokens"] = q.Tokens
	}
	if !d.WithoutIgnoreEOS {
		b["ignore_eos"] = true
	}
	if !d.WithoutUsageOption {
		b["stream_options"] = map[string]any{"include_usage": true}
	}
	return b
}

// Try finds out by tiny requests how the server wants to be asked, and what it answers:
// each refusal (4xx) that names a field is followed by a request without it. tried gets
// every request, since the server counts them. The error is the last refusal.
func Try(ctx context.Context, s *llm.Client, endpoint string, q Ask, stall time.Duration, tried func(Answer, error)) (Dialect, Answer, error) {
	d := Dialect{Endpoint: endpoint}
	if endpoint == sweep.Auto || endpoint == "" {
		d.Endpoint = sweep.Completions
	}
	var first error
	for {
		a, err := Stream(ctx, s, d, q, stall)
		if tried != nil {
			tried(a, err)
		}
		var status *llm.StatusError
		if !errors.As(err, &status) {
			return d, a, err
		}
		if first == nil {
			first = err
		}
		switch text := strings.ToLower(status.Message); {
		case status.Code != http.StatusBadRequest && status.Code != http.StatusUnprocessableEntity:
			// an endpoint that is not there: a model that is not there is another 404
			missing := status.Code == http.StatusNotFound && !strings.Contains(text, "model") || status.Code == http.StatusMethodNotAllowed || status.Code == http.StatusNotImplemented
			if !missing || endpoint == sweep.Completions || d.Endpoint == sweep.Chat {
				return d, a, err
			}
			d.Endpoint = sweep.Chat
		case strings.Contains(text, "max_completion_tokens") && !d.MaxCompletionTokens:
			d.MaxCompletionTokens = true
		case strings.Contains(text, "ignore_eos") && !d.WithoutIgnoreEOS:
			d.WithoutIgnoreEOS = true
		case strings.Contains(text, "stream_options") && !d.WithoutUsageOption:
			d.WithoutUsageOption = true
		case !d.WithoutIgnoreEOS && !tooLong(text):
			// a 422 need not say which field it does not know
			d.WithoutIgnoreEOS = true
		case !d.WithoutUsageOption && !tooLong(text):
			d.WithoutUsageOption = true
		default:
			return d, a, first // what the whole request was told says most
		}
	}
}

func tooLong(message string) bool {
	return strings.Contains(message, "context") || strings.Contains(message, "max_model_len") || strings.Contains(message, "too long")
}

// Costs says what a point loses by the way in which the server has to be asked.
func (d Dialect) Costs() []string {
	var lines []string
	if d.WithoutIgnoreEOS {
		lines = append(lines, "the server does not take ignore_eos: answers end where the model ends them, so that they may be shorter than asked for; what is counted decides")
	}
	if d.Endpoint == sweep.Chat {
		lines = append(lines, fmt.Sprintf("requests go to %s: the tokens of the chat template are part of every prompt, and are counted", d.Path()))
	}
	return lines
}
