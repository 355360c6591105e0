package simulate

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are vLLM's, under its names, labels and bucket bounds (V1 engine,
// vllm/v1/metrics/loggers.py). Times are those at which tokens were handed to
// the connection, not those that the model asked for.
type metrics struct {
	registry *prometheus.Registry

	promptTokens, promptTokensComputed, generationTokens prometheus.Counter
	finished                                             *prometheus.CounterVec

	ttft, itl, tpot, e2e, queue, prefill, decode, inference, iteration prometheus.Histogram

	// Of each finished request: tokens, or what it asked for.
	prompts, outputs, asked, longest, copies, preemptions, computed prometheus.Histogram
}

// The reasons for which a request ends, label finished_reason. vLLM has more,
// none of which happens here; a client that leaves is in no count of it.
const (
	finishLength = "length"
	finishStop   = "stop"
)

var (
	ttftBuckets = []float64{
		0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
	}
	tokenBuckets = []float64{
		0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
	}
	requestBuckets = []float64{
		0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
	}
	iterationBuckets = []float64{1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}
)

// tokenCountBuckets are 1, 2, 5, 10 and so on up to the model's length.
func tokenCountBuckets(most int) (bounds []float64) {
	for decade := 1; ; decade *= 10 {
		for _, step := range []int{1, 2, 5} {
			if step*decade > most {
				return bounds
			}
			bounds = append(bounds, float64(step*decade))
		}
	}
}

// kvBlock is the tokens of one KV-cache block, vLLM's default.
const kvBlock = 16

// registration adds series to a registry under vLLM's names and labels.
type registration struct {
	registry *prometheus.Registry
	labelled prometheus.Registerer // by model and engine
	named    prometheus.Registerer // by model alone
}

func (r registration) counter(name, help string) prometheus.Counter {
	m := prometheus.NewCounter(prometheus.CounterOpts{Name: "vllm:" + name, Help: help})
	r.labelled.MustRegister(m)
	return m
}

func (r registration) histogram(name, help string, buckets []float64) prometheus.Histogram {
	m := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "vllm:" + name, Help: help, Buckets: buckets})
	r.labelled.MustRegister(m)
	return m
}

func (r registration) gauge(name, help string, labels prometheus.Labels, value func() float64) {
	r.labelled.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vllm:" + name, Help: help, ConstLabels: labels}, value))
}

// constant makes one series for each value of a label, which stays as it is.
func constant(to prometheus.Registerer, kind prometheus.ValueType, name, help, label string, values map[string]float64) {
	for value, n := range values {
		labels := prometheus.Labels{label: value}
		if kind == prometheus.GaugeValue {
			m := prometheus.NewGauge(prometheus.GaugeOpts{Name: "vllm:" + name, Help: help, ConstLabels: labels})
			m.Set(n)
			to.MustRegister(m)
		} else {
			m := prometheus.NewCounter(prometheus.CounterOpts{Name: "vllm:" + name, Help: help, ConstLabels: labels})
			m.Add(n)
			to.MustRegister(m)
		}
	}
}

// load registers what load is asked for at every scrape, and the cache that it is
// measured against.
func (r registration) load(c Config, load func() (running, queued, kvTokens int)) {
	// The cache holds as many tokens as all sequences at their longest, so
	// that max-num-seqs is the only limit and nothing is ever preempted.
	kvBlocks := c.MaxNumSeqs * ((c.MaxModelLen + kvBlock - 1) / kvBlock)
	queued := func() float64 {
		_, queued, _ := load()
		return float64(queued)
	}
	r.gauge("num_requests_running", "Number of requests in model execution batches.", nil, func() float64 {
		running, _, _ := load()
		return float64(running)
	})
	r.gauge("num_requests_waiting", "Number of requests waiting to be processed.", nil, queued)
	r.gauge("kv_cache_usage_perc", "KV-cache usage, a fraction: 1 is full.", nil, func() float64 {
		_, _, kvTokens := load()
		return float64(kvTokens) / float64(kvBlocks*kvBlock)
	})
	// A request waits here for capacity and for nothing else.
	const byReason, help = "num_requests_waiting_by_reason", "Number of requests waiting, by reason."
	constant(r.labelled, prometheus.GaugeValue, byReason, help, "reason", map[string]float64{"deferred": 0})
	r.gauge(byReason, help, prometheus.Labels{"reason": "capacity"}, queued)

	// Of vLLM's labels those that say something of a server without a model.
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "vllm:cache_config_info",
		Help: "Configuration of the KV cache.",
		ConstLabels: prometheus.Labels{
			"engine": "0", "block_size": strconv.Itoa(kvBlock), "num_gpu_blocks": strconv.Itoa(kvBlocks),
			"kv_cache_size_tokens":     strconv.Itoa(kvBlocks * kvBlock),
			"kv_cache_max_concurrency": strconv.FormatFloat(float64(kvBlocks*kvBlock)/float64(c.MaxModelLen), 'f', 1, 64),
			"num_cpu_blocks":           "None", "num_gpu_blocks_override": "None", "user_specified_block_size": "False",
			"enable_prefix_caching": "False", "cache_dtype": "auto", "sliding_window": "None", "is_attention_free": "False",
		},
	})
	info.Set(1)
	r.registry.MustRegister(info)
}

