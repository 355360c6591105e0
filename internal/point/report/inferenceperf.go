package report

import (
	"cmp"
	"io"
	"math"
	"regexp"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
)

// inference-perf 0.2 to 0.7 writes for a run of several stages
//
//	per_request_lifecycle_metrics.json   every request of all stages, in seconds of the client's clock
//	stage_N_lifecycle_metrics.json       statistics of a stage
//	summary_lifecycle_metrics.json       statistics of all stages together
//	config.yaml                          what was asked for
//
// The requests are cut into stages by the counts of config.yaml beside them.

// inferencePerfRequest is one request. Prompts, answers and pieces are skipped.
type inferencePerfRequest struct {
	Start float64 `json:"start_time"`
	End   float64 `json:"end_time"`
	Error *struct {
		Type    text `json:"error_type"`
		Message text `json:"error_msg"`
	} `json:"error"`
	Info struct {
		Input    float64           `json:"input_tokens"`
		Output   float64           `json:"output_tokens"` // before 0.6
		Times    inferencePerfTime `json:"output_token_times"`
		Response *struct {
			Output float64           `json:"output_tokens"`
			Times  inferencePerfTime `json:"output_token_times"`
			Pieces inferencePerfTime `json:"chunk_times"`
			Usage  *struct {
				Prompt float64 `json:"prompt_tokens"`
				Output float64 `json:"completion_tokens"`
			} `json:"server_usage"`
		} `json:"response_metrics"`
	} `json:"info"`
}

// inferencePerfTime is a list of moments, of which the ends are held.
type inferencePerfTime struct {
	first, last float64
	n           int32
}

func (t *inferencePerfTime) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	return elements(dec, func() error {
		token, err := dec.ReadToken()
		if err == nil && token.Kind() == '0' {
			if t.last, err = token.Float(); t.n == 0 {
				t.first = t.last
			}
			t.n++
		}
		return err
	})
}

func isInferencePerfRows(h *head) bool {
	return h.list && h.has("start_time", "end_time") && (h.has("request") || h.has("info"))
}

func readInferencePerfRows(in *input) ([]measurement.Measurement, error) {
	set := &rowSet{}
	counted := true
	failures := map[float64]string{} // why the request of a start failed
	src := &source{r: in.Reader}
	dec := decoder(newBareNumbers(src))
	err := elements(dec, func() error {
		var q inferencePerfRequest
		if err := json.UnmarshalDecode(dec, &q); err != nil {
			return err
		}
		row := record.Request{Start: positive(q.Start), End: positive(q.End), PromptTokens: whole(q.Info.Input), OutputTokens: whole(q.Info.Output)}
		times := q.Info.Times
		if a := q.Info.Response; a != nil {
			times, row.OutputTokens, row.Pieces = a.Times, whole(a.Output), a.Pieces.n
			if times.n == 0 {
				times = a.Pieces
			}
			if a.Usage != nil {
				row.PromptTokens, row.OutputTokens = whole(a.Usage.Prompt), whole(a.Usage.Output)
			} else {
				counted = false
			}
		} else {
			counted = false
		}
		row.FirstToken, row.LastToken = positive(times.first), positive(times.last)
		if q.Error != nil {
			row.Status = record.Errored
			failures[row.Start] = essence(cmp.Or(string(q.Error.Message), string(q.Error.Type)))
		}
		set.add(row)
		return nil
	})
	if err == nil {
		err = atEnd(dec)
	}
	if err := in.failed(src, dec, err); err != nil {
		return nil, err
	}
	if set.dropped {
		return nil, foreign(in.name, "holds more than %d requests; give the stage_N_lifecycle_metrics.json instead", MaxRows)
	}
	if len(set.rows) == 0 {
		return nil, foreign(in.name, "holds no request: the run ended before its first")
	}
	stages, err := in.inferencePerfStages(set.rows, failures)
	if err != nil {
		return nil, err
	}
	var found []measurement.Measurement
	for i, s := range stages {
		s.run.rows = s.rows
		m := s.run.recorded(counted)
		if len(stages) > 1 {
			m.note("stage %d of %d", i, len(stages))
		}
		found = append(found, m.measurement(in.name, in.o))
	}
	return found, nil
}

// inferencePerfConfig is what is read of config.yaml.
type inferencePerfConfig struct {
	Load struct {
		Type   string `json:"type"`
		Stages []struct {
			Requests    float64 `json:"num_requests"`
			Concurrency float64 `json:"concurrency_level"`
			Rate        float64 `json:"rate"`
			Seconds     float64 `json:"duration"`
		} `json:"stages"`
	} `json:"load"`
	Server struct {
		Model   string `json:"model_name"`
		BaseURL string `json:"base_url"`
	} `json:"server"`
}

type inferencePerfStageRun struct {
	run  *run
	rows *rowSet
}

