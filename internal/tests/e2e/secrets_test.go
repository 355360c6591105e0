//go:build e2e

package e2e

import (
	"io"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"

	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
)

// Secrets of a namespace that no pod, log, event, workflow and object may show.
const (
	canaryKey = "canary-api-key-5f1d"
	canaryHub = "hf_canaryHub7Qx2"
)

// canaries puts both secrets where a sweep looks for them, and returns the flags that say so.
func (n *namespace) canaries() []string {
	n.t.Helper()
	for name, data := range map[string]map[string]string{"servers": {"api-key": canaryKey}, "huggingface-secret": {"token": canaryHub}} {
		n.apply(map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name, "namespace": n.name}, "stringData": data})
	}
	return []string{"--api-key-secret-name=servers"}
}

// revealsNothing searches everything that the cluster shows of the namespace but the
// Secrets, and every object in the store.
func (n *namespace) revealsNothing() {
	n.t.Helper()
	places := map[string]string{
		"objects": n.kubectl("get", "pods,workflows,workflowtemplates,workflowtaskresults,events,configmaps,jobs", "-o", "yaml"),
	}
	var list corev1.PodList
	n.get(&list, "pods", "-l", "workflows.argoproj.io/workflow")
	if len(list.Items) == 0 {
		n.t.Error("no pod is left to look at")
	}
	for _, p := range list.Items {
		logs, _ := n.tryKubectl("logs", p.Name, "--all-containers") // one that never began has none
		places["logs of "+p.Name] = logs
	}
	objects := n.keys("")
	for _, key := range objects {
		r, err := n.results().Open(n.t.Context(), key)
		if err != nil {
			n.t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		_ = r.Close()
		if err != nil {
			n.t.Fatal(err)
		}
		places[key] = string(data)
	}
	for place, text := range places {
		for _, secret := range []string{canaryKey, canaryHub, setting("AWS_SECRET_ACCESS_KEY", "?")} {
			if i := strings.Index(text, secret); i >= 0 {
				n.t.Errorf("%s show %s: %q", place, secret, text[max(0, i-80):min(len(text), i+80)])
			}
		}
	}
	n.t.Logf("%d places, %d of them objects in the store", len(places), len(objects))
}

// keepPods leaves a workflow's pods there to be looked at.
func (n *namespace) keepPods() {
	n.t.Helper()
	n.kubectl("patch", "workflowtemplate", template, "--type=merge", "-p", `{"spec":{"podGC":null}}`)
}

// A sweep shows the key of its servers nowhere, also where servers give it away: one in its
// errors, one in what it generates, of which it dies. What another one measures is kept.
func TestSecretsAreNowhere(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "canary")
	flags := n.canaries()
	echo := n.programImage("echo")
	servers := []string{n.deploy("A100", slow, "--api-key="+canaryKey), // their own pods are not the sweep's
		n.host("vllm-h100", echo, n.model(), "refuses"), n.host("vllm-l4", echo, n.model(), "streams")}
	for _, s := range servers {
		n.kubectl("rollout", "status", "deployment/"+s, "--timeout=60s")
	}
	n.install(append(flags, "--accelerators=A100,H100,L4", "--batch-sizes=1,4", "--max-seconds=4", "--retries=0")...)
	n.keepPods()
	n.submit("run")
	w := n.finished("run", 4*time.Minute)
	t.Logf("%s: %s", w.Status.Phase, messages(w))
	if w.Status.Phase != wfv1.WorkflowFailed {
		t.Errorf("two servers betray the key, and the workflow is %s", w.Status.Phase)
	}
	if !n.exists(layout.Run("run") + "/" + layout.ParametersOf("A100", shape)) {
		t.Error("what a good server gave is not kept")
	}
	for _, s := range servers { // whose arguments and logs hold the key
		n.kubectl("delete", "deployment", s)
	}
	n.kubectl("wait", "--for=delete", "pod", "-l", "app in (vllm-a100, vllm-h100, vllm-l4)", "--timeout=60s")
	n.revealsNothing()
}

// Who may only submit can refer to variables of the pods, which hold secrets: the
// kubelet must not fill them in, and the key goes to no other server.
func TestSubmittersSeeNoSecrets(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "submitter")
	n.serve("A100", slow) // which serves no model of such a name
	n.install(append(n.canaries(), "--accelerators=A100", "--batch-sizes=1,4", "--max-seconds=4", "--wait-timeout=10s", "--retries=0")...)
	n.keepPods()
	n.submit("model", "-p", "model=$("+steps.Bench.APIKey.Variable()+")")
	n.submit("target", "-p", "target-url=http://elsewhere.invalid/$(HF_TOKEN)")
	n.submit("both", "-p", "target-url=http://$("+steps.Bench.APIKey.Variable()+").invalid", "-p", "model=$(AWS_SECRET_ACCESS_KEY)")
	for _, name := range []string{"model", "target", "both"} {
		w := n.finished(name, 3*time.Minute)
		t.Logf("%s: %s", name, messages(w))
		if !strings.Contains(messages(w), "$(") {
			t.Errorf("%s: the text that was given is not in what it says", name)
		}
	}
	n.revealsNothing()
}

// The ServiceAccount's identity is in Argo's own containers and in the steps that ask the
// API server; a load generator, a server and a step that does not, have none.
func TestNoForeignContainerHasAToken(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "token")
	n.gpuNode()
	n.install(append(n.deploys(simulated(slow)...), "--accelerators=REAL", "--batch-sizes=1,4", "--max-seconds=4")...)
	n.keepPods()
	n.run("run")
	seen := n.identities("run")
	for _, of := range []string{"start", "guard", "await", "server-real", "wait", "point", "aggregate", "summary"} {
		if seen[of] == 0 {
			t.Errorf("no pod of %s was seen", of)
		}
	}
}

// identities fails where a container of a workflow's pods, which are kept, has the
// ServiceAccount's identity and does not need it, or the other way round. It counts the
// pods by their templates.
func (n *namespace) identities(run string) map[string]int {
	n.t.Helper()
	var list corev1.PodList
	n.get(&list, "pods", "-l", "workflows.argoproj.io/workflow="+run)
	const at = "/var/run/secrets/kubernetes.io/serviceaccount"
	asks := map[string]bool{"start": true, "guard": true, "await": true}
	seen := map[string]int{}
	for _, p := range list.Items {
		// Its name is WORKFLOW-TEMPLATE-HASH.
		of := strings.TrimPrefix(p.Name, run+"-")
		of = of[:strings.LastIndex(of, "-")]
		seen[of]++
		if a := p.Spec.AutomountServiceAccountToken; a == nil || *a {
			n.t.Errorf("%s mounts it everywhere", p.Name)
		}
		for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
			has := false
			for _, m := range c.VolumeMounts {
				has = has || m.MountPath == at
			}
			want := c.Name == "init" || c.Name == "wait" || c.Name == "main" && asks[of]
			if has != want {
				n.t.Errorf("%s, container %s: identity %v, want %v", p.Name, c.Name, has, want)
			}
		}
	}
	n.t.Logf("pods: %v", seen)
	return seen
}
