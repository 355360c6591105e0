//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestReadme pastes the first block of README that is marked "on a cluster", as it
// stands, into a shell in a fresh clone: the cluster has Argo and a bucket, and nothing of
// ours. The answer is printed by the last line.
func TestReadme(t *testing.T) {
	const block = "```sh\n# on a cluster\n"
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), block)
	script, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatalf("README has no block %q", block)
	}
	if exec.Command("kubectl", "get", "workflowtemplate", "-n", "demo", "llm-parameter-estimation").Run() == nil {
		t.Skip("somebody else's sweep is in the namespace demo, which README uses")
	}
	clone := filepath.Join(t.TempDir(), "wfgen")
	if out, err := command(t.Context(), "", "git", "clone", "--quiet", root, clone); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// The bucket: the controller's own repository looks for its keys in the namespace.
	ours := exec.Command("kubectl", "create", "namespace", "demo").Run() == nil
	secret := []string{"create", "secret", "generic", "s3-credentials", "-n", "demo",
		"--from-literal", "accessKey=" + os.Getenv("AWS_ACCESS_KEY_ID"), "--from-literal", "secretKey=" + os.Getenv("AWS_SECRET_ACCESS_KEY")}
	if out, err := command(t.Context(), "", "kubectl", secret...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		_ = exec.Command("kubectl", "delete", "workflows,workflowtemplates,services,serviceaccounts,roles,rolebindings", "-n", "demo", "-l", "app.kubernetes.io/managed-by=wfgen", "--wait=false").Run()
		_ = exec.Command("kubectl", "delete", "secret", "-n", "demo", "s3-credentials").Run()
		if ours {
			_ = exec.Command("kubectl", "delete", "namespace", "demo", "--wait=false").Run()
		}
	})

	begin := time.Now()
	cmd := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", script)
	cmd.Dir = clone
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`(?m)^alpha-a100=11\.`, `(?m)^alpha-h100=(6\.9|7\.0)`, `(?m)^verdict-a100=(accepted|warned)$`, `Status: +Succeeded`} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("does not say %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
	t.Logf("from the clone to the answer: %.1f minutes", time.Since(begin).Minutes())
}
