package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/release"
)

// guidellmDocument is what is read of a guidellm report. The families differ in
// where things stand, not in what they mean, so this is the union of them:
//
//	0.2, 0.3   benchmarks
//	0.4        args, benchmarks
//	0.5, 0.6   metadata, args, benchmarks
//	0.7        metadata, config, benchmarks
type guidellmDocument struct {
	Metadata struct {
		Version text `json:"guidellm_version"`
	} `json:"metadata"`
	Args *struct {
		Target        text      `json:"target"`
		Model         text      `json:"model"`
		Backend       text      `json:"backend"` // its kind
		BackendKwargs backend   `json:"backend_kwargs"`
		Data          askedData `json:"data"`
	} `json:"args"`
	Config *struct {
		Metadata struct {
			Labels scalars `json:"labels"`
		} `json:"metadata"`
		Spec struct {
			Backend backend   `json:"backend"`
			Data    askedData `json:"data"`
		} `json:"spec"`
	} `json:"config"`
	Benchmarks benchmarks `json:"benchmarks"`
}

type backend struct {
	Kind   text `json:"kind"`
	Target text `json:"target"`
	Model  text `json:"model"`
}

// benchmarks reduces each benchmark as soon as it is read, so that the rows of
// one at most are held.
type benchmarks struct {
	found bool
	list  []benchmark
	o     Options // for what must be known before the rows are gone
}

func (b *benchmarks) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	b.found = true
	var rows []record.Request
	return elements(dec, func() error {
		set := &rowSet{rows: rows[:0]}
		bench := benchmark{rows: set, o: b.o}
		bench.Requests.Successful = rowList{of: &bench, status: record.Successful}
		bench.Requests.Errored = rowList{of: &bench, status: record.Errored}
		bench.Requests.Incomplete = rowList{of: &bench, status: record.Incomplete}
		if err := json.UnmarshalDecode(dec, &bench); err != nil {
			return err
		}
		bench.reduce()
		rows = set.rows
		bench.rows, bench.Requests = nil, requestLists{}
		b.list = append(b.list, bench)
		return nil
	})
}

// benchmark is one level of a report. Times are Unix seconds, lengths seconds,
// metrics named _ms milliseconds.
type benchmark struct {
	Args struct {
		Strategy strategy `json:"strategy"`
	} `json:"args"` // 0.2, 0.3
	Config struct {
		Strategy strategy `json:"strategy"`
		Backend  backend  `json:"backend"`
	} `json:"config"` // from 0.4 on
	Worker struct {
		Target text `json:"backend_target"`
		Model  text `json:"backend_model"`
	} `json:"worker"` // 0.2, 0.3
	Loader struct {
		Data askedData `json:"data"`
	} `json:"request_loader"` // 0.2, 0.3
	Extras    scalars `json:"extras"`         // 0.2, 0.3
	OldTotals *totals `json:"request_totals"` // 0.2, 0.3

	Metrics struct {
		Totals      *totals `json:"request_totals"` // from 0.4 on
		Concurrency metric  `json:"request_concurrency"`
		Prompt      metric  `json:"prompt_token_count"`
		Output      metric  `json:"output_token_count"`
		TTFT        metric  `json:"time_to_first_token_ms"`
		ITL         metric  `json:"inter_token_latency_ms"`
	} `json:"metrics"`
	Requests  requestLists `json:"requests"`
	StartTime float64      `json:"start_time"`
	EndTime   float64      `json:"end_time"`

	console  bool    // made of a console log, not of a report
	rows     *rowSet // while it is read
	o        Options
	streamed streamed // what the rows tell about the server's usage
	reduced  reduced
}

type requestLists struct {
	Successful rowList `json:"successful"`
	Errored    rowList `json:"errored"`
	Incomplete rowList `json:"incomplete"`
}

type strategy struct {
	Type           text    `json:"type_"`
	Kind           text    `json:"kind"`
	Streams        float64 `json:"streams"`
	MaxConcurrency float64 `json:"max_concurrency"`
	Rate           float64 `json:"rate"`
}

type totals struct {
	Successful float64 `json:"successful"`
	Errored    float64 `json:"errored"`
	Incomplete float64 `json:"incomplete"`
}

