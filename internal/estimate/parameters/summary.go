package parameters

import (
	"errors"
	"fmt"
	"io"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/run/exit"
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
	Totals     Totals       `json:"totals"`
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
	return encode(s)
}

// DecodeSummary reads a summary file; see Decode.
func DecodeSummary(r io.Reader, name string) (Summary, error) {
	var s Summary
	if err := decode(r, name, "summary", &s, 256<<20); err != nil {
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
