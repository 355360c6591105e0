// Package precision holds how well the numbers of a sweep are wanted: half widths of 95 %
// intervals, relative to their values.
package precision

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
)

// Capacity is the name of the rate that one replica bears within the objectives.
const Capacity = "capacity"

// Goal is how well one number is wanted.
type Goal struct {
	Of    string  // alpha, beta, gamma, delta or Capacity
	Share float64 // half width of its 95 % interval, relative: 0.05

	// Effect says that a slope is judged by what it does to the latency of the largest
	// batch, not by its own size: a delta that matters 1 % may be uncertain by half.
	Effect bool
}

// Goals are all that is wanted.
type Goals []Goal

// Parse reads 5%, which is for every parameter, or a list such as alpha=1%,beta=5% or
// capacity=5%. The error holds every mistake.
func Parse(text string) (Goals, error) {
	if !strings.Contains(text, "=") {
		share, err := sweep.ParseShare(text)
		if err != nil {
			return nil, fmt.Errorf("%w, or a list such as alpha=1%%,beta=5%%", err)
		}
		var all Goals
		for _, name := range linear4.Names() {
			all = append(all, Goal{Of: name, Share: share, Effect: name == "delta"})
		}
		return all, nil
	}
	known := append(linear4.Names(), Capacity)
	var all Goals
	var errs []error
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		name = strings.TrimSpace(name)
		if !ok || !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("found %q, expected one of %s with a share, such as beta=5%%", part, strings.Join(known, ", ")))
			continue
		}
		if all.Wants(name) {
			errs = append(errs, fmt.Errorf("%s is given twice", name))
			continue
		}
		share, err := sweep.ParseShare(value)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		all = append(all, Goal{Of: name, Share: share})
	}
	return all, errors.Join(errs...)
}

// Wants says whether one of the goals is of this name.
func (g Goals) Wants(name string) bool {
	return slices.ContainsFunc(g, func(one Goal) bool { return one.Of == name })
}

// Percent writes a share for people: 4.2 %.
func Percent(share float64) string { return strconv.FormatFloat(100*share, 'g', 2, 64) + " %" }
