package llm

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"wfgen.dev/internal/point/measurement"
)

// names lists, per fact, the metric that says it: vLLM's, vLLM's older ones,
// SGLang's. The first that the server has is taken.
var names = struct {
	running, waiting, successes, preemptions, prefixHits, kvUsage []string
	itl, ttft, queue, prefill                                     []string
}{
	running:     []string{"vllm:num_requests_running", "sglang:num_running_reqs"},
	waiting:     []string{"vllm:num_requests_waiting", "sglang:num_queue_reqs"},
	successes:   []string{"vllm:request_success_total", "sglang:num_requests_total"},
	preemptions: []string{"vllm:num_preemptions_total"},
	prefixHits:  []string{"vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total", "sglang:cached_tokens_total"},
	kvUsage:     []string{"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"},
	itl:         []string{"vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds", "sglang:inter_token_latency_seconds"},
	ttft:        []string{"vllm:time_to_first_token_seconds", "sglang:time_to_first_token_seconds"},
	queue:       []string{"vllm:request_queue_time_seconds", "sglang:queue_time_seconds"},
	prefill:     []string{"vllm:request_prefill_time_seconds"},
}

// Scrape reads /metrics once. Series of several engines are added up; those of
// another model behind the same address are left out.
func (c *Client) Scrape(ctx context.Context, modelName string) (measurement.Scrape, error) {
	page, at, err := c.metrics(ctx, modelName)
	if err != nil {
		return measurement.Scrape{}, err
	}
	s := measurement.Scrape{
		Time:            measurement.Unix(at),
		Running:         *page.value(names.running),
		Successes:       page.value(names.successes),
		Preemptions:     page.value(names.preemptions),
		PrefixCacheHits: page.value(names.prefixHits),
		KVCacheUsage:    page.value(names.kvUsage),
		ITL:             page.histogram(names.itl),
		TTFT:            page.histogram(names.ttft),
		Queue:           page.histogram(names.queue),
		Prefill:         page.histogram(names.prefill),
	}
	if waiting := page.value(names.waiting); waiting != nil {
		s.Waiting = *waiting
	}
	s.Odd = slices.Sorted(maps.Keys(page.odd))
	return s, nil
}

// Cache asks /metrics what the server's KV cache is. It is nil where a server with
// metrics does not tell; the error says that there are none.
func (c *Client) Cache(ctx context.Context, modelName string) (*measurement.Cache, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	page, _, err := c.metrics(ctx, modelName)
	if err != nil {
		return nil, err
	}
	return page.cache(), nil
}

// mostMetrics is the most that a page of metrics may hold, bytes: a hundred times what
// vLLM's holds.
const mostMetrics = 16 << 20

// metrics reads /metrics, which must be those of an LLM server.
func (c *Client) metrics(ctx context.Context, modelName string) (page, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.Do(ctx, "/metrics", nil)
	if err != nil {
		return page{}, time.Time{}, err
	}
	defer resp.Body.Close()
	at := time.Now()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	body := &io.LimitedReader{R: resp.Body, N: mostMetrics}
	families, err := parser.TextToMetricFamilies(body)
	if body.N == 0 {
		return page{}, at, fmt.Errorf("/metrics: longer than %d bytes, which no server's are", mostMetrics)
	}
	if err != nil {
		return page{}, at, fmt.Errorf("/metrics: %s", c.Said(err.Error()))
	}
	p := page{families: families, model: modelName, odd: map[string]bool{}}
	if p.value(names.running) == nil {
		for _, name := range names.running {
			if p.odd[name] {
				return page{}, at, fmt.Errorf("/metrics: %s is no number of requests", name)
			}
		}
		return page{}, at, fmt.Errorf("/metrics: none of %v is there; is it vLLM or SGLang that answers?", names.running)
	}
	return p, at, nil
}

// cache reads the labels of vLLM's cache_config_info, one series per engine, and
// SGLang's gauge.
func (p page) cache() *measurement.Cache {
	var c measurement.Cache
	p.series([]string{"vllm:cache_config_info"}, func(_ string, m *dto.Metric) {
		number := map[string]int{}
		for _, l := range m.GetLabel() {
			if n, err := strconv.Atoi(l.GetValue()); err == nil && n >= 0 && n <= math.MaxInt32 {
				number[l.GetName()] = n
			}
			if on, err := strconv.ParseBool(l.GetValue()); err == nil && l.GetName() == "enable_prefix_caching" {
				c.PrefixCaching = &on
			}
		}
		c.BlockSize = number["block_size"]
		c.Tokens += cmp.Or(number["kv_cache_size_tokens"], number["num_gpu_blocks"]*number["block_size"])
	})
	if tokens := p.value([]string{"sglang:max_total_num_tokens"}); tokens != nil {
		c.Tokens = int(*tokens)
	}
	if c == (measurement.Cache{}) {
		return nil
	}
	return &c
}

type page struct {
	families map[string]*dto.MetricFamily
	model    string
	odd      map[string]bool // names of metrics that say what cannot be
}

// mostCounted is above all that a server can have counted, and below the numbers in
// which a float has no ones left.
const mostCounted = 1 << 52

// possible says whether a metric may be x; one that may not is as if it were not there.
func (p page) possible(name string, x float64) bool {
	if x >= 0 && x <= mostCounted {
		return true
	}
	p.odd[name] = true
	return false
}

// series visits the series of the first name that is there.
func (p page) series(names []string, visit func(name string, m *dto.Metric)) {
	for _, name := range names {
		family, ok := p.families[name]
		if !ok {
			continue
		}
	metrics:
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "model_name" && l.GetValue() != p.model {
					continue metrics
				}
			}
			visit(name, m)
		}
		return
	}
}

// value is the sum of a counter or gauge; nil where the server does not report it, or
// reports what cannot be.
func (p page) value(names []string) *float64 {
	var sum *float64
	sound := true
	p.series(names, func(name string, m *dto.Metric) {
		v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
		sound = p.possible(name, v) && sound
		if sum != nil {
			v += *sum
		}
		sum = &v
	})
	if !sound {
		return nil
	}
	return sum
}

// histogram is the sum of a histogram's series, as value is of a gauge's.
func (p page) histogram(names []string) *measurement.Histogram {
	var sum *measurement.Histogram
	sound := true
	p.series(names, func(name string, m *dto.Metric) {
		if m.Histogram == nil {
			return
		}
		if sum == nil {
			sum = &measurement.Histogram{}
		}
		seconds, count := m.Histogram.GetSampleSum(), float64(m.Histogram.GetSampleCount())
		sound = p.possible(name, seconds) && p.possible(name, count) && sound
		sum.SumSeconds += seconds
		sum.Count += count
	})
	if !sound {
		return nil
	}
	return sum
}
