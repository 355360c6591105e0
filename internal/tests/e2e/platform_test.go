//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/estimate/notify"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/layout"
)

// secretPath is the part of the notifications' address that nobody may see.
const secretPath = "s3cr3tHOOKt0ken"

// receive runs whoever is told how sweeps end, and makes the Secret with its address.
func (n *namespace) receive() {
	n.t.Helper()
	n.host("receiver", n.programImage("receiver"))
	n.apply(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "hooks", "namespace": n.name},
		"stringData": map[string]string{"webhook": "http://receiver:8000/" + secretPath, "slack": "http://receiver:8000/slack/" + secretPath, "alertmanager": "http://receiver:8000"},
	})
	n.kubectl("rollout", "status", "deployment/receiver", "--timeout=60s")
}

// told is what the webhook has got; the others must have got as many.
func (n *namespace) told() []notify.Notification {
	n.t.Helper()
	var list []notify.Notification
	slack, alerts := 0, 0
	for line := range strings.Lines(n.kubectl("logs", "deployment/receiver")) {
		path, body, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case path == "/"+secretPath:
			var one notify.Notification
			if err := json.Unmarshal([]byte(body), &one); err != nil {
				n.t.Fatalf("%v: %s", err, body)
			}
			list = append(list, one)
		case strings.HasPrefix(path, "/slack/") && strings.Contains(body, `"text":"*`):
			slack++
		case path == "/api/v2/alerts" && strings.Contains(body, `"alertname":"Wfgen`):
			alerts++
		default:
			n.t.Errorf("the receiver got %s", line)
		}
	}
	if slack != len(list) || alerts != len(list) {
		n.t.Errorf("the webhook was told %d times, Slack %d, Alertmanager %d", len(list), slack, alerts)
	}
	return list
}

// hidden fails where the secret part of the address stands: workflows, logs of their pods, results.
func (n *namespace) hidden() {
	n.t.Helper()
	places := map[string]string{
		"the objects": n.kubectl("get", "workflows,workflowtemplates,pods,configmaps,events", "-o", "json"),
		"the logs":    n.kubectl("logs", "-l", "workflows.argoproj.io/workflow", "--all-containers", "--tail=-1", "--ignore-errors"),
	}
	for _, key := range n.keys("runs") {
		places[key] = string(n.object(key))
	}
	for place, text := range places {
		if strings.Contains(text, secretPath) {
			n.t.Errorf("the address of the notifications stands in %s", place)
		}
	}
}

// TestDrift measures a server, the same again, and one that is 8 % slower: the last run
// says so, tells it and leaves latest alone; the one before is silent.
func TestDrift(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "drift")
	n.receive()
	before := law{alpha: 100, beta: 4, gamma: 200, delta: 0.3} // beside which a busy node's own delays are little
	n.serve("A10", before)
	n.install("--accelerators=A10", "--batch-sizes=2,4,8,12,16", "--max-seconds=15", "--drift-band=5%", "--fail-on-drift", "--notify-secret-name=hooks",
		"--publish=configmap", "--publish-formats=csv", "--share-pod") // three sweeps wait for three pods' starts, not for eighteen
	latest := layout.LatestOf(n.model(), "A10", shape)
	of := func(run string) string { return layout.Run(run) + "/" + layout.ParametersOf("A10", shape) }
	n.run("first")
	// On a busy machine it may be warned of; here it is what somebody has accepted.
	if err := n.results().Put(t.Context(), latest, bytes.NewReader(n.object(of("first")))); err != nil {
		t.Fatal(err)
	}
	if drift := output(n.run("same"), "drift"); drift != "" {
		t.Errorf("what is as it was drifted: %s", drift)
	}
	if told := n.told(); len(told) > 0 {
		t.Errorf("told of what is as it was: %+v", told)
	}
	kept := n.object(latest)
	published := func() (set, table string) {
		var c corev1.ConfigMap
		n.get(&c, "configmap", template+"-results")
		return c.Data["A10."+layout.ParametersFile(shape)], c.Data["parameters.csv"]
	}
	setBefore, tableBefore := published()
	// What is published knows of the run before, too, which that of one accelerator does not.
	set, err := parameters.Decode(strings.NewReader(setBefore), "published")
	if err != nil {
		t.Fatal(err)
	}
	same, err := parameters.Decode(bytes.NewReader(n.object(of("same"))), "same")
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Fit.Across) == 0 || set.Fit.Across[0].Runs != 2 {
		t.Errorf("two runs of the same tell of another: %+v", set.Fit.Across)
	}
	if set.Fit.Across = nil; !reflect.DeepEqual(set, same) || !strings.Contains(tableBefore, "A10") {
		t.Errorf("published: %s\n%s", setBefore, tableBefore)
	}

	n.serve("A10", law{1.08 * before.alpha, 1.08 * before.beta, 1.08 * before.gamma, 1.08 * before.delta})
	n.submit("slower") // which fails, by --fail-on-drift
	w := n.finished("slower", 5*time.Minute)
	if w.Status.Phase != wfv1.WorkflowFailed || !strings.Contains(output(w, "drift"), "alpha") {
		t.Errorf("slower: %s, drift %q", w.Status.Phase, output(w, "drift"))
	}
	t.Log(output(w, "drift"))
	if !bytes.Equal(kept, n.object(latest)) {
		t.Error("latest was moved by what drifted")
	}
	if set, table := published(); set != setBefore || table != tableBefore {
		t.Error("what drifted was published")
	}
	told := n.told()
	if len(told) != 1 {
		t.Fatalf("told %d times: %+v", len(told), told)
	}
	one := told[0]
	if one.Event != notify.Drift || one.Run != "slower" || one.Status != "Failed" || one.Model != n.model() || len(one.Results) != 1 || !slices.Contains(one.Results[0].Drifted, "alpha") ||
		len(one.Moved) == 0 || !strings.Contains(one.Moved[0], "A10") {
		t.Errorf("told %+v", one)
	}
	n.hidden()
}

