package parameters

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/sweep"
)

// Joint is a model whose terms hold for all shapes of one model on one accelerator.
// Where the verdict is refused it has no terms.
type Joint struct {
	Fit         string `json:"fit"` // iteration3 or engine: the model that the terms belong to
	Model       string `json:"model"`
	Accelerator string `json:"accelerator"`

	Terms      []Term      `json:"terms"`                // all of the model, in its order
	Covariance [][]float64 `json:"covariance,omitempty"` // of the terms, products of their units; absent where it is unknown

	PointsUsed          int       `json:"points_used"`
	Shapes              int       `json:"shapes"`                            // among the points used
	ConditionNumber     *float64  `json:"condition_number,omitempty"`        // of the design, columns scaled to length one
	MeanErrorPercent    *float64  `json:"mean_error_percent,omitempty"`      // of ITL over the points used
	LargestErrorPercent *float64  `json:"largest_error_percent,omitempty"`   // of ITL over the points used
	LeftOutErrorPercent *float64  `json:"left_out_error_percent,omitempty"`  // of ITL, each shape predicted from the others
	TTFTErrorPercent    *float64  `json:"ttft_mean_error_percent,omitempty"` // of TTFT over the points used
	ITLSpreadPercent    *float64  `json:"itl_spread_percent,omitempty"`      // of ITL at a shape not measured about its prediction, root mean square
	TTFTSpreadPercent   *float64  `json:"ttft_spread_percent,omitempty"`     // of TTFT about its prediction, root mean square
	Measured            Measured  `json:"measured"`                          // beyond it a prediction is an extrapolation
	Linear4             []Implied `json:"linear4"`                           // what the model implies at each shape measured

	Verdict    fit.Verdict `json:"verdict"`
	Provenance Provenance  `json:"provenance"`
}

// Term is one parameter of a joint model.
type Term struct {
	Name             string    `json:"name"`
	Unit             string    `json:"unit"`
	Value            float64   `json:"value"`
	Interval         *Interval `json:"interval,omitempty"`           // absent where the points give none
	DegreesOfFreedom float64   `json:"degrees_of_freedom,omitempty"` // behind the interval
	Dropped          string    `json:"dropped,omitempty"`            // why the term is 0
	BandwidthPercent *float64  `json:"bandwidth_percent,omitempty"`  // of the accelerator's memory bandwidth that reading once what the term reads takes; absent where either is not known
}

// Measured is the range of the points used: smallest and largest.
type Measured struct {
	Batch        [2]float64 `json:"batch"`         // requests
	PromptTokens [2]float64 `json:"prompt_tokens"` // tokens per request
	Context      [2]float64 `json:"context"`       // prompt and half the output, tokens per request
	Cached       [2]float64 `json:"cached"`        // tokens of context of all requests together
}

// Implied is the linear4 that a joint model implies at a shape.
type Implied struct {
	Shape     sweep.Shape `json:"shape"`
	Batch     [2]float64  `json:"batch"` // the range that the line was laid through, requests
	Alpha     float64     `json:"alpha"` // ms
	Beta      float64     `json:"beta"`  // ms per request
	Gamma     float64     `json:"gamma"` // ms
	Delta     float64     `json:"delta"` // ms per token and request
	Intervals Intervals   `json:"intervals"`

	// How far the line is from that of the linear4 fitted to the shape's own
	// points: the larger of the differences at both ends of the range, percent.
	ITLDifferencePercent  *float64 `json:"itl_difference_percent,omitempty"`
	TTFTDifferencePercent *float64 `json:"ttft_difference_percent,omitempty"`
}

// Best is which of the models of one server predicts best: shapes left out of the fit,
// or where a model cannot tell that, the points used. -1 where all are refused.
func Best(models []Joint) int {
	best, least := -1, math.Inf(1)
	byShapes := !slices.ContainsFunc(models, func(j Joint) bool { return j.Verdict.Level != fit.Refused && j.LeftOutErrorPercent == nil })
	for i, j := range models {
		off := j.MeanErrorPercent
		if byShapes {
			off = j.LeftOutErrorPercent
		}
		if j.Verdict.Level != fit.Refused && off != nil && *off < least {
			best, least = i, *off
		}
	}
	return best
}

// NewJoint stores a joint fit. Its verdict may be refused; it then holds no numbers
// that a consumer could take.
func NewJoint(model, accelerator string, j fit.Joint) Joint {
	out := Joint{
		Fit: j.Model, Model: model, Accelerator: accelerator, PointsUsed: len(j.Used), Shapes: j.Shapes, Verdict: j.Verdict,
		Measured: Measured(j.Range), Terms: []Term{}, Linear4: []Implied{},
		ConditionNumber:  finite(j.Condition),
		MeanErrorPercent: finite(100 * j.MeanError), LargestErrorPercent: finite(100 * j.WorstError),
		LeftOutErrorPercent: finite(100 * j.LeftOut), TTFTErrorPercent: finite(100 * j.MeanTTFT),
		ITLSpreadPercent: finite(100 * j.Spread.ITL), TTFTSpreadPercent: finite(100 * j.Spread.TTFT),
	}
	if j.Verdict.Level == fit.Refused {
		return out
	}
	for _, t := range j.Terms {
		term := Term{Name: t.Name, Unit: t.Unit, Value: t.Value, Dropped: t.Dropped}
		if t.Dropped == "" && t.HasInterval() {
			term.Interval, term.DegreesOfFreedom = &Interval{StandardError: t.StandardError, Low: t.Low, High: t.High}, t.DegreesOfFreedom
		}
		out.Terms = append(out.Terms, term)
	}
	if j.Covariance != nil {
		for a := range j.Terms {
			out.Covariance = append(out.Covariance, mat.Row(nil, a, j.Covariance))
		}
	}
	return out
}

