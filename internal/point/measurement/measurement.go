// Package measurement holds what one point produced: the small, versioned
// record from which parameters are estimated, and the pure functions that
// reduce raw rows and scrapes to it. It does no I/O.
package measurement

import (
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
)

// Schema names the version of the measurement file.
const Schema = "wfgen.dev/measurement/v1"

// Measurement is one point, reduced. Latencies are in milliseconds, times in
// Unix seconds, lengths in tokens. It holds no prompts and no outputs.
type Measurement struct {
	Schema      string      `json:"schema"`
	Model       string      `json:"model"`
	Accelerator string      `json:"accelerator"`
	Shape       sweep.Shape `json:"shape"`      // asked for
	BatchSize   int         `json:"batch_size"` // nominal: asked for

	// Reported are reasons that came with the report, which no weighing of the witnesses
	// can find. Files of earlier versions do not keep them apart.
	Reported *Reported `json:"reported,omitempty"`

	// Taken is what an estimate uses by default, and from which witness.
	Taken Taken `json:"taken"`

	Client *Witness `json:"client,omitempty"` // as the load generator saw it
	Server *Witness `json:"server,omitempty"` // as the server's /metrics saw it
	Probe  *Witness `json:"probe,omitempty"`  // as the native driver saw it, for a moment afterwards, at the same batch size

	// Open is there where requests arrived at a rate. BatchSize is then what was measured.
	Open *Open `json:"open,omitempty"`

	Requests     Requests `json:"requests"`
	PromptTokens float64  `json:"prompt_tokens"`          // counted by the server, mean per request
	OutputTokens float64  `json:"output_tokens"`          // counted by the server, mean per request
	AskedTokens  float64  `json:"asked_tokens,omitempty"` // of the same answers, asked for; 0: Shape's

	Driver          Driver     `json:"driver"`
	StartedAt       float64    `json:"started_at"`       // Unix seconds of the first request
	Seconds         float64    `json:"seconds"`          // first request to last answer
	OverheadSeconds float64    `json:"overhead_seconds"` // what the point cost beyond Seconds: process start, warm-up of the client, shutdown, probe
	Partial         bool       `json:"partial,omitempty"`
	Ended           string     `json:"ended,omitempty"` // why its load did: precision, max-seconds or max-requests; empty: the driver does not say
	Notes           []string   `json:"notes,omitempty"` // what a reader of the numbers should know
	Provenance      Provenance `json:"provenance"`
}

// Witness is one side's view of the steady window of a point.
type Witness struct {
	ITL  *Estimate `json:"itl,omitempty"`  // inter-token latency, first token excluded
	TTFT *Estimate `json:"ttft,omitempty"` // time to first token

	Batch         float64 `json:"batch"`          // time-weighted mean of requests in flight (client) or running (server)
	Requests      int     `json:"requests"`       // requests of the whole point that this side counted, warm-up included
	WindowStart   float64 `json:"window_start"`   // Unix seconds
	WindowSeconds float64 `json:"window_seconds"` // length of the steady window
	Basis         string  `json:"basis"`          // what the numbers were made of: rows, summary, histograms, console

	// Plain is what a plain report of the same rows would have said.
	Plain *Plain `json:"plain,omitempty"`

	Course *Course `json:"course,omitempty"` // of the whole point, warm-up and drain included
	// Stream is how the answers came to the client; nil: it does not say.
	Stream *Stream `json:"stream,omitempty"`
	// Crowding is how much more requests begin together than if streams knew nothing of
	// each other, which is 1: variance over mean of the begins within one ITL. Nil: too few.
	Crowding *float64 `json:"crowding,omitempty"`

	// Only the server knows these.
	Tokens          *float64 `json:"tokens,omitempty"`            // output tokens that it made in the whole point, warm-up included
	TokensPerGap    *float64 `json:"tokens_per_gap,omitempty"`    // where its histogram of ITL counts steps of several tokens: so many; ITL is then made of whole requests, or absent
	RunningMS       *float64 `json:"running_ms,omitempty"`        // mean time that a request ran, its queue left out
	Gaps            *float64 `json:"gaps,omitempty"`              // gaps between output tokens in the whole point, warm-up included
	QueueMS         *float64 `json:"queue_ms,omitempty"`          // mean wait before a request ran; of the client: what its rows show of one
	PrefillMS       *float64 `json:"prefill_ms,omitempty"`        // mean prefill
	WaitingMean     *float64 `json:"waiting_mean,omitempty"`      // mean of requests waiting over the window
	Full            *float64 `json:"full,omitempty"`              // most requests that ran together, where others waited in every scrape of the window: as many as it can
	Preemptions     *float64 `json:"preemptions,omitempty"`       // count in the whole point
	PrefixCacheHits *float64 `json:"prefix_cache_hits,omitempty"` // tokens (vLLM) in the whole point
	KVCacheUsage    *float64 `json:"kv_cache_usage,omitempty"`    // 0..1, largest seen
	BytesRead       *float64 `json:"bytes_read,omitempty"`        // of its memory by one GPU in the whole point, as the server reckons it
}

