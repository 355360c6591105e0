package capacity

import (
	"math"
	"math/rand/v2"
	"sync"

	"gonum.org/v1/gonum/stat/distuv"
)

// replica is the small engine: what one server does between iterations. Like vLLM's
// scheduler it makes a token for every decoding sequence in each iteration, spends the
// rest of its token budget on prompts, first come first served, and lets requests join
// between iterations only. An iteration that decodes n sequences takes F(n), and each
// prompt token in it a little more.
type replica struct {
	classes     []class
	chunk       int     // tokens of an iteration (max-num-batched-tokens)
	maxInFlight int     // sequences that run at once (max-num-seqs)
	spread      float64 // outputs are uniform about their mean, by this fraction
}

// class is requests of one shape.
type class struct {
	share      float64   // of the requests; all together 1
	prompt     int       // tokens
	output     int       // tokens, mean
	iteration  []float64 // F by the number of decoding sequences, from 0 to maxInFlight, ms
	pre, pre2  float64   // ms per prompt token, and per token squared: their sum over a prompt is its work
	overheadMS float64   // of a first token that nobody else waits for: HTTP, tokenizer
	noise      noise
}

// noise is by how much single requests differ where nothing that the engine knows does,
// as fractions, standard deviations: iterations that take now longer, now shorter.
type noise struct{ ttft, itl float64 }

// work is what the next tokens of a prompt take beyond the iteration that they ride in,
// ms. Over all chunks the second term adds up to the square of the prompt.
func (c *class) work(done, tokens int) float64 {
	return c.pre*float64(tokens) + c.pre2*float64(tokens)*float64(2*done+tokens)
}

// observed is what clients saw of the requests of a run, one element each.
type observed struct {
	ttft, itl, e2e []float64 // ms; itl is each request's mean
	meanITL        float64   // over gaps, ms
	inFlight       float64   // time-weighted mean of requests in the server
	decoding       float64   // those of them that decode
	requestsPerMS  float64   // that ended
}

// chances are the random numbers of a run. Every run uses the same ones, so that two
// of them differ by what was changed between them and not by luck.
type chances struct {
	gaps    []float64 // exponential with mean 1, between arrivals
	lengths []float64 // uniform in [-1, 1], of the output
	kinds   []float64 // uniform in [0, 1), of the class
	noise   []float64 // standard normal, of a request's time to first token
	pace    []float64 // standard normal, of its time between tokens
}

// size is how many requests an open run has: those that warm it up, and those that count.
// A coarse run takes half a millisecond and says what changes when the server does. A
// fine one knows the number itself.
//
// The seed is the one of 400 whose runs come closest to runs a hundred times as long, over
// six shapes at 20 to 90 % of saturation: within 1.3 % in the root mean square for the
// coarse one and 0.6 % for the fine one, where most seeds are 8 % and 3 % off.
type size struct {
	warm, count int
	seed        uint64
}

var (
	coarse = size{1000, 4000, 337}
	fine   = size{2000, 32000, 315}
)

