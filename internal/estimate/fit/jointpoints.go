package fit

import (
	"fmt"
	"math"
	"slices"

	"wfgen.dev/internal/run/reason"
)

// jointPoint is a point that a joint model may use.
type jointPoint struct {
	Point
	index int
	shape int // number of its group
}

// withoutIdleShapes takes batch 1 out of each shape that has three or more busier
// points: iteration3 charges every request with the prefill of one more, its own,
// which a request alone in the server does not feel while it decodes.
func withoutIdleShapes(points []jointPoint, out []Exclusion) (use []jointPoint, _ []Exclusion) {
	busy := map[int]int{}
	for _, p := range points {
		if p.Batch >= 1.5 {
			busy[p.shape]++
		}
	}
	for _, p := range points {
		if p.Batch < 1.5 && busy[p.shape] >= 3 {
			out = append(out, Exclusion{p.index, reason.New(reason.Void, "a request alone in the server waits for no prefill, as the model says it does")})
			continue
		}
		use = append(use, p)
	}
	return use, out
}

// markQueuedShapes makes points void whose requests waited for a place, shape by shape.
func markQueuedShapes(points []Point) []Point {
	members := map[string][]int{}
	for i, p := range points {
		members[p.Group] = append(members[p.Group], i)
	}
	points = slices.Clone(points)
	for _, indices := range members {
		one := make([]Point, len(indices))
		for k, i := range indices {
			one[k] = points[i]
		}
		for k, p := range markQueued(one) {
			points[indices[k]] = p
		}
	}
	return points
}

// forJoint picks the points that a joint model may use: those of each shape up to
// where its ITL bends. needTTFT leaves out those whose TTFT is void.
func forJoint(points []Point, needTTFT bool) (use []jointPoint, out []Exclusion) {
	points = markQueuedShapes(points)
	groups := map[string]int{}
	var members [][]Point
	var indices [][]int
	use = make([]jointPoint, 0, len(points))
	for i, p := range points {
		g, ok := groups[p.Group]
		if !ok {
			g = len(members)
			groups[p.Group] = g
			members, indices = append(members, nil), append(indices, nil)
		}
		if void := p.unfitForJoint(needTTFT); void != nil {
			out = append(out, Exclusion{i, *void})
			continue
		}
		members[g] = append(members[g], p)
		indices[g] = append(indices[g], i)
	}
	for g, ps := range members {
		line, left := accepted(ps, "ITL", ofITL, false)
		for _, l := range left {
			out = append(out, Exclusion{indices[g][l.Index], l.Why})
		}
		slices.SortStableFunc(line, byX)
		n := len(line)
		if of := newProblem(line); of.shape(bendTolerance) == reason.Bend {
			_, n = of.bestRange(bendTolerance)
		}
		for k, p := range line {
			i := indices[g][p.index]
			if k >= n {
				out = append(out, Exclusion{i, reason.New(reason.Bend, "beyond the linear range of its shape")})
				continue
			}
			use = append(use, jointPoint{points[i], i, g})
		}
	}
	slices.SortFunc(use, func(a, b jointPoint) int { return a.index - b.index })
	return use, out
}

// unfitForJoint says why a joint model may not use the point beyond what linear4
// says; nil: it may.
func (p Point) unfitForJoint(needTTFT bool) *reason.Reason {
	void := func(format string, args ...any) *reason.Reason { return new(reason.New(reason.Void, format, args...)) }
	switch {
	case p.Void != nil:
		return p.Void
	case !(p.PromptTokens > 0) || math.IsInf(p.PromptTokens, 0):
		return void("its prompt length is %v", p.PromptTokens)
	case !(p.OutputTokens >= 2) || math.IsInf(p.OutputTokens, 0):
		return void("its output length is %v; there is no inter-token latency below 2", p.OutputTokens)
	case !needTTFT:
		return nil
	case p.VoidTTFT != nil:
		return p.VoidTTFT
	case !(p.TTFT.MS > 0) || math.IsInf(p.TTFT.MS, 0):
		return void("its TTFT is %v ms", p.TTFT.MS)
	}
	return nil
}