// neverHere registers what does not happen here: no preemption, no cache that requests
// share, no images, no sleep, no limit of the queue. The series are there, at 0, since
// a reader takes the absence of one for an old server.
func (r registration) neverHere() {
	r.counter("num_preemptions_total", "Cumulative number of preemptions.")
	r.counter("prefix_cache_queries_total", "Prefix cache queries, in tokens queried.")
	r.counter("prefix_cache_hits_total", "Prefix cache hits, in tokens cached.")
	r.counter("external_prefix_cache_queries_total", "Prefix cache queries to other servers, in tokens queried.")
	r.counter("external_prefix_cache_hits_total", "Prefix cache hits from other servers, in tokens cached.")
	r.counter("mm_cache_queries_total", "Multi-modal cache queries, in items queried.")
	r.counter("mm_cache_hits_total", "Multi-modal cache hits, in items cached.")
	r.counter("prompt_tokens_cached_total", "Number of cached prompt tokens.")
	constant(r.labelled, prometheus.CounterValue, "prompt_tokens_cached_by_source_total", "Cached prompt tokens, by where they were.", "source",
		map[string]float64{"device": 0, "host": 0, "disk": 0, "p2p": 0, "external_unspecified": 0})
	constant(r.labelled, prometheus.GaugeValue, "engine_sleep_state", "Whether the engine sleeps, by kind of sleep.", "sleep_state",
		map[string]float64{"awake": 1, "weights_offloaded": 0, "discard_all": 0})
	constant(r.named, prometheus.CounterValue,
		"admission_rejections_total", "Requests rejected by a limit of the queue, by limit.", "reason",
		map[string]float64{"max_num_queued_reqs": 0, "max_num_queued_tokens": 0})
}

// computed counts the prompt tokens: every prompt is computed here and now.
func (r registration) computed() prometheus.Counter {
	const bySource, help = "prompt_tokens_by_source_total", "Number of prompt tokens, by source."
	constant(r.labelled, prometheus.CounterValue, bySource, help, "source", map[string]float64{"local_cache_hit": 0, "external_kv_transfer": 0})
	here := prometheus.NewCounter(prometheus.CounterOpts{Name: "vllm:" + bySource, Help: help, ConstLabels: prometheus.Labels{"source": "local_compute"}})
	r.labelled.MustRegister(here)
	return here
}

