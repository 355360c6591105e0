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

	promptTokens, generationTokens prometheus.Counter
	finished                       *prometheus.CounterVec

	ttft, itl, tpot, e2e, queue, prefill, decode, iteration prometheus.Histogram
}

// The reasons for which a request ends, label finished_reason.
const (
	finishLength = "length"
	finishStop   = "stop"
	finishAbort  = "abort"
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

// kvBlock is the tokens of one KV-cache block, vLLM's default.
const kvBlock = 16

// newMetrics registers everything; load is asked for the gauges at every scrape.
func newMetrics(c Config, load func() (running, queued, kvTokens int)) *metrics {
	registry := prometheus.NewRegistry()
	labelled := prometheus.WrapRegistererWith(prometheus.Labels{"model_name": c.Model, "engine": "0"}, registry)

	counter := func(name, help string) prometheus.Counter {
		m := prometheus.NewCounter(prometheus.CounterOpts{Name: "vllm:" + name, Help: help})
		labelled.MustRegister(m)
		return m
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		m := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "vllm:" + name, Help: help, Buckets: buckets})
		labelled.MustRegister(m)
		return m
	}
	gauge := func(name, help string, value func() float64) {
		labelled.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vllm:" + name, Help: help}, value))
	}

	// The cache holds as many tokens as all sequences at their longest, so
	// that max-num-seqs is the only limit and nothing is ever preempted.
	kvBlocks := c.MaxNumSeqs * ((c.MaxModelLen + kvBlock - 1) / kvBlock)
	gauge("num_requests_running", "Number of requests in model execution batches.", func() float64 {
		running, _, _ := load()
		return float64(running)
	})
	gauge("num_requests_waiting", "Number of requests waiting to be processed.", func() float64 {
		_, queued, _ := load()
		return float64(queued)
	})
	gauge("kv_cache_usage_perc", "KV-cache usage, a fraction: 1 is full.", func() float64 {
		_, _, kvTokens := load()
		return float64(kvTokens) / float64(kvBlocks*kvBlock)
	})
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "vllm:cache_config_info",
		Help: "Configuration of the KV cache.",
		ConstLabels: prometheus.Labels{
			"engine": "0", "block_size": strconv.Itoa(kvBlock), "num_gpu_blocks": strconv.Itoa(kvBlocks),
			"enable_prefix_caching": "False", "cache_dtype": "auto",
		},
	})
	info.Set(1)
	registry.MustRegister(info)

	// There is no prefix cache and no preemption here; the counters are, at 0.
	counter("num_preemptions_total", "Cumulative number of preemptions.")
	counter("prefix_cache_queries_total", "Prefix cache queries, in tokens queried.")
	counter("prefix_cache_hits_total", "Prefix cache hits, in tokens cached.")

	m := &metrics{
		registry:         registry,
		promptTokens:     counter("prompt_tokens_total", "Number of prefill tokens processed."),
		generationTokens: counter("generation_tokens_total", "Number of generation tokens processed."),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vllm:request_success_total", Help: "Count of finished requests, by reason.",
		}, []string{"finished_reason"}),

		ttft:      histogram("time_to_first_token_seconds", "Time to first token in seconds, queue included.", ttftBuckets),
		itl:       histogram("inter_token_latency_seconds", "Inter-token latency in seconds.", tokenBuckets),
		tpot:      histogram("request_time_per_output_token_seconds", "Time per output token of a request in seconds, first token excluded.", tokenBuckets),
		e2e:       histogram("e2e_request_latency_seconds", "End-to-end latency of a request in seconds.", requestBuckets),
		queue:     histogram("request_queue_time_seconds", "Time spent in phase WAITING in seconds.", requestBuckets),
		prefill:   histogram("request_prefill_time_seconds", "Time spent in phase PREFILL in seconds.", requestBuckets),
		decode:    histogram("request_decode_time_seconds", "Time spent in phase DECODE in seconds.", requestBuckets),
		iteration: histogram("iteration_tokens_total", "Number of tokens per engine step.", iterationBuckets),
	}
	labelled.MustRegister(m.finished)
	for _, reason := range []string{finishStop, finishLength, finishAbort} {
		m.finished.WithLabelValues(reason) // vLLM shows them from the start
	}
	return m
}

func (m *metrics) handler() http.Handler {
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
		m.ttft.Observe((now - t.sequence.arrived).Seconds())
		t.tokens, n = 1, n-1
	}
	for range n {
		m.itl.Observe((now - t.last).Seconds())
		t.last = now
		t.tokens++
	}
}

// complete counts the request as finished for reason.
func (t *timing) complete(reason string) {
	m, q := t.metrics, t.sequence
	m.queue.Observe((q.admitted - q.arrived).Seconds())
	m.prefill.Observe((t.first - q.admitted).Seconds())
	m.decode.Observe((t.last - t.first).Seconds())
	m.e2e.Observe((t.last - q.arrived).Seconds())
	if t.tokens > 1 {
		m.tpot.Observe((t.last - t.first).Seconds() / float64(t.tokens-1))
	}
	m.finished.WithLabelValues(reason).Inc()
}
