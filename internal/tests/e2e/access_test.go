//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// TestServiceAccountCanDoNoMoreThanListed compares what the sweep's ServiceAccount may
// do with what any account of a namespace may.
func TestServiceAccountCanDoNoMoreThanListed(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "access")
	n.install("--accelerators=A100")
	may := func(namespace, account string) []string {
		out := n.kubectl("auth", "can-i", "--list", "--no-headers", "-n", namespace, "--as=system:serviceaccount:"+n.name+":"+account,
			"--as-group=system:serviceaccounts", "--as-group=system:serviceaccounts:"+n.name, "--as-group=system:authenticated")
		var lines []string
		for line := range strings.Lines(out) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		return lines
	}
	extra := func(namespace string) []string {
		anybody := may(namespace, "somebody")
		return slices.DeleteFunc(may(namespace, template), func(line string) bool { return slices.Contains(anybody, line) })
	}
	eventually(t, 10*time.Second, func() error { // the API server's authorizer follows its own watch
		listed := []string{"pods/status [] [] [patch]", "workflowtaskresults.argoproj.io [] [] [create patch]", "events [] [] [list]", "pods [] [] [list]"}
		got := extra(n.name)
		slices.Sort(got)
		slices.Sort(listed)
		if diff := cmp.Diff(listed, got); diff != "" {
			return fmt.Errorf("more, or less, than listed: %s", diff)
		}
		return nil
	})
	for _, other := range []string{argoNamespace(), "default", "kube-system"} {
		if more := extra(other); len(more) != 0 {
			t.Errorf("in namespace %s: %v", other, more)
		}
	}
}

// TestPodSecurityRestrictedIsEnforced shows that the namespaces of all tests do refuse
// what the standard forbids; that their sweeps ran is shown by the other tests.
func TestPodSecurityRestrictedIsEnforced(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "restricted")
	n.install("--accelerators=A100") // wfgen's own Namespace object, over the test's
	var ns corev1.Namespace
	n.get(&ns, "namespace", n.name)
	if got := ns.Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
		t.Errorf("enforce %q", got)
	}
	out, err := n.tryKubectl("run", "root", "--image="+stepImage, "--dry-run=server")
	if err == nil || !strings.Contains(err.Error(), `violates PodSecurity "restricted`) {
		t.Errorf("a pod without any security context: %v\n%s", err, out)
	}
}
