package config

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/catalogue"
	"wfgen.dev/internal/sweep/linear4"
	"wfgen.dev/internal/version"
)

// What a sweep of simulated servers takes where nothing was said: one that a newcomer
// waits for.
const (
	simulatedSeconds = 4
	simulatedOutput  = 64 // tokens
)

// SimulatedJitter is the relative scatter of every token of a simulated server, as a
// quiet GPU shows.
const SimulatedJitter = 0.02

// Truth is what the simulated server of an accelerator follows: the catalogue's figures,
// or those of an A100 for one that it does not know.
func Truth(accelerator string) linear4.Model {
	a, ok := catalogue.Find(accelerator)
	if !ok {
		a, _ = catalogue.Find("A100")
	}
	return a.Simulated()
}

// SimulatedDefaults is the configuration with the defaults of a sweep of simulated
// servers, for the fields of which unset says that nobody said anything.
func (c Config) SimulatedDefaults(unset func(field string) bool) Config {
	if unset("driver") {
		c.Driver = sweep.Native
	}
	if unset("model") {
		c.Model = sweep.SimulatedModel
	}
	if unset("max-seconds") && unset("max-requests") && c.Precision == "" { // rounds choose how long
		c.MaxSeconds = simulatedSeconds
	}
	if unset("output-tokens") && unset("shapes") {
		for i := range c.Shapes {
			c.Shapes[i].OutputTokens = simulatedOutput
		}
	}
	return c
}

// SimulatedServers is the configuration with servers that are simulated. The sweep starts
// and ends them as it does real ones, but they ask for no GPU, run on any node, and ask
// for so little that two of them, and the load on them, fit into a laptop.
func (c Config) SimulatedServers() Config {
	c.Deploy = true
	c.Server = defaultServer()
	c.Server.Image = c.StepImage
	if c.Server.Image == "" {
		c.Server.Image = version.Image(c.ImageRegistry)
	}
	c.Server.Command = []string{"/step", "simulate"}
	c.Server.CPU, c.Server.Memory = "200m", "128Mi"
	c.Server.Shm, c.Server.CacheSize = "16Mi", "16Mi" // for what it does not write
	c.Server.Tolerations = []corev1.Toleration{}
	accelerators := make([]Accelerator, len(c.Accelerators))
	for i, a := range c.Accelerators {
		truth := Truth(a.Name)
		argument := func(name string, value float64) string {
			return fmt.Sprintf("--%s=%s", name, strconv.FormatFloat(value, 'g', -1, 64))
		}
		accelerators[i] = Accelerator{Name: a.Name, MaxNumSeqs: a.MaxNumSeqs, GPUCost: a.GPUCost, PrefillChunk: a.PrefillChunk, Simulated: true, Server: Server{Args: []string{
			argument("alpha", truth.Alpha), argument("beta", truth.Beta), argument("gamma", truth.Gamma), argument("delta", truth.Delta),
			argument("jitter", SimulatedJitter), fmt.Sprintf("--seed=%d", i+1),
		}}}
	}
	c.Accelerators = accelerators
	return c
}