// TestNotifications: a run that fails, one that is stopped and one that is terminated are
// told of once each; one that went well is not worth a word.
func TestNotifications(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "notify")
	n.receive()
	n.serve("L4", slow)
	n.install("--accelerators=L4,T4", "--batch-sizes=2,4", "--max-seconds=30", "--wait-timeout=10s", "--notify-secret-name=hooks")
	measures := func(name string) {
		eventually(t, 2*time.Minute, func() error {
			for _, node := range pods(n.workflow(name), "point") {
				if node.Phase == wfv1.NodeRunning {
					return nil
				}
			}
			return fmt.Errorf("no point of %s runs", name)
		})
	}
	argo := func(args ...string) {
		if out, err := command(t.Context(), "", "argo", append([]string{"-n", n.name}, args...)...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	n.submit("stopped")
	measures("stopped")
	argo("stop", "stopped")
	n.finished("stopped", 3*time.Minute)
	n.submit("terminated")
	measures("terminated")
	argo("terminate", "terminated")
	n.finished("terminated", time.Minute)
	eventually(t, 40*time.Second, func() error { // the guard tells of it in its last half minute
		var list corev1.PodList
		n.get(&list, "pods", "-l", "workflows.argoproj.io/workflow=terminated", "--field-selector=status.phase=Running")
		if len(list.Items) > 0 {
			return fmt.Errorf("%s runs", list.Items[0].Name)
		}
		return nil
	})
	n.submit("failed", "-p", "max-seconds=4") // T4 has no server
	n.finished("failed", 3*time.Minute)

	var runs []string
	for _, one := range n.told() {
		runs = append(runs, one.Run)
		if one.Event != notify.Failure || one.Status != "Failed" || len(one.Failures) == 0 {
			t.Errorf("%+v", one)
		}
		for _, f := range one.Failures {
			if strings.Contains(f, "evaluated to false") || strings.Contains(f, "No more retries") {
				t.Errorf("%s: noise: %s", one.Run, f)
			}
		}
		t.Logf("%s: %s\n%s", one.Run, one.Title, strings.Join(one.Failures, "\n"))
	}
	if want := []string{"stopped", "terminated", "failed"}; !slices.Equal(runs, want) {
		t.Errorf("told of %q, want %q", runs, want)
	}
	n.hidden()
}

// TestSGLang starts servers that are told what SGLang is told. step simulate stands in.
func TestSGLang(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "sglang")
	n.gpuNode()
	n.install(append(n.deploys(simulated(slow)...), "--accelerators=REAL", "--batch-sizes=1,4,8,12,16", "--engine=sglang")...)
	const run = "engine"
	n.run(run)
	p := decode(n, layout.Run(run)+"/"+layout.ParametersOf("REAL", shape), parameters.Decode)
	agrees(t, p, slow)
	if args := strings.Join(p.Provenance.Args, " "); !strings.Contains(args, "--max-running-requests") || !strings.Contains(args, "--disable-radix-cache") {
		t.Errorf("the server was started with %s", args)
	}
	n.freed(run)
}

