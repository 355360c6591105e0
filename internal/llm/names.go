package llm

import "slices"

// Fact is something that servers say about themselves under some name.
type Fact struct {
	Says  string // for people
	Kind  string // of metric, and what it counts; times are in seconds
	Names []Name // the first that the server has is taken
}

// Name is what one kind of server calls a fact.
type Name struct {
	Name   string
	Label  string // label=value, where one metric says several facts
	Unit   float64
	Source string // where the name is from
}

// Where the names are from: the files of each project that define them.
const (
	vllm      = "vLLM, vllm/v1/metrics/loggers.py"
	vllmPerf  = "vLLM with --enable-mfu-metrics, vllm/v1/metrics/perf.py"
	vllmOld   = "vLLM before 0.11, vllm/engine/metrics.py"
	sglang    = "SGLang, srt/observability/metrics_collector.py"
	sglangOld = "SGLang before 0.5, srt/metrics/collector.py"
	llamacpp  = "llama.cpp, tools/server/server-context.cpp"
	tgi       = "TGI, docs/source/reference/metrics.md, router/src/server.rs and backends/v3/src/backend.rs"
	trtllm    = "trtllm-serve, tensorrt_llm/metrics/collector.py"
	nim       = "NIM for LLMs, docs.nvidia.com/nim/large-language-models/latest/observability.html (its source is not public)"
	triton    = "Triton with TensorRT-LLM, custom_metrics_reporter.cc of its backend, and src/metrics.cc of triton-inference-server/core"
)