// inferencePerfStages cuts the requests into stages; failures are why those of a start
// failed.
func (in *input) inferencePerfStages(rows []record.Request, failures map[float64]string) ([]inferencePerfStageRun, error) {
	slices.SortFunc(rows, func(a, b record.Request) int { return cmp.Compare(a.Start, b.Start) })
	c, err := in.inferencePerfConfig()
	if err != nil {
		return nil, err
	}
	facts := func() *run { return &run{tool: "inference-perf", model: c.Server.Model, target: c.Server.BaseURL} }
	one := func(r *run, rows []record.Request) inferencePerfStageRun {
		set := &rowSet{}
		for _, row := range rows {
			set.add(row)
			if row.Status == record.Errored {
				set.errors.add(failures[row.Start], 1)
			}
		}
		return inferencePerfStageRun{r, set}
	}
	if len(c.Load.Stages) == 0 {
		// Between two stages nothing is in flight, for a second by default.
		end := 0.0
		for i, row := range rows {
			if i > 0 && row.Start > end {
				return nil, foreign(in.name, "holds the requests of several stages and does not say which is of which; put the run's config.yaml beside it, or give its stage_N_lifecycle_metrics.json")
			}
			end = max(end, row.End)
		}
		return []inferencePerfStageRun{one(facts(), rows)}, nil
	}
	var stages []inferencePerfStageRun
	for i, s := range c.Load.Stages {
		r := facts()
		n := whole(s.Requests)
		if c.Load.Type == "concurrent" {
			r.batch = whole(s.Concurrency)
		} else {
			n = int(math.Round(s.Rate * s.Seconds))
			r.arriving(s.Rate, cmp.Or(c.Load.Type, sweep.Constant))
		}
		if n > len(rows) || n < 1 || i == len(c.Load.Stages)-1 && n != len(rows) {
			return nil, foreign(in.name, "does not hold the requests that config.yaml beside it asks for (stage %d: %d, left: %d); was the run interrupted? Give its stage_N_lifecycle_metrics.json", i, n, len(rows))
		}
		stages = append(stages, one(r, rows[:n]))
		rows = rows[n:]
	}
	return stages, nil
}

// inferencePerfConfig reads config.yaml beside the report; it is empty where there
// is none.
func (in *input) inferencePerfConfig() (c inferencePerfConfig, err error) {
	f := in.beside("config.yaml")
	if f == nil {
		return c, nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err == nil {
		err = yaml.Unmarshal(data, &c)
	}
	if err != nil {
		return c, foreign(in.name, "config.yaml beside it cannot be read: %v", err)
	}
	return c, nil
}

// inferencePerfStage finds the files of statistics of one stage.
var inferencePerfStage = regexp.MustCompile(`^stage_(\d+)_lifecycle_metrics\.json$`)

// inferencePerfMetric is a distribution in seconds, or of tokens.
type inferencePerfMetric struct {
	Mean   float64  `json:"mean"`
	Min    *float64 `json:"min"`
	Max    *float64 `json:"max"`
	Median *float64 `json:"median"`
	Total  float64  `json:"total"`
	percentiles
}

func (m *inferencePerfMetric) distribution() distribution {
	if m == nil {
		return distribution{}
	}
	a := aiperfMetric{Unit: "s", Avg: m.Mean, Min: m.Min, Max: m.Max, percentiles: m.percentiles}
	a.P50 = m.Median
	return a.distribution()
}

type inferencePerfStageFile struct {
	Load struct {
		Count       float64 `json:"count"`
		Concurrency float64 `json:"concurrency"`
		Rate        float64 `json:"requested_rate"`
	} `json:"load_summary"`
	Seconds   float64 `json:"benchmark_time_seconds"`
	Successes struct {
		Count   float64 `json:"count"`
		Latency struct {
			Request *inferencePerfMetric `json:"request_latency"`
			TTFT    *inferencePerfMetric `json:"time_to_first_token"`
			TPOT    *inferencePerfMetric `json:"time_per_output_token"` // without the first
		} `json:"latency"`
		Throughput struct {
			Requests float64 `json:"requests_per_sec"`
		} `json:"throughput"`
		Prompt    *inferencePerfMetric `json:"prompt_tokens"`
		PromptLen *inferencePerfMetric `json:"prompt_len"` // before 0.6
		Output    *inferencePerfMetric `json:"output_tokens"`
		OutputLen *inferencePerfMetric `json:"output_len"`
	} `json:"successes"`
	Failures struct {
		Count float64 `json:"count"`
	} `json:"failures"`
}

func isInferencePerfStage(h *head) bool { return !h.list && h.has("load_summary") }

func readInferencePerfStage(in *input) ([]measurement.Measurement, error) {
	var f inferencePerfStageFile
	if err := in.decode(&f); err != nil {
		return nil, err
	}
	c, err := in.inferencePerfConfig()
	if err != nil {
		return nil, err
	}
	s := &f.Successes
	r := &run{tool: "inference-perf", model: c.Server.Model, target: c.Server.BaseURL, noRows: "the statistics of a stage hold no rows; report.request_lifecycle.per_request: true makes inference-perf write them"}
	r.requests.Successful, r.requests.Errored = whole(s.Count), whole(f.Failures.Count)
	r.itl, r.ttft = s.Latency.TPOT.distribution(), s.Latency.TTFT.distribution()
	r.seconds = positive(f.Seconds)
	latency := s.Latency.Request.distribution().Mean / 1e3
	r.measured = positive(s.Throughput.Requests * latency)
	prompt, output := cmp.Or(s.Prompt, s.PromptLen), cmp.Or(s.Output, s.OutputLen)
	if prompt != nil && output != nil {
		r.prompt, r.output = positive(prompt.Mean), positive(output.Mean)
		if prompt.Min != nil && prompt.Max != nil && output.Min != nil && output.Max != nil {
			r.asked = constant(*prompt.Min, *prompt.Max, *output.Min, *output.Max)
		}
	}
	switch {
	case f.Load.Concurrency > 0:
		r.batch = whole(f.Load.Concurrency)
	case f.Load.Rate > 0:
		r.arriving(f.Load.Rate, c.Load.Type)
	case len(c.Load.Stages) > 1:
		r.voided("the file mixes %d stages; give the stage_N_lifecycle_metrics.json beside it", len(c.Load.Stages))
	}
	if r.asked == (sweep.Shape{}) && r.prompt == 0 {
		r.note("the file does not count tokens")
	}
	return []measurement.Measurement{r.measurement(in.name, in.o)}, nil
}
