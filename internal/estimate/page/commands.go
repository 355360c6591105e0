package page

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
)

// commands measure the same again, as far as the files tell: one for each model.
func commands(s parameters.Summary, ms []measurement.Measurement, capacities []capacity.Capacity) []command {
	var list []command
	for _, model := range parameters.Distinct(s.Parameters, func(p parameters.Parameters) string { return p.Model }) {
		of := slices.DeleteFunc(slices.Clone(s.Parameters), func(p parameters.Parameters) bool { return p.Model != model })
		var sizes []int
		for _, p := range of {
			for _, q := range p.Fit.Points {
				sizes = append(sizes, q.BatchSize)
			}
		}
		slices.Sort(sizes)
		seconds, driver := 0.0, ""
		for _, m := range ms {
			if m.Model == model {
				seconds, driver = max(seconds, m.Seconds), m.Driver.Name
			}
		}
		args := []string{"--model", model,
			"--accelerators", strings.Join(parameters.Distinct(of, func(p parameters.Parameters) string { return p.Accelerator }), ","),
			"--shapes", strings.Join(parameters.Distinct(of, func(p parameters.Parameters) string { return p.Shape.String() }), ","),
		}
		if len(sizes) > 0 {
			args = append(args, "--batch-sizes", strings.Join(parameters.Distinct(sizes, strconv.Itoa), ","))
		}
		if seconds > 0 {
			args = append(args, "--max-seconds", strconv.Itoa(int(math.Ceil(seconds))), "--driver", driver)
		}
		if slos := slosOf(capacities, model); slos != "" {
			args = append(args, "--slo", slos)
		}
		for i, a := range args {
			args[i] = quoted(a)
		}
		same := strings.Join(args, " ")
		list = append(list,
			command{"The same points of " + model + " from this machine, given the servers:", "wfgen run " + same + " --target NAME=URL"},
			command{"The same in a cluster, as a workflow:", "wfgen " + same})
	}
	return list
}

// quoted is one word of a shell.
func quoted(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./,:=@", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
