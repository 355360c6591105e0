package pods

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	corev1 "k8s.io/api/core/v1"

	"wfgen.dev/internal/sweep/plan"
)

// Need is what a kind of pods asks a node for.
type Need struct {
	Pods  string
	Asks  corev1.ResourceList
	Nodes map[string]string // labels that the node must have; empty: any node
}

// Needs are those of all pods of a sweep in a cluster, the largest first.
func Needs(p plan.Plan) []Need {
	var needs []Need
	for _, a := range p.Deployed() {
		needs = append(needs, Need{"server of " + a.Name, ServerContainer(p, a, PlainSizes(p, a)).Resources.Requests, a.Nodes})
	}
	return append(needs,
		Need{"each point", LoadResources(p).Requests, p.LoadGeneratorNodeSelector},
		Need{"estimate, summary", Medium.Requests, nil},
		Need{"all others", Small.Requests, nil})
}

// WriteNeeds prints them.
func WriteNeeds(w io.Writer, needs []Need) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\na node must offer, to\tCPUs\tmemory\tGPUs\tlabels")
	for _, n := range needs {
		gpus, labels := "-", "-"
		for _, name := range slices.Sorted(maps.Keys(n.Asks)) {
			if name != corev1.ResourceCPU && name != corev1.ResourceMemory {
				q := n.Asks[name]
				gpus = q.String() + " " + string(name)
			}
		}
		if len(n.Nodes) > 0 {
			var list []string
			for _, key := range slices.Sorted(maps.Keys(n.Nodes)) {
				list = append(list, key+"="+n.Nodes[key])
			}
			labels = strings.Join(list, ",")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", n.Pods, n.Asks.Cpu(), n.Asks.Memory(), gpus, labels)
	}
	return t.Flush()
}
