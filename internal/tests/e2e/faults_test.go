//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep"
)

// The tests of this file break something in the middle of a sweep, and hold what
// comes out of it against the truth. Those that break what all workflows share are
// not parallel: they have the cluster to themselves.

// Few points, so that all faults together take minutes, in the order in which they are
// measured.
var (
	faultSizes    = sweep.Order([]int{1, 4, 8, 12})
	second, third = faultSizes[1], faultSizes[2]
)

// A pod of a point is deleted in the middle, as by a drain that waits for it and as
// by a node that is gone: the point is measured again.
func TestFaultPodDeleted(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "pod")
	n.serve("A100", slow)
	n.install("--accelerators=A100", "--max-seconds=8", "--batch-sizes="+batches(faultSizes...))
	n.submit("run")
	deleted := map[int]time.Time{}
	n.kubectl("delete", "pod", n.inTheMiddle("run", "A100", second), "--wait=false")
	deleted[second] = time.Now()
	n.kubectl("delete", "pod", n.inTheMiddle("run", "A100", third), "--force", "--grace-period=0")
	deleted[third] = time.Now()
	n.finished("run", 4*time.Minute)
	w := n.succeeded("run")
	n.whole("run", "A100", slow)
	for b, at := range deleted {
		tries := attempts(w, "A100", b) // of a node that has not been seen to run, Argo makes the pod again
		if m := n.measurement("run", "A100", b); m.StartedAt < unix(at) {
			t.Errorf("batch %d was measured %.0f s before its pod was deleted; attempts %s", b, unix(at)-m.StartedAt, tell(tries))
		} else {
			t.Logf("batch %d: attempts %s", b, tell(tries))
		}
	}
}

// The server is restarted in the middle of a point, and is away for longer than one:
// both points are tried again, and neither leaves a wrong number.
func TestFaultServerRestarted(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "restart")
	truths := map[string]law{"A100": slow, "H100": fast}
	for name, truth := range truths {
		n.serve(name, truth)
	}
	n.install("--accelerators=A100,H100", "--max-seconds=8", "--batch-sizes="+batches(faultSizes...))
	n.submit("run")
	n.inTheMiddle("run", "A100", second)
	n.kubectl("delete", "pod", "-l", "app=vllm-a100", "--grace-period=1", "--wait=false")
	n.inTheMiddle("run", "H100", third)
	n.kubectl("scale", "deployment/vllm-h100", "--replicas=0")
	eventually(t, time.Minute, func() error {
		if tries := attempts(n.workflow("run"), "H100", third); len(tries) == 0 || !tries[0].Fulfilled() {
			return fmt.Errorf("the point of the server that is away goes on: %s", tell(tries))
		}
		return nil
	})
	n.kubectl("scale", "deployment/vllm-h100", "--replicas=1")
	n.finished("run", 4*time.Minute)
	w := n.succeeded("run")

	for name, b := range map[string]int{"A100": second, "H100": third} {
		tries := attempts(w, name, b)
		if len(tries) < 2 || exitCode(tries[0]) != "75" || tries[len(tries)-1].Phase != wfv1.NodeSucceeded {
			t.Errorf("%s, batch %d: attempts %s; want 75 first and a good one last", name, b, tell(tries))
		}
	}
	for name, truth := range truths {
		n.whole("run", name, truth)
	}
}

// Every tenth request fails: the parameters are right, and the verdict warns.
func TestFaultRequestsFail(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "errors")
	n.serve("A100", slow, "--fail-rate=0.1")
	n.install("--accelerators=A100", "--max-seconds=8", "--batch-sizes="+batches(faultSizes...))
	n.submit("run")
	n.finished("run", 4*time.Minute)
	n.succeeded("run")
	p := n.whole("run", "A100", slow)
	if reasons := strings.Join(p.Verdict.Reasons, "\n"); p.Verdict.Level != fit.Warned || !strings.Contains(reasons, "requests failed") || !strings.Contains(reasons, "500") {
		t.Errorf("verdict %s: %s", p.Verdict.Level, reasons)
	}
	if n.exists(layout.LatestOf(n.model(), "A100", shape)) {
		t.Error("a warned verdict moved latest")
	}
}

