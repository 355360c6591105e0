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
	afterEach  string
	afterLast  string
}

func newResponse(c Config, q *request, chat bool, prompt int, finish string, f fate) *response {
	include := q.StreamOptions != nil && q.StreamOptions.IncludeUsage && !c.NoUsage
	r := &response{
		chat: chat, created: time.Now().Unix(), model: c.Model, word: f.word, prompt: prompt, finish: finish,
		usage:      include,
		usageEach:  include && q.StreamOptions.ContinuousUsageStats,
		noUsage:    c.NoUsage,
		id:         fmt.Sprintf("cmpl-%016x%016x", f.id[0], f.id[1]),
		beforeText: `{"index":0,"text":"`,
		afterText:  `","logprobs":null,"finish_reason":`,
		afterEach:  `,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}`,
		afterLast:  `,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}`,
	}
	object := "text_completion"
	if chat {
		r.id = "chat" + r.id
		object = "chat.completion.chunk"
		r.beforeText = `{"index":0,"delta":{"content":"`
		r.afterText = `"},"logprobs":null,"finish_reason":`
		r.afterEach = `,"token_ids":null}`
		r.afterLast = `,"stop_reason":null,"token_ids":null}`
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

// fingerprint is a field of the last event of a stream, and of a whole answer.
const fingerprint = "simulate"

// appendUsage appends the counts so far, those within a chat's stream with the
// details that vLLM leaves empty.
func (r *response) appendUsage(b []byte, within bool) []byte {
	b = append(b, `"usage":{"prompt_tokens":`...)
	b = strconv.AppendInt(b, int64(r.prompt), 10)
	b = append(b, `,"total_tokens":`...)
	b = strconv.AppendInt(b, int64(r.prompt+r.written), 10)
	b = append(b, `,"completion_tokens":`...)
	b = strconv.AppendInt(b, int64(r.written), 10)
	if within && r.chat {
		b = append(b, `,"completion_tokens_details":null`...)
	}
	return append(b, '}')
}

// chunks returns the events of the next n tokens, one each, and of what stands
// before the first and after the last. The bytes hold until the next call.
func (r *response) chunks(n int, last bool) []byte {
	b := r.buffer[:0]
	if r.written == 0 && n > 0 && r.chat {
		b = append(b, r.head...)
		b = append(b, `{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null`...)
		b = r.endChunk(b, false)
	}
	for i := range n {
		b = append(b, r.head...)
		b = append(b, r.beforeText...)
		b = r.appendText(b, r.written)
		b = append(b, r.afterText...)
		r.written++
		end := last && i == n-1
		if end {
			b = append(b, '"')
			b = append(b, r.finish...)
			b = append(b, '"')
			b = append(b, r.afterLast...)
		} else {
			b = append(b, `null`...)
			b = append(b, r.afterEach...)
		}
		b = append(b, ']')
		b = r.endChunk(b, end && !r.usage)
	}
	if last {
		if r.usage {
			b = append(b, r.head...)
			b = append(b, "],"...)
			b = r.appendUsage(b, false)
			b = append(b, `,"system_fingerprint":"`+fingerprint+"\"}\n\n"...)
		}
		b = append(b, "data: [DONE]\n\n"...)
	}
	r.buffer = b
	return b
}

func (r *response) endChunk(b []byte, last bool) []byte {
	if r.usageEach {
		b = append(b, ',')
		b = r.appendUsage(b, true)
	}
	if last {
		b = append(b, `,"system_fingerprint":"`+fingerprint+`"`...)
	}
	return append(b, "}\n\n"...)
}

// whole is the answer in one piece, of an output of n tokens.
func (r *response) whole(n int) any {
	var text []byte
	for i := range n {
		text = r.appendText(text, i)
	}
	// What vLLM names and leaves empty is there too: clients that ask for a
	// field by its name find it.
	choice := map[string]any{
		"index": 0, "logprobs": nil, "finish_reason": r.finish, "stop_reason": nil, "token_ids": nil, "routed_experts": nil,
	}
	answer := map[string]any{
		"id": r.id, "object": "text_completion", "created": r.created, "model": r.model, "choices": []any{choice},
		"service_tier": nil, "system_fingerprint": fingerprint, "kv_transfer_params": nil, "ec_transfer_params": nil, "metrics": nil,
	}
	if r.chat {
		answer["object"] = "chat.completion"
		answer["prompt_logprobs"], answer["prompt_token_ids"], answer["prompt_text"] = nil, nil, nil
		choice["message"] = map[string]any{
			"role": "assistant", "content": string(text),
			"refusal": nil, "annotations": nil, "audio": nil, "function_call": nil, "reasoning": nil,
		}
	} else {
		choice["text"] = string(text)
		choice["prompt_logprobs"], choice["prompt_token_ids"] = nil, nil
	}
	if !r.noUsage {
		answer["usage"] = map[string]any{
			"prompt_tokens": r.prompt, "total_tokens": r.prompt + n, "completion_tokens": n,
			"prompt_tokens_details": nil, "completion_tokens_details": nil,
		}
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
