package simulate

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wfgen.dev/internal/sweep/linear4"
)

// start serves config; without parameters its tokens come at once.
func start(t *testing.T, config Config) (url string) {
	t.Helper()
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		s.Close()
		server.Close()
	})
	return server.URL
}

func post(t *testing.T, url, body string) *http.Response {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// chunk is an event of either kind of stream.
type chunk struct {
	ID, Object, Model string
	Created           int64
	Choices           []struct {
		Index int
		Text  *string
		Delta *struct {
			Role    *string
			Content string
		}
		Message      *struct{ Role, Content string }
		FinishReason *string `json:"finish_reason"`
	}
	Usage *usage
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	TotalTokens      int `json:"total_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}

// text is the output that the chunk carries, for chat after "role:" where it names one.
func (c chunk) text() string {
	choice := c.Choices[0]
	switch {
	case choice.Text != nil:
		return *choice.Text
	case choice.Delta.Role != nil:
		return *choice.Delta.Role + ":" + choice.Delta.Content
	}
	return choice.Delta.Content
}

// events reads a stream to its end, and says whether [DONE] stood there.
func events(t *testing.T, r io.Reader) (chunks []chunk, done bool, err error) {
	t.Helper()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case lines.Text() == "":
		case !ok || done:
			t.Errorf("line %q in the stream", lines.Text())
		case data == "[DONE]":
			done = true
		default:
			var c chunk
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				t.Errorf("event %q: %v", data, err)
			}
			chunks = append(chunks, c)
		}
	}
	return chunks, done, lines.Err()
}

func TestStreams(t *testing.T) {
	url := start(t, Config{Model: "org/model"})
	for _, c := range []struct {
		name, path, body string
		object, id       string
		texts            []string
		usage            []string // of each chunk: total tokens, "" for none
	}{
		{
			name: "completion", path: "/v1/completions",
			body:   `{"model":"org/model","prompt":"one two  three\n","max_tokens":3,"ignore_eos":true,"stream":true,"stop":null}`,
			object: "text_completion", id: "cmpl-",
			texts: []string{"", "", ""}, usage: []string{"", "", ""},
		},
		{
			name: "completion with usage", path: "/v1/completions",
			body:   `{"prompt":[5,6,7,8],"max_tokens":2,"ignore_eos":true,"stream":true,"stream_options":{"include_usage":true}}`,
			object: "text_completion", id: "cmpl-",
			texts: []string{"", ""}, usage: []string{"", "", "4+2=6"},
		},
		{
			name: "chat", path: "/v1/chat/completions",
			body: `{"model":"org/model","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"one two"}],
				"max_tokens":2,"ignore_eos":true,"stream":true,"stream_options":{"include_usage":true}}`,
			object: "chat.completion.chunk", id: "chatcmpl-",
			texts: []string{"assistant:", "", ""}, usage: []string{"", "", "", "4+2=6"},
		},
		{
			name: "chat as guidellm 0.7 sends it", path: "/v1/chat/completions",
			body: `{"model":"org/model","messages":[{"role":"user","content":[{"type":"text","text":"one two"},{"type":"text","text":"three"}]}],
				"max_completion_tokens":2,"max_tokens":9,"ignore_eos":true,"stream":true,
				"stream_options":{"include_usage":true,"continuous_usage_stats":true}}`,
			object: "chat.completion.chunk", id: "chatcmpl-",
			texts: []string{"assistant:", "", ""}, usage: []string{"3+0=3", "3+1=4", "3+2=5", "3+2=5"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			response := post(t, url+c.path, c.body)
			if got := response.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
				t.Errorf("content type %q", got)
			}
			chunks, done, err := events(t, response.Body)
			if err != nil || !done {
				t.Fatalf("stream ended by %v, [DONE] seen: %v", err, done)
			}
			var whole strings.Builder
			for i, chunk := range chunks {
				if chunk.Object != c.object || !strings.HasPrefix(chunk.ID, c.id) || chunk.ID != chunks[0].ID || chunk.Model != "org/model" || chunk.Created == 0 {
					t.Errorf("chunk %d: %+v, want object %s, an id %s..., the model and a date", i, chunk, c.object, c.id)
				}
				counts := ""
				if u := chunk.Usage; u != nil {
					counts = fmt.Sprintf("%d+%d=%d", u.PromptTokens, u.CompletionTokens, u.TotalTokens)
				}
				if i >= len(c.usage) || counts != c.usage[i] {
					t.Errorf("chunk %d: usage %q, want those of %q", i, counts, c.usage)
				}
				if i >= len(c.texts) {
					if len(chunk.Choices) != 0 {
						t.Errorf("chunk %d has choices: %+v", i, chunk)
					}
					continue
				}
				text := chunk.text()
				whole.WriteString(text)
				if c.texts[i] != "" && text != c.texts[i] {
					t.Errorf("chunk %d: %q, want %q", i, text, c.texts[i])
				}
				if words := strings.Fields(text); len(words) != 1 {
					t.Errorf("chunk %d: %q is not one token", i, text)
				}
				finish := chunk.Choices[0].FinishReason
				if last := i == len(c.texts)-1; last != (finish != nil) || last && *finish != "length" {
					t.Errorf("chunk %d of %d: finish_reason %v", i, len(c.texts), finish)
				}
			}
			if len(chunks) != len(c.usage) {
				t.Errorf("%d chunks, want %d", len(chunks), len(c.usage))
			}
			output := strings.TrimPrefix(whole.String(), "assistant:")
			if got := len(strings.Fields(output)); got != 2 && got != 3 {
				t.Errorf("the chunks join to %q", output)
			}
		})
	}
}

func TestWholeAnswers(t *testing.T) {
	url := start(t, Config{})
	for path, body := range map[string]string{
		"/v1/completions":      `{"prompt":["one two three"],"max_tokens":5,"ignore_eos":true}`,
		"/v1/chat/completions": `{"messages":[{"role":"user","content":"one two three"}],"max_completion_tokens":5,"ignore_eos":true}`,
	} {
		var answer chunk
		if err := json.NewDecoder(post(t, url+path, body).Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		var text string
		if m := answer.Choices[0].Message; m != nil {
			text = m.Content
		} else {
			text = *answer.Choices[0].Text
		}
		if words := strings.Fields(text); len(words) != 5 {
			t.Errorf("%s: output %q, want 5 words", path, text)
		}
		if want := (usage{PromptTokens: 3, TotalTokens: 8, CompletionTokens: 5}); answer.Usage == nil || *answer.Usage != want {
			t.Errorf("%s: usage %+v, want %+v", path, answer.Usage, want)
		}
		if reason := answer.Choices[0].FinishReason; reason == nil || *reason != "length" {
			t.Errorf("%s: finish_reason %v", path, reason)
		}
	}
}

func TestRefusals(t *testing.T) {
	url := start(t, Config{Model: "m", MaxModelLen: 20})
	words := func(n int) string { return strings.TrimSpace(strings.Repeat("w ", n)) }
	for _, c := range []struct {
		name, path, body string
		status           int
		kind, message    string
	}{
		{"wrong model", "/v1/completions", `{"model":"other","prompt":"a"}`, 404, "NotFoundError", "The model `other` does not exist. Valid aliases: m."},
		{"wrong model, chat", "/v1/chat/completions", `{"model":"other","messages":[{"role":"user","content":"a"}]}`, 404, "NotFoundError", "`other`"},
		{"wrong model, tokenize", "/tokenize", `{"model":"other","prompt":"a"}`, 404, "NotFoundError", "`other`"},
		{"nothing to tokenize", "/tokenize", `{"model":"m"}`, 400, "Bad Request", "body.prompt"},
		{"nothing", "/v1/completions", ``, 400, "Bad Request", "'loc': 'body'"},
		{"not JSON", "/v1/completions", `{"prompt":`, 400, "Bad Request", "JSON decode error"},
		{"not an object", "/v1/completions", `[1]`, 400, "Bad Request", "a valid dictionary"},
		{"wrong type", "/v1/completions", `{"prompt":"a","max_tokens":"many"}`, 400, "Bad Request", "body.max_tokens"},
		{"no prompt", "/v1/completions", `{}`, 400, "BadRequestError", "Either prompt or prompt_embeds"},
		{"no text", "/v1/completions", `{"prompt":""}`, 400, "BadRequestError", "Either prompt or prompt_embeds"},
		{"no ids", "/v1/completions", `{"prompt":[]}`, 400, "BadRequestError", "at least one prompt"},
		{"empty prompt", "/v1/completions", `{"prompt":"  "}`, 400, "BadRequestError", "prompt cannot be empty"},
		{"odd prompt", "/v1/completions", `{"prompt":{"a":1}}`, 400, "Bad Request", "string or a list of token ids"},
		{"two prompts", "/v1/completions", `{"prompt":["a","b"]}`, 400, "BadRequestError", "a list of 2 prompts"},
		{"two outputs", "/v1/completions", `{"prompt":"a","n":2}`, 400, "BadRequestError", "n: 2"},
		{"no outputs", "/v1/completions", `{"prompt":"a","n":0}`, 400, "BadRequestError", "n must be at least 1"},
		{"no messages", "/v1/chat/completions", `{"prompt":"a"}`, 400, "Bad Request", "body.messages"},
		{"empty chat", "/v1/chat/completions", `{"messages":[]}`, 400, "BadRequestError", "at least one message"},
		{"image", "/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400, "BadRequestError", "image_url"},
		{"no output", "/v1/completions", `{"prompt":"a","max_tokens":0}`, 400, "BadRequestError", "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)"},
		{"more at least than at most", "/v1/completions", `{"prompt":"a","min_tokens":5,"max_tokens":4}`, 400, "BadRequestError", "min_tokens must be less"},
		{"options of a stream without one", "/v1/completions", `{"prompt":"a","stream_options":{}}`, 400, "BadRequestError", "`stream=True`"},
		{"output too long", "/v1/completions", `{"prompt":"a","max_tokens":21}`, 400, "BadRequestError", "max_tokens=21 cannot be greater than max_model_len=20"},
		{"no room", "/v1/completions", `{"prompt":"` + words(20) + `","max_tokens":6}`, 400, "BadRequestError", "got 0"},
		{"prompt too long", "/v1/chat/completions", `{"messages":[{"role":"user","content":"` + words(30) + `"}]}`, 400, "BadRequestError", "at least 21 input tokens"},
	} {
		t.Run(c.name, func(t *testing.T) {
			response := post(t, url+c.path, c.body)
			var answer struct{ Error requestError }
			if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != c.status || answer.Error.Code != c.status || answer.Error.Type != c.kind || !strings.Contains(answer.Error.Message, c.message) {
				t.Errorf("status %d, %+v, want %d %s with %q", response.StatusCode, answer.Error, c.status, c.kind, c.message)
			}
		})
	}
	// What the prompt leaves is all that there is, whatever was asked for.
	for _, asked := range []int{5, 6} {
		var answer chunk
		body := fmt.Sprintf(`{"prompt":%q,"max_tokens":%d,"ignore_eos":true}`, words(15), asked)
		if err := json.NewDecoder(post(t, url+"/v1/completions", body).Body).Decode(&answer); err != nil || answer.Usage == nil || answer.Usage.CompletionTokens != 5 {
			t.Errorf("%d tokens asked for where 5 have room: %v, usage %+v", asked, err, answer.Usage)
		}
	}
}

func TestUnknownPaths(t *testing.T) {
	url := start(t, Config{})
	for path, want := range map[string]int{"/": 404, "/v1/nothing": 404, "/v1/completions": 405, "/tokenize": 405} {
		response, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Detail string }
		err = json.NewDecoder(response.Body).Decode(&answer)
		response.Body.Close()
		if err != nil || response.StatusCode != want || answer.Detail != http.StatusText(want) || (want == 405) != (response.Header.Get("Allow") == "POST") {
			t.Errorf("%s: status %d, %+v, allow %q, %v", path, response.StatusCode, answer, response.Header.Get("Allow"), err)
		}
	}
}

func TestInformation(t *testing.T) {
	url := start(t, Config{Model: "m", MaxModelLen: 77, Version: "v9"})
	get := func(path string) (status int, body map[string]any) {
		response, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_ = json.NewDecoder(response.Body).Decode(&body) // /health has no body
		return response.StatusCode, body
	}
	if status, _ := get("/health"); status != 200 {
		t.Errorf("/health: status %d", status)
	}
	if _, body := get("/version"); body["version"] != "v9" {
		t.Errorf("/version: %v", body)
	}
	_, body := get("/v1/models")
	card := body["data"].([]any)[0].(map[string]any)
	if card["id"] != "m" || card["max_model_len"] != 77.0 || card["owned_by"] != "vllm" {
		t.Errorf("/v1/models: %v", body)
	}

	for request, want := range map[string]string{
		`{"model":"m","prompt":"a b a","return_token_strs":true}`:                                      `a b a`,
		`{"messages":[{"role":"user","content":"a b"},{"role":"assistant","content":null}]}`:           ``,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"c"}]}],"add_generation":false}`: ``,
	} {
		var tokens struct {
			Count       int
			MaxModelLen int `json:"max_model_len"`
			Tokens      []int
			Strings     []string `json:"token_strs"`
		}
		if err := json.NewDecoder(post(t, url+"/tokenize", request).Body).Decode(&tokens); err != nil {
			t.Fatal(err)
		}
		if tokens.Count == 0 || tokens.Count != len(tokens.Tokens) || tokens.MaxModelLen != 77 || strings.Join(tokens.Strings, " ") != want {
			t.Errorf("/tokenize of %s: %+v", request, tokens)
		}
		if want != "" && (tokens.Count != 3 || tokens.Tokens[0] != tokens.Tokens[2] || tokens.Tokens[0] == tokens.Tokens[1]) {
			t.Errorf("/tokenize of %q: ids %v", want, tokens.Tokens)
		}
	}
}

func TestAPIKey(t *testing.T) {
	url := start(t, Config{APIKey: "secret"})
	for _, c := range []struct {
		path, key string
		status    int
	}{
		{"/v1/models", "", 401},
		{"/v1/models", "Bearer wrong", 401},
		{"/v1/models", "Bearer secret", 200},
		{"/health", "", 200},
		{"/metrics", "", 200},
	} {
		request, err := http.NewRequest(http.MethodGet, url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.key != "" {
			request.Header.Set("Authorization", c.key)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.status {
			t.Errorf("%s with %q: status %d, want %d", c.path, c.key, response.StatusCode, c.status)
		}
	}
}

func TestOutputsEndByThemselves(t *testing.T) {
	const requests, limit = 200, 100
	lengths := func() (all []int, stopped int) {
		url := start(t, Config{Seed: 4})
		for range requests {
			var answer chunk
			body := fmt.Sprintf(`{"prompt":"a","max_tokens":%d,"min_tokens":3}`, limit)
			if err := json.NewDecoder(post(t, url+"/v1/completions", body).Body).Decode(&answer); err != nil {
				t.Fatal(err)
			}
			n := answer.Usage.CompletionTokens
			if *answer.Choices[0].FinishReason == "stop" {
				stopped++
			} else if n != limit {
				t.Errorf("%d tokens with finish_reason %s", n, *answer.Choices[0].FinishReason)
			}
			if n < 3 || n > limit {
				t.Errorf("%d tokens, want 3 to %d", n, limit)
			}
			all = append(all, n)
		}
		return all, stopped
	}
	first, stopped := lengths()
	// 1 - exp(-100/256) = 32 % of the outputs end early; 5 standard deviations.
	if stopped < 31 || stopped > 98 {
		t.Errorf("%d of %d outputs end by themselves, want about 65", stopped, requests)
	}
	second, _ := lengths()
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the same seed gives other lengths:\n%s", diff)
	}
}

func TestLatencyIsNeverShort(t *testing.T) {
	// Upper bounds depend on the machine and are the benchmark's business.
	const prompt, output = 4, 5
	law := latencyLaw{linear4.Model{Alpha: 4, Beta: 1, Gamma: 20, Delta: 1}}
	url := start(t, Config{Alpha: law.Alpha, Beta: law.Beta, Gamma: law.Gamma, Delta: law.Delta})
	begin := time.Now()
	response := post(t, url+"/v1/completions", `{"prompt":"a b c d","max_tokens":5,"ignore_eos":true,"stream":true}`)
	var first time.Duration
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if first == 0 {
			first = time.Since(begin)
		}
	}
	if want := law.prefill(prompt, 1); first < want {
		t.Errorf("first token after %v, want at least %v", first, want)
	}
	if total, want := time.Since(begin), law.prefill(prompt, 1)+(output-1)*law.gap(1); total < want {
		t.Errorf("last token after %v, want at least %v", total, want)
	}
}

func TestMetricsCountExactly(t *testing.T) {
	const requests, limit, prompt, output = 6, 2, 3, 10
	const ttft, gap = 0.020, 0.005 // seconds: no beta, no delta
	url := start(t, Config{Alpha: 5, Gamma: 20, MaxNumSeqs: limit, MaxModelLen: 64})
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			response := post(t, url+"/v1/completions", fmt.Sprintf(`{"prompt":"a b c","max_tokens":%d,"ignore_eos":true,"stream":true}`, output))
			if _, done, err := events(t, response.Body); err != nil || !done {
				t.Errorf("stream ended by %v", err)
			}
		})
	}
	busy := map[string]float64{}
	for deadline := time.Now().Add(5 * time.Second); busy["vllm:num_requests_running"] < limit || busy["vllm:num_requests_waiting"] < 1; busy = scrape(t, url) {
		if time.Now().After(deadline) {
			t.Fatalf("never %d running and others waiting: %v", limit, busy)
		}
	}
	if usage := busy["vllm:kv_cache_usage_perc"]; usage <= 0 || usage > 1 {
		t.Errorf("kv_cache_usage_perc %v while busy", usage)
	}
	wg.Wait()

	got := scrape(t, url)
	for name, want := range map[string]float64{
		"vllm:num_requests_running":                        0,
		"vllm:num_requests_waiting":                        0,
		"vllm:kv_cache_usage_perc":                         0,
		"vllm:num_preemptions_total":                       0,
		"vllm:prefix_cache_queries_total":                  0,
		"vllm:prefix_cache_hits_total":                     0,
		"vllm:cache_config_info":                           1,
		"vllm:prompt_tokens_total":                         requests * prompt,
		"vllm:generation_tokens_total":                     requests * output,
		"vllm:iteration_tokens_total_sum":                  requests * (prompt + output),
		"vllm:request_success_total length":                requests,
		"vllm:request_success_total stop":                  0,
		"vllm:request_success_total abort":                 0,
		"vllm:time_to_first_token_seconds_count":           requests,
		"vllm:inter_token_latency_seconds_count":           requests * (output - 1),
		"vllm:request_time_per_output_token_seconds_count": requests,
		"vllm:e2e_request_latency_seconds_count":           requests,
		"vllm:request_queue_time_seconds_count":            requests,
		"vllm:request_prefill_time_seconds_count":          requests,
		"vllm:request_decode_time_seconds_count":           requests,
		"vllm:request_inference_time_seconds_count":        requests,
		"vllm:request_prompt_tokens_sum":                   requests * prompt,
		"vllm:request_prefill_kv_computed_tokens_sum":      requests * prompt,
		"vllm:request_generation_tokens_sum":               requests * output,
		"vllm:request_max_num_generation_tokens_sum":       requests * output,
		"vllm:request_params_max_tokens_sum":               requests * output,
		"vllm:request_params_n_sum":                        requests,
		"vllm:request_num_preemptions_sum":                 0,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v, want %v", name, value, want)
		}
	}
	// Three rounds of two requests: the second waits for one, the third for two.
	// The bounds are loose because the requests need not arrive at once, and a
	// first token may be late where the last one is punctual.
	const service = ttft + (output-1)*gap
	for name, least := range map[string]float64{
		"vllm:request_queue_time_seconds_sum":   2 * (0.5 + 1.5) * service,
		"vllm:time_to_first_token_seconds_sum":  2*(0.5+1.5)*service + requests*ttft,
		"vllm:e2e_request_latency_seconds_sum":  2 * (1 + 1.5 + 2.5) * service,
		"vllm:request_prefill_time_seconds_sum": requests * ttft,
		"vllm:request_decode_time_seconds_sum":  0.5 * requests * (output - 1) * gap,
		"vllm:inter_token_latency_seconds_sum":  0.5 * requests * (output - 1) * gap,
		"vllm:iteration_tokens_total_count":     output,
	} {
		if got[name] < least {
			t.Errorf("%s is %v, want at least %v", name, got[name], least)
		}
	}
	sum := got["vllm:request_queue_time_seconds_sum"] + got["vllm:request_prefill_time_seconds_sum"]
	if d := got["vllm:time_to_first_token_seconds_sum"] - sum; d > 1e-6 || d < -1e-6 {
		t.Errorf("TTFT is not queue and prefill: %v s too much", d)
	}
}

