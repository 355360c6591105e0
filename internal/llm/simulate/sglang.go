package simulate

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// sglangNames are what SGLang calls the metrics that it has in common with vLLM
// (sglang/srt/metrics/collector.py of 0.5.6).
var sglangNames = map[string]string{
	"vllm:num_requests_running":        "sglang:num_running_reqs",
	"vllm:num_requests_waiting":        "sglang:num_queue_reqs",
	"vllm:kv_cache_usage_perc":         "sglang:token_usage",
	"vllm:prompt_tokens_total":         "sglang:prompt_tokens_total",
	"vllm:generation_tokens_total":     "sglang:generation_tokens_total",
	"vllm:prompt_tokens_cached_total":  "sglang:cached_tokens_total",
	"vllm:request_success_total":       "sglang:num_requests_total",
	"vllm:time_to_first_token_seconds": "sglang:time_to_first_token_seconds",
	"vllm:inter_token_latency_seconds": "sglang:inter_token_latency_seconds",
	"vllm:e2e_request_latency_seconds": "sglang:e2e_request_latency_seconds",
	"vllm:request_queue_time_seconds":  "sglang:queue_time_seconds",
}

// asSGLang are the metrics under SGLang's names; what it does not have is left out.
func asSGLang(from prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := from.Gather()
		var named []*dto.MetricFamily
		for _, f := range families {
			if name, has := sglangNames[f.GetName()]; has {
				f.Name = &name
				named = append(named, f)
			}
		}
		return named, err
	})
}

// serverInfo answers what SGLang tells of how it was started, as far as it is asked for.
func (s *Server) serverInfo(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"version": s.config.Version, "served_model_name": s.config.Model, "context_length": s.config.MaxModelLen,
		"max_running_requests": s.config.MaxNumSeqs, "disable_radix_cache": true, "disaggregation_mode": "null", "dp_size": 1,
	})
}
