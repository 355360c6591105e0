package render

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep/linear4"
)

// These formats are of measured points, not of parameters: they want percentiles,
// which parameters do not hold.

// points are the measurements of the parameters' models, accelerators and shapes that
// can be used, in order.
func (o Options) points(ps []parameters.Parameters) ([]measurement.Measurement, error) {
	var found []measurement.Measurement
	for _, m := range o.Points {
		wanted := slices.ContainsFunc(ps, func(p parameters.Parameters) bool {
			return p.Model == m.Model && p.Accelerator == m.Accelerator && p.Shape == m.Shape
		})
		if wanted && len(m.Taken.Void) == 0 && m.Taken.ITL != nil && m.Taken.TTFT != nil && m.Taken.Batch > 0 {
			found = append(found, m)
		}
	}
	if len(found) == 0 {
		return nil, exit.Errorf(exit.Usage, "this format is of measured points, and no usable measurement is among the inputs; give the run's directory, or its measurements beside the parameters")
	}
	slices.SortStableFunc(found, func(a, b measurement.Measurement) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Accelerator, b.Accelerator), cmp.Compare(a.Shape.PromptTokens, b.Shape.PromptTokens),
			cmp.Compare(a.Shape.OutputTokens, b.Shape.OutputTokens), cmp.Compare(a.BatchSize, b.BatchSize))
	})
	return found, nil
}

// latency is the mean and the percentiles of one latency of a point, ms.
type latency struct {
	Mean, P50, P90, P95, P99 float64
	StdError                 float64
	All                      *measurement.Quantiles // nil: the mean is all that is known
}

// latencies of a point. Percentiles are the client's, scaled to the mean that was
// taken, which may be the server's.
func latencies(m measurement.Measurement) (itl, ttft latency) {
	of := func(v *measurement.Value, e *measurement.Estimate) latency {
		l := latency{Mean: v.MS, P50: v.MS, P90: v.MS, P95: v.MS, P99: v.MS, StdError: v.StandardErrorMS}
		if e == nil || e.Quantiles == nil || !(e.MeanMS > 0) {
			return l
		}
		q, scale := e.Quantiles, v.MS/e.MeanMS
		l.P50, l.P90, l.P95, l.P99, l.All = q.P50*scale, q.P90*scale, q.P95*scale, q.P99*scale, q
		return l
	}
	var client measurement.Witness
	if m.Client != nil {
		client = *m.Client
	}
	return of(m.Taken.ITL, client.ITL), of(m.Taken.TTFT, client.TTFT)
}

// tokens are the counted tokens of a request, or those asked for.
func tokens(m measurement.Measurement) (prompt, output float64) {
	return cmp.Or(m.PromptTokens, float64(m.Shape.PromptTokens)), cmp.Or(m.OutputTokens, float64(m.Shape.OutputTokens))
}

// endToEnd is the time of a request at one place of the distributions, ms; the
// places of TTFT and ITL are taken to go together, so that a percentile is not too
// small.
func endToEnd(ttft, itl, output float64) float64 { return ttft + (output-1)*itl }

// plannerBenchmark is one record of llm-d-planner's table of benchmarks, as its
// loader of 0.3 takes it. Latencies are in ms.
type plannerBenchmark struct {
	Model           string  `json:"model_hf_repo"`
	Hardware        string  `json:"hardware"`
	HardwareCount   int     `json:"hardware_count"`
	Framework       string  `json:"framework"`
	Version         string  `json:"framework_version,omitempty"`
	PromptTokens    int     `json:"prompt_tokens"`
	PromptSpread    int     `json:"prompt_tokens_stdev"`
	OutputTokens    int     `json:"output_tokens"`
	OutputSpread    int     `json:"output_tokens_stdev"`
	TTFTMean        float64 `json:"ttft_mean"`
	TTFTP90         float64 `json:"ttft_p90"`
	TTFTP95         float64 `json:"ttft_p95"`
	TTFTP99         float64 `json:"ttft_p99"`
	ITLMean         float64 `json:"itl_mean"`
	ITLP90          float64 `json:"itl_p90"`
	ITLP95          float64 `json:"itl_p95"`
	ITLP99          float64 `json:"itl_p99"`
	E2EMean         float64 `json:"e2e_mean"`
	E2EP90          float64 `json:"e2e_p90"`
	E2EP95          float64 `json:"e2e_p95"`
	E2EP99          float64 `json:"e2e_p99"`
	MeanInput       float64 `json:"mean_input_tokens"`
	MeanOutput      float64 `json:"mean_output_tokens"`
	RequestsPerSec  float64 `json:"requests_per_second"`
	ResponsesPerSec float64 `json:"responses_per_second"`
	TokensPerSec    float64 `json:"tokens_per_second"`
	ProfilerType    string  `json:"profiler_type"`
}

