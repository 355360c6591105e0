package budget

import (
	"slices"
	"strings"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/release"
)

// nativeOverhead is what a point of the native driver costs beyond its load, seconds.
const nativeOverhead = 1.0

// Overhead is what a point is expected to cost beyond its load, seconds, with a driver
// and, where that is guidellm, the version in its image; Previous knows better.
func Overhead(driver, image string) float64 {
	if driver == sweep.Native {
		return nativeOverhead
	}
	version, _ := release.OfImage(image)
	return version.Traits().OverheadSeconds
}

// Previous is o with what an earlier run knows better: how long the model's requests
// took on the accelerators and shapes that it measured, and, if it was made with this
// driver, what a point cost beyond its load.
func (o Options) Previous(s parameters.Summary, model, driver string) Options {
	points, overhead := 0, 0.0
	for _, p := range s.Parameters {
		if slices.ContainsFunc(p.Provenance.Driver, func(name string) bool { return strings.HasPrefix(name+" ", driver+" ") }) {
			points += len(p.Fit.Points)
			overhead += p.Provenance.OverheadSeconds
		}
	}
	if points > 0 && overhead > 0 {
		o.Overhead = overhead / float64(points)
	}
	plausible := o.RequestSeconds
	o.RequestSeconds = func(accelerator string, shape sweep.Shape, batch int) float64 {
		for _, p := range s.Parameters {
			known, ok := p.Values()
			if p.Model != model || p.Accelerator != accelerator || p.Shape != shape || !p.Published() || !ok {
				continue
			}
			n := float64(batch)
			return (known.TTFT(float64(shape.PromptTokens), n) + float64(shape.OutputTokens-1)*known.ITL(n)) / 1000
		}
		return plausible(accelerator, shape, batch)
	}
	return o
}

// levelOverhead is what guidellm takes from one batch size to the next in one process,
// seconds.
const levelOverhead = 4.0

// overhead is that of a point of s: its share where the batch sizes of a shape share
// a process.
func (o Options) overhead(s sweep.Sweep) float64 {
	n := float64(len(s.BatchSizes))
	if !s.ShareProcess || s.Driver != sweep.Guidellm || n < 2 {
		return o.Overhead
	}
	return (o.Overhead + (n-1)*levelOverhead) / n
}
