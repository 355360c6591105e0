package aggregate

import (
	"math"
	"strings"
	"testing"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/point/measurement"
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
		{1, 1, fit.Warned, "the time goes elsewhere", 7},
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

// Where nobody gives the weights, the server's own account of what it reads for a token of
// a request that is alone tells them; of busier points, which share an iteration, nothing.
func TestTheFloorByTheServersAccount(t *testing.T) {
	for _, c := range []struct {
		tokensPerGap *float64
		given        float64
		percent      float64
	}{
		{nil, 0, 70},
		{nil, 1, 7},      // what is given counts
		{new(2.5), 0, 0}, // speculative: an iteration makes several tokens
	} {
		ms := series("A100", 7, nil)
		for i := range ms {
			tokens := 1000.0
			bytes := tokens * 1e10 * (1 + 0.01*float64(i))
			if ms[i].BatchSize > 1 {
				bytes = tokens * 1e8
			}
			ms[i].Server = &measurement.Witness{Basis: measurement.BasisHistograms, Tokens: &tokens, BytesRead: &bytes, TokensPerGap: c.tokensPerGap}
		}
		o := defaults
		o.WeightsGB = c.given
		s := Estimate(Inputs{Measurements: ms}, o)
		got := s.Parameters[0].Fit.Diagnostics.BandwidthPercent
		if (got == nil) != (c.percent == 0) || got != nil && !(math.Abs(*got/c.percent-1) <= 0.05) {
			t.Errorf("%+v: %v", c, got)
		}
		if _, err := s.Encode(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// The terms of engine that read memory are held against it, too.
func TestTheFloorOfTheEngine(t *testing.T) {
	for _, c := range []struct {
		cache    float64 // bytes of a token
		level    fit.Level
		says     string
		low, top float64 // percent that ctx reaches
	}{
		{0, fit.Accepted, "", 0, 0},
		{80_000, fit.Accepted, "", 60, 90},
		{131_072, fit.Refused, "131072 bytes of cache", 0, 0},
		{5_000, fit.Warned, "attention backend", 3, 6},
	} {
		o := defaults
		o.CacheBytes, o.WeightsGB = c.cache, 10
		s := Estimate(Inputs{Measurements: iteration("A100", several...)}, o)
		e := s.Joint[1]
		if e.Fit != fit.Engine || e.Verdict.Level != c.level || c.says != "" && !strings.Contains(strings.Join(e.Verdict.Reasons, "\n"), c.says) {
			t.Errorf("%v: %s %q", c.cache, e.Verdict.Level, e.Verdict.Reasons)
		}
		shares := map[string]float64{}
		for _, term := range e.Terms {
			if term.BandwidthPercent != nil {
				shares[term.Name] = *term.BandwidthPercent
			}
		}
		if ctx := shares["ctx"]; ctx < c.low || ctx > c.top || c.level != fit.Refused && (shares["base"] < 70 || shares["base"] > 80) {
			t.Errorf("%v: %v", c.cache, shares)
		}
		if _, err := s.Encode(); err != nil {
			t.Errorf("%v: %v", c.cache, err)
		}
	}
}
