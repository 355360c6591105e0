//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

// model is what the servers of a namespace serve: with a slash, as real models have
// it, and a name of its own, since the controller's gauges know no namespace.
func (n *namespace) model() string { return "org/" + n.name }

// law is the truth of a simulated server, ms.
type law struct{ alpha, beta, gamma, delta float64 }

// Truths that a busy machine delivers well: what the batch adds is much more than what
// its scheduler does.
var (
	fast = law{alpha: 16, beta: 0.5, gamma: 60, delta: 0.1}
	slow = law{alpha: 24, beta: 1.0, gamma: 90, delta: 0.15}
)

// shape of the requests of all sweeps.
var shape = sweep.Shape{PromptTokens: 64, OutputTokens: 16}

// serve runs a simulated server of an accelerator, as Deployment and Service of the
// name that sweeps look for, and waits until it is ready.
func (n *namespace) serve(accelerator string, truth law, flags ...string) {
	n.t.Helper()
	name := n.deploy(accelerator, truth, flags...)
	n.kubectl("rollout", "status", "deployment/"+name, "--timeout=60s")
}

// deploy is serve without waiting; it returns the name of the Deployment and Service.
func (n *namespace) deploy(accelerator string, truth law, flags ...string) string {
	n.t.Helper()
	number := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	args := []string{"simulate", "--listen=0.0.0.0:8000", "--model=" + n.model(), "--max-num-seqs=64"}
	if truth != (law{}) { // otherwise the flags say it
		args = append(args, "--alpha="+number(truth.alpha), "--beta="+number(truth.beta), "--gamma="+number(truth.gamma), "--delta="+number(truth.delta))
	}
	args = append(args, flags...)
	return n.host("vllm-"+sweep.Slug(accelerator), stepImage, args...)
}

// host runs a program that serves HTTP, as Deployment and Service of a name, which it
// returns.
func (n *namespace) host(name, image string, args ...string) string {
	n.t.Helper()
	labels := map[string]string{"app": name}
	n.apply(appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: n.name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					AutomountServiceAccountToken: new(false),
					SecurityContext:              &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
					Containers: []corev1.Container{{
						Name: "server", Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
						Args:      args,
						Ports:     []corev1.ContainerPort{{Name: "metrics", ContainerPort: 8000}}, // by which a Prometheus finds it
						Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("20m"), corev1.ResourceMemory: resource.MustParse("32Mi")}},
						ReadinessProbe: &corev1.Probe{
							ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/health", Port: intstr.FromInt32(8000)}},
							PeriodSeconds: 1,
						},
						SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
					}},
				},
			},
		},
	})
	n.apply(corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: n.name},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 8000}}},
	})
	return name
}

// template is the name of the sweeps' WorkflowTemplate.
const template = "sweep"

// generate has wfgen write the objects of a sweep into a directory. The flags come
// after these, and win: points of six seconds by the native driver, artifacts under
// the namespace's prefix, pods that ask for little.
func (n *namespace) generate(flags ...string) (dir string) {
	n.t.Helper()
	return n.generateBy(nil, flags...)
}

