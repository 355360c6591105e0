package capacity

import (
	"cmp"
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

// statistics over requests, and the share of requests that lies below each.
var statistics = map[string]float64{"mean": 0, "p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}

// SLO is one objective: a statistic over requests of one of their times. A mean ITL is
// over gaps; its percentiles are over requests, each with the mean of its own gaps.
type SLO struct {
	Metric    string  `json:"metric"`    // ttft, itl or e2e
	Statistic string  `json:"statistic"` // mean, p50, p90, p95 or p99
	MS        float64 `json:"ms"`        // most that it may be, ms
}

// String is the objective as ParseSLOs reads it: p90.ttft=250ms.
func (s SLO) String() string {
	return fmt.Sprintf("%s=%s", s.Name(), time.Duration(s.MS*float64(time.Millisecond)))
}

// Name is the objective without its bound: itl, p90.ttft.
func (s SLO) Name() string {
	if s.Statistic == "mean" {
		return s.Metric
	}
	return s.Statistic + "." + s.Metric
}

// ParseSLOs reads a list such as ttft=250ms,p90.itl=20ms. A statistic is a mean where none
// is named. The error holds every mistake.
func ParseSLOs(text string) ([]SLO, error) {
	var slos []SLO
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		name, bound, ok := strings.Cut(part, "=")
		statistic, metric, named := strings.Cut(strings.ToLower(strings.TrimSpace(name)), ".")
		if !named {
			statistic, metric = "mean", statistic
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
		s := SLO{Metric: metric, Statistic: statistic, MS: float64(d) / float64(time.Millisecond)}
		if slices.ContainsFunc(slos, func(o SLO) bool { return o.Name() == s.Name() }) {
			bad("%q: %s is given twice", part, s.Name())
			continue
		}
		slos = append(slos, s)
	}
	return slos, errors.Join(errs...)
}

// FormatSLOs is the list as ParseSLOs reads it.
func FormatSLOs(slos []SLO) string {
	parts := make([]string, len(slos))
	for i, s := range slos {
		parts[i] = s.String()
	}
	return strings.Join(parts, ",")
}

// of is the statistic of what clients saw, ms. It reorders the observations.
func (s SLO) of(o *observed) float64 {
	values := o.ttft
	switch s.Metric {
	case ITL:
		values = o.itl
	case E2E:
		values = o.e2e
	}
	if s.Statistic != "mean" {
		return quantile(values, statistics[s.Statistic])
	}
	if s.Metric == ITL {
		return o.meanITL
	}
	return mean(values)
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// quantile is the value below which a share of the values lies. It reorders them.
func quantile[T cmp.Ordered](values []T, share float64) T {
	k := min(len(values)-1, int(share*float64(len(values))))
	low, high := 0, len(values)-1
	for low < high {
		pivot := values[low+(high-low)/2]
		i, j := low, high
		for i <= j {
			for values[i] < pivot {
				i++
			}
			for values[j] > pivot {
				j--
			}
			if i <= j {
				values[i], values[j] = values[j], values[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			high = j
		case k >= i:
			low = i
		default:
			return values[k]
		}
	}
	return values[k]
}
