package measurement

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
)

// MaxFileSize is the most that a measurement file may hold, bytes; it keeps a
// mistaken path from filling the memory.
const MaxFileSize = 1 << 20

// Encode is the measurement as a file: indented JSON, the schema filled in. It
// refuses what Decode would refuse, but for numbers that are not finite and texts
// without end: those are left out or cut, and the notes say so.
func Encode(m Measurement) ([]byte, error) {
	m.Schema = Schema
	m.reported()
	m.sound()
	if err := m.validate(); err != nil {
		return nil, err
	}
	return layout.JSONWithin(m, "measurement", MaxFileSize)
}

// Decode reads a measurement; name is what its errors call the file. Unknown
// fields are ignored. An error names every field that is missing or out of range
// and has the exit code of refused data.
func Decode(r io.Reader, name string) (Measurement, error) {
	var m Measurement
	if err := layout.ReadJSON(r, name, "measurement", &m, MaxFileSize); err != nil {
		return m, err
	}
	if err := m.validate(); err != nil {
		return m, exit.Errorf(exit.Refused, "%s: %w", name, err)
	}
	if m.Reported == nil {
		m.tellApart()
	}
	return m, nil
}

// tellApart finds the reasons that came with the report in a file of an earlier version:
// those that a weighing of its witnesses does not say.
func (m *Measurement) tellApart() {
	var own Taken
	m.weigh(&own, m.Taken.Source, Auto)
	m.reported()
	for _, text := range m.Taken.Void {
		if !slices.Contains(own.Void, text) {
			m.Refuse(m.Taken.Finding(text))
		}
	}
	for _, text := range m.Taken.VoidTTFT {
		if !slices.Contains(own.VoidTTFT, text) {
			m.RefuseTTFT(m.Taken.Finding(text))
		}
	}
}

// validate returns every mistake, joined.
func (m *Measurement) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if m.Schema != Schema {
		return fmt.Errorf("schema: found %q, expected %q", m.Schema, Schema)
	}
	m.validateKey(bad)
	notNegative := func(field string, x float64) {
		if x < 0 || math.IsNaN(x) || math.IsInf(x, 0) {
			bad("%s: %v is not a finite number from 0 up", field, x)
		}
	}
	notNegative("prompt_tokens", m.PromptTokens)
	notNegative("output_tokens", m.OutputTokens)
	notNegative("started_at", m.StartedAt)
	notNegative("seconds", m.Seconds)
	notNegative("overhead_seconds", m.OverheadSeconds)
	notNegative("requests.successful", float64(m.Requests.Successful))
	notNegative("requests.errored", float64(m.Requests.Errored))
	notNegative("requests.incomplete", float64(m.Requests.Incomplete))
	notNegative("requests.in_window", float64(m.Requests.InWindow))
	notNegative("taken.batch", m.Taken.Batch)
	for _, v := range []struct {
		field string
		value *Value
	}{{"taken.itl", m.Taken.ITL}, {"taken.ttft", m.Taken.TTFT}} {
		if v.value == nil {
			continue
		}
		if !(v.value.MS > 0) || math.IsInf(v.value.MS, 0) {
			bad("%s.ms: %v is not a finite number above 0", v.field, v.value.MS)
		}
		notNegative(v.field+".standard_error_ms", v.value.StandardErrorMS)
	}
	for _, w := range []struct {
		field   string
		witness *Witness
	}{{"client", m.Client}, {"server", m.Server}, {"probe", m.Probe}} {
		if w.witness == nil {
			continue
		}
		notNegative(w.field+".batch", w.witness.Batch)
		notNegative(w.field+".requests", float64(w.witness.Requests))
		notNegative(w.field+".window_seconds", w.witness.WindowSeconds)
		if w.witness.Basis == "" {
			bad("%s.basis: missing", w.field)
		}
		if c := w.witness.Course; c != nil && !(c.SpanSeconds > 0) {
			bad("%s.course.span_seconds: %v is not above 0", w.field, c.SpanSeconds)
		}
		for _, e := range []struct {
			field    string
			estimate *Estimate
		}{{w.field + ".itl", w.witness.ITL}, {w.field + ".ttft", w.witness.TTFT}} {
			if e.estimate == nil {
				continue
			}
			// A mean may be nonsense here: what is stored is what was said.
			// Weigh is the gate.
			if math.IsNaN(e.estimate.MeanMS) || math.IsInf(e.estimate.MeanMS, 0) {
				bad("%s.mean_ms: %v is not finite", e.field, e.estimate.MeanMS)
			}
			notNegative(e.field+".standard_error_ms", e.estimate.StandardErrorMS)
			notNegative(e.field+".blocks", float64(e.estimate.Blocks))
			notNegative(e.field+".samples", float64(e.estimate.Samples))
		}
	}
	return errors.Join(errs...)
}

// validateKey tells bad what is wrong with what the measurement goes by.
func (m *Measurement) validateKey(bad func(format string, args ...any)) {
	if m.Model == "" {
		bad("model: missing; give it with --model")
	}
	if m.Accelerator == "" {
		bad("accelerator: missing; give it with --accelerator")
	}
	for _, n := range []struct{ field, name string }{{"model", m.Model}, {"accelerator", m.Accelerator}} {
		if !redact.Plain(n.name) {
			bad("%s: %q holds a control character, and cannot name results", n.field, n.name)
		}
	}
	if m.Shape.PromptTokens < 1 {
		bad("shape.prompt_tokens: %d is below 1", m.Shape.PromptTokens)
	}
	if m.Shape.OutputTokens < 2 {
		bad("shape.output_tokens: %d is below 2", m.Shape.OutputTokens)
	}
	if m.BatchSize < 1 {
		bad("batch_size: %d is below 1", m.BatchSize)
	}
}
