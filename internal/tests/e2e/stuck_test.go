//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
)

// messages are what the nodes of a workflow say that did not succeed, a line each.
func messages(w wfv1.Workflow) string {
	var lines []string
	for _, node := range w.Status.Nodes {
		if node.Message != "" && node.Phase != wfv1.NodeSucceeded && node.Phase != wfv1.NodeRunning {
			lines = append(lines, fmt.Sprintf("%s %s: %s", node.DisplayName, node.Phase, node.Message))
		}
	}
	return strings.Join(lines, "\n")
}

// Whatever keeps a pod from running ends the workflow, with the reason and what to do.
// The seconds until somebody can read it are in docs/cluster.md.
func TestNothingHangs(t *testing.T) {
	t.Parallel()
	const patience = "--pending-timeout=1m"
	for name, test := range map[string]struct {
		flags []string
		words []string
	}{
		"step's image": {[]string{"--step-image=registry.invalid/step:absent"},
			[]string{"start Failed", "the image registry.invalid/step:absent cannot be pulled"}},
		"load generator's image": {[]string{"--driver=guidellm", "--guidellm-image=registry.invalid/guidellm:v0.8.1", "--image-pull-secrets=absent"},
			[]string{"image registry.invalid/guidellm:v0.8.1 cannot be pulled", "Unable to retrieve some image pull secrets (absent)"}},
		"no room": {[]string{"--load-generator-cpu=900"},
			[]string{"not begun within 1m0s", "no node has enough free cpu", "ask for less"}},
		"no node": {[]string{"--load-generator-node-selector=wfgen.dev/e2e=absent"},
			[]string{"not begun within 1m0s", "no node has the labels that the pod selects"}},
		"secret of the servers": {[]string{"--api-key-secret-name=absent"},
			[]string{`secret "absent" not found`, "create it in namespace"}},
		"secret of the store": {[]string{"--s3-secret=absent"},
			[]string{`secret "absent" not found`, "create it in namespace"}},
		"bucket": {[]string{"--s3-bucket=absent-bucket"},
			[]string{"The specified bucket does not exist"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNamespace(t, "stuck")
			n.serve("A100", slow)
			n.install(append([]string{"--accelerators=A100", "--batch-sizes=1,4", "--retries=1", patience}, test.flags...)...)
			const run = "run"
			begin, known := time.Now(), time.Duration(0)
			n.submit(run)
			w := n.finished(run, 6*time.Minute, func(w wfv1.Workflow) {
				said := messages(w)
				for _, word := range test.words {
					if !strings.Contains(said, word) {
						return
					}
				}
				if known == 0 {
					known = time.Since(begin)
				}
			})
			if w.Status.Phase != wfv1.WorkflowFailed && w.Status.Phase != wfv1.WorkflowError {
				t.Errorf("the workflow is %s", w.Status.Phase)
			}
			said := messages(w)
			for _, word := range test.words {
				if !strings.Contains(said, word) {
					t.Errorf("%q is said nowhere", word)
				}
			}
			t.Logf("known after %.0f s, ended after %.0f s:\n%s", known.Seconds(), time.Since(begin).Seconds(), said)
			if pending := n.pending(t.Context()); pending != "" {
				t.Errorf("still pending: %s", pending)
			}
		})
	}
}

// pending are the pods that wait to begin although nobody waits for them.
func (n *namespace) pending(ctx context.Context) string {
	var names []string
	for range 10 { // their end takes a moment
		names = nil
		var list corev1.PodList
		n.get(&list, "pods", "-l", "workflows.argoproj.io/workflow")
		for _, p := range list.Items {
			if p.Status.Phase == corev1.PodPending {
				names = append(names, p.Name)
			}
		}
		if len(names) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return strings.Join(names, ", ")
		case <-time.After(time.Second):
		}
	}
	return strings.Join(names, ", ")
}

// Without Argo a Job of its own looks after the others.
func TestNoJobHangs(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "jobs-stuck")
	n.kubectl("apply", "-k", n.generateBy([]string{"jobs"}, "--accelerators=A100", "--batch-sizes=1,4", "--load-generator-cpu=900", "--pending-timeout=1m"), "--server-side")
	begin := time.Now()
	n.kubectl("wait", "--for=condition=failed", "--timeout=240s", "job/"+template+"-a100")
	t.Logf("failed after %.0f s", time.Since(begin).Seconds())
	n.kubectl("wait", "--for=condition=complete", "--timeout=120s", "job/"+template+"-guard")
	if log := n.kubectl("logs", "job/"+template+"-guard"); !strings.Contains(log, "no node has enough free cpu") {
		t.Errorf("the guard says %q", log)
	}
	var list corev1.PodList
	n.get(&list, "pods", "-l", "batch.kubernetes.io/job-name="+template+"-a100")
	for _, p := range list.Items {
		if !strings.Contains(p.Status.Message, "ask for less") {
			t.Errorf("pod %s is %s: %q", p.Name, p.Status.Phase, p.Status.Message)
		}
	}
}

// Without the image of step no pod of a Job begins, not the guard's either: the Job start
// says so.
func TestNoJobHangsWithoutAnImage(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "jobs-image")
	n.kubectl("apply", "-k", n.generateBy([]string{"jobs"}, "--accelerators=A100", "--batch-sizes=1,4", "--step-image=registry.invalid/step:absent", "--pending-timeout=1m"), "--server-side")
	begin := time.Now()
	n.kubectl("wait", "--for=condition=failed", "--timeout=180s", "job/"+template+"-start")
	t.Logf("failed after %.0f s", time.Since(begin).Seconds())
	if said := n.kubectl("describe", "job", template+"-start"); !strings.Contains(said, "DeadlineExceeded") || !strings.Contains(said, "the image registry.invalid/step:absent cannot be pulled") {
		t.Errorf("the Job says\n%s", said)
	}
	if said := n.kubectl("describe", "pods", "-l", "batch.kubernetes.io/job-name="+template+"-a100"); !strings.Contains(said, "registry.invalid") {
		t.Errorf("the pods say\n%s", said)
	}
}
