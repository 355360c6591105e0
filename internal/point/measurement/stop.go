package measurement

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/sweep"
)

// Why the load of a point ended.
const (
	EndedPrecision   = "precision"
	EndedMaxSeconds  = "max-seconds"
	EndedMaxRequests = "max-requests"
)

// Wanted is how well the means of a point are wanted: half widths of their 95 %
// intervals, relative. One that is 0 is not asked for.
type Wanted struct{ ITL, TTFT float64 }

// ParseWanted reads 1%, which is for both, or a list such as itl=1%,ttft=3%. The error
// holds every mistake.
func ParseWanted(text string) (w Wanted, err error) {
	if !strings.Contains(text, "=") {
		share, err := sweep.ParseShare(text)
		if err != nil {
			return w, fmt.Errorf("%w, or a list such as itl=1%%,ttft=3%%", err)
		}
		return Wanted{share, share}, nil
	}
	var errs []error
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		to := map[string]*float64{"itl": &w.ITL, "ttft": &w.TTFT}[strings.TrimSpace(name)]
		if to == nil {
			errs = append(errs, fmt.Errorf("found %q, expected itl or ttft with a share, such as itl=1%%", part))
			continue
		}
		if *to > 0 {
			errs = append(errs, fmt.Errorf("%s is given twice", name))
		}
		share, err := sweep.ParseShare(value)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		*to = share
	}
	return w, errors.Join(errs...)
}

// Any says whether anything is wanted.
func (w Wanted) Any() bool { return w.ITL > 0 || w.TTFT > 0 }

// Stop decides when a closed loop has run for long enough: as soon as the intervals of
// its means are narrow enough. Who looks often enough sees an interval that is narrow by
// chance, and stops when it is wrong. So the first look is at a window of fewestLook
// requests one after another, where the error is made of as many blocks as ever; the
// looks are few, each at a window half as long again as the last; and the noise that an
// interval is made of is the largest that was seen at any of them.
type Stop struct {
	Wanted
	Streams int

	Looks     int
	ITL, TTFT float64 // half widths at the last look, relative; 0: none was taken

	noise   [2]float64 // variance of the mean times the window, largest seen, relative
	next    float64    // window of the next look, seconds
	outside float64    // seconds before and after the window, when it was looked at last
}

const (
	fewestLook = 24 // requests of a stream in the window of the first look
	looksGrow  = 1.5
)

// Due tells whether a look is worth it at so many requests, from the first of which to the
// end of the last so many seconds have passed.
func (s *Stop) Due(requests int, seconds float64) bool {
	return requests >= fewestLook*s.Streams && seconds-s.outside >= s.next
}

// Enough looks at the requests that have ended so far, in any order, and tells whether
// the point may end. It does not look again before there is enough more to see.
func (s *Stop) Enough(rows []record.Request) bool {
	span := spanOf(rows)
	if !s.Due(len(rows), span) {
		return false
	}
	w, _, err := Reduce(rows, s.Streams)
	if err != nil || w.ITL == nil || w.TTFT == nil {
		return false
	}
	s.outside = span - w.WindowSeconds
	request := (w.TTFT.MeanMS + w.ITL.MeanMS*(tokensOf(rows)-1)) / 1000
	if w.WindowSeconds < max(s.next, fewestLook*request) {
		return false
	}
	s.Looks++
	s.next = looksGrow * w.WindowSeconds
	width := func(e *Estimate, noise *float64) float64 {
		if e.Blocks < 2 || e.StandardErrorMS <= 0 {
			return math.Inf(1)
		}
		share := e.StandardErrorMS / e.MeanMS
		*noise = max(*noise, share*share*w.WindowSeconds)
		t := distuv.StudentsT{Sigma: 1, Nu: float64(e.Blocks - 1)}.Quantile(0.975)
		return t * math.Sqrt(*noise/w.WindowSeconds)
	}
	s.ITL, s.TTFT = width(w.ITL, &s.noise[0]), width(w.TTFT, &s.noise[1])
	return (s.Wanted.ITL == 0 || s.ITL <= s.Wanted.ITL) && (s.Wanted.TTFT == 0 || s.TTFT <= s.Wanted.TTFT)
}

// String is how narrow the intervals were at the last look, for people.
func (s *Stop) String() string {
	if s.Looks == 0 {
		return "too few requests to look at how well its means are told"
	}
	return fmt.Sprintf("at look %d ITL ±%.2g %%, TTFT ±%.2g %%", s.Looks, 100*s.ITL, 100*s.TTFT)
}

// spanOf is how long it took from the first request to the end of the last, seconds.
func spanOf(rows []record.Request) float64 {
	from, to := math.Inf(1), 0.0
	for _, r := range rows {
		from, to = min(from, r.Start), max(to, r.End)
	}
	return to - from
}

// tokensOf is the mean number of output tokens of the requests that succeeded.
func tokensOf(rows []record.Request) float64 {
	var t tally
	for _, r := range rows {
		if r.Status == record.Successful {
			t.add(float64(r.OutputTokens), 1)
		}
	}
	return t.sum / max(1, t.count)
}
