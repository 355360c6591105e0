package design

import (
	"math"
	"slices"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
)

// OrdinaryIteration3 are the terms of iteration3 supposed of a server of which nothing
// is known: ms, ms per request, ms per token and request.
var OrdinaryIteration3 = [3]float64{6.5, 0.02, 5.5e-5}

// OrdinaryShapes tell those terms apart.
func OrdinaryShapes() []sweep.Shape {
	shapes := []sweep.Shape{{PromptTokens: 64, OutputTokens: 64}}
	for _, prompt := range []int{64, 256, 1024, 4096} {
		for _, output := range []int{64, 256, 1024} {
			s := sweep.Shape{PromptTokens: prompt, OutputTokens: output}
			if s != shapes[0] && (prompt < 4096 || output < 1024) {
				shapes = append(shapes, s)
			}
		}
	}
	return shapes
}

// OrdinaryLinear4 are the four parameters of such a server at a shape.
func OrdinaryLinear4(s sweep.Shape) [4]float64 {
	in, out := float64(s.PromptTokens), float64(s.OutputTokens)
	e := OrdinaryIteration3
	return [4]float64{e[0], e[1]*(in+out)/(out+1) + e[2]*(in+out/2), 15 + 0.025*in, (0.08 + 0.0001*in) / in}
}

// NoiseOf is the noise of points whose relative standard errors are these, each carried
// to one second: their medians, or DefaultNoise where there are none.
func NoiseOf(itl, ttft []float64) Noise {
	if len(itl) == 0 || len(ttft) == 0 {
		return DefaultNoise
	}
	slices.Sort(itl)
	slices.Sort(ttft)
	return Noise{ITL: itl[len(itl)/2], TTFT: ttft[len(ttft)/2]}
}

// PerSecond carries the relative standard error of a point of so many seconds to one.
func PerSecond(standardError, mean, seconds float64) float64 {
	return standardError / mean * math.Sqrt(seconds)
}

// requestSeconds is how long a request takes by the four parameters, with so many running.
func requestSeconds(law [4]float64, s sweep.Shape, batch int) float64 {
	m := linear4.Model{Alpha: law[0], Beta: law[1], Gamma: law[2], Delta: law[3]}
	n := float64(batch)
	return (m.TTFT(float64(s.PromptTokens), n) + float64(s.OutputTokens)*m.ITL(n)) / 1000
}
