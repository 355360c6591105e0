// Package render writes parameters in the formats of those who consume them.
package render

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/estimate/prefill"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

// Options of the formats.
type Options struct {
	Name        string         // of the object; empty: made of the model's name
	Namespace   string         // of the object; empty: none
	MaxBatch    map[string]int // by accelerator, "" for all: the server's max-num-seqs; otherwise the largest batch of the estimate
	Count       map[string]int // by accelerator, "" for all: GPUs of one replica; otherwise 1
	Shape       *sweep.Shape   // where the parameters are of several shapes: this one
	RunsOn      string         // the accelerator that the variant runs on; empty: the only one
	ScaleTarget string         // Deployment that is scaled; empty: no reference
	SLOName     string         // ConfigMap of service level objectives; empty: no reference
	SLOKey      string         // key in it

	KVTokens map[string]int // by accelerator, "" for all: tokens that the KV cache of one replica holds; otherwise as the server says

	Joint      []parameters.Joint        // models of all shapes, which inferno and dynamo take
	Points     []measurement.Measurement // for formats of measured points
	SLOs       []slo.Objective           // for formats of capacity
	Capacities []capacity.Capacity       // within the SLOs
	Prefills   []prefill.Record          // of the models and accelerators

	UncachedTokens int          // of a usual prompt, which the prefix cache does not hold
	Note           func(string) // told what a reader of a format without comments must know; nil: nobody

	Metrics      string // whose metrics count requests: vllm (empty), sglang or epp
	Prometheus   string // URL that KEDA asks; empty: a usual one
	MostReplicas int    // 0: 8
}

func (o Options) note(format string, args ...any) {
	if o.Note != nil {
		o.Note(fmt.Sprintf(format, args...))
	}
}

// formats by the name that users give.
var formats = map[string]func([]parameters.Parameters, Options) ([]byte, error){
	"variantautoscaling": variantAutoscaling,
	"inferno":            inferno,
	"router":             router,
	"sim":                sim,
	"planner":            planner,
	"aibrix":             aibrix,
	"dynamo":             dynamo,
	"benchmark-report":   benchmarkReport,
	"csv":                csvTable,
	"prometheus":         prometheus,
}

// Formats lists the formats.
func Formats() []string {
	return slices.Concat(formatsOf(capacityFormats), formatsOf(prefillFormats), formatsOf(formats))
}

// File is the name of the file of a format.
func File(format string) string {
	switch format {
	case "inferno", "planner", "aibrix", "dynamo", "calibration":
		return format + ".json"
	case "csv":
		return "parameters.csv"
	case "prometheus":
		return "parameters.prom"
	}
	return format + ".yaml"
}

// Publishable says why a format cannot be made at the end of every run, nil if it can.
func Publishable(format string) error {
	switch {
	case !slices.Contains(Formats(), format):
		return fmt.Errorf("%q is none of %s", format, strings.Join(Formats(), ", "))
	case TakesPrefill(format):
		return fmt.Errorf("%s is of one accelerator's prefill record, and a sweep may have several; run step render over prefill.json of one", format)
	}
	return nil
}

func formatsOf[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Render writes the parameters, at least one, in a format. A refused verdict among them is
// refused: whoever consumes the output cannot see it.
func Render(format string, ps []parameters.Parameters, o Options) ([]byte, error) {
	write, ok := formats[format]
	if !ok {
		return nil, exit.Errorf(exit.Usage, "format %q: expected one of %s", format, strings.Join(Formats(), ", "))
	}
	if o.Shape != nil {
		ps = slices.DeleteFunc(slices.Clone(ps), func(p parameters.Parameters) bool { return p.Shape != *o.Shape })
		if len(ps) == 0 {
			return nil, exit.Errorf(exit.Usage, "shape %s: no parameters of it", o.Shape)
		}
	}
	var errs []error
	for _, p := range ps {
		if !p.Published() {
			errs = append(errs, fmt.Errorf("%s on %s, %s is refused: %s", p.Model, p.Accelerator, p.Shape, strings.Join(p.Verdict.Reasons, "; ")))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, exit.With(exit.Refused, err)
	}
	return write(ps, o)
}

// numberOf is an accelerator's number, or that of all, or the default.
func numberOf(numbers map[string]int, accelerator string, otherwise int) int {
	if n, ok := numbers[accelerator]; ok {
		return n
	}
	if n, ok := numbers[""]; ok {
		return n
	}
	return otherwise
}

// caution is what a reader of the output must know of a verdict.
func caution(p parameters.Parameters) []string {
	if p.Verdict.Level == fit.Accepted {
		return nil
	}
	lines := []string{fmt.Sprintf("%s is %s:", p.Accelerator, p.Verdict.Level)}
	for _, r := range p.Verdict.Reasons {
		lines = append(lines, "  - "+r)
	}
	return lines
}

// comment writes lines as YAML comments.
func comment(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(strings.TrimRight("# "+strings.ReplaceAll(l, "\n", " "), " ") + "\n")
	}
	return b.String()
}