// Stream says whether what arrived at the client can be tokens, over the requests of
// the steady window.
type Stream struct {
	PiecesPerToken float64 `json:"pieces_per_token"` // pieces with content over counted tokens
	FirstTokens    float64 `json:"first_tokens"`     // tokens that came together with the first, median
	Instant        float64 `json:"instant"`          // share of the gaps between pieces that took no time
	LastTogether   float64 `json:"last_together"`    // share of the answers whose last two pieces came at one moment
}

// Reported is why a point may not be used, by whoever read its report or watched its
// server.
type Reported struct {
	Void     []reason.Reason `json:"void,omitempty"`      // no parameter may use it
	VoidTTFT []reason.Reason `json:"void_ttft,omitempty"` // gamma and delta may not
}

// Taken is the outcome of weighing the witnesses: the numbers that an estimate
// uses, who said each, and why the point may not be used.
type Taken struct {
	Source   string   `json:"source"` // asked for: auto, server or client
	ITL      *Value   `json:"itl,omitempty"`
	TTFT     *Value   `json:"ttft,omitempty"`
	Batch    float64  `json:"batch"`               // measured batch size
	Void     []string `json:"void,omitempty"`      // why no parameter may use this point
	VoidTTFT []string `json:"void_ttft,omitempty"` // why gamma and delta may not use it
	Warnings []string `json:"warnings,omitempty"`

	// Findings are the reasons in Void, VoidTTFT and Warnings, each with its code.
	Findings []reason.Reason `json:"findings,omitempty"`

	// How far the witnesses differ: client over server minus one, percent; over
	// the probe where there is one, for then the server's numbers were no use.
	ITLDifferencePercent  *float64 `json:"itl_difference_percent,omitempty"`
	TTFTDifferencePercent *float64 `json:"ttft_difference_percent,omitempty"`
}

// Value is one number that an estimate uses.
type Value struct {
	MS              float64 `json:"ms"`
	StandardErrorMS float64 `json:"standard_error_ms"` // 0: not known
	Blocks          int     `json:"blocks,omitempty"`  // independent blocks that the standard error is worth
	From            string  `json:"from"`              // server, client or probe
	Statistic       string  `json:"statistic"`         // mean or median
}

// Plain is the summary that load generators print: over every successful request,
// start-up and drain included.
type Plain struct {
	ITLMS  float64 `json:"itl_ms"`  // mean, weighted by gaps
	TTFTMS float64 `json:"ttft_ms"` // mean
	Batch  float64 `json:"batch"`   // mean of requests in flight, first start to last end
}

// Estimate is a mean with the standard error that respects correlation, ms.
type Estimate struct {
	MeanMS          float64 `json:"mean_ms"`
	MedianMS        float64 `json:"median_ms,omitempty"`         // of requests; 0 where only sums are known
	StandardErrorMS float64 `json:"standard_error_ms,omitempty"` // of the mean; 0 where it cannot be known
	Blocks          int     `json:"blocks,omitempty"`            // independent blocks of time that the standard error is worth
	Samples         int     `json:"samples"`                     // requests (client) or observations (server) behind the mean

	Quantiles *Quantiles `json:"quantiles,omitempty"` // of requests; absent where only sums are known
}

// Requests counts what became of the requests of a point.
type Requests struct {
	Successful int            `json:"successful"`
	Errored    int            `json:"errored"`
	Incomplete int            `json:"incomplete"`       // cut off by the end of the run
	Cut        int            `json:"cut,omitempty"`    // successful, but ended by the server for their length before they were as long as asked
	InWindow   int            `json:"in_window"`        // successful and wholly inside the steady window
	Errors     map[string]int `json:"errors,omitempty"` // what went wrong, and how often
}

// InFlight is how many requests were in flight in the mean of a run, where completed is
// how many of those were that the run completed: a tool's own statistics leave out what
// the end of the run cut off. Such a request had been in flight for half as long as one
// takes, and by Little's law completed is Successful times that long over the run's length.
func (r Requests) InFlight(completed float64) float64 {
	if r.Successful == 0 {
		return completed
	}
	return completed * (1 + float64(r.Incomplete)/float64(2*r.Successful))
}

// Driver is what made the load.
type Driver struct {
	Name    string `json:"name"` // guidellm or native
	Version string `json:"version,omitempty"`
}

// Provenance is what else must be equal for two measurements to be comparable.
type Provenance struct {
	Target        string            `json:"target,omitempty"`         // URL of the server, without credentials
	Report        string            `json:"report,omitempty"`         // the raw report that was reduced
	ServerVersion string            `json:"server_version,omitempty"` // as the server says it
	MaxModelLen   int               `json:"max_model_len,omitempty"`
	Tool          string            `json:"tool,omitempty"` // version of step
	Labels        map[string]string `json:"labels,omitempty"`
	Cache         *Cache            `json:"cache,omitempty"` // nil: the server does not say
	Instance
}

// What is seen of a server and of its requests has a package of its own, since who asks
// the server sees it.
type (
	Request   = record.Request
	Scrape    = record.Scrape
	Histogram = record.Histogram
	Cache     = record.Cache
	Instance  = record.Instance
)