// metric is a distribution over the successful requests. The other buckets are
// not read: total mixes in requests that were cut off, and zeros for those that
// failed. Nor is count, which is a sum of weights from 0.4 on.
type metric struct {
	Successful distribution `json:"successful"`
}

type distribution struct {
	Error       float64     `json:"-"` // standard error of the mean, where it is given
	Mean        float64     `json:"mean"`
	Median      float64     `json:"median"`
	StdDev      float64     `json:"std_dev"`
	Min         *float64    `json:"min"`
	Max         *float64    `json:"max"`
	Percentiles percentiles `json:"percentiles"`
}

// percentiles are those that tools agree upon; nil: not told.
type percentiles struct {
	P10 *float64 `json:"p10"`
	P25 *float64 `json:"p25"`
	P50 *float64 `json:"p50"`
	P75 *float64 `json:"p75"`
	P90 *float64 `json:"p90"`
	P95 *float64 `json:"p95"`
	P99 *float64 `json:"p99"`
}

var percentileNames = []string{"p10", "p25", "p50", "p75", "p90", "p95", "p99"}

// all are the percentiles in the order of their names.
func (p *percentiles) all() []**float64 {
	return []**float64{&p.P10, &p.P25, &p.P50, &p.P75, &p.P90, &p.P95, &p.P99}
}

// quantiles are those of the report, nil unless it holds all and each is a latency.
func (d distribution) quantiles() *measurement.Quantiles {
	q, p := &measurement.Quantiles{}, d.Percentiles
	before := 0.0
	for _, v := range []struct {
		from *float64
		to   *float64
	}{{d.Min, &q.Min}, {p.P10, &q.P10}, {p.P25, &q.P25}, {p.P50, &q.P50}, {p.P75, &q.P75}, {p.P90, &q.P90}, {p.P95, &q.P95}, {p.P99, &q.P99}, {d.Max, &q.Max}} {
		if v.from == nil || !plausible(*v.from) || *v.from < before {
			return nil
		}
		*v.to, before = *v.from, *v.from
	}
	return q
}

// askedData finds the token shape in the description of the data: a string such
// as prompt_tokens=128,output_tokens=128, the same as JSON or as Python prints
// it, an object with those fields, or a list of any of them.
type askedData struct {
	shape sweep.Shape
	text  string // as it stands there, shortened, for errors
}

var (
	promptTokens = regexp.MustCompile(`\bprompt_tokens["']?\s*[=:]\s*(\d+)`)
	outputTokens = regexp.MustCompile(`\boutput_tokens["']?\s*[=:]\s*(\d+)`)
)

func (d *askedData) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	switch dec.PeekKind() {
	case '"':
		var s text
		if err := s.UnmarshalJSONFrom(dec); err != nil {
			return err
		}
		d.note(string(s), number(promptTokens, string(s)), number(outputTokens, string(s)))
		return nil
	case '{':
		var o struct {
			Kind   text    `json:"kind"`
			Prompt float64 `json:"prompt_tokens"`
			Output float64 `json:"output_tokens"`
		}
		if err := json.UnmarshalDecode(dec, &o); err != nil {
			return err
		}
		d.note(string(o.Kind), whole(o.Prompt), whole(o.Output))
		return nil
	default:
		return elements(dec, func() error {
			return d.UnmarshalJSONFrom(dec)
		})
	}
}

// note takes the first shape; a second, different one means that there is none.
func (d *askedData) note(description string, prompt, output int) {
	if len(description) > 80 {
		description = description[:80] + "..."
	}
	shape := sweep.Shape{PromptTokens: prompt, OutputTokens: output}
	if d.text != "" && shape != d.shape {
		d.shape, d.text = sweep.Shape{}, d.text+" and "+description
		return
	}
	d.shape, d.text = shape, cmp.Or(description, "data without a name")
}

func number(pattern *regexp.Regexp, s string) int {
	if m := pattern.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1]) // beyond an int: 0, so not stated
		return n
	}
	return 0
}

// whole is a count that JSON holds as a number; what cannot be one is 0.
func whole(x float64) int {
	if !(x > 0) || x > math.MaxInt32 {
		return 0
	}
	return int(x)
}

