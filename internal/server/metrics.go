package server

import (
	"context"
	"fmt"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"wfgen.dev/internal/measurement"
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
	resp, err := c.Do(ctx, "/metrics", nil)
	if err != nil {
		return measurement.Scrape{}, err
	}
	defer resp.Body.Close()
	at := time.Now()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return measurement.Scrape{}, fmt.Errorf("/metrics: %w", err)
	}
	page := page{families: families, model: modelName}
	running := page.value(names.running)
	if running == nil {
		return measurement.Scrape{}, fmt.Errorf("/metrics: none of %v is there; is it vLLM or SGLang that answers?", names.running)
	}
	s := measurement.Scrape{
		Time:            float64(at.UnixNano()) / 1e9,
		Running:         *running,
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
	return s, nil
}

type page struct {
	families map[string]*dto.MetricFamily
	model    string
}

// series visits the series of the first name that is there.
func (p page) series(names []string, visit func(*dto.Metric)) {
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
			visit(m)
		}
		return
	}
}

// value is the sum of a counter or gauge; nil where the server does not report it.
func (p page) value(names []string) *float64 {
	var sum *float64
	p.series(names, func(m *dto.Metric) {
		v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
		if sum != nil {
			v += *sum
		}
		sum = &v
	})
	return sum
}

func (p page) histogram(names []string) *measurement.Histogram {
	var sum *measurement.Histogram
	p.series(names, func(m *dto.Metric) {
		if m.Histogram == nil {
			return
		}
		if sum == nil {
			sum = &measurement.Histogram{}
		}
		sum.SumSeconds += m.Histogram.GetSampleSum()
		sum.Count += float64(m.Histogram.GetSampleCount())
	})
	return sum
}
