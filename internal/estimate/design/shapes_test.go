package design

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestShapes(t *testing.T) {
	sizes := []int{1, 2, 4, 8, 16, 32, 64}
	of := func(share float64, l Limits) ShapeChoice {
		t.Helper()
		c, err := Shapes(JointWish{BatchSizes: sizes, Seconds: 12, Share: share, Limits: l})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.Shapes {
			if l.ModelLen > 0 && s.PromptTokens+s.OutputTokens > l.ModelLen || l.CacheTokens > 0 && 64*(s.PromptTokens+s.OutputTokens) > l.CacheTokens {
				t.Errorf("%v: %s does not fit", l, s)
			}
		}
		for model, widths := range c.Widths {
			if slices.Max(widths) > told || c.Predicted[model] > share || c.Fewer <= share {
				t.Errorf("%v, ±%v: %s: %v, %v; one less %v", l, share, model, widths, c.Predicted[model], c.Fewer)
			}
		}
		return c
	}
	wide := of(0.05, Limits{})
	if len(wide.Shapes) != 3 || !strings.Contains(wide.Describe(), "engine ±") || !math.IsInf(wide.Fewer, 1) || !strings.Contains(wide.Describe(), "no 2 tell") {
		t.Error(wide.Describe())
	}
	fits := of(0.05, Limits{ModelLen: 1024})
	small := of(0.05, Limits{ModelLen: 1024, CacheTokens: 45_000})
	if wide.Candidates <= fits.Candidates || fits.Candidates <= small.Candidates {
		t.Errorf("%d, %d and %d candidates", wide.Candidates, fits.Candidates, small.Candidates)
	}
	for says, w := range map[string]JointWish{
		"0 shapes fit":       {BatchSizes: sizes, Seconds: 12, Share: 0.05, Limits: Limits{ModelLen: 100}},
		"not to ±0.1 %":      {BatchSizes: sizes, Seconds: 12, Share: 0.001, Limits: Limits{ModelLen: 1024}},
		"terms of the joint": {BatchSizes: []int{1, 2}, Seconds: 12, Share: 0.05, Limits: Limits{ModelLen: 1024}},
	} {
		if _, err := Shapes(w); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
	}
}
