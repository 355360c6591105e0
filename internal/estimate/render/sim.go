package render

import (
	"fmt"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
)

// sim writes a configuration of llm-d-inference-sim that answers as the measured
// server does. The simulator multiplies ITL and prefill by
//
//	load(n) = 1 + (F-1)*(n-1)/(N-1)       N: max-num-seqs
//
// with one factor F for both. F follows from ITL, whose line it reproduces exactly;
// the prefill time is then chosen such that TTFT is right halfway to N.
func sim(ps []parameters.Parameters, o Options) ([]byte, error) {
	if len(ps) > 1 {
		return nil, exit.Errorf(exit.Usage, "one simulator replays one accelerator at one shape, and there are %d sets of parameters; name one file, or choose with --shape", len(ps))
	}
	p := ps[0]
	most := numberOf(o.MaxBatch, p.Accelerator, int(p.BatchSize))
	if most < 2 {
		return nil, exit.Errorf(exit.Usage, "max-num-seqs is %d, and a factor for load needs 2 or more; give --max-batch-size", most)
	}
	n, tokens := float64(most), float64(p.Shape.PromptTokens)
	itl := p.ITLAt(1)
	factor := p.ITLAt(n) / itl
	half := (1 + n) / 2
	prefill := p.TTFTAt(half, tokens) / (1 + (factor-1)*(half-1)/(n-1))
	lines := []string{
		fmt.Sprintf("llm-d-inference-sim as %s on %s at %s tokens.", p.Model, p.Accelerator, p.Shape),
		"For versions that take durations (those with latency-calculator); earlier ones take",
		"whole milliseconds, which is too coarse for ITL.",
		"ITL is reproduced at every batch. One factor serves ITL and prefill, so TTFT is right at",
		fmt.Sprintf("batch %.4g only: %+.0f %% off at 1, %+.0f %% at %d. Prefill is for prompts of %d tokens.", half,
			100*(prefill/p.TTFTAt(1, tokens)-1), 100*(prefill*factor/p.TTFTAt(n, tokens)-1), most, p.Shape.PromptTokens),
	}
	if n > p.BatchSize {
		lines = append(lines, fmt.Sprintf("Measured up to a batch of %.0f; beyond, the line is continued.", p.BatchSize))
	}
	lines = append(lines, caution(p)...)
	body := fmt.Sprintf(`model: %q
max-num-seqs: %d
latency-calculator: per-token
inter-token-latency: %.0fus
prefill-overhead: 0ms
prefill-time-per-token: %.0fns
time-factor-under-load: %s
`, p.Model, most, 1e3*itl, 1e6*prefill/tokens, parameters.Format(factor))
	return []byte(comment(lines) + body), nil
}
