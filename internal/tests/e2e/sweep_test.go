//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/google/go-cmp/cmp"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
)

// TestSweep is the whole way: two accelerators side by side, from kubectl apply -k to
// parameters that agree with the truth, in the workflow's outputs, in the object store
// and on the controller's metrics endpoint.
func TestSweep(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "sweep")
	truths := map[string]law{"A100": slow, "H100": fast}
	for name, truth := range truths {
		n.serve(name, truth)
	}
	sizes := []int{1, 4, 8, 12, 16}
	n.install("--accelerators=A100,H100", "--batch-sizes="+batches(sizes...), "--max-seconds=9")

	const run = "two"
	n.submit(run)
	var seen []wfv1.Progress
	n.finished(run, 5*time.Minute, func(w wfv1.Workflow) {
		if p := w.Status.Progress; p != "" && !slices.Contains(seen, p) {
			seen = append(seen, p)
		}
	})
	w := n.succeeded(run)

	t.Run("the progress grows while it runs", func(t *testing.T) {
		t.Log("progress:", seen)
		if len(seen) < 5 || seen[len(seen)-1].N() != seen[len(seen)-1].M() {
			t.Errorf("progress %v", seen)
		}
	})
	t.Run("the parameters agree with the truth", func(t *testing.T) {
		for name, truth := range truths {
			p := decode(n, layout.Run(run)+"/"+layout.ParametersOf(name, shape), parameters.Decode)
			agrees(t, p, truth)
			if p.Model != n.model() || p.Accelerator != name || p.Shape != shape {
				t.Errorf("parameters of %s on %s, %s", p.Model, p.Accelerator, p.Shape)
			}
		}
	})
	t.Run("the workflow's outputs are the parameters", func(t *testing.T) {
		for name := range truths {
			p := decode(n, layout.Run(run)+"/"+layout.ParametersOf(name, shape), parameters.Decode)
			want := map[string]string{"verdict": string(p.Verdict.Level)}
			for _, letter := range linear4.Names() {
				value, _, _, _ := p.Parameter(letter)
				want[letter] = parameters.Format(value)
			}
			got := map[string]string{}
			for letter := range want {
				got[letter] = output(w, letter+"-"+sweep.Slug(name))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	})
	t.Run("the controller shows the parameters as gauges", func(t *testing.T) {
		for name := range truths {
			for _, letter := range linear4.Names() {
				value := output(w, letter+"-"+sweep.Slug(name))
				labels := fmt.Sprintf(`{accelerator=%q,model=%q,shape=%q`, name, n.model(), shape.String())
				eventually(t, 30*time.Second, func() error {
					for line := range strings.Lines(controllerMetrics(t)) {
						if name, shown, _ := strings.Cut(strings.TrimSpace(line), "} "); strings.Contains(name, "wfgen_"+letter+"_milliseconds"+labels) {
							if number(t, shown) == number(t, value) {
								return nil
							}
							return fmt.Errorf("gauge %s instead of %s", line, value)
						}
					}
					return fmt.Errorf("no gauge of %s %s with value %s", name, letter, value)
				})
			}
		}
	})
	t.Run("the object store holds what the layout says, and nothing else", func(t *testing.T) {
		want := []string{layout.Run(run) + "/" + layout.Summary, layout.Run(run) + "/" + layout.Page}
		for name := range truths {
			want = append(want,
				layout.Run(run)+"/"+layout.Summaries+"/"+name+".json",
				layout.Accelerator(run, name)+"/"+layout.Page,
				layout.Accelerator(run, name)+"/"+layout.Server,
				layout.Run(run)+"/"+layout.ParametersOf(name, shape))
			for _, p := range pointsOf(name, sizes) {
				want = append(want, layout.MeasurementOf(run, p))
				for _, end := range []string{".json", "-log.txt", "-server.json"} {
					want = append(want, layout.ReportsOfPoint(run, p)+"/"+layout.ReportName(p.BatchSize, sizes)+end)
				}
			}
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, n.keys("runs")); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("the report shows all that was measured", func(t *testing.T) {
		page := string(n.object(layout.Run(run) + "/" + layout.Page))
		for _, want := range []string{"Latency parameters of " + n.model(), "A100", "H100", "Side by side", "ITL over the batch size", "ITL over the run", "TTFT among requests"} {
			if !strings.Contains(page, want) {
				t.Errorf("it does not say %q", want)
			}
		}
		if answer := output(w, "answer"); !strings.Contains(page, answer) || answer == "" {
			t.Errorf("the workflow's answer is %q, and the report does not say it", answer)
		}
	})
	t.Run("nodes are named by what they do", func(t *testing.T) {
		var names []string
		for _, node := range w.Status.Nodes {
			names = append(names, node.DisplayName)
		}
		for i, b := range sweep.Order(sizes) {
			if want := fmt.Sprintf("batch(%d:%d)", i, b); !slices.Contains(names, want) {
				t.Errorf("no node %s among %q", want, names)
			}
		}
		if want := fmt.Sprintf("shape(0:%s)", shape); !slices.Contains(names, want) {
			t.Errorf("no node %s among %q", want, names)
		}
	})
	t.Run("the raw reports and logs are readable", func(t *testing.T) {
		for name := range truths {
			prefix := layout.ReportsOf(run, name, shape) + "/"
			for _, b := range sizes {
				base := prefix + layout.ReportName(b, sizes)
				m, err := report.Read(bytes.NewReader(n.object(base+".json")), base, report.Options{Model: n.model(), Accelerator: name})
				if err != nil || len(m) != 1 || m[0].Requests.Successful < 2*b {
					t.Errorf("%s.json: %v: %d measurements %+v", base, err, len(m), m)
				}
				if len(bytes.TrimSpace(n.object(base+"-log.txt"))) == 0 {
					t.Errorf("%s-log.txt: empty", base)
				}
			}
		}
	})
	t.Run("an accepted verdict moves latest, and only that", func(t *testing.T) {
		// On a machine that had other work to do a verdict may be a warning: then once more.
		accepted := 0
		for again := range 3 {
			name := run
			if again > 0 {
				name = fmt.Sprintf("%s-again-%d", run, again)
				n.run(name)
			}
			s := decode(n, layout.Run(name)+"/"+layout.Summary, parameters.DecodeSummary)
			if len(s.Parameters) != 2 || len(s.Failures) != 0 || s.Totals.Points != 2*len(pointsOf("A100", sizes)) {
				t.Errorf("summary: %d parameters, failures %v, %+v", len(s.Parameters), s.Failures, s.Totals)
			}
			for _, p := range s.Parameters {
				t.Logf("%s: %s %s", p.Accelerator, p.Verdict.Level, strings.Join(p.Verdict.Reasons, "; "))
				key, ours := layout.LatestOf(n.model(), p.Accelerator, shape), layout.Run(name)+"/"+layout.ParametersOf(p.Accelerator, shape)
				moved := n.exists(key) && bytes.Equal(n.object(key), n.object(ours))
				if p.Verdict.Level == fit.Accepted {
					accepted++
				}
				if moved != (p.Verdict.Level == fit.Accepted) {
					t.Errorf("%s is that of %s: %v, though the verdict is %s", key, name, moved, p.Verdict.Level)
				}
			}
			if accepted > 0 {
				return
			}
		}
		t.Error("no verdict was accepted in three runs")
	})
	t.Run("one accelerator more adds no more than its own nodes", func(t *testing.T) {
		own := map[string]int{}
		shared := 0
		for _, node := range w.Status.Nodes {
			if part := strings.TrimPrefix(node.Name, run+"."); strings.HasPrefix(part, "a100") || strings.HasPrefix(part, "h100") {
				own[part[:4]]++
			} else {
				shared++
			}
		}
		t.Logf("nodes: %v, %d shared", own, shared)
		// The workflow, the first pod and what says that it did not start, the guard, the
		// summary and its retry.
		if own["a100"] == 0 || shared > 6 {
			t.Errorf("nodes: %v, %d shared", own, shared)
		}
	})
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// controllerMetrics is what Prometheus would scrape from Argo's controller.
func controllerMetrics(t *testing.T) string {
	t.Helper()
	pod, err := command(t.Context(), "", "kubectl", "-n", argoNamespace(), "get", "pods", "-l", "app=workflow-controller",
		"--field-selector=status.phase=Running", "-o", "jsonpath={.items[0].metadata.name}")
	if err != nil {
		t.Fatal(err)
	}
	var text string
	for _, scheme := range []string{"https:", "http:"} {
		if text, err = command(t.Context(), "", "kubectl", "get", "--raw", "/api/v1/namespaces/"+argoNamespace()+"/pods/"+scheme+pod+":9090/proxy/metrics"); err == nil {
			return text
		}
	}
	t.Fatal(err)
	return ""
}