// One server never becomes ready: its accelerator fails and the summary says why; the
// other's parameters are there; the workflow is not green.
func TestFaultServerNeverReady(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "unready")
	n.serve("A100", slow)
	n.deploy("H100", fast, "--start-delay=1h")
	n.install("--accelerators=A100,H100", "--max-seconds=8", "--batch-sizes="+batches(faultSizes...), "--wait-timeout=20s")
	n.submit("run")
	w := n.finished("run", 4*time.Minute)
	if w.Status.Phase != wfv1.WorkflowFailed {
		t.Errorf("the workflow is %s: %s", w.Status.Phase, w.Status.Message)
	}
	p := n.whole("run", "A100", slow)
	if got := output(w, "alpha-a100"); got != parameters.Format(*p.Alpha) {
		t.Errorf("alpha of the good accelerator is %s, the workflow's output %q", parameters.Format(*p.Alpha), got)
	}
	s := decode(n, layout.Run("run")+"/"+layout.Summary, parameters.DecodeSummary)
	if len(s.Failures) != 1 || s.Failures[0].Accelerator != "H100" || !strings.Contains(strings.Join(s.Failures[0].Reasons, " "), "is not ready") {
		t.Errorf("failures in the summary: %s", asJSON(s.Failures))
	}
	waits := pods(w, "wait")
	i := slices.IndexFunc(waits, func(p wfv1.NodeStatus) bool { return p.Phase != wfv1.NodeSucceeded })
	if len(waits) != 2 || i < 0 || exitCode(waits[i]) != "75" || !strings.Contains(waits[i].Message, "is not ready") {
		t.Errorf("waits: %s", tell(waits))
	}
}

// A workflow that is stopped and retried measures what was not measured, and nothing
// again.
func TestFaultStopAndRetry(t *testing.T) {
	t.Parallel()
	n := newNamespace(t, "stop")
	n.serve("A100", slow)
	n.install("--accelerators=A100", "--max-seconds=8", "--batch-sizes="+batches(faultSizes...))
	n.submit("run")
	pod := n.inTheMiddle("run", "A100", third)
	n.argo("stop", "run")
	stopped := n.finished("run", 2*time.Minute)
	if stopped.Status.Phase != wfv1.WorkflowFailed {
		t.Errorf("stopped, the workflow is %s: %s", stopped.Status.Phase, stopped.Status.Message)
	}
	done := faultSizes[:2]
	before := map[int][]byte{}
	for _, b := range done {
		before[b] = n.object(layout.MeasurementOf("run", sweep.Point{Accelerator: "A100", Shape: shape, BatchSize: b}))
	}
	// A retry while the stopped pod is still ending takes it for its own, and waits for
	// ever for what it will say.
	n.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s", "pod/"+pod)
	n.argo("retry", "run")
	eventually(t, 30*time.Second, func() error {
		if w := n.workflow("run"); w.Status.Fulfilled() && w.Status.FinishedAt.Equal(&stopped.Status.FinishedAt) {
			return fmt.Errorf("the workflow is still %s", w.Status.Phase)
		}
		return nil
	})
	n.finished("run", 4*time.Minute)
	w := n.succeeded("run")

	for _, b := range done {
		was, is := attempts(stopped, "A100", b), attempts(w, "A100", b)
		if len(was) != 1 || len(is) != 1 || was[0].ID != is[0].ID || !was[0].StartedAt.Equal(&is[0].StartedAt) {
			t.Errorf("batch %d was measured: %s; after the retry: %s", b, tell(was), tell(is))
		}
		if now := n.object(layout.MeasurementOf("run", sweep.Point{Accelerator: "A100", Shape: shape, BatchSize: b})); string(now) != string(before[b]) {
			t.Errorf("batch %d: the measurement was written again", b)
		}
	}
	n.whole("run", "A100", slow)
}

// The object store is away for half a minute when a point is to be saved.
func TestFaultStoreAway(t *testing.T) {
	namespace, name, _ := strings.Cut(setting("E2E_S3_SERVICE", "s3/minio"), "/")
	s3 := &serviceSwitch{t, namespace, name}
	if out, err := command(t.Context(), "", "kubectl", "-n", namespace, "get", "service", name); err != nil {
		t.Skipf("no Service to take away: E2E_S3_SERVICE=%s/%s: %s", namespace, name, firstLine(out, err))
	}
	n := newNamespace(t, "store")
	n.serve("A100", slow)
	n.install("--accelerators=A100", "--max-seconds=8", "--batch-sizes="+batches(faultSizes...))
	n.submit("run")
	n.inTheMiddle("run", "A100", second)
	t.Cleanup(s3.back)
	s3.away()
	time.Sleep(30 * time.Second)
	s3.back()
	n.finished("run", 5*time.Minute)
	w := n.succeeded("run")
	t.Logf("batch %d: attempts %s", second, tell(attempts(w, "A100", second)))
	n.whole("run", "A100", slow)
}

// serviceSwitch takes a Service away from its pods, which live on and keep their
// data: connections are refused.
type serviceSwitch struct {
	t               *testing.T
	namespace, name string
}