// generateBy is generate by one of wfgen's commands.
func (n *namespace) generateBy(verb []string, flags ...string) (dir string) {
	n.t.Helper()
	dir = filepath.Join(n.t.TempDir(), "sweep")
	args := slices.Concat(verb, []string{
		"--namespace=" + n.name, "--create-namespace", "--name=" + template, "--model=" + n.model(),
		"--shapes=" + shape.String(), "--max-seconds=6", "--driver=native", "--wait-timeout=2m",
		"--step-image=" + stepImage, "--load-generator-cpu=50m", "--load-generator-memory=128Mi",
		"--s3-bucket=" + bucket(), "--s3-endpoint=" + setting("E2E_S3_ENDPOINT", os.Getenv("AWS_ENDPOINT_URL")),
		"--s3-secret=s3-credentials", "--s3-prefix=" + n.name,
		"--format=dir", "--output=" + dir,
	}, flags)
	if out, err := command(n.t.Context(), "", wfgenBinary, args...); err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// install applies what generate writes.
func (n *namespace) install(flags ...string) {
	n.t.Helper()
	n.kubectl("apply", "-k", n.generate(flags...), "--server-side")
}

// submit starts a workflow of the sweep, named as given, without waiting for it.
func (n *namespace) submit(workflow string, flags ...string) {
	n.t.Helper()
	args := append([]string{"submit", "--loglevel", "error", "-n", n.name, "--from", "workflowtemplate/" + template, "--name", workflow}, flags...)
	if out, err := command(n.t.Context(), "", "argo", args...); err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
}

// run submits a workflow and waits for its success.
func (n *namespace) run(workflow string, flags ...string) wfv1.Workflow {
	n.t.Helper()
	n.submit(workflow, append(flags, "--wait")...)
	return n.succeeded(workflow)
}

// workflow reads a workflow.
func (n *namespace) workflow(name string) wfv1.Workflow {
	n.t.Helper()
	var w wfv1.Workflow
	n.get(&w, "workflow", name)
	return w
}

// finished waits until a workflow has ended, and returns it. With watch, each state
// that was seen meanwhile is given to it, about one a second.
func (n *namespace) finished(name string, timeout time.Duration, watch ...func(wfv1.Workflow)) wfv1.Workflow {
	n.t.Helper()
	var w wfv1.Workflow
	eventually(n.t, timeout, func() error {
		w = n.workflow(name)
		for _, f := range watch {
			f(w)
		}
		if !w.Status.Fulfilled() {
			return fmt.Errorf("workflow %s is %s, %s", name, w.Status.Phase, w.Status.Progress)
		}
		return nil
	})
	return w
}

// succeeded returns a workflow that has ended well; its speed goes into the findings.
func (n *namespace) succeeded(name string) wfv1.Workflow {
	n.t.Helper()
	w := n.workflow(name)
	if w.Status.Phase != wfv1.WorkflowSucceeded {
		n.t.Fatalf("workflow %s: %s: %s", name, w.Status.Phase, w.Status.Message)
	}
	n.recordSpeed(w)
	return w
}

// pods are the nodes of a workflow that are pods of a template, in order of time.
func pods(w wfv1.Workflow, template string) []wfv1.NodeStatus {
	var list []wfv1.NodeStatus
	for _, node := range w.Status.Nodes {
		if node.Type == wfv1.NodeTypePod && templateOf(node) == template {
			list = append(list, node)
		}
	}
	sortNodes(list)
	return list
}

// templateOf is the template of a node, also of a ClusterWorkflowTemplate.
func templateOf(node wfv1.NodeStatus) string {
	if node.TemplateRef != nil {
		return node.TemplateRef.Template
	}
	return node.TemplateName
}

// output is an output parameter of a workflow, empty where there is none.
func output(w wfv1.Workflow, name string) string {
	if w.Status.Outputs != nil {
		for _, p := range w.Status.Outputs.Parameters {
			if p.Name == name && p.Value != nil {
				return p.Value.String()
			}
		}
	}
	return ""
}

// results is the store of the artifacts of the namespace's sweeps.
func (n *namespace) results() store.Store {
	n.t.Helper()
	s, err := store.New(n.t.Context(), "s3://"+bucket()+"/"+n.name)
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// keys are the objects under a prefix, relative to the namespace's.
func (n *namespace) keys(prefix string) []string {
	n.t.Helper()
	keys, err := n.results().List(n.t.Context(), prefix)
	if err != nil {
		n.t.Fatal(err)
	}
	return keys
}

// object reads an object of the namespace's results.
func (n *namespace) object(key string) []byte {
	n.t.Helper()
	data, err := n.tryObject(key)
	if err != nil {
		n.t.Fatal(err)
	}
	return data
}

// tryObject is object where there may be none; fs.ErrNotExist tells.
func (n *namespace) tryObject(key string) ([]byte, error) {
	r, err := n.results().Open(n.t.Context(), key)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func (n *namespace) exists(key string) bool {
	n.t.Helper()
	_, err := n.tryObject(key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.t.Fatal(err)
	}
	return err == nil
}

// decode reads an object with one of the packages' own readers.
func decode[T any](n *namespace, key string, read func(io.Reader, string) (T, error)) T {
	n.t.Helper()
	v, err := read(bytes.NewReader(n.object(key)), key)
	if err != nil {
		n.t.Fatal(err)
	}
	return v
}

// batches writes batch sizes as flags and parameters have them.
func batches(sizes ...int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(sizes), " ", ","), "[]")
}

// pointsOf are the points of an accelerator in a sweep of these batch sizes.
func pointsOf(accelerator string, sizes []int) []sweep.Point {
	return sweep.Sweep{Shapes: []sweep.Shape{shape}, BatchSizes: sizes}.Points(accelerator)
}
