package report

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
)

// benchServe is the result of vLLM's bench serve and of SGLang's bench_serving,
// which comes from it. Lists hold one element per request, in the order in which
// they were sent; they are there with --save-detailed and --output-details. Times
// are in seconds, those of starts on a clock of the client's machine.
type benchServe struct {
	// vLLM
	Date    text `json:"date"`     // local time of the client, at the end
	Model   text `json:"model_id"` // as the server has it
	Failed  int  `json:"failed"`
	Prompts int  `json:"num_prompts"`

	// SGLang
	Dataset    text    `json:"dataset_name"`
	RandomIn   float64 `json:"random_input_len"`
	RandomOut  float64 `json:"random_output_len"`
	Ratio      float64 `json:"random_range_ratio"`
	ServerInfo struct {
		Model  text `json:"model_path"`
		Served text `json:"served_model_name"`
	} `json:"server_info"`

	// both
	Backend     text     `json:"backend"`
	Rate        scalar   `json:"request_rate"` // inf: as soon as there is room
	Burstiness  *float64 `json:"burstiness"`   // vLLM: 1 is Poisson
	Concurrency *float64 `json:"max_concurrency"`
	Duration    float64  `json:"duration"`
	Completed   float64  `json:"completed"`
	Input       float64  `json:"total_input_tokens"`
	Output      float64  `json:"total_output_tokens"`
	Throughput  float64  `json:"request_throughput"`
	Together    float64  `json:"concurrency"`

	MeanTTFT   float64  `json:"mean_ttft_ms"`
	MedianTTFT float64  `json:"median_ttft_ms"`
	StdTTFT    float64  `json:"std_ttft_ms"`
	P90TTFT    *float64 `json:"p90_ttft_ms"`
	P95TTFT    *float64 `json:"p95_ttft_ms"`
	P99TTFT    *float64 `json:"p99_ttft_ms"`
	MeanTPOT   float64  `json:"mean_tpot_ms"` // without the first token: what is ITL here
	MedianTPOT float64  `json:"median_tpot_ms"`
	StdTPOT    float64  `json:"std_tpot_ms"`
	P90TPOT    *float64 `json:"p90_tpot_ms"`
	P95TPOT    *float64 `json:"p95_tpot_ms"`
	P99TPOT    *float64 `json:"p99_tpot_ms"`
	MeanE2E    float64  `json:"mean_e2el_ms"`
	MeanLat    float64  `json:"mean_e2e_latency_ms"`

	Prompt []float64 `json:"input_lens"`
	Answer []float64 `json:"output_lens"`
	First  []float64 `json:"ttfts"`
	Gaps   gapSums   `json:"itls"`
	Starts []float64 `json:"start_times"`
	Errors errorList `json:"errors"`
}

// gapSums is a list of lists of gaps, of which only the sums and lengths are held.
type gapSums struct {
	sum    []float64
	pieces []int32
}

func (g *gapSums) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	return elements(dec, func() error {
		sum, n := 0.0, int32(0)
		err := elements(dec, func() error {
			token, err := dec.ReadToken()
			if err == nil && token.Kind() == '0' {
				gap := 0.0
				gap, err = token.Float()
				sum += gap
				n++
			}
			return err
		})
		g.sum, g.pieces = append(g.sum, sum), append(g.pieces, n)
		return err
	})
}

// errorList is a list of errors, empty where there was none.
type errorList []string

func (l *errorList) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	return elements(dec, func() error {
		var t text
		err := t.UnmarshalJSONFrom(dec)
		if t != "" {
			t = text(essence(string(t)))
		}
		*l = append(*l, string(t))
		return err
	})
}

// scalar is a number or a word such as inf.
type scalar string

func (s *scalar) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if k := dec.PeekKind(); k != '"' && k != '0' {
		*s = ""
		return dec.SkipValue()
	}
	token, err := dec.ReadToken()
	if err == nil {
		*s = scalar(token.String())
	}
	return err
}