// positive is x, or 0 where x is no positive number.
func positive(x float64) float64 {
	if !(x > 0) || math.IsInf(x, 0) {
		return 0
	}
	return x
}

// scalars are free labels of a run; what is not a plain value is left out.
type scalars map[string]string

func (s *scalars) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() != '{' {
		return dec.SkipValue()
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return err
		}
		label := name.String()
		if k := dec.PeekKind(); k == '{' || k == '[' || k == 'n' {
			err = dec.SkipValue()
		} else if name, err = dec.ReadToken(); err == nil && len(*s) < 32 {
			if *s == nil {
				*s = scalars{}
			}
			(*s)[label] = name.String()
		}
		if err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// row is a request as any version writes it; a time that did not happen is null
// (or, before 0.4, -1).
type row struct {
	// 0.2, 0.3
	Start      float64 `json:"start_time"`
	FirstToken float64 `json:"first_token_time"`
	LastToken  float64 `json:"last_token_time"`
	End        float64 `json:"end_time"`
	Error      text    `json:"error"`

	// from 0.4 on
	Info struct {
		Error   text `json:"error"`
		Timings struct {
			RequestStart          float64 `json:"request_start"`
			FirstRequestIteration float64 `json:"first_request_iteration"`
			FirstTokenIteration   float64 `json:"first_token_iteration"`
			LastTokenIteration    float64 `json:"last_token_iteration"`
			RequestEnd            float64 `json:"request_end"`
			ResolveEnd            float64 `json:"resolve_end"` // the only end that a failed request has
			RequestIterations     float64 `json:"request_iterations"`
			TokenIterations       float64 `json:"token_iterations"`
		} `json:"timings"`
	} `json:"info"`

	PromptTokens float64 `json:"prompt_tokens"`
	OutputTokens float64 `json:"output_tokens"`
}

// rowList reads the rows of one status into the set of its benchmark.
type rowList struct {
	of     *benchmark
	status record.Status
}

func (l *rowList) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	set := l.of.rows
	if t := l.of.totals(); t != nil {
		set.expect(whole(t.Successful + t.Errored + t.Incomplete))
	}
	var r row
	return elements(dec, func() error {
		r = row{}
		if err := json.UnmarshalDecode(dec, &r); err != nil {
			return err
		}
		t := &r.Info.Timings
		set.add(record.Request{
			Start:        max(0, cmp.Or(t.RequestStart, r.Start)),
			FirstToken:   max(0, cmp.Or(t.FirstTokenIteration, r.FirstToken)),
			LastToken:    max(0, cmp.Or(t.LastTokenIteration, r.LastToken)),
			End:          max(0, cmp.Or(t.RequestEnd, t.ResolveEnd, r.End)),
			PromptTokens: whole(r.PromptTokens),
			OutputTokens: whole(r.OutputTokens),
			Status:       l.status,
		})
		switch l.status {
		case record.Successful:
			l.of.streamed.note(whole(t.RequestIterations), whole(t.TokenIterations), t.FirstRequestIteration < t.FirstTokenIteration)
		case record.Errored:
			set.errors.add(essence(cmp.Or(string(r.Info.Error), string(r.Error))), 1)
		}
		return nil
	})
}

// streamed counts rows in which the server's usage cannot have come. From 0.4 on
// a row tells how many lines the server streamed (request_iterations) and how
// many of them held text (token_iterations). guidellm asks for usage; a server
// that obeys sends it on a line of its own behind the last token, and then a line
// [DONE]. Before the first token there may be a line that only names the role.
type streamed struct {
	checked      int
	withoutUsage int
}

// fewestTokens is how many lines of text a row must have to be checked: 0.4.0
// counts the empty line after every line too, which few lines do not show.
const fewestTokens = 8

func (s *streamed) note(lines, tokens int, preamble bool) {
	if tokens < fewestTokens {
		return
	}
	if lines >= 2*tokens {
		lines = (lines + 1) / 2
	}
	rest := lines - tokens
	if preamble {
		rest--
	}
	s.checked++
	if rest < 2 {
		s.withoutUsage++
	}
}

func (s *streamed) usageMissing() bool { return s.checked > 0 && s.withoutUsage == s.checked }

