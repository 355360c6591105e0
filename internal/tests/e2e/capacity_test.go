//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/layout"
)

// TestCapacity sweeps with an SLO: what one replica bears within it, checked by requests
// that arrive at that rate, is in the outputs of the workflow, on the page and in
// capacity.json; and the ScaledObject that is made of it is one that the API server takes
// and KEDA scales by. Without KEDA's CRDs, or its operator and Prometheus, those parts are
// skipped.
func TestCapacity(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "capacity")
	// An engine, since capacity is about what happens between its iterations.
	n.serve("A100", law{}, "--latency=engine", "--base=24", "--seq=1", "--ctx=0", "--pre=0.05", "--pre2=0")
	file := filepath.Join(t.TempDir(), "wfgen.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: wfgen.dev/v1\nkind: Sweep\naccelerators:\n- name: A100\n  gpu-cost: 2.5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.install("--config="+file, "--batch-sizes="+batches(1, 4, 8, 12, 16, 20), "--max-seconds=9", "--slo=itl=99ms",
		"--report-url=https://argo.example.com/{run}", "--links=docs=https://wiki.example.com/llm")

	// On a machine that had other work to do a check may contradict its claim, which fails
	// the workflow: then once more.
	var run string
	var w wfv1.Workflow
	var c capacity.Capacity
	for again := range 3 {
		run = fmt.Sprintf("slo-%d", again)
		n.submit(run, "-p", "slo=itl=38ms") // of about 12 in flight
		w = n.finished(run, 6*time.Minute)
		f := decode(n, layout.Accelerator(run, "A100")+"/"+layout.Capacity, capacity.Decode)
		if len(f.Capacities) != 1 || f.Capacities[0].Check == nil {
			t.Fatalf("%+v", f)
		}
		if c = f.Capacities[0]; c.Rate != nil {
			break
		}
		t.Logf("%s: %s", w.Status.Phase, strings.Join(c.Verdict.Reasons, "; "))
		if w.Status.Phase == wfv1.WorkflowSucceeded {
			t.Error("the claim is contradicted, and the workflow ended well")
		}
	}
	if c.Rate == nil {
		t.Fatal("three claims were contradicted")
	}
	if w.Status.Phase != wfv1.WorkflowSucceeded {
		t.Errorf("%s: %s", w.Status.Phase, w.Status.Message)
	}
	t.Logf("%s requests/s, %s in flight; %s", c.Rate, c.InFlight, c.Check)
	if c.Binding != "itl" || len(c.Check.Points) != 2 || c.Check.Points[0].Requests == 0 {
		t.Errorf("bound by %s, checked by %+v", c.Binding, c.Check.Points)
	}
	if c.Check.Claimed == nil && (c.InFlight.Value < 8 || c.InFlight.Value > 15) {
		t.Errorf("%v in flight at an ITL of 38 ms, of which 14 are what 14 requests add", c.InFlight.Value)
	}
	t.Run("outputs of the workflow", func(t *testing.T) {
		for name, want := range map[string]float64{"capacity-a100": c.Rate.Safe(), "concurrency-a100": c.InFlight.Safe()} {
			if got := output(w, name); got != parameters.Format(want) {
				t.Errorf("%s is %q, expected %v", name, got, want)
			}
		}
		if cost, err := strconv.ParseFloat(output(w, "cost-a100"), 64); err != nil || !(cost >= c.CostPerMillion.Value) {
			t.Errorf("cost-a100 is %q, expected the high end of %s", output(w, "cost-a100"), c.CostPerMillion)
		}
	})
	t.Run("the page shows the check", func(t *testing.T) {
		page := string(n.object(layout.Run(run) + "/" + layout.Page))
		if !strings.Contains(page, c.Check.String()) {
			t.Errorf("it does not say %s", c.Check)
		}
	})
	t.Run("links", func(t *testing.T) {
		if got := w.Annotations["workflows.argoproj.io/description"]; !strings.Contains(got, "[report](https://argo.example.com/"+run+") · [docs](https://wiki.example.com/llm)") {
			t.Errorf("the workflow says of itself: %q", got)
		}
	})
	t.Run("gauges", func(t *testing.T) {
		eventually(t, 30*time.Second, func() error {
			if text := controllerMetrics(t); !strings.Contains(text, "wfgen_capacity_requests_per_second{accelerator=\"A100\",model=\""+n.model()+"\"") {
				return fmt.Errorf("no gauge of the capacity")
			}
			return nil
		})
	})

	scaled := n.scaledObject(run)
	t.Run("the API server takes the ScaledObject", func(t *testing.T) {
		if _, err := command(t.Context(), "", "kubectl", "get", "crd", "scaledobjects.keda.sh"); err != nil {
			t.Skip("KEDA's CRDs are not on the cluster")
		}
		strict := func(text string) error {
			_, err := command(t.Context(), text, "kubectl", "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
			return err
		}
		if err := strict(scaled); err != nil {
			t.Errorf("%v\n%s", err, scaled)
		}
		if strict(strings.Replace(scaled, "minReplicaCount", "minReplicas", 1)) == nil {
			t.Error("it takes any field")
		}
	})
	t.Run("KEDA scales by it", func(t *testing.T) { n.scales(t, scaled, c.InFlight.Safe()) })
}

