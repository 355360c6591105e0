// Package simulate is an OpenAI-compatible LLM server without a model. It
// speaks vLLM's protocol (completions, chat, SSE streaming, /tokenize,
// /metrics) and delivers tokens at the times that its configuration says, so that
// a calibration against it has a known answer: either at those of the linear4
// model, or at those of an engine that batches as vLLM's does, iteration by
// iteration, where queueing, bends and the waits of a busy server come from a
// mechanism.
//
// One whitespace-separated word is one token, of prompts as of outputs.
//
// The parts, from the outside in: Server answers HTTP; pacer owns the clock and
// wakes the streams; a scheduler decides, as a pure function of time, when each
// token comes. Each kind of server behaviour is a scheduler. Closed runs one in
// virtual time, without a server.
package simulate

import (
	"errors"
	"fmt"
	"math"
	"time"

	"wfgen.dev/internal/sweep"
)

// The defaults that New puts in the place of zeros, and that the command line shows.
const (
	DefaultModel       = sweep.SimulatedModel
	DefaultMaxNumSeqs  = sweep.SimulatedMaxNumSeqs
	DefaultMaxModelLen = sweep.SimulatedMaxModelLen

	// DefaultMaxNumBatchedTokens is vLLM's on most GPUs.
	DefaultMaxNumBatchedTokens = 2048

	// DefaultWanderMemory is about half a second of a GPU that decodes.
	DefaultWanderMemory = 64
)

// The kinds of latency.
const (
	Linear4 = "linear4"
	Engine  = "engine"
)

// Config says what server to simulate. Times are in milliseconds. Under Linear4
//
//	ITL  = Alpha + Beta*n
//	TTFT = Gamma + Delta*promptTokens*n
//
// where n is the number of requests running, including the one concerned. Under
// Engine, an iteration takes
//
//	Base + Seq*decoding + Ctx*context + Pre*prefilled + Pre2*pairs
//
// for the sequences that it decodes, the tokens of their contexts, and the prompt
// tokens that it prefills; pairs add up to the square of a prompt's length.
type Config struct {
	Model   string // the only model served; empty: DefaultModel
	Version string // what /version reports; empty: "simulate"

	Latency string // Linear4 or Engine; empty: Linear4

	// Of Linear4.
	Alpha float64 // ms
	Beta  float64 // ms per request
	Gamma float64 // ms
	Delta float64 // ms per prompt token per request

	// Of Engine.
	Base float64 // ms per iteration, above 0
	Seq  float64 // ms per decoding sequence
	Ctx  float64 // ms per token of context of the decoding sequences
	Pre  float64 // ms per prefilled token
	Pre2 float64 // ms per prefilled token squared

	// Jitter is the relative standard deviation of every TTFT and every token
	// gap (Linear4) or of every iteration (Engine), each drawn by itself. Wander
	// is that of a speed which all share and which changes slowly: it is
	// forgotten within WanderMemory iterations (0: DefaultWanderMemory). The
	// means stay what the model says.
	// Stalls is the share of the time that is lost to those TTFTs, gaps or iterations
	// that take ten times as long, for the garbage collection or the neighbour that
	// every server meets; the others are faster for it.
	Jitter       float64
	Stalls       float64
	Wander       float64
	WanderMemory float64
	Seed         int64 // of jitter, wander, faults and early ends

	MaxNumSeqs          int // requests that run at once, the others wait; 0: DefaultMaxNumSeqs
	MaxNumBatchedTokens int // of Engine: tokens of an iteration; 0: DefaultMaxNumBatchedTokens, or MaxNumSeqs if that is more
	MaxModelLen         int // tokens of a prompt and its output; 0: DefaultMaxModelLen

	APIKey string // demanded under /v1 when it is not empty

	FailRate   float64       // fraction of requests answered by status 500
	AbortRate  float64       // fraction of requests whose connection is cut midway
	Hang       bool          // requests for tokens are accepted and never answered
	StartDelay time.Duration // until then /health says 503 and no request is served
	NoMetrics  bool          // there is no /metrics, as behind some gateways
	NoUsage    bool          // token counts are never reported, asked for or not
	SGLang     bool          // metrics have SGLang's names, and it tells its settings as SGLang does
}

