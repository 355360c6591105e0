package simulate

import (
	"math"
	"math/rand/v2"
	"time"

	"wfgen.dev/internal/sweep/linear4"
)

// latencyLaw is the law of a request's latencies.
type latencyLaw struct{ linear4.Model }

// prefill is the time from admission to the first token with n requests running.
func (l latencyLaw) prefill(promptTokens, n int) time.Duration {
	return milliseconds(l.TTFT(float64(promptTokens), float64(n)))
}

// gap is the time between two tokens of one request with n requests running.
func (l latencyLaw) gap(n int) time.Duration {
	return milliseconds(l.ITL(float64(n)))
}

// iterationLaw is the law of an engine's iterations, parameters in ms: what an
// iteration takes at least, for each decoding sequence, for each token of their
// contexts, for each prefilled token, and for each pair of tokens that attention
// brings together in a prefill (in*in of a whole prompt).
type iterationLaw struct{ base, seq, ctx, pre, pre2 float64 }

// duration of an iteration that decodes so many sequences with so many tokens of
// context in all, and prefills so many tokens with so many pairs.
func (l iterationLaw) duration(decoding, context, prefilled, pairs int) time.Duration {
	return milliseconds(l.base + l.seq*float64(decoding) + l.ctx*float64(context) + l.pre*float64(prefilled) + l.pre2*float64(pairs))
}

func milliseconds(ms float64) time.Duration {
	return time.Duration(math.Round(ms * float64(time.Millisecond)))
}

// jitter draws random factors whose mean is one and whose standard deviation is
// the given one: lognormal, because a time is never negative and the mean of
// exp(N(mu, sigma^2)), which is exp(mu + sigma^2/2), can be made exactly one. Some of
// the factors are ten times as large, so many that they add the share stalls, and all
// are smaller for it.
type jitter struct{ mu, sigma, stalls float64 }

const stall = 10 // times as long

func newJitter(deviation float64) jitter {
	variance := math.Log1p(deviation * deviation)
	return jitter{mu: -variance / 2, sigma: math.Sqrt(variance)}
}

func (j jitter) draw(random *rand.Rand) float64 {
	factor := 1.0
	if j.sigma > 0 {
		factor = math.Exp(j.mu + j.sigma*random.NormFloat64())
	}
	if j.stalls > 0 {
		if random.Float64() < j.stalls/(stall-1) {
			factor *= stall
		}
		factor /= 1 + j.stalls
	}
	return factor
}

func (c Config) jitter() jitter {
	j := newJitter(c.Jitter)
	j.stalls = c.Stalls
	return j
}

// stretch is d times a factor.
func stretch(d time.Duration, factor float64) time.Duration {
	return time.Duration(math.Round(float64(d) * factor))
}

// wander is a server whose speed drifts, as clocks, temperatures and neighbours
// make it: a factor on all times whose logarithm is an autoregressive process of
// first order over the engine's iterations. Its mean over iterations is one, so
// that the mean over tokens is what the law says.
type wander struct {
	jitter
	keep   float64 // of the deviation from one iteration to the next
	state  float64 // standard normal
	random *rand.Rand
	factor float64 // of the current iteration
}

// newWander makes a wander of the given relative standard deviation that forgets
// 63 % within so many iterations. It begins anywhere.
func newWander(deviation, memory float64, random *rand.Rand) *wander {
	w := &wander{jitter: newJitter(deviation), keep: math.Exp(-1 / memory), state: random.NormFloat64(), random: random}
	w.factor = math.Exp(w.mu + w.sigma*w.state)
	return w
}

// step goes on to the next iteration.
func (w *wander) step() {
	if w.sigma == 0 {
		return
	}
	w.state = w.keep*w.state + math.Sqrt(1-w.keep*w.keep)*w.random.NormFloat64()
	w.factor = math.Exp(w.mu + w.sigma*w.state)
}

// meanNaturalLength is the mean number of tokens, as far as max_tokens allows,
// of an output that is free to end by itself.
const meanNaturalLength = 256

// fate is all that chance decides about one request. It depends on the seed
// and on the request's number alone, so that the same sequence of requests
// meets the same faults and the same jitter in every run.
type fate struct {
	id       [2]uint64  // of the response
	word     int        // where in the vocabulary the output starts
	natural  int        // tokens after which the output would end by itself
	fail     bool       // status 500
	abort    bool       // cut the connection...
	abortAt  float64    // ...after this fraction of the output
	latency  *rand.Rand // the source of the request's jitter
	prefills float64    // factor of its TTFT
}

func (c Config) fate(number uint64) fate {
	// The generator's two words of state must differ in many bits between
	// neighbouring requests for their streams to be unrelated.
	random := rand.New(rand.NewPCG(uint64(c.Seed), (number+1)*0x9e3779b97f4a7c15))
	f := fate{
		id:      [2]uint64{random.Uint64(), random.Uint64()},
		word:    random.IntN(len(vocabulary)),
		natural: 1 + int(-meanNaturalLength*math.Log1p(-random.Float64())),
		fail:    random.Float64() < c.FailRate,
		abort:   random.Float64() < c.AbortRate,
		abortAt: random.Float64(),
		latency: random,
	}
	f.prefills = c.jitter().draw(random)
	return f
}
