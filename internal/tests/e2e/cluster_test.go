//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What the tests run with, made once by TestMain.
var (
	stepImage   string // the image of step, on the nodes
	wfgenBinary string
)

const root = "../../.." // of the module

func TestMain(m *testing.M) {
	code, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	}
	os.Exit(code)
}

func prepareAndRun(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if out, err := command(ctx, "", "kubectl", "get", "--raw", "/readyz", "--request-timeout=10s"); err != nil {
		if os.Getenv("KUBECONFIG") == "" {
			return 0, fmt.Errorf("skipped: no cluster: set KUBECONFIG to one with Argo Workflows (%s)", firstLine(out, err))
		}
		return 1, fmt.Errorf("the cluster of KUBECONFIG=%s does not answer: %s", os.Getenv("KUBECONFIG"), firstLine(out, err))
	}
	for _, need := range [][]string{
		{"kubectl", "get", "crd", "workflowtemplates.argoproj.io", "cronworkflows.argoproj.io", "clusterworkflowtemplates.argoproj.io"},
		{"kubectl", "-n", argoNamespace(), "rollout", "status", "deployment/workflow-controller", "--timeout=60s"},
		{"argo", "version", "--short"},
	} {
		if out, err := command(ctx, "", need[0], need[1:]...); err != nil {
			return 1, fmt.Errorf("%s: %s", strings.Join(need, " "), firstLine(out, err))
		}
	}
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": "http://10.96.0.90:9000", "AWS_ACCESS_KEY_ID": "labadmin", "AWS_SECRET_ACCESS_KEY": "labsecret123",
	} {
		if os.Getenv(name) == "" {
			if err := os.Setenv(name, value); err != nil {
				return 1, err
			}
		}
	}
	work, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(work)
	wfgenBinary = filepath.Join(work, "wfgen")
	if out, err := command(ctx, "", "go", "build", "-o", wfgenBinary, "wfgen.dev/cmd/wfgen"); err != nil {
		return 1, fmt.Errorf("%w\n%s", err, out)
	}
	if stepImage = os.Getenv("E2E_IMAGE"); stepImage == "" {
		if stepImage, err = buildImage(ctx, filepath.Join(work, "step.tar")); err != nil {
			return 1, err
		}
	}
	code = m.Run()
	printFindings(os.Stdout)
	return code, nil
}

// buildImage makes the image of step as make image-archive does, gives it to the
// nodes, and returns its name, which tells its contents apart from other runs'.
func buildImage(ctx context.Context, archive string) (string, error) {
	build := exec.CommandContext(ctx, "go", "run", ".", "image", "-version", "e2e", "-image", "wfgen.dev/step", "-output", archive)
	build.Dir = filepath.Join(root, "hack", "release")
	var stderr bytes.Buffer
	build.Stderr = &stderr
	out, err := build.Output()
	if err != nil {
		return "", fmt.Errorf("the image of step: %w\n%s", err, &stderr)
	}
	if out, err := command(ctx, "", filepath.Join(root, "hack", "load-image"), archive); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// setting is an environment variable or its default.
func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func argoNamespace() string { return setting("E2E_ARGO_NAMESPACE", "argo") }
func bucket() string        { return setting("E2E_BUCKET", "artifacts") }

// command runs a program and returns its stdout; an error holds its stderr.
func command(ctx context.Context, stdin, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

func firstLine(out string, err error) string {
	text := strings.TrimSpace(err.Error() + "\n" + out)
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// namespace is a test's own, which enforces Pod Security "restricted" and holds the
// credentials of the object store. It goes when the test ends.
type namespace struct {
	t    *testing.T
	name string
}

func newNamespace(t *testing.T, purpose string) *namespace {
	t.Helper()
	n := &namespace{t, fmt.Sprintf("e2e-%s-%s", purpose, strings.ToLower(rand.Text()[:5]))}
	n.apply(map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": n.name, "labels": map[string]string{
			"pod-security.kubernetes.io/enforce": "restricted", "app.kubernetes.io/part-of": "wfgen-e2e",
		}},
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if t.Failed() {
			n.diagnose(ctx)
		}
		if os.Getenv("E2E_KEEP") != "" {
			t.Logf("kept: namespace %s", n.name)
			return
		}
		if out, err := command(ctx, "", "kubectl", "delete", "namespace", n.name, "--wait=false"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	n.apply(map[string]any{
		"apiVersion": "v1", "kind": "Secret",
		"metadata":   map[string]any{"name": "s3-credentials", "namespace": n.name},
		"stringData": map[string]string{"accessKey": os.Getenv("AWS_ACCESS_KEY_ID"), "secretKey": os.Getenv("AWS_SECRET_ACCESS_KEY")},
	})
	return n
}

// apply applies an object as kubectl apply --server-side does.
func (n *namespace) apply(object any) {
	n.t.Helper()
	data, err := json.Marshal(object)
	if err != nil {
		n.t.Fatal(err)
	}
	if out, err := command(n.t.Context(), string(data), "kubectl", "apply", "--server-side", "-f", "-"); err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
}

// kubectl runs kubectl in the namespace and returns its stdout.
func (n *namespace) kubectl(args ...string) string {
	n.t.Helper()
	out, err := n.tryKubectl(args...)
	if err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// tryKubectl is kubectl where it may fail.
func (n *namespace) tryKubectl(args ...string) (string, error) {
	return command(n.t.Context(), "", "kubectl", append([]string{"-n", n.name}, args...)...)
}

// get reads one object, or a list of them.
func (n *namespace) get(into any, args ...string) {
	n.t.Helper()
	out := n.kubectl(append(append([]string{"get"}, args...), "-o", "json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		n.t.Fatalf("get %s: %v", strings.Join(args, " "), err)
	}
}

// eventually waits until what holds; it says what was missing.
func eventually(t *testing.T, timeout time.Duration, what func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(time.Second) {
		if err = what(); err == nil {
			return
		}
		if errors.Is(t.Context().Err(), context.Canceled) {
			break
		}
	}
	t.Fatalf("not within %v: %v", timeout, err)
}

// diagnose prints what one would look at after a failure.
func (n *namespace) diagnose(ctx context.Context) {
	show := func(title, name string, args ...string) {
		out, err := command(ctx, "", name, args...)
		if err != nil {
			out += err.Error()
		}
		if out = strings.TrimSpace(out); out != "" {
			n.t.Logf("--- %s\n%s", title, out)
		}
	}
	names, _ := command(ctx, "", "kubectl", "-n", n.name, "get", "workflows", "-o", "name")
	for _, name := range strings.Fields(names) {
		name = name[strings.LastIndex(name, "/")+1:]
		show("workflow "+name, "argo", "get", "-n", n.name, name)
	}
	show("pods", "kubectl", "-n", n.name, "get", "pods", "-o", "wide")
	pods, _ := command(ctx, "", "kubectl", "-n", n.name, "get", "pods", "-o", "name")
	for _, pod := range strings.Fields(pods) {
		show("logs of "+pod, "kubectl", "-n", n.name, "logs", pod, "--all-containers", "--prefix", "--tail=15")
	}
	show("events", "kubectl", "-n", n.name, "get", "events", "--sort-by=.lastTimestamp",
		"-o=custom-columns=TIME:.lastTimestamp,TYPE:.type,OBJECT:.involvedObject.name,REASON:.reason,MESSAGE:.message")
}
