package measurement

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"

	"gonum.org/v1/gonum/stat"

	"wfgen.dev/internal/llm/record"
)

// Bases of a witness: what its numbers were made of.
const (
	BasisRows       = "rows"       // every request of the point
	BasisSummary    = "summary"    // the report's own statistics of the whole run
	BasisHistograms = "histograms" // the server's sums and counts
	BasisConsole    = "console"    // a console log, rounded as printed
	BasisTimings    = "timings"    // the server's own times of each request, in its answers
)

// Errors that Reduce counts itself, beside those that the rows bring.
const (
	noToken         = "successful without an output token"
	allAtOnce       = "all output tokens at one moment (not streamed)"
	impossibleTimes = "impossible timestamps"
)

// AtOnce says whether every answer came in one piece: nothing went wrong, and nothing
// can be timed.
func (r Requests) AtOnce() bool {
	return r.Successful == 0 && r.Errored > 0 && r.Errors[allAtOnce] == r.Errored
}

// Reduce makes the client's witness from the rows of all requests of a point,
// successful or not, in a closed loop of so many streams.
//
// It looks at the steady window only: from when every stream has received the
// first token of its first request (so the burst in which all streams start is
// out) to the first end after the last start (from when streams fall idle).
// Estimates are over the successful requests that lie wholly inside and started
// after its beginning; the batch is the time-weighted number of requests in
// flight, whatever became of them. Rows that say success but hold no token or
// impossible times are counted as errors.
//
// The counts are filled even when an error says that there is no steady window,
// and how long the point must be to have one.
func Reduce(rows []Request, streams int) (Witness, Requests, error) {
	if streams < 1 {
		return Witness{}, Requests{}, fmt.Errorf("streams: %d is below 1", streams)
	}
	sent, counts, duration, err := sortOut(rows)
	if err != nil {
		return Witness{}, counts, err
	}
	needed := fmt.Sprintf("a request took %.3g s: let the point run for at least %.3g s, or 3 requests per stream", duration, math.Ceil(30*duration)/10)
	if len(sent) < streams {
		return Witness{}, counts, fmt.Errorf("only %d requests were sent in %d streams, so they were never all busy; %s", len(sent), streams, needed)
	}

	from := sent[streams-1].Start
	for _, r := range sent[:streams] {
		from = max(from, r.FirstToken)
	}
	lastStart := sent[len(sent)-1].Start
	to := math.Inf(1)
	for _, r := range sent {
		if r.End > lastStart {
			to = min(to, r.End)
		}
	}
	if math.IsInf(to, 1) || to <= from {
		return Witness{}, counts, fmt.Errorf("no steady window: the first stream fell idle before all %d were past their first token; %s", streams, needed)
	}

	var inside []Request
	for _, r := range sent {
		if r.Status == record.Successful && r.Start > from && r.End <= to {
			inside = append(inside, r)
		}
	}
	counts.InWindow = len(inside)
	if len(inside) == 0 {
		return Witness{}, counts, fmt.Errorf("no request lies wholly in the steady window of %.3g s; %s", to-from, needed)
	}
	w, err := witness(sent, inside, from, to, duration)
	w.Requests = counts.Successful
	return w, counts, err
}

// sortOut counts what became of the rows, and returns those that occupied the server, by
// their start and with an end, and the median duration of a request, seconds.
func sortOut(rows []Request) (sent []Request, counts Requests, duration float64, err error) {
	var durations []float64
	last := 0.0 // the last thing known to have happened
	for _, r := range rows {
		last = max(last, finite(r.Start), finite(r.FirstToken), finite(r.LastToken), finite(r.End))
	}
	for _, r := range rows {
		if fault := check(r); fault != "" {
			r.Status = record.Errored
			if counts.Errors == nil {
				counts.Errors = map[string]int{}
			}
			counts.Errors[fault]++
		}
		switch r.Status {
		case record.Successful:
			counts.Successful++
			if r.Cut {
				counts.Cut++
			}
			durations = append(durations, r.End-r.Start)
		case record.Errored:
			counts.Errored++
		default:
			counts.Incomplete++
		}
		if finite(r.Start) <= 0 {
			continue // never sent
		}
		if finite(r.End) < r.Start {
			r.End = last // cut off: it was in flight to the end
		}
		sent = append(sent, r)
	}
	if counts.Successful == 0 {
		return nil, counts, 0, fmt.Errorf("none of %d requests was successful", len(rows))
	}
	sort.Slice(sent, func(i, j int) bool { return sent[i].Start < sent[j].Start })
	return sent, counts, median(durations), nil
}