func (s *serviceSwitch) away() { s.patch(`{"spec":{"selector":{"wfgen.dev/e2e":"away"}}}`) }
func (s *serviceSwitch) back() { s.patch(`{"spec":{"selector":{"wfgen.dev/e2e":null}}}`) }

func (s *serviceSwitch) patch(text string) {
	s.t.Helper()
	// Not the test's context: that is over when it is cleaned up.
	if out, err := command(context.Background(), "", "kubectl", "-n", s.namespace, "patch", "service", s.name, "-p", text); err != nil {
		s.t.Errorf("%v\n%s", err, out)
	}
}

// The workflow controller is restarted in the middle of a point: nothing is measured
// twice, and the workflow goes on.
func TestFaultControllerRestarted(t *testing.T) {
	n := newNamespace(t, "controller")
	n.serve("A100", slow)
	n.install("--accelerators=A100", "--max-seconds=8", "--batch-sizes="+batches(faultSizes...))
	n.submit("run")
	n.inTheMiddle("run", "A100", second)
	for _, args := range [][]string{
		{"delete", "pod", "-l", "app=workflow-controller"},
		{"rollout", "status", "deployment/workflow-controller", "--timeout=60s"},
	} {
		if out, err := command(t.Context(), "", "kubectl", append([]string{"-n", argoNamespace()}, args...)...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	n.finished("run", 4*time.Minute)
	w := n.succeeded("run")
	for _, b := range faultSizes {
		if tries := attempts(w, "A100", b); len(tries) != 1 {
			t.Errorf("batch %d: attempts %s", b, tell(tries))
		}
	}
	n.whole("run", "A100", slow)
}

// Others use up the node's CPUs: numbers may be off, but none with confidence.
func TestFaultCPUPressure(t *testing.T) {
	n := newNamespace(t, "pressure")
	n.serve("A100", slow)
	n.serve("Neighbour", law{alpha: 0.001, gamma: 0.001})
	n.install("--accelerators=A100", "--max-seconds=8", "--batch-sizes="+batches(faultSizes...))
	n.neighbour()
	n.submit("run")
	w := n.finished("run", 4*time.Minute)
	if w.Status.Phase != wfv1.WorkflowSucceeded { // rather no parameters than wrong ones
		summary := decode(n, layout.Run("run")+"/"+layout.Summary, parameters.DecodeSummary)
		t.Logf("workflow %s: %s; failures %s", w.Status.Phase, w.Status.Message, asJSON(summary.Failures))
		if len(summary.Parameters) > 0 || len(summary.Failures) == 0 {
			t.Errorf("parameters of a workflow that failed: %s", asJSON(summary))
		}
		return
	}
	p := decode(n, layout.Run("run")+"/"+layout.ParametersOf("A100", shape), parameters.Decode)
	t.Logf("verdict %s: %s", p.Verdict.Level, strings.Join(p.Verdict.Reasons, "; "))
	honest(t, p, slow)
}

// neighbour keeps a server of that name, and with it all CPUs, busy until the
// namespace goes.
func (n *namespace) neighbour() {
	n.t.Helper()
	n.apply(corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "neighbour", Namespace: n.name},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Volumes:         []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
			Containers: []corev1.Container{{
				Name: "load", Image: stepImage, ImagePullPolicy: corev1.PullIfNotPresent,
				Args: []string{"bench", "--accelerator=A100", "--target=http://vllm-neighbour:8000", "--model=" + n.model(), "--batch-size=64",
					"--output-tokens=512", "--max-seconds=3600", "--output=/tmp/out"},
				Resources:       corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
				VolumeMounts:    []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
				SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
			}},
		},
	})
	n.kubectl("wait", "--for=condition=Ready", "pod/neighbour", "--timeout=60s")
}

// inTheMiddle waits until the load of a point has run for a while, and returns its
// pod's name.
func (n *namespace) inTheMiddle(workflow, accelerator string, batch int) string {
	n.t.Helper()
	var name string
	eventually(n.t, 3*time.Minute, func() error {
		var list corev1.PodList
		n.get(&list, "pods", "-l", "workflows.argoproj.io/workflow="+workflow)
		for _, pod := range list.Items {
			for _, c := range pod.Spec.Containers {
				given := func(s steps.Setting) bool {
					return slices.Contains(c.Env, corev1.EnvVar{Name: s.Variable(), Value: s.Value})
				}
				if given(steps.Bench.Accelerator.Set(accelerator)) && given(steps.Bench.BatchSize.Set(strconv.Itoa(batch))) {
					// What the driver says when its streams begin.
					if log, err := n.tryKubectl("logs", pod.Name, "-c", c.Name); err == nil && strings.Contains(log, "a request alone takes") {
						name = pod.Name
						return nil
					}
				}
			}
		}
		return fmt.Errorf("batch %d of %s does not run", batch, accelerator)
	})
	time.Sleep(2 * time.Second)
	return name
}

