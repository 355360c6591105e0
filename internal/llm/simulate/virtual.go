package simulate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"wfgen.dev/internal/llm/record"
)

// Loop is a closed loop: streams that send a request, wait for its answer, and
// send the next.
type Loop struct {
	Streams                    int
	PromptTokens, OutputTokens int           // of every request
	Spread                     float64       // of the output lengths: uniform from OutputTokens*(1-Spread) to OutputTokens*(1+Spread), below 1
	Ramp                       time.Duration // over which the streams begin, at random; 0: all at once, in a burst
	Duration                   time.Duration // then nothing is sent any more, and what is in flight is cut off
	Pause                      time.Duration // mean of the time between an answer and the stream's next request, exponential; 0: none
}

// epoch is when virtual time begins, Unix seconds: a time of 0 is one that did
// not happen.
const epoch = 1.0

// Closed runs a closed loop against the server of a configuration in virtual
// time and returns its requests in the order of their ends, those that were cut
// off last. The same configuration and loop give the same rows. Faults, starts
// and early ends of outputs, which belong to a server, do not happen. The error
// holds every mistake of the two.
func Closed(c Config, l Loop) ([]record.Request, error) {
	c = c.WithDefaults()
	errs := []error{c.Validate()}
	if l.Streams < 1 || l.PromptTokens < 1 || l.OutputTokens < 1 {
		errs = append(errs, fmt.Errorf("loop: %d streams of %d prompt and %d output tokens; each must be 1 or more", l.Streams, l.PromptTokens, l.OutputTokens))
	}
	if !(l.Spread >= 0 && l.Spread < 1) {
		errs = append(errs, fmt.Errorf("loop: a spread of %v; it is a fraction of the output tokens, 0 or more and below 1", l.Spread))
	}
	if l.Duration <= 0 || l.Pause < 0 || l.Ramp < 0 {
		errs = append(errs, fmt.Errorf("loop: a duration of %v with pauses of %v and a ramp of %v", l.Duration, l.Pause, l.Ramp))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	s := newScheduler(c, func(int) {})
	var rows []record.Request
	note := func(q *sequence, status record.Status, end time.Duration) {
		rows = append(rows, q.row(status, end))
	}

	chance := rand.New(rand.NewPCG(uint64(c.Seed), 1<<63)) // of lengths and pauses
	var idle, ended []*sequence                            // not sent yet, in the order of their starts; just answered
	inFlight := map[*sequence]uint64{}                     // and how many were sent before each
	number, sent := uint64(0), uint64(0)
	plan := func(after time.Duration) {
		output := l.OutputTokens
		if reach := int(l.Spread * float64(output)); reach > 0 {
			output += chance.IntN(2*reach+1) - reach
		}
		if l.Pause > 0 && number >= uint64(l.Streams) {
			after += time.Duration(float64(l.Pause) * chance.ExpFloat64())
		}
		q := newSequence(l.PromptTokens, output, after, c.fate(number))
		number++
		q.ended = func(q *sequence) { ended = append(ended, q) }
		at, _ := slices.BinarySearchFunc(idle, q.arrived+1, func(a *sequence, t time.Duration) int { return cmp.Compare(a.arrived, t) })
		idle = slices.Insert(idle, at, q)
	}
	for range l.Streams {
		begin := time.Duration(0)
		if l.Ramp > 0 {
			begin = time.Duration(chance.Int64N(int64(l.Ramp)))
		}
		plan(begin)
	}
	for {
		due, ok := s.next()
		if len(idle) > 0 && (!ok || idle[0].arrived <= due) {
			q := idle[0]
			idle = slices.Delete(idle, 0, 1)
			due = q.arrived
			if due > l.Duration {
				break
			}
			inFlight[q] = sent
			sent++
			s.arrive(q)
		} else {
			if due > l.Duration {
				break
			}
			s.advance(due)
		}
		for _, q := range ended {
			note(q, record.Successful, q.last)
			delete(inFlight, q)
			plan(q.last)
		}
		ended = ended[:0]
	}
	cut := slices.SortedFunc(maps.Keys(inFlight), func(a, b *sequence) int { return cmp.Compare(inFlight[a], inFlight[b]) })
	for _, q := range cut {
		note(q, record.Incomplete, l.Duration)
	}
	return rows, nil
}

// Arrivals is an open loop: requests that arrive at a rate, whatever becomes of those
// before them.
type Arrivals struct {
	Rate                       float64 // requests per second
	Constant                   bool    // they arrive at even intervals; otherwise at random (Poisson)
	PromptTokens, OutputTokens int     // of every request
	Spread                     float64 // of the output lengths, as in Loop
	Duration                   time.Duration
}

// Open runs an open loop in virtual time; see Closed.
func Open(c Config, a Arrivals) ([]record.Request, error) {
	c = c.WithDefaults()
	errs := []error{c.Validate()}
	if !(a.Rate > 0) || math.IsInf(a.Rate, 1) || a.PromptTokens < 1 || a.OutputTokens < 1 || a.Duration <= 0 {
		errs = append(errs, fmt.Errorf("arrivals: %v requests a second of %d prompt and %d output tokens for %v; each must be above 0", a.Rate, a.PromptTokens, a.OutputTokens, a.Duration))
	}
	if !(a.Spread >= 0 && a.Spread < 1) {
		errs = append(errs, fmt.Errorf("arrivals: a spread of %v; it is a fraction of the output tokens, 0 or more and below 1", a.Spread))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s := newScheduler(c, func(int) {})
	chance := rand.New(rand.NewPCG(uint64(c.Seed), 1<<62))
	var rows []record.Request
	var flight []*sequence // in the order of their arrivals
	arrival := time.Duration(0)
	for number := uint64(0); ; number++ {
		gap := 1.0
		if !a.Constant {
			gap = chance.ExpFloat64()
		}
		arrival += time.Duration(gap / a.Rate * float64(time.Second))
		if arrival > a.Duration {
			break
		}
		output := a.OutputTokens
		if reach := int(a.Spread * float64(output)); reach > 0 {
			output += chance.IntN(2*reach+1) - reach
		}
		q := newSequence(a.PromptTokens, output, arrival, c.fate(number))
		q.ended = func(q *sequence) {
			rows = append(rows, q.row(record.Successful, q.last))
		}
		s.arrive(q)
		flight = append(flight, q)
	}
	s.advance(a.Duration)
	for _, q := range flight {
		if q.made < q.output {
			rows = append(rows, q.row(record.Incomplete, a.Duration))
		}
	}
	return rows, nil
}

// row is what a client sees of a request that ended, one way or another.
func (q *sequence) row(status record.Status, end time.Duration) record.Request {
	r := record.Request{Start: seconds(q.arrived), PromptTokens: q.prompt, OutputTokens: q.made, Status: status, End: seconds(end)}
	if q.made > 0 {
		r.FirstToken, r.LastToken = seconds(q.first), seconds(q.last)
	}
	return r
}

func seconds(t time.Duration) float64 { return epoch + t.Seconds() }