// reduced is what is left of a benchmark when its rows are let go.
type reduced struct {
	batch      int // asked for; 0: not stated
	throughput bool
	arrivals   string  // of an open loop
	rate       float64 // of an open loop, requests per second
	open       *measurement.Open
	client     *measurement.Witness
	requests   measurement.Requests
	prompt     float64
	output     float64
	startedAt  float64
	seconds    float64
	void       []string
	voidTTFT   []string
	notes      []string
}

func (r *reduced) voided(format string, args ...any) {
	r.void = append(r.void, fmt.Sprintf(format, args...))
}

func (r *reduced) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// reduce makes the client's witness: of the rows where all of them are there, of
// the report's own statistics otherwise.
func (b *benchmark) reduce() {
	out := &b.reduced
	out.startedAt, out.seconds = positive(b.StartTime), positive(b.EndTime-b.StartTime)

	t := b.totals()
	if t == nil {
		where := "the report holds no request_totals"
		if b.console {
			where = "the log holds no table Benchmarks Info that can be read"
		}
		out.voided("%s, so it is not known how many requests succeeded", where)
		return
	}
	out.requests = measurement.Requests{
		Successful: whole(t.Successful), Errored: whole(t.Errored), Incomplete: whole(t.Incomplete), Errors: b.rows.errors,
	}

	s := b.strategy()
	switch kind := cmp.Or(s.Type, s.Kind); kind {
	case "synchronous":
		out.batch = 1
	case "concurrent":
		out.batch = whole(s.Streams)
		if out.batch < 1 {
			out.voided("the report names no number of streams (strategy.streams) for a concurrent benchmark")
		}
	case "throughput":
		out.batch, out.throughput = whole(s.MaxConcurrency), true
		out.note("a throughput run sends as much as it can: what the server cannot run at once queues, and the wait is inside TTFT; measure with concurrent streams instead")
	case sweep.Constant, sweep.Poisson:
		out.arrivals, out.rate = string(kind), s.Rate
		switch {
		case !(s.Rate > 0):
			out.voided("the report names no rate (strategy.rate) for a %s benchmark", kind)
		case b.console:
			out.voided("a console log says nothing of the requests of a %s benchmark; give the report", kind)
		}
	case "":
		out.voided("the report names no strategy, so it is not known how many requests ran together")
	default:
		rate := ""
		if s.Rate > 0 {
			rate = fmt.Sprintf(" of %g requests/s", s.Rate)
		}
		out.voided("a %s benchmark%s is neither a closed loop nor one of even or random arrivals; measure with concurrent, synchronous, constant or poisson", kind, rate)
	}
	if out.requests.Successful == 0 {
		out.voided("%s", nothingSucceeded(out.requests))
	}
	if len(out.void) > 0 {
		return
	}

	if b.console {
		out.note("read from a console log, which has one decimal: an ITL is known to 0.05 ms at best, so that a beta of 0.02 ms per request is lost, and there are no standard errors")
		b.fromSummary(out, measurement.BasisConsole)
	} else if why := b.fromRows(out); why != "" && out.arrivals != "" {
		out.voided("%s, and the statistics of a whole %s benchmark hold its start and its end, where the server is not full", why, out.arrivals)
	} else if why != "" {
		out.note("made of the report's own statistics, in which start-up and drain are included and with errors as if requests that ran together were one; the reason: %s", why)
		b.fromSummary(out, measurement.BasisSummary)
	}
	if failed, n := out.requests.Errored, out.requests.Successful+out.requests.Errored; failed*100 > n && len(out.void) == 0 {
		out.note("%d of %d requests failed: %s", failed, n, describe(out.requests.Errors))
	}
}

// totals are the counts of requests, nil where the report holds none.
func (b *benchmark) totals() *totals {
	if b.Metrics.Totals != nil {
		return b.Metrics.Totals
	}
	return b.OldTotals
}

func (b *benchmark) strategy() strategy {
	if s := b.Config.Strategy; s != (strategy{}) {
		return s
	}
	return b.Args.Strategy
}

