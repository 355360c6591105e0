package report

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// NativeSchema names the version of the native driver's report.
const NativeSchema = "wfgen.dev/report/v1"

// What became of a request of the native driver.
const (
	NativeSuccessful = "successful"
	NativeErrored    = "errored"
	NativeIncomplete = "incomplete" // cut off by the end of the run
)

// NativeHeader is what is known before the first request of a point.
type NativeHeader struct {
	Schema      string      `json:"schema"`
	Tool        string      `json:"tool"` // version of the driver
	Model       string      `json:"model"`
	Accelerator string      `json:"accelerator,omitempty"`
	Target      string      `json:"target"`               // base URL of the server, without credentials
	Endpoint    string      `json:"endpoint"`             // path of the requests
	Shape       sweep.Shape `json:"shape"`                // asked for, tokens
	BatchSize   int         `json:"batch_size,omitempty"` // streams of a closed loop
	Rate        float64     `json:"rate,omitempty"`       // requests per second of an open loop
	Arrivals    string      `json:"arrivals,omitempty"`   // of an open loop: poisson or constant
	Seed        int64       `json:"seed"`
	StartedAt   float64     `json:"started_at"` // Unix seconds
}

// NativeRequest is one request as the native driver saw it.
type NativeRequest struct {
	Stream       int     `json:"stream"`
	Start        float64 `json:"start"`                    // Unix seconds
	FirstTokenMS float64 `json:"first_token_ms,omitempty"` // since Start; 0: no token came
	EndMS        float64 `json:"end_ms"`                   // since Start
	GapsUS       []int64 `json:"gaps_us,omitempty"`        // between successive chunks that carry tokens
	PromptTokens int     `json:"prompt_tokens"`            // counted by the server; 0: it did not say
	OutputTokens int     `json:"output_tokens"`            // counted by the server; 0: it did not say
	CachedTokens int     `json:"cached_tokens,omitempty"`  // of the prompt, found in the server's cache
	AskedTokens  int     `json:"asked_tokens,omitempty"`   // of the answer; 0: not known
	Cut          bool    `json:"cut,omitempty"`            // ended for its length before it was as long as asked
	FirstTokens  float64 `json:"first_tokens,omitempty"`   // that came together with the first; 0: not known
	PrefillMS    float64 `json:"prefill_ms,omitempty"`     // by the server's own clock; 0: it did not say
	DecodeMS     float64 `json:"decode_ms,omitempty"`      // first to last token by the same
	Status       string  `json:"status"`
	Error        string  `json:"error,omitempty"`
	Warmup       bool    `json:"warmup,omitempty"` // before the point began; counted by the server, kept out of the numbers
}

// NativeEnd closes a report: one without it was cut off.
type NativeEnd struct {
	EndedAt     float64 `json:"ended_at"` // Unix seconds
	Interrupted bool    `json:"interrupted,omitempty"`
	Ended       string  `json:"ended,omitempty"` // why the load did: measurement.EndedPrecision and others
}

// NativeWriter streams a native report: one JSON document, one line per request.
type NativeWriter struct {
	mu    sync.Mutex
	w     *bufio.Writer
	any   bool
	ended bool
}

// NewNativeWriter begins a report on w, which stays the caller's to close.
func NewNativeWriter(w io.Writer, h NativeHeader) (*NativeWriter, error) {
	h.Schema = NativeSchema
	header, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("native report: %w", err)
	}
	n := &NativeWriter{w: bufio.NewWriter(w)}
	// Flushed, so that a place that cannot be written is found out at once.
	if err := n.write(true, string(header[:len(header)-1]), `,"requests":[`); err != nil {
		return nil, err
	}
	return n, nil
}

// Add appends a request. Several streams may add at the same time.
func (n *NativeWriter) Add(r NativeRequest) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("native report: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return errors.New("native report: a request was added after the end")
	}
	separator := ",\n"
	if !n.any {
		separator = "\n"
	}
	n.any = true
	return n.write(false, separator, string(line))
}

// Close ends the report and flushes it.
func (n *NativeWriter) Close(e NativeEnd) error {
	end, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("native report: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return errors.New("native report: it was ended twice")
	}
	n.ended = true
	return n.write(true, "\n],\"end\":", string(end), "}\n")
}

func (n *NativeWriter) write(flush bool, parts ...string) error {
	var err error
	for _, part := range parts {
		_, err = n.w.WriteString(part) // the first error is kept and returned again
	}
	if flush {
		err = n.w.Flush()
	}
	if err != nil {
		return fmt.Errorf("native report: %w", err)
	}
	return nil
}

// nativeDocument is the native report as it is read.
type nativeDocument struct {
	NativeHeader
	Requests nativeRows `json:"requests"`
	End      *NativeEnd `json:"end"`
}

type nativeRows struct {
	rowSet
	warmup int // successful ones
}

func (n *nativeRows) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	var r NativeRequest
	return elements(dec, func() error {
		r = NativeRequest{GapsUS: r.GapsUS[:0]}
		if err := jsonv2.UnmarshalDecode(dec, &r); err != nil {
			return err
		}
		row, known := r.Row()
		if !known {
			return fmt.Errorf("%s/status: found %q, expected %s, %s or %s", dec.StackPointer(), r.Status, NativeSuccessful, NativeErrored, NativeIncomplete)
		}
		if r.Warmup {
			if row.Status == record.Successful {
				n.warmup++
			}
			return nil
		}
		if row.Status == record.Errored {
			n.errors.add(essence(r.Error), 1)
		}
		n.add(row)
		return nil
	})
}

