package simulate

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wfgen.dev/internal/point/measurement"
)

// newTestBatching has iterations of 10 ms, 1 ms more for each decoding sequence,
// 0.1 for each token of context and each prefilled token, 0.001 for each pair.
func newTestBatching(maxNumSeqs, maxNumBatchedTokens int) (s *batching, iterations *[]int) {
	iterations = new([]int)
	return &batching{
		law:    iterationLaw{base: 10, seq: 1, ctx: 0.1, pre: 0.1, pre2: 0.001},
		jitter: newJitter(0), random: rand.New(rand.NewPCG(0, 0)), wander: still(),
		maxNumSeqs: maxNumSeqs, maxNumBatchedTokens: maxNumBatchedTokens,
		iteration: func(tokens int) { *iterations = append(*iterations, tokens) },
	}, iterations
}

func TestBatchingIterations(t *testing.T) {
	s, iterations := newTestBatching(8, 64)
	a := testSequence(3, 100*ms)
	s.arrive(a)
	// 10 tokens of prompt: 10 + 0.1*10 + 0.001*100; then contexts of 11 and 12.
	want := []time.Duration{11100 * time.Microsecond, 23200 * time.Microsecond, 35400 * time.Microsecond}
	for i := range want {
		want[i] += 100 * ms
	}
	if diff := cmp.Diff(want, play(s, a)); diff != "" {
		t.Errorf("tokens of one request (-want +got):\n%s", diff)
	}
	if want := []int{10, 1, 1}; !slices.Equal(*iterations, want) {
		t.Errorf("iterations of %v tokens, want %v", *iterations, want)
	}
	if running, queued, kvTokens := s.load(); running+queued+kvTokens != 0 {
		t.Errorf("an empty scheduler holds %d running, %d waiting, %d tokens", running, queued, kvTokens)
	}
}

func TestBatchingLetsRequestsJoinBetweenIterations(t *testing.T) {
	s, _ := newTestBatching(8, 64)
	a, b := testSequence(3, 0), testSequence(1, 2*ms)
	s.arrive(a)
	s.arrive(b)
	// b waits for a's first iteration, which ends at 11.1, and slows down a's
	// second by its prefill: 10 + 1 + 0.1*11 + 0.1*10 + 0.001*100.
	want := []time.Duration{11100 * time.Microsecond, 24300 * time.Microsecond, 36500 * time.Microsecond}
	if diff := cmp.Diff(want, play(s, a)); diff != "" {
		t.Errorf("tokens of the first request (-want +got):\n%s", diff)
	}
	if b.admitted != 11100*time.Microsecond || b.first != 24300*time.Microsecond {
		t.Errorf("the second is admitted at %v and has its first token at %v", b.admitted, b.first)
	}
}

func TestBatchingCutsPromptsToTheBudget(t *testing.T) {
	s, iterations := newTestBatching(8, 8)
	a, b := testSequence(1, 0), testSequence(1, 0)
	s.arrive(a)
	s.arrive(b)
	play(s, b)
	// 8 of a; 2 of a and 6 of b; 4 of b.
	if want := []int{8, 8, 4}; !slices.Equal(*iterations, want) {
		t.Errorf("iterations of %v tokens, want %v", *iterations, want)
	}
	// The chunks of a prompt cost what the prompt costs: three bases, 20 tokens, 2*100 pairs.
	if want := 32200 * time.Microsecond; a.first != 10864*time.Microsecond+10872*time.Microsecond || b.first != want {
		t.Errorf("first tokens at %v and %v, want 21.736 ms and %v", a.first, b.first, want)
	}
}

func TestBatchingQueuesAboveMaxNumSeqs(t *testing.T) {
	s, _ := newTestBatching(2, 64)
	var all []*sequence
	for range 5 {
		all = append(all, testSequence(2, 0))
		s.arrive(all[len(all)-1])
	}
	s.advance(12 * ms)
	if running, queued, _ := s.load(); running != 2 || queued != 3 {
		t.Fatalf("%d running and %d waiting, want 2 and 3", running, queued)
	}
	play(s, all[4])
	for i := 1; i < 5; i++ {
		if all[i].admitted < all[i-1].admitted {
			t.Errorf("request %d was admitted before the one ahead of it", i)
		}
	}
	if all[2].admitted < all[0].last {
		t.Errorf("the third request was admitted at %v, before a place was free at %v", all[2].admitted, all[0].last)
	}
}