func isVLLMBench(h *head) bool {
	return h.has("model_id", "completed") || h.has("model_id", "num_prompts", "backend")
}

func readVLLMBench(in *input) ([]measurement.Measurement, error) {
	var found []measurement.Measurement
	one := func(dec *jsontext.Decoder) error {
		var b benchServe
		if err := json.UnmarshalDecode(dec, &b); err != nil {
			return err
		}
		found = append(found, b.run("vllm bench").measurement(in.name, in.o))
		return nil
	}
	src := &source{r: in.Reader}
	dec := decoder(newBareNumbers(src))
	var err error
	if in.list { // summary.json of a sweep
		err = elements(dec, func() error { return one(dec) })
	} else {
		err = one(dec)
	}
	if err == nil {
		// With --append-result there is one result per line.
		for dec.PeekKind() == '{' && err == nil {
			err = one(dec)
		}
	}
	if err == nil {
		err = atEnd(dec)
	}
	if err := in.failed(src, dec, err); err != nil {
		return nil, err
	}
	return found, nil
}

func isSGLangBench(h *head) bool {
	return !h.list && h.has("backend", "completed") && (h.has("random_range_ratio") || h.has("sharegpt_output_len") || h.has("mean_e2e_latency_ms"))
}

func readSGLangBench(in *input) ([]measurement.Measurement, error) {
	var found []measurement.Measurement
	src := &source{r: in.Reader}
	dec := decoder(newBareNumbers(src))
	for {
		if dec.PeekKind() != '{' {
			_, err := dec.ReadToken()
			if errors.Is(err, io.EOF) {
				return found, nil
			}
			if err == nil {
				err = errors.New("a line of it is no object")
			}
			return nil, in.failed(src, dec, err)
		}
		var b benchServe
		if err := json.UnmarshalDecode(dec, &b); err != nil {
			return nil, in.failed(src, dec, err)
		}
		r := b.run("sglang bench_serving")
		if b.RandomIn > 0 && b.RandomOut > 0 && b.Ratio == 1 && len(b.Dataset) >= 6 && b.Dataset[:6] == "random" {
			r.asked = sweep.Shape{PromptTokens: whole(b.RandomIn), OutputTokens: whole(b.RandomOut)}
		}
		found = append(found, r.measurement(in.name, in.o))
	}
}

func (b *benchServe) run(tool string) *run {
	r := &run{tool: tool, model: string(cmp.Or(b.Model, b.ServerInfo.Served, b.ServerInfo.Model))}
	switch string(b.Rate) {
	case "", "inf", "Infinity":
		if b.Concurrency != nil {
			r.batch = whole(*b.Concurrency)
		} else {
			r.voided("all requests were sent at once (no --max-concurrency and no --request-rate): they queue, and the batch drains instead of being held; give --max-concurrency")
		}
	default:
		kind := "bursts"
		if b.Burstiness == nil || *b.Burstiness == 1 { // SGLang knows no other
			kind = sweep.Poisson
		}
		perSecond, _ := strconv.ParseFloat(string(b.Rate), 64) // what is no number is 0, which is refused
		r.arriving(perSecond, kind)
		if b.Concurrency != nil {
			r.note("at most %g requests ran at once: those above it waited at the client", *b.Concurrency)
		}
	}
	n := whole(b.Completed)
	r.requests.Successful, r.requests.Errored = n, max(b.Failed, b.Prompts-n, 0)
	r.itl = distribution{Mean: b.MeanTPOT, Median: b.MedianTPOT, StdDev: b.StdTPOT}
	r.ttft = distribution{Mean: b.MeanTTFT, Median: b.MedianTTFT, StdDev: b.StdTTFT}
	r.itl.Percentiles.P90, r.itl.Percentiles.P95, r.itl.Percentiles.P99 = b.P90TPOT, b.P95TPOT, b.P99TPOT
	r.ttft.Percentiles.P90, r.ttft.Percentiles.P95, r.ttft.Percentiles.P99 = b.P90TTFT, b.P95TTFT, b.P99TTFT
	if n > 0 {
		r.prompt, r.output = positive(b.Input/float64(n)), positive(b.Output/float64(n))
	}
	r.seconds = positive(b.Duration)
	e2e := cmp.Or(b.MeanE2E, b.MeanLat, b.MeanTTFT+b.MeanTPOT*(r.output-1)) // ms
	r.measured = cmp.Or(positive(b.Together), positive(b.Throughput*e2e/1e3))
	if ended, err := time.Parse("20060102-150405", string(b.Date)); err == nil {
		r.startedAt = float64(ended.Unix()) - r.seconds
	}

	switch n := len(b.First); {
	case n == 0:
		r.noRows = "the file holds no list of requests; give --save-detailed (vLLM) or --output-details (SGLang)"
	case len(b.Prompt) != n || len(b.Answer) != n || len(b.Gaps.sum) != n || len(b.Starts) > 0 && len(b.Starts) != n:
		r.noRows = "the lists of requests differ in length"
	default:
		if r.rows = b.rows(); len(b.Starts) == 0 {
			r.noRows = b.begin(r)
		}
		r.asked = r.rows.shape()
		r.requests.Errors = r.rows.errors
		r.requests.Errored = max(r.requests.Errored, r.rows.count[record.Errored])
	}
	return r
}

