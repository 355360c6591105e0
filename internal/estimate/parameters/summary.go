package parameters

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
)

// Summary is all of a sweep: the parameters of every accelerator and shape, and
// what failed.
type Summary struct {
	Schema     string       `json:"schema"`
	Verdict    fit.Level    `json:"verdict"`    // the worst of all; refused also when something failed
	Parameters []Parameters `json:"parameters"` // by model, accelerator and shape
	Joint      []Joint      `json:"joint"`      // models of all shapes together, where there are two or more; they do not count in the verdict
	Failures   []Failure    `json:"failures"`
	Notes      []string     `json:"notes,omitempty"` // what was done with the inputs
	Drift      *Drift       `json:"drift,omitempty"` // against what was accepted before, where that was asked for
	Totals     Totals       `json:"totals"`
}

// Drift compares parameters with those that were accepted last. Sets that have no
// earlier ones, or are refused, are not among them.
type Drift struct {
	Band float64      `json:"band"` // change that is tolerated: 0.05 is 5 %
	Sets []Comparison `json:"sets"` // of each model, accelerator and shape
}

// Comparison is one set of parameters beside the one that was accepted last.
type Comparison struct {
	Model       string      `json:"model"`
	Accelerator string      `json:"accelerator"`
	Shape       sweep.Shape `json:"shape"`
	Drifted     []string    `json:"drifted"` // names of the parameters that moved beyond the band; none: nothing did
	Changes     []Movement  `json:"changes"`
	Differences []string    `json:"differences,omitempty"` // what else is not as it was: image, arguments, GPU driver
}

// Movement is what became of one parameter.
type Movement struct {
	Name    string   `json:"name"`
	Old     float64  `json:"old"` // in the parameter's unit
	New     float64  `json:"new"`
	Percent float64  `json:"percent"`       // new over old minus one
	Low     *float64 `json:"low,omitempty"` // of the 95 % interval of percent; absent where one side has none
	High    *float64 `json:"high,omitempty"`
}

// Of is the comparison of one set, if there was one.
func (d *Drift) Of(p Parameters) (Comparison, bool) {
	if d == nil {
		return Comparison{}, false
	}
	i := slices.IndexFunc(d.Sets, func(c Comparison) bool {
		return c.Model == p.Model && c.Accelerator == p.Accelerator && c.Shape == p.Shape
	})
	if i < 0 {
		return Comparison{}, false
	}
	return d.Sets[i], true
}

// Moved are the sentences about all parameters that moved beyond the band, one each,
// with what else is not as it was.
func (d *Drift) Moved() []string {
	if d == nil {
		return nil
	}
	var lines []string
	for _, c := range d.Sets {
		for _, change := range c.Changes {
			if slices.Contains(c.Drifted, change.Name) {
				lines = append(lines, fmt.Sprintf("%s on %s, %s: %s %s", c.Model, c.Accelerator, c.Shape, change.Name, change))
			}
		}
		if len(c.Drifted) == 0 {
			continue
		}
		for _, different := range c.Differences {
			lines = append(lines, fmt.Sprintf("%s on %s, %s: %s", c.Model, c.Accelerator, c.Shape, different))
		}
	}
	return lines
}

// Most is the largest change among the parameters that moved beyond the band, percent;
// 0 where none did.
func (d *Drift) Most() float64 {
	most := 0.0
	if d == nil {
		return most
	}
	for _, c := range d.Sets {
		for _, change := range c.Changes {
			if slices.Contains(c.Drifted, change.Name) && math.Abs(change.Percent) > math.Abs(most) {
				most = change.Percent
			}
		}
	}
	return most
}

// String is the change in words: 7 -> 7.56, +8.0 % [+7.1, +8.9].
func (c Movement) String() string {
	text := fmt.Sprintf("%s -> %s, %+.1f %%", Format(c.Old), Format(c.New), c.Percent)
	if c.Low != nil && c.High != nil {
		text += fmt.Sprintf(" [%+.1f, %+.1f]", *c.Low, *c.High)
	}
	return text
}

// Failure is a part of the sweep that has no parameters.
type Failure struct {
	Model       string       `json:"model,omitempty"`
	Accelerator string       `json:"accelerator"`
	Shape       *sweep.Shape `json:"shape,omitempty"` // absent: all of the accelerator
	Reasons     []string     `json:"reasons"`
}

// Totals is what the sweep cost.
type Totals struct {
	Points          int     `json:"points"`
	Seconds         float64 `json:"seconds"`          // measured, all points together
	OverheadSeconds float64 `json:"overhead_seconds"` // what the points cost beyond that: process starts, warm-up, shutdown
}

// Encode is the file: indented JSON, the schema filled in.
func (s Summary) Encode() ([]byte, error) {
	s.Schema = SummarySchema
	for i := range s.Parameters {
		s.Parameters[i].Schema = Schema
	}
	if s.Parameters == nil {
		s.Parameters = []Parameters{}
	}
	if s.Joint == nil {
		s.Joint = []Joint{}
	}
	if s.Failures == nil {
		s.Failures = []Failure{}
	}
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("summary: %w", err)
	}
	return layout.JSONWithin(s, "summary", mostSummaryBytes)
}

// DecodeSummary reads a summary file; see Decode.
func DecodeSummary(r io.Reader, name string) (Summary, error) {
	var s Summary
	if err := layout.ReadJSON(r, name, "summary", &s, mostSummaryBytes); err != nil {
		return s, err
	}
	if err := s.validate(); err != nil {
		return s, exit.Errorf(exit.Refused, "%s: %w", name, err)
	}
	return s, nil
}

func (s *Summary) validate() error {
	if s.Schema != SummarySchema {
		return fmt.Errorf("schema: found %q, expected %q", s.Schema, SummarySchema)
	}
	var errs []error
	for i := range s.Parameters {
		if err := s.Parameters[i].validate(); err != nil {
			errs = append(errs, fmt.Errorf("parameters[%d]: %w", i, err))
		}
	}
	for i := range s.Joint {
		if err := s.Joint[i].validate(); err != nil {
			errs = append(errs, fmt.Errorf("joint[%d]: %w", i, err))
		}
	}
	for i, f := range s.Failures {
		if f.Accelerator == "" || len(f.Reasons) == 0 {
			errs = append(errs, fmt.Errorf("failures[%d]: accelerator or reasons missing", i))
		}
	}
	return errors.Join(errs...)
}
