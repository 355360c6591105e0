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
	bytes  float64       // read meanwhile, by one GPU
	of     string        // what they are
	slowed string        // what may slow it down
}

// floor holds a time, ms, against that in which the bytes can be read out of one GPU's
// memory, whose bandwidth the catalogue has from the vendor's data sheet:
// nothing is quicker. It returns the share of the bandwidth that is reached, percent,
// where the accelerator is known, and what is certainly wrong with it.
func floor(accelerator string, r reading) (percent float64, why *reason.Reason) {
	a, known := catalogue.Find(accelerator)
	if !known || !(r.bytes > 0) || !(r.takes.Value > 0) {
		return math.NaN(), nil
	}
	reached := func(ms float64) float64 { return r.bytes / (a.Bandwidth * 1e12) / (ms / 1000) }
	share := reached(r.takes.Value)
	slowest, quickest := r.takes.Value, r.takes.Value
	if r.takes.HasInterval() {
		slowest, quickest = max(r.takes.High, slowest), min(max(r.takes.Low, math.SmallestNonzeroFloat64), quickest)
	}
	text := fmt.Sprintf("%s of %.3g ms reads %s at %.3g %% of the bandwidth of %s (%.3g TB/s a GPU)",
		r.name, r.takes.Value, r.of, 100*share, a.Name, a.Bandwidth)
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

// share is what one GPU reads of what all share.
func (o Options) share(bytes float64) float64 { return bytes / float64(max(1, o.GPUs)) }

// shared is how the GPUs share it, in words.
func (o Options) shared() string {
	if o.GPUs > 1 {
		return fmt.Sprintf(", shared by %d GPUs", o.GPUs)
	}
	return ""
}

// readsWeights is an iteration of an idle server: given, or what the server itself reckons
// to read for a token of a request that it has alone.
func readsWeights(name string, takes fit.Parameter, ms []Source, o Options) reading {
	r := reading{name: name, takes: takes, bytes: o.share(o.WeightsGB * 1e9), of: fmt.Sprintf("%.4g GB of weights%s", o.WeightsGB, o.shared()),
		slowed: "the server's CPU, at eager execution"}
	if o.WeightsGB == 0 {
		r.bytes = reckoned(ms)
		r.of = fmt.Sprintf("%.4g GB, which the server reckons to read for a token,", r.bytes/1e9)
	}
	return r
}

// alone is the batch below which an iteration makes one token.
const alone = 1.05

// reckoned is how many bytes one GPU reads for a token of a request that is alone, by the
// server's own account: the weights, and a cache that is small beside them where the
// request is short. The least of all points is taken; 0 where no server says it.
func reckoned(ms []Source) float64 {
	least := 0.0
	for _, m := range ms {
		w := m.Server
		if w == nil || w.BytesRead == nil || w.Tokens == nil || w.TokensPerGap != nil || !(*w.Tokens > 0) || m.Taken.Batch > alone {
			continue
		}
		if bytes := *w.BytesRead / *w.Tokens; bytes > 0 && (least == 0 || bytes < least) {
			least = bytes
		}
	}
	return least
}

// holdEngineAgainstFloor warns of the terms of engine that read memory, or refuses them,
// and returns the share of the bandwidth that they reach, percent, by their names.
func holdEngineAgainstFloor(j *fit.Joint, accelerator string, ms []Source, o Options) map[string]float64 {
	shares := map[string]float64{}
	for _, t := range j.Terms {
		var r reading
		switch t.Name {
		case "base":
			r = readsWeights(t.Name, t.Parameter, ms, o)
		case "ctx":
			r = reading{t.Name, t.Parameter, o.share(o.CacheBytes), fmt.Sprintf("%.0f bytes of cache%s", o.CacheBytes, o.shared()), "the server's attention backend"}
		}
		percent, why := floor(accelerator, r)
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
func holdAgainstFloor(f *fit.Linear4, accelerator string, ms []Source, o Options) *float64 {
	if f.ITL == nil || math.IsNaN(f.Alpha.Value) {
		return nil
	}
	percent, why := floor(accelerator, readsWeights("alpha", f.Alpha, ms, o))
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