// newMetrics registers everything; load is asked for the gauges at every scrape.
func newMetrics(c Config, load func() (running, queued, kvTokens int)) *metrics {
	registry := prometheus.NewRegistry()
	r := registration{
		registry: registry,
		labelled: prometheus.WrapRegistererWith(prometheus.Labels{"model_name": c.Model, "engine": "0"}, registry),
		named:    prometheus.WrapRegistererWith(prometheus.Labels{"model_name": c.Model}, registry),
	}
	r.load(c, load)
	r.neverHere()

	tokens := tokenCountBuckets(c.MaxModelLen)
	m := &metrics{
		registry:             registry,
		promptTokens:         r.counter("prompt_tokens_total", "Number of prefill tokens processed."),
		promptTokensComputed: r.computed(),
		generationTokens:     r.counter("generation_tokens_total", "Number of generation tokens processed."),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vllm:request_success_total", Help: "Count of finished requests, by reason.",
		}, []string{"finished_reason"}),

		ttft:      r.histogram("time_to_first_token_seconds", "Time to first token in seconds, queue included.", ttftBuckets),
		itl:       r.histogram("inter_token_latency_seconds", "Inter-token latency in seconds.", tokenBuckets),
		tpot:      r.histogram("request_time_per_output_token_seconds", "Time per output token of a request in seconds, first token excluded.", tokenBuckets),
		e2e:       r.histogram("e2e_request_latency_seconds", "End-to-end latency of a request in seconds.", requestBuckets),
		queue:     r.histogram("request_queue_time_seconds", "Time spent in phase WAITING in seconds.", requestBuckets),
		prefill:   r.histogram("request_prefill_time_seconds", "Time spent in phase PREFILL in seconds.", requestBuckets),
		decode:    r.histogram("request_decode_time_seconds", "Time spent in phase DECODE in seconds.", requestBuckets),
		inference: r.histogram("request_inference_time_seconds", "Time spent in phase RUNNING in seconds.", requestBuckets),
		iteration: r.histogram("iteration_tokens_total", "Number of tokens per engine step.", iterationBuckets),

		prompts:     r.histogram("request_prompt_tokens", "Prompt tokens of a request.", tokens),
		outputs:     r.histogram("request_generation_tokens", "Generated tokens of a request.", tokens),
		computed:    r.histogram("request_prefill_kv_computed_tokens", "Prompt tokens of a request that were not cached.", tokens),
		asked:       r.histogram("request_params_max_tokens", "max_tokens of a request.", tokens),
		longest:     r.histogram("request_max_num_generation_tokens", "Most generated tokens of an output of a request.", tokens),
		copies:      r.histogram("request_params_n", "n of a request.", []float64{1, 2, 5, 10, 20}),
		preemptions: r.histogram("request_num_preemptions", "Times that a request was preempted.", []float64{1, 2, 3, 4, 5, 10, 20}),
	}
	r.labelled.MustRegister(m.finished)
	for _, reason := range []string{finishStop, finishLength, "abort", "error", "repetition"} {
		m.finished.WithLabelValues(reason) // vLLM shows them from the start
	}
	return m
}

func (m *metrics) handler(sglang bool) http.Handler {
	if sglang {
		return promhttp.HandlerFor(asSGLang(m.registry), promhttp.HandlerOpts{})
	}
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// timing follows the tokens of one request as they are delivered.
type timing struct {
	metrics     *metrics
	sequence    *sequence
	tokens      int
	first, last time.Duration
}

// delivered counts n more tokens, handed over together at one time.
func (t *timing) delivered(n int, now time.Duration) {
	if n == 0 {
		return
	}
	m := t.metrics
	m.generationTokens.Add(float64(n))
	if t.tokens == 0 {
		t.first, t.last = now, now
		m.promptTokens.Add(float64(t.sequence.prompt))
		m.promptTokensComputed.Add(float64(t.sequence.prompt))
		m.ttft.Observe((now - t.sequence.arrived).Seconds())
		t.tokens, n = 1, n-1
	}
	for range n {
		m.itl.Observe((now - t.last).Seconds())
		t.last = now
		t.tokens++
	}
}

// complete counts the request as finished for reason; it had asked for at most so
// many tokens.
func (t *timing) complete(reason string, asked int) {
	m, q := t.metrics, t.sequence
	m.queue.Observe((q.admitted - q.arrived).Seconds())
	m.prefill.Observe((t.first - q.admitted).Seconds())
	m.decode.Observe((t.last - t.first).Seconds())
	m.inference.Observe((t.last - q.admitted).Seconds())
	m.e2e.Observe((t.last - q.arrived).Seconds())
	m.tpot.Observe((t.last - t.first).Seconds() / float64(max(1, t.tokens-1)))
	m.prompts.Observe(float64(q.prompt))
	m.computed.Observe(float64(q.prompt))
	m.outputs.Observe(float64(t.tokens))
	m.longest.Observe(float64(t.tokens))
	m.asked.Observe(float64(asked))
	m.copies.Observe(1)
	m.preemptions.Observe(0)
	m.finished.WithLabelValues(reason).Inc()
}
