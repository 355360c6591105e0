package llm

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// A metric that says what cannot be is left out and named; the others count.
func TestOddMetrics(t *testing.T) {
	page := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page) }))
	defer s.Close()
	c := client(t, s.URL, "")
	for _, odd := range []string{"NaN", "+Inf", "-Inf", "-1", "1e308"} {
		page = fmt.Sprintf(`# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m",engine="0"} 2
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{model_name="m",engine="0"} 0.5
vllm:kv_cache_usage_perc{model_name="m",engine="1"} %[1]s
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="m",engine="0"} %[1]s
# TYPE vllm:inter_token_latency_seconds histogram
vllm:inter_token_latency_seconds_bucket{model_name="m",le="+Inf"} 3
vllm:inter_token_latency_seconds_sum{model_name="m"} %[1]s
vllm:inter_token_latency_seconds_count{model_name="m"} 3
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{model_name="m",le="+Inf"} 3
vllm:time_to_first_token_seconds_sum{model_name="m"} 0.3
vllm:time_to_first_token_seconds_count{model_name="m"} 3
`, odd)
		scrape, err := c.Scrape(t.Context(), "m")
		if err != nil {
			t.Fatalf("%s: %v", odd, err)
		}
		want := []string{"vllm:inter_token_latency_seconds", "vllm:kv_cache_usage_perc", "vllm:num_requests_waiting"}
		if scrape.Running != 2 || scrape.KVCacheUsage != nil || scrape.ITL != nil || scrape.TTFT == nil || !slices.Equal(scrape.Odd, want) {
			t.Errorf("%s: %+v", odd, scrape)
		}
		page = "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running " + odd + "\n"
		if _, err := c.Scrape(t.Context(), "m"); err == nil || !strings.Contains(err.Error(), "vllm:num_requests_running is no number of requests") {
			t.Errorf("%s: %v", odd, err)
		}
	}
}

// A page without end is given up, not read into memory.
func TestMetricsWithoutEnd(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		line := []byte(strings.Repeat("# a comment that goes on and on\n", 1000))
		for {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	if _, err := client(t, s.URL, "").Scrape(t.Context(), "m"); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%v", err)
	}
}
