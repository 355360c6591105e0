// Package slo holds service level objectives: what is asked of the latencies of a server.
package slo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Metrics of an objective.
const (
	TTFT = "ttft" // from a request's arrival to its first token
	ITL  = "itl"  // between a request's tokens: the mean over its own gaps
	E2E  = "e2e"  // from a request's arrival to its last token
)

// Mean is the statistic of an objective that names none.
const Mean = "mean"

// statistics over requests, and the share of requests that lies below each.
var statistics = map[string]float64{Mean: 0, "p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}

// Objective is one: a statistic over requests of one of their times. A mean ITL is
// over gaps; its percentiles are over requests, each with the mean of its own gaps.
type Objective struct {
	Metric    string  `json:"metric"`    // ttft, itl or e2e
	Statistic string  `json:"statistic"` // mean, p50, p90, p95 or p99
	MS        float64 `json:"ms"`        // most that it may be, ms
}

// String is the objective as Parse reads it: p90.ttft=250ms.
func (s Objective) String() string {
	return fmt.Sprintf("%s=%s", s.Name(), time.Duration(s.MS*float64(time.Millisecond)))
}

// Name is the objective without its bound: itl, p90.ttft.
func (s Objective) Name() string {
	if s.Statistic == Mean {
		return s.Metric
	}
	return s.Statistic + "." + s.Metric
}

// Parse reads a list such as ttft=250ms,p90.itl=20ms. A statistic is a mean where none
// is named. The error holds every mistake.
func Parse(text string) ([]Objective, error) {
	var list []Objective
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		name, bound, ok := strings.Cut(part, "=")
		statistic, metric, named := strings.Cut(strings.ToLower(strings.TrimSpace(name)), ".")
		if !named {
			statistic, metric = Mean, statistic
		}
		if _, known := statistics[statistic]; !ok || !known || !slices.Contains([]string{TTFT, ITL, E2E}, metric) {
			bad("%q: expected METRIC=TIME such as ttft=250ms or p90.itl=20ms; metrics are ttft, itl and e2e, statistics mean, p50, p90, p95 and p99", part)
			continue
		}
		d, err := time.ParseDuration(strings.TrimSpace(bound))
		if err != nil || d <= 0 {
			bad("%q: expected a time above 0 with its unit, such as 250ms or 1.5s", part)
			continue
		}
		s := Objective{Metric: metric, Statistic: statistic, MS: float64(d) / float64(time.Millisecond)}
		if slices.ContainsFunc(list, func(o Objective) bool { return o.Name() == s.Name() }) {
			bad("%q: %s is given twice", part, s.Name())
			continue
		}
		list = append(list, s)
	}
	return list, errors.Join(errs...)
}

// Format is the list as Parse reads it.
func Format(list []Objective) string {
	parts := make([]string, len(list))
	for i, s := range list {
		parts[i] = s.String()
	}
	return strings.Join(parts, ",")
}

// Quantile is the share of requests that lies below a percentile, and whether the
// statistic is one.
func (s Objective) Quantile() (share float64, ok bool) {
	return statistics[s.Statistic], s.Statistic != Mean
}