// fromRows reduces the rows, and says why not where they cannot be used.
func (b *benchmark) fromRows(out *reduced) string {
	set, want := b.rows, out.requests
	switch {
	case set.dropped:
		return fmt.Sprintf("the report holds %d requests, more than the %d that are kept in memory", set.count[0]+set.count[1]+set.count[2], MaxRows)
	// More rows than totals are those of the whole run, where the totals are of what
	// a warm-up and a cool-down leave of it; the steady window is found in all of them.
	case set.count[record.Successful] < want.Successful, set.count[record.Errored] < want.Errored, set.count[record.Incomplete] < want.Incomplete:
		return fmt.Sprintf("the report keeps only %d of %d requests", set.count[0]+set.count[1]+set.count[2], want.Successful+want.Errored+want.Incomplete)
	}
	streams := out.batch
	if streams < 1 { // a throughput run that does not say its bound
		streams = max(1, int(math.Round(b.Metrics.Concurrency.Successful.Mean)))
	}
	w, counts, open, err := reduce(set.rows, streams, out.arrivals, out.rate, b.o)
	errors := errorCounts(maps.Clone(want.Errors))
	for _, reason := range slices.Sorted(maps.Keys(counts.Errors)) {
		errors.add(reason, counts.Errors[reason])
	}
	counts.Errors = errors
	if counts.Successful == 0 {
		out.requests = counts
		out.voided("guidellm calls %d requests successful, but none can be used: %s; the server answers without streaming tokens, or something between cuts the stream", want.Successful, describe(counts.Errors))
		return ""
	}
	if err != nil {
		return err.Error()
	}
	if open != nil {
		out.open, out.batch = open, max(1, int(math.Round(w.Batch)))
	}
	out.client, out.requests = &w, counts
	out.prompt, out.output = set.means()
	start, end := set.span()
	out.startedAt, out.seconds = start, end-start
	return ""
}

// fromSummary takes the report's own means over the whole run.
func (b *benchmark) fromSummary(out *reduced, basis string) {
	n := out.requests.Successful
	w := measurement.Witness{Requests: n, WindowStart: out.startedAt, WindowSeconds: out.seconds, Basis: basis}
	w.Batch = out.requests.InFlight(positive(b.Metrics.Concurrency.Successful.Mean))
	if out.batch > 0 {
		w.Batch = min(w.Batch, max(float64(out.batch), b.Metrics.Concurrency.Successful.Mean))
	}
	w.Batch = out.together(w.Batch)
	var reason string
	if w.ITL, reason = b.Metrics.ITL.Successful.estimate("ITL", n, w.Batch, out); reason != "" {
		out.voided("%s", reason)
	}
	if w.TTFT, reason = b.Metrics.TTFT.Successful.estimate("TTFT", n, w.Batch, out); reason != "" {
		out.voidTTFT = append(out.voidTTFT, reason)
	}
	if w.ITL == nil && w.TTFT == nil {
		out.void = []string{"no output token came in any of the requests that guidellm calls successful: " + reason}
		out.voidTTFT = nil
		return
	}
	if batch := float64(out.batch); batch > 0 && w.Batch > 0 && w.Batch < 0.9*batch {
		out.note("%.4g of %d requests ran together in the mean, because streams ran dry towards the end; let the point run longer, or give at least 10 requests per stream", w.Batch, out.batch)
	}
	out.client = &w
	out.prompt, out.output = positive(b.Metrics.Prompt.Successful.Mean), positive(b.Metrics.Output.Successful.Mean)
}

// together is what of a tool's mean of requests in flight can be true, 0 where it says
// nothing. No token is made while none runs: a mean far below one is over a time that is
// longer than the requests, such as a warm-up that the statistics leave out.
func (r *reduced) together(stated float64) float64 {
	stated = positive(stated)
	if stated > 0 && stated < 0.9 {
		r.note("the report's mean of %.4g requests in flight is over a time in which none was: 1 is taken", stated)
		return 1
	}
	return stated
}

// A latency in ms outside of these is not one: reports have held 0, -1e8 and
// -1.8e12. Seconds taken for milliseconds lie within, and are the fit's to judge.
const (
	shortestMS = 0.01
	longestMS  = 10 * 60 * 1000
)

