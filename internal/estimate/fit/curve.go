package fit

import (
	"math"
	"slices"
)

// BetweenRuns is the relative standard deviation by which two runs of the same point
// are taken to differ, however long they are, where a sweep did not measure it.
// Repeats on real servers: 0.2 % within one server, 0.5 to 2.7 % between runs an
// hour apart.
const BetweenRuns = 0.005

// Step is one step of a measured curve.
type Step struct {
	Batch     float64 // requests
	MS        float64
	Low, High float64 // 95 % interval of a run of this batch, ms
}

// Curve is the measured latency over the batch without a model: its only assumption
// is that latency does not fall when the batch grows (isotonic regression by pooling
// neighbours: M. Ayer and others, 1955). It is for those who need no line, where none
// holds.
type Curve struct{ ITL, TTFT []Step }

// MeasuredCurve is the curve of points of one model, accelerator and shape. Points of
// which neither line may make use are not in it; those beyond a linear range are.
// between is the relative standard deviation between runs.
func MeasuredCurve(points []Point, between float64) Curve {
	itl, _ := accepted(points, "ITL", ofITL, false)
	ttft, _ := accepted(points, "TTFT", ofTTFT, true)
	return Curve{ITL: monotone(itl, between), TTFT: monotone(ttft, between)}
}

// sameBatch is how much the measured batches of two runs of one point differ at most,
// relative.
const sameBatch = 0.02

// replicates are points in groups of one batch size, ascending.
func replicates(points []xy) [][]xy {
	points = slices.Clone(points)
	slices.SortStableFunc(points, byX)
	var groups [][]xy
	for _, p := range points {
		if n := len(groups); n > 0 && p.level <= groups[n-1][0].level*(1+sameBatch) {
			groups[n-1] = append(groups[n-1], p)
			continue
		}
		groups = append(groups, []xy{p})
	}
	return groups
}

func monotone(points []xy, between float64) []Step {
	samples, level := make([]Sample, len(points)), make([]float64, len(points))
	for i, p := range points {
		samples[i], level[i] = p.sample, p.level
	}
	own, freedom := smoothErrors(samples, level)
	index := map[int]int{}
	for i, p := range points {
		index[p.index] = i
	}
	quantile := 1.96
	if own != nil {
		quantile = Reach(freedom)
	}
	var batches, ms, half, weights []float64
	for _, group := range replicates(points) {
		sum, weight, batch := 0.0, 0.0, 0.0
		for _, p := range group {
			v := between * between * p.sample.MS * p.sample.MS
			if own != nil {
				v += own[index[p.index]]
			}
			weight += 1 / v
			sum += p.sample.MS / v
			batch += p.level / float64(len(group))
		}
		batches, ms, weights = append(batches, batch), append(ms, sum/weight), append(weights, weight)
		half = append(half, quantile*math.Sqrt(1/weight))
	}
	low, high := make([]float64, len(ms)), make([]float64, len(ms))
	for i := range ms {
		low[i], high[i] = max(0, ms[i]-half[i]), ms[i]+half[i]
	}
	ms, low, high = isotonic(ms, weights), isotonic(low, weights), isotonic(high, weights)
	steps := make([]Step, len(ms))
	for i := range steps {
		steps[i] = Step{Batch: batches[i], MS: ms[i], Low: low[i], High: high[i]}
	}
	return steps
}

// isotonic is the non-decreasing sequence that is closest to the values in weighted
// squares.
func isotonic(values, weights []float64) []float64 {
	type block struct {
		mean, weight float64
		members      int
	}
	var blocks []block
	for i, v := range values {
		blocks = append(blocks, block{v, weights[i], 1})
		for n := len(blocks); n > 1 && blocks[n-2].mean > blocks[n-1].mean; n = len(blocks) {
			a, b := blocks[n-2], blocks[n-1]
			w := a.weight + b.weight
			blocks[n-2] = block{(a.mean*a.weight + b.mean*b.weight) / w, w, a.members + b.members}
			blocks = blocks[:n-1]
		}
	}
	out := make([]float64, 0, len(values))
	for _, b := range blocks {
		for range b.members {
			out = append(out, b.mean)
		}
	}
	return out
}
