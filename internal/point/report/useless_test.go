package report

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// TestUseless: of every format a file that is cut off, one without a request, one whose
// requests all failed, and one that merely looks like it. None gives a number, and each
// says why.
func TestUseless(t *testing.T) {
	o := Options{Accelerator: "A100", Model: "sim", BatchSize: 4, Shape: sweep.Shape{PromptTokens: 64, OutputTokens: 32}, Beside: alone}
	type useless struct {
		text string
		says string // in the error, or in why the measurement is void
	}
	tested := map[string]bool{}
	for _, tt := range []struct {
		format  string
		file    string // a whole one
		cut     string // what is said of the file's beginning
		failed  func(whole string) useless
		empty   useless
		foreign useless
	}{
		{
			"AIPerf records (profile_export.jsonl)", "aiperf-0.13.0/concurrency_4/profile_export.jsonl", "cut off",
			func(whole string) useless {
				return useless{strings.ReplaceAll(whole, `{"metadata": `, `{"error": {"type": "HTTPError", "message": "500"}, "metadata": `), "requests succeeded: 500 x"}
			},
			useless{`{"metadata":{"request_start_ns":1,"benchmark_phase":"warmup"},"metrics":{}}`, "no request was made"},
			useless{`{"metadata":{"request_start_ns":"now"},"metrics":{}}`, "a number is expected"},
		},
		{
			"AIPerf export (profile_export_aiperf.json)", "aiperf-0.13.0/concurrency_4/profile_export_aiperf.json", "cut off",
			func(whole string) useless {
				return useless{withFields(t, whole, map[string]any{"request_count": nil, "request_latency": nil, "time_to_first_token": nil, "inter_token_latency": nil, "request_throughput": nil,
					"error_request_count": map[string]any{"unit": "requests", "avg": 7}}), "none of 7 requests succeeded"}
			},
			useless{`{"aiperf_version":"0.13.0","input_config":{}}`, "no request was made"},
			useless{`{"aiperf_version":"0.13.0","aggregation_type":"confidence"}`, "aggregate of several runs"},
		},
		{
			"GenAI-Perf export (profile_export_genai_perf.json)", "genai-perf-0.0.16/concurrency4/profile_export_genai_perf.json", "cut off",
			func(whole string) useless {
				return useless{withFields(t, whole, map[string]any{"request_latency": map[string]any{"unit": "ms"}, "request_count": nil, "time_to_first_token": nil, "inter_token_latency": nil,
					"error_request_count": map[string]any{"unit": "requests", "avg": 7}}), "none of 7 requests succeeded"}
			},
			useless{`{"request_latency":{"unit":"ms"},"request_throughput":{"unit":"requests/sec"},"input_config":{}}`, "no request was made"},
			useless{`{"request_latency":12,"time_to_first_token":3}`, "an object is expected"},
		},
		{
			"vllm bench serve, bench sweep", "vllm-0.32.0/det-4.json", "cut off",
			func(whole string) useless {
				return useless{withFields(t, whole, map[string]any{"completed": 0, "failed": 9, "output_lens": []int{}, "ttfts": []int{}, "itls": []int{}, "errors": []string{}, "start_times": []int{}, "input_lens": []int{}}), "requests succeeded"}
			},
			useless{`{"backend":"openai","date":"20261001-120000","model_id":"sim","num_prompts":0,"completed":0,"failed":0,"max_concurrency":4,"request_throughput":0}`, "no request was made"},
			useless{`{"backend":"openai","model_id":"sim","num_prompts":"many","completed":{}}`, "a number is expected"},
		},
		{
			"SGLang bench_serving", "sglang-0.5.6/sgl-det.jsonl", "cut off",
			func(whole string) useless {
				line, _, _ := strings.Cut(whole, "\n")
				return useless{withFields(t, line, map[string]any{"completed": 0, "output_lens": []int{0, 0}, "input_lens": []int{64, 64}, "ttfts": []float64{0, 0}, "itls": [][]float64{{}, {}},
					"errors": []string{"500", "500"}}), "none of 2 requests succeeded: 500 x2"}
			},
			useless{`{"backend":"vllm","completed":0,"mean_e2e_latency_ms":0,"max_concurrency":4,"duration":1}`, "no request was made"},
			useless{`{"backend":"vllm","completed":"all","mean_e2e_latency_ms":0}`, "a number is expected"},
		},
		{
			"inference-perf per-request", "inference-perf-0.7.0/per_request_lifecycle_metrics.json", "cut off",
			func(string) useless {
				return useless{`[{"start_time":5,"end_time":6,"request":"","info":{},"error":{"error_type":"HTTP 500","error_msg":"HTTP 500"}}]`, "none of 1 requests succeeded: HTTP 500 x1"}
			},
			useless{`[{"start_time":0,"end_time":0,"request":"","info":{}}]`, "none of 1 requests succeeded"},
			useless{`[{"start_time":"noon","end_time":6,"request":""}]`, "a number is expected"},
		},
		{
			"inference-perf stage or summary", "inference-perf-0.7.0/stage_1_lifecycle_metrics.json", "cut off",
			func(string) useless {
				return useless{`{"load_summary":{"count":5,"concurrency":4},"successes":{"count":0},"failures":{"count":5}}`, "none of 5 requests succeeded"}
			},
			useless{`{"load_summary":{"count":0,"concurrency":4},"successes":{"count":0},"failures":{"count":0}}`, "no request was made"},
			useless{`{"load_summary":[1,2]}`, "an object is expected"},
		},
		{
			"Benchmark Report", "", "",
			func(string) useless {
				return useless{`{"version":"0.2.1","results":{"request_performance":{"aggregate":{"requests":{"total":4,"failures":4}}}}}`, "none of 4 requests succeeded"}
			},
			useless{`{"version":"0.2.1","results":{}}`, "no request was made"},
			useless{`{"version":"7","results":{}}`, `version "7"`},
		},
		{
			"AIPerf or GenAI-Perf CSV", "aiperf-0.13.0/concurrency_4/profile_export_aiperf.csv", "",
			func(string) useless {
				return useless{"Metric,avg,min\n\nMetric,Value\nError Request Count (requests),7\n", "none of 7 requests succeeded"}
			},
			useless{"Metric,avg,min,max\n", "no request was made"},
			useless{"Metric,avg,min,max\nTime to First Token (ms),3,3,3\n", "how many requests"},
		},
		{
			"guidellm CSV", "guidellm-0.8.1/r.csv", "",
			func(whole string) useless {
				rows := strings.SplitAfter(whole, "\n")
				return useless{strings.Join(rows[:3], ""), "no rows"} // it writes none of a level without a request
			},
			useless{"Run Info,Benchmark,Time to First Token\n", "no rows"},
			useless{"Run Info,Benchmark,Time to First Token\na\nb\nwords\n", "no strategy"},
		},
		{
			"guidellm HTML", "guidellm-0.7.3/r.html", "cut off",
			func(whole string) useless {
				return useless{regexp.MustCompile(`"count": \d+`).ReplaceAllString(whole, `"count": 0`), "no request was made"}
			},
			useless{`<!DOCTYPE html><html><head><title>GuideLLM</title><script>window.benchmarks = {};</script>`, "without a level"},
			useless{`<!DOCTYPE html><html><head><title>About guidellm</title></head>`, "without a level"},
		},
		{
			"plain CSV", "", "",
			func(string) useless { return useless{"concurrency,itl_ms,ttft_ms\n4,0,0\n", "neither rows nor means"} },
			useless{"concurrency,itl_ms,ttft_ms\n", "no rows"},
			useless{"concurrency,itl_ms,ttft_ms\nmany,4,3\n", `found "many"`},
		},
		{
			"YAML of any of these", "guidellm-0.8.1/r.yaml", "",
			func(string) useless {
				return useless{"load_summary: {count: 5, concurrency: 4}\nsuccesses: {count: 0}\nfailures: {count: 5}\n", "none of 5 requests succeeded"}
			},
			useless{"benchmarks: []\n", "list of benchmarks is empty"},
			useless{"apiVersion: v1\nkind: ConfigMap\n", "no report of a tool that is known"},
		},
	} {
		t.Run(tt.format, func(t *testing.T) {
			tested[tt.format] = true
			whole := ""
			if tt.file != "" {
				whole = string(content(t, "tools/"+tt.file+".gz"))
			}
			cases := map[string]useless{"failed": tt.failed(whole), "empty": tt.empty, "foreign": tt.foreign}
			if tt.cut != "" {
				cases["cut"] = useless{whole[:len(whole)/3], tt.cut}
			}
			for what, c := range cases {
				if what != "cut" {
					if f := recognize(newHead([]byte(c.text))); f == nil || f.Name != tt.format {
						t.Errorf("%s: taken for another format", what)
					}
				}
				all, err := Read(strings.NewReader(c.text), tt.file, o)
				if err != nil {
					if exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), c.says) {
						t.Errorf("%s: %v, want %q", what, err, c.says)
					}
					continue
				}
				for _, m := range all {
					if void := strings.Join(m.Taken.Void, "; "); !strings.Contains(void, c.says) {
						t.Errorf("%s: void %q, want %q", what, void, c.says)
					}
				}
				if len(all) == 0 {
					t.Errorf("%s: nothing, and no reason", what)
				}
			}
		})
	}
	for _, f := range Formats {
		if !tested[f.Name] {
			t.Errorf("%s is not in the table", f.Name)
		}
	}
	if _, err := Read(bytes.NewReader(nil), "r", o); exit.Code(err) != exit.Refused || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("a file of no byte: %v", err)
	}
}

// withFields is a JSON object with other values; nil takes a field out.
func withFields(t *testing.T, object string, fields map[string]any) string {
	t.Helper()
	all := map[string]any{}
	if err := json.NewDecoder(newBareNumbers(strings.NewReader(object))).Decode(&all); err != nil {
		t.Fatal(err)
	}
	for name, value := range fields {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	data, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