func plausible(ms float64) bool { return ms >= shortestMS && ms <= longestMS }

// spread is the standard deviation, or what the percentiles say of it, the largest:
// a distribution with a tail is wider than its middle. 0 where nothing says.
func (d distribution) spread() float64 {
	if d.StdDev > 0 && !math.IsInf(d.StdDev, 0) {
		return d.StdDev
	}
	widest := 0.0
	for _, q := range []struct {
		low, high *float64
		deviates  float64 // so many standard deviations lie between them, if normal
	}{
		{d.Percentiles.P25, d.Percentiles.P75, 1.349}, {d.Percentiles.P10, d.Percentiles.P90, 2.563},
		{&d.Median, d.Percentiles.P90, 1.282}, {&d.Median, d.Percentiles.P99, 2.326},
	} {
		if q.low != nil && q.high != nil && *q.low > 0 {
			widest = max(widest, positive((*q.high-*q.low)/q.deviates))
		}
	}
	return widest
}

// estimate is the distribution over n requests, so many of them together, as an
// estimate. Requests that run together share the iterations of the server, and with
// them what makes them late: their error is that of n/together of them. Where the mean is
// nonsense it is kept out of reach, so that the median is taken; where both are,
// the reason says so.
func (d distribution) estimate(name string, n int, together float64, out *reduced) (*measurement.Estimate, string) {
	e := &measurement.Estimate{MeanMS: d.Mean, Samples: n, Quantiles: d.quantiles()}
	if plausible(d.Median) {
		e.MedianMS = d.Median
	}
	// One request without a token is in the mean as a 0, or as -1.8e12.
	tainted := d.Min != nil && *d.Min <= 0
	if plausible(d.Mean) && !tainted {
		independent := float64(n) / max(1, together)
		switch spread := d.spread(); {
		case d.Error > 0:
			e.StandardErrorMS = d.Error
		case independent > 1 && spread > 0:
			e.StandardErrorMS = spread / math.Sqrt(independent) // in no number of blocks: that is assumed, not seen
		}
		return e, ""
	}
	if e.MedianMS == 0 {
		return nil, fmt.Sprintf("%s has a mean of %.4g ms and a median of %.4g ms in the report, which no server has", name, d.Mean, d.Median)
	}
	if !(d.Mean < 0) {
		e.MeanMS = 0
	}
	out.note("the report's mean %s of %.4g ms is made of requests without tokens, or nonsense: its median, %.4g ms, is used", name, d.Mean, d.Median)
	return e, ""
}

// nothingSucceeded says why a benchmark has no successful request.
func nothingSucceeded(r measurement.Requests) string {
	switch {
	case r.AtOnce():
		return fmt.Sprintf("each of %d answers came in one piece: %s", r.Errored, reason.BufferedCure)
	case r.Errored > 0:
		return fmt.Sprintf("none of %d requests succeeded: %s", r.Errored+r.Incomplete, describe(r.Errors))
	case r.Incomplete > 0:
		return fmt.Sprintf("all %d requests were cut off by the end of the run; let it run longer", r.Incomplete)
	default:
		return "no request was made"
	}
}

// describe lists errors, the most frequent first: HTTP 500 x6, ReadTimeout x1.
func describe(errors map[string]int) string {
	reasons := slices.SortedFunc(maps.Keys(errors), func(a, b string) int {
		return cmp.Or(cmp.Compare(errors[b], errors[a]), cmp.Compare(a, b))
	})
	for i, reason := range reasons {
		reasons[i] = fmt.Sprintf("%s x%d", reason, errors[reason])
	}
	if len(reasons) == 0 {
		return "the report does not say why"
	}
	return strings.Join(reasons, ", ")
}

// guidellm makes the measurements when the whole report has been read.
func (d *document) guidellm(name string, o Options) ([]measurement.Measurement, error) {
	if len(d.Benchmarks.list) == 0 {
		return nil, exit.Errorf(exit.Refused, "%s: the list of benchmarks is empty: guidellm ended before its first level did", name)
	}
	var all []measurement.Measurement
	for i := range d.Benchmarks.list {
		all = append(all, d.measurement(&d.Benchmarks.list[i], name, o))
	}
	return all, nil
}

