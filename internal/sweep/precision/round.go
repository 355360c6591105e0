package precision

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"wfgen.dev/internal/sweep"
)

// Why a sweep that is asked for a precision ends.
const (
	Reached = "precision" // what was asked for is reached
	Budget  = "budget"    // what may be spent is
	Rounds  = "rounds"    // as many as there may be were made
	Refused = "refused"   // more points would not help
	Drift   = "drift"     // the intervals are as narrow as asked, of a server that changed meanwhile
)

// How many points there are.
const (
	MostRounds  = 20 // of one accelerator, where nobody says
	FirstPoints = 6  // of a shape in the first round: five batch sizes, and the first again
	NextPoints  = 2  // of a shape in each round after it, at most
	MostPoints  = FirstPoints + NextPoints*(MostRounds-1)
)

// RoundSchema names the version of a round's file.
const RoundSchema = "wfgen.dev/round/v1"

// Round is what is to be measured next on one accelerator.
type Round struct {
	Schema string  `json:"schema"`
	Number int     `json:"number"` // from 1
	Points []Point `json:"points"` // in the order in which they are measured; none: the sweep ends

	Ended   string   `json:"ended,omitempty"`   // why it does: precision, drift, budget, rounds or refused
	Reasons []string `json:"reasons,omitempty"` // how far what was asked for is, a sentence for each shape
}

// Point is a point of a round. Its fields are named as the flags of step bench, and as
// the inputs of a point's template.
type Point struct {
	PromptTokens int    `json:"prompt-tokens"`
	OutputTokens int    `json:"output-tokens"`
	BatchSize    int    `json:"batch-size"`
	MaxSeconds   int    `json:"max-seconds"`
	Again        string `json:"again"` // what its name ends with; empty: it is the first of its batch size
}

// Of is the point as the files of an accelerator name it.
func (p Point) Of(accelerator string) sweep.Point {
	return sweep.Point{
		Accelerator: accelerator, Shape: sweep.Shape{PromptTokens: p.PromptTokens, OutputTokens: p.OutputTokens},
		BatchSize: p.BatchSize, Again: sweep.AgainOf(p.Again), Seconds: p.MaxSeconds,
	}
}

// List writes the points of a shape among those of a sweep, as step bench reads several.
func List(points []sweep.Point, shape sweep.Shape) string {
	type short struct { // what the shape and the sweep say is said elsewhere
		BatchSize int    `json:"batch-size"`
		Again     string `json:"again,omitempty"`
	}
	var all []short
	for _, p := range points {
		if p.Shape == shape {
			all = append(all, short{p.BatchSize, sweep.AgainEnd(p.Again)})
		}
	}
	data, err := json.Marshal(all)
	if err != nil {
		panic(err) // integers and texts
	}
	return string(data)
}

// Decode reads a round. The error names every mistake.
func Decode(data []byte) (Round, error) {
	var r Round
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("not a round of points: %w", err)
	}
	if r.Schema != RoundSchema {
		return r, fmt.Errorf("schema: found %q, expected %q", r.Schema, RoundSchema)
	}
	return r, r.validate()
}

func (r Round) validate() error {
	var errs []error
	if len(r.Points) > 0 && r.Ended != "" {
		errs = append(errs, fmt.Errorf("ended: found %q, with points that are to be measured", r.Ended))
	}
	if len(r.Points) == 0 && r.Ended == "" {
		errs = append(errs, errors.New("ended: missing, where there are no points"))
	}
	names := map[string]bool{}
	for i, p := range r.Points {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("points[%d].%w", i, fmt.Errorf(format, args...)))
		}
		for _, err := range p.Mistakes(1) {
			bad("%w", err)
		}
		name := p.Of("").Name()
		if names[name] {
			bad("again: found %q, which another point of the size has: %s", p.Again, name)
		}
		names[name] = true
	}
	return errors.Join(errs...)
}

// Mistakes are what cannot be of a point, whose length is no less than so many seconds.
func (p Point) Mistakes(leastSeconds int) (errs []error) {
	for _, n := range []struct {
		name               string
		value, least, most int
	}{{"prompt-tokens", p.PromptTokens, 1, sweep.MostTokens}, {"output-tokens", p.OutputTokens, 2, sweep.MostTokens},
		{"batch-size", p.BatchSize, 1, sweep.MostBatch}, {"max-seconds", p.MaxSeconds, leastSeconds, sweep.MostSeconds}} {
		if n.value < n.least || n.value > n.most {
			errs = append(errs, fmt.Errorf("%s: %d is not between %d and %d", n.name, n.value, n.least, n.most))
		}
	}
	if p.Again != sweep.AgainEnd(sweep.AgainOf(p.Again)) {
		errs = append(errs, fmt.Errorf("again: found %q, expected nothing, %[2]s or %[2]s2", p.Again, sweep.AgainSuffix))
	}
	return errs
}

// Reason is all of the reasons.
func (r Round) Reason() string { return strings.Join(r.Reasons, "; ") }