// What is read, of whom. A time is in seconds unless Unit, which multiplies it, says
// otherwise. What a server calls by a like name and means differently is not here: TGI's
// mean time per token holds the prefill, SGLang's num_retracted_reqs is of the last
// batch, trtllm_num_requests_running holds those that no iteration has taken up yet, and a
// time per output token that is observed once per request (trtllm-serve, SGLang before
// 0.4.4) weighs short answers as much as long ones. NIM's page says "per request" of its
// own, which its count gives away (measurement.Witness.Gaps).
var (
	running = Fact{"requests running", "gauge, requests", []Name{
		{"vllm:num_requests_running", "", 1, vllm}, {"sglang:num_running_reqs", "", 1, sglang},
		{"llamacpp:requests_processing", "", 1, llamacpp}, {"tgi_batch_current_size", "", 1, tgi},
		{"trtllm_num_scheduled_requests", "", 1, trtllm}, {"num_requests_running", "", 1, nim},
		{"nv_trt_llm_request_metrics", "request_type=scheduled", 1, triton},
	}}
	waiting = Fact{"requests waiting", "gauge, requests", []Name{
		{"vllm:num_requests_waiting", "", 1, vllm}, {"sglang:num_queue_reqs", "", 1, sglang},
		{"llamacpp:requests_deferred", "", 1, llamacpp}, {"tgi_queue_size", "", 1, tgi},
		{"trtllm_num_requests_waiting", "", 1, trtllm}, {"num_requests_waiting", "", 1, nim},
		{"nv_trt_llm_request_metrics", "request_type=waiting", 1, triton},
	}}
	successes = Fact{"requests finished", "counter, requests", []Name{
		{"vllm:request_success_total", "", 1, vllm}, {"sglang:num_requests_total", "", 1, sglang},
		{"tgi_request_success", "", 1, tgi}, {"trtllm_request_success_total", "", 1, trtllm},
		{"request_success_total", "", 1, nim}, {"request_finish_total", "", 1, nim}, {"nv_inference_request_success", "", 1, triton},
	}}
	preemptions = Fact{"running requests evicted", "counter, evictions", []Name{
		{"vllm:num_preemptions_total", "", 1, vllm}, {"sglang:num_retracted_requests_total", "", 1, sglang},
	}}
	cacheHits = Fact{"prompt tokens out of the prefix cache", "counter, tokens", []Name{
		{"vllm:prefix_cache_hits_total", "", 1, vllm}, {"vllm:gpu_prefix_cache_hits_total", "", 1, vllmOld},
		{"sglang:cached_tokens_total", "", 1, sglang}, {"llamacpp:prompt_tokens_cached_total", "", 1, llamacpp},
		{"trtllm_prompt_cached_tokens_total", "", 1, trtllm},
	}}
	cacheUsage = Fact{"share of the KV cache in use", "gauge, 0 to 1", []Name{
		{"vllm:kv_cache_usage_perc", "", 1, vllm}, {"vllm:gpu_cache_usage_perc", "", 1, vllmOld}, {"sglang:token_usage", "", 1, sglang},
		{"trtllm_kv_cache_utilization", "", 1, trtllm}, {"gpu_cache_usage_perc", "", 1, nim},
		{"nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type=fraction", 1, triton},
	}}
	generated = Fact{"output tokens", "counter, tokens", []Name{
		{"vllm:generation_tokens_total", "", 1, vllm}, {"sglang:generation_tokens_total", "", 1, sglang},
		{"llamacpp:tokens_predicted_total", "", 1, llamacpp}, {"tgi_request_generated_tokens_sum", "", 1, tgi},
		{"trtllm_generation_tokens_total", "", 1, trtllm}, {"generation_tokens_total", "", 1, nim},
	}}
	bytesRead = Fact{"memory that one GPU read, as the server reckons it", "counter, bytes", []Name{
		{"vllm:estimated_read_bytes_per_gpu_total", "", 1, vllmPerf},
	}}
	itl = Fact{"ITL", "histogram, s", []Name{
		{"vllm:inter_token_latency_seconds", "", 1, vllm}, {"vllm:time_per_output_token_seconds", "", 1, vllmOld},
		{"sglang:inter_token_latency_seconds", "", 1, sglang}, {"time_per_output_token_seconds", "", 1, nim},
	}}
	ttft = Fact{"TTFT", "histogram, s", []Name{
		{"vllm:time_to_first_token_seconds", "", 1, vllm}, {"sglang:time_to_first_token_seconds", "", 1, sglang},
		{"trtllm_time_to_first_token_seconds", "", 1, trtllm}, {"time_to_first_token_seconds", "", 1, nim},
		{"nv_inference_first_response_histogram_ms", "", 1e-3, triton},
	}}
	queue = Fact{"wait before a request runs", "histogram, s", []Name{
		{"vllm:request_queue_time_seconds", "", 1, vllm}, {"sglang:queue_time_seconds", "", 1, sglang},
		{"tgi_request_queue_duration", "", 1, tgi}, {"trtllm_request_queue_time_seconds", "", 1, trtllm},
	}}
	prefill = Fact{"prefill of a request", "histogram, s", []Name{
		{"vllm:request_prefill_time_seconds", "", 1, vllm}, {"trtllm_request_prefill_time_seconds", "", 1, trtllm},
	}}
	decode = Fact{"first to last token of a request", "histogram, s", []Name{
		{"vllm:request_decode_time_seconds", "", 1, vllm}, {"trtllm_request_decode_time_seconds", "", 1, trtllm},
	}}
	inference = Fact{"time that a request runs", "histogram, s", []Name{
		{"vllm:request_inference_time_seconds", "", 1, vllm}, {"tgi_request_inference_duration", "", 1, tgi},
		{"trtllm_request_inference_time_seconds", "", 1, trtllm},
	}}
	outputs = Fact{"output tokens of a request", "histogram, tokens", []Name{
		{"vllm:request_generation_tokens", "", 1, vllm}, {"tgi_request_generated_tokens", "", 1, tgi}, {"request_generation_tokens", "", 1, nim},
	}}
	atTheEnd    = Fact{"output tokens, counted as a request ends", "counter, tokens", []Name{{"trtllm_generation_tokens_total", "", 1, trtllm}}}
	cacheConfig = Fact{"block size, KV cache and prefix caching, as labels", "gauge", []Name{{"vllm:cache_config_info", "", 1, vllm}}}
	cacheTokens = Fact{"tokens that the KV cache holds", "gauge, tokens", []Name{{"sglang:max_total_num_tokens", "", 1, sglang}}}
)

// Facts are all that is read of a server's metrics.
func Facts() []Fact {
	return slices.Clone([]Fact{running, waiting, successes, generated, itl, ttft, queue, prefill, decode, inference, outputs, atTheEnd, preemptions, cacheHits, cacheUsage, cacheConfig, cacheTokens, bytesRead})
}
