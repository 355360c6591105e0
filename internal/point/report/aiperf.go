package report

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
)

// AIPerf 0.11 to 0.13 writes for each run
//
//	profile_export.jsonl         one record per request
//	profile_export_aiperf.json   statistics, and what was asked for
//	profile_export_aiperf.csv    the statistics alone
//
// A sweep over concurrencies has a directory of these for each. The records are the
// rows; what was asked for is taken from the JSON beside them. GenAI-Perf, from
// which AIPerf comes, writes the statistics in the same form.

// aiperfRecord is one request. Times are Unix nanoseconds.
type aiperfRecord struct {
	Metadata struct {
		Start     int64 `json:"request_start_ns"`
		End       int64 `json:"request_end_ns"`
		Phase     text  `json:"benchmark_phase"`
		Cancelled bool  `json:"was_cancelled"`
	} `json:"metadata"`
	Metrics struct {
		Latency      *quantity `json:"request_latency"`
		TTFT         *quantity `json:"time_to_first_token"`
		Input        *quantity `json:"input_sequence_length"`
		Output       *quantity `json:"output_sequence_length"`
		UsageInput   *quantity `json:"usage_prompt_tokens"`
		UsageOutput  *quantity `json:"usage_completion_tokens"`
		ChunksOfText *quantity `json:"http_req_chunks_received"`
	} `json:"metrics"`
	Error *struct {
		Type    text    `json:"type"`
		Message text    `json:"message"`
		Code    float64 `json:"code"`
	} `json:"error"`
}

// quantity is a value and its unit.
type quantity struct {
	Value float64 `json:"value"`
	Unit  text    `json:"unit"`
}

// milliseconds by the name of a unit, as tools spell it.
var unitsOfTime = map[text]float64{"ns": 1e-6, "us": 1e-3, "ms": 1, "s": 1e3, "sec": 1e3, "seconds": 1e3, "ms/token": 1, "s/token": 1e3}

// ms is the value in milliseconds, 0 where its unit is none of time.
func (q *quantity) ms() float64 {
	if q == nil {
		return 0
	}
	return q.Value * unitsOfTime[q.Unit]
}

func (q *quantity) count() int {
	if q == nil {
		return 0
	}
	return whole(q.Value)
}

func isAIPerfRecords(h *head) bool {
	return !h.list && h.has("metadata") && (h.has("metrics") || h.has("error")) && strings.Contains(string(h.text), `"request_start_ns"`)
}

func readAIPerfRecords(in *input) ([]measurement.Measurement, error) {
	r, counted, err := in.aiperfRows()
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(baseOf(in.name), ".jsonl")
	for _, summary := range []string{name + "_aiperf.json", name + ".json"} {
		f := in.beside(summary)
		if f == nil {
			continue
		}
		e := &aiperfExport{}
		err := (&input{head: newHead(nil), Reader: f, name: in.name + ", " + summary + " beside it"}).decode(e)
		f.Close()
		if err != nil {
			return nil, err
		}
		e.facts(r)
		break
	}
	return []measurement.Measurement{r.recorded(counted).measurement(in.name, in.o)}, nil
}

// recorded completes a run whose rows have been read.
func (r *run) recorded(countedByServer bool) *run {
	r.requests.Successful = r.rows.count[record.Successful]
	r.requests.Errored = r.rows.count[record.Errored]
	r.requests.Incomplete = r.rows.count[record.Incomplete]
	r.requests.Errors = r.rows.errors
	if r.asked == (sweep.Shape{}) {
		r.asked = r.rows.shape()
	}
	if !countedByServer && r.requests.Successful > 0 {
		r.note("tokens were counted by %s's own tokenizer, not by the server; if it is not the model's, shapes and ITL are off", r.tool)
	}
	return r
}

