package simulate

import (
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
				s.running.down(0)
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
		s.running.down(0)
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
		s.running = append(s.running, q)
		q.due = s.firstDue(q) // n includes q
		s.running.up(len(s.running)-1, q)
	}
}

func (s *lawful) load() (running, queued, kvTokens int) {
	return len(s.running), len(s.queue), s.kvTokens
}

func (s *lawful) finish(q *sequence, now time.Duration) {
	s.running.remove(q.index)
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

// byDue is a heap of sequences, the one with the earliest due time first. It is not one of
// container/heap, whose calls through an interface, one for every token, were a fifth of a
// simulation's time.
type byDue []*sequence

// up moves q from the free place i to where it belongs among those above.
func (h byDue) up(i int, q *sequence) {
	for i > 0 {
		above := (i - 1) / 2
		if h[above].due <= q.due {
			break
		}
		h.put(i, h[above])
		i = above
	}
	h.put(i, q)
}

// down moves the sequence at i, whose due time has grown, to where it belongs among those below.
func (h byDue) down(i int) {
	q := h[i]
	for {
		below := 2*i + 1
		if below >= len(h) {
			break
		}
		if right := below + 1; right < len(h) && h[right].due < h[below].due {
			below = right
		}
		if q.due <= h[below].due {
			break
		}
		h.put(i, h[below])
		i = below
	}
	h.put(i, q)
}

// remove takes out the sequence at i.
func (h *byDue) remove(i int) {
	end := len(*h) - 1
	last := (*h)[end]
	(*h)[end] = nil
	*h = (*h)[:end]
	if i == end {
		return
	}
	(*h)[i] = last
	h.down(i)
	h.up(last.index, last)
}

func (h byDue) put(i int, q *sequence) {
	h[i] = q
	q.index = i
}
