package simulate

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// vocabulary is what the outputs are made of. The words need no escaping in JSON.
var vocabulary = strings.Fields(`the measured latency of a batch grows with every request that runs in it while
the weights are read once for all and each new token needs its own share of cache compute and patience`)

// response writes the answer to one request. In a stream the bytes around a
// token are made once and copied for every token.
type response struct {
	chat       bool
	id         string
	created    int64
	model      string
	word       int // index in vocabulary of the first token
	prompt     int // tokens
	finish     string
	usage      bool // a usage chunk ends the stream
	usageEach  bool // every chunk carries usage
	noUsage    bool
	head       []byte // of every chunk, up to its choices
	buffer     []byte
	written    int    // tokens
	beforeText string // the fixed parts of a choice
	afterText  string
	afterEnd   string
}

func newResponse(c Config, q *request, chat bool, prompt int, finish string, f fate) *response {
	r := &response{
		chat: chat, created: time.Now().Unix(), model: c.Model, word: f.word, prompt: prompt, finish: finish,
		usage:      q.StreamOptions.IncludeUsage && !c.NoUsage,
		usageEach:  q.StreamOptions.IncludeUsage && q.StreamOptions.ContinuousUsageStats && !c.NoUsage,
		noUsage:    c.NoUsage,
		id:         fmt.Sprintf("cmpl-%016x%016x", f.id[0], f.id[1]),
		beforeText: `{"index":0,"text":"`,
		afterText:  `","logprobs":null,"finish_reason":`,
		afterEnd:   `,"stop_reason":null}`,
	}
	object := "text_completion"
	if chat {
		r.id = "chat" + r.id
		object = "chat.completion.chunk"
		r.beforeText = `{"index":0,"delta":{"content":"`
		r.afterText = `"},"logprobs":null,"finish_reason":`
		r.afterEnd = `}`
	}
	model, _ := json.Marshal(c.Model) // a string always has a JSON form
	r.head = fmt.Appendf(nil, `data: {"id":"%s","object":"%s","created":%d,"model":%s,"choices":[`, r.id, object, r.created, model)
	return r
}

// appendText appends token i, with the space that sets it off from the one before.
func (r *response) appendText(b []byte, i int) []byte {
	if i > 0 {
		b = append(b, ' ')
	}
	return append(b, vocabulary[(r.word+i)%len(vocabulary)]...)
}

func (r *response) appendUsage(b []byte) []byte {
	b = append(b, `"usage":{"prompt_tokens":`...)
	b = strconv.AppendInt(b, int64(r.prompt), 10)
	b = append(b, `,"total_tokens":`...)
	b = strconv.AppendInt(b, int64(r.prompt+r.written), 10)
	b = append(b, `,"completion_tokens":`...)
	b = strconv.AppendInt(b, int64(r.written), 10)
	return append(b, '}')
}

// chunks returns the events of the next n tokens, one each, and of what stands
// before the first and after the last. The bytes hold until the next call.
func (r *response) chunks(n int, last bool) []byte {
	b := r.buffer[:0]
	if r.written == 0 && n > 0 && r.chat {
		b = append(b, r.head...)
		b = append(b, `{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]`...)
		b = r.endChunk(b)
	}
	for i := range n {
		b = append(b, r.head...)
		b = append(b, r.beforeText...)
		b = r.appendText(b, r.written)
		b = append(b, r.afterText...)
		r.written++
		if last && i == n-1 {
			b = append(b, '"')
			b = append(b, r.finish...)
			b = append(b, '"')
		} else {
			b = append(b, `null`...)
		}
		b = append(b, r.afterEnd...)
		b = append(b, ']')
		b = r.endChunk(b)
	}
	if last {
		if r.usage {
			b = append(b, r.head...)
			b = append(b, "],"...)
			b = r.appendUsage(b)
			b = append(b, "}\n\n"...)
		}
		b = append(b, "data: [DONE]\n\n"...)
	}
	r.buffer = b
	return b
}

func (r *response) endChunk(b []byte) []byte {
	if r.usageEach {
		b = append(b, ',')
		b = r.appendUsage(b)
	}
	return append(b, "}\n\n"...)
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	TotalTokens      int `json:"total_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}

// whole is the answer in one piece, of an output of n tokens.
func (r *response) whole(n int) any {
	var text []byte
	for i := range n {
		text = r.appendText(text, i)
	}
	choice := map[string]any{"index": 0, "logprobs": nil, "finish_reason": r.finish, "stop_reason": nil}
	object := "text_completion"
	if r.chat {
		object = "chat.completion"
		choice["message"] = map[string]any{"role": "assistant", "content": string(text)}
	} else {
		choice["text"] = string(text)
	}
	answer := map[string]any{
		"id": r.id, "object": object, "created": r.created, "model": r.model, "choices": []any{choice},
	}
	if !r.noUsage {
		answer["usage"] = usage{PromptTokens: r.prompt, TotalTokens: r.prompt + n, CompletionTokens: n}
	}
	return answer
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // it fails when the client has gone, whom nothing can be told
}

func writeError(w http.ResponseWriter, err error) {
	e := asRequestError(err)
	writeJSON(w, e.Code, map[string]any{"error": e})
}
