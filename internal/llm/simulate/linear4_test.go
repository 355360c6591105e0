package simulate

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wfgen.dev/internal/sweep/linear4"
)

const ms = time.Millisecond

// testLaw has a TTFT of 10 + n ms for 10 prompt tokens and a gap of 5 + n ms.
var testLaw = latencyLaw{linear4.Model{Alpha: 5, Beta: 1, Gamma: 10, Delta: 0.1}}

func newTestScheduler(maxNumSeqs int) *lawful {
	return &lawful{law: testLaw, jitter: newJitter(0), wander: still(), maxNumSeqs: maxNumSeqs, iteration: func(int) {}}
}

// still is a wander that does not.
func still() *wander { return newWander(0, 1, rand.New(rand.NewPCG(0, 0))) }

func testSequence(output int, arrived time.Duration) *sequence {
	return newSequence(10, output, arrived, Config{}.fate(0))
}

// play advances s at every due time and records when q gets its tokens.
func play(s scheduler, q *sequence) []time.Duration {
	var times []time.Duration
	for {
		due, ok := s.next()
		if !ok {
			return times
		}
		before := q.made
		s.advance(due)
		for range q.made - before {
			times = append(times, due)
		}
	}
}

func TestSchedulerFollowsTheLaw(t *testing.T) {
	s, q := newTestScheduler(8), testSequence(4, 100*ms)
	s.arrive(q)
	want := []time.Duration{111 * ms, 117 * ms, 123 * ms, 129 * ms}
	if diff := cmp.Diff(want, play(s, q)); diff != "" {
		t.Errorf("due times of one request (-want +got):\n%s", diff)
	}
}

func TestSchedulerCountsWhoRuns(t *testing.T) {
	// b joins while a is in its prefill: both first tokens see two requests.
	// b ends at 20, from then on a sees one.
	s := newTestScheduler(8)
	a, b := testSequence(4, 0), testSequence(2, ms)
	s.arrive(a)
	s.arrive(b)
	want := []time.Duration{12 * ms, 19 * ms, 26 * ms, 32 * ms}
	if diff := cmp.Diff(want, play(s, a)); diff != "" {
		t.Errorf("due times of the first request (-want +got):\n%s", diff)
	}
}

func TestSchedulerOverlooksTurnaround(t *testing.T) {
	// A closed loop of two streams. One stream's request ends at 19 ms, its next
	// comes at 19.1; the other stream's prefill of 10 + 0.1*10*2 = 12 ms ends in
	// between and must not be cut short at 19 ms, when it is alone.
	s := newTestScheduler(8)
	ending := testSequence(2, 0) // tokens at 12 and 19 ms
	s.arrive(ending)
	other := testSequence(1, 7050*time.Microsecond)
	s.arrive(other)
	s.advance(19 * ms)
	if len(s.running) != 1 || other.made != 0 {
		t.Fatalf("%d running, %d tokens made: the scene is not set", len(s.running), other.made)
	}
	if got := play(s, other); !slices.Equal(got, []time.Duration{19050 * time.Microsecond}) {
		t.Errorf("first token at %v, want 19.05 ms", got)
	}
}

func TestSchedulerDelaysDoNotAddUp(t *testing.T) {
	due := func(step time.Duration) time.Duration {
		s := newTestScheduler(8)
		a, b := testSequence(50, 0), testSequence(80, 3*ms)
		s.arrive(a)
		s.arrive(b)
		for now := time.Duration(0); b.index != gone; now += step {
			s.advance(now)
		}
		return b.due
	}
	if punctual, late := due(ms), due(37*ms); punctual != late {
		t.Errorf("the last token is due at %v when the scheduler is advanced every ms, at %v when it is every 37 ms", punctual, late)
	}
}

func TestSchedulerQueuesAboveMaxNumSeqs(t *testing.T) {
	s := newTestScheduler(1)
	a, b, c := testSequence(2, 0), testSequence(1, ms), testSequence(1, 2*ms)
	for _, q := range []*sequence{a, b, c} {
		s.arrive(q)
	}
	if len(s.running) != 1 || len(s.queue) != 2 {
		t.Fatalf("%d running and %d waiting, want 1 and 2", len(s.running), len(s.queue))
	}
	play(s, a)
	// a: 11 and 17; b starts at 17, c when b has ended at 28.
	for _, x := range []struct {
		name          string
		q             *sequence
		admitted, due time.Duration
	}{{"a", a, 0, 17 * ms}, {"b", b, 17 * ms, 28 * ms}, {"c", c, 28 * ms, 39 * ms}} {
		if x.q.admitted != x.admitted || x.q.due != x.due {
			t.Errorf("%s: admitted at %v, last token at %v, want %v and %v", x.name, x.q.admitted, x.q.due, x.admitted, x.due)
		}
	}
}