// Row is the request as it is reduced: spans turned into moments. It counts in whole
// microseconds, as they were measured: in Unix seconds the sum of the gaps could round
// past the end. It is not known where the status is none of the three.
func (r *NativeRequest) Row() (row record.Request, known bool) {
	status, known := map[string]record.Status{
		NativeSuccessful: record.Successful, NativeErrored: record.Errored, NativeIncomplete: record.Incomplete,
	}[r.Status]
	at := func(us int64) float64 { return r.Start + float64(us)/1e6 }
	first := int64(math.Round(r.FirstTokenMS * 1e3))
	last := first
	for _, gap := range r.GapsUS {
		last += gap
	}
	// A gap takes no time where it is a small part of what a token takes, or less than
	// any model needs.
	least := max(100, (last-first)/int64(max(1, r.OutputTokens-1))/20)
	instant := int32(0)
	for _, gap := range r.GapsUS {
		if gap < least {
			instant++
		}
	}
	row = record.Request{
		Start: r.Start, PromptTokens: r.PromptTokens, OutputTokens: r.OutputTokens, Status: status,
		End: at(max(last, int64(math.Round(r.EndMS*1e3)))), AskedTokens: int32(r.AskedTokens), CachedTokens: int32(r.CachedTokens), Cut: r.Cut,
		Instant: instant, FirstTokens: float32(r.FirstTokens), PrefillMS: float32(r.PrefillMS), DecodeMS: float32(r.DecodeMS),
	}
	if r.FirstTokenMS > 0 {
		row.Pieces = int32(len(r.GapsUS) + 1)
		row.LastTogether = len(r.GapsUS) > 2 && r.GapsUS[len(r.GapsUS)-1] < least
		row.FirstToken, row.LastToken = at(first), at(last)
	}
	return row, known
}

// reduce makes the client's witness of a closed loop of streams or, where they arrive at a
// rate, of an open one.
func reduce(rows []record.Request, streams int, arrivals string, rate float64, o Options) (measurement.Witness, measurement.Requests, *measurement.Open, error) {
	if arrivals != "" {
		return measurement.ReduceOpen(rows, arrivals, rate, o.SLOs)
	}
	w, counts, err := measurement.Reduce(rows, streams)
	return w, counts, nil, err
}

// native makes the measurement when the whole report has been read.
func (d *document) native(name string, o Options) ([]measurement.Measurement, error) {
	if d.End == nil {
		return nil, exit.Errorf(exit.Refused, "%s: the field end is missing: the driver was stopped before it had written its report; measure again", name)
	}
	rows := &d.Requests
	m := measurement.Measurement{
		Schema:      measurement.Schema,
		Model:       d.Model,
		Accelerator: d.Accelerator,
		Shape:       d.Shape,
		BatchSize:   d.BatchSize,
		Driver:      measurement.Driver{Name: sweep.Native, Version: d.Tool},
		StartedAt:   d.StartedAt,
		Partial:     d.End.Interrupted,
		Ended:       d.End.Ended,
		Provenance:  measurement.Provenance{Report: name, Target: redact.URL(d.Target)},
	}
	if o.Model != "" {
		m.Model = o.Model
	}
	if o.Accelerator != "" {
		m.Accelerator = o.Accelerator
	}
	if m.Partial {
		m.Notes = append(m.Notes, "the point was interrupted: it is shorter than asked for")
	}
	var void []string
	if rows.dropped {
		void = append(void, fmt.Sprintf("the report holds more than %d requests; give the point fewer seconds", MaxRows))
		m.Requests = measurement.Requests{Successful: rows.count[record.Successful], Errored: rows.count[record.Errored], Incomplete: rows.count[record.Incomplete], Errors: rows.errors}
		settle(&m, void, nil)
		return []measurement.Measurement{m}, nil
	}
	w, counts, open, err := reduce(rows.rows, d.BatchSize, d.Arrivals, d.Rate, o)
	all := rows.errors
	for reason, n := range counts.Errors {
		all.add(reason, n)
	}
	counts.Errors = all
	m.Requests = counts
	switch {
	case counts.Successful == 0:
		void = append(void, nothingSucceeded(counts))
	case err != nil:
		void = append(void, err.Error())
	default:
		w.Requests += rows.warmup // the server counts them too
		m.Client = &w
		m.Server = measurement.TimedWitness(rows.rows, w)
	}
	if m.Open = open; open != nil {
		m.BatchSize = max(1, int(math.Round(w.Batch)))
	}
	if start, end := rows.span(); end > start {
		m.StartedAt, m.Seconds = start, end-start
	}
	m.PromptTokens, m.OutputTokens = rows.means()
	m.AskedTokens = rows.asked()
	if failed, n := counts.Errored, counts.Successful+counts.Errored; failed*100 > n && counts.Successful > 0 {
		m.Notes = append(m.Notes, fmt.Sprintf("%d of %d requests failed: %s", failed, n, describe(counts.Errors)))
	}
	settle(&m, void, nil)
	return []measurement.Measurement{m}, nil
}