// planner writes what POST /api/v1/db/upload-benchmarks of llm-d-planner 0.3 takes.
func planner(ps []parameters.Parameters, o Options) ([]byte, error) {
	points, err := o.points(ps)
	if err != nil {
		return nil, err
	}
	out := struct {
		Metadata struct {
			Source     string `json:"source"`
			Confidence string `json:"confidence_level"`
		} `json:"_metadata"`
		Benchmarks []plannerBenchmark `json:"benchmarks"`
	}{}
	out.Metadata.Source, out.Metadata.Confidence = "wfgen", "benchmarked"
	bare := 0
	for _, m := range points {
		itl, ttft := latencies(m)
		if itl.All == nil || ttft.All == nil {
			bare++
		}
		in, output := tokens(m)
		e2e := endToEnd(ttft.Mean, itl.Mean, output)
		rate := 1e3 * m.Taken.Batch / e2e // Little's law
		out.Benchmarks = append(out.Benchmarks, plannerBenchmark{
			Model: m.Model, Hardware: m.Accelerator, HardwareCount: numberOf(o.Count, m.Accelerator, 1),
			Framework: "vllm", Version: m.Provenance.ServerVersion,
			PromptTokens: m.Shape.PromptTokens, OutputTokens: m.Shape.OutputTokens,
			TTFTMean: ttft.Mean, TTFTP90: ttft.P90, TTFTP95: ttft.P95, TTFTP99: ttft.P99,
			ITLMean: itl.Mean, ITLP90: itl.P90, ITLP95: itl.P95, ITLP99: itl.P99,
			E2EMean: e2e, E2EP90: endToEnd(ttft.P90, itl.P90, output), E2EP95: endToEnd(ttft.P95, itl.P95, output), E2EP99: endToEnd(ttft.P99, itl.P99, output),
			MeanInput: in, MeanOutput: output, RequestsPerSec: rate, ResponsesPerSec: rate, TokensPerSec: rate * output,
			ProfilerType: m.Driver.Name,
		})
	}
	o.note("For llm-d-planner 0.3: curl -F file=@FILE.json http://PLANNER/api/v1/db/upload-benchmarks")
	o.note("Rates are of a closed loop: as many as come back; requests that arrive at random wait longer at the same rate.")
	o.note("Percentiles of the whole request take those of TTFT and ITL to go together.")
	if bare > 0 {
		o.note("%d of %d points hold no percentiles: their means stand for them", bare, len(points))
	}
	return layout.JSON(out)
}

// benchmarkReport writes a Benchmark Report of version 0.2.1, the format of
// llm-d-benchmark and inference-perf: one YAML document for each measured point.
func benchmarkReport(ps []parameters.Parameters, o Options) ([]byte, error) {
	points, err := o.points(ps)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for i, m := range points {
		if i > 0 {
			out.WriteString("---\n")
		}
		text, err := yaml.Marshal(reportOf(m, numberOf(o.Count, m.Accelerator, 1)))
		if err != nil {
			return nil, err
		}
		out.Write(text)
	}
	if len(points) > 1 {
		o.note("One document for each of %d points; a consumer that takes one only wants them cut apart at ---", len(points))
	}
	return out.Bytes(), nil
}

