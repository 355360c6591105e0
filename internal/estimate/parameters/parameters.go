// Package parameters holds what an estimate produced: parameters.json, one model
// on one accelerator at one shape, and summary.json, all of a sweep. It does no
// I/O.
package parameters

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
)

// Schemas of the two files.
const (
	Schema        = "wfgen.dev/parameters/v1"
	SummarySchema = "wfgen.dev/summary/v1"
)

// Linear4 names the model of alpha, beta, gamma and delta. The letters mean other
// things in other models, so every file and table names its model.
const Linear4 = "linear4"

// Parameters is one model on one accelerator at one shape. Its first fields are
// those of the two-run recipe, with the same names and meaning. Latencies are in
// milliseconds.
// What is refused is null, alpha and beta or gamma and delta or all: an autoscaler must
// not come by it by accident.
type Parameters struct {
	Schema string `json:"schema"`

	ITLSynchronous *float64 `json:"itl_synchronous"` // measured at the smallest batch that the estimate uses, ms
	ITLThroughput  *float64 `json:"itl_throughput"`  // measured at batch_size, ms
	BatchSize      float64  `json:"batch_size"`      // the largest nominal batch that the estimate uses; 0: none
	Alpha          *float64 `json:"alpha"`           // ITL = alpha + beta*batch; ms
	Beta           *float64 `json:"beta"`            // ms per request

	TTFTSynchronous *float64 `json:"ttft_synchronous"` // measured at the same smallest batch, ms; null where it was void
	TTFTThroughput  *float64 `json:"ttft_throughput"`  // measured at batch_size, ms; null where it was void
	InputTokens     float64  `json:"input_tokens"`     // prompt length that the estimate uses, tokens
	Gamma           *float64 `json:"gamma"`            // TTFT = gamma + delta*inputTokens*batch; ms
	Delta           *float64 `json:"delta"`            // ms per token and request

	Model       string      `json:"model"`
	Accelerator string      `json:"accelerator"`
	Shape       sweep.Shape `json:"shape"`

	Fit        Fit         `json:"fit"`
	Curve      *Curve      `json:"curve,omitempty"` // what was measured, for consumers that need no line
	Verdict    fit.Verdict `json:"verdict"`
	Provenance Provenance  `json:"provenance"`
}

// Fit is how the parameters were made and how well they describe the points.
type Fit struct {
	Model       string      `json:"model"`           // linear4
	Method      string      `json:"method"`          // wls or two-point
	Batch       string      `json:"batch"`           // which batch size the fit is over: measured or nominal
	Range       *[2]float64 `json:"range,omitempty"` // batches that the lines were asked to be for; absent: all that were measured
	Intervals   Intervals   `json:"intervals"`
	Diagnostics Diagnostics `json:"diagnostics"`
	Across      []Across    `json:"across_runs,omitempty"` // what earlier runs tell of another; absent where none were given
	Points      []Point     `json:"points"`
}

// Across is what runs of the same set tell together of one parameter.
type Across struct {
	Name           string  `json:"name"`
	Runs           int     `json:"runs"`                 // this one included
	Value          float64 `json:"value"`                // mean of the runs, in the parameter's unit
	BetweenPercent float64 `json:"between_runs_percent"` // by which two runs differ beyond their own intervals, standard deviation, percent
	Low            float64 `json:"low"`                  // of the 95 % interval of what another run would have
	High           float64 `json:"high"`

	Earlier []Run `json:"earlier,omitempty"` // the other runs, the newest first; absent in files of earlier versions
}

// Run is what one run had of a parameter, in its unit.
type Run struct {
	MeasuredFrom  float64 `json:"measured_from"` // Unix seconds of its first point
	Value         float64 `json:"value"`
	StandardError float64 `json:"standard_error"`
}

// Curve is the measured latency over the batch, made monotone: no line is assumed. It
// is there whatever the verdict of the lines, and holds the points beyond a linear
// range too. Ascending in batch; nil where no point could be used.
type Curve struct {
	ITL  []Step `json:"itl,omitempty"`
	TTFT []Step `json:"ttft,omitempty"`
}

// Step is one batch size of a curve.
type Step struct {
	Batch float64 `json:"batch"` // measured, requests
	MS    float64 `json:"ms"`
	Low   float64 `json:"low"`  // of the 95 % interval of a run at this batch, ms
	High  float64 `json:"high"` // of the 95 % interval of a run at this batch, ms
}

