package report

import (
	"cmp"
	"fmt"
	"math"
	"strings"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// run is one load at one level, as a tool reports it that is neither guidellm nor
// the native driver. A reader fills in what its format says and leaves the rest
// zero; measurement asks for what must be known, and never guesses it.
type run struct {
	reduced

	tool, version              string
	model, accelerator, target string
	asked                      sweep.Shape // tokens of every request; zero: not stated

	rows      *rowSet      // nil: the format has none
	itl, ttft distribution // the tool's own statistics, ms
	measured  float64      // mean of requests in flight by the tool's own statistics; 0: not stated
	noRows    string       // why there are none to use, where the format could have them
}

// measurement reduces the run: of its rows where they are whole, of the tool's own
// statistics otherwise.
func (r *run) measurement(name string, o Options) measurement.Measurement {
	streams := cmp.Or(r.batch, o.BatchSize)
	switch {
	case len(r.void) > 0:
	case r.requests.Successful == 0 && (r.rows == nil || r.rows.count[record.Successful] == 0):
		r.voided("%s", nothingSucceeded(r.requests))
	case r.arrivals == "" && streams < 1:
		r.voided("%s does not say in this file how many requests it kept in flight; give it with --batch-size", r.tool)
	default:
		r.reduce(streams, o)
	}
	m := measurement.Measurement{
		Schema:       measurement.Schema,
		Model:        cmp.Or(o.Model, r.model),
		Accelerator:  o.accelerator(r.accelerator),
		BatchSize:    streams,
		Client:       r.client,
		Open:         r.open,
		Requests:     r.requests,
		PromptTokens: r.prompt,
		OutputTokens: r.output,
		Driver:       measurement.Driver{Name: r.tool, Version: r.version},
		StartedAt:    r.startedAt,
		Seconds:      r.seconds,
		Provenance:   measurement.Provenance{Report: name, Target: redact.URL(r.target)},
	}
	void := r.void
	switch {
	case r.asked.PromptTokens > 0 && r.asked.OutputTokens > 0:
		m.Shape = r.asked
		if o.Shape != (sweep.Shape{}) && o.Shape != r.asked {
			r.note("the report states the shape %s, which is taken; %s was given", r.asked, o.Shape)
		}
	case o.Shape != (sweep.Shape{}):
		m.Shape = o.Shape
	default:
		void = append(void, fmt.Sprintf("%s does not state one shape in this file; give it with --shape PROMPT/OUTPUT, such as 128/128", r.tool))
	}
	if r.open != nil {
		m.BatchSize = max(1, int(math.Round(r.client.Batch)))
	}
	if failed, n := r.requests.Errored, r.requests.Successful+r.requests.Errored; failed*100 > n && len(void) == 0 {
		r.note("%d of %d requests failed: %s", failed, n, describe(r.requests.Errors))
	}
	m.Notes = r.notes
	if len(r.void) > 0 {
		m.Client = nil
	}
	settle(&m, void, r.voidTTFT)
	return m
}

// arriving makes an open loop of the run: so many requests per second.
func (r *run) arriving(rate float64, kind string) {
	r.arrivals, r.rate = strings.ToLower(kind), rate
	switch {
	case !(rate > 0):
		r.voided("the report names no rate of arrivals")
	case r.arrivals != sweep.Poisson && r.arrivals != sweep.Constant:
		r.voided("requests arrived at %g a second, %s; only %s and %s arrivals say what a server does with them", rate, cmp.Or(kind, "and the file does not say how"), sweep.Poisson, sweep.Constant)
	}
}

// accelerator is the name to go by, where a report states one or none.
func (o Options) accelerator(stated string) string {
	return cmp.Or(o.Accelerator, stated)
}

// reduce makes the client's witness.
func (r *run) reduce(streams int, o Options) {
	why := r.noRows
	if r.rows != nil {
		if why = r.fromRows(streams, o); why == "" {
			return
		}
	}
	if r.itl.Mean == 0 && r.itl.Median == 0 && r.ttft.Mean == 0 && r.ttft.Median == 0 {
		if why == "" {
			why = "the file holds neither rows nor means of ITL and TTFT; was the run without streaming?"
		}
		r.voided("%s", why)
		return
	}
	if r.arrivals != "" {
		r.voided("%s, and the statistics of a whole open loop hold its start and its end, where the server is not full", cmp.Or(why, "the file has no rows"))
		return
	}
	if why != "" {
		why = "; the reason: " + why
	}
	r.note("made of %s's own statistics, in which start-up and drain are included, with errors as if requests that ran together were one%s", r.tool, why)
	r.fromStatistics(streams)
}

// fromRows reduces the rows, and says why not where they cannot be used.
func (r *run) fromRows(streams int, o Options) string {
	set := r.rows
	n := set.count[0] + set.count[1] + set.count[2]
	switch {
	case set.dropped:
		return fmt.Sprintf("the report holds %d requests, more than the %d that are kept in memory", n, MaxRows)
	case r.noRows != "":
		return r.noRows
	}
	w, counts, open, err := reduce(set.rows, max(1, streams), r.arrivals, r.rate, o)
	reasons := set.errors
	for reason, n := range counts.Errors {
		reasons.add(reason, n)
	}
	counts.Errors = reasons
	if counts.Successful == 0 {
		r.requests = counts
		r.voided("%s", nothingSucceeded(counts))
		return ""
	}
	if err != nil {
		return err.Error()
	}
	r.client, r.requests, r.open = &w, counts, open
	r.prompt, r.output = set.means()
	start, end := set.span()
	r.seconds = end - start
	if start > earliestUnix {
		r.startedAt = start
	} else {
		r.client.WindowStart, r.client.Course = 0, nil // times since the machine was switched on say nothing
	}
	return ""
}

// earliestUnix tells Unix seconds from those of a clock that starts with the machine.
const earliestUnix = 1e9

// fromStatistics takes the tool's own means over the whole run.
func (r *run) fromStatistics(streams int) {
	n := r.requests.Successful
	w := measurement.Witness{Requests: n, WindowStart: r.startedAt, WindowSeconds: r.seconds, Basis: measurement.BasisSummary, Batch: r.together(r.measured)}
	if w.Batch == 0 {
		w.Batch = float64(streams)
		r.note("how many requests ran together in the mean is not in the file: the %d asked for are taken", streams)
	}
	var reason string
	if w.ITL, reason = r.itl.estimate("ITL", n, w.Batch, &r.reduced); reason != "" {
		r.voided("%s", reason)
	}
	if r.ttft.Mean == 0 && r.ttft.Median == 0 {
		r.voidTTFT = append(r.voidTTFT, "the file holds no TTFT here")
	} else if w.TTFT, reason = r.ttft.estimate("TTFT", n, w.Batch, &r.reduced); reason != "" {
		r.voidTTFT = append(r.voidTTFT, reason)
	}
	if w.ITL != nil || w.TTFT != nil {
		r.client = &w
	}
}

// constant is the shape of requests that all had the same counted tokens.
func constant(promptMin, promptMax, outputMin, outputMax float64) sweep.Shape {
	if promptMin != promptMax || outputMin != outputMax || promptMin < 1 || outputMin < 1 {
		return sweep.Shape{}
	}
	return sweep.Shape{PromptTokens: whole(promptMin), OutputTokens: whole(outputMin)}
}

// shape is that of rows which all have the same counted tokens, zero otherwise.
func (s *rowSet) shape() sweep.Shape {
	found := sweep.Shape{}
	for _, r := range s.rows {
		if r.Status != record.Successful {
			continue
		}
		shape := sweep.Shape{PromptTokens: r.PromptTokens, OutputTokens: r.OutputTokens}
		if found != (sweep.Shape{}) && shape != found || shape.PromptTokens < 1 || shape.OutputTokens < 1 {
			return sweep.Shape{}
		}
		found = shape
	}
	return found
}

// foreign is the error of a file that is of a known tool and no report of a run.
func foreign(name, format string, args ...any) error {
	return exit.Errorf(exit.Refused, "%s: %s", name, fmt.Sprintf(format, args...))
}