// witness is made of the requests inside a window (Unix seconds), of all that were sent.
func witness(sent, inside []Request, from, to, duration float64) (Witness, error) {
	inFlight := 0.0
	for _, r := range sent {
		inFlight += max(0, min(r.End, to)-max(r.Start, from))
	}
	n := blockCount(to-from, duration)
	itl, ttft := make([]tally, n), make([]tally, n)
	waits, gaps := make([]float64, 0, len(inside)), make([]float64, 0, len(inside))
	block := func(t float64) int { return max(0, min(n-1, int(float64(n)*(t-from)/(to-from)))) }
	for _, r := range inside {
		wait := 1000 * (r.FirstToken - r.Start)
		waits = append(waits, wait)
		ttft[block(r.FirstToken)].add(wait, 1)
		if r.OutputTokens > 1 {
			decode, n := 1000*(r.LastToken-r.FirstToken), float64(r.OutputTokens-1)
			gaps = append(gaps, decode/n)
			itl[block((r.FirstToken+r.LastToken)/2)].add(decode, n)
		}
	}
	if len(gaps) == 0 {
		return Witness{}, fmt.Errorf("none of %d requests has two counted output tokens, so there is no inter-token latency; does the server report usage?", len(inside))
	}
	w := Witness{
		ITL:           estimate(itl, len(gaps)),
		TTFT:          estimate(ttft, len(inside)),
		Batch:         inFlight / (to - from),
		WindowStart:   from,
		WindowSeconds: to - from,
		Basis:         BasisRows,
		Plain:         plain(sent),
		Course:        courseOf(sent),
		Stream:        stream(inside),
	}
	w.ITL.Quantiles, w.TTFT.Quantiles = quantiles(gaps), quantiles(waits)
	w.TTFT.MedianMS = median(waits)
	w.QueueMS = slotWait(inside, sent, w.ITL.MeanMS)
	w.Crowding = crowding(sent, w)
	return w, nil
}

// InStep is the crowding above which streams march in step: those that began together
// and are answered in one length begin together ever after, and TTFT tells how they
// happened to begin. Streams that know nothing of each other are at 1, by chance up to 1.4.
const InStep = 2

// crowding is variance over mean of the begins of requests in stretches of one ITL of the
// window. Nil where there are too few of either.
func crowding(sent []Request, w Witness) *float64 {
	const fewest, most = 50, 1e6
	stretches := 1000 * w.WindowSeconds / w.ITL.MeanMS
	if !(stretches >= fewest && stretches <= most) {
		return nil
	}
	counts := make([]float64, int(stretches))
	begins := 0
	for _, r := range sent {
		if i := int(1000 * (r.Start - w.WindowStart) / w.ITL.MeanMS); r.Start > w.WindowStart && i < len(counts) {
			counts[i]++
			begins++
		}
	}
	if begins < fewest {
		return nil
	}
	mean, variance := stat.PopMeanVariance(counts, nil)
	return new(variance / mean)
}

// Join adds to the server's witness from its answers what its metrics say besides; either
// may be nil.
func Join(timed, scraped *Witness) *Witness {
	if timed == nil || scraped == nil {
		return cmp.Or(timed, scraped)
	}
	w := *timed
	w.Requests = cmp.Or(scraped.Requests, timed.Requests)
	w.Tokens, w.WaitingMean, w.Full = scraped.Tokens, scraped.WaitingMean, scraped.Full
	w.Preemptions, w.KVCacheUsage, w.Course = scraped.Preemptions, scraped.KVCacheUsage, scraped.Course
	return &w
}

