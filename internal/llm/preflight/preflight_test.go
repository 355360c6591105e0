package preflight

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// vllm answers as a server with max-model-len 4096 whose /metrics are those of a
// real vLLM 0.32.0, changed in one place.
func vllm(t *testing.T, old, changed string) *llm.Client {
	t.Helper()
	return vllmThat(t, old, changed, "")
}

// vllmThat is vllm with a habit in its answers.
func vllmThat(t *testing.T, old, changed, habit string) *llm.Client {
	t.Helper()
	data, err := os.ReadFile("../testdata/vllm-0.32.0.metrics")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		t.Fatalf("%q is not in the metrics", old)
	}
	mux := http.NewServeMux()
	answer := func(path, text string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	answer("/health", "")
	answer("/version", `{"version":"0.32.0"}`)
	mux.HandleFunc("/v1/completions", stream(habit))
	mux.HandleFunc("/v1/chat/completions", stream(habit))
	answer("/v1/models", `{"data":[{"id":"tiny","max_model_len":4096}]}`)
	if changed != "none" {
		answer("/metrics", strings.ReplaceAll(string(data), old, changed))
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	c, err := llm.New(s.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// stream answers with the tokens that are asked for, or does what a server does that
// cannot be measured.
func stream(habit string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		event := func(data string) {
			_, _ = io.WriteString(w, "data: "+data+"\n\n")
			if habit != "held" {
				_ = http.NewResponseController(w).Flush()
				time.Sleep(3 * time.Millisecond)
			}
		}
		refuse := func(code int, text string) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, `{"error":{"message":"`+text+`"}}`)
		}
		n := triedTokens
		switch {
		case habit == "key":
			refuse(http.StatusUnauthorized, "no such key")
			return
		case habit == "refuses":
			refuse(http.StatusBadRequest, "no prompts today")
			return
		case habit == "broken":
			refuse(http.StatusInternalServerError, "out of memory")
			return
		case habit == "strict" && strings.Contains(string(body), "ignore_eos"):
			refuse(http.StatusUnprocessableEntity, "unexpected field ignore_eos")
			return
		case habit == "chat" && r.URL.Path == "/v1/completions":
			http.NotFound(w, r)
			return
		case habit == "whole":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"choices":[{"text":"w w w"}],"usage":{"prompt_tokens":8,"completion_tokens":16}}`)
			return
		case habit == "stops", habit == "cut":
			n = 7
		}
		for range n {
			event(`{"choices":[{"text":" w","delta":{}}]}`)
		}
		event(`{"choices":[{"text":"","finish_reason":"` + map[bool]string{true: "length", false: "stop"}[habit == "cut"] + `"}]}`)
		if habit != "uncounted" {
			event(fmt.Sprintf(`{"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":%d}}`, n))
		}
		event("[DONE]")
	}
}

// One small answer tells what no question does.
func TestOneAnswerTells(t *testing.T) {
	for habit, tc := range map[string]struct {
		problem, warning string
		metrics          string // none, or those of vLLM
		code             int
	}{
		"":          {},
		"key":       {problem: "STEP_API_KEY", code: exit.Unusable},
		"refuses":   {problem: "no prompts today", code: exit.Unusable},
		"broken":    {code: exit.TryAgain},
		"strict":    {warning: "does not take ignore_eos"},
		"chat":      {warning: "/v1/chat/completions"},
		"whole":     {problem: "one piece", code: exit.Unusable},
		"uncounted": {problem: "usage", code: exit.Unusable},
		"stops":     {warning: "7 came"},
		"cut":       {problem: "limit of its own", code: exit.Unusable},
		"held":      {problem: "came in one piece", metrics: "none", code: exit.Unusable},
	} {
		t.Run(habit, func(t *testing.T) {
			r, err := Check(t.Context(), vllmThat(t, "", tc.metrics, habit), "tiny", Intent{Shapes: shapes(t, "128/128"), BatchSizes: []int{1}})
			if err == nil {
				err = r.Err()
			}
			if exit.Code(err) != tc.code {
				t.Fatalf("exit %d, want %d: %v", exit.Code(err), tc.code, err)
			}
			for _, list := range []struct {
				got  []string
				want string
			}{{r.Problems, tc.problem}, {r.Warnings, tc.warning}} {
				if text := strings.Join(list.got, "\n"); list.want == "" && tc.metrics == "" && text != "" || !strings.Contains(text, list.want) {
					t.Errorf("%q, want %q", text, list.want)
				}
			}
		})
	}
	// where the server tells its latencies, a proxy that holds answers back only warns
	const first = "# HELP vllm:num_requests_running"
	told := ""
	for _, name := range []string{"inter_token_latency", "time_to_first_token"} {
		told += "vllm:" + name + "_seconds_sum 1\nvllm:" + name + "_seconds_count 9\n"
	}
	r, err := Check(t.Context(), vllmThat(t, first, told+first, "held"), "tiny", Intent{Shapes: shapes(t, "128/128"), BatchSizes: []int{1}})
	if err != nil || r.Err() != nil || !strings.Contains(strings.Join(r.Warnings, "\n"), "the server's own latencies will be taken") {
		t.Errorf("%v, %v, %q", err, r.Err(), r.Warnings)
	}
}

func shapes(t *testing.T, texts ...string) (all []sweep.Shape) {
	t.Helper()
	for _, text := range texts {
		s, err := sweep.ParseShape(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func TestCheck(t *testing.T) {
	const running, caching = `vllm:num_requests_running{engine="0",model_name="tiny"} 0.0`, `enable_prefix_caching="False"`
	for _, tc := range []struct {
		name, old, changed string
		model              string
		plan               Intent
		problems, warnings []string
	}{
		{name: "fits", plan: Intent{Shapes: shapes(t, "128/128"), BatchSizes: []int{1, 64}, MaxNumSeqs: 64, Spread: 0.2}},
		{name: "too long", plan: Intent{Shapes: shapes(t, "4000/97"), BatchSizes: []int{1}}, problems: []string{"4097 tokens, but max-model-len is 4096"}},
		{name: "just long enough", plan: Intent{Shapes: shapes(t, "4000/96"), BatchSizes: []int{1}, Spread: 0.2}, warnings: []string{"no room for answers that differ"}},
		{name: "the same with one length", plan: Intent{Shapes: shapes(t, "4000/96"), BatchSizes: []int{1}}},
		// 262144 tokens in blocks of 128: a request of 1000 takes 8 blocks
		{name: "fills the cache", plan: Intent{Shapes: shapes(t, "900/100"), BatchSizes: []int{1, 256}}},
		{name: "evicts", plan: Intent{Shapes: shapes(t, "900/100"), BatchSizes: []int{1, 257}}, problems: []string{"256 requests of this shape; at batch sizes 257"}},
		{name: "queues", plan: Intent{Shapes: shapes(t, "128/128"), BatchSizes: []int{8, 32, 64}, MaxNumSeqs: 16}, problems: []string{"batch sizes 32, 64 are above the server's max-num-seqs 16"}},
		{name: "all at once", plan: Intent{Shapes: shapes(t, "128/128", "5000/2"), BatchSizes: []int{2000}, MaxNumSeqs: 16},
			problems: []string{"max-num-seqs", "128/128: the KV cache", "5000/2 needs 5002", "5000/2: the KV cache"}},
		{name: "in use", old: running, changed: strings.Replace(running, " 0.0", " 3.0", 1), plan: Intent{Shapes: shapes(t, "128/128"), BatchSizes: []int{1}}, warnings: []string{"3 requests are running already"}},
		{name: "prefix caching", old: caching, changed: `enable_prefix_caching="True"`, plan: Intent{Shapes: shapes(t, "128/128"), BatchSizes: []int{1}}, warnings: []string{"prefix caching is on"}},
		{name: "silent", changed: "none", plan: Intent{Shapes: shapes(t, "128/128"), BatchSizes: []int{1 << 20}}, warnings: []string{"no server witness"}},
		{name: "an older vLLM", old: `kv_cache_size_tokens="262144"`, changed: `x="y"`, plan: Intent{Shapes: shapes(t, "900/100"), BatchSizes: []int{257}}, problems: []string{"262144 tokens"}},
		{name: "another model", model: "other", plan: Intent{Shapes: shapes(t, "128/128"), BatchSizes: []int{32}, MaxNumSeqs: 16}, problems: []string{`serves tiny, not "other"`, "max-num-seqs"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.model == "" {
				tc.model = "tiny"
			}
			r, err := Check(context.Background(), vllm(t, tc.old, tc.changed), tc.model, tc.plan)
			if err != nil {
				t.Fatal(err)
			}
			for _, list := range []struct {
				name      string
				got, want []string
			}{{"problems", r.Problems, tc.problems}, {"warnings", r.Warnings, tc.warnings}} {
				if len(list.got) != len(list.want) {
					t.Errorf("%s %q, want %q", list.name, list.got, list.want)
					continue
				}
				for i, w := range list.want {
					if !strings.Contains(list.got[i], w) {
						t.Errorf("%s %q, want %q", list.name, list.got[i], w)
					}
				}
			}
			want := exit.Done
			if len(tc.problems) > 0 {
				want = exit.Unusable
			}
			if got := exit.Code(r.Err()); got != want {
				t.Errorf("exit %d, want %d", got, want)
			}
		})
	}
}

func TestPrint(t *testing.T) {
	r, err := Check(context.Background(), vllm(t, "", ""), "tiny", Intent{Shapes: shapes(t, "900/100"), BatchSizes: []int{1, 8}, MaxNumSeqs: 4, Spread: 0.2})
	if err != nil {
		t.Fatal(err)
	}
	r.Target = "http://vllm:8000"
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	const want = `http://vllm:8000, tiny, version 0.32.0
  endpoint          /v1/completions
  max-model-len     4096
  max-num-seqs      4
  KV cache, tokens  262144
  block, tokens     128
  prefix caching    off
    shape  longest request  largest batch  KV tokens needed  batch that fits
  900/100             1020              8              8192              256
problem: batch sizes 8 are above the server's max-num-seqs 4: requests would queue, and the queue would be measured; raise max-num-seqs to 8 or leave them out
`
	if b.String() != want {
		t.Errorf("printed\n%s", b.String())
	}
}

func TestAServerThatDoesNotAnswerIsTriedAgain(t *testing.T) {
	c, err := llm.New("http://127.0.0.1:1", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(context.Background(), c, "m", Intent{Shapes: shapes(t, "1/2"), BatchSizes: []int{1}}); exit.Code(err) != exit.TryAgain {
		t.Errorf("exit %d, %v", exit.Code(err), err)
	}
}

// SGLang says under /server_info what vLLM says in its metrics, and who is half of a pair.
func TestSGLang(t *testing.T) {
	server := func(info string) *llm.Client {
		mux := http.NewServeMux()
		answer := func(path, text string) {
			mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
		}
		answer("/health", "")
		mux.HandleFunc("/v1/completions", stream(""))
		answer("/v1/models", `{"data":[{"id":"m","max_model_len":4096}]}`)
		answer("/server_info", info)
		answer("/metrics", "sglang:num_running_reqs 0\nsglang:max_total_num_tokens 8192\n")
		s := httptest.NewServer(mux)
		t.Cleanup(s.Close)
		c, err := llm.New(s.URL, "")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const common = `"version":"0.5.6","api_key":"s3cr3t","max_total_num_tokens":8192,`
	for _, test := range []struct {
		info          string
		args          []string
		limit         int
		problem, warn string
	}{
		{`{` + common + `"max_running_requests":8,"disable_radix_cache":true,"disaggregation_mode":"null"}`, nil, 8, "above the server's max-num-seqs 8", "!prefix caching is on"},
		{`{` + common + `"max_running_requests":null,"disable_radix_cache":false,"internal_states":[{"effective_max_running_requests_per_dp":32},{"effective_max_running_requests_per_dp":32}]}`,
			nil, 64, "", "prefix caching is on"},
		{`{` + common + `"max_running_requests":64,"disable_radix_cache":true,"disaggregation_mode":"decode"}`, nil, 64, "", "the decode half"},
		{`{"version":"1"}`, []string{"--max-running-requests=4", "--disaggregation-mode", "prefill"}, 4, "max-num-seqs 4", "the prefill half"},
		{`not JSON`, []string{"--kv-transfer-config", `{"kv_role":"kv_producer"}`}, 0, "", "the prefill half"},
		{`[]`, []string{"--kv-transfer-config", `{"kv_role":"kv_both"}`}, 0, "", "!half"},
	} {
		r, err := Check(t.Context(), server(test.info), "m", Intent{Shapes: shapes(t, "16/16"), BatchSizes: []int{1, 16}, Args: test.args})
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if err := r.Print(&text); err != nil {
			t.Fatal(err)
		}
		unwanted, isUnwanted := strings.CutPrefix(test.warn, "!")
		warned := strings.Contains(strings.Join(r.Warnings, "\n"), unwanted)
		if r.MaxNumSeqs != test.limit || warned == isUnwanted || (len(r.Problems) > 0) != (test.problem != "") || !strings.Contains(strings.Join(r.Problems, "\n"), test.problem) ||
			strings.Contains(text.String(), "s3cr3t") {
			t.Errorf("%s %q:\n%s", test.info, test.args, &text)
		}
	}
}
