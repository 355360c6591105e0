package measurement

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
)

// Settle is how long servers may take to count a request that they have answered.
const Settle = 200 * time.Millisecond

// goodPerStream is how many requests a stream of guidellm should make: it starts all
// at once, and cuts off what is under way at the end.
const goodPerStream = 10

// ServerRestarted voids a point whose server began again in the middle: streams that found
// nobody to ask were idle, so that fewer requests ran together than were measured at.
const ServerRestarted = "the server restarted during the point"

// Witnessed adds the witness of the server to a measurement that a report alone made:
// scrapes of its /metrics, in the order of time, from before the load to after it.
// It refuses a point whose server was another at its end, and weighs again.
func (m *Measurement) Witnessed(series []Scrape) {
	odd := map[string]bool{}
	for _, s := range series {
		for _, name := range s.Odd {
			odd[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(odd)) {
		m.Notes = append(m.Notes, fmt.Sprintf("the server's %s was no count or time (not finite, negative, or beyond all counting), and is left out where it was", name))
	}
	if m.Client != nil && m.Driver.Name == sweep.Guidellm {
		if n := m.Requests.Successful / max(1, m.BatchSize); m.BatchSize > 0 && n < goodPerStream { // an open loop has no streams
			m.Notes = append(m.Notes, fmt.Sprintf("each stream made %d requests; from %d on, beginning and end of guidellm's run matter little", n, goodPerStream))
		}
		series = during(series, m.StartedAt, m.StartedAt+m.Seconds) // its report holds none of what it asks before it begins
	}
	switch {
	case Replicas(series):
		m.Refuse(reason.New(reason.Replicas, "the server's running totals fall and come back: two replicas or more answer at one address").Cured("measure one of them by its own URL"))
	case Restarted(series):
		m.Refuse(reason.New(reason.Restarted, ServerRestarted))
	}
	if m.Client != nil {
		if c := m.Client.Crowding; c != nil && *c > InStep {
			m.Notes = append(m.Notes, fmt.Sprintf("the streams march in step: their requests begin together %.2g times as much as by chance, so TTFT tells how they happened to begin", *c))
		}
		m.Server = Join(m.Server, ServerWitness(series, m.Client.WindowStart, m.Client.WindowStart+m.Client.WindowSeconds))
	}
	m.Taken = m.Weigh(Auto, Auto)
}

// during are the scrapes from the last before start to the first after end, Unix
// seconds: what they count between them is what the load asked for in that time, and
// not what a driver asks for before it begins. Servers count a request a moment after
// its answer, so the one after the end is that moment late.
func during(series []Scrape, start, end float64) []Scrape {
	from, to := 0, len(series)
	for i, s := range series {
		if s.Time < start {
			from = i
		}
		if s.Time > end+Settle.Seconds() {
			to = i + 1
			break
		}
	}
	return series[from:to]
}