// stream says how the answers of some requests came; nil where the rows do not. Of the
// tokens that came with the first the median counts: a client that was starved for a
// moment has found several now and then, a server that groups them sends so many always.
func stream(rows []Request) *Stream {
	var pieces, tokens, gaps, instant, last float64
	var first []float64
	for _, r := range rows {
		if r.Pieces == 0 || r.OutputTokens == 0 {
			continue
		}
		pieces += float64(r.Pieces)
		tokens += float64(r.OutputTokens)
		gaps += float64(r.Pieces - 1)
		instant += float64(r.Instant)
		if r.LastTogether {
			last++
		}
		first = append(first, float64(r.FirstTokens))
	}
	if len(first) == 0 {
		return nil
	}
	return &Stream{PiecesPerToken: pieces / tokens, FirstTokens: median(first), Instant: instant / max(1, gaps), LastTogether: last / float64(len(first))}
}

// Requests that wait for the end of others: so many must be seen, and such a share of
// them; their first tokens follow those ends by times that differ by less than this.
const (
	fewestForSlots = 8
	slotShare      = 0.6 // some begin while a stream pauses that has failed
	slotSpread     = 0.3

	// Every request that finds a server busy waits for the running iteration, at whose end
	// others may end, too: a queue is what waits longer than so many of them.
	slotWaitITLs = 1.5
)

// slotWait is what requests waited in the mean for the end of another, ms, by the rows
// alone; nil: they did not, or it cannot be told. Where no more can run, one that waits
// begins when another ends: its first token follows that end by a prefill, always about
// the same, while its own beginning lies anywhere before. itl is the point's, ms.
func slotWait(inside, sent []Request, itl float64) *float64 {
	ends := make([]float64, 0, len(sent))
	for _, r := range sent {
		ends = append(ends, r.End)
	}
	slices.Sort(ends)
	var after []float64
	waited := 0.0
	for _, r := range inside {
		i, _ := slices.BinarySearch(ends, r.FirstToken)
		if i == 0 || ends[i-1] <= r.Start {
			continue // nobody ended meanwhile
		}
		after = append(after, 1000*(r.FirstToken-ends[i-1]))
		waited += 1000 * (ends[i-1] - r.Start)
	}
	n := len(after)
	if n < fewestForSlots || float64(n) < slotShare*float64(len(inside)) {
		return nil
	}
	waited /= float64(n)
	middle := median(after) // which sorts them
	if middle < leastTTFT*itl || waited < max(middle/2, slotWaitITLs*itl) || after[3*n/4]-after[n/4] > slotSpread*middle {
		return nil
	}
	return &waited
}

// TimedWitness is the server's witness where its answers say how long each request
// took it, from the rows of the requests and the client's witness of them. Its TTFT is
// absent: nobody says when a request arrived. What the client waited for the first
// token beyond the prefill is its QueueMS: the way there and back is in it, and so is
// the wait for a free slot.
func TimedWitness(rows []Request, client Witness) *Witness {
	var itl, prefill, wait, running, spent, cached tally
	from, to := client.WindowStart, client.WindowStart+client.WindowSeconds
	blocks := make([]tally, blockCount(client.WindowSeconds, client.WindowSeconds/5))
	for _, r := range rows {
		if r.Status != record.Successful || r.DecodeMS <= 0 || r.OutputTokens < 2 || r.Start <= from || r.End > to {
			continue
		}
		i := min(len(blocks)-1, int(float64(len(blocks))*(r.FirstToken-from)/(to-from)))
		blocks[i].add(float64(r.DecodeMS), float64(r.OutputTokens-1))
		itl.add(float64(r.DecodeMS), float64(r.OutputTokens-1))
		prefill.add(float64(r.PrefillMS), 1)
		wait.add(1000*(r.FirstToken-r.Start)-float64(r.PrefillMS), 1)
		running.add(float64(r.PrefillMS+r.DecodeMS), 1)
		spent.add(1000*(r.End-r.Start), 1)
		cached.add(float64(r.CachedTokens), 1)
	}
	if itl.count == 0 {
		return nil
	}
	mean := func(t tally) *float64 { return new(t.sum / t.count) }
	return &Witness{
		ITL: estimate(blocks, int(prefill.count)), Batch: client.Batch * min(1, running.sum/spent.sum),
		Requests: client.Requests, WindowStart: client.WindowStart, WindowSeconds: client.WindowSeconds, Basis: BasisTimings,
		QueueMS: new(max(0, wait.sum/wait.count)), PrefillMS: mean(prefill), RunningMS: mean(running), PrefixCacheHits: &cached.sum,
	}
}