// WithDefaults is the configuration with the zeros that mean a default replaced.
func (c Config) WithDefaults() Config {
	if c.Model == "" {
		c.Model = DefaultModel
	}
	if c.Version == "" {
		c.Version = "simulate"
	}
	if c.MaxNumSeqs == 0 {
		c.MaxNumSeqs = DefaultMaxNumSeqs
	}
	if c.Latency == "" {
		c.Latency = Linear4
	}
	if c.MaxNumBatchedTokens == 0 {
		c.MaxNumBatchedTokens = max(DefaultMaxNumBatchedTokens, c.MaxNumSeqs)
	}
	if c.WanderMemory == 0 {
		c.WanderMemory = DefaultWanderMemory
	}
	if c.MaxModelLen == 0 {
		c.MaxModelLen = DefaultMaxModelLen
	}
	return c
}

// Validate returns every mistake of the configuration, joined, or nil. It
// judges what is there: a zero that New would replace is a mistake here.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Model == "" {
		bad("model: empty; give the name under which clients ask for the model")
	}
	if c.Latency != Linear4 && c.Latency != Engine {
		bad("latency: %q is neither %s nor %s", c.Latency, Linear4, Engine)
	}
	for _, p := range []struct {
		name  string
		value float64
	}{
		{"alpha", c.Alpha}, {"beta", c.Beta}, {"gamma", c.Gamma}, {"delta", c.Delta},
		{"base", c.Base}, {"seq", c.Seq}, {"ctx", c.Ctx}, {"pre", c.Pre}, {"pre2", c.Pre2},
	} {
		if !(p.value >= 0) || math.IsInf(p.value, 1) {
			bad("%s: %v is not a time; give milliseconds, 0 or more", p.name, p.value)
		}
	}
	if !(c.Jitter >= 0 && c.Jitter <= 1) {
		bad("jitter: %v is outside 0 to 1; it is a relative standard deviation, 0.05 for 5 %%", c.Jitter)
	}
	if c.Latency == Engine && c.Base == 0 {
		bad("base: 0; an iteration that decodes nothing and prefills nothing still takes time, give milliseconds above 0")
	}
	if !(c.Wander >= 0 && c.Wander <= 1) {
		bad("wander: %v is outside 0 to 1; it is a relative standard deviation, 0.02 for 2 %%", c.Wander)
	}
	if !(c.WanderMemory > 0) || math.IsInf(c.WanderMemory, 1) {
		bad("wander-memory: %v; give a number of iterations above 0", c.WanderMemory)
	}
	if c.Latency == Engine && c.MaxNumBatchedTokens < max(1, c.MaxNumSeqs) {
		bad("max-num-batched-tokens: %d is below the %d of max-num-seqs; each running request needs a token in every iteration", c.MaxNumBatchedTokens, c.MaxNumSeqs)
	}
	if c.MaxNumSeqs < 1 {
		bad("max-num-seqs: %d is below 1", c.MaxNumSeqs)
	}
	if c.MaxModelLen < 2 {
		bad("max-model-len: %d is below 2, one token of prompt and one of output", c.MaxModelLen)
	}
	for _, r := range []struct {
		name  string
		value float64
	}{{"fail-rate", c.FailRate}, {"abort-rate", c.AbortRate}} {
		if !(r.value >= 0 && r.value <= 1) {
			bad("%s: %v is outside 0 to 1; it is a fraction of the requests", r.name, r.value)
		}
	}
	if c.StartDelay < 0 {
		bad("start-delay: %v is negative", c.StartDelay)
	}
	return errors.Join(errs...)
}
