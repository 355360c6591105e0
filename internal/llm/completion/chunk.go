package completion

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"

	"wfgen.dev/internal/llm"
)

// chunk is what servers put into one event of a stream, as far as it says something of
// tokens: OpenAI's fields, and those that vLLM, SGLang, llama.cpp, TGI and gateways add.
// A field of another kind than expected is taken as absent.
type chunk struct {
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage"`
	Timings *timings `json:"timings"` // llama.cpp: of the whole request, in its last chunk
}

type choice struct {
	Index        int     `json:"index"`
	Text         content `json:"text"`
	Delta        message `json:"delta"`
	Message      message `json:"message"` // of an answer in one piece
	FinishReason *string `json:"finish_reason"`
}

// message holds what a model can say: an answer, its reasoning under the names that
// vLLM, SGLang and others give it, a refusal, or calls of tools.
type message struct {
	Content          content `json:"content"`
	ReasoningContent content `json:"reasoning_content"`
	Reasoning        content `json:"reasoning"`
	Refusal          content `json:"refusal"`
	ToolCalls        content `json:"tool_calls"`
	FunctionCall     content `json:"function_call"`
}

// size is the bytes that a choice says; 0: it carries no token.
func (c *choice) size() int {
	size := int(c.Text)
	for _, m := range []*message{&c.Delta, &c.Message} {
		size += int(m.Content + m.ReasoningContent + m.Reasoning + m.Refusal + m.ToolCalls + m.FunctionCall)
	}
	return size
}

// content is the length of a text, bytes as JSON writes them, or of a list of parts.
type content int

// UnmarshalJSON takes anything.
func (c *content) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) >= 2 && b[0] == '"':
		*c = content(len(b) - 2)
	case len(b) > 2 && (b[0] == '[' || b[0] == '{'):
		*c = content(len(b))
	default: // null, an empty list
		*c = 0
	}
	return nil
}

type usage struct {
	Prompt     number `json:"prompt_tokens"`
	Completion number `json:"completion_tokens"`
	Details    struct {
		Cached number `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

type timings struct {
	PromptMS    number `json:"prompt_ms"`
	Predicted   number `json:"predicted_n"`
	PredictedMS number `json:"predicted_ms"`
}

// number is a count or a time that servers write as an integer, a float or a string;
// one that is none, or negative, is 0.
type number float64

// UnmarshalJSON takes anything.
func (n *number) UnmarshalJSON(b []byte) error {
	x, err := strconv.ParseFloat(string(bytes.Trim(b, `" `)), 64)
	if err != nil || math.IsNaN(x) || x < 0 || x > 1e12 {
		x = 0
	}
	*n = number(x)
	return nil
}

func (n number) int() int { return int(math.Round(float64(n))) }

// errIncomplete says that data goes on in the next line.
var errIncomplete = errors.New("the JSON goes on")

// decode reads a chunk. An error that the server put into the stream, in any of the
// shapes that servers use, is a *ServerError.
func decode(e event) (chunk, error) {
	var c chunk
	data := bytes.TrimSpace(e.data)
	err := json.Unmarshal(data, &c)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		if e.name == "error" {
			return c, &ServerError{llm.ErrorMessage(data)}
		}
		if syntax.Offset >= int64(len(data)) {
			return c, errIncomplete
		}
		return c, err
	}
	if e.name == "error" || len(c.Choices) == 0 || bytes.Contains(data, []byte(`"error"`)) {
		if text, ok := llm.FindError(data); ok || e.name == "error" {
			if text == "" {
				text = llm.ErrorMessage(data)
			}
			return c, &ServerError{text}
		}
	}
	return c, nil
}

// ServerError is an error that came within an answer of status 200.
type ServerError struct{ Message string }

func (e *ServerError) Error() string {
	return "the server broke off with an error: " + e.Message
}