// plain summarizes rows, sorted by their start, as a plain report does.
func plain(sent []Request) *Plain {
	var itl, ttft tally
	inFlight, end := 0.0, 0.0
	for _, r := range sent {
		inFlight += r.End - r.Start
		end = max(end, r.End)
		if r.Status == record.Successful {
			ttft.add(1000*(r.FirstToken-r.Start), 1)
			itl.add(1000*(r.LastToken-r.FirstToken), float64(max(0, r.OutputTokens-1)))
		}
	}
	return &Plain{ITLMS: itl.sum / itl.count, TTFTMS: ttft.sum / ttft.count, Batch: inFlight / (end - sent[0].Start)}
}

// check names what makes a row that says success unusable, or returns "".
func check(r Request) string {
	if r.Status != record.Successful {
		return ""
	}
	for _, t := range []float64{r.Start, r.FirstToken, r.LastToken, r.End} {
		if math.IsNaN(t) || math.IsInf(t, 0) {
			return impossibleTimes
		}
	}
	switch {
	case r.FirstToken == 0:
		return noToken
	case r.Start <= 0, r.FirstToken <= r.Start, r.LastToken < r.FirstToken, r.End < r.LastToken:
		return impossibleTimes
	case r.OutputTokens > 1 && r.LastToken == r.FirstToken && r.Pieces == 0: // else Weigh sees how they came
		return allAtOnce
	}
	return ""
}

// ServerWitness makes the server's witness from scrapes of its /metrics in the
// order of time: exact means between the first and the last scrape inside the
// window from start to end (Unix seconds), counts over all scrapes. It is nil
// when the server reports neither latencies nor tokens. Its estimates are nil when the
// window holds fewer than two scrapes, or when the server restarted in it.
func ServerWitness(scrapes []Scrape, start, end float64) *Witness {
	reports := func(s Scrape) bool {
		return s.ITL != nil || s.TTFT != nil || s.Queue != nil || s.Inference != nil || s.Generated != nil
	}
	if !slices.ContainsFunc(scrapes, reports) {
		return nil
	}
	w := &Witness{
		Basis:           BasisHistograms,
		Preemptions:     increase(scrapes, func(s Scrape) *float64 { return s.Preemptions }),
		PrefixCacheHits: increase(scrapes, func(s Scrape) *float64 { return s.PrefixCacheHits }),
		BytesRead:       increase(scrapes, func(s Scrape) *float64 { return s.BytesRead }),
		Course:          courseOfServer(scrapes),
	}
	finished := increase(scrapes, func(s Scrape) *float64 { return s.Successes })
	if finished == nil { // a server without the counter: first tokens are the next best
		finished = increase(scrapes, func(s Scrape) *float64 { return count(s.TTFT) })
	}
	if finished != nil {
		w.Requests = int(math.Round(*finished))
	}
	w.Gaps = increase(scrapes, func(s Scrape) *float64 { return count(s.ITL) })
	w.Tokens = increase(scrapes, func(s Scrape) *float64 { return s.Generated })
	steps := w.countsSteps(increase(scrapes, func(s Scrape) *float64 { return count(s.TTFT) }))
	for _, s := range scrapes {
		if s.KVCacheUsage != nil && (w.KVCacheUsage == nil || *s.KVCacheUsage > *w.KVCacheUsage) {
			w.KVCacheUsage = new(*s.KVCacheUsage)
		}
	}

	var inside []Scrape
	for _, s := range scrapes {
		if s.Time >= start && s.Time <= end {
			inside = append(inside, s)
		}
	}
	if len(inside) < 2 {
		return w
	}
	first, last := inside[0], inside[len(inside)-1]
	w.WindowStart, w.WindowSeconds = first.Time, last.Time-first.Time
	waiting, full, most := 0.0, true, 0.0
	for _, s := range inside {
		w.Batch += s.Running / float64(len(inside))
		waiting += s.Waiting / float64(len(inside))
		full, most = full && s.Waiting > 0, max(most, s.Running)
	}
	w.WaitingMean = &waiting
	if full && most > 0 {
		w.Full = &most
	}

	// A request's duration, by Little's law: requests in the server over the
	// rate of first tokens.
	duration := w.WindowSeconds
	if first.TTFT != nil && last.TTFT != nil && last.TTFT.Count > first.TTFT.Count {
		duration = (w.Batch + waiting) * w.WindowSeconds / (last.TTFT.Count - first.TTFT.Count)
	}
	blocks := blockCount(w.WindowSeconds, duration)
	histogram := func(of func(Scrape) *Histogram) *Estimate { return difference(inside, blocks, of) }
	// What a server observes at a request's end (vLLM all but the times of tokens) is of
	// one that began a duration before: those that began with the first of all, and
	// queued for one another, end in the window, and are none of its requests.
	ended := inside
	if i := slices.IndexFunc(inside, func(s Scrape) bool { return s.Time >= first.Time+duration }); i >= 0 && i < len(inside)-1 {
		ended = inside[i:]
	}
	mean := func(of func(Scrape) *Histogram) *float64 {
		if e := difference(ended, 1, of); e != nil {
			return &e.MeanMS
		}
		return nil
	}
	w.RunningMS = mean(func(s Scrape) *Histogram { return s.Inference })
	if !steps {
		w.ITL = histogram(func(s Scrape) *Histogram { return s.ITL })
	}
	if steps || w.Gaps == nil {
		w.ITL = histogram(perToken)
	}
	w.TTFT = histogram(func(s Scrape) *Histogram { return s.TTFT })
	w.QueueMS = mean(func(s Scrape) *Histogram { return s.Queue })
	w.PrefillMS = mean(func(s Scrape) *Histogram { return s.Prefill })
	return w
}

