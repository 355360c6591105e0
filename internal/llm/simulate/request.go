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
	StreamOptions       *struct {
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

// badRequest is what vLLM says of a request that it has read and cannot serve.
func badRequest(format string, args ...any) *requestError {
	return &requestError{Message: fmt.Sprintf(format, args...), Type: "BadRequestError", Code: http.StatusBadRequest}
}

// badParam is badRequest about one parameter; value is left out where it is nil.
func badParam(param string, value any, format string, args ...any) *requestError {
	e := badRequest(format, args...)
	e.Param = &param
	if value == nil {
		e.Message += fmt.Sprintf(" (parameter=%s)", param)
	} else {
		e.Message += fmt.Sprintf(" (parameter=%s, value=%v)", param, value)
	}
	return e
}

// invalid is what vLLM says of a request that it cannot read: kind and text are
// those of pydantic, which checks it.
func invalid(location, kind, text string) *requestError {
	return &requestError{
		Message: fmt.Sprintf("1 validation error:\n  {'type': '%s', 'loc': '%s', 'msg': '%s'}", kind, location, text),
		Type:    "Bad Request", Param: &location, Code: http.StatusBadRequest,
	}
}

// maxBody is larger than any prompt that a sensible max-model-len admits.
const maxBody = 64 << 20

func readRequest(w http.ResponseWriter, r *http.Request) (*request, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, badRequest("request body: %v", err)
	}
	var q request
	err = json.Unmarshal(body, &q)
	var syntax *json.SyntaxError
	var mistyped *json.UnmarshalTypeError
	switch {
	case len(body) == 0:
		return nil, invalid("body", "missing", "Field required")
	case errors.As(err, &syntax):
		return nil, invalid(fmt.Sprintf("body.%d", syntax.Offset), "json_invalid", "JSON decode error: "+syntax.Error())
	case errors.As(err, &mistyped) && mistyped.Field == "":
		return nil, invalid("body", "model_attributes_type", "Input should be a valid dictionary or object to extract fields from")
	case errors.As(err, &mistyped):
		return nil, invalid("body."+mistyped.Field, mistyped.Type.String()+"_parsing", "Input should be a valid "+mistyped.Type.String())
	case err != nil:
		return nil, badRequest("request body is not what this endpoint takes: %v", err)
	case q.StreamOptions != nil && !q.Stream:
		return nil, badParam("stream_options", nil, "Stream options can only be defined when `stream=True`.")
	}
	return &q, nil
}

// words lists the tokens of the request's prompt, or of its messages for chat.
// Prompts given as token ids are tokens already.
func (q *request) words(chat bool) ([]string, error) {
	if !chat {
		return promptWords(q.Prompt)
	}
	if q.Messages == nil {
		return nil, invalid("body.messages", "missing", "Field required")
	}
	if len(q.Messages) == 0 {
		return nil, badRequest("Cannot apply chat template to an empty conversation. Provide at least one message.")
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
	case len(prompt) == 0 || bytes.Equal(prompt, []byte("null")) || bytes.Equal(prompt, []byte(`""`)):
		return nil, badParam("prompt", nil, "Either prompt or prompt_embeds must be provided and non-empty.")
	case json.Unmarshal(prompt, &text) == nil:
		return strings.Fields(text), nil
	case json.Unmarshal(prompt, &ids) == nil:
		if len(ids) == 0 {
			return nil, badRequest("You must pass at least one prompt")
		}
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
		return nil, invalid("body.prompt", "string_type", "Input should be a valid string or a list of token ids")
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

// limits returns the tokens of the prompt and the most that the output may have:
// what was asked for, as far as the prompt leaves room for it.
func (q *request) limits(c Config, chat bool) (prompt, output int, err error) {
	switch {
	case q.N != nil && *q.N < 1:
		return 0, 0, badRequest("n must be at least 1, got %d.", *q.N)
	case q.N != nil && *q.N > 1:
		return 0, 0, badRequest("n: %d; this server makes one output for a request", *q.N)
	}
	words, err := q.words(chat)
	if err != nil {
		return 0, 0, err
	}
	prompt = len(words)
	output = c.MaxModelLen // a chat may fill what the prompt leaves
	switch {
	case chat && q.MaxCompletionTokens != nil:
		output = *q.MaxCompletionTokens
	case q.MaxTokens != nil:
		output = *q.MaxTokens
	case !chat:
		output = min(defaultCompletionTokens, output)
	}
	if output > c.MaxModelLen {
		return 0, 0, badParam("max_tokens", output, "max_tokens=%d cannot be greater than max_model_len=%d. Please request fewer output tokens.", output, c.MaxModelLen)
	}
	if prompt == 0 {
		return 0, 0, badRequest("The decoder prompt cannot be empty")
	}
	if prompt > c.MaxModelLen {
		return 0, 0, badParam("input_tokens", c.MaxModelLen+1, "This model's maximum context length is %d tokens. However, your prompt contains at least %d input tokens, "+
			"which exceeds this limit even without any output tokens. Please reduce the length of the input prompt.", c.MaxModelLen, c.MaxModelLen+1)
	}
	output = min(output, c.MaxModelLen-prompt)
	if output < 1 {
		return 0, 0, badParam("max_tokens", output, "max_tokens must be at least 1, got %d.", output)
	}
	if q.MinTokens > output {
		return 0, 0, badRequest("min_tokens must be less than or equal to max_tokens=%d, got %d.", output, q.MinTokens)
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
