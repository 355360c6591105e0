package measurement

import (
	"testing"

	"wfgen.dev/internal/sweep"
)

// A report that is read again may be of an open loop, which has no streams.
func TestWitnessOfAnOpenLoop(t *testing.T) {
	m := Measurement{Driver: Driver{Name: sweep.Guidellm}, Client: &Witness{}, Requests: Requests{Successful: 3}}
	m.Witnessed([]Scrape{{Time: 1}, {Time: 2}})
	if len(m.Notes) > 0 {
		t.Errorf("%q", m.Notes)
	}
}

func TestDuring(t *testing.T) {
	var series []Scrape
	for i := range 10 {
		series = append(series, Scrape{Time: 100 + float64(i)})
	}
	for name, tc := range map[string]struct {
		start, end  float64
		first, last float64 // of what is kept
	}{
		"all of them":              {99, 200, 100, 109},
		"one before and one after": {102.5, 105.5, 102, 106},
		"a moment to be counted":   {102.5, 105.9, 102, 107},
		"a scrape at the start":    {102, 105, 101, 106},
	} {
		got := during(series, tc.start, tc.end)
		if got[0].Time != tc.first || got[len(got)-1].Time != tc.last {
			t.Errorf("%s: from %v to %v, want %v to %v", name, got[0].Time, got[len(got)-1].Time, tc.first, tc.last)
		}
	}
	if got := during(nil, 1, 2); len(got) != 0 {
		t.Errorf("%v of nothing", got)
	}
}

// Streams that begin together queue for one another once. vLLM says how long a request
// queued when it ends, which is in the window; its first token was before.
func TestQueueOfTheBeginning(t *testing.T) {
	const each = 6.0 // seconds that a request takes
	var scrapes []Scrape
	var ttft, queue Histogram
	began := func(s, at float64) bool { return s >= at && s < at+0.5 }
	for i := range 61 {
		now := 0.5 * float64(i)
		scrapes = append(scrapes, Scrape{Time: 1000 + now, Running: 8, TTFT: new(ttft), Queue: new(queue), ITL: new(Histogram{SumSeconds: now, Count: 100 * now})})
		for at := 0.0; at < 30; at += each {
			wait := 0.0
			if at == 0 {
				wait = 1.5
			}
			if began(now, at) {
				ttft.Count += 8
				ttft.SumSeconds += 8 * (0.05 + wait)
			}
			if began(now, at+each) {
				queue.Count += 8
				queue.SumSeconds += 8 * wait
			}
		}
	}
	w := ServerWitness(scrapes, 1004, 1030)
	near(t, "TTFT", w.TTFT.MeanMS, 50, 1e-9)
	near(t, "queue", *w.QueueMS, 0, 1e-9)
}