// NewCurve stores a measured curve; nil for none.
func NewCurve(c fit.Curve) *Curve {
	steps := func(of []fit.Step) []Step {
		var all []Step
		for _, s := range of {
			all = append(all, Step(s))
		}
		return all
	}
	if len(c.ITL)+len(c.TTFT) == 0 {
		return nil
	}
	return &Curve{ITL: steps(c.ITL), TTFT: steps(c.TTFT)}
}

// Intervals of the parameters; nil where the points give none.
type Intervals struct {
	Alpha *Interval `json:"alpha,omitempty"`
	Beta  *Interval `json:"beta,omitempty"`
	Gamma *Interval `json:"gamma,omitempty"`
	Delta *Interval `json:"delta,omitempty"`
}

// Interval is the uncertainty of one parameter, in its unit.
type Interval struct {
	StandardError float64 `json:"standard_error"`
	Low           float64 `json:"low"`  // of the 95 % confidence interval (Student's t)
	High          float64 `json:"high"` // of the 95 % confidence interval
}

// Diagnostics of the two lines; nil for one that could not be fitted.
type Diagnostics struct {
	ITL  *Line `json:"itl,omitempty"`
	TTFT *Line `json:"ttft,omitempty"`

	BandwidthPercent *float64 `json:"bandwidth_percent,omitempty"` // of the accelerator's memory bandwidth that reading the weights once in alpha takes; absent where either is not known
}

// Line says how well a line describes the points that it was fitted to.
type Line struct {
	R2                  *float64 `json:"r2,omitempty"`                 // share of the variance explained; absent when there is none
	RMSEMS              float64  `json:"rmse_ms"`                      // root mean square residual, ms
	MeanErrorPercent    float64  `json:"mean_error_percent,omitempty"` // mean absolute relative residual of the points used, percent
	LargestErrorPercent float64  `json:"largest_error_percent"`        // largest relative residual of the points used, percent
	ConditionNumber     float64  `json:"condition_number"`             // of the design, columns scaled to length one
	DegreesOfFreedom    float64  `json:"degrees_of_freedom,omitempty"` // behind the intervals
	PointsUsed          int      `json:"points_used"`
	LinearFrom          float64  `json:"linear_from,omitempty"` // smallest measured batch that was used, requests
	LinearTo            float64  `json:"linear_to"`             // largest measured batch in the linear range, requests
	BendFrom            *float64 `json:"bend_from,omitempty"`   // smallest measured batch beyond it, requests
	Covariance          *float64 `json:"covariance,omitempty"`  // of intercept and slope, product of their units

	AllMeanErrorPercent    *float64 `json:"all_mean_error_percent,omitempty"`    // over all measured points, those beyond the range too, percent
	AllLargestErrorPercent *float64 `json:"all_largest_error_percent,omitempty"` // over all measured points, percent
	Shape                  string   `json:"shape,omitempty"`                     // bend or concave where all points together are on no line
	BetweenRunsPercent     *float64 `json:"between_runs_percent,omitempty"`      // by which two runs of a point differ, standard deviation, percent
	ScatterPercent         *float64 `json:"scatter_percent,omitempty"`           // of a point about the line, its own error included, standard deviation, percent
	WanderPercent          float64  `json:"wander_percent,omitempty"`            // how far the server was off the line, that of the middle of the sweep, at its begin and its end, percent
	Drift                  *Change  `json:"drift,omitempty"`                     // from the first point to the last
	Predictions            []Step   `json:"predictions,omitempty"`               // at the ends of the range: the line, and the interval of a run there
}