// Imply is the linear4 of a shape between two batch sizes.
func (j *Joint) Imply(shape sweep.Shape, from, to float64) (Implied, error) {
	m, err := j.Predictor()
	if err != nil {
		return Implied{}, err
	}
	alpha, beta, gamma, delta := m.Linear4At(float64(shape.PromptTokens), float64(shape.OutputTokens), from, to)
	i := Implied{Shape: shape, Batch: [2]float64{from, to}, Alpha: alpha.Value, Beta: beta.Value, Gamma: gamma.Value, Delta: delta.Value}
	for _, p := range []struct {
		of fit.Parameter
		to **Interval
	}{{alpha, &i.Intervals.Alpha}, {beta, &i.Intervals.Beta}, {gamma, &i.Intervals.Gamma}, {delta, &i.Intervals.Delta}} {
		if p.of.HasInterval() {
			*p.to = &Interval{StandardError: p.of.StandardError, Low: p.of.Low, High: p.of.High}
		}
	}
	return i, nil
}

// Compare fills in how far the implied line is from measured parameters of the shape.
func (i *Implied) Compare(p *Parameters) {
	if !p.Published() {
		return
	}
	itl, ttft := 0.0, 0.0
	for _, n := range i.Batch {
		tokens := float64(i.Shape.PromptTokens)
		if d := 100 * ((i.Alpha+i.Beta*n)/p.ITLAt(n) - 1); math.Abs(d) > math.Abs(itl) {
			itl = d
		}
		if d := 100 * ((i.Gamma+i.Delta*tokens*n)/p.TTFTAt(n, tokens) - 1); math.Abs(d) > math.Abs(ttft) {
			ttft = d
		}
	}
	i.ITLDifferencePercent, i.TTFTDifferencePercent = finite(itl), finite(ttft)
}

// Predictor is the model, to predict with. It fails for a refused verdict.
func (j *Joint) Predictor() (fit.Joint, error) {
	if j.Verdict.Level == fit.Refused {
		return fit.Joint{}, fmt.Errorf("%s of %s on %s is refused: %s", j.Fit, j.Model, j.Accelerator, j.Verdict.Reasons[0])
	}
	terms := make([]fit.Term, len(j.Terms))
	for i, t := range j.Terms {
		terms[i] = fit.Term{Name: t.Name, Unit: t.Unit, Dropped: t.Dropped, Parameter: fit.Parameter{
			Value: t.Value, StandardError: math.NaN(), Low: math.NaN(), High: math.NaN(), DegreesOfFreedom: t.DegreesOfFreedom}}
		if t.Interval != nil {
			terms[i].StandardError, terms[i].Low, terms[i].High = t.Interval.StandardError, t.Interval.Low, t.Interval.High
		}
	}
	var covariance *mat.SymDense
	if n := len(j.Covariance); n > 0 {
		covariance = mat.NewSymDense(n, nil)
		for a, row := range j.Covariance {
			for b := a; b < n; b++ {
				covariance.SetSym(a, b, row[b])
			}
		}
	}
	spread := fit.Spread{ITL: math.NaN(), TTFT: math.NaN()} // of an earlier version
	if j.ITLSpreadPercent != nil && j.TTFTSpreadPercent != nil {
		spread = fit.Spread{ITL: *j.ITLSpreadPercent / 100, TTFT: *j.TTFTSpreadPercent / 100}
	}
	return fit.Restore(j.Fit, terms, covariance, fit.Range(j.Measured), spread)
}

func (j *Joint) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if fit.TermNames(j.Fit) == nil {
		bad("fit: found %q, expected %s or %s", j.Fit, fit.Iteration3, fit.Engine)
	}
	if j.Model == "" || j.Accelerator == "" {
		bad("model or accelerator: missing")
	}
	switch j.Verdict.Level {
	case fit.Accepted, fit.Warned:
		for _, t := range j.Terms {
			if t.Dropped == "" && !(t.Value > 0) || t.Dropped != "" && t.Value != 0 || math.IsInf(t.Value, 0) {
				bad("terms: %s: %v is not a finite number above 0, nor a dropped 0", t.Name, t.Value)
			}
		}
		for _, row := range j.Covariance {
			if len(row) != len(j.Terms) || len(j.Covariance) != len(j.Terms) {
				bad("covariance: is not %d by %d", len(j.Terms), len(j.Terms))
				break
			}
		}
		if len(errs) == 0 {
			if _, err := j.Predictor(); err != nil {
				bad("terms: %w", err)
			}
		}
	case fit.Refused:
		if len(j.Terms) > 0 || len(j.Linear4) > 0 {
			bad("terms: given, though the verdict is refused")
		}
		if len(j.Verdict.Reasons) == 0 {
			bad("verdict.reasons: none, though the verdict is refused")
		}
	default:
		bad("verdict.level: found %q, expected %s, %s or %s", j.Verdict.Level, fit.Accepted, fit.Warned, fit.Refused)
	}
	return errors.Join(errs...)
}

// finite is nil for what JSON cannot hold.
func finite(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}
