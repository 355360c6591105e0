package llm

import (
	"context"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// A line that nobody understands costs itself, ranks that repeat a number are counted
// once, and a server is known by whatever it calls itself.
func TestMetricsAsTheyAre(t *testing.T) {
	const hist = `_bucket{le="+Inf"} 9
%_sum 0.9
%_count 9
`
	for name, tc := range map[string]struct {
		text string
		fact Fact
		want float64 // NaN: nothing
	}{
		"engines":                     {`vllm:num_requests_running{engine="0"} 3` + "\n" + `vllm:num_requests_running{engine="1"} 4`, running, 7},
		"another model behind it":     {`vllm:num_requests_running{model_name="m"} 3` + "\n" + `vllm:num_requests_running{model_name="other"} 4`, running, 3},
		"an alias":                    {`vllm:num_requests_running{model_name="/models/llama"} 3`, running, 3},
		"ranks that repeat":           {`sglang:num_running_reqs{tp_rank="0",pp_rank="0"} 2` + "\n" + `sglang:num_running_reqs{tp_rank="1",pp_rank="0"} 2`, running, 2},
		"ranks of which one reports":  {`sglang:num_running_reqs{moe_ep_rank="0",tp_rank="0"} 2` + "\n" + `sglang:num_running_reqs{moe_ep_rank="1",tp_rank="1"} 0`, running, 2},
		"data-parallel ranks":         {`sglang:num_running_reqs{dp_rank="0",tp_rank="0"} 2` + "\n" + `sglang:num_running_reqs{dp_rank="1",tp_rank="0"} 3`, running, 5},
		"processes that repeat":       {`vllm:num_requests_running{pid="7"} 2` + "\n" + `vllm:num_requests_running{pid="8"} 2`, running, 2},
		"processes with parts":        {`vllm:num_requests_running{pid="7"} 2` + "\n" + `vllm:num_requests_running{pid="8"} 3`, running, 5},
		"reasons of finishing":        {`vllm:request_success_total{finished_reason="stop"} 2` + "\n" + `vllm:request_success_total{finished_reason="length"} 3`, successes, 5},
		"no ending of counters":       {`vllm:request_success{finished_reason="stop"} 2`, successes, 2},
		"an underscore for the colon": {`sglang_num_running_reqs 2`, running, 2},
		"a bad line before":           {`what is this?` + "\n" + `vllm:num_requests_running{broken 1` + "\n" + `vllm:num_requests_running 2`, running, 2},
		"a duplicate HELP":            {"# HELP vllm:num_requests_running a\n# HELP vllm:num_requests_running b\n# TYPE vllm:num_requests_running gauge\n# TYPE vllm:num_requests_running counter\nvllm:num_requests_running 2", running, 2},
		"an exemplar and a time":      {`vllm:num_requests_running{a="}\"{"} 2 1700000000 # {trace_id="x"} 0.5 1.7`, running, 2},
		"a UTF-8 name":                {`{"vllm:num_requests_running", model_name="m"} 2` + "\n" + `{"größe"} 7`, running, 2},
		"no number":                   {`vllm:num_requests_running NaN`, running, math.NaN()},
		"below 0":                     {`vllm:num_requests_running -1`, running, math.NaN()},
		"bytes of a month":            {`vllm:estimated_read_bytes_per_gpu_total{engine="0",model_name="m"} 4.2e+18`, bytesRead, 4.2e18},
		"too many requests":           {`vllm:request_success_total 4.2e+18`, successes, math.NaN()},
		"CR LF":                       {"vllm:num_requests_running 2\r\nvllm:num_requests_waiting 1\r\n", waiting, 1},
		"llama.cpp's queue":           {`llamacpp:requests_deferred 4`, waiting, 4},
		"TGI's batch":                 {`tgi_batch_current_size 4`, running, 4},
		"NIM's":                       {`num_requests_running{model_name="meta/llama"} 4`, running, 4},
		"Triton's":                    {`nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 4` + "\n" + `nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 2`, waiting, 2},
		"Triton's ensemble":           {`nv_inference_request_success{model="m",version="1"} 4` + "\n" + `nv_inference_request_success{model="preprocessing",version="1"} 4`, successes, 4},
		"Triton's of another model":   {`nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 4`, running, 4},
		"trtllm-serve's batch":        {`trtllm_num_requests_running 9` + "\n" + `trtllm_num_scheduled_requests 4`, running, 4},
		"trtllm-serve's cache":        {`trtllm_prompt_cached_tokens_total{model_name="m"} 64`, cacheHits, 64},
		"SGLang's retractions":        {`sglang:num_retracted_requests_total 4` + "\n" + `sglang:num_retracted_reqs 1`, preemptions, 4},
		"vLLM's":                      {strings.ReplaceAll("vllm:inter_token_latency_seconds"+hist, "%", "vllm:inter_token_latency_seconds"), itl, 0.1},
		"vLLM's older":                {strings.ReplaceAll("vllm:time_per_output_token_seconds"+hist, "%", "vllm:time_per_output_token_seconds"), itl, 0.1},
		"once per request is another": {strings.ReplaceAll("trtllm_time_per_output_token_seconds"+hist, "%", "trtllm_time_per_output_token_seconds"), itl, math.NaN()},
		"milliseconds":                {strings.ReplaceAll("nv_inference_first_response_histogram_ms"+hist, "%", "nv_inference_first_response_histogram_ms"), ttft, 1e-4},
	} {
		t.Run(name, func(t *testing.T) {
			p := parsePage([]byte(tc.text), "m")
			got := math.NaN()
			if h := p.histogram(tc.fact); h != nil {
				got = h.SumSeconds / h.Count
			} else if v := p.value(tc.fact); v != nil {
				got = *v
			}
			if got != tc.want && math.Abs(got-tc.want) > 1e-12 || math.IsNaN(got) != math.IsNaN(tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

// trtllm-serve has no histogram of lengths: it counts a request's tokens as it ends.
func TestOutputsOfTotals(t *testing.T) {
	p := parsePage([]byte("trtllm_generation_tokens_total 320\ntrtllm_request_success_total{finished_reason=\"length\"} 10\n"), "m")
	if h := p.outputsOfTotals(); h == nil || h.SumSeconds != 320 || h.Count != 10 {
		t.Errorf("%+v", h)
	}
	if h := parsePage([]byte("vllm:generation_tokens_total 320\nvllm:request_success_total 10\n"), "m").outputsOfTotals(); h != nil {
		t.Errorf("of a server that counts tokens as it makes them: %+v", h)
	}
}

func TestWhereMetricsAre(t *testing.T) {
	for _, path := range metricsPaths {
		asked := map[string]int{}
		c := handle(t, func(w http.ResponseWriter, r *http.Request) {
			asked[r.URL.Path]++
			if r.URL.Path == path {
				_, _ = io.WriteString(w, "num_requests_running 5\n")
				return
			}
			_, _ = io.WriteString(w, "<!doctype html>a page for everything")
		})
		for range 2 {
			if s, err := c.Scrape(context.Background(), "m"); err != nil || s.Running != 5 {
				t.Errorf("%s: %+v, %v", path, s, err)
			}
		}
		for p, n := range asked {
			if p != path && n > 1 {
				t.Errorf("%s: %s was asked %d times", path, p, n)
			}
		}
	}
}

// The page of docs has every name that is read, and no other.
func TestDocsNameTheMetrics(t *testing.T) {
	data, err := os.ReadFile("../../docs/engines.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(data), "<!-- metrics -->\n")
	table, _, closed := strings.Cut(text, "<!-- end of metrics -->")
	if !ok || !closed {
		t.Fatal("docs/engines.md has no table between <!-- metrics --> and <!-- end of metrics -->")
	}
	if want := metricsTable(); table != want {
		t.Errorf("the table is to be\n%s", want)
	}
}

// metricsTable is Facts in Markdown, a fact a row, and the sources below.
func metricsTable() string {
	var b strings.Builder
	b.WriteString("| what | kind | names, the first that is there is taken |\n|---|---|---|\n")
	servers := map[string]string{}
	for _, f := range Facts() {
		var names []string
		for _, n := range f.Names {
			text := "`" + n.Name
			if n.Label != "" {
				text += "{" + n.Label + "}"
			}
			text += "`"
			if n.Unit == 1e-3 {
				text += " (ms)"
			}
			names = append(names, text)
			server, file, _ := strings.Cut(n.Source, ", ")
			servers[server] = file
		}
		b.WriteString("| " + f.Says + " | " + f.Kind + " | " + strings.Join(names, ", ") + " |\n")
	}
	b.WriteString("\n| of | from |\n|---|---|\n")
	for _, s := range slices.Sorted(maps.Keys(servers)) {
		b.WriteString("| " + s + " | " + servers[s] + " |\n")
	}
	return b.String()
}

func FuzzMetrics(f *testing.F) {
	data, err := os.ReadFile("testdata/vllm-0.32.0.metrics")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"vllm:num_requests_running",a="\"}"} 1e309 # {x="y"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p := parsePage(text, "tiny")
		for _, fact := range Facts() {
			if v := p.value(fact); v != nil && (math.IsNaN(*v) || *v < 0) {
				t.Fatalf("%s: %v", fact.Says, *v)
			}
			if h := p.histogram(fact); h != nil && (math.IsNaN(h.SumSeconds) || math.IsNaN(h.Count) || h.SumSeconds < 0 || h.Count < 0) {
				t.Fatalf("%s: %+v", fact.Says, *h)
			}
		}
		p.cache()
	})
}
