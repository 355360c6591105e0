package simulate

import (
	"container/heap"
	"slices"
	"time"
)

// lawful is the scheduler whose latencies are linear4's: the law says when each
// token is due, whatever an engine would have to do for it.
//
// Every due time is the one before plus the law's gap, never the moment at
// which somebody woke up, so that delays of delivery do not add up.
type lawful struct {
	law        latencyLaw
	jitter     jitter // of every gap and every TTFT
	wander     *wander
	maxNumSeqs int
	iteration  func(tokens int) // told of every engine iteration, see account

	running byDue
	queue   []*sequence

	kvTokens int     // tokens of the running sequences, prompts included
	share    float64 // of the current iteration that is done
	tokens   int     // in the current iteration so far
}

func (s *lawful) arrive(q *sequence) {
	s.advance(q.arrived)
	s.queue = append(s.queue, q)
	s.admit(q.arrived)
}

func (s *lawful) leave(q *sequence, now time.Duration) {
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

func (s *lawful) next() (due time.Duration, ok bool) {
	if len(s.running) == 0 {
		return 0, false
	}
	return s.running[0].due, true
}

// advance goes in the order of the due times.
func (s *lawful) advance(now time.Duration) {
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
		s.kvTokens++
		s.account(q)
		q.release(q.due)
		if q.made == q.output {
			s.finish(q, q.due)
			continue
		}
		q.due += stretch(s.law.gap(len(s.running)), s.jitter.draw(q.random)*s.wander.factor)
		heap.Fix(&s.running, 0)
	}
}

func (s *lawful) firstDue(q *sequence) time.Duration {
	return q.admitted + stretch(s.law.prefill(q.prompt, len(s.running)), q.stretch)
}

// admit starts waiting requests, first come first served, while there is room.
func (s *lawful) admit(now time.Duration) {
	for len(s.queue) > 0 && len(s.running) < s.maxNumSeqs {
		q := s.queue[0]
		s.queue = slices.Delete(s.queue, 0, 1)
		q.admitted = max(now, q.arrived)
		q.stretch *= s.wander.factor
		s.kvTokens += q.prompt
		heap.Push(&s.running, q)
		q.due = s.firstDue(q) // n includes q
		heap.Fix(&s.running, q.index)
	}
}

func (s *lawful) load() (running, queued, kvTokens int) {
	return len(s.running), len(s.queue), s.kvTokens
}

func (s *lawful) finish(q *sequence, now time.Duration) {
	heap.Remove(&s.running, q.index)
	q.index = gone
	s.kvTokens -= q.prompt + q.made
	if len(s.running) == 0 && s.tokens > 0 {
		s.iteration(s.tokens)
		s.share, s.tokens = 0, 0
	}
	s.admit(now)
}

// account divides the tokens, q's next among them, into the iterations of an engine that makes one
// token of every running request in each: with n running a token is 1/n of an
// iteration. A first token brings the tokens of its prompt along.
func (s *lawful) account(q *sequence) {
	s.share += 1 / float64(len(s.running))
	s.tokens++
	if q.made == 0 {
		s.tokens += q.prompt
	}
	if s.share > 1-1e-9 {
		s.iteration(s.tokens)
		s.wander.step()
		s.share, s.tokens = s.share-1, 0
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
