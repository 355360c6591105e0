package coverage

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
)

// Load generators of other makes begin all streams at once and ask for answers of one
// length, up to more streams than the server runs. Of such points, without /metrics, those
// that queued are found, the engine describes ITL better than iteration3 does, and where
// TTFT tells how the streams began the verdicts name that.
func TestManyStreamsInStep(t *testing.T) {
	var all []fit.Point
	for _, shape := range []sweep.Shape{
		{PromptTokens: 128, OutputTokens: 128}, {PromptTokens: 1024, OutputTokens: 128}, {PromptTokens: 128, OutputTokens: 512},
		{PromptTokens: 2048, OutputTokens: 256}, {PromptTokens: 512, OutputTokens: 64}, {PromptTokens: 1024, OutputTokens: 512},
	} {
		for i, streams := range []int{1, 8, 32, 100, 250} {
			c := engine
			c.Seed, c.MaxNumSeqs = int64(i), 128
			duration := 20*time.Second + time.Duration(shape.OutputTokens)*250*time.Millisecond
			rows, err := simulate.Closed(c, simulate.Loop{Streams: streams, PromptTokens: shape.PromptTokens, OutputTokens: shape.OutputTokens, Duration: duration})
			if err != nil {
				t.Fatal(err)
			}
			w, err := reduced(rows, streams)
			if err != nil {
				t.Fatal(err)
			}
			p := fit.Point{
				Group: shape.String(), Pair: "engine", Label: fmt.Sprintf("%s batch %d", shape, streams), Batch: w.Batch,
				PromptTokens: float64(shape.PromptTokens), OutputTokens: float64(shape.OutputTokens),
				InStep: w.Crowding != nil && *w.Crowding > measurement.InStep,
				ITL:    fit.Sample{MS: w.ITL.MeanMS, StandardError: w.ITL.StandardErrorMS, Blocks: w.ITL.Blocks},
				TTFT:   fit.Sample{MS: w.TTFT.MeanMS, StandardError: w.TTFT.StandardErrorMS, Blocks: w.TTFT.Blocks},
			}
			all = append(all, p)
		}
	}
	e, i := fit.FitEngine(all), fit.FitIteration3(all)
	for _, j := range []fit.Joint{e, i} {
		queued := 0
		for _, o := range j.Out {
			if o.Why.Code == reason.Queue {
				queued++
				if !strings.HasSuffix(all[o.Index].Label, "batch 250") {
					t.Errorf("%s: %s queued: %s", j.Model, all[o.Index].Label, o.Why)
				}
			}
		}
		if queued != 6 || !j.Verdict.Has(reason.InStep) || j.Verdict.Level != fit.Warned {
			t.Errorf("%s: %d points queued, %s %q", j.Model, queued, j.Verdict.Level, j.Verdict.Reasons)
		}
		t.Logf("%s: ITL %.2f %% off, at most %.2f %%; TTFT %.0f %%", j.Model, 100*j.MeanError, 100*j.WorstError, 100*j.MeanTTFT)
	}
	if e.MeanError > 0.01 || e.MeanError > i.MeanError || e.WorstError > i.WorstError {
		t.Errorf("engine is %.4f off, iteration3 %.4f", e.MeanError, i.MeanError)
	}
}
