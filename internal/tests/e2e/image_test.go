//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestImageRunsWithoutRootAndShell runs the archive's image by its own entrypoint, as
// the user that it names, under Pod Security "restricted".
func TestImageRunsWithoutRootAndShell(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "image")
	overrides, err := json.Marshal(map[string]any{"spec": map[string]any{
		"securityContext": map[string]any{"runAsNonRoot": true, "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
		"containers": []any{map[string]any{"name": "step", "image": stepImage, "imagePullPolicy": "IfNotPresent", "args": []string{"--version"},
			"securityContext": map[string]any{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []string{"ALL"}}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	n.kubectl("run", "step", "--image="+stepImage, "--restart=Never", "--overrides="+string(overrides))
	eventually(t, time.Minute, func() error {
		var pod corev1.Pod
		if n.get(&pod, "pod", "step"); pod.Status.Phase != corev1.PodSucceeded {
			return fmt.Errorf("pod step: %s %s", pod.Status.Phase, asJSON(pod.Status.ContainerStatuses))
		}
		return nil
	})
	if out := n.kubectl("logs", "step"); !strings.HasPrefix(out, "step version ") {
		t.Errorf("step --version: %q", out)
	}
}
