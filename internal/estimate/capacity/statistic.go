package capacity

import (
	"cmp"

	"wfgen.dev/internal/sweep/slo"
)

// statistic is the statistic of what clients saw, ms. It reorders the observations.
func statistic(s slo.Objective, o *observed) float64 {
	values := o.ttft
	switch s.Metric {
	case slo.ITL:
		values = o.itl
	case slo.E2E:
		values = o.e2e
	}
	if share, ok := s.Quantile(); ok {
		return quantile(values, share)
	}
	if s.Metric == slo.ITL {
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
