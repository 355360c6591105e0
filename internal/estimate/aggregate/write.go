package aggregate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep/linear4"
)

// Write puts the results into out, and the accepted parameters under latest in
// that store unless it is nil:
//
//	<accelerator>/parameters/<shape>.json    below <model>/ where there are several models
//	summary.json
//	parameters.json             when there is exactly one set
//	outputs/<name>              one value each, for Argo
func Write(ctx context.Context, s parameters.Summary, out, latest store.Store) error {
	several := slices.ContainsFunc(s.Parameters, func(p parameters.Parameters) bool { return p.Model != s.Parameters[0].Model })
	for _, p := range s.Parameters {
		data, err := p.Encode()
		if err != nil {
			return err
		}
		keys := []string{layout.ParametersOf(p.Accelerator, p.Shape)}
		if several {
			keys[0] = layout.OfModel(p.Model, keys[0])
		}
		if len(s.Parameters) == 1 {
			keys = append(keys, layout.OneParameters)
		}
		for _, key := range keys {
			if err := out.Put(ctx, key, bytes.NewReader(data)); err != nil {
				return err
			}
		}
		if latest != nil && becomesLatest(s, p) {
			if err := latest.Put(ctx, layout.LatestOf(p.Model, p.Accelerator, p.Shape), bytes.NewReader(data)); err != nil {
				return err
			}
		}
	}
	outputs, err := Outputs(s)
	if err != nil {
		return err
	}
	for name, text := range outputs {
		if err := out.Put(ctx, name.Key(), strings.NewReader(text)); err != nil {
			return err
		}
	}
	data, err := s.Encode()
	if err != nil {
		return err
	}
	return out.Put(ctx, layout.Summary, bytes.NewReader(data)) // last: it says that all else is there
}

// becomesLatest is the rule by which latest/ moves: to parameters that are accepted and
// did not drift from what lies there. What drifted waits for somebody to accept it.
func becomesLatest(s parameters.Summary, p parameters.Parameters) bool {
	c, compared := s.Drift.Of(p)
	return p.Verdict.Level == fit.Accepted && (!compared || len(c.Drifted) == 0)
}

// output is one set of parameters in the output parameter of all.
type output struct {
	Model       string    `json:"model"`
	Accelerator string    `json:"accelerator"`
	Shape       string    `json:"shape"`
	Verdict     fit.Level `json:"verdict"`
	Alpha       *float64  `json:"alpha"`
	Beta        *float64  `json:"beta"`
	Gamma       *float64  `json:"gamma"`
	Delta       *float64  `json:"delta"`
}

// Outputs are the values for Argo's output parameters, one per file. alpha to
// delta are those of the first shape where there is one accelerator, and empty
// where the verdict is refused or there are several; parameters holds all.
func Outputs(s parameters.Summary) (map[layout.Output]string, error) {
	first := parameters.Parameters{}
	one := len(s.Parameters) > 0
	all := []output{}
	var reasons []string
	for _, p := range s.Parameters {
		one = one && p.Model == s.Parameters[0].Model && p.Accelerator == s.Parameters[0].Accelerator
		all = append(all, output{p.Model, p.Accelerator, p.Shape.String(), p.Verdict.Level, p.Alpha, p.Beta, p.Gamma, p.Delta})
		for _, r := range p.Verdict.Reasons {
			reasons = append(reasons, fmt.Sprintf("%s, %s: %s", p.Accelerator, p.Shape, r))
		}
	}
	if one {
		first = s.Parameters[0]
	}
	for _, f := range s.Failures {
		for _, r := range f.Reasons {
			reasons = append(reasons, fmt.Sprintf("%s: %s", f.Accelerator, r))
		}
	}
	list, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	outputs := map[layout.Output]string{
		layout.OutVerdict: string(s.Verdict), layout.OutAnswer: s.Answer(), layout.OutReasons: strings.Join(reasons, "\n"), layout.OutAll: string(list),
	}
	outputs[layout.OutDrift] = strings.Join(s.Drift.Moved(), "\n")
	outputs[layout.OutDriftPercent] = strconv.FormatFloat(s.Drift.Most(), 'f', 2, 64)
	for _, name := range linear4.Names() {
		outputs[layout.Output(name)] = ""
		if value, _, _, ok := first.Parameter(name); ok {
			outputs[layout.Output(name)] = parameters.Format(value)
		}
	}
	return outputs, nil
}