func reportOf(m measurement.Measurement, gpus int) any {
	type object = map[string]any
	itl, ttft := latencies(m)
	in, output := tokens(m)
	stats := func(units string, l latency) object {
		s := object{"units": units, "mean": l.Mean}
		if q := l.All; q != nil {
			scale := 1.0
			if q.P50 > 0 {
				scale = l.P50 / q.P50
			}
			for name, x := range map[string]float64{"min": q.Min, "p10": q.P10, "p25": q.P25, "p50": q.P50, "p75": q.P75, "p90": q.P90, "p95": q.P95, "p99": q.P99, "max": q.Max} {
				s[name] = x * scale
			}
		}
		return s
	}
	count := func(x float64) object { return object{"units": "count", "mean": x} }
	e2e := endToEnd(ttft.Mean, itl.Mean, output)
	rate := 1e3 * m.Taken.Batch / e2e
	run := object{
		"uid":         fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%d\n%v", m.Model, m.Accelerator, m.Shape, m.BatchSize, m.StartedAt)))[:32],
		"description": fmt.Sprintf("one point of a closed loop, its steady window: %s on %s, %s tokens, %d requests kept in flight, %.4g measured", m.Model, m.Accelerator, m.Shape, m.BatchSize, m.Taken.Batch),
	}
	if m.StartedAt > 0 {
		start := time.UnixMicro(int64(m.StartedAt * 1e6)).UTC()
		run["time"] = object{
			"start": start.Format(time.RFC3339Nano), "end": start.Add(time.Duration(m.Seconds * 1e9)).Format(time.RFC3339Nano),
			"duration": fmt.Sprintf("PT%gS", math.Round(m.Seconds*1e3)/1e3),
		}
	}
	successful := max(1, m.Requests.Successful)
	return object{
		"version": "0.2.1",
		"run":     run,
		"scenario": object{
			"stack": []any{object{
				"metadata": object{"label": "server", "cfg_id": cmp.Or(m.Provenance.ImageDigest, m.Provenance.Image, "unknown")},
				"native":   object{},
				"standardized": object{
					"kind": "inference_engine", "tool": "vllm", "tool_version": cmp.Or(m.Provenance.ServerVersion, "unknown"),
					"role": "replica", "replicas": 1, "model": object{"name": m.Model},
					"accelerator": object{"model": m.Accelerator, "count": gpus, "parallelism": object{"tp": gpus}},
				},
			}},
			"load": object{
				"metadata": object{},
				"native":   object{},
				"standardized": object{
					"tool": m.Driver.Name, "tool_version": cmp.Or(m.Driver.Version, "unknown"), "source": "random",
					"input_seq_len":  object{"distribution": "fixed", "value": m.Shape.PromptTokens},
					"output_seq_len": object{"distribution": "fixed", "value": m.Shape.OutputTokens},
					"concurrency":    m.BatchSize,
				},
			},
		},
		"results": object{"request_performance": object{"aggregate": object{
			"requests": object{
				"total": successful + m.Requests.Errored + m.Requests.Incomplete, "failures": m.Requests.Errored, "incomplete": m.Requests.Incomplete,
				"input_length": count(in), "output_length": count(output),
			},
			"latency": object{
				"time_to_first_token": stats("ms", ttft), "time_per_output_token": stats("ms/token", itl),
				"inter_token_latency": object{"units": "ms/token", "mean": itl.Mean}, "request_latency": object{"units": "ms", "mean": e2e},
			},
			"throughput": object{
				"request_rate": object{"units": "queries/s", "mean": rate}, "input_token_rate": object{"units": "tokens/s", "mean": rate * in},
				"output_token_rate": object{"units": "tokens/s", "mean": rate * output}, "total_token_rate": object{"units": "tokens/s", "mean": rate * (in + output)},
			},
		}}},
	}
}