// countsSteps says whether the histogram of ITL holds one observation per step of
// several tokens, as with speculative decoding, and keeps how many: firsts is how many
// first tokens, which have no gap, are among the tokens.
func (w *Witness) countsSteps(firsts *float64) bool {
	if w.Gaps == nil || w.Tokens == nil || firsts == nil || *w.Gaps <= 0 {
		return false
	}
	perGap := (*w.Tokens - *firsts) / *w.Gaps
	if perGap < stepOfTokens {
		return false
	}
	w.TokensPerGap = &perGap
	return true
}

// stepOfTokens is how many tokens there must be to a gap for gaps to be steps.
const stepOfTokens = 1.1

// perToken is the time that finished requests decoded, and the gaps between tokens in
// it: exact whatever a histogram of gaps counts.
func perToken(s Scrape) *Histogram {
	if s.Decode == nil || s.Outputs == nil {
		return nil
	}
	// Outputs counts tokens where a histogram of time has seconds
	return &Histogram{SumSeconds: s.Decode.SumSeconds, Count: s.Outputs.SumSeconds - s.Outputs.Count}
}

// Replicas says whether the scrapes are of several servers in turn: a running total
// falls, comes back, and falls again. A server that began again does not so soon do it
// once more.
func Replicas(scrapes []Scrape) bool {
	return slices.ContainsFunc(totals, func(of func(Scrape) *float64) bool { return falls(scrapes, of) > 1 })
}

// falls counts how often a running total fell.
func falls(scrapes []Scrape, of func(Scrape) *float64) int {
	n := 0
	var before *float64
	for _, s := range scrapes {
		now := of(s)
		if now == nil {
			continue
		}
		if before != nil && *now < *before {
			n++
		}
		before = now
	}
	return n
}

// totals are the running totals that a server never lowers.
var totals = []func(Scrape) *float64{
	func(s Scrape) *float64 { return s.Successes },
	func(s Scrape) *float64 { return s.Generated },
	func(s Scrape) *float64 { return count(s.TTFT) },
	func(s Scrape) *float64 { return count(s.ITL) },
}

func count(h *Histogram) *float64 {
	if h == nil {
		return nil
	}
	return &h.Count
}

// Restarted says whether the server began again between two scrapes: one of its
// running totals fell.
func Restarted(scrapes []Scrape) bool {
	return slices.ContainsFunc(totals, func(of func(Scrape) *float64) bool { return falls(scrapes, of) > 0 })
}

