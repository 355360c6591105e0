package render

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/estimate/prefill"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
)

// The model-data.json of llm-inferno since 2026-03. Numbers are numbers.
type modelData struct {
	Models []modelEntry `json:"models"`
}

type modelEntry struct {
	Name         string       `json:"name"`
	Acc          string       `json:"acc"`
	AccCount     int          `json:"accCount"`
	MaxBatchSize int          `json:"maxBatchSize"`
	AtTokens     int          `json:"atTokens"` // output tokens that maxBatchSize is for
	PerfParms    infernoParms `json:"perfParms"`
}

// infernoParms are those of iteration3, ms.
type infernoParms struct {
	Alpha json.Number `json:"alpha"`
	Beta  json.Number `json:"beta"`
	Gamma json.Number `json:"gamma"`
}

// inferno writes iteration3 of every model and accelerator.
func inferno(ps []parameters.Parameters, o Options) ([]byte, error) {
	var data modelData
	for _, p := range ps {
		if several := shapes(ps, p.Accelerator); slices.ContainsFunc(ps, func(q parameters.Parameters) bool {
			return q.Model == p.Model && q.Accelerator == p.Accelerator && q.Shape != p.Shape
		}) {
			return nil, exit.Errorf(exit.Usage, "%s has several shapes, and maxBatchSize is for one; choose with --shape %s", p.Accelerator, several)
		}
		i := slices.IndexFunc(o.Joint, func(j parameters.Joint) bool {
			return j.Fit == fit.Iteration3 && j.Model == p.Model && j.Accelerator == p.Accelerator
		})
		if i < 0 {
			return nil, exit.Errorf(exit.Refused, "%s on %s: no iteration3 among the inputs; it takes the summary.json of a sweep over two shapes or more", p.Model, p.Accelerator)
		}
		j := o.Joint[i]
		if j.Verdict.Level == fit.Refused {
			return nil, exit.Errorf(exit.Refused, "iteration3 of %s on %s is refused: %s", p.Model, p.Accelerator, strings.Join(j.Verdict.Reasons, "; "))
		}
		for _, r := range j.Verdict.Reasons {
			o.note("iteration3 of %s on %s: %s", p.Model, p.Accelerator, r)
		}
		number := func(k int) json.Number { return json.Number(parameters.Format(j.Terms[k].Value)) }
		data.Models = append(data.Models, modelEntry{
			Name: p.Model, Acc: p.Accelerator, AccCount: numberOf(o.Count, p.Accelerator, 1),
			MaxBatchSize: numberOf(o.MaxBatch, p.Accelerator, int(p.BatchSize)), AtTokens: p.Shape.OutputTokens,
			PerfParms: infernoParms{number(0), number(1), number(2)},
		})
	}
	return layout.JSON(data)
}

// router writes the peakPrefillThroughput of every accelerator: prompt tokens over
// the TTFT that one request alone sees.
func router(ps []parameters.Parameters, o Options) ([]byte, error) {
	longest := map[string]parameters.Parameters{}
	var names []string
	for _, p := range ps {
		if p.Model != ps[0].Model {
			return nil, exit.Errorf(exit.Usage, "parameters of %s and of %s: the router has one rate for one model; render them apart", ps[0].Model, p.Model)
		}
		if before, ok := longest[p.Accelerator]; !ok || p.Shape.PromptTokens > before.Shape.PromptTokens {
			if !ok {
				names = append(names, p.Accelerator)
			}
			longest[p.Accelerator] = p
		}
	}
	lines := []string{
		"peakPrefillThroughput (tokens/s) of " + ps[0].Model + ", as documented in 2026-09, for the token-aware scaling of",
		"the llm-d router and of KEDA: prompt tokens over TTFT at batch 1. It is defined for a prompt of",
		"one chunk (max-num-batched-tokens), which step prefill measures; shorter ones give less than the peak.",
	}
	body := ""
	for _, name := range names {
		p := longest[name]
		limits, notes, err := saturation(name, ps[0].Model, o)
		if err != nil {
			return nil, err
		}
		if r := o.prefillOf(p); r != nil {
			lines = append(lines, fmt.Sprintf("%s: %d prompt tokens, one chunk, TTFT %s ms in the median of an idle server, and the low end of the rate's interval (%s)", name, r.ChunkTokens, parameters.Format(r.MedianTTFTMS), r.Fingerprint))
			body += fmt.Sprintf("%q:\n  peakPrefillThroughput: %.0f\n", name, r.SafeTokensPerSecond()) + limits
			lines = append(lines, notes...)
			continue
		}
		i := slices.IndexFunc(p.Fit.Points, func(q parameters.Point) bool { return q.BatchSize == 1 && q.TTFT != nil })
		if i < 0 {
			return nil, exit.Errorf(exit.Refused, "%s, %s: no TTFT at batch 1 was measured, which the rate is made of", name, p.Shape)
		}
		q := p.Fit.Points[i]
		lines = append(lines, fmt.Sprintf("%s: %.0f prompt tokens, TTFT %s ms (%s %s)", name, q.PromptTokens, parameters.Format(q.TTFT.MS), q.TTFT.From, q.TTFT.Statistic))
		for _, fact := range [][2]string{{"server", p.Provenance.ServerVersion.String()}, {"image", p.Provenance.Image.String()}, {"GPU", p.Provenance.GPU.String()}} {
			if fact[1] != "" {
				lines = append(lines, "  "+fact[0]+": "+fact[1])
			}
		}
		lines = append(lines, caution(p)...)
		body += fmt.Sprintf("%q:\n  peakPrefillThroughput: %.0f\n", name, 1000*q.PromptTokens/q.TTFT.MS)
		body, lines = body+limits, append(lines, notes...)
	}
	return []byte(comment(lines) + body), nil
}

// prefillOf is the usable prefill record of the same model and accelerator; nil: there is none.
func (o Options) prefillOf(p parameters.Parameters) *prefill.Record {
	for i := range o.Prefills {
		if r := &o.Prefills[i]; r.Model == p.Model && r.Accelerator == p.Accelerator && r.Usable() {
			return r
		}
	}
	return nil
}

// saturation is what the saturation detector of the llm-d router takes of an endpoint, where
// its capacity is known: the most requests in flight that meet the objectives, and the tokens
// that they hold when each is halfway through its output.
func saturation(accelerator, model string, o Options) (body string, notes []string, err error) {
	i := slices.IndexFunc(o.Capacities, func(c capacity.Capacity) bool {
		return c.Accelerator == accelerator && c.Model == model && (o.Shape == nil || c.Shape == *o.Shape)
	})
	if i < 0 {
		return "", nil, nil
	}
	c := o.Capacities[i]
	if c.MostInFlight == nil || c.Verdict.Level == fit.Refused {
		return "", nil, exit.Errorf(exit.Refused, "the capacity of %s on %s, %s is refused: %s", c.Model, c.Accelerator, c.Shape, strings.Join(c.Verdict.Reasons, "; "))
	}
	n := whole(c.MostInFlight)
	notes = append([]string{"saturation detector of the llm-d router, per endpoint:"}, assumed([]capacity.Capacity{c})...)
	return fmt.Sprintf("  maxConcurrency: %d\n  maxTokenConcurrency: %d\n", n, n*(c.Shape.PromptTokens+c.Shape.OutputTokens/2)), notes, nil
}
