package simulate

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"wfgen.dev/internal/sweep/linear4"
)

// scheduler is a server's behaviour: which requests run, and when each of their
// tokens comes. It knows no clock: its caller says what time it is, and asks when
// to come back. Times count from the start of the server.
type scheduler interface {
	// arrive adds a request at the time that it carries.
	arrive(q *sequence)
	// leave takes out a request whose client has gone. It may have ended already.
	leave(q *sequence, now time.Duration)
	// next is when the scheduler must be advanced again, if nothing else happens.
	next() (due time.Duration, ok bool)
	// advance releases all tokens due by now.
	advance(now time.Duration)
	// load is what the scheduler holds.
	load() (running, queued, kvTokens int)
}

// newScheduler makes the scheduler that a valid configuration asks for. iteration
// is told how many tokens each iteration of the engine held.
func newScheduler(c Config, iteration func(tokens int)) scheduler {
	// A second number in the place of a request's keeps these draws apart from
	// those of any request.
	random := rand.New(rand.NewPCG(uint64(c.Seed), 0))
	w := newWander(c.Wander, c.WanderMemory, random)
	if c.Latency == Engine {
		return &batching{
			law:    iterationLaw{base: c.Base, seq: c.Seq, ctx: c.Ctx, pre: c.Pre, pre2: c.Pre2},
			jitter: c.jitter(), random: random, wander: w,
			maxNumSeqs: c.MaxNumSeqs, maxNumBatchedTokens: c.MaxNumBatchedTokens, iteration: iteration,
		}
	}
	return &lawful{
		law:    latencyLaw{linear4.Model{Alpha: c.Alpha, Beta: c.Beta, Gamma: c.Gamma, Delta: c.Delta}},
		jitter: c.jitter(), wander: w,
		maxNumSeqs: c.MaxNumSeqs, iteration: iteration,
	}
}

// sequence is one request inside a scheduler. Times count from the server's start.
type sequence struct {
	prompt, output int // tokens
	arrived        time.Duration
	stretch        float64    // jitter of the first token, of lawful
	random         *rand.Rand // jitter of the gaps, of lawful

	// Written by the scheduler. The handler may read admitted once it has seen a token.
	admitted    time.Duration
	due         time.Duration // of the next token, of lawful
	first, last time.Duration // of the tokens made
	made        int           // tokens
	computed    int           // tokens of the prompt that are prefilled, of batching
	chunk       int           // tokens of the prompt in the running iteration, of batching
	index       int           // in lawful's heap of running sequences, or one of those below

	// Whoever waits for the tokens sets one of these, and is told through it.
	wake     chan struct{}   // holds one signal that released has grown
	released atomic.Int32    // tokens that the handler may deliver
	ended    func(*sequence) // called with the last token, where there is no wake
}

const (
	waiting = -1
	gone    = -2
	runs    = 0 // in batching
)

func newSequence(prompt, output int, arrived time.Duration, f fate) *sequence {
	return &sequence{
		prompt: prompt, output: output, arrived: arrived,
		stretch: f.prefills, random: f.latency,
		index: waiting,
	}
}

// release tells of one more token, made at the given time. A handler that is
// behind finds several tokens at one wake-up.
func (q *sequence) release(at time.Duration) {
	q.made++
	if q.made == 1 {
		q.first = at
	}
	q.last = at
	if q.wake == nil {
		if q.made == q.output && q.ended != nil {
			q.ended(q)
		}
		return
	}
	q.released.Store(int32(q.made))
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
