//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/layout"
)

// findings are what the run tells beside whether it passed: nothing here is asserted,
// since a busy machine is slower than a quiet one.
var findings struct {
	sync.Mutex
	speeds         []speed
	inside, beside int // truths in and out of their 95 % intervals
	outside        []string
}

// speed is what a workflow took on top of the load itself, in seconds.
type speed struct {
	name                 string
	accelerators, points int
	bench, wall          float64
	// Of a point, means: from its node's creation to the first request, from the last
	// answer to the end of the node, from there to the next point's node.
	start, save, next float64
}

// recordSpeed takes a workflow's times from its nodes and measurements. Points are
// single pods; those that were retried are left out.
func (n *namespace) recordSpeed(w wfv1.Workflow) {
	n.t.Helper()
	s := speed{name: n.t.Name() + " " + w.Name, wall: w.Status.FinishedAt.Sub(w.Status.StartedAt.Time).Seconds()}
	type key struct{ accelerator, point string }
	loads := map[key]measurement.Measurement{}
	accelerators := map[string]bool{}
	for _, k := range n.keys(layout.Run(w.Name)) {
		if strings.Contains(k, "/"+layout.Measurements+"/") {
			m := decode(n, k, measurement.Decode)
			loads[key{m.Accelerator, strings.TrimSuffix(path.Base(k), ".json")}] = m
			accelerators[m.Accelerator] = true
			s.bench += m.Seconds
		}
	}
	s.accelerators, s.points = len(accelerators), len(loads)
	var starts, saves, nexts []float64
	last := map[string]time.Time{}
	for _, node := range pods(w, "point") {
		a := node.Inputs.GetParameterByName("accelerator").Value.String()
		point := node.Inputs.GetParameterByName("prompt-tokens").Value.String() + "-" + node.Inputs.GetParameterByName("output-tokens").Value.String() +
			"-b" + node.Inputs.GetParameterByName("batch-size").Value.String() + node.Inputs.GetParameterByName("again").Value.String()
		m, ok := loads[key{a, point}]
		if !ok || node.Phase != wfv1.NodeSucceeded {
			continue
		}
		created, ended := unix(node.StartedAt.Time), unix(node.FinishedAt.Time)
		starts = append(starts, m.StartedAt-created)
		saves = append(saves, ended-m.StartedAt-m.Seconds)
		if !last[a].IsZero() {
			nexts = append(nexts, node.StartedAt.Sub(last[a]).Seconds())
		}
		last[a] = node.FinishedAt.Time
	}
	s.start, s.save, s.next = mean(starts), mean(saves), mean(nexts)
	findings.Lock()
	defer findings.Unlock()
	findings.speeds = append(findings.speeds, s)
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

func sortNodes(nodes []wfv1.NodeStatus) {
	slices.SortFunc(nodes, func(a, b wfv1.NodeStatus) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt.Time), cmp.Compare(a.ID, b.ID))
	})
}

// tolerances of an estimate against the truth, as fractions of the truth. They allow
// for a machine whose cores have other work to do, on which servers answer late, and
// are far narrower than any mistake: a wrong unit, a wrong batch, a wrong shape.
var tolerances = map[string]float64{"alpha": 0.05, "beta": 0.20, "gamma": 0.20, "delta": 0.30}

// agrees holds parameters against the truth of their server. An estimate agrees when
// it is within the tolerance, or its interval holds the truth.
func agrees(t *testing.T, p parameters.Parameters, truth law) {
	t.Helper()
	for name, want := range map[string]float64{"alpha": truth.alpha, "beta": truth.beta, "gamma": truth.gamma, "delta": truth.delta} {
		got, low, high, ok := p.Parameter(name)
		if !ok {
			t.Errorf("%s, %s: no %s: %s: %s", p.Accelerator, p.Shape, name, p.Verdict.Level, strings.Join(p.Verdict.Reasons, "; "))
			continue
		}
		inside := low <= want && want <= high
		line := fmt.Sprintf("%s %s %s: truth %v, estimate %s (%+.2f %%), 95 %% [%s, %s]",
			t.Name(), p.Accelerator, name, want, parameters.Format(got), 100*(got/want-1), parameters.Format(low), parameters.Format(high))
		findings.Lock()
		if inside {
			findings.inside++
		} else {
			findings.beside++
			findings.outside = append(findings.outside, line)
		}
		findings.Unlock()
		if math.Abs(got-want) > tolerances[name]*want && !inside {
			t.Error(line)
		} else {
			t.Log(line)
		}
	}
}

// printFindings prints what the run showed.
func printFindings(w io.Writer) {
	findings.Lock()
	defer findings.Unlock()
	if len(findings.speeds) > 0 {
		fmt.Fprintln(w, "\nspeed, seconds; of a point: pod start, artifacts saved, until the next point")
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "workflow\taccelerators\tpoints\tbench\twall\twall/bench\tstart\tsave\tnext\t")
		for _, s := range findings.speeds {
			fmt.Fprintf(table, "%s\t%d\t%d\t%.1f\t%.0f\t%.2f\t%.1f\t%.1f\t%.1f\t\n", s.name, s.accelerators, s.points, s.bench, s.wall, s.wall/s.bench, s.start, s.save, s.next)
		}
		_ = table.Flush() // stdout takes it or nobody reads it
	}
	if all := findings.inside + findings.beside; all > 0 {
		fmt.Fprintf(w, "\n%d of %d truths in their 95 %% intervals\n", findings.inside, all)
		for _, line := range slices.Sorted(slices.Values(findings.outside)) {
			fmt.Fprintln(w, "  outside:", line)
		}
	}
}

// asJSON is for messages.
func asJSON(v any) string {
	data, _ := json.Marshal(v)
	return string(data)
}