// aiperfRows reads the records.
func (in *input) aiperfRows() (*run, bool, error) {
	r := &run{tool: "aiperf", rows: &rowSet{}}
	countedByServer := true
	src := &source{r: in.Reader}
	dec := decoder(src)
	var rec aiperfRecord
	for n := 1; ; n++ {
		kind := dec.PeekKind()
		if kind != '{' {
			_, err := dec.ReadToken()
			if errors.Is(err, io.EOF) {
				return r, countedByServer, nil
			}
			if err == nil {
				err = fmt.Errorf("record %d is no object", n)
			}
			return nil, false, in.failed(src, dec, err)
		}
		rec = aiperfRecord{}
		if err := json.UnmarshalDecode(dec, &rec); err != nil {
			return nil, false, in.failed(src, dec, err)
		}
		m := &rec.Metrics
		if rec.Metadata.Phase == "warmup" {
			continue
		}
		start := float64(rec.Metadata.Start) / 1e9
		row := record.Request{
			Start: max(0, start), End: max(0, float64(rec.Metadata.End)/1e9),
			PromptTokens: cmp.Or(m.UsageInput.count(), m.Input.count()), OutputTokens: cmp.Or(m.UsageOutput.count(), m.Output.count()),
			Pieces: int32(m.ChunksOfText.count()),
		}
		switch {
		case rec.Metadata.Cancelled:
			row.Status = record.Incomplete
		case rec.Error != nil:
			row.Status = record.Errored
			r.rows.errors.add(essence(cmp.Or(string(rec.Error.Message), string(rec.Error.Type))), 1)
		}
		if ttft := m.TTFT.ms(); ttft > 0 && !math.IsInf(ttft, 0) {
			row.FirstToken, row.LastToken = start+ttft/1e3, start+max(ttft, m.Latency.ms())/1e3
			row.End = max(row.End, row.LastToken)
		}
		countedByServer = countedByServer && (row.Status != record.Successful || m.UsageOutput.count() > 0)
		r.rows.add(row)
	}
}

// aiperfExport is the statistics of a run, of AIPerf or GenAI-Perf.
type aiperfExport struct {
	Version   text          `json:"aiperf_version"`
	Schema    text          `json:"schema_version"`
	TTFT      aiperfMetric  `json:"time_to_first_token"`
	ITL       aiperfMetric  `json:"inter_token_latency"`
	Latency   aiperfMetric  `json:"request_latency"`
	Rate      aiperfMetric  `json:"request_throughput"`
	Count     aiperfMetric  `json:"request_count"`
	Errors    aiperfMetric  `json:"error_request_count"`
	Input     aiperfMetric  `json:"input_sequence_length"`
	Output    aiperfMetric  `json:"output_sequence_length"`
	Together  aiperfMetric  `json:"effective_concurrency"`
	Duration  aiperfMetric  `json:"benchmark_duration"`
	Cancelled bool          `json:"was_cancelled"`
	Start     text          `json:"start_time"`
	Asked     aiperfInput   `json:"input_config"`
	Summary   []aiperfError `json:"error_summary"`
}

type aiperfError struct {
	Count   float64 `json:"count"`
	Details struct {
		Message text `json:"message"`
		Type    text `json:"type"`
	} `json:"error_details"`
}

// aiperfMetric is one metric's statistics, in its unit.
type aiperfMetric struct {
	Unit text     `json:"unit"`
	Avg  float64  `json:"avg"`
	Std  float64  `json:"std"`
	Min  *float64 `json:"min"`
	Max  *float64 `json:"max"`
	N    float64  `json:"count"`
	percentiles
}

// distribution is the metric in milliseconds.
func (m *aiperfMetric) distribution() distribution {
	scale, known := unitsOfTime[m.Unit]
	if !known {
		return distribution{}
	}
	at := func(x *float64) *float64 {
		if x == nil {
			return nil
		}
		return new(*x * scale)
	}
	d := distribution{Mean: m.Avg * scale, StdDev: m.Std * scale, Min: at(m.Min), Max: at(m.Max), Percentiles: m.percentiles}
	for _, p := range d.Percentiles.all() {
		*p = at(*p)
	}
	if median := d.Percentiles.P50; median != nil {
		d.Median = *median
	}
	return d
}