// begin makes a joint fit of the points, refused where they are not for one.
func begin(model string, points []Point) (*Joint, []jointPoint) {
	j := &Joint{Model: model, law: laws[model].law, Terms: slices.Clone(laws[model].terms), Verdict: NewVerdict(), Condition: math.NaN(), MeanError: math.NaN(), MeanTTFT: math.NaN(), WorstError: math.NaN(), LeftOut: math.NaN()}
	for _, p := range points {
		if p.Pair != points[0].Pair {
			j.Verdict.Refuse(reason.New(reason.Mixed, "points of %s and of %s are mixed; each needs a fit of its own", points[0].Pair, p.Pair))
			return j, nil
		}
	}
	use, out := forJoint(points, model == Engine)
	if model == Iteration3 {
		use, out = withoutIdleShapes(use, out)
	}
	j.Out = out
	shapes := map[int]bool{}
	for k, p := range use {
		shapes[p.shape] = true
		j.Used = append(j.Used, p.index)
		w := p.work()
		for _, d := range []struct {
			span  *[2]float64
			value float64
		}{{&j.Range.Batch, w.Batch}, {&j.Range.PromptTokens, w.PromptTokens}, {&j.Range.Context, w.context()}, {&j.Range.Cached, w.Batch * w.context()}} {
			if k == 0 {
				*d.span = [2]float64{d.value, d.value}
			}
			d.span[0], d.span[1] = min(d.span[0], d.value), max(d.span[1], d.value)
		}
		for _, l := range []struct {
			name             string
			ms               float64
			fastest, slowest float64
		}{{"ITL", p.ITL.MS, fastestITL, slowestITL}, {"TTFT", p.TTFT.MS, fastestTTFT, slowestTTFT}} {
			if len(j.Verdict.Reasons) > 0 {
				continue // once is enough
			}
			switch {
			case l.ms > l.slowest:
				j.Verdict.Refuse(reason.New(reason.Units, "the %s of %s is %.3g ms: that looks like microseconds, not milliseconds", l.name, p.Label, l.ms))
			case l.ms > 0 && l.ms < l.fastest:
				j.Verdict.Refuse(reason.New(reason.Units, "the %s of %s is %.3g ms: that looks like seconds, not milliseconds", l.name, p.Label, l.ms))
			}
		}
	}
	j.Shapes = len(shapes)
	if j.Shapes < 2 && j.Verdict.Level != Refused {
		why := fmt.Sprintf("points of %d shapes can be used; %s needs at least two", j.Shapes, model)
		if j.Shapes == 1 {
			why = fmt.Sprintf("all %d points that can be used are of one shape; %s needs at least two: %s", len(use), model, j.toAdd())
		}
		if len(out) > 0 {
			why += fmt.Sprintf("; %d left out, the first because: %s", len(out), out[0].Why)
		}
		j.Verdict.Refuse(reason.New(reason.Few, "%s", why))
	}
	if j.Verdict.Level == Refused {
		return j, nil
	}
	return j, use
}

// toAdd names the shapes that would tell the terms apart.
func (j *Joint) toAdd() string {
	in, context := j.Range.PromptTokens, j.Range.Context
	short, long := math.Round(in[0]), math.Round(in[1])
	out := max(2, math.Round(2*(context[1]-in[1])))
	if long >= 8*short && context[1] >= 4*in[1] {
		return fmt.Sprintf("add more batch sizes of the shapes measured, such as %.0f/%.0f", short, out)
	}
	other := long * 8
	if long >= 1024 {
		other = max(32, math.Round(short/8))
	}
	return fmt.Sprintf("add a shape of quite another prompt length and one of quite another output length, such as %.0f/%.0f and %.0f/%.0f", other, out, short, max(16, math.Round(8*out)))
}
