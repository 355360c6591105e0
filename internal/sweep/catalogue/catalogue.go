// Package catalogue knows the common accelerators: how a cluster offers them,
// how a pod selects their nodes, and how fast a server on one of them plausibly
// is, so that a sweep can be tried without one.
package catalogue

import (
	"strconv"
	"sync"

	"github.com/xrash/smetrics"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
)

// Accelerator is one GPU type of the catalogue.
type Accelerator struct {
	Name     string // as autoscalers commonly name it
	Resource string // extended resource that a pod asks for
	Label    string // node label that tells this type from others
	Value    string // its value on a node of this type

	MemoryGB  int     // memory of one GPU, 10^9 bytes
	Bandwidth float64 // of that memory, TB/s: what a decode step waits for
	Compute   float64 // dense BF16 (FP16 where there is none), TFLOP/s: what a prefill waits for
}

// Labels and values are what the vendors' own discovery sets on nodes, from the sources
// below. Memory, bandwidth and compute are the vendors' data sheets. Products come in
// variants (PCIe, memory size): whoever has another one writes its label into the
// configuration.
var accelerators = []Accelerator{
	// NVIDIA GPU feature discovery makes the value of the name that nvidia-smi shows, with
	// dashes for spaces; the newest names are those of the devices in vLLM's files of Triton
	// settings (vllm/model_executor/layers/fused_moe/configs/*device_name=NVIDIA_B300_SXM6_AC*).
	// https://github.com/NVIDIA/k8s-device-plugin/tree/main/docs/gpu-feature-discovery
	nvidia("A100", "NVIDIA-A100-SXM4-80GB", 80, 2.04, 312),
	nvidia("H100", "NVIDIA-H100-80GB-HBM3", 80, 3.35, 989),
	nvidia("H200", "NVIDIA-H200", 141, 4.8, 989),
	nvidia("B200", "NVIDIA-B200", 180, 8.0, 2250),
	nvidia("GB200", "NVIDIA-GB200", 186, 8.0, 2500),
	nvidia("B300", "NVIDIA-B300-SXM6-AC", 288, 8.0, 2250),
	nvidia("GB300", "NVIDIA-GB300", 288, 8.0, 2500),
	nvidia("H20", "NVIDIA-H20", 96, 4.0, 148),
	nvidia("RTX-PRO-6000", "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", 96, 1.6, 500),
	nvidia("L20", "NVIDIA-L20", 48, 0.864, 119.5),
	nvidia("L40S", "NVIDIA-L40S", 48, 0.864, 362),
	nvidia("L4", "NVIDIA-L4", 24, 0.300, 121),
	nvidia("A10G", "NVIDIA-A10G", 24, 0.600, 70),
	nvidia("A10", "NVIDIA-A10", 24, 0.600, 125),
	nvidia("T4", "Tesla-T4", 16, 0.320, 65),
	nvidia("V100", "Tesla-V100-SXM2-32GB", 32, 0.900, 125),
	// AMD's node labeller takes the product name that the driver reads from the board, with
	// underscores for spaces: that of the MI300X is in its documentation, the others are the
	// devices in vLLM's settings (device_name=AMD_Instinct_MI325_OAM, …_MI355_OAM).
	// https://github.com/ROCm/k8s-device-plugin/blob/master/docs/user-guide/installation.md
	amd("MI300X", "AMD_Instinct_MI300X_OAM", 192, 5.3, 1307),
	amd("MI325X", "AMD_Instinct_MI325_OAM", 256, 6.0, 1307),
	amd("MI355X", "AMD_Instinct_MI355_OAM", 288, 8.0, 2500),
	// https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus, and for the chips
	// https://cloud.google.com/tpu/docs/v5e, …/v5p and …/v6e
	tpu("TPU-v5e", "tpu-v5-lite-podslice", 16, 0.819, 197),
	tpu("TPU-v5p", "tpu-v5p-slice", 95, 2.765, 459),
	tpu("TPU-v6e", "tpu-v6e-slice", 32, 1.64, 918),
	// Intel's feature discovery takes the type from sysfs, where the driver habanalabs writes
	// it; its label habana.ai/product.name is the server's, not the accelerator's.
	// https://github.com/HabanaAI/gaudi-feature-discovery/blob/main/collector/collector.go
	gaudi("Gaudi2", "GAUDI2", 96, 2.45, 432),
	gaudi("Gaudi3", "GAUDI3", 128, 3.7, 1835),
}

func nvidia(name, product string, memory int, bandwidth, compute float64) Accelerator {
	return Accelerator{name, "nvidia.com/gpu", "nvidia.com/gpu.product", product, memory, bandwidth, compute}
}

func amd(name, product string, memory int, bandwidth, compute float64) Accelerator {
	return Accelerator{name, "amd.com/gpu", "amd.com/gpu.product-name", product, memory, bandwidth, compute}
}

func gaudi(name, device string, memory int, bandwidth, compute float64) Accelerator {
	return Accelerator{name, "habana.ai/gaudi", "habana.ai/device.type", device, memory, bandwidth, compute}
}

// tpu is one of Google's, by the label of GKE.
func tpu(name, accelerator string, memory int, bandwidth, compute float64) Accelerator {
	return Accelerator{name, "google.com/tpu", "cloud.google.com/gke-tpu-accelerator", accelerator, memory, bandwidth, compute}
}

// Find looks an accelerator up by name; case and punctuation do not matter.
func Find(name string) (Accelerator, bool) {
	a, ok := bySlug()[sweep.Slug(name)]
	return a, ok
}

var bySlug = sync.OnceValue(func() map[string]Accelerator {
	all := make(map[string]Accelerator, len(accelerators))
	for _, a := range accelerators {
		all[sweep.Slug(a.Name)] = a
	}
	return all
})

// Names lists the catalogue in its own order.
func Names() []string {
	names := make([]string, len(accelerators))
	for i, a := range accelerators {
		names[i] = a.Name
	}
	return names
}

// Nearest is the name in the catalogue that is most like an unknown one, empty
// when none is.
func Nearest(name string) string {
	best, score := "", 0.75 // below it a suggestion would puzzle more than help
	for _, a := range accelerators {
		if s := smetrics.JaroWinkler(sweep.Slug(a.Name), sweep.Slug(name), 0.7, 4); s > score {
			best, score = a.Name, s
		}
	}
	return best
}

// Simulated are plausible parameters of a server of an 8B model at 128/128 tokens
// on this accelerator: the reference, its decode terms and the fixed part of its
// prefill scaled by memory bandwidth, its prefill per token by compute. They are
// for trying a sweep, not for planning capacity.
func (a Accelerator) Simulated() linear4.Model {
	h100, _ := Find("H100")
	memory, compute := h100.Bandwidth/a.Bandwidth, h100.Compute/a.Compute
	return linear4.Model{
		Alpha: round(linear4.Reference.Alpha * memory),
		Beta:  round(linear4.Reference.Beta * memory),
		Gamma: round(linear4.Reference.Gamma * memory),
		Delta: round(linear4.Reference.Delta * compute),
	}
}

// round keeps four significant digits: more would look like knowledge.
func round(x float64) float64 {
	x, _ = strconv.ParseFloat(strconv.FormatFloat(x, 'g', 4, 64), 64) // it was written by FormatFloat
	return x
}
