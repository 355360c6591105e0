package aggregate

import (
	"fmt"
	"math"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/sweep/catalogue"
)

// leastBandwidth is the share of the memory's bandwidth below which a server's
// iterations wait for something else than its weights.
const leastBandwidth = 0.20

// floor holds an idle server's iteration, ms, against the time in which one GPU's
// memory, whose bandwidth the catalogue has from the vendor's data sheet, can be read
// for its part of the weights: no iteration is shorter. It returns the share of the
// bandwidth that is reached, percent, where the accelerator is known, and what is wrong
// with it.
func floor(accelerator string, alpha, weightsGB float64, gpus int) (percent float64, why *reason.Reason) {
	a, known := catalogue.Find(accelerator)
	if !known || !(weightsGB > 0) || !(alpha > 0) {
		return math.NaN(), nil
	}
	share := weightsGB / 1000 / float64(max(1, gpus)) / a.Bandwidth / (alpha / 1000)
	text := fmt.Sprintf("alpha of %.3g ms reads %.4g GB of weights at %.3g %% of the bandwidth of %s (%.3g TB/s a GPU, %d)",
		alpha, weightsGB, 100*share, a.Name, a.Bandwidth, max(1, gpus))
	switch {
	case share > 1:
		r := reason.New(reason.Floor, "%s, which is impossible", text).Cured("look for another accelerator than the label says, another unit than ms, fewer or smaller weights, or speculative decoding")
		return 100 * share, &r
	case share < leastBandwidth:
		r := reason.New(reason.Floor, "%s: an iteration waits for something else", text).Cured("look at the server's CPU, at eager execution, and at whether the weights are that large")
		return 100 * share, &r
	}
	return 100 * share, nil
}

// holdAgainstFloor warns of alpha, or refuses it where it is impossible.
func holdAgainstFloor(f *fit.Linear4, accelerator string, o Options) *float64 {
	if f.ITL == nil || math.IsNaN(f.Alpha.Value) {
		return nil
	}
	percent, why := floor(accelerator, f.Alpha.Value, o.WeightsGB, o.GPUs)
	switch {
	case why != nil && percent > 100:
		f.RefuseITL(*why)
	case why != nil:
		f.Verdict.Warn(*why)
	}
	if math.IsNaN(percent) {
		return nil
	}
	return &percent
}
