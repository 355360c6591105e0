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
	"wfgen.dev/internal/estimate/prefill"
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
	n.serve("A100", law{}, "--latency=engine", "--base=24", "--seq=1", "--ctx=0", "--pre=0.05", "--pre2=0", "--max-num-batched-tokens=200")
	file := filepath.Join(t.TempDir(), "wfgen.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: wfgen.dev/v1\nkind: Sweep\naccelerators:\n- name: A100\n  gpu-cost: 2.5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.install("--config="+file, "--batch-sizes="+batches(1, 4, 8, 12, 16, 20), "--max-seconds=9", "--slo=itl=99ms", "--prefill-chunk=200",
		"--report-url=https://argo.example.com/{run}", "--links=docs=https://wiki.example.com/llm")

	const run = "slo"
	n.submit(run, "-p", "slo=itl=38ms") // of about 12 in flight
	w := n.finished(run, 6*time.Minute)
	f := decode(n, layout.Accelerator(run, "A100")+"/"+layout.Capacity, capacity.Decode)
	if len(f.Capacities) != 1 || f.Capacities[0].Check == nil {
		t.Fatalf("%+v", f)
	}
	c := f.Capacities[0]
	// What the parameters of the run say, whatever the check says of it: on a machine that has
	// other work to do between the sweep and the check, that may well contradict it.
	claim := n.claim(run, "itl=38ms")
	t.Logf("%s requests/s, %s in flight; %s", claim.Rate, claim.InFlight, c.Check)
	if claim.Binding != "itl" || claim.InFlight.Value < 8 || claim.InFlight.Value > 15 {
		t.Errorf("bound by %s, %v in flight at an ITL of 38 ms, of which 14 are what 14 requests add", claim.Binding, claim.InFlight.Value)
	}
	if len(c.Check.Points) != 2 || c.Check.Points[0].Requests == 0 || math.Abs(c.Check.Points[0].Rate/claim.Rate.Safe()-1) > 1e-6 {
		t.Errorf("%s requests/s were claimed, and checked by %+v", claim.Rate, c.Check.Points)
	}
	if stands := c.Check.Verdict == capacity.Held || c.Check.Verdict == capacity.Undecided; stands != (c.Rate != nil && math.Abs(c.Rate.Safe()/claim.Rate.Safe()-1) < 1e-6) {
		t.Errorf("the check says %s, and the rate is %s", c.Check, c.Rate)
	}
	ends := map[bool]wfv1.WorkflowPhase{true: wfv1.WorkflowFailed, false: wfv1.WorkflowSucceeded}
	contradicted := c.Check.Verdict == capacity.Contradicted
	if w.Status.Phase != ends[contradicted] || contradicted != (c.Rate == nil) {
		t.Errorf("the check says %s, and the workflow ends as %s: %s", c.Check, w.Status.Phase, w.Status.Message)
	}
	t.Run("outputs of the workflow", func(t *testing.T) {
		for name, want := range capacity.Outputs(f) {
			if strings.HasSuffix(string(name), "-a100") && output(w, string(name)) != want {
				t.Errorf("%s is %q, expected %q", name, output(w, string(name)), want)
			}
		}
	})
	t.Run("the prefill rate", func(t *testing.T) {
		r := decode(n, layout.PrefillOf(run, "A100"), prefill.Decode)
		if r.ChunkTokens != 200 || len(r.Samples) < prefill.FewestSamples || r.MedianTTFTMS < 34 { // 24 + 200 * 0.05
			t.Errorf("%d prompts of %d tokens, %v ms", len(r.Samples), r.ChunkTokens, r.MedianTTFTMS)
		}
		want := ""
		if r.Usable() {
			want = parameters.Format(r.SafeTokensPerSecond())
		}
		if got := output(w, "prefill-a100"); got != want {
			t.Errorf("prefill-a100 is %q, expected %q: %+v", got, want, r.Verdict)
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
			gauge := "wfgen_capacity_requests_per_second{accelerator=\"A100\",model=\"" + n.model() + "\""
			if got := strings.Contains(controllerMetrics(t), gauge); got == contradicted {
				return fmt.Errorf("a gauge of the capacity: %v; %s", got, c.Check)
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
	t.Run("KEDA scales by it", func(t *testing.T) { n.scales(t, scaled, claim.InFlight.Safe()) })
}

// prometheus is where the operator asks for metrics.
func prometheus() string {
	return setting("E2E_PROMETHEUS", "http://prometheus.monitoring.svc.cluster.local:9090")
}

// claim is what step capacity makes of the run's parameters, and leaves beside them.
func (n *namespace) claim(run, slo string) capacity.Capacity {
	n.t.Helper()
	at := "s3://" + bucket() + "/" + n.name + "/" + layout.Run(run)
	if _, err := command(n.t.Context(), "", "go", "run", "wfgen.dev/cmd/step", "capacity", at+"/"+layout.Summary, "--slo="+slo, "--price=A100=2.5", "--max-num-batched-tokens=200", "--output="+at+"/claim"); err != nil {
		n.t.Fatal(err)
	}
	f := decode(n, layout.Run(run)+"/claim/"+layout.Capacity, capacity.Decode)
	if len(f.Capacities) != 1 || f.Capacities[0].Rate == nil {
		n.t.Fatalf("%+v", f)
	}
	return f.Capacities[0]
}

// scaledObject is what step render makes of the run's capacity.
func (n *namespace) scaledObject(run string) string {
	n.t.Helper()
	text, err := command(n.t.Context(), "", "go", "run", "wfgen.dev/cmd/step", "render", "--format=keda",
		"s3://"+bucket()+"/"+n.name+"/"+layout.Run(run)+"/claim/"+layout.Capacity,
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
