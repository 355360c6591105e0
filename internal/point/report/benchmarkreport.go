package report

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
)

// benchmarkReport is the Benchmark Report of llm-d-benchmark and inference-perf,
// versions 0.1, 0.2 and 0.2.1, as YAML or JSON: statistics only.
type benchmarkReport struct {
	Version text `json:"version"`
	Run     struct {
		Time brTime `json:"time"`
	} `json:"run"`
	Scenario struct {
		// 0.1
		Host struct {
			Accelerator []struct {
				Model text `json:"model"`
			} `json:"accelerator"`
		} `json:"host"`
		Model struct {
			Name text `json:"name"`
		} `json:"model"`

		// 0.2
		Stack []struct {
			Metadata struct {
				Kind text `json:"kind"` // in the first reports of 0.2; later below
			} `json:"metadata"`
			Standardized struct {
				Kind  text `json:"kind"`
				Model struct {
					Name text `json:"name"`
				} `json:"model"`
				Accelerator struct {
					Model text `json:"model"`
				} `json:"accelerator"`
				Replicas float64 `json:"replicas"`
				Role     text    `json:"role"`
			} `json:"standardized"`
		} `json:"stack"`

		Load struct {
			Name         text `json:"name"` // 0.1
			Standardized struct {
				Tool        text     `json:"tool"`
				Version     text     `json:"tool_version"`
				Input       brLength `json:"input_seq_len"`
				Output      brLength `json:"output_seq_len"`
				Rate        float64  `json:"rate_qps"`
				Concurrency scalar   `json:"concurrency"`
			} `json:"standardized"`
		} `json:"load"`
	} `json:"scenario"`

	Metrics struct { // 0.1
		Time brTime `json:"time"`
		brAggregate
	} `json:"metrics"`
	Results struct { // 0.2
		Performance struct {
			Aggregate brAggregate `json:"aggregate"`
		} `json:"request_performance"`
	} `json:"results"`
}

type brTime struct {
	Start    scalar `json:"start"`
	End      scalar `json:"end"`
	Stop     scalar `json:"stop"`     // 0.1
	Duration scalar `json:"duration"` // of the stage, where start and end are those of all; seconds, or as ISO 8601 has it
}

type brLength struct {
	Distribution text    `json:"distribution"`
	Value        float64 `json:"value"`
}

type brAggregate struct {
	Requests struct {
		Total      float64 `json:"total"`
		Failures   float64 `json:"failures"`
		Incomplete float64 `json:"incomplete"`
		Input      brStats `json:"input_length"`
		Output     brStats `json:"output_length"`
	} `json:"requests"`
	Latency struct {
		TTFT    brStats `json:"time_to_first_token"`
		ITL     brStats `json:"inter_token_latency"`
		TPOT    brStats `json:"time_per_output_token"`
		Request brStats `json:"request_latency"`
	} `json:"latency"`
	Throughput struct {
		Old     float64 `json:"requests_per_sec"` // 0.1
		Request brStats `json:"request_rate"`
	} `json:"throughput"`
}

type brStats struct {
	Units  text     `json:"units"`
	Mean   float64  `json:"mean"`
	StdDev float64  `json:"stddev"`
	Min    *float64 `json:"min"`
	Max    *float64 `json:"max"`
	percentiles
}

func (s *brStats) metric() *aiperfMetric {
	return &aiperfMetric{Unit: text(strings.ToLower(string(s.Units))), Avg: s.Mean, Std: s.StdDev, Min: s.Min, Max: s.Max, percentiles: s.percentiles}
}

func isBenchmarkReport(h *head) bool {
	return !h.list && h.has("version") && (h.has("results") || h.has("metrics") || h.has("scenario") && !h.has("benchmarks"))
}

