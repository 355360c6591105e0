// Package simulate is an OpenAI-compatible LLM server without a model. It
// speaks vLLM's protocol (completions, chat, SSE streaming, /tokenize,
// /metrics) and delivers tokens at the times that the linear4 model of its
// configuration says, so that a calibration against it has a known answer.
//
// One whitespace-separated word is one token, of prompts as of outputs.
//
// The parts, from the outside in: Server answers HTTP; engine owns the clock
// and wakes the streams; scheduler decides, as a pure function of time, when
// each token is due. Another kind of server behaviour is another scheduler.
package simulate

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// The defaults that New puts in the place of zeros, and that the command line shows.
const (
	DefaultModel       = "simulated"
	DefaultMaxNumSeqs  = 256
	DefaultMaxModelLen = 16384
)

// Config says what server to simulate. Times are in milliseconds, as in the
// linear4 model:
//
//	ITL  = Alpha + Beta*n
//	TTFT = Gamma + Delta*promptTokens*n
//
// where n is the number of requests running, including the one concerned.
type Config struct {
	Model   string // the only model served; empty: DefaultModel
	Version string // what /version reports; empty: "simulate"

	Alpha float64 // ms
	Beta  float64 // ms per request
	Gamma float64 // ms
	Delta float64 // ms per prompt token per request

	// Jitter is the relative standard deviation of every TTFT and every token
	// gap. Their means stay what the model says.
	Jitter float64
	Seed   int64 // of jitter, faults and early ends

	MaxNumSeqs  int // requests that run at once, the others wait; 0: DefaultMaxNumSeqs
	MaxModelLen int // tokens of a prompt and its output; 0: DefaultMaxModelLen

	APIKey string // demanded under /v1 when it is not empty

	FailRate   float64       // fraction of requests answered by status 500
	AbortRate  float64       // fraction of requests whose connection is cut midway
	Hang       bool          // requests for tokens are accepted and never answered
	StartDelay time.Duration // until then /health says 503 and no request is served
	NoUsage    bool          // token counts are never reported, asked for or not
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
	for _, p := range []struct {
		name  string
		value float64
	}{{"alpha", c.Alpha}, {"beta", c.Beta}, {"gamma", c.Gamma}, {"delta", c.Delta}} {
		if !(p.value >= 0) || math.IsInf(p.value, 1) {
			bad("%s: %v is not a time; give milliseconds, 0 or more", p.name, p.value)
		}
	}
	if !(c.Jitter >= 0 && c.Jitter <= 1) {
		bad("jitter: %v is outside 0 to 1; it is a relative standard deviation, 0.05 for 5 %%", c.Jitter)
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