// constant are the two ends of a metric of counts, apart where it is not known.
func (m *aiperfMetric) ends() (low, high float64) {
	if m.Min == nil || m.Max == nil {
		return 0, 1
	}
	return *m.Min, *m.Max
}

// aiperfInput is what was asked for: of AIPerf 0.13, of AIPerf before it, and of
// GenAI-Perf.
type aiperfInput struct {
	Models struct {
		Items []struct {
			Name text `json:"name"`
		} `json:"items"`
	} `json:"models"`
	Datasets []struct {
		Prompts struct {
			Input  aiperfLength `json:"isl"`
			Output aiperfLength `json:"osl"`
		} `json:"prompts"`
	} `json:"datasets"`
	Phases []struct {
		Kind        text    `json:"kind"` // from 0.12 on
		Excluded    bool    `json:"exclude_from_results"`
		Type        text    `json:"type"`
		Concurrency float64 `json:"concurrency"`
		Rate        float64 `json:"rate"`
		RequestRate float64 `json:"request_rate"`
		Arrival     text    `json:"arrival_pattern"`
	} `json:"phases"`

	Endpoint struct {
		URLs      []text `json:"urls"`
		URL       text   `json:"url"`
		Models    []text `json:"model_names"`
		Streaming *bool  `json:"streaming"`
	} `json:"endpoint"`
	Prompt struct {
		Prompt struct {
			Input  aiperfLength `json:"input_tokens"`
			Output aiperfLength `json:"output_tokens"`
		} `json:"prompt"`
		// of GenAI-Perf
		Synthetic aiperfLength `json:"synthetic_tokens"`
		Output    aiperfLength `json:"output_tokens"`
	} `json:"input"`
	Load struct {
		Concurrency float64 `json:"concurrency"`
		RequestRate float64 `json:"request_rate"`
		Arrival     text    `json:"arrival_pattern"`
	} `json:"loadgen"`

	// GenAI-Perf
	Model    aiperfNames `json:"model"`
	Names    aiperfNames `json:"model_names"`
	Analyzer struct {
		Stimulus struct {
			Concurrency float64 `json:"concurrency"`
			RequestRate float64 `json:"request_rate"`
		} `json:"stimulus"`
	} `json:"perf_analyzer"`
	Concurrency  float64 `json:"concurrency"`
	RequestRate  float64 `json:"request_rate"`
	InputTokens  float64 `json:"synthetic_input_tokens_mean"`
	OutputTokens float64 `json:"output_tokens_mean"`
}

type aiperfLength struct {
	Mean   float64 `json:"mean"`
	StdDev float64 `json:"stddev"`
}

// aiperfNames is a name or a list of them.
type aiperfNames []text