// prometheus is where the operator asks for metrics.
func prometheus() string {
	return setting("E2E_PROMETHEUS", "http://prometheus.monitoring.svc.cluster.local:9090")
}

// scaledObject is what step render makes of the run's capacity.
func (n *namespace) scaledObject(run string) string {
	n.t.Helper()
	text, err := command(n.t.Context(), "", "go", "run", "wfgen.dev/cmd/step", "render", "--format=keda",
		"s3://"+bucket()+"/"+n.name+"/"+layout.Accelerator(run, "A100")+"/"+layout.Capacity,
		"--scale-target=vllm-a100", "--namespace="+n.name, "--name=a100", "--max-replicas=4", "--prometheus="+prometheus())
	if err != nil {
		n.t.Fatal(err)
	}
	return text
}

// scales holds twice and a half as many requests in flight as one replica is to have, and
// waits for the third replica.
func (n *namespace) scales(t *testing.T, scaled string, perReplica float64) {
	for _, need := range [][2]string{{"keda", "keda-operator"}, {"monitoring", "prometheus"}} {
		if _, err := command(t.Context(), "", "kubectl", "-n", need[0], "rollout", "status", "deployment/"+need[1], "--timeout=5s"); err != nil {
			t.Skipf("%s does not run on the cluster", need[1])
		}
	}
	if _, err := command(t.Context(), scaled, "kubectl", "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	n.kubectl("wait", "--for=condition=Ready", "scaledobject/a100", "--timeout=60s")
	address := strings.TrimSpace(n.kubectl("get", "service", "vllm-a100", "-o", "jsonpath={.spec.clusterIP}"))
	program := filepath.Join(t.TempDir(), "step")
	if out, err := command(t.Context(), "", "go", "build", "-o", program, "wfgen.dev/cmd/step"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = command(ctx, "", program, "bench", "--target=http://"+address+":8000", "--model="+n.model(), "--accelerator=A100",
			"--batch-size="+strconv.Itoa(int(math.Ceil(2.5*perReplica))), "--prompt-tokens=64", "--output-tokens=64", "--max-seconds=240", "--output="+n.t.TempDir())
	}()
	defer func() { stop(); <-done }()
	eventually(t, 3*time.Minute, func() error {
		replicas := n.kubectl("get", "deployment", "vllm-a100", "-o", "jsonpath={.status.readyReplicas}")
		if replicas != "3" {
			return fmt.Errorf("%s replicas are ready, expected 3 for %.1f requests of %.1f each", replicas, math.Ceil(2.5*perReplica), perReplica)
		}
		return nil
	})
}
