package capacity

import (
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/layout"
)

// Outputs are the values for Argo's output parameters, of the first shape of every
// accelerator and empty where its verdict is refused: the ends of the intervals to plan
// with. Where there is one accelerator they have names without it, too.
func Outputs(f File) map[layout.Output]string {
	outputs := map[layout.Output]string{}
	accelerators := 0
	for _, c := range f.Capacities {
		if _, ok := outputs[layout.OutCapacity.Of(c.Accelerator)]; ok {
			continue
		}
		rate, flight, cost := "", "", ""
		if c.Rate != nil {
			rate, flight = parameters.Format(c.Rate.Safe()), parameters.Format(c.InFlight.Safe())
		}
		if c.CostPerMillion != nil {
			dearest := c.CostPerMillion.Value
			if c.CostPerMillion.High != nil {
				dearest = *c.CostPerMillion.High
			}
			cost = parameters.Format(dearest)
		}
		outputs[layout.OutCapacity.Of(c.Accelerator)] = rate
		outputs[layout.OutConcurrency.Of(c.Accelerator)] = flight
		outputs[layout.OutCost.Of(c.Accelerator)] = cost
		outputs[layout.OutCapacity], outputs[layout.OutConcurrency], outputs[layout.OutCost] = rate, flight, cost
		accelerators++
	}
	if accelerators != 1 { // whose it would be is not said
		for _, name := range []layout.Output{layout.OutCapacity, layout.OutConcurrency, layout.OutCost} {
			delete(outputs, name)
		}
	}
	return outputs
}