// csvTable writes parameters as a table, one row per model, accelerator and shape.
func csvTable(ps []parameters.Parameters, o Options) ([]byte, error) {
	var b strings.Builder
	b.WriteString("model,accelerator,prompt_tokens,output_tokens,verdict")
	for _, name := range linear4.Names() {
		fmt.Fprintf(&b, ",%s,%s_low,%s_high", name, name, name)
	}
	b.WriteString(",fit,largest_batch,measured_to\n")
	for _, p := range ps {
		fmt.Fprintf(&b, "%s,%s,%d,%d,%s", quoted(p.Model), quoted(p.Accelerator), p.Shape.PromptTokens, p.Shape.OutputTokens, p.Verdict.Level)
		for _, name := range linear4.Names() {
			value, low, high, ok := p.Parameter(name)
			for _, x := range []float64{value, low, high} {
				b.WriteString(",")
				if ok && !math.IsNaN(x) {
					b.WriteString(parameters.Format(x))
				}
			}
		}
		fmt.Fprintf(&b, ",%s,%.0f,%.0f\n", p.Fit.Model, p.BatchSize, p.Provenance.MeasuredTo)
	}
	o.note(linear4.Formula + ", ms; *_low and *_high are 95 %% intervals; measured_to is in Unix seconds")
	return []byte(b.String()), nil
}

// quoted is a cell of CSV.
func quoted(cell string) string {
	if strings.ContainsAny(cell, ",\"\n\r") {
		return `"` + strings.ReplaceAll(cell, `"`, `""`) + `"`
	}
	return cell
}

// prometheus writes parameters as gauges in Prometheus's text format, for a
// pushgateway or a node exporter's textfile collector. Times are in seconds, as
// Prometheus names them.
func prometheus(ps []parameters.Parameters, o Options) ([]byte, error) {
	var b strings.Builder
	metric := func(name, help string, of func(p parameters.Parameters, add func(labels string, value float64))) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		for _, p := range ps {
			labels := fmt.Sprintf("model=%s,accelerator=%s,prompt_tokens=\"%d\",output_tokens=\"%d\"", label(p.Model), label(p.Accelerator), p.Shape.PromptTokens, p.Shape.OutputTokens)
			of(p, func(more string, value float64) { fmt.Fprintf(&b, "%s{%s%s} %v\n", name, labels, more, value) })
		}
	}
	for _, g := range []struct{ parameter, name, help string }{
		{"alpha", "llm_latency_alpha_seconds", "inter-token latency without load: ITL = alpha + beta*batch (linear4)."},
		{"beta", "llm_latency_beta_seconds", "inter-token latency added by each request that runs (linear4)."},
		{"gamma", "llm_latency_gamma_seconds", "time to first token without load: TTFT = gamma + delta*prompt_tokens*batch (linear4)."},
		{"delta", "llm_latency_delta_seconds", "time to first token added by each prompt token and request that runs (linear4)."},
	} {
		metric(g.name, g.help+" bound is value, low or high of the 95 % interval.", func(p parameters.Parameters, add func(string, float64)) {
			value, low, high, ok := p.Parameter(g.parameter)
			if !ok {
				return
			}
			for _, x := range []struct {
				bound string
				value float64
			}{{"value", value}, {"low", low}, {"high", high}} {
				if !math.IsNaN(x.value) {
					add(fmt.Sprintf(",bound=%q", x.bound), x.value/1e3)
				}
			}
		})
	}
	metric("llm_latency_measured_batch", "largest batch size that the parameters are of.", func(p parameters.Parameters, add func(string, float64)) { add("", p.BatchSize) })
	metric("llm_latency_measured_timestamp_seconds", "when the last point ended.", func(p parameters.Parameters, add func(string, float64)) {
		if p.Provenance.MeasuredTo > 0 {
			add("", p.Provenance.MeasuredTo)
		}
	})
	metric("llm_latency_verdict", "1 for the verdict's level.", func(p parameters.Parameters, add func(string, float64)) {
		add(fmt.Sprintf(",level=%q", p.Verdict.Level), 1)
	})
	o.note("push it: curl --data-binary @FILE http://PUSHGATEWAY:9091/metrics/job/wfgen, or put it as NAME.prom where a node exporter's textfile collector looks")
	return []byte(b.String()), nil
}

// label is a value of a Prometheus label, quoted.
func label(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(text) + `"`
}
