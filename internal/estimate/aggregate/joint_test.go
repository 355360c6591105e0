package aggregate

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/tests/schematest"
)

// iteration is a server with alpha 6.5, beta 0.02 and gamma 5e-5 of iteration3.
func iteration(accelerator string, shapes ...sweep.Shape) []Source {
	var all []Source
	for _, s := range shapes {
		for _, b := range sizes {
			m := measured(accelerator, s, b, 1)
			n, in, out := float64(b), float64(s.PromptTokens), float64(s.OutputTokens)
			turn := 6.5 + n*(0.02*(in+out)/(out+1)+5e-5*(in+out/2))
			for _, w := range []*measurement.Witness{m.Client, m.Server} {
				w.ITL.MeanMS = turn + 0.02 + 5e-5*(in+(out+1)/2)
				w.TTFT.MeanMS = turn + (0.02+5e-5)*in
				w.TTFT.MedianMS = w.TTFT.MeanMS
			}
			all = append(all, Source{Measurement: m})
		}
	}
	return all
}

var several = []sweep.Shape{{PromptTokens: 128, OutputTokens: 128}, {PromptTokens: 1024, OutputTokens: 128}, {PromptTokens: 128, OutputTokens: 1024}, {PromptTokens: 2048, OutputTokens: 512}}

func TestJointModelsOfAllShapes(t *testing.T) {
	in := Inputs{Measurements: append(iteration("A100", several...), series("H100", 4, nil)...)}
	s := Estimate(in, defaults)
	if len(s.Joint) != 2 || s.Joint[0].Fit != fit.Iteration3 || s.Joint[1].Fit != fit.Engine || s.Joint[0].Accelerator != "A100" {
		t.Fatalf("%+v", s.Joint)
	}
	j := s.Joint[0]
	for i, want := range []float64{6.5, 0.02, 5e-5} {
		if e := j.Terms[i]; math.Abs(e.Value/want-1) > 1e-6 || e.Interval == nil {
			t.Errorf("%+v, want %v", e, want)
		}
	}
	if len(j.Linear4) != 4 || math.Abs(*j.Linear4[0].ITLDifferencePercent) > 0.01 || math.Abs(*j.Linear4[0].TTFTDifferencePercent) > 0.01 {
		t.Errorf("%+v", j.Linear4)
	}
	data := encode(t, s)
	schematest.Validate(t, "../parameters/summary.schema.json", []byte(data))
	var text bytes.Buffer
	if err := Print(&text, s, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"iteration3 of org/model on A100, 4 shapes together: ", "engine.base", "implies at", "of a shape left out of the fit 0.00 %", "iteration3.alpha       6.50000"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("does not say %q:\n%s", want, text.String())
		}
	}

	// The last node of a workflow has the summary only.
	back, err := parameters.DecodeSummary(strings.NewReader(data), "s")
	if err != nil {
		t.Fatal(err)
	}
	again := Estimate(Inputs{Parameters: back.Parameters, Joint: append(back.Joint, back.Joint[0])}, defaults)
	if encode(t, again) != data {
		t.Error("a summary of a summary differs")
	}

	// Shapes too alike: refused with what to do, and no mark on the parameters.
	alike := Estimate(Inputs{Measurements: iteration("A100", several[0], sweep.Shape{PromptTokens: 130, OutputTokens: 128})}, defaults)
	if alike.Verdict == fit.Refused || alike.Joint[0].Verdict.Level != fit.Refused || !strings.Contains(alike.Joint[0].Verdict.Reasons[0], "add a shape") {
		t.Errorf("%s %+v", alike.Verdict, alike.Joint)
	}
	schematest.Validate(t, "../parameters/summary.schema.json", []byte(encode(t, alike)))
	o := defaults
	o.Method = fit.TwoPoint
	if s := Estimate(in, o); len(s.Joint) != 0 {
		t.Errorf("two-point made %d joint models", len(s.Joint))
	}
}
