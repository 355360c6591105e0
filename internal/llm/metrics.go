package llm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"wfgen.dev/internal/llm/record"
)

// metricsPaths are where servers keep their metrics: most at the first, NIM at the
// second, trtllm-serve at the third.
var metricsPaths = []string{"/metrics", "/v1/metrics", "/prometheus/metrics"}

// mostMetrics is the most that a page of metrics may hold, bytes: a hundred times what
// vLLM's holds.
const mostMetrics = 16 << 20

// Scrape reads the server's metrics once. Series of several engines are added up, those
// of ranks that report the same are not; those of another model behind the same address
// are left out.
func (c *Client) Scrape(ctx context.Context, modelName string) (record.Scrape, error) {
	p, at, err := c.metrics(ctx, modelName)
	if err != nil {
		return record.Scrape{}, err
	}
	s := record.Scrape{
		Time:            record.Unix(at),
		Successes:       p.value(successes),
		Preemptions:     p.value(preemptions),
		PrefixCacheHits: p.value(cacheHits),
		KVCacheUsage:    p.value(cacheUsage),
		ITL:             p.histogram(itl),
		TTFT:            p.histogram(ttft),
		Queue:           p.histogram(queue),
		Prefill:         p.histogram(prefill),
		Decode:          p.histogram(decode),
		Inference:       p.histogram(inference),
		Outputs:         p.histogram(outputs),
		Generated:       p.value(generated),
		BytesRead:       p.value(bytesRead),
	}
	if s.Outputs == nil {
		s.Outputs = p.outputsOfTotals()
	}
	for to, fact := range map[*float64]Fact{&s.Running: running, &s.Waiting: waiting} {
		if v := p.value(fact); v != nil {
			*to = *v
		}
	}
	s.Odd = slices.Sorted(maps.Values(p.odd))
	return s, nil
}

// Cache asks the server's metrics what its KV cache is. It is nil where a server with
// metrics does not tell; the error says that there are none.
func (c *Client) Cache(ctx context.Context, modelName string) (*record.Cache, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	p, _, err := c.metrics(ctx, modelName)
	if err != nil {
		return nil, err
	}
	return p.cache(), nil
}

// metrics reads the metrics, which must be those of an LLM server. Where they are is
// remembered.
func (c *Client) metrics(ctx context.Context, modelName string) (page, time.Time, error) {
	paths := metricsPaths
	if known := c.metricsAt.Load(); known != nil {
		paths = []string{*known}
	}
	var first error
	for _, path := range paths {
		p, at, err := c.metricsOf(ctx, path, modelName)
		if err == nil {
			c.metricsAt.Store(&path)
			return p, at, nil
		}
		if first == nil {
			first = err
		}
		var status *StatusError
		if !errors.As(err, &status) && !errors.Is(err, errContent) {
			break // nobody is there, whatever one asks for
		}
	}
	return page{}, time.Time{}, first
}

func (c *Client) metricsOf(ctx context.Context, path, modelName string) (page, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.Do(ctx, path, nil)
	if err != nil {
		return page{}, time.Time{}, err
	}
	defer resp.Body.Close()
	at := time.Now()
	text, err := io.ReadAll(io.LimitReader(resp.Body, mostMetrics+1))
	if err != nil {
		return page{}, at, err
	}
	if len(text) > mostMetrics {
		return page{}, at, fmt.Errorf("%s: longer than %d bytes, which no server's are", path, mostMetrics)
	}
	p := parsePage(text, modelName)
	if odd := slices.Sorted(maps.Values(p.odd)); len(p.series) == 0 && len(odd) > 0 {
		return page{}, at, fmt.Errorf("%s: %s is no number of requests", path, odd[0])
	}
	if len(p.series) == 0 {
		return page{}, at, fmt.Errorf("%s: %w: none of the metrics that are known (docs/engines.md) is there", path, errContent)
	}
	return p, at, nil
}

// cache reads the labels of vLLM's cache_config_info, one series per engine, and
// SGLang's gauge.
func (p page) cache() *record.Cache {
	var c record.Cache
	for _, s := range p.of(cacheConfig) {
		number := map[string]int{}
		for name, value := range s.labels {
			if n, err := strconv.Atoi(value); err == nil && n >= 0 && n <= math.MaxInt32 {
				number[name] = n
			}
			if on, err := strconv.ParseBool(value); err == nil && name == "enable_prefix_caching" {
				c.PrefixCaching = &on
			}
		}
		c.BlockSize = number["block_size"]
		c.Tokens += cmp.Or(number["kv_cache_size_tokens"], number["num_gpu_blocks"]*number["block_size"])
	}
	if tokens := p.value(cacheTokens); tokens != nil {
		c.Tokens = int(*tokens)
	}
	if c == (record.Cache{}) {
		return nil
	}
	return &c
}
