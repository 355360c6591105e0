package capacity

import (
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/layout"
)

// Outputs are the values for Argo's output parameters, of the first shape of every
// accelerator and empty where its verdict is refused: the ends of the intervals to plan
// with.
func Outputs(f File) map[layout.Output]string {
	outputs := map[layout.Output]string{}
	for _, c := range f.Capacities {
		if _, ok := outputs[layout.OutCapacity(c.Accelerator)]; ok {
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
		outputs[layout.OutCapacity(c.Accelerator)] = rate
		outputs[layout.OutConcurrency(c.Accelerator)] = flight
		outputs[layout.OutCost(c.Accelerator)] = cost
	}
	return outputs
}
