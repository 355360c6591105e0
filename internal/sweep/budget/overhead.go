package budget

import (
	"fmt"
	"slices"
	"strings"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/sweep"
)

// What a point costs beyond its load: start of the process, imports, tokenizer,
// calibration of prompts, shutdown. These are the overhead_seconds of measurements
// with the real guidellm, by minor version from, on two cores that do nothing else, as
//
//	make compare-drivers
//
// prints them for a server that has /metrics; a probe, where there are none, comes on
// top. Fewer or busier cores make them longer: Previous knows better.
var (
	guidellmOverhead = []struct {
		minor   int
		seconds float64
	}{{2, 8}, {3, 11}, {4, 20}, {7, 12}}
	nativeOverhead = 1.0
)

// PodOverhead is what a node of a workflow costs, seconds: scheduling, start and
// saving of artifacts. A point, and an accelerator's wait and estimate, are one each.
const PodOverhead = 5

// Overhead is what a point is expected to cost beyond its load, seconds, with a
// driver and its version, such as 0.7.3 or the tag v0.7.3; one that is not known is
// taken for the newest.
func Overhead(driver, version string) float64 {
	if driver == sweep.Native {
		return nativeOverhead
	}
	newest := guidellmOverhead[len(guidellmOverhead)-1].seconds
	var major, minor int
	if n, _ := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &major, &minor); n < 2 || major > 0 {
		return newest
	}
	seconds := guidellmOverhead[0].seconds
	for _, o := range guidellmOverhead {
		if minor >= o.minor {
			seconds = o.seconds
		}
	}
	return seconds
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
