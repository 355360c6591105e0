package aggregate

import (
	"context"
	"slices"
	"testing"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/reason"
)

// What docs/h100.md says of a real GPU is what its measurements say.
func TestH100(t *testing.T) {
	in, skipped, err := Load(context.Background(), []string{"../../../docs/h100/first.json", "../../../docs/h100/second.json"}, "", nil)
	if err != nil || len(skipped) > 0 {
		t.Fatal(err, skipped)
	}
	for _, m := range in.Measurements {
		if m.Taken.Has(reason.Queue) || m.Server.QueueMS == nil || *m.Server.QueueMS > 0.1 {
			t.Errorf("%s at %d: nobody queued, but %v", m.Shape, m.BatchSize, m.Taken.VoidTTFT)
		}
	}
	s := Estimate(in, Options{Method: fit.WLS, Source: measurement.Auto, TTFT: measurement.Auto, Batch: measurement.Auto, WeightsGB: 16.06})
	if len(s.Parameters) != 4 || len(s.Joint) != 2 {
		t.Fatalf("%d sets, %d joint models", len(s.Parameters), len(s.Joint))
	}
	for _, p := range s.Parameters {
		if p.Alpha == nil || *p.Alpha < 6.2 || *p.Alpha > 6.4 {
			t.Fatalf("%s: %s, alpha %v", p.Shape, p.Verdict.Level, p.Alpha)
		}
		bends := slices.ContainsFunc(p.Verdict.Findings, func(r reason.Reason) bool { return r.Code == reason.Bend })
		if far := p.Shape.PromptTokens == 128 || p.Shape.PromptTokens == 1024; bends != far { // these went to batch 128
			t.Errorf("%s: bends %v, measured to batch 128 %v", p.Shape, bends, far)
		}
	}
	for _, j := range s.Joint {
		most := map[string]float64{fit.Engine: 0.7, fit.Iteration3: 1.8}[j.Fit]
		if j.MeanErrorPercent == nil {
			t.Fatalf("%s: %s, no numbers", j.Fit, j.Verdict.Level)
		}
		if *j.MeanErrorPercent > most || j.Verdict.Level != fit.Warned {
			t.Errorf("%s: %s, ITL %v %% off in the mean", j.Fit, j.Verdict.Level, *j.MeanErrorPercent)
		}
	}
}