func readBenchmarkReport(in *input) ([]measurement.Measurement, error) {
	var b benchmarkReport
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	if v := string(b.Version); v != "0.1" && v != "0.2" && v != "0.2.1" {
		return nil, foreign(in.name, "is a Benchmark Report of version %q; 0.1, 0.2 and 0.2.1 are read", v)
	}
	a, at, load := &b.Results.Performance.Aggregate, b.Run.Time, &b.Scenario.Load.Standardized
	if b.Version == "0.1" {
		a, at = &b.Metrics.brAggregate, b.Metrics.Time
	}
	r := &run{tool: string(cmp.Or(load.Tool, b.Scenario.Load.Name, "benchmark report")), version: string(load.Version), model: string(b.Scenario.Model.Name), noRows: "a Benchmark Report has no rows"}
	for _, h := range b.Scenario.Host.Accelerator {
		r.acceleratorOf(h.Model)
	}
	engines := 0.0
	for _, s := range b.Scenario.Stack {
		if c := &s.Standardized; cmp.Or(c.Kind, s.Metadata.Kind) == "inference_engine" {
			engines += max(1, c.Replicas)
			r.model = cmp.Or(r.model, string(c.Model.Name))
			r.acceleratorOf(c.Accelerator.Model)
		}
	}
	if n := max(engines, float64(len(b.Scenario.Host.Accelerator))); n > 1 {
		r.voided("the report is of %.0f servers together: how many requests each ran is not in it; measure one replica", n)
	}
	if load.Input.Distribution == "fixed" && load.Output.Distribution == "fixed" {
		r.asked = sweep.Shape{PromptTokens: whole(load.Input.Value), OutputTokens: whole(load.Output.Value)}
	} else {
		inLow, inHigh := a.Requests.Input.metric().ends()
		outLow, outHigh := a.Requests.Output.metric().ends()
		r.asked = constant(inLow, inHigh, outLow, outHigh)
	}
	r.prompt, r.output = positive(a.Requests.Input.Mean), positive(a.Requests.Output.Mean)
	r.requests.Errored, r.requests.Incomplete = whole(a.Requests.Failures), whole(a.Requests.Incomplete)
	r.requests.Successful = max(0, whole(a.Requests.Total)-r.requests.Errored-r.requests.Incomplete)

	// TPOT is a request's own mean, as ITL is here; a report's ITL may be over gaps,
	// whose scatter is that of gaps.
	tpot := &a.Latency.TPOT
	if tpot.Mean == 0 {
		tpot = &a.Latency.ITL
	}
	r.itl, r.ttft = tpot.metric().distribution(), a.Latency.TTFT.metric().distribution()
	for name, s := range map[string]*brStats{"time_per_output_token": tpot, "time_to_first_token": &a.Latency.TTFT} {
		if s.Mean != 0 && unitsOfTime[s.metric().Unit] == 0 {
			r.voided("%s is in %q, which is no unit of time that is known", name, s.Units)
		}
	}
	r.measured = positive(cmp.Or(a.Throughput.Request.Mean, a.Throughput.Old) * a.Latency.Request.metric().distribution().Mean / 1e3)
	r.seconds = duration(at.Duration)
	if start := instant(at.Start); start > 0 {
		r.startedAt, r.seconds = start, cmp.Or(r.seconds, max(0, instant(cmp.Or(at.End, at.Stop))-start))
	}
	var streams int
	if _, err := fmt.Sscan(string(load.Concurrency), &streams); err == nil && streams > 0 {
		r.batch = streams
	} else if load.Rate > 0 {
		r.arriving(load.Rate, "")
	}
	return []measurement.Measurement{r.measurement(in.name, in.o)}, nil
}

// acceleratorOf takes an accelerator's name; two that differ void the run.
func (r *run) acceleratorOf(model text) {
	if r.accelerator != "" && model != "" && r.accelerator != string(model) {
		r.voided("the report is of %s and %s together; measure one accelerator at a time", r.accelerator, model)
	}
	r.accelerator = cmp.Or(r.accelerator, string(model))
}

// duration is a time in seconds, written so, or as ISO 8601 has it (PT49.9S); 0 where it is
// neither.
func duration(s scalar) float64 {
	if rest, iso := strings.CutPrefix(string(s), "PT"); iso {
		d, err := time.ParseDuration(strings.ToLower(rest))
		if err != nil {
			return 0
		}
		return positive(d.Seconds())
	}
	return instant(s)
}

// instant is a moment as Unix seconds: written so, or as ISO 8601 has it; 0 where it
// is neither.
func instant(s scalar) float64 {
	if t, err := time.Parse(time.RFC3339Nano, string(s)); err == nil {
		return float64(t.UnixNano()) / 1e9
	}
	var seconds float64
	if _, err := fmt.Sscan(string(s), &seconds); err == nil {
		return positive(seconds)
	}
	return 0
}