func TestMetricsLabels(t *testing.T) {
	url := start(t, Config{Model: "org/m"})
	response, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`vllm:num_requests_running{engine="0",model_name="org/m"} 0`,
		`vllm:request_success_total{engine="0",finished_reason="stop",model_name="org/m"} 0`,
		`vllm:inter_token_latency_seconds_bucket{engine="0",model_name="org/m",le="0.025"} 0`,
		`enable_prefix_caching="False"`,
	} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("/metrics has no %s", want)
		}
	}
}

func TestFailRate(t *testing.T) {
	const requests = 100
	statuses := func() (list []int) {
		url := start(t, Config{FailRate: 0.3, Seed: 2})
		for range requests {
			response := post(t, url+"/v1/completions", `{"prompt":"a","max_tokens":1}`)
			list = append(list, response.StatusCode)
			if response.StatusCode == 500 {
				var answer struct{ Error requestError }
				if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Error.Type != "InternalServerError" {
					t.Errorf("body of a failure: %+v, %v", answer, err)
				}
			}
		}
		return list
	}
	first := statuses()
	failed := 0
	for _, status := range first {
		if status == 500 {
			failed++
		}
	}
	if failed < 8 || failed > 52 { // 30, 5 standard deviations
		t.Errorf("%d of %d requests failed, want about 30", failed, requests)
	}
	if diff := cmp.Diff(first, statuses()); diff != "" {
		t.Errorf("the same seed fails other requests:\n%s", diff)
	}
}