// rows are the requests. Where the file has no starts they all begin at 1.
func (b *benchServe) rows() *rowSet {
	set := &rowSet{}
	set.expect(len(b.First))
	origin := math.Inf(1)
	for _, start := range b.Starts {
		origin = min(origin, start)
	}
	for i, first := range b.First {
		row := record.Request{Start: 1, PromptTokens: whole(b.Prompt[i]), OutputTokens: whole(b.Answer[i]), Pieces: b.Gaps.pieces[i] + 1}
		if len(b.Starts) > 0 {
			row.Start += b.Starts[i] - origin
		}
		if first > 0 {
			row.FirstToken = row.Start + first
			row.LastToken = row.FirstToken + b.Gaps.sum[i]
			row.End = row.LastToken
		}
		if failed := i < len(b.Errors) && b.Errors[i] != ""; failed || first <= 0 && row.OutputTokens == 0 {
			row.Status = record.Errored
			reason := unknownReason
			if failed {
				reason = b.Errors[i]
			}
			set.errors.add(reason, 1)
		}
		set.add(row)
	}
	return set
}

// begin gives rows without starts theirs: in a closed loop a request is sent when
// the first of those in flight has ended, in the order of the list. It says why not
// where that cannot be, or does not take as long as the run did.
func (b *benchServe) begin(r *run) string {
	set := r.rows
	if r.arrivals != "" || r.batch < 1 || set.dropped || set.count[record.Errored] > 0 {
		return "the file does not say when each request was sent"
	}
	ends := make(endings, 0, r.batch)
	last := 1.0
	for i := range set.rows {
		row := &set.rows[i]
		if len(ends) == r.batch {
			shift := heap.Pop(&ends).(float64) - row.Start
			row.Start, row.FirstToken, row.LastToken, row.End = row.Start+shift, row.FirstToken+shift, row.LastToken+shift, row.End+shift
		}
		heap.Push(&ends, row.End)
		last = max(last, row.End)
	}
	const near = 0.05 // the client's own time between requests, and its first connection
	if took := last - 1; math.Abs(took/b.Duration-1) > near {
		return fmt.Sprintf("the file does not say when each request was sent, and one after the other in %d streams they would have taken %.3g s where the run took %.3g s", r.batch, took, b.Duration)
	}
	r.note("the file does not say when each request was sent: each is taken to have been sent as soon as one of the %d in flight had ended, which makes up the time that the run took", r.batch)
	return ""
}

// endings is a heap of moments.
type endings []float64

func (e endings) Len() int           { return len(e) }
func (e endings) Less(i, j int) bool { return e[i] < e[j] }
func (e endings) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *endings) Push(x any)        { *e = append(*e, x.(float64)) }
func (e *endings) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}
