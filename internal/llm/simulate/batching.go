package simulate

import (
	"math/rand/v2"
	"slices"
	"time"
)

// batching is the scheduler that works as vLLM's V1 engine does, by iterations:
// each makes one token of every decoding sequence and spends what is left of its
// token budget on prompts, first come first served, a chunk where a prompt does
// not fit. Requests join between iterations only, so a request that finds the
// server busy waits for the running one, and a prefill slows down everybody's
// next token. Its latencies follow from the law of one iteration; no formula
// says what they are.
//
// The KV cache has room for all: nothing is preempted, no prefix is shared.
type batching struct {
	law                 iterationLaw
	jitter              jitter // of every iteration
	random              *rand.Rand
	wander              *wander
	maxNumSeqs          int
	maxNumBatchedTokens int              // of an iteration; not below maxNumSeqs
	iteration           func(tokens int) // told of every iteration

	queue      []*sequence
	prefilling []*sequence // the prompts of the running iteration, in order
	decoding   []*sequence
	context    int // tokens of the decoding sequences, prompts included

	busy   bool          // an iteration is running
	end    time.Duration // of the running iteration, or of the last
	tokens int           // in the running iteration
}

func (s *batching) arrive(q *sequence) {
	s.advance(q.arrived)
	s.queue = append(s.queue, q)
	if !s.busy {
		s.begin(max(q.arrived, s.end))
	}
}

func (s *batching) leave(q *sequence, now time.Duration) {
	s.advance(now)
	is := func(other *sequence) bool { return other == q }
	switch {
	case q.index == gone:
	case q.index == waiting:
		s.queue = slices.DeleteFunc(s.queue, is)
	case q.made == 0:
		s.prefilling = slices.DeleteFunc(s.prefilling, is)
	default:
		s.decoding = slices.DeleteFunc(s.decoding, is)
		s.context -= q.prompt + q.made
	}
	q.index = gone
}

func (s *batching) next() (due time.Duration, ok bool) { return s.end, s.busy }

func (s *batching) advance(now time.Duration) {
	for s.busy && s.end <= now {
		s.complete()
		s.begin(s.end)
	}
}

func (s *batching) load() (running, queued, kvTokens int) {
	kvTokens = s.context
	for _, q := range s.prefilling {
		kvTokens += q.computed
	}
	return len(s.decoding) + len(s.prefilling), len(s.queue), kvTokens
}

// begin starts an iteration if there is anything to do.
func (s *batching) begin(now time.Duration) {
	// Every decoding sequence has its token for sure, so the budget of the
	// prompts is the rest. What is left of a prompt begun earlier goes first.
	budget := s.maxNumBatchedTokens - len(s.decoding)
	prefilled, pairs := 0, 0
	schedule := func(q *sequence) {
		q.chunk = min(q.prompt-q.computed, budget)
		budget -= q.chunk
		prefilled += q.chunk
		// Over all chunks of a prompt this adds up to its square.
		pairs += q.chunk * (2*q.computed + q.chunk)
	}
	for _, q := range s.prefilling {
		schedule(q)
	}
	joined := 0
	for joined < len(s.queue) && budget > 0 && len(s.decoding)+len(s.prefilling) < s.maxNumSeqs {
		q := s.queue[joined]
		joined++
		q.index, q.admitted = runs, now
		s.prefilling = append(s.prefilling, q)
		schedule(q)
	}
	s.queue = slices.Delete(s.queue, 0, joined)

	s.tokens = len(s.decoding) + prefilled
	s.busy = s.tokens > 0
	if s.busy {
		factor := s.wander.factor * s.jitter.draw(s.random)
		s.end = now + max(1, stretch(s.law.duration(len(s.decoding), s.context, prefilled, pairs), factor))
	}
}

// complete hands out the tokens of the running iteration, which has ended.
func (s *batching) complete() {
	s.iteration(s.tokens)
	s.wander.step()
	still := s.decoding[:0]
	for _, q := range s.decoding {
		q.release(s.end)
		s.context++
		if q.made < q.output {
			still = append(still, q)
		} else {
			s.finish(q)
		}
	}
	clear(s.decoding[len(still):])
	s.decoding = still

	partial := s.prefilling[:0]
	for _, q := range s.prefilling {
		q.computed += q.chunk
		if q.computed < q.prompt {
			partial = append(partial, q)
			continue
		}
		q.release(s.end)
		s.context += q.prompt + 1
		if q.made < q.output {
			s.decoding = append(s.decoding, q)
		} else {
			s.finish(q)
		}
	}
	clear(s.prefilling[len(partial):])
	s.prefilling = partial
}

func (s *batching) finish(q *sequence) {
	s.context -= q.prompt + q.made
	q.index = gone
}
