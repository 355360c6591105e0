// Package record holds what is seen of a server from outside: what became of each
// request, what its /metrics said, and what it runs as. A measurement is made of it.
package record

import "time"

// Request is one row of a report. Times are Unix seconds; a time that did not
// happen is 0.
type Request struct {
	Start      float64 // sent
	FirstToken float64 // first output token arrived
	LastToken  float64 // last output token arrived
	End        float64 // answer complete

	PromptTokens int   // counted by the server
	OutputTokens int   // counted by the server
	AskedTokens  int32 // of the answer; 0: not known
	CachedTokens int32 // of the prompt, found in the server's cache
	Status       Status
	Cut          bool // ended for its length before it was as long as asked
	LastTogether bool // its last two pieces came at one moment

	// How the answer came; 0: not known. Many rows are held: the small kinds of numbers do.
	Pieces      int32   // with content
	Instant     int32   // gaps between them that took no time
	FirstTokens float32 // tokens that came together with the first

	// The server's own times, ms; 0: it does not say.
	PrefillMS float32
	DecodeMS  float32 // first to last token
}

// Status is what became of a request.
type Status uint8

// What became of a request.
const (
	Successful Status = iota
	Errored
	Incomplete
)

// Scrape is the server's /metrics at one moment: running totals, from which
// differences over a window are exact. A nil field is one that the server does
// not report.
type Scrape struct {
	Time            float64    `json:"time"` // Unix seconds
	Running         float64    `json:"running"`
	Odd             []string   `json:"odd,omitempty"` // metrics that said what cannot be, such as NaN, and are left out
	Waiting         float64    `json:"waiting"`
	Successes       *float64   `json:"successes,omitempty"`
	Preemptions     *float64   `json:"preemptions,omitempty"`
	PrefixCacheHits *float64   `json:"prefix_cache_hits,omitempty"`
	KVCacheUsage    *float64   `json:"kv_cache_usage,omitempty"`
	ITL             *Histogram `json:"itl,omitempty"`
	TTFT            *Histogram `json:"ttft,omitempty"`
	Queue           *Histogram `json:"queue,omitempty"`
	Prefill         *Histogram `json:"prefill,omitempty"`
	Decode          *Histogram `json:"decode,omitempty"`     // of finished requests: first to last token
	Inference       *Histogram `json:"inference,omitempty"`  // of finished requests: time that they ran
	Outputs         *Histogram `json:"outputs,omitempty"`    // of finished requests: tokens, not seconds
	Generated       *float64   `json:"generated,omitempty"`  // output tokens of all requests
	BytesRead       *float64   `json:"bytes_read,omitempty"` // of its memory by one GPU, as the server reckons it
}

// Histogram is the exact part of a Prometheus histogram.
type Histogram struct {
	SumSeconds float64 `json:"sum_seconds"`
	Count      float64 `json:"count"`
}

// Cache is what a server says of its KV cache; a zero field is one that it does not
// say.
type Cache struct {
	Tokens        int   `json:"tokens,omitempty"`         // that fit, of all requests together
	BlockSize     int   `json:"block_size,omitempty"`     // tokens
	PrefixCaching *bool `json:"prefix_caching,omitempty"` // answers from the prefix cache make prefill cheaper than it is
}

// Instance is what a server runs as. Whoever started it, or may read its pod, knows;
// a field that is empty is not known.
type Instance struct {
	Pod         string   `json:"pod,omitempty"`
	Node        string   `json:"node,omitempty"`
	Image       string   `json:"image,omitempty"`        // as it was asked for
	ImageDigest string   `json:"image_digest,omitempty"` // what ran: sha256:...
	Args        []string `json:"args,omitempty"`         // command and arguments of the container, keys masked
	GPU         string   `json:"gpu,omitempty"`          // product, as the node's labels say it
	GPUDriver   string   `json:"gpu_driver,omitempty"`   // version
}

// begin is what the times of a process are counted from.
var begin = time.Now()

// Unix is t in Unix seconds, by a clock that is read once and then runs evenly: when
// the machine's is set meanwhile, the times of one point still have their distances.
// t must be one that time.Now gave.
func Unix(t time.Time) float64 {
	return float64(begin.UnixMicro()+t.Sub(begin).Microseconds()) / 1e6
}
