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

// reading is what of a server's time is spent on reading the accelerator's memory once.
type reading struct {
	name   string        // of the parameter
	takes  fit.Parameter // ms; without an interval its value decides
	bytes  float64       // read meanwhile, by all GPUs
	of     string        // what they are
	slowed string        // what may slow it down
}

// floor holds a time, ms, against that in which one GPU's memory, whose bandwidth the
// catalogue has from the vendor's data sheet, can be read for its part of the bytes:
// nothing is quicker. It returns the share of the bandwidth that is reached, percent,
// where the accelerator is known, and what is certainly wrong with it.
func floor(accelerator string, r reading, gpus int) (percent float64, why *reason.Reason) {
	a, known := catalogue.Find(accelerator)
	if !known || !(r.bytes > 0) || !(r.takes.Value > 0) {
		return math.NaN(), nil
	}
	gpus = max(1, gpus)
	reached := func(ms float64) float64 { return r.bytes / float64(gpus) / (a.Bandwidth * 1e12) / (ms / 1000) }
	share := reached(r.takes.Value)
	slowest, quickest := r.takes.Value, r.takes.Value
	if r.takes.HasInterval() {
		slowest, quickest = max(r.takes.High, slowest), min(max(r.takes.Low, math.SmallestNonzeroFloat64), quickest)
	}
	text := fmt.Sprintf("%s of %.3g ms reads %s at %.3g %% of the bandwidth of %s (%.3g TB/s a GPU, %d)",
		r.name, r.takes.Value, r.of, 100*share, a.Name, a.Bandwidth, gpus)
	switch {
	case reached(slowest) > 1:
		r := reason.New(reason.Floor, "%s, which is impossible", text).Cured("look for another accelerator than the label says, another unit than ms, fewer bytes, or speculative decoding")
		return 100 * share, &r
	case reached(quickest) < leastBandwidth:
		r := reason.New(reason.Floor, "%s: the time goes elsewhere", text).Cured("look at %s, and at whether there are that many bytes", r.slowed)
		return 100 * share, &r
	}
	return 100 * share, nil
}

// readsWeights is an iteration of an idle server.
func readsWeights(name string, takes fit.Parameter, o Options) reading {
	return reading{name, takes, o.WeightsGB * 1e9, fmt.Sprintf("%.4g GB of weights", o.WeightsGB), "the server's CPU, at eager execution"}
}

// holdEngineAgainstFloor warns of the terms of engine that read memory, or refuses them,
// and returns the share of the bandwidth that they reach, percent, by their names.
func holdEngineAgainstFloor(j *fit.Joint, accelerator string, o Options) map[string]float64 {
	shares := map[string]float64{}
	for _, t := range j.Terms {
		var r reading
		switch t.Name {
		case "base":
			r = readsWeights(t.Name, t.Parameter, o)
		case "ctx":
			r = reading{t.Name, t.Parameter, o.CacheBytes, fmt.Sprintf("%.0f bytes of cache", o.CacheBytes), "the server's attention backend"}
		}
		percent, why := floor(accelerator, r, o.GPUs)
		switch {
		case math.IsNaN(percent) || j.Verdict.Level == fit.Refused:
			continue
		case why != nil && percent > 100:
			j.Verdict.Refuse(*why)
		case why != nil:
			j.Verdict.Warn(*why)
		}
		shares[t.Name] = percent
	}
	return shares
}

// holdAgainstFloor warns of alpha, or refuses it where it is impossible.
func holdAgainstFloor(f *fit.Linear4, accelerator string, o Options) *float64 {
	if f.ITL == nil || math.IsNaN(f.Alpha.Value) {
		return nil
	}
	percent, why := floor(accelerator, readsWeights("alpha", f.Alpha, o), o.GPUs)
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
