package preflight

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// vllm answers as a server with max-model-len 4096 whose /metrics are those of a
// real vLLM 0.32.0, changed in one place.
func vllm(t *testing.T, old, changed string) *llm.Client {
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
		plan               Plan
		problems, warnings []string
	}{
		{name: "fits", plan: Plan{Shapes: shapes(t, "128/128"), BatchSizes: []int{1, 64}, MaxNumSeqs: 64, Spread: 0.2}},
		{name: "too long", plan: Plan{Shapes: shapes(t, "4000/97"), BatchSizes: []int{1}}, problems: []string{"4097 tokens, but max-model-len is 4096"}},
		{name: "just long enough", plan: Plan{Shapes: shapes(t, "4000/96"), BatchSizes: []int{1}, Spread: 0.2}, warnings: []string{"no room for answers that differ"}},
		{name: "the same with one length", plan: Plan{Shapes: shapes(t, "4000/96"), BatchSizes: []int{1}}},
		// 262144 tokens in blocks of 128: a request of 1000 takes 8 blocks
		{name: "fills the cache", plan: Plan{Shapes: shapes(t, "900/100"), BatchSizes: []int{1, 256}}},
		{name: "evicts", plan: Plan{Shapes: shapes(t, "900/100"), BatchSizes: []int{1, 257}}, problems: []string{"256 requests of this shape; at batch sizes 257"}},
		{name: "queues", plan: Plan{Shapes: shapes(t, "128/128"), BatchSizes: []int{8, 32, 64}, MaxNumSeqs: 16}, problems: []string{"batch sizes 32, 64 are above the server's max-num-seqs 16"}},
		{name: "all at once", plan: Plan{Shapes: shapes(t, "128/128", "5000/2"), BatchSizes: []int{2000}, MaxNumSeqs: 16},
			problems: []string{"max-num-seqs", "128/128: the KV cache", "5000/2 needs 5002", "5000/2: the KV cache"}},
		{name: "in use", old: running, changed: strings.Replace(running, " 0.0", " 3.0", 1), plan: Plan{Shapes: shapes(t, "128/128"), BatchSizes: []int{1}}, warnings: []string{"3 requests are running already"}},
		{name: "prefix caching", old: caching, changed: `enable_prefix_caching="True"`, plan: Plan{Shapes: shapes(t, "128/128"), BatchSizes: []int{1}}, warnings: []string{"prefix caching is on"}},
		{name: "silent", changed: "none", plan: Plan{Shapes: shapes(t, "128/128"), BatchSizes: []int{1 << 20}}, warnings: []string{"no server witness"}},
		{name: "an older vLLM", old: `kv_cache_size_tokens="262144"`, changed: `x="y"`, plan: Plan{Shapes: shapes(t, "900/100"), BatchSizes: []int{257}}, problems: []string{"262144 tokens"}},
		{name: "another model", model: "other", plan: Plan{Shapes: shapes(t, "128/128"), BatchSizes: []int{32}, MaxNumSeqs: 16}, problems: []string{`serves tiny, not "other"`, "max-num-seqs"}},
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
	r, err := Check(context.Background(), vllm(t, "", ""), "tiny", Plan{Shapes: shapes(t, "900/100"), BatchSizes: []int{1, 8}, MaxNumSeqs: 4, Spread: 0.2})
	if err != nil {
		t.Fatal(err)
	}
	r.Target = "http://vllm:8000"
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	const want = `http://vllm:8000, tiny, version 0.32.0
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
	if _, err := Check(context.Background(), c, "m", Plan{Shapes: shapes(t, "1/2"), BatchSizes: []int{1}}); exit.Code(err) != exit.TryAgain {
		t.Errorf("exit %d, %v", exit.Code(err), err)
	}
}

func TestMaxNumSeqs(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want int
	}{
		{[]string{"serve", "--max-num-seqs", "64"}, 64}, {[]string{"--max-num-seqs=32"}, 32},
		{[]string{"--max-num-seqs"}, 0}, {[]string{"--max-num-seqs", "$N"}, 0}, {nil, 0},
	} {
		if got := MaxNumSeqs(tc.args); got != tc.want {
			t.Errorf("%q: %d", tc.args, got)
		}
	}
}