// facts fills in what was asked for.
func (e *aiperfExport) facts(r *run) {
	a := &e.Asked
	r.version = cmp.Or(r.version, string(e.Version))
	names := append(aiperfNames{}, a.Endpoint.Models...)
	for _, item := range a.Models.Items {
		names = append(names, item.Name)
	}
	names = append(append(names, a.Model...), a.Names...)
	for i, name := range names {
		if i == 0 {
			r.model = string(name)
		} else if string(name) != r.model {
			r.voided("requests went to several models (%s, %s): measure one at a time", r.model, name)
			break
		}
	}
	if urls := append([]text{a.Endpoint.URL}, a.Endpoint.URLs...); r.target == "" {
		r.target = string(cmp.Or(urls...))
	}
	if e.Cancelled {
		r.note("the run was cancelled: it is shorter than asked for")
	}

	in, out := cmp.Or(a.Prompt.Prompt.Input, a.Prompt.Synthetic), cmp.Or(a.Prompt.Prompt.Output, a.Prompt.Output)
	if len(a.Datasets) == 1 {
		in, out = cmp.Or(in, a.Datasets[0].Prompts.Input), cmp.Or(out, a.Datasets[0].Prompts.Output)
	}
	if in.Mean > 0 && out.Mean > 0 {
		r.asked = sweep.Shape{PromptTokens: int(math.Round(in.Mean)), OutputTokens: int(math.Round(out.Mean))}
	} else if a.InputTokens > 0 && a.OutputTokens > 0 {
		r.asked = sweep.Shape{PromptTokens: int(math.Round(a.InputTokens)), OutputTokens: int(math.Round(a.OutputTokens))}
	}

	concurrency, rate, arrival := cmp.Or(a.Load.Concurrency, a.Analyzer.Stimulus.Concurrency, a.Concurrency), cmp.Or(a.Load.RequestRate, a.Analyzer.Stimulus.RequestRate, a.RequestRate), a.Load.Arrival
	profiling := 0
	for _, p := range a.Phases {
		if p.Kind == "warmup" || p.Excluded {
			continue
		}
		if profiling++; profiling > 1 {
			r.voided("the run had several profiling phases, which one file mixes: run each by itself")
		}
		concurrency, rate, arrival = cmp.Or(concurrency, p.Concurrency), cmp.Or(rate, p.Rate, p.RequestRate), cmp.Or(arrival, p.Arrival, p.Type)
	}
	switch {
	case rate > 0:
		r.arriving(rate, string(arrival))
	case concurrency > 0:
		r.batch = whole(concurrency)
	}
}

func isAIPerf(h *head) bool { return !h.list && h.has("aiperf_version") }

func isGenAIPerf(h *head) bool {
	return !h.list && !isAIPerf(h) && h.has("request_latency") && (h.has("time_to_first_token") || h.has("request_throughput", "input_config"))
}

func readAIPerf(in *input) ([]measurement.Measurement, error) { return in.aiperf("aiperf") }

func readGenAIPerf(in *input) ([]measurement.Measurement, error) { return in.aiperf("genai-perf") }

func (in *input) aiperf(tool string) ([]measurement.Measurement, error) {
	var e aiperfExport
	if err := in.decode(&e); err != nil {
		return nil, err
	}
	switch {
	case in.has("aggregation_type"), in.has("num_profile_runs"), in.has("sweep_parameters"):
		return nil, foreign(in.name, "is AIPerf's aggregate of several runs; give the directory of each run")
	case tool == "aiperf" && !in.has("input_config"):
		return nil, foreign(in.name, "is AIPerf's export of one phase or of an aggregate; give the run's own profile_export_aiperf.json or profile_export.jsonl")
	}
	base := baseOf(in.name)
	stem := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(base, ".json"), "_aiperf"), "_genai_perf")
	noRows := "the records (" + stem + ".jsonl) do not lie beside the file"
	if tool == "aiperf" && base != stem {
		if f := in.beside(stem + ".jsonl"); f != nil {
			defer f.Close()
			rows := &input{head: newHead(nil), Reader: f, name: in.name + ", " + stem + ".jsonl beside it", o: in.o}
			r, counted, err := rows.aiperfRows()
			if err != nil {
				return nil, err
			}
			e.facts(r)
			return []measurement.Measurement{r.recorded(counted).measurement(in.name, in.o)}, nil
		}
	}
	r := &run{tool: tool}
	if tool == "aiperf" {
		r.noRows = noRows
	}
	e.facts(r)
	e.statistics(r)
	if r.asked == (sweep.Shape{}) {
		inLow, inHigh := e.Input.ends()
		outLow, outHigh := e.Output.ends()
		r.asked = constant(inLow, inHigh, outLow, outHigh)
	}
	return []measurement.Measurement{r.measurement(in.name, in.o)}, nil
}