func TestSchedulerLeave(t *testing.T) {
	s := newTestScheduler(1)
	running, waits, next := testSequence(9, 0), testSequence(1, 0), testSequence(1, 0)
	for _, q := range []*sequence{running, waits, next} {
		s.arrive(q)
	}
	s.leave(waits, 5*ms)
	s.leave(running, 20*ms)
	if next.admitted != 20*ms {
		t.Errorf("the next request is admitted at %v, want 20 ms when the running one left", next.admitted)
	}
	play(s, next)
	s.leave(next, 60*ms) // has ended: no effect
	s.leave(running, 60*ms)
	if waits.made != 0 || running.made != 2 || next.made != 1 {
		t.Errorf("tokens %d, %d and %d, want none of the one that waited, 2 and 1", waits.made, running.made, next.made)
	}
	if s.kvTokens != 0 || len(s.running) != 0 || len(s.queue) != 0 {
		t.Errorf("an empty scheduler holds %d tokens, %d running, %d waiting", s.kvTokens, len(s.running), len(s.queue))
	}
}

func TestSchedulerIterations(t *testing.T) {
	const n, output = 8, 20
	s := newTestScheduler(n)
	var iterations []int
	s.iteration = func(tokens int) { iterations = append(iterations, tokens) }
	var last *sequence
	for i := range n {
		last = testSequence(output, time.Duration(i)*100*time.Microsecond)
		s.arrive(last)
	}
	play(s, last)
	sum := 0
	for _, tokens := range iterations {
		sum += tokens
	}
	if want := n * (10 + output); sum != want {
		t.Errorf("iterations hold %d tokens, want all %d of prompts and outputs", sum, want)
	}
	if iterations[1] != n || iterations[output/2] != n {
		t.Errorf("iterations hold %v tokens, want %d while %d requests decode", iterations, n, n)
	}
}

func TestJitterMeanAndDeviation(t *testing.T) {
	const draws = 200_000
	for _, deviation := range []float64{0.05, 0.3} {
		random := Config{Seed: 3}.fate(0).latency
		j := newJitter(deviation)
		var sum, squares float64
		for range draws {
			x := j.draw(random)
			sum += x
			squares += x * x
		}
		mean := sum / draws
		spread := math.Sqrt(squares/draws - mean*mean)
		if math.Abs(mean-1) > 5*deviation/math.Sqrt(draws) {
			t.Errorf("deviation %v: mean factor %v, want 1", deviation, mean)
		}
		if math.Abs(spread/deviation-1) > 0.05 {
			t.Errorf("deviation %v: spread of the factors %v", deviation, spread)
		}
	}
}

func TestJitterDependsOnSeedAndRequest(t *testing.T) {
	times := func(seed int64, number uint64) []time.Duration {
		s := newTestScheduler(8)
		s.jitter = newJitter(0.1)
		q := newSequence(10, 20, 0, Config{Seed: seed, Jitter: 0.1}.fate(number))
		s.arrive(q)
		return play(s, q)
	}
	if diff := cmp.Diff(times(1, 0), times(1, 0)); diff != "" {
		t.Errorf("the same seed and request give different times:\n%s", diff)
	}
	if slices.Equal(times(1, 0), times(2, 0)) || slices.Equal(times(1, 0), times(1, 1)) {
		t.Error("different seeds, or requests, give the same times")
	}
	if got := times(1, 0)[0]; got == 11*ms {
		t.Error("the first token has no jitter")
	}
}

func TestFaultsDoNotMoveTheJitter(t *testing.T) {
	plain, faulty := Config{Jitter: 0.1}.fate(5), Config{Jitter: 0.1, FailRate: 1, AbortRate: 1}.fate(5)
	if plain.prefills != faulty.prefills || plain.natural != faulty.natural || !faulty.fail || !faulty.abort {
		t.Errorf("fate without faults %+v, with faults %+v", plain, faulty)
	}
}

func TestStallsLeaveTheMean(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	j := Config{Stalls: 0.027}.jitter()
	sum, long := 0.0, 0
	const n = 200_000
	for range n {
		x := j.draw(random)
		sum += x
		if x > 5 {
			long++
		}
	}
	if math.Abs(sum/n-1) > 0.01 || math.Abs(float64(long)/n-0.003) > 0.0005 {
		t.Errorf("mean %v, %d of %d are long", sum/n, long, n)
	}
}