// draw makes them. Each block of numbers is a stratified sample in random order: its mean
// and its distribution are exact, and what is left to chance is the order, which is what
// queues are made of.
func (z size) draw() *chances {
	random := rand.New(rand.NewPCG(z.seed, 38))
	c := &chances{}
	block := func(to *[]float64, n int, of func(u float64) float64) {
		from := len(*to)
		for i := range n {
			*to = append(*to, of((float64(i)+0.5)/float64(n)))
		}
		part := (*to)[from:]
		random.Shuffle(n, func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	for _, n := range []int{z.warm, z.count} {
		block(&c.gaps, n, func(u float64) float64 { return -math.Log1p(-u) })
		block(&c.lengths, n, func(u float64) float64 { return 2*u - 1 })
		block(&c.kinds, n, func(u float64) float64 { return u })
	}
	block(&c.noise, z.warm+z.count, distuv.UnitNormal.Quantile)
	block(&c.pace, z.warm+z.count, distuv.UnitNormal.Quantile)
	return c
}

var (
	coarseChances = sync.OnceValue(coarse.draw)
	fineChances   = sync.OnceValue(fine.draw)
)

// request is one on its way.
type request struct {
	class         int
	output        int
	arrived       float64
	first         float64
	begun, tokens int // of the prompt: computed, and in the running iteration
}

// open serves requests that arrive at random, at a rate per ms.
func (r *replica) open(rate float64, z size) observed {
	if z == fine {
		return r.with(fineChances(), rate, z)
	}
	return r.with(coarseChances(), rate, z)
}

func (r *replica) with(dice *chances, rate float64, z size) observed {
	s := r.simulation(z.warm, z.count)
	s.dice = dice
	t := 0.0
	for i := range z.warm + z.count {
		t += s.dice.gaps[i] / rate
		s.add(t)
	}
	s.serve()
	return s.observed
}

// closedLoop serves streams, each of which sends its next request a moment after its answer.
func (r *replica) closedLoop(streams int) observed {
	s := r.simulation(max(300, 4*streams), max(1000, 8*streams))
	s.closed = true
	// They begin spread over about the time of a request, as the driver's do.
	alone := r.alone()
	for i := range streams {
		s.add(alone * float64(i) / float64(streams))
	}
	s.serve()
	return s.observed
}

func (r *replica) simulation(warm, count int) *simulation {
	return &simulation{
		replica: r, dice: coarseChances(), warm: warm, total: warm + count,
		requests: make([]request, 0, warm+count+r.maxInFlight), running: make([]int, len(r.classes)),
		observed: observed{ttft: make([]float64, 0, count), itl: make([]float64, 0, count), e2e: make([]float64, 0, count)},
	}
}

// alone is the time of a request that has the server for itself, ms.
func (r *replica) alone() float64 {
	t := 0.0
	for i := range r.classes {
		c := &r.classes[i]
		t += c.share * (r.idleTTFT(c) + float64(c.output-1)*c.iteration[min(1, r.maxInFlight)])
	}
	return t
}

// idleTTFT is the time to first token on an idle server, ms.
func (r *replica) idleTTFT(c *class) float64 {
	return c.overheadMS + float64(chunks(c.prompt, r.chunk))*c.iteration[0] + c.work(0, c.prompt)
}

func chunks(prompt, chunk int) int { return (prompt + chunk - 1) / chunk }

// turnaround is how long a stream of a closed loop takes to send its next request, ms:
// short, but the next iteration has begun by then.
const turnaround = 0.05

type simulation struct {
	*replica
	observed
	dice     *chances
	closed   bool
	warm     int // requests that do not count
	total    int // requests after whose end it is over
	requests []request
	running  []int // decoding, by class
	ends     heap

	area, decodingArea float64 // requests in the server and those that decode, times ms
	decodeMS, gaps     float64 // of all requests that count
}

func (s *simulation) add(at float64) {
	i := len(s.requests)
	n := len(s.dice.kinds)
	kind, u := 0, s.dice.kinds[i%n]
	for kind < len(s.classes)-1 && u >= s.classes[kind].share {
		u -= s.classes[kind].share
		kind++
	}
	output := s.classes[kind].output
	width := max(0, min(int(s.spread*float64(output)), output-2))
	output += int(math.Round(float64(width) * s.dice.lengths[i%n]))
	s.requests = append(s.requests, request{class: kind, output: output, arrived: at})
}

// iterationTime is F for what decodes now: that of each class weighted by its share of
// the sequences, or of the arrivals where there are none.
func (s *simulation) iterationTime(decoding int) float64 {
	if len(s.classes) == 1 {
		return s.classes[0].iteration[decoding]
	}
	t := 0.0
	for i := range s.classes {
		weight := s.classes[i].share
		if decoding > 0 {
			weight = float64(s.running[i]) / float64(decoding)
		}
		t += weight * s.classes[i].iteration[decoding]
	}
	return t
}

// observe adds up what is in the server from now for span ms: so many requests, of
// which so many decode, and those from tail on that arrive meanwhile.
func (s *simulation) observe(now, span float64, decoding, present, tail int) {
	s.area += span * float64(present)
	s.decodingArea += span * float64(decoding)
	for i := tail; i < len(s.requests) && s.requests[i].arrived < now+span; i++ {
		s.area += now + span - s.requests[i].arrived
	}
}

// serve runs until enough requests have ended.
func (s *simulation) serve() {
	now, step := 0.0, int64(0) // iterations so far
	head, tail := 0, 0         // requests from head to tail wait
	decoding, ended := 0, 0
	var prefilling []int // requests with prompts in the running iteration, in order
	partial := -1        // of them, the one whose prompt is not done after it
	steady := -1.0       // since when it is observed
	for ended < s.total {
		for tail < len(s.requests) && s.requests[tail].arrived <= now {
			tail++
		}
		budget, work := s.chunk-decoding, 0.0
		prefilling = prefilling[:0]
		schedule := func(i int) {
			q := &s.requests[i]
			c := &s.classes[q.class]
			q.tokens = min(c.prompt-q.begun, budget)
			budget -= q.tokens
			work += c.work(q.begun, q.tokens)
			prefilling = append(prefilling, i)
		}
		if partial >= 0 {
			schedule(partial)
		}
		for head < tail && budget > 0 && decoding+len(prefilling) < s.maxInFlight {
			schedule(head)
			head++
		}
		if decoding+len(prefilling) == 0 {
			now = s.requests[tail].arrived
			continue
		}
		duration := s.iterationTime(decoding) + work
		steps := int64(1)
		if len(prefilling) == 0 {
			// Nothing changes until a sequence ends or a request arrives.
			steps = s.ends.least() - step
			if head == tail && tail < len(s.requests) {
				steps = min(steps, max(1, int64(math.Ceil((s.requests[tail].arrived-now)/duration))))
			}
		}
		span := float64(steps) * duration
		if steady >= 0 {
			s.observe(now, span, decoding, decoding+len(prefilling)+tail-head, tail)
		}
		now += span
		step += steps
		for s.ends.any() && s.ends.least() == step {
			i := s.ends.pop()
			q := &s.requests[i]
			s.running[q.class]--
			decoding--
			ended++
			s.end(q, now, ended)
		}
		partial = -1
		for _, i := range prefilling {
			q := &s.requests[i]
			q.begun += q.tokens
			if q.begun < s.classes[q.class].prompt {
				partial = i
				continue
			}
			q.first = now
			if q.output == 1 {
				ended++
				s.end(q, now, ended)
				continue
			}
			s.ends.push(step+int64(q.output-1), i)
			s.running[q.class]++
			decoding++
		}
		if ended >= s.warm && steady < 0 {
			steady = now
		}
	}
	length := now - steady
	s.inFlight, s.decoding = s.area/length, s.decodingArea/length
	s.requestsPerMS = float64(len(s.ttft)) / length
	s.meanITL = s.decodeMS / s.gaps
}

// end notes what a client saw of a request.
func (s *simulation) end(q *request, now float64, ended int) {
	if s.closed {
		s.add(now + turnaround)
	}
	if ended <= s.warm {
		return
	}
	c := &s.classes[q.class]
	i := ended % len(s.dice.noise)
	ttft := (q.first - q.arrived + c.overheadMS) * (1 + c.noise.ttft*s.dice.noise[i])
	decode := (now - q.first) * (1 + c.noise.itl*s.dice.pace[i])
	s.ttft = append(s.ttft, ttft)
	s.e2e = append(s.e2e, ttft+decode)
	if q.output > 1 {
		gaps := float64(q.output - 1)
		s.itl = append(s.itl, decode/gaps)
		s.decodeMS += decode
		s.gaps += gaps
	}
}

// heap holds requests by the iteration in which they end.
type heap []ending

type ending struct {
	step    int64
	request int
}

func (h heap) any() bool    { return len(h) > 0 }
func (h heap) least() int64 { return h[0].step }

func (h *heap) push(step int64, request int) {
	*h = append(*h, ending{step, request})
	for i := len(*h) - 1; i > 0; {
		parent := (i - 1) / 2
		if (*h)[parent].step <= (*h)[i].step {
			return
		}
		(*h)[parent], (*h)[i] = (*h)[i], (*h)[parent]
		i = parent
	}
}

func (h *heap) pop() int {
	top, last := (*h)[0].request, len(*h)-1
	(*h)[0] = (*h)[last]
	*h = (*h)[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if child+1 < last && (*h)[child+1].step < (*h)[child].step {
			child++
		}
		if (*h)[i].step <= (*h)[child].step {
			return top
		}
		(*h)[i], (*h)[child] = (*h)[child], (*h)[i]
		i = child
	}
}
