package simulate

import (
	"math"
	"math/rand/v2"
	"time"
)

// linear4 is the latency law, parameters in ms.
type linear4 struct{ alpha, beta, gamma, delta float64 }

// prefill is the time from admission to the first token with n requests running.
func (l linear4) prefill(promptTokens, n int) time.Duration {
	return milliseconds(l.gamma + l.delta*float64(promptTokens)*float64(n))
}

// gap is the time between two tokens of one request with n requests running.
func (l linear4) gap(n int) time.Duration {
	return milliseconds(l.alpha + l.beta*float64(n))
}

func milliseconds(ms float64) time.Duration {
	return time.Duration(math.Round(ms * float64(time.Millisecond)))
}

// jitter draws random factors whose mean is one and whose standard deviation is
// the given one: lognormal, because a time is never negative and the mean of
// exp(N(mu, sigma^2)), which is exp(mu + sigma^2/2), can be made exactly one.
type jitter struct{ mu, sigma float64 }

func newJitter(deviation float64) jitter {
	variance := math.Log1p(deviation * deviation)
	return jitter{mu: -variance / 2, sigma: math.Sqrt(variance)}
}

func (j jitter) draw(random *rand.Rand) float64 {
	if j.sigma == 0 {
		return 1
	}
	return math.Exp(j.mu + j.sigma*random.NormFloat64())
}

// stretch is d times a drawn factor.
func (j jitter) stretch(d time.Duration, factor float64) time.Duration {
	if j.sigma == 0 {
		return d
	}
	return time.Duration(math.Round(float64(d) * factor))
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
	f.prefills = newJitter(c.Jitter).draw(random)
	return f
}
