package coverage

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"wfgen.dev/internal/estimate/aggregate"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep"
)

// planted is a server with one fault, seen by a client and, where metrics is set, by
// its own histograms too.
type planted struct {
	name    string
	code    reason.Code // the verdict's; empty: the server is sound
	itl     func(n float64) float64
	metrics bool
	edit    func(m *measurement.Measurement, at float64) // at: 0 for the first point of the sweep, 1 for the last
}

const plantedPrompt, plantedOutput = 512, 128

func soundITL(n float64) float64  { return 7 + 0.03*n }
func soundTTFT(n float64) float64 { return 30 + 0.0008*plantedPrompt*n }

// scale multiplies all latencies of a measurement.
func scale(m *measurement.Measurement, factor float64) {
	for _, w := range []*measurement.Witness{m.Client, m.Server} {
		if w == nil {
			continue
		}
		for _, e := range []*measurement.Estimate{w.ITL, w.TTFT} {
			e.MeanMS, e.MedianMS, e.StandardErrorMS = e.MeanMS*factor, e.MedianMS*factor, e.StandardErrorMS*factor
		}
	}
}

var faults = []planted{
	{name: "sound", itl: soundITL, metrics: true},
	{name: "sound, without metrics", itl: soundITL},
	{name: "a bend above 64", code: reason.Bend, itl: func(n float64) float64 { return soundITL(n) + 0.06*max(0, n-64) }, metrics: true},
	{name: "concave, as a mixture of experts", code: reason.Concave, itl: func(n float64) float64 { return 4 + 2.2*math.Pow(n, 0.45) }, metrics: true},
	{name: "slower by 6 % in the end", code: reason.Drift, itl: soundITL, metrics: true,
		edit: func(m *measurement.Measurement, at float64) { scale(m, 1+0.06*(at-0.5)) }},
	{name: "runs 40 at once, without metrics", code: reason.Queue, itl: func(n float64) float64 { return soundITL(min(n, 40)) },
		edit: func(m *measurement.Measurement, _ float64) {
			if n := float64(m.BatchSize); n > 40 {
				wait := (n/40 - 1) * (soundTTFT(40) + (plantedOutput-1)*soundITL(40))
				m.Client.TTFT.MeanMS += wait
				m.Client.TTFT.MedianMS += wait
			}
		}},
	{name: "runs 40 at once, and says so", code: reason.Queue, itl: func(n float64) float64 { return soundITL(min(n, 40)) }, metrics: true,
		edit: func(m *measurement.Measurement, _ float64) {
			if n := float64(m.BatchSize); n > 40 {
				wait := (n/40 - 1) * (soundTTFT(40) + (plantedOutput-1)*soundITL(40))
				for _, w := range []*measurement.Witness{m.Client, m.Server} {
					w.TTFT.MeanMS += wait
					w.TTFT.MedianMS += wait
				}
				m.Server.QueueMS, m.Server.WaitingMean, m.Server.Batch = &wait, new(n-40), 40
			}
		}},
	{name: "answers of another length", code: reason.Label, itl: soundITL, metrics: true,
		edit: func(m *measurement.Measurement, _ float64) {
			m.OutputTokens = 0.3 * plantedOutput
			if m.Server.Gaps != nil {
				m.Server.Gaps = new(float64(m.Server.Requests) * (m.OutputTokens - 1))
			}
		}},
	{name: "speculative decoding", code: reason.Speculative, itl: soundITL, metrics: true,
		edit: func(m *measurement.Measurement, _ float64) {
			// Two tokens and a half a step: the client sees pieces of several tokens, and the
			// server's histogram counts steps, which the reduction makes up for.
			const tokens = 2.5
			m.Client.Stream = &measurement.Stream{PiecesPerToken: 1 / tokens, FirstTokens: 1}
			m.Server.Gaps = new(float64(m.Server.Requests) * (plantedOutput - 1) / tokens)
			m.Server.Tokens, m.Server.TokensPerGap = new(float64(m.Server.Requests)*plantedOutput), new(tokens)
		}},
}