// attempts are the pods that tried a point, in order of time.
func attempts(w wfv1.Workflow, accelerator string, batch int) []wfv1.NodeStatus {
	return slices.DeleteFunc(pods(w, "point"), func(node wfv1.NodeStatus) bool {
		return node.Inputs.GetParameterByName("accelerator").Value.String() != accelerator ||
			node.Inputs.GetParameterByName("batch-size").Value.String() != fmt.Sprint(batch) ||
			node.Inputs.GetParameterByName("again").Value.String() != "" // another point
	})
}

func exitCode(node wfv1.NodeStatus) string {
	if node.Outputs == nil || node.Outputs.ExitCode == nil {
		return ""
	}
	return *node.Outputs.ExitCode
}

// tell describes attempts for messages.
func tell(nodes []wfv1.NodeStatus) string {
	var parts []string
	for _, node := range nodes {
		parts = append(parts, fmt.Sprintf("%s %s, exit %q: %q", node.ID, node.Phase, exitCode(node), node.Message))
	}
	return "[" + strings.Join(parts, "; ") + "]"
}

// whole holds what a run left of an accelerator against the truth: every point is
// there with its reports, none is void, and no parameter is wrong with confidence. A
// machine that all these tests share is busy, and a simulated server on it slow for
// real: then the verdict must say so.
func (n *namespace) whole(run, accelerator string, truth law) parameters.Parameters {
	n.t.Helper()
	p := decode(n, layout.Run(run)+"/"+layout.ParametersOf(accelerator, shape), parameters.Decode)
	n.t.Logf("%s: verdict %s: %s", accelerator, p.Verdict.Level, strings.Join(p.Verdict.Reasons, "; "))
	honest(n.t, p, truth)
	for i, b := range slices.Sorted(slices.Values(append(slices.Clone(faultSizes), faultSizes[0]))) {
		if i >= len(p.Fit.Points) || p.Fit.Points[i].BatchSize != b {
			n.t.Errorf("%s: the estimate knows %d points, %s", accelerator, len(p.Fit.Points), asJSON(p.Fit.Points))
			break
		}
		m := n.measurement(run, accelerator, b)
		if m.Partial || len(m.Taken.Void) > 0 {
			n.t.Errorf("%s, batch %d: partial %v, void %q", accelerator, b, m.Partial, m.Taken.Void)
		}
		for _, end := range []string{".json", "-log.txt", "-server.json"} {
			if k := layout.ReportsOf(run, accelerator, shape) + "/" + layout.ReportName(b, faultSizes) + end; !n.exists(k) {
				n.t.Errorf("there is no %s", k)
			}
		}
	}
	return p
}

// measurement reads what a run measured at a point.
func (n *namespace) measurement(run, accelerator string, batch int) measurement.Measurement {
	n.t.Helper()
	return decode(n, layout.MeasurementOf(run, sweep.Point{Accelerator: accelerator, Shape: shape, BatchSize: batch}), measurement.Decode)
}

// honest holds parameters against the truth: each is near it, or its interval holds
// it, or the verdict warns of this very line.
func honest(t *testing.T, p parameters.Parameters, truth law) {
	t.Helper()
	reasons := strings.Join(p.Verdict.Reasons, "\n")
	for name, want := range truth.letters() {
		got, low, high, ok := p.Parameter(name)
		line, pair := "ITL", "alpha, beta"
		if name == "gamma" || name == "delta" {
			line, pair = "TTFT", "gamma, delta"
		}
		refused := strings.Contains(reasons, pair+" are refused")
		if !ok && refused {
			t.Logf("%s %s is refused", p.Accelerator, name)
			continue
		}
		warned := p.Verdict.Level == fit.Warned && (strings.Contains(reasons, line+" is predicted") || strings.Contains(reasons, line+": the ") ||
			strings.Contains(reasons, line+" changed by") || strings.Contains(reasons, line+" grows ever"))
		told := fmt.Sprintf("%s %s: truth %v, estimate %s, 95 %% [%s, %s], warned %v",
			p.Accelerator, name, want, parameters.Format(got), parameters.Format(low), parameters.Format(high), warned)
		if near := math.Abs(got-want) <= tolerances[name]*want || low <= want && want <= high; !ok || !near && !warned {
			t.Error(told)
		} else {
			t.Log(told)
		}
	}
}

// letters are the truth by the names of the parameters.
func (l law) letters() map[string]float64 {
	return map[string]float64{"alpha": l.alpha, "beta": l.beta, "gamma": l.gamma, "delta": l.delta}
}