func (d *document) measurement(b *benchmark, name string, o Options) measurement.Measurement {
	r := &b.reduced
	model := []text{text(o.Model), b.Config.Backend.Model, b.Worker.Model}
	target := []text{b.Config.Backend.Target, b.Worker.Target}
	kind := b.Config.Backend.Kind
	data, labels := []askedData{b.Loader.Data}, b.Extras
	if d.Args != nil {
		model = append(model, d.Args.Model, d.Args.BackendKwargs.Model)
		target = append(target, d.Args.Target, d.Args.BackendKwargs.Target)
		kind = cmp.Or(kind, d.Args.Backend)
		data = append(data, d.Args.Data)
	}
	if d.Config != nil {
		model = append(model, d.Config.Spec.Backend.Model)
		target = append(target, d.Config.Spec.Backend.Target)
		data = append(data, d.Config.Spec.Data)
		labels = d.Config.Metadata.Labels
	}
	m := measurement.Measurement{
		Schema:       measurement.Schema,
		Model:        string(cmp.Or(model...)),
		Accelerator:  o.accelerator(labels["accelerator"]),
		BatchSize:    r.batch,
		Open:         r.open,
		Client:       r.client,
		Requests:     r.requests,
		PromptTokens: r.prompt,
		OutputTokens: r.output,
		Driver:       measurement.Driver{Name: sweep.Guidellm, Version: d.version(b)},
		StartedAt:    r.startedAt,
		Seconds:      r.seconds,
		Notes:        r.notes,
		Provenance:   measurement.Provenance{Report: name, Target: redact.URL(string(cmp.Or(target...))), Labels: labels},
	}
	if r.throughput && m.BatchSize < 1 {
		m.BatchSize = o.BatchSize
		if m.BatchSize < 1 && r.client != nil {
			m.BatchSize = max(1, int(math.Round(r.client.Batch)))
			m.Notes = append(m.Notes, fmt.Sprintf("the report does not say the bound of its throughput run: the measured %.4g requests are taken as the batch size asked for; give it as batch size if it is known", r.client.Batch))
		}
	}
	void := r.void
	if m.Shape, void = shape(data, o.Shape, &m.Notes, void); b.streamed.usageMissing() && (kind == "" || kind == "openai_http") {
		void = append(void, "the server sent no usage, so the token counts in the report are those asked for, not those counted; use a server that honours stream_options.include_usage")
		m.Client = nil
	}
	settle(&m, void, r.voidTTFT)
	return m
}

// shape is the shape that the report states, or the one given.
func shape(stated []askedData, given sweep.Shape, notes *[]string, void []string) (sweep.Shape, []string) {
	var found string
	for _, d := range stated {
		found = cmp.Or(found, d.text)
		if d.shape.PromptTokens < 1 || d.shape.OutputTokens < 1 {
			continue
		}
		if given != (sweep.Shape{}) && given != d.shape {
			*notes = append(*notes, fmt.Sprintf("the report states the shape %s, which is taken; %s was given", d.shape, given))
		}
		return d.shape, void
	}
	if given == (sweep.Shape{}) {
		void = append(void, fmt.Sprintf("the report does not state one shape (its data: %s); give it as promptTokens/outputTokens, such as 128/128", cmp.Or(found, "not named")))
	}
	return given, void
}

// settle adds to a measurement why it may not be used, and weighs its witnesses.
func settle(m *measurement.Measurement, void, voidTTFT []string) {
	for _, text := range void {
		m.Refuse(reason.New(reason.Void, "%s", text))
	}
	for _, text := range voidTTFT {
		m.RefuseTTFT(reason.New(reason.Void, "%s", text))
	}
	if m.Open != nil {
		m.Open.Judge(m)
	}
	m.Taken = m.Weigh(measurement.Auto, measurement.Auto)
}

// version is guidellm's, or its family where the report is older than the field.
func (d *document) version(b *benchmark) string {
	switch {
	case d.Metadata.Version != "":
		return string(d.Metadata.Version)
	case d.Args != nil:
		return release.Series04
	case b.Metrics.TTFT.Successful.Percentiles.P50 != nil:
		return release.Series03
	default:
		return release.Series02
	}
}