// TestClaimsAndLines: the API server takes what claims devices, strictly; and of what is
// for Argo 4.1 it knows all but the field that came with it.
func TestClaimsAndLines(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "claims")
	if _, err := n.tryKubectl("get", "--raw", "/apis/resource.k8s.io/v1"); err != nil {
		t.Skip("skipped: no resource.k8s.io/v1: Kubernetes before 1.34")
	}
	flags := []string{"--config=" + root + "/examples/claims/wfgen.yaml", "--queue-name=q", "--network-policy"}
	tried, err := n.tryKubectl("apply", "-k", n.generate(flags...), "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts")
	if err != nil || !strings.Contains(tried, "resourceclaimtemplate.resource.k8s.io/") || !strings.Contains(tried, "networkpolicy.networking.k8s.io/") {
		t.Errorf("%v\n%s", err, tried)
	}
	out, err := n.tryKubectl("apply", "-f", n.generate(append(flags, "--argo=4.1")...)+"/workflowtemplate.yaml", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts")
	if err == nil {
		t.Log("the CRDs of this Argo know the fields of 4.1, or no field")
		return
	}
	for word := range strings.FieldsSeq(strings.ReplaceAll(err.Error()+out, ",", " ")) {
		if strings.HasPrefix(word, ".spec.") || strings.HasPrefix(word, `"spec.`) {
			if !strings.Contains(word, "pendingTimeout") {
				t.Errorf("unknown to the API server: %s", word)
			}
		}
	}
	if !strings.Contains(err.Error(), "pendingTimeout") {
		t.Error(err)
	}
}

// TestNetworkPolicy: a sweep goes through in a namespace that denies everything but what
// its policies allow, where policies are enforced; where not, they are at least accepted.
func TestNetworkPolicy(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "policy")
	n.gpuNode()
	n.apply(map[string]any{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": map[string]any{"name": "deny", "namespace": n.name},
		"spec": map[string]any{"podSelector": map[string]any{}, "policyTypes": []string{"Ingress", "Egress"}}})
	n.install(append(n.deploys(simulated(slow)...), "--accelerators=REAL", "--batch-sizes=2,4", "--network-policy", "--network-policy-ports=9000")...)
	n.run("behind")
}

// TestKueue: with Kueue's controller each pod of a sweep waits in the queue, one at a time
// here, and is admitted. It is skipped where the controller does not run.
func TestKueue(t *testing.T) {
	if out, err := command(t.Context(), "", "kubectl", "-n", "kueue-system", "rollout", "status", "deployment/kueue-controller-manager", "--timeout=5s"); err != nil {
		t.Skip("skipped: no Kueue: ", firstLine(out, err))
	}
	n := newNamespace(t, "kueue")
	n.serve("A10G", slow)
	n.apply(map[string]any{"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor", "metadata": map[string]any{"name": n.name}})
	n.apply(map[string]any{"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": map[string]any{"name": n.name}, "spec": map[string]any{
		"namespaceSelector": map[string]any{"matchLabels": map[string]string{"kubernetes.io/metadata.name": n.name}},
		"resourceGroups": []any{map[string]any{"coveredResources": []string{"cpu", "memory"}, "flavors": []any{map[string]any{"name": n.name, "resources": []any{
			map[string]any{"name": "cpu", "nominalQuota": "1"}, map[string]any{"name": "memory", "nominalQuota": "1Gi"},
		}}}}},
	}})
	t.Cleanup(func() {
		if out, err := command(context.Background(), "", "kubectl", "delete", "clusterqueue,resourceflavor", n.name, "--wait=false"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	n.apply(map[string]any{"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue", "metadata": map[string]any{"name": "sweeps", "namespace": n.name}, "spec": map[string]any{"clusterQueue": n.name}})
	n.install("--accelerators=A10G", "--batch-sizes=2,4", "--queue-name=sweeps")
	n.submit("queued")
	admitted, queued := map[string]bool{}, map[string]bool{}
	n.finished("queued", 5*time.Minute, func(wfv1.Workflow) {
		var workloads struct {
			Items []struct {
				Metadata metav1.ObjectMeta
				Status   struct{ Conditions []metav1.Condition }
			}
		}
		n.get(&workloads, "workloads")
		for _, w := range workloads.Items {
			if slices.ContainsFunc(w.Status.Conditions, func(c metav1.Condition) bool { return c.Type == "Admitted" && c.Status == metav1.ConditionTrue }) {
				admitted[w.Metadata.Name] = true
			}
		}
		var list corev1.PodList
		n.get(&list, "pods", "-l", "workflows.argoproj.io/workflow=queued")
		for _, p := range list.Items {
			queued[p.Name] = p.Labels["kueue.x-k8s.io/queue-name"] == "sweeps" && p.Labels["kueue.x-k8s.io/managed"] == "true"
		}
	})
	n.succeeded("queued")
	for pod, ok := range queued {
		if !ok {
			t.Errorf("%s did not go through the queue", pod)
		}
	}
	if len(queued) < 3 || len(admitted) < 3 {
		t.Errorf("seen: %d pods in the queue, %d workloads admitted", len(queued), len(admitted))
	}
	t.Logf("%d pods, %d workloads admitted", len(queued), len(admitted))
}