func TestAbortRate(t *testing.T) {
	const output = 20
	url := start(t, Config{AbortRate: 1})
	for range 10 {
		response := post(t, url+"/v1/completions", `{"prompt":"a","max_tokens":20,"ignore_eos":true,"stream":true}`)
		chunks, done, err := events(t, response.Body)
		if !errors.Is(err, io.ErrUnexpectedEOF) || done || len(chunks) < 1 || len(chunks) >= output {
			t.Errorf("stream of %d tokens, [DONE] %v, ended by %v, want it cut in its middle", len(chunks), done, err)
		}
	}
	if response, err := http.Post(url+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"a"}`)); err == nil {
		response.Body.Close()
		t.Errorf("an aborted request without a stream has status %d", response.StatusCode)
	}
	// The handler leaves the engine after the client has seen the end.
	for deadline := time.Now().Add(5 * time.Second); ; {
		got := scrape(t, url)
		if got["vllm:time_to_first_token_seconds_count"] == 11 && got["vllm:num_requests_running"] == 0 {
			if got["vllm:request_success_total abort"]+got["vllm:request_success_total length"] > 0 {
				t.Errorf("aborted requests are counted as finished, which vLLM does not: %v", got)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("aborted requests are still running: %v", got)
		}
	}
}

func TestHang(t *testing.T) {
	url := start(t, Config{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/completions", strings.NewReader(`{"prompt":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := http.DefaultClient.Do(request); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("answer of a hanging server: %v, want none", err)
	}
	if response, err := http.Get(url + "/v1/models"); err != nil || response.StatusCode != 200 {
		t.Errorf("models of a hanging server: %v", err)
	} else {
		response.Body.Close()
	}
}

