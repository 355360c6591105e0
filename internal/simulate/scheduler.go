package simulate

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// sequence is one request inside the engine. Times count from the engine's start.
type sequence struct {
	prompt, output int // tokens
	arrived        time.Duration
	stretch        float64    // jitter of the first token
	random         *rand.Rand // jitter of the gaps

	// Written by the scheduler. The handler may read admitted once it has seen a token.
	admitted time.Duration
	due      time.Duration // of the next token
	made     int           // tokens
	index    int           // in the heap of running sequences, or one of the two below

	released atomic.Int32  // tokens that the handler may deliver
	wake     chan struct{} // holds one signal that released has grown
}

const (
	waiting = -1
	gone    = -2
)

func newSequence(prompt, output int, arrived time.Duration, f fate) *sequence {
	return &sequence{
		prompt: prompt, output: output, arrived: arrived,
		stretch: f.prefills, random: f.latency,
		index: waiting, wake: make(chan struct{}, 1),
	}
}

// scheduler is the server's behaviour under linear4: which requests run, and
// when each of their tokens is due. It knows no clock: its caller says what
// time it is, and asks when to come back.
//
// Every due time is the one before plus the law's gap, never the moment at
// which somebody woke up, so that delays of delivery do not add up.
type scheduler struct {
	law        linear4
	jitter     jitter
	maxNumSeqs int
	iteration  func(tokens int) // told of every engine iteration, see account

	running byDue
	queue   []*sequence

	kvTokens int     // tokens of the running sequences, prompts included
	share    float64 // of the current iteration that is done
	tokens   int     // in the current iteration so far
}

// arrive adds a request at the time it carries.
func (s *scheduler) arrive(q *sequence) {
	s.advance(q.arrived)
	s.queue = append(s.queue, q)
	s.admit(q.arrived)
}

// leave takes out a request whose client has gone. It may have ended already.
func (s *scheduler) leave(q *sequence, now time.Duration) {
	s.advance(now)
	switch q.index {
	case gone:
	case waiting:
		s.queue = slices.DeleteFunc(s.queue, func(other *sequence) bool { return other == q })
		q.index = gone
	default:
		s.finish(q, now)
	}
}

// next is when the scheduler must be advanced again, if nothing else happens.
func (s *scheduler) next() (due time.Duration, ok bool) {
	if len(s.running) == 0 {
		return 0, false
	}
	return s.running[0].due, true
}

// advance releases all tokens due by now, in the order of their due times.
func (s *scheduler) advance(now time.Duration) {
	for len(s.running) > 0 && s.running[0].due <= now {
		q := s.running[0]
		if q.made == 0 {
			// Requests that joined during the prefill slow it down, so n is
			// read again at its end. It is not read downwards: in a closed loop
			// a stream is missing for the moment between its last token and its
			// next request, and a prefill is not faster for that.
			if due := s.firstDue(q); due > q.due {
				q.due = due
				heap.Fix(&s.running, 0)
				continue
			}
		}
		q.made++
		s.kvTokens++
		s.account(q)
		q.release()
		if q.made == q.output {
			s.finish(q, q.due)
			continue
		}
		q.due += s.jitter.stretch(s.law.gap(len(s.running)), s.jitter.draw(q.random))
		heap.Fix(&s.running, 0)
	}
}

func (s *scheduler) firstDue(q *sequence) time.Duration {
	return q.admitted + s.jitter.stretch(s.law.prefill(q.prompt, len(s.running)), q.stretch)
}

// admit starts waiting requests, first come first served, while there is room.
func (s *scheduler) admit(now time.Duration) {
	for len(s.queue) > 0 && len(s.running) < s.maxNumSeqs {
		q := s.queue[0]
		s.queue = slices.Delete(s.queue, 0, 1)
		q.admitted = max(now, q.arrived)
		s.kvTokens += q.prompt
		heap.Push(&s.running, q)
		q.due = s.firstDue(q) // n includes q
		heap.Fix(&s.running, q.index)
	}
}

func (s *scheduler) finish(q *sequence, now time.Duration) {
	heap.Remove(&s.running, q.index)
	q.index = gone
	s.kvTokens -= q.prompt + q.made
	if len(s.running) == 0 && s.tokens > 0 {
		s.iteration(s.tokens)
		s.share, s.tokens = 0, 0
	}
	s.admit(now)
}

// account divides the tokens into the iterations of an engine that makes one
// token of every running request in each: with n running a token is 1/n of an
// iteration. A first token brings the tokens of its prompt along.
func (s *scheduler) account(q *sequence) {
	s.share += 1 / float64(len(s.running))
	s.tokens++
	if q.made == 1 {
		s.tokens += q.prompt
	}
	if s.share > 1-1e-9 {
		s.iteration(s.tokens)
		s.share, s.tokens = s.share-1, 0
	}
}

// release lets the handler deliver what has been made. A handler that is behind
// finds several tokens at one wake-up.
func (q *sequence) release() {
	q.released.Store(int32(q.made))
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// byDue is a heap of sequences, the one with the earliest due time first.
type byDue []*sequence

func (h byDue) Len() int           { return len(h) }
func (h byDue) Less(i, j int) bool { return h[i].due < h[j].due }
func (h byDue) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *byDue) Push(x any) {
	q := x.(*sequence)
	q.index = len(*h)
	*h = append(*h, q)
}

func (h *byDue) Pop() any {
	old := *h
	q := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return q
}
