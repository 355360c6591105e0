//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/estimate/prefill"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
)

// The tests' own kind of GPU: a resource and a label that no node has by nature.
const (
	gpuResource = "e2e.wfgen.dev/gpu"
	gpuLabel    = "e2e.wfgen.dev/product"
	gpus        = 12 // of the node: more than all tests hold together
)

// gpuNode gives a node GPUs, as far as the scheduler can tell, and returns its name.
func (n *namespace) gpuNode() string {
	n.t.Helper()
	var nodes corev1.NodeList
	n.get(&nodes, "nodes")
	node := nodes.Items[0].Name
	n.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", fmt.Sprintf(`{"status":{"capacity":{%q:"%d"}}}`, gpuResource, gpus))
	n.kubectl("label", "node", node, gpuLabel+"=real", "--overwrite")
	return node
}

// deploys are the flags of a sweep that starts its servers. REAL has nodes, ABSENT has
// none.
func (n *namespace) deploys(server ...string) []string {
	n.t.Helper()
	file := filepath.Join(n.t.TempDir(), "accelerators.yaml")
	text := "apiVersion: wfgen.dev/v1\nkind: Sweep\naccelerators:\n"
	for _, product := range []string{"REAL", "ABSENT"} {
		text += fmt.Sprintf("- {name: %s, resource: %s, node-selector: {%s: %s}}\n", product, gpuResource, gpuLabel, strings.ToLower(product))
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return append(server, "--config="+file, "--deploy")
}

// simulated are the flags that make step simulate the server.
func simulated(truth law) []string {
	return []string{
		"--server-image=" + stepImage, "--server-command=/step simulate",
		"--server-cpu=20m", "--server-memory=32Mi", "--server-shm=1Mi",
		fmt.Sprintf("--server-args=--alpha=%g;--beta=%g;--gamma=%g;--delta=%g", truth.alpha, truth.beta, truth.gamma, truth.delta),
	}
}

// holding are the pods of a workflow's servers that hold or ask for a GPU.
func (n *namespace) holding(workflow string) []string {
	n.t.Helper()
	selector := "app.kubernetes.io/component=llm-server"
	if workflow != "" {
		selector += ",workflows.argoproj.io/workflow=" + workflow
	}
	var pods corev1.PodList
	n.get(&pods, "pods", "-l", selector)
	var names []string
	for _, p := range pods.Items {
		if p.Status.Phase == corev1.PodPending || p.Status.Phase == corev1.PodRunning {
			names = append(names, p.Name)
		}
	}
	return names
}

// freed waits until a workflow holds no GPU.
func (n *namespace) freed(workflow string) {
	n.t.Helper()
	eventually(n.t, time.Minute, func() error {
		if names := n.holding(workflow); len(names) > 0 {
			return fmt.Errorf("%s holds GPUs: %s", workflow, strings.Join(names, ", "))
		}
		return nil
	})
}

// measuring waits until a workflow measures; the real vLLM takes a minute or two to start.
func (n *namespace) measuring(workflow string) {
	n.t.Helper()
	eventually(n.t, 5*time.Minute, func() error {
		for _, node := range pods(n.workflow(workflow), "point") {
			if node.Phase == wfv1.NodeRunning {
				return nil
			}
		}
		return fmt.Errorf("no point of %s runs", workflow)
	})
	if len(n.holding(workflow)) == 0 {
		n.t.Errorf("%s measures without a server", workflow)
	}
}

// TestDeploy starts servers on the nodes that have the accelerator, measures them and
// ends them; a server for which there is no node is given up, with the reason.
func TestDeploy(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "deploy")
	node := n.gpuNode()
	n.install(append(n.deploys(simulated(slow)...), "--accelerators=REAL", "--batch-sizes=1,4")...)
	const run = "deployed"
	n.submit(run, "-p", "batch-sizes=[1,4,8,12,16]") // more than the server was generated for
	n.finished(run, 5*time.Minute)
	n.succeeded(run)
	n.freed(run)
	agrees(t, decode(n, layout.Run(run)+"/"+layout.ParametersOf("REAL", shape), parameters.Decode), slow)

	m := decode(n, layout.MeasurementOf(run, sweep.Point{Accelerator: "REAL", Shape: shape, BatchSize: 16}), measurement.Decode)
	i := m.Provenance.Instance
	if i.Node != node || i.Image != stepImage || !strings.Contains(strings.Join(i.Args, " "), "--max-num-seqs=16") {
		t.Errorf("the measurement says of its server: %+v", i)
	}
}

// A node that is not there is a message, and an end.
func TestDeployWithoutNodes(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "absent")
	n.install(append(n.deploys(simulated(slow)...), "--accelerators=ABSENT", "--wait-timeout=20s", "--retries=0")...)
	n.submit("absent")
	if w := n.finished("absent", 3*time.Minute); w.Status.Phase != wfv1.WorkflowFailed {
		t.Errorf("the workflow is %s", w.Status.Phase)
	} else {
		message := ""
		for _, node := range w.Status.Nodes {
			if node.DisplayName == "server" {
				message = node.Message
			}
		}
		if !strings.Contains(message, "no node has the labels") {
			t.Errorf("the server's node says %q", message)
		}
	}
	n.freed("absent")
}