// measure is one sweep of the server, in the order in which sweeps run, with runs that
// differ by 0.3 % and points that know their own error of 0.3 % (TTFT 0.6 %).
func (p planted) measure(random *rand.Rand) []aggregate.Source {
	var all []aggregate.Source
	shape := sweep.Shape{PromptTokens: plantedPrompt, OutputTokens: plantedOutput}
	s := sweep.Sweep{Shapes: []sweep.Shape{shape}, BatchSizes: []int{1, 2, 4, 8, 16, 32, 64, 96, 128}}
	points := s.Points("A100")
	for i, q := range points {
		n := float64(q.BatchSize)
		run := 1 + 0.003*random.NormFloat64()
		estimate := func(ms, own float64) *measurement.Estimate {
			x := ms * run * (1 + own*random.NormFloat64())
			chi := 0.0 // what 12 blocks say of the error
			for range 11 {
				z := random.NormFloat64()
				chi += z * z / 11
			}
			return &measurement.Estimate{MeanMS: x, MedianMS: x, StandardErrorMS: own * ms * math.Sqrt(chi), Blocks: 12, Samples: 500}
		}
		itl, ttft := estimate(p.itl(n), 0.003), estimate(soundTTFT(n), 0.006)
		witness := func(basis string) *measurement.Witness {
			a, b := *itl, *ttft
			return &measurement.Witness{ITL: &a, TTFT: &b, Batch: n, Requests: 500, WindowSeconds: 110, Basis: basis}
		}
		m := measurement.Measurement{
			Schema: measurement.Schema, Model: "m", Accelerator: "A100", Shape: shape, BatchSize: q.BatchSize,
			Client: witness(measurement.BasisRows), Requests: measurement.Requests{Successful: 500},
			PromptTokens: plantedPrompt, OutputTokens: plantedOutput, Driver: measurement.Driver{Name: "native"},
			StartedAt: 1.7e9 + 130*float64(i), Seconds: 120,
		}
		m.Client.Stream = &measurement.Stream{PiecesPerToken: 1, FirstTokens: 1}
		// Little's law holds for what is reported.
		m.Seconds = float64(m.Requests.Successful) * (ttft.MeanMS + (plantedOutput-1)*itl.MeanMS) / 1000 / n
		if p.metrics {
			m.Server = witness(measurement.BasisHistograms)
			m.Server.Gaps = new(float64(500 * (plantedOutput - 1)))
			m.Server.Tokens = new(float64(500 * plantedOutput))
		}
		if p.edit != nil {
			p.edit(&m, float64(i)/float64(len(points)-1))
		}
		all = append(all, aggregate.Source{Measurement: m, File: fmt.Sprintf("%s.json", q.Name())})
	}
	return all
}

// A verdict that is right says what is wrong, and nothing else.
func TestFaultsAreNamed(t *testing.T) {
	n, _ := sweeps(t, 60)
	for _, p := range faults {
		random := rand.New(rand.NewPCG(uint64(len(p.name)), 14))
		codes := map[reason.Code]int{}
		accepted := 0
		var last fit.Verdict
		for range n {
			s := aggregate.Estimate(aggregate.Inputs{Measurements: p.measure(random)}, aggregate.Options{
				Method: fit.WLS, Source: measurement.Auto, TTFT: measurement.Auto, Batch: measurement.Auto})
			last = s.Parameters[0].Verdict
			seen := map[reason.Code]bool{}
			for _, f := range last.Findings {
				if !seen[f.Code] {
					codes[f.Code]++
				}
				seen[f.Code] = true
			}
			if last.Level == fit.Accepted {
				accepted++
			}
		}
		t.Logf("%-34s accepted %d of %d, findings %v; such as %q", p.name, accepted, n, codes, last.Reasons)
		chance := 3 * math.Sqrt(0.05*0.95*float64(n))
		if p.code == "" {
			if float64(accepted) < 0.9*float64(n) {
				t.Errorf("%s: %d of %d sweeps are accepted: %v", p.name, accepted, n, codes)
			}
		} else if float64(codes[p.code]) < 0.9*float64(n) {
			t.Errorf("%s: %d of %d verdicts name %s: %v %q", p.name, codes[p.code], n, p.code, codes, last.Reasons)
		}
		for _, other := range []reason.Code{reason.Scatter, reason.Bend, reason.Concave, reason.Drift, reason.Queue, reason.PrefillBudget, reason.KVCache, reason.Speculative, reason.InStep, reason.Label} {
			if other != p.code && float64(codes[other]) > 0.05*float64(n)+chance {
				t.Errorf("%s: %d of %d verdicts name %s, which it has not: %q", p.name, codes[other], n, other, last.Reasons)
			}
		}
	}
}
