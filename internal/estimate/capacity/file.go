package capacity

import (
	"errors"
	"fmt"
	"io"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

// Schema names the version of capacity.json.
const Schema = "wfgen.dev/capacity/v1"

// File is capacity.json: what one replica bears within the objectives, for every model,
// accelerator and shape. Latencies are in ms, rates are requests per second.
type File struct {
	Schema     string          `json:"schema"`
	SLO        []slo.Objective `json:"slo"`
	Capacities []Capacity      `json:"capacities"`
	Fleet      *Fleet          `json:"fleet,omitempty"` // where a traffic was given
}

// Capacity is that of one replica. Where the verdict is refused it has no numbers.
type Capacity struct {
	Model       string      `json:"model"`
	Accelerator string      `json:"accelerator"`
	Shape       sweep.Shape `json:"shape"`

	Rate              *Estimate `json:"requests_per_second,omitempty"`            // largest rate of arrivals
	InFlight          *Estimate `json:"in_flight,omitempty"`                      // mean of requests in the server at that rate
	MostInFlight      *Estimate `json:"most_in_flight,omitempty"`                 // held all the time, the objectives are just met
	PromptTokens      *Estimate `json:"prompt_tokens_per_second,omitempty"`       // at that rate
	OutputTokens      *Estimate `json:"output_tokens_per_second,omitempty"`       // at that rate
	PricePerHour      *float64  `json:"price_per_hour,omitempty"`                 // money per replica and hour; absent: not given
	CostPerMillion    *Estimate `json:"cost_per_million_tokens,omitempty"`        // money, prompt and output tokens counted alike
	CostPerMillionOut *Estimate `json:"cost_per_million_output_tokens,omitempty"` // money, all of it on output tokens
	Binding           string    `json:"binding,omitempty"`                        // the objective that limits the rate, or saturation, or range
	SaturationRate    float64   `json:"saturation_requests_per_second,omitempty"` // beyond it the queue only grows

	Objectives []Objective `json:"objectives,omitempty"`
	Unmet      []string    `json:"unmet,omitempty"` // objectives that no load meets, and by how much
	Check      *Check      `json:"check,omitempty"` // what a measurement at the rate said of it
	Verdict    fit.Verdict `json:"verdict"`
	Assumed    Assumed     `json:"assumed"`
}

// Objective is what becomes of an objective at the rate.
type Objective struct {
	slo.Objective
	Name    string  `json:"name"`            // as it is asked for: p90.ttft
	AloneMS float64 `json:"alone_ms"`        // of a request that has the server for itself
	AtMS    float64 `json:"at_ms,omitempty"` // at the rate
	Used    float64 `json:"used,omitempty"`  // at_ms over ms: 1 for the one that binds

	// The 95 % interval of used, where the parameters have one: what the objective may
	// measure at the rate of the middle.
	UsedLow  *float64 `json:"used_low,omitempty"`
	UsedHigh *float64 `json:"used_high,omitempty"`
}

// Assumed is what the numbers hold for.
type Assumed struct {
	Arrivals     string  `json:"arrivals"`      // poisson: at random
	MaxNumSeqs   int     `json:"max_num_seqs"`  // requests that the server runs at once
	ChunkTokens  int     `json:"chunk_tokens"`  // tokens of an iteration of the server (max-num-batched-tokens)
	OutputSpread float64 `json:"output_spread"` // outputs are uniform about their mean, by this fraction
	LargestBatch float64 `json:"largest_batch"` // most in flight that was measured

	// Curve says that ITL is what was measured at each batch, and straight between, rather
	// than the line of alpha and beta, which it does not lie on.
	Curve bool `json:"measured_curve,omitempty"`
}

// Encode is the file: indented JSON, the schema filled in.
func (f File) Encode() ([]byte, error) {
	f.Schema = Schema
	if f.Capacities == nil {
		f.Capacities = []Capacity{}
	}
	if err := f.validate(); err != nil {
		return nil, fmt.Errorf("capacity: %w", err)
	}
	return layout.JSONWithin(f, "capacity", mostBytes)
}

// mostBytes is the most that a capacity file may hold.
const mostBytes = 64 << 20

// Decode reads a capacity file; name is what errors call it. Unknown fields are ignored.
func Decode(r io.Reader, name string) (File, error) {
	var f File
	if err := layout.ReadJSON(r, name, "capacity file", &f, mostBytes); err != nil {
		return f, err
	}
	if err := f.validate(); err != nil {
		return f, exit.Errorf(exit.Refused, "%s: %w", name, err)
	}
	return f, nil
}

func (f *File) validate() error {
	if f.Schema != Schema {
		return fmt.Errorf("schema: found %q, expected %q", f.Schema, Schema)
	}
	var errs []error
	for i, c := range f.Capacities {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("capacities[%d]: %s", i, fmt.Sprintf(format, args...)))
		}
		for _, n := range []struct{ field, name string }{{"model", c.Model}, {"accelerator", c.Accelerator}} {
			if n.name == "" || !redact.Plain(n.name) {
				bad("%s: found %q, expected a name without control characters", n.field, n.name)
			}
		}
		switch c.Verdict.Level {
		case fit.Accepted, fit.Warned:
			if c.Rate == nil || c.InFlight == nil || c.MostInFlight == nil {
				bad("requests_per_second, in_flight or most_in_flight: missing, though the verdict is %s", c.Verdict.Level)
			} else if !(c.Rate.Value > 0) {
				bad("requests_per_second: %v is not above 0", c.Rate.Value)
			}
		case fit.Refused:
			if c.Rate != nil {
				bad("requests_per_second: given, though the verdict is refused")
			}
		default:
			bad("verdict.level: found %q, expected %s, %s or %s", c.Verdict.Level, fit.Accepted, fit.Warned, fit.Refused)
		}
	}
	return errors.Join(errs...)
}
