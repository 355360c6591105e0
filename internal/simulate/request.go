package simulate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// request is the part of a completion or chat request that has an effect here.
// Everything else that clients send (temperature, stop, ...) is accepted.
type request struct {
	Model               string          `json:"model"`
	Prompt              json.RawMessage `json:"prompt"`
	Messages            []message       `json:"messages"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	MinTokens           int             `json:"min_tokens"`
	N                   *int            `json:"n"`
	IgnoreEOS           bool            `json:"ignore_eos"`
	Stream              bool            `json:"stream"`
	StreamOptions       struct {
		IncludeUsage         bool `json:"include_usage"`
		ContinuousUsageStats bool `json:"continuous_usage_stats"`
	} `json:"stream_options"`
	ReturnTokenStrings bool `json:"return_token_strs"` // of /tokenize
}

type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is the text of a message: a string, a list of parts, or null.
type content []string

func (c *content) UnmarshalJSON(data []byte) error {
	switch data[0] {
	case 'n':
		return nil
	case '"':
		*c = make(content, 1)
		return json.Unmarshal(data, &(*c)[0])
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(data, &parts); err != nil {
		return fmt.Errorf("content: neither a string nor a list of parts: %w", err)
	}
	for _, p := range parts {
		if p.Type != "text" {
			return fmt.Errorf("content: a part of type %q, only text is supported", p.Type)
		}
		*c = append(*c, p.Text)
	}
	return nil
}

// requestError is an answer in vLLM's form.
type requestError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    int     `json:"code"` // the HTTP status
}

func (e *requestError) Error() string { return e.Message }

func badRequest(format string, args ...any) *requestError {
	return &requestError{Message: fmt.Sprintf(format, args...), Type: "BadRequestError", Code: http.StatusBadRequest}
}

// maxBody is larger than any prompt that a sensible max-model-len admits.
const maxBody = 64 << 20

func readRequest(w http.ResponseWriter, r *http.Request) (*request, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, badRequest("request body: %v", err)
	}
	var q request
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, badRequest("request body is not what this endpoint takes: %v", err)
	}
	return &q, nil
}

// words lists the tokens of the request's prompt, or of its messages for chat.
// Prompts given as token ids are tokens already.
func (q *request) words(chat bool) ([]string, error) {
	if !chat {
		return promptWords(q.Prompt)
	}
	if len(q.Messages) == 0 {
		return nil, badRequest("messages: none given")
	}
	var words []string
	for _, m := range q.Messages {
		for _, text := range m.Content {
			words = append(words, strings.Fields(text)...)
		}
	}
	return words, nil
}

func promptWords(prompt json.RawMessage) ([]string, error) {
	var text string
	var texts []string
	var ids []int
	var idLists [][]int
	switch {
	case len(prompt) == 0 || bytes.Equal(prompt, []byte("null")):
		return nil, badRequest("prompt: none given")
	case json.Unmarshal(prompt, &text) == nil:
		return strings.Fields(text), nil
	case json.Unmarshal(prompt, &ids) == nil:
	case json.Unmarshal(prompt, &texts) == nil:
		if len(texts) != 1 {
			return nil, badRequest("prompt: a list of %d prompts; this server takes one prompt in a request", len(texts))
		}
		return strings.Fields(texts[0]), nil
	case json.Unmarshal(prompt, &idLists) == nil:
		if len(idLists) != 1 {
			return nil, badRequest("prompt: a list of %d prompts; this server takes one prompt in a request", len(idLists))
		}
		ids = idLists[0]
	default:
		return nil, badRequest("prompt: expected a string or a list of token ids")
	}
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = strconv.Itoa(id)
	}
	return words, nil
}

// defaultCompletionTokens is vLLM's max_tokens for /v1/completions when none is
// given. A chat may fill what the prompt leaves of the model's length.
const defaultCompletionTokens = 16

// limits returns the tokens of the prompt and the most that the output may have.
func (q *request) limits(c Config, chat bool) (prompt, output int, err error) {
	if q.N != nil && *q.N != 1 {
		return 0, 0, badRequest("n: %d; this server makes one output for a request", *q.N)
	}
	words, err := q.words(chat)
	if err != nil {
		return 0, 0, err
	}
	prompt = len(words)
	if prompt == 0 {
		return 0, 0, badRequest("the prompt is empty")
	}
	var asked *int
	switch {
	case chat && q.MaxCompletionTokens != nil:
		asked = q.MaxCompletionTokens
	case q.MaxTokens != nil:
		asked = q.MaxTokens
	}
	switch room := c.MaxModelLen - prompt; {
	case asked != nil:
		output = *asked
	case chat:
		output = max(room, 1)
	default:
		output = min(defaultCompletionTokens, max(room, 1))
	}
	if output < 1 {
		return 0, 0, badRequest("max_tokens must be at least 1, got %d.", output)
	}
	if prompt+output > c.MaxModelLen {
		e := badRequest("This model's maximum context length is %d tokens. However, you requested %d output tokens and your prompt contains "+
			"%d input tokens, for a total of %d tokens. Please reduce the length of the input prompt or the number of requested output tokens.",
			c.MaxModelLen, output, prompt, prompt+output)
		param := "input_tokens"
		e.Param = &param
		return 0, 0, e
	}
	return prompt, output, nil
}

// asRequestError is err in the form that goes to the client.
func asRequestError(err error) *requestError {
	var e *requestError
	if errors.As(err, &e) {
		return e
	}
	return &requestError{Message: err.Error(), Type: "InternalServerError", Code: http.StatusInternalServerError}
}