// However a workflow ends, it holds no GPU afterwards.
func TestServersEndWithTheirWorkflow(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "ends")
	n.gpuNode()
	n.install(append(n.deploys(simulated(slow)...), "--accelerators=REAL", "--batch-sizes=1", "--max-seconds=120", "--retries=0")...)
	const deadline = 45 * time.Second
	n.submit("failed", "-p", "batch-sizes=[1]", "-p", "max-seconds=1", "-p", "max-requests=3") // from which nothing can be estimated
	n.apply(wfv1.Workflow{
		TypeMeta:   metav1.TypeMeta{APIVersion: "argoproj.io/v1alpha1", Kind: "Workflow"},
		ObjectMeta: metav1.ObjectMeta{Name: "deadline", Namespace: n.name},
		Spec:       wfv1.WorkflowSpec{ActiveDeadlineSeconds: new(int64(deadline / time.Second)), WorkflowTemplateRef: &wfv1.WorkflowTemplateRef{Name: template}},
	})
	for _, name := range []string{"stopped", "terminated", "deleted"} {
		n.submit(name)
	}
	for name, end := range map[string]func(){
		"stopped":    func() { n.argo("stop", "stopped") },
		"terminated": func() { n.argo("terminate", "terminated") },
		"deleted":    func() { n.kubectl("delete", "workflow", "deleted") },
	} {
		n.measuring(name)
		begin := time.Now()
		end()
		n.freed(name)
		t.Logf("%s: no GPU held after %v", name, time.Since(begin).Round(time.Second))
	}
	for _, name := range []string{"failed", "deadline"} {
		if w := n.finished(name, 3*time.Minute); w.Status.Phase != wfv1.WorkflowFailed {
			t.Errorf("%s: the workflow is %s", name, w.Status.Phase)
		}
		n.freed(name)
	}
	n.freed("")
}

// TestDeployVLLM is TestDeploy and argo terminate with the real vLLM, whose image the
// nodes must have: make e2e VLLM=0.32.0. Its times mean nothing without a GPU.
func TestDeployVLLM(t *testing.T) {
	version := os.Getenv("E2E_VLLM")
	if version == "" {
		t.Skip("starts the real vLLM only when E2E_VLLM names a version")
	}
	n := newNamespace(t, "vllm")
	n.gpuNode()
	n.install(append(n.deploys(), "--accelerators=REAL", "--batch-sizes=1,4", "--max-seconds=20", "--wait-timeout=10m",
		"--server-image=lab.local/vllm:v"+version, "--server-command=/opt/app-root/bin/vllm serve", "--server-model-path=/opt/model", "--server-dtype=bfloat16",
		"--server-args=--load-format=dummy;--enforce-eager", "--server-env=VLLM_CPU_KVCACHE_SPACE=1", "--server-cpu=500m", "--server-memory=1Gi", "--server-shm=1Gi")...)
	n.submit("measured")
	n.measuring("measured")
	n.finished("measured", 8*time.Minute)
	n.freed("measured")
	m := decode(n, layout.MeasurementOf("measured", sweep.Point{Accelerator: "REAL", Shape: shape, BatchSize: 4}), measurement.Decode)
	if len(m.Taken.Void) > 0 || m.Requests.Errored > 0 {
		t.Errorf("the point is of no use: %v, %+v", m.Taken.Void, m.Requests)
	}

	n.submit("terminated")
	n.measuring("terminated")
	begin := time.Now()
	n.argo("terminate", "terminated")
	n.freed("terminated")
	t.Logf("terminated: no GPU held after %v", time.Since(begin).Round(time.Second))
}

func (n *namespace) argo(verb, workflow string) {
	n.t.Helper()
	if out, err := command(n.t.Context(), "", "argo", verb, "-n", n.name, workflow); err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
}

// TestJobs measures without Argo what the workflow measures with it, and keeps the
// parameters in a bucket or in a ConfigMap.
func TestJobs(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "jobs")
	n.serve("A100", fast)
	n.serve("H100", slow)
	sizes := "--batch-sizes=1,4,8,12,16"
	for _, flags := range [][]string{
		{"--name=bucket", "--accelerators=A100", sizes, "--share-pod"},
		{"--name=map", "--accelerators=H100", sizes, "--slo=itl=999ms", "--prefill-chunk=200", "--s3-bucket=", "--s3-endpoint=", "--s3-secret=", "--s3-prefix="},
	} {
		n.kubectl("apply", "-k", n.generateBy([]string{"jobs"}, flags...), "--server-side")
	}
	n.kubectl("wait", "--for=condition=complete", "--timeout=240s", "job/bucket-a100", "job/map-h100")

	found := false
	for _, key := range n.keys("runs") {
		if strings.HasSuffix(key, layout.ParametersOf("A100", shape)) {
			found = true
			agrees(t, decode(n, key, parameters.Decode), fast)
		}
	}
	if !found {
		t.Errorf("no parameters among %q", n.keys("runs"))
	}
	var kept corev1.ConfigMap
	n.get(&kept, "configmap", "map-h100")
	p, err := parameters.Decode(strings.NewReader(kept.Data["parameters.json"]), "parameters.json")
	if err != nil {
		t.Fatal(err)
	}
	agrees(t, p, slow)
	f, err := capacity.Decode(strings.NewReader(kept.Data[layout.Capacity]), layout.Capacity)
	if err != nil || len(f.Capacities) != 1 || f.Capacities[0].Rate == nil || f.Capacities[0].Check == nil {
		t.Errorf("%v, %+v", err, f)
	}
	r, err := prefill.Decode(strings.NewReader(kept.Data[layout.Prefill]), layout.Prefill)
	if err != nil || len(r.Samples) < prefill.FewestSamples || r.ChunkTokens != 200 {
		t.Errorf("%v, %+v", err, r)
	}
}