// statistics fills in the tool's own numbers.
func (e *aiperfExport) statistics(r *run) {
	r.itl, r.ttft = e.ITL.distribution(), e.TTFT.distribution()
	r.prompt, r.output = positive(e.Input.Avg), positive(e.Output.Avg)
	r.requests.Successful = whole(cmp.Or(e.Count.Avg, e.Latency.N, e.TTFT.N))
	r.requests.Errored = whole(e.Errors.Avg)
	for _, s := range e.Summary {
		r.requests.Errors = count(r.requests.Errors, essence(cmp.Or(string(s.Details.Message), string(s.Details.Type))), whole(s.Count))
	}
	r.seconds = positive(e.Duration.Avg)
	// Little's law, where the tool does not say.
	r.measured = cmp.Or(positive(e.Together.Avg), positive(e.Rate.Avg*e.Latency.distribution().Mean/1e3))
	if r.requests.Successful == 0 && r.seconds > 0 {
		r.requests.Successful = int(math.Round(e.Rate.Avg * r.seconds))
	}
	if t, err := time.Parse("2006-01-02T15:04:05", strings.SplitN(string(e.Start), ".", 2)[0]); err == nil {
		r.startedAt = float64(t.Unix())
	}
}

func count(m map[string]int, reason string, n int) map[string]int {
	c := errorCounts(m)
	c.add(reason, n)
	return c
}

// The CSV of AIPerf and GenAI-Perf: a table of statistics by metric, then tables of
// single values.

func isAIPerfCSV(h *head) bool {
	return strings.HasPrefix(strings.ToLower(h.line), "metric,avg,")
}

func readAIPerfCSV(in *input) ([]measurement.Measurement, error) {
	tables, err := in.table()
	if err != nil {
		return nil, err
	}
	var e aiperfExport
	var columns []string
	for _, row := range tables {
		if strings.EqualFold(row[0], "Metric") {
			columns = row
			continue
		}
		name, unit := metricName(row[0])
		to := map[string]*aiperfMetric{
			"time to first token": &e.TTFT, "inter token latency": &e.ITL, "request latency": &e.Latency, "request throughput": &e.Rate,
			"request count": &e.Count, "input sequence length": &e.Input, "output sequence length": &e.Output, "benchmark duration": &e.Duration,
			"effective concurrency": &e.Together, "error request count": &e.Errors,
		}[name]
		if to == nil {
			continue
		}
		to.Unit = text(unit)
		for i, cell := range row {
			x, err := strconv.ParseFloat(strings.ReplaceAll(cell, ",", ""), 64)
			if err != nil || i == 0 || i >= len(columns) {
				continue
			}
			switch column := strings.ToLower(columns[i]); column {
			case "avg", "value":
				to.Avg = x
			case "std":
				to.Std = x
			case "min":
				to.Min = &x
			case "max":
				to.Max = &x
			default:
				if p := slices.Index(percentileNames, column); p >= 0 {
					*to.all()[p] = &x
				}
			}
		}
	}
	r := &run{tool: "aiperf", noRows: "a CSV has no rows; the JSON beside it says more"}
	e.statistics(r)
	inLow, inHigh := e.Input.ends()
	outLow, outHigh := e.Output.ends()
	r.asked = constant(inLow, inHigh, outLow, outHigh)
	if r.requests.Successful == 0 && (r.itl.Mean > 0 || r.ttft.Mean > 0) {
		return nil, foreign(in.name, "does not say how many requests its means are of; give the JSON beside it")
	}
	return []measurement.Measurement{r.measurement(in.name, in.o)}, nil
}

// metricName takes "Time to First Token (ms)" apart.
func metricName(cell string) (name, unit string) {
	name, unit, _ = strings.Cut(cell, "(")
	return strings.ToLower(strings.TrimSpace(name)), strings.TrimSuffix(strings.TrimSpace(unit), ")")
}

func (n *aiperfNames) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() == '[' {
		return elements(dec, func() error { return n.UnmarshalJSONFrom(dec) })
	}
	var t text
	err := t.UnmarshalJSONFrom(dec)
	if t != "" {
		*n = append(*n, t)
	}
	return err
}