func TestBatchingLeave(t *testing.T) {
	s, _ := newTestBatching(2, 8)
	decodes, prefills, waits := testSequence(9, 0), testSequence(9, 0), testSequence(2, 0)
	for _, q := range []*sequence{decodes, prefills, waits} {
		s.arrive(q)
	}
	s.advance(22 * ms) // decodes has its first token, 6 tokens of prefills are done
	if decodes.made != 1 || prefills.computed != 6 || waits.index != waiting {
		t.Fatalf("%d made, %d computed: the scene is not set", decodes.made, prefills.computed)
	}
	if _, _, kvTokens := s.load(); kvTokens != 17 {
		t.Errorf("%d tokens in the cache, want 11 and 6", kvTokens)
	}
	s.leave(prefills, 23*ms)
	s.leave(decodes, 23*ms)
	play(s, waits)
	if prefills.made != 0 || decodes.made != 1 || waits.made != 2 {
		t.Errorf("tokens %d, %d and %d, want those made before the first two left, and both of the third", prefills.made, decodes.made, waits.made)
	}
	s.leave(waits, 90*ms) // has ended: no effect
	gaveUp := testSequence(1, 100*ms)
	s.arrive(testSequence(1, 100*ms))
	s.arrive(gaveUp)
	s.leave(gaveUp, 101*ms)
	s.advance(time.Second)
	if running, queued, kvTokens := s.load(); running+queued+kvTokens+gaveUp.made != 0 {
		t.Errorf("an empty scheduler holds %d running, %d waiting, %d tokens", running, queued, kvTokens)
	}
}

func TestBatchingDelaysDoNotAddUp(t *testing.T) {
	last := func(step time.Duration) time.Duration {
		s, _ := newTestBatching(8, 64)
		a, b := testSequence(50, 0), testSequence(80, 3*ms)
		s.arrive(a)
		s.arrive(b)
		for now := time.Duration(0); b.index != gone; now += step {
			s.advance(now)
		}
		return b.last
	}
	if punctual, late := last(ms), last(37*ms); punctual != late {
		t.Errorf("the last token comes at %v when the scheduler is advanced every ms, at %v when it is every 37 ms", punctual, late)
	}
}

// The mechanism must have the mean that the engine model of the fit says: the
// share of an iteration that other requests' prefills take follows from Little's
// law. That holds for streams out of step: fixed lengths and no pauses would keep
// those that began together together, whose prefills then disturb nobody.
func TestBatchingHasTheMeanOfTheEngineModel(t *testing.T) {
	c := llamaEngine
	for _, x := range []struct{ streams, in, out int }{{1, 128, 128}, {16, 128, 128}, {64, 512, 128}, {32, 1024, 64}} {
		rows, err := Closed(c, Loop{Streams: x.streams, PromptTokens: x.in, OutputTokens: x.out, Duration: 3 * time.Minute, Pause: 50 * ms})
		if err != nil {
			t.Fatal(err)
		}
		w, _, err := measurement.Reduce(rows, x.streams)
		if err != nil {
			t.Fatal(err)
		}
		n, in, out, itl, ttft := w.Batch, float64(x.in), float64(x.out), w.ITL.MeanMS, w.TTFT.MeanMS
		lambda := n / (ttft + (out-1)*itl)
		decoding := lambda * (out - 1) * itl
		others := (float64(x.streams) - 1) / float64(x.streams)
		want := c.Base + decoding*(c.Seq+c.Ctx*(in+out/2)) + others*lambda*itl*(c.Pre*in+c.Pre2*in*in)
		if math.Abs(itl/want-1) > 0.02 {
			t.Errorf("%+v: ITL %.3f ms, the model says %.3f", x, itl, want)
		}
		t.Logf("%+v: ITL %.3f ms, the model says %.3f; TTFT %.1f", x, itl, want, ttft)
	}
}

// The share of variance that neighbouring iterations have in common is what the
// memory says.
func TestWanderMemory(t *testing.T) {
	const deviation, memory, n = 0.05, 20, 400_000
	w := newWander(deviation, memory, rand.New(rand.NewPCG(1, 2)))
	var sum, squares, product float64
	history := make([]float64, memory)
	for i := range n {
		x := w.factor - 1
		sum += x
		squares += x * x
		product += x * history[i%memory]
		history[i%memory] = x
		w.step()
	}
	if mean := sum / n; math.Abs(mean) > 5*deviation*math.Sqrt(2*memory/float64(n)) {
		t.Errorf("the mean factor is 1%+.5f", mean)
	}
	if spread := math.Sqrt(squares / n); math.Abs(spread/deviation-1) > 0.05 {
		t.Errorf("deviation %v, want %v", spread, deviation)
	}
	if correlation := product / squares; math.Abs(correlation-math.Exp(-1)) > 0.03 {
		t.Errorf("correlation %.3f over the memory, want 1/e", correlation)
	}
}