// increase is how much a running total grew over the scrapes that hold it; a
// total that falls began again at 0. Nil when no scrape holds it.
func increase(scrapes []Scrape, of func(Scrape) *float64) *float64 {
	var sum, before *float64
	for _, s := range scrapes {
		now := of(s)
		if now == nil {
			continue
		}
		switch {
		case before == nil:
			sum = new(0.0)
		case *now >= *before:
			*sum += *now - *before
		default:
			*sum += *now
		}
		before = now
	}
	return sum
}

// difference is the mean, ms, of what a histogram observed between the first and
// the last scrape, with a standard error from so many blocks of time; nil when it
// observed nothing or began again.
func difference(scrapes []Scrape, blocks int, of func(Scrape) *Histogram) *Estimate {
	first, last := scrapes[0], scrapes[len(scrapes)-1]
	length := (last.Time - first.Time) / float64(blocks)
	var tallies []tally
	var before *Histogram
	sum, total := tally{}, 0.0
	for _, s := range scrapes {
		now := of(s)
		if now == nil {
			continue
		}
		if before != nil {
			if now.Count < before.Count || now.SumSeconds < before.SumSeconds {
				return nil
			}
			sum.add(1000*(now.SumSeconds-before.SumSeconds), now.Count-before.Count)
			total += now.Count - before.Count
			// The small slack keeps a block from swallowing the next for a
			// scrape that came a moment early.
			if due := first.Time + length*(float64(len(tallies))+0.98); s.Time >= due {
				tallies = append(tallies, sum)
				sum = tally{}
			}
		}
		before = now
	}
	if sum.count > 0 {
		tallies = append(tallies, sum)
	}
	if total == 0 {
		return nil
	}
	return estimate(tallies, int(total))
}

// tally is the sum of a block of time and the count that it is the sum of.
type tally struct{ sum, count float64 }

func (t *tally) add(sum, count float64) {
	t.sum += sum
	t.count += count
}

// Requests that run together share the condition of the server, so the error of
// a mean is made of blocks of time, not of requests: of blocks of at least a
// request, whose dependence is estimated where there are enough of them, and else
// of few and long ones, which depend little. internal/tests/coverage compares this with
// other ways.
const (
	mostBlocks     = 16
	fewestForPairs = 12 // blocks, to estimate their dependence
	fewBlocks      = 5  // where there are fewer

	// worth is how many blocks whose dependence is estimated are worth one that
	// is independent: so much more does their estimate scatter.
	worth = 4
)

// blockCount is the number of blocks to cut a window into, seconds both; at least 1.
func blockCount(window, duration float64) int {
	n := int(window / duration)
	if n < fewestForPairs {
		return min(max(1, n), fewBlocks)
	}
	return min(n, mostBlocks)
}

// estimate is the ratio of the sums and its standard error by batch means: the
// ratio estimator, because blocks hold different numbers of observations.
//
// A server whose speed drifts for longer than a block makes neighbours alike, and
// the scatter of blocks then says too little. What it lacks goes with the inverse
// of a block's length: the scatter of blocks twice as long, all pairs of
// neighbours, lacks half as much, so that twice this less that lacks nothing.
func estimate(blocks []tally, samples int) *Estimate {
	blocks = slices.DeleteFunc(blocks, func(b tally) bool { return b.count == 0 })
	var all tally
	for _, b := range blocks {
		all.add(b.sum, b.count)
	}
	e := &Estimate{MeanMS: all.sum / all.count, Blocks: len(blocks), Samples: samples}
	n := float64(len(blocks))
	if n < 2 {
		return e
	}
	singles, pairs, before := 0.0, 0.0, 0.0
	for i, b := range blocks {
		d := b.sum - e.MeanMS*b.count
		singles += d * d
		if i > 0 {
			pairs += (d + before) * (d + before) / 2
		}
		before = d
	}
	variance := singles * n / (n - 1)
	if n >= fewestForPairs {
		pairs *= n / (n - 1) * n / (n - 2)
		variance = max(2*pairs-variance, variance/2)
		e.Blocks = 1 + int(math.Round(n/worth))
	}
	e.StandardErrorMS = math.Sqrt(variance) / all.count
	return e
}

// median sorts its argument.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// finite is x, or 0 where x is not a number that can be computed with.
func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}
