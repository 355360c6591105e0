// Package linear4 is the latency model of a server at one shape, its names, units and
// formula: four parameters, of which two tell ITL and two TTFT.
package linear4

// The formula. Latencies are in ms; batch is how many requests the server decodes
// together.
const (
	ITL     = "ITL = alpha + beta*batch"
	TTFT    = "TTFT = gamma + delta*promptTokens*batch"
	Formula = ITL + ", " + TTFT
)

// Parameter is one of the four.
type Parameter struct {
	Name string
	Unit string
	Line string // ITL or TTFT, in which it stands
}

// Parameters are the four, in their order.
var Parameters = [4]Parameter{
	{"alpha", "ms", ITL},
	{"beta", "ms per request", ITL},
	{"gamma", "ms", TTFT},
	{"delta", "ms per token and request", TTFT},
}

// Names are their names.
func Names() []string {
	var names []string
	for _, p := range Parameters {
		names = append(names, p.Name)
	}
	return names
}

// Model holds values of the four.
type Model struct {
	Alpha float64 // ms
	Beta  float64 // ms per request
	Gamma float64 // ms
	Delta float64 // ms per prompt token per request
}

// Reference is Llama-3.1-8B at 128/128 tokens on a server of H100 class, as the
// tutorial of llm-d's workload variant autoscaler worked it out (ITL 7.0 and 8.7 ms,
// TTFT 15 and 26 ms at batch sizes 1 and 64).
var Reference = Model{Alpha: 6.973, Beta: 0.027, Gamma: 14.825, Delta: 0.001364}

// Values are the four in the order of Parameters.
func (m Model) Values() [4]float64 { return [4]float64{m.Alpha, m.Beta, m.Gamma, m.Delta} }

// ITL is the inter-token latency at a batch, ms.
func (m Model) ITL(batch float64) float64 { return m.Alpha + m.Beta*batch }

// TTFT is the time to first token at a batch, ms.
func (m Model) TTFT(promptTokens, batch float64) float64 { return m.Gamma + m.Delta*promptTokens*batch }
