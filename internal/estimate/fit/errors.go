package fit

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// smoothErrors makes the variance (ms squared) of each sample out of its own,
// which a handful of blocks know badly, and of a trend through all: the relative
// variance as a power of level. How far each is drawn to the trend follows from
// how far they scatter about it beyond what their numbers of blocks explain
// (empirical Bayes: G. K. Smyth, "Linear models and empirical Bayes methods",
// 2004, with a trend in the prior). Weights from unsmoothed errors follow their
// noise, and intervals made with them come out too narrow.
//
// freedom is the sum of the samples' degrees of freedom. Samples without an error
// of their own get the trend's. Without any error at all the result is nil.
func smoothErrors(samples []Sample, level []float64) (variances []float64, freedom float64) {
	known := 0
	freest := 0.0
	for _, s := range samples {
		if f := s.freedom(); f > 0 {
			known++
			freedom += f
			freest = max(freest, f)
		}
	}
	if known == 0 {
		return nil, 0
	}

	// The log of a sample variance with f degrees of freedom lies below that of
	// the true one by bias(f) in the mean, with variance spread(f).
	bias, spread := map[float64]float64{}, map[float64]float64{}
	logs := make([]float64, len(samples))
	xs := make([]float64, len(samples))
	sums := struct{ w, x, y, xx, xy float64 }{}
	for i, s := range samples {
		xs[i] = math.Log(max(level[i], 1e-9))
		f := s.freedom()
		if f == 0 {
			continue
		}
		if _, ok := bias[f]; !ok {
			bias[f] = mathext.Digamma(f/2) - math.Log(f/2)
			spread[f] = trigamma(f / 2)
		}
		logs[i] = 2*math.Log(max(s.StandardError/s.MS, negligible)) - bias[f]
		w := 1 / spread[f]
		sums.w += w
		sums.x += w * xs[i]
		sums.y += w * logs[i]
	}
	mx, my := sums.x/sums.w, sums.y/sums.w
	for i, s := range samples {
		if f := s.freedom(); f > 0 {
			sums.xx += (xs[i] - mx) * (xs[i] - mx) / spread[f]
			sums.xy += (xs[i] - mx) * (logs[i] - my) / spread[f]
		}
	}
	slope, parameters := 0.0, 1
	if known >= 5 && sums.xx > 1e-9*sums.w {
		slope, parameters = sums.xy/sums.xx, 2
	}
	trend := func(i int) float64 { return my + slope*(xs[i]-mx) }

	// What the logs scatter beyond their spread says how alike the points are.
	excess, expected := 0.0, 0.0
	for i, s := range samples {
		if f := s.freedom(); f > 0 {
			excess += (logs[i] - trend(i)) * (logs[i] - trend(i))
			expected += spread[f] / float64(known)
		}
	}
	prior := math.Inf(1) // degrees of freedom of the trend
	if known > parameters {
		if own := excess/float64(known-parameters) - expected; own > 1e-3 {
			prior = 2 * inverseTrigamma(own)
		}
	}

	variances = make([]float64, len(samples))
	for i, s := range samples {
		at := math.Exp(trend(i))
		relative := at
		if !math.IsInf(prior, 1) {
			at *= math.Exp(mathext.Digamma(prior/2) - math.Log(prior/2))
			own := s.StandardError / s.MS
			relative = (prior*at + s.freedom()*own*own) / (prior + s.freedom())
		}
		variances[i] = max(relative, negligible*negligible) * s.MS * s.MS
	}
	return variances, freedom
}

// trigamma is the second derivative of the log of the gamma function.
func trigamma(x float64) float64 { return mathext.Zeta(2, x) }

// inverseTrigamma solves trigamma(x) = y for y > 0 by Newton's method, which
// converges from below for this start (Smyth 2004, appendix).
func inverseTrigamma(y float64) float64 {
	if y > 1e7 {
		return 1 / math.Sqrt(y)
	}
	x := 0.5 + 1/y
	for range 50 {
		t := trigamma(x)
		step := t * (1 - t/y) / (-2 * mathext.Zeta(3, x))
		x += step
		if -step/x < 1e-10 {
			break
		}
	}
	return x
}
