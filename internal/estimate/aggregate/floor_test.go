package aggregate

import (
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/run/reason"
)

func TestThePhysicalFloor(t *testing.T) {
	for _, c := range []struct {
		weights float64
		gpus    int
		level   fit.Level
		says    string
		percent float64
	}{
		{0, 1, fit.Accepted, "", 0},
		{10, 1, fit.Accepted, "", 70},
		{1, 1, fit.Warned, "waits for something else", 7},
		{20, 1, fit.Warned, "impossible", 140},
		{20, 2, fit.Accepted, "", 70},
	} {
		o := defaults
		o.WeightsGB, o.GPUs = c.weights, c.gpus
		s := Estimate(Inputs{Measurements: series("A100", 7, nil)}, o)
		p := s.Parameters[0]
		if p.Verdict.Level != c.level || !strings.Contains(strings.Join(p.Verdict.Reasons, "\n"), c.says) || (c.says != "") != p.Verdict.Has(reason.Floor) {
			t.Errorf("%+v: %s %q", c, p.Verdict.Level, p.Verdict.Reasons)
		}
		if got := p.Fit.Diagnostics.BandwidthPercent; (got == nil) != (c.percent == 0) || got != nil && (*got < 0.97*c.percent || *got > 1.03*c.percent) {
			t.Errorf("%+v: %v", c, got)
		}
		if p.HasITL() != (c.percent <= 100) || !p.HasTTFT() {
			t.Errorf("%+v: ITL published %v, TTFT %v", c, p.HasITL(), p.HasTTFT())
		}
		if _, err := s.Encode(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