func TestStartDelay(t *testing.T) {
	url := start(t, Config{StartDelay: time.Second})
	status := func(path string) int {
		response, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	for _, path := range []string{"/health", "/v1/models"} {
		if got := status(path); got != 503 {
			t.Errorf("%s before the delay is over: status %d", path, got)
		}
	}
	if response := post(t, url+"/v1/completions", `{"prompt":"a"}`); response.StatusCode != 503 {
		t.Errorf("a completion before the delay is over: status %d", response.StatusCode)
	}
	for deadline := time.Now().Add(10 * time.Second); status("/health") != 200; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server is never healthy")
		}
	}
	if got := status("/v1/models"); got != 200 {
		t.Errorf("/v1/models of a healthy server: status %d", got)
	}
}

func TestNoMetrics(t *testing.T) {
	response, err := http.Get(start(t, Config{NoMetrics: true}) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestNoUsage(t *testing.T) {
	url := start(t, Config{NoUsage: true})
	for _, body := range []string{
		`{"prompt":"a","max_tokens":2,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}`,
		`{"prompt":"a","max_tokens":2}`,
	} {
		text, err := io.ReadAll(post(t, url+"/v1/completions", body).Body)
		if err != nil || bytes.Contains(text, []byte("usage")) {
			t.Errorf("answer to %s: %s, %v", body, text, err)
		}
	}
}

func TestClientThatLeavesFreesItsPlace(t *testing.T) {
	url := start(t, Config{Alpha: 60_000, MaxNumSeqs: 1})
	ctx, leave := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/completions", strings.NewReader(`{"prompt":"a","ignore_eos":true,"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	leave()
	client := http.Client{Timeout: 30 * time.Second} // the first request would take a quarter of an hour
	next, err := client.Post(url+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"a","max_tokens":1}`))
	if err != nil {
		t.Fatalf("the next request: %v", err)
	}
	next.Body.Close()
	if got := scrape(t, url); got["vllm:request_success_total abort"] != 0 || got["vllm:request_success_total length"] != 1 {
		t.Errorf("finished requests: %v", got)
	}
}

func TestServeEndsWithStreamsOpen(t *testing.T) {
	s, err := New(Config{Alpha: 60_000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	response := post(t, "http://"+listener.Addr().String()+"/v1/completions", `{"prompt":"a","ignore_eos":true,"stream":true}`)
	cancel()
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Serve goes on after its context has ended")
	}
	if _, done, err := events(t, response.Body); err == nil || done {
		t.Errorf("the open stream ended by %v, [DONE] %v, want it cut", err, done)
	}
}

func TestNewNamesAllMistakes(t *testing.T) {
	_, err := New(Config{Alpha: -1, Jitter: 2, MaxNumSeqs: -3, MaxModelLen: 1, FailRate: 1.5, AbortRate: -1, StartDelay: -time.Second})
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"alpha: -1", "jitter: 2", "max-num-seqs: -3", "max-model-len: 1", "fail-rate: 1.5", "abort-rate: -1", "start-delay: -1s"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("the error does not name %q:\n%v", field, err)
		}
	}
}