// Change is a relative change with its 95 % interval, percent.
type Change struct {
	Percent float64 `json:"percent"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
}

// Point is what the estimate made of one measured point.
type Point struct {
	BatchSize    int     `json:"batch_size"`    // nominal
	Batch        float64 `json:"batch"`         // measured
	PromptTokens float64 `json:"prompt_tokens"` // per request

	ITL  *Value `json:"itl,omitempty"`
	TTFT *Value `json:"ttft,omitempty"`

	Plain                 *measurement.Plain `json:"plain,omitempty"`    // what a plain report of the client's rows would have said
	LeftOut               []string           `json:"left_out,omitempty"` // why, and of what
	Warnings              []string           `json:"warnings,omitempty"`
	ITLDifferencePercent  *float64           `json:"itl_difference_percent,omitempty"`  // client over server, or over probe where there is one, minus one
	TTFTDifferencePercent *float64           `json:"ttft_difference_percent,omitempty"` // client over server, or over probe where there is one, minus one
	Source                string             `json:"source,omitempty"`                  // file that it was read from
	Basis                 string             `json:"basis,omitempty"`                   // what the client's numbers were made of: rows, summary, console
}

// Value is a measured latency beside what the parameters predict.
type Value struct {
	MS              float64  `json:"ms"`
	StandardErrorMS float64  `json:"standard_error_ms,omitempty"` // 0: not known
	SpreadMS        float64  `json:"spread_ms,omitempty"`         // standard deviation of single requests, by their 10 and 90 % quantiles; 0: not known
	From            string   `json:"from"`                        // server, client or probe
	Statistic       string   `json:"statistic"`                   // mean or median
	PredictedMS     *float64 `json:"predicted_ms,omitempty"`
	PredictedLowMS  *float64 `json:"predicted_low_ms,omitempty"`  // of the 95 % interval of a run at this batch
	PredictedHighMS *float64 `json:"predicted_high_ms,omitempty"` // of the 95 % interval of a run at this batch
	ErrorPercent    *float64 `json:"error_percent,omitempty"`     // predicted over measured minus one
	Used            bool     `json:"used"`                        // the line was fitted to it
}

// Provenance is where the numbers come from. A field that differs between the points
// holds all its values, and the verdict warns.
type Provenance struct {
	Driver          Values  `json:"driver,omitempty"` // name and version
	ServerVersion   Values  `json:"server_version,omitempty"`
	Image           Values  `json:"image,omitempty"`
	ImageDigest     Values  `json:"image_digest,omitempty"`
	Args            Values  `json:"args,omitempty"`  // command and arguments of the server
	Cache           Values  `json:"cache,omitempty"` // the server's KV cache, in words
	GPU             Values  `json:"gpu,omitempty"`
	GPUDriver       Values  `json:"gpu_driver,omitempty"`
	Node            Values  `json:"node,omitempty"`
	Pod             Values  `json:"pod,omitempty"`
	Target          Values  `json:"target,omitempty"`
	Tool            Values  `json:"tool,omitempty"`          // version of step that reduced the points
	MeasuredFrom    float64 `json:"measured_from,omitempty"` // Unix seconds of the first point
	MeasuredTo      float64 `json:"measured_to,omitempty"`   // Unix seconds of the end of the last
	Seconds         float64 `json:"seconds"`                 // measured, all points together
	OverheadSeconds float64 `json:"overhead_seconds"`        // what they cost beyond that
	Requests        int     `json:"requests"`                // successful, all points together
	ErroredRequests int     `json:"errored_requests,omitempty"`
}

// Fact is something that is known of what was measured.
type Fact struct {
	What   string
	Values Values
}

// Server is what was measured, and by which driver. Nodes, pods and the size of a cache,
// which another start changes, are not in it.
func (p Provenance) Server() []Fact {
	return []Fact{{"server version", p.ServerVersion}, {"image", p.Image}, {"image digest", p.ImageDigest}, {"server's command", p.Args},
		{"GPU", p.GPU}, {"GPU driver", p.GPUDriver}, {"driver", p.Driver}}
}

// SameServer tells whether two runs are of the same, as far as both know: then what
// differs between them differs from run to run.
func (p Provenance) SameServer(q Provenance) bool {
	theirs := q.Server()
	for i, mine := range p.Server() {
		if a, b := mine.Values.String(), theirs[i].Values.String(); a != "" && b != "" && a != b {
			return false
		}
	}
	return true
}

// Published tells whether all four numbers may be used.
func (p *Parameters) Published() bool { return p.HasITL() && p.HasTTFT() }

// HasITL tells whether alpha and beta may be used, HasTTFT whether gamma and delta
// may: the lines are judged apart.
func (p *Parameters) HasITL() bool {
	return p.Verdict.Level != fit.Refused && p.Alpha != nil && p.Beta != nil
}

// HasTTFT tells whether gamma and delta may be used; see HasITL.
func (p *Parameters) HasTTFT() bool {
	return p.Verdict.Level != fit.Refused && p.Gamma != nil && p.Delta != nil
}

// Parameter is an estimate and its interval by name: alpha, beta, gamma or delta.
// The interval is NaN where there is none; ok is false for one that is refused.
func (p *Parameters) Parameter(name string) (value, low, high float64, ok bool) {
	v, i := p.named(name)
	if v == nil || *v == nil || p.Verdict.Level == fit.Refused {
		return 0, 0, 0, false
	}
	if *i == nil {
		return **v, math.NaN(), math.NaN(), true
	}
	return **v, (*i).Low, (*i).High, true
}

// StandardError is that of a parameter, in its unit; NaN where it has none.
func (p *Parameters) StandardError(name string) float64 {
	if _, i := p.named(name); i != nil && *i != nil {
		return (*i).StandardError
	}
	return math.NaN()
}

// Values are the four, where all are there.
func (p *Parameters) Values() (m linear4.Model, ok bool) {
	if p.Alpha == nil || p.Beta == nil || p.Gamma == nil || p.Delta == nil {
		return m, false
	}
	return linear4.Model{Alpha: *p.Alpha, Beta: *p.Beta, Gamma: *p.Gamma, Delta: *p.Delta}, true
}

func (p *Parameters) named(name string) (**float64, **Interval) {
	switch name {
	case "alpha":
		return &p.Alpha, &p.Fit.Intervals.Alpha
	case "beta":
		return &p.Beta, &p.Fit.Intervals.Beta
	case "gamma":
		return &p.Gamma, &p.Fit.Intervals.Gamma
	case "delta":
		return &p.Delta, &p.Fit.Intervals.Delta
	}
	return nil, nil
}

// Set stores an estimate by name, its interval where it has one.
func (p *Parameters) Set(name string, e fit.Parameter) {
	v, i := p.named(name)
	*v, *i = &e.Value, nil
	if e.HasInterval() {
		*i = &Interval{StandardError: e.StandardError, Low: e.Low, High: e.High}
	}
}

// ITLAt predicts the inter-token latency (ms) at a batch size, TTFTAt the time to
// first token at a batch size and prompt length. Only for published parameters.
func (p *Parameters) ITLAt(batch float64) float64 { return *p.Alpha + *p.Beta*batch }

// TTFTAt predicts the time to first token, ms; see ITLAt.
func (p *Parameters) TTFTAt(batch, promptTokens float64) float64 {
	return *p.Gamma + *p.Delta*promptTokens*batch
}

// PredictITL is the inter-token latency at a batch size with the 95 % interval of what a
// run there would measure: what is not known of alpha and beta, the scatter of points
// about the line, and what the server changed over the sweep. The interval is NaN where
// the file does not say. Only where HasITL.
func (p *Parameters) PredictITL(batch float64) Step {
	return predict(batch, batch, *p.Alpha, *p.Beta, p.Fit.Intervals.Alpha, p.Fit.Intervals.Beta, p.Fit.Diagnostics.ITL)
}

// PredictTTFT is the same of the time to first token; only where HasTTFT.
func (p *Parameters) PredictTTFT(batch, promptTokens float64) Step {
	return predict(batch, batch*promptTokens, *p.Gamma, *p.Delta, p.Fit.Intervals.Gamma, p.Fit.Intervals.Delta, p.Fit.Diagnostics.TTFT)
}

func predict(batch, x, intercept, slope float64, a, b *Interval, l *Line) Step {
	s := Step{Batch: batch, MS: intercept + slope*x, Low: math.NaN(), High: math.NaN()}
	if a == nil || b == nil || l == nil || l.Covariance == nil || l.ScatterPercent == nil || !(l.DegreesOfFreedom > 0) {
		return s
	}
	scatter := *l.ScatterPercent / 100 * s.MS
	variance := a.StandardError*a.StandardError + 2*x**l.Covariance + x*x*b.StandardError*b.StandardError + scatter*scatter
	half := fit.Reach(l.DegreesOfFreedom) * math.Sqrt(max(0, variance))
	half = fit.Wandering(half, l.WanderPercent/100*s.MS)
	s.Low, s.High = max(0, s.MS-half), s.MS+half
	return s
}

// Format writes a number with six significant digits and without an exponent,
// which not every consumer reads.
func Format(x float64) string {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	digits := max(0, 5-int(math.Floor(math.Log10(math.Abs(x)))))
	return strconv.FormatFloat(x, 'f', digits, 64)
}

// Encode is the file: indented JSON, the schema filled in. It refuses what Decode
// would refuse.
func (p Parameters) Encode() ([]byte, error) {
	p.Schema = Schema
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("parameters of %s on %s, %s: %w", p.Model, p.Accelerator, p.Shape, err)
	}
	return layout.JSONWithin(p, "parameters", mostBytes)
}

// The most that files may hold, bytes, for those who write them and those who read them.
const (
	mostBytes        = 4 << 20
	mostSummaryBytes = 256 << 20
)

// Decode reads a parameters file; name is what its errors call it. Unknown fields
// are ignored. An error names every mistake and has the code of refused data.
func Decode(r io.Reader, name string) (Parameters, error) {
	var p Parameters
	if err := layout.ReadJSON(r, name, "parameters file", &p, mostBytes); err != nil {
		return p, err
	}
	if err := p.validate(); err != nil {
		return p, exit.Errorf(exit.Refused, "%s: %w", name, err)
	}
	return p, nil
}

func (p *Parameters) validate() error {
	if p.Schema != Schema {
		return fmt.Errorf("schema: found %q, expected %q", p.Schema, Schema)
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if p.Model == "" {
		bad("model: missing")
	}
	if p.Accelerator == "" {
		bad("accelerator: missing")
	}
	for _, n := range []struct{ field, name string }{{"model", p.Model}, {"accelerator", p.Accelerator}} {
		if !redact.Plain(n.name) {
			bad("%s: %q holds a control character, and cannot name results", n.field, n.name)
		}
	}
	if p.Shape.PromptTokens < 1 || p.Shape.OutputTokens < 2 {
		bad("shape: %s is below 1/2", p.Shape)
	}
	if p.Fit.Model != Linear4 {
		bad("fit.model: found %q, expected %q; the letters mean other things in other models", p.Fit.Model, Linear4)
	}
	p.validateVerdict(bad)
	p.Curve.validate(bad)
	for _, name := range linear4.Names() {
		if _, i := p.named(name); *i != nil && !((*i).Low <= (*i).High) {
			bad("fit.intervals.%s: low %v is above high %v", name, (*i).Low, (*i).High)
		}
	}
	return errors.Join(errs...)
}

// validateVerdict holds the values to what the verdict says of them.
func (p *Parameters) validateVerdict(bad func(format string, args ...any)) {
	switch p.Verdict.Level {
	case fit.Accepted, fit.Warned:
		for i, name := range linear4.Names() {
			v, _ := p.named(name)
			other, _ := p.named(linear4.Parameters[i^1].Name) // of its pair
			switch {
			case *v == nil && (*other != nil || p.Verdict.Level == fit.Accepted || !p.HasITL() && !p.HasTTFT()):
				bad("%s: missing, though the verdict is %s", name, p.Verdict.Level)
			case *v != nil && (!(**v > 0) || math.IsInf(**v, 0)):
				bad("%s: %v is not a finite number above 0", name, **v)
			}
		}
		if p.HasITL() && (p.ITLSynchronous == nil || p.ITLThroughput == nil || !(p.BatchSize >= 1)) {
			bad("itl_synchronous, itl_throughput, batch_size: missing, though the verdict is %s", p.Verdict.Level)
		}
		if p.Verdict.Level == fit.Warned && len(p.Verdict.Reasons) == 0 {
			bad("verdict.reasons: none, though the verdict is warned")
		}
	case fit.Refused:
		for _, name := range linear4.Names() {
			if v, _ := p.named(name); *v != nil {
				bad("%s: given, though the verdict is refused", name)
			}
		}
		if len(p.Verdict.Reasons) == 0 {
			bad("verdict.reasons: none, though the verdict is refused")
		}
	default:
		bad("verdict.level: found %q, expected %s, %s or %s", p.Verdict.Level, fit.Accepted, fit.Warned, fit.Refused)
	}
}

func (c *Curve) validate(bad func(format string, args ...any)) {
	if c == nil {
		return
	}
	for name, steps := range map[string][]Step{"itl": c.ITL, "ttft": c.TTFT} {
		before := Step{}
		for i, s := range steps {
			if !(s.Batch > before.Batch && s.MS > 0 && s.MS >= before.MS && s.Low <= s.MS && s.MS <= s.High) {
				bad("curve.%s[%d]: batch %v, %v ms [%v, %v]: expected a latency above 0 inside its interval, and steps that rise", name, i, s.Batch, s.MS, s.Low, s.High)
			}
			before = s
		}
	}
}
