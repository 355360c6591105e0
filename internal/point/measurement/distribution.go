package measurement

import (
	"math"
	"slices"
	"strconv"

	"wfgen.dev/internal/llm/record"
)

// Quantiles is how the values of the requests behind an estimate are distributed, ms.
// Of ITL a request has one value: the mean of the gaps between its tokens.
type Quantiles struct {
	Min float64 `json:"min"`
	P10 float64 `json:"p10"`
	P25 float64 `json:"p25"`
	P50 float64 `json:"p50"`
	P75 float64 `json:"p75"`
	P90 float64 `json:"p90"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// StandardDeviation is that of a normal distribution with these 10 and 90 % quantiles, ms:
// a few late requests do not change it.
func (q *Quantiles) StandardDeviation() float64 {
	if q == nil {
		return 0
	}
	return (q.P90 - q.P10) / (2 * 1.2815516)
}

// quantiles sorts its argument, which must not be empty. Between two values it
// interpolates.
func quantiles(values []float64) *Quantiles {
	slices.Sort(values)
	at := func(share float64) float64 { return rounded(Quantile(values, share)) }
	return &Quantiles{Min: at(0), P10: at(0.10), P25: at(0.25), P50: at(0.50), P75: at(0.75), P90: at(0.90), P95: at(0.95), P99: at(0.99), Max: at(1)}
}

// Quantile of ascending values, of which there is at least one; between two of them it
// interpolates.
func Quantile(ascending []float64, share float64) float64 {
	at := share * float64(len(ascending)-1)
	low := int(at)
	high := min(low+1, len(ascending)-1)
	return ascending[low] + (at-float64(low))*(ascending[high]-ascending[low])
}

// Course is how a point went, from the first request to the last answer: means over
// spans of time of equal length, so that warm-up, drift and stalls can be seen. The
// lists are equally long; a value is null where nothing was observed in its span.
type Course struct {
	StartedAt   float64    `json:"started_at"`        // begin of the first span, Unix seconds
	SpanSeconds float64    `json:"span_seconds"`      // length of each span
	ITLMS       []*float64 `json:"itl_ms,omitempty"`  // inter-token latency, ms
	TTFTMS      []*float64 `json:"ttft_ms,omitempty"` // time to the first tokens that came in the span, ms
	Batch       []*float64 `json:"batch,omitempty"`   // requests in flight (client) or running (server)
}

// mostSpans of a course keep a measurement with three witnesses well below 20 KB.
const mostSpans = 40

// spans gathers a course.
type spans struct {
	from, length     float64
	itl, ttft, batch []tally
}

func newSpans(from, to float64, n int) *spans {
	n = max(1, min(mostSpans, n))
	return &spans{from: from, length: (to - from) / float64(n), itl: make([]tally, n), ttft: make([]tally, n), batch: make([]tally, n)}
}

// of is the span of a moment.
func (s *spans) of(t float64) int {
	return max(0, min(len(s.itl)-1, int((t-s.from)/s.length)))
}

// over calls f for each span that lies between from and to, with the seconds of it
// that do.
func (s *spans) over(from, to float64, f func(i int, seconds float64)) {
	for i := s.of(from); i <= s.of(to); i++ {
		begin := s.from + float64(i)*s.length
		if seconds := min(to, begin+s.length) - max(from, begin); seconds > 0 {
			f(i, seconds)
		}
	}
}

// course is what was gathered. A span's batch is its sum over its count.
func (s *spans) course() *Course {
	list := func(tallies []tally) []*float64 {
		var means []*float64
		for i, t := range tallies {
			if t.count > 0 {
				if means == nil {
					means = make([]*float64, len(tallies))
				}
				means[i] = new(rounded(t.sum / t.count))
			}
		}
		return means
	}
	return &Course{StartedAt: s.from, SpanSeconds: s.length, ITLMS: list(s.itl), TTFTMS: list(s.ttft), Batch: list(s.batch)}
}

// courseOf is the course of requests that were sent, sorted by their start. The rows
// hold no moments of tokens between the first and the last, so those of a request are
// taken to be evenly spaced.
func courseOf(sent []Request) *Course {
	from, to := sent[0].Start, sent[0].End
	for _, r := range sent {
		to = max(to, r.End)
	}
	if !(to > from) {
		return nil
	}
	s := newSpans(from, to, len(sent))
	for i := range s.batch {
		s.batch[i].count = s.length
	}
	for _, r := range sent {
		s.over(r.Start, r.End, func(i int, seconds float64) { s.batch[i].sum += seconds })
		if r.Status != record.Successful {
			continue
		}
		s.ttft[s.of(r.FirstToken)].add(1000*(r.FirstToken-r.Start), 1)
		if gaps := float64(r.OutputTokens - 1); gaps > 0 {
			decode := r.LastToken - r.FirstToken
			s.over(r.FirstToken, r.LastToken, func(i int, seconds float64) { s.itl[i].add(1000*seconds, gaps*seconds/decode) })
		}
	}
	return s.course()
}

// courseOfServer is the course between scrapes in the order of time, nil where fewer
// than two tell anything.
func courseOfServer(scrapes []Scrape) *Course {
	if len(scrapes) < 2 {
		return nil
	}
	from, to := scrapes[0].Time, scrapes[len(scrapes)-1].Time
	if !(to > from) {
		return nil
	}
	s := newSpans(from, to, len(scrapes)-1)
	grew := func(into []tally, i int, before, now *Histogram) {
		if before != nil && now != nil && now.Count > before.Count && now.SumSeconds >= before.SumSeconds {
			into[i].add(1000*(now.SumSeconds-before.SumSeconds), now.Count-before.Count)
		}
	}
	for k, now := range scrapes[1:] {
		before := scrapes[k]
		i := s.of((before.Time + now.Time) / 2)
		grew(s.itl, i, before.ITL, now.ITL)
		grew(s.ttft, i, before.TTFT, now.TTFT)
		s.batch[i].add(finite(now.Running), 1)
	}
	return s.course()
}

// rounded is x to five significant digits: more are noise, and take room.
func rounded(x float64) float64 {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return finite(x)
	}
	y, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 5, 64), 64)
	return y
}
