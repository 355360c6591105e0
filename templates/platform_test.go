package templates_test

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/cluster/plain"
	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/templates"
)

// aPod is what a platform sees of a pod that objects ask for.
type aPod struct {
	where               string
	labels, annotations map[string]string
	spec                corev1.PodSpec // of which the platform's part is filled in
	loads               bool
}

func podsOf(objects []manifest.Object) []aPod {
	var all []aPod
	ofTemplates := func(file string, spec, own wfv1.WorkflowSpec) {
		for _, t := range own.Templates {
			if t.Container == nil {
				continue
			}
			p := aPod{where: file + " " + t.Name, labels: t.Metadata.Labels, annotations: t.Metadata.Annotations, loads: t.Name == "point"}
			p.spec.PriorityClassName = spec.PodPriorityClassName
			if t.PriorityClassName != "" {
				p.spec.PriorityClassName = t.PriorityClassName
			}
			p.spec.ImagePullSecrets, p.spec.NodeSelector, p.spec.Tolerations = spec.ImagePullSecrets, t.NodeSelector, t.Tolerations
			all = append(all, p)
		}
	}
	var workflow wfv1.WorkflowSpec // whose specification holds for the shared templates, too
	for _, o := range objects {
		if v, ok := o.Value.(wfv1.WorkflowTemplate); ok {
			workflow = v.Spec
		}
	}
	for _, o := range objects {
		switch v := o.Value.(type) {
		case wfv1.WorkflowTemplate:
			ofTemplates(o.File, workflow, v.Spec)
		case wfv1.ClusterWorkflowTemplate:
			ofTemplates(o.File, workflow, v.Spec)
		case batchv1.Job:
			all = append(all, ofPod(o.File, v.Labels, v.Spec.Template, true))
		case appsv1.Deployment:
			all = append(all, ofPod(o.File, v.Labels, v.Spec.Template, false))
		}
	}
	return all
}

// ofPod is the pod of an object that Kueue admits as a whole: the object has to name
// the queue as its pod does.
func ofPod(file string, of map[string]string, t corev1.PodTemplateSpec, loads bool) aPod {
	p := aPod{where: file, labels: t.Labels, annotations: t.Annotations, spec: t.Spec, loads: loads}
	if of[config.QueueLabel] != t.Labels[config.QueueLabel] {
		p.labels = maps.Clone(p.labels)
		delete(p.labels, config.QueueLabel)
	}
	return p
}

// examples are the configurations of all examples.
func examples(t *testing.T) map[string]config.Config {
	t.Helper()
	files, err := filepath.Glob("../examples/*/wfgen.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	all := map[string]config.Config{"minimal": {}}
	for _, file := range files {
		c, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(filepath.Dir(file))] = c.InCluster()
	}
	c := config.Default()
	c.Accelerators = []config.Accelerator{{Name: "A100"}, {Name: "H100"}}
	all["minimal"] = c.InCluster()
	return all
}

// What a platform wants of pods is on every pod of every example, and as Jobs.
func TestEveryPodIsAsThePlatformWantsIt(t *testing.T) {
	for name, c := range examples(t) {
		c.PodLabels = map[string]string{"team": "inference"}
		c.PodAnnotations = map[string]string{"sidecar.istio.io/inject": "false"}
		c.QueueName, c.ImagePullSecrets = "calibration", []string{"registry"}
		c.PriorityClass, c.Server.PriorityClass = "low", "high"
		c.LoadGeneratorNodeSelector = map[string]string{"pool": "cpu"}
		c.LoadGeneratorTolerations = []corev1.Toleration{{Key: "load", Operator: corev1.TolerationOpExists}}
		if err := c.ValidateCluster(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for form, objects := range map[string][]manifest.Object{"Argo": templates.Objects(c), "Jobs": plain.Jobs(c)} {
			found := podsOf(objects)
			if len(found) < 1 || form == "Argo" && len(found) < 4 {
				t.Errorf("%s as %s: %d pods", name, form, len(found))
			}
			for _, p := range found {
				server := p.labels["app.kubernetes.io/component"] == "llm-server"
				priority := "low"
				if server {
					priority = "high"
				}
				for key, want := range map[string]string{"team": "inference", config.QueueLabel: "calibration", "app.kubernetes.io/managed-by": "wfgen"} {
					if p.labels[key] != want {
						t.Errorf("%s as %s: %s: label %s is %q, want %q", name, form, p.where, key, p.labels[key], want)
					}
				}
				if part := p.labels["app.kubernetes.io/part-of"]; part != c.Name && part != "{{inputs.parameters.sweep}}" {
					t.Errorf("%s as %s: %s is part of %q", name, form, p.where, part)
				}
				if p.annotations["sidecar.istio.io/inject"] != "false" {
					t.Errorf("%s as %s: %s: annotations %v", name, form, p.where, p.annotations)
				}
				if p.spec.PriorityClassName != priority || len(p.spec.ImagePullSecrets) != 1 || p.spec.ImagePullSecrets[0].Name != "registry" {
					t.Errorf("%s as %s: %s: priority %q, secrets %v", name, form, p.where, p.spec.PriorityClassName, p.spec.ImagePullSecrets)
				}
				if p.loads && (p.spec.NodeSelector["pool"] != "cpu" || len(p.spec.Tolerations) != 1) {
					t.Errorf("%s as %s: %s: nodes %v, tolerations %v", name, form, p.where, p.spec.NodeSelector, p.spec.Tolerations)
				}
			}
		}
	}
}

// A NetworkPolicy selects every pod of the sweep, lets them reach each port that the
// sweep names, and nobody but them reach a server.
func TestNetworkPolicies(t *testing.T) {
	for name, c := range examples(t) {
		c.NetworkPolicy, c.NetworkPolicyPorts = true, []int{9999}
		objects := templates.Objects(c)
		var policies []networkingv1.NetworkPolicy
		for _, o := range objects {
			if v, ok := o.Value.(networkingv1.NetworkPolicy); ok {
				policies = append(policies, v)
			}
		}
		if want := 1 + min(1, len(c.Deployed())); len(policies) != want {
			t.Fatalf("%s: %d policies, want %d", name, len(policies), want)
		}
		for _, p := range podsOf(objects) {
			of := maps.Clone(p.labels)
			if of[pods.PartOfLabel] == "{{inputs.parameters.sweep}}" {
				of[pods.PartOfLabel] = c.Name // as the sweep gives it
			}
			if !selects(t, policies[0].Spec.PodSelector, of) {
				t.Errorf("%s: %s has labels %v and no policy", name, p.where, of)
			}
			server := of[pods.ComponentLabel] == pods.ServerComponent
			if len(policies) == 2 && selects(t, policies[1].Spec.PodSelector, of) != server {
				t.Errorf("%s: the policy of servers and %s do not agree", name, p.where)
			}
		}
		if len(policies[0].Spec.Ingress) > 0 || len(policies[0].Spec.PolicyTypes) != 2 {
			t.Errorf("%s: %+v", name, policies[0].Spec)
		}
		var open []int
		for _, rule := range policies[0].Spec.Egress {
			for _, port := range rule.Ports {
				if len(rule.To) == 0 {
					open = append(open, port.Port.IntValue())
				}
			}
		}
		for _, want := range []int{53, 443, 6443, 9999} {
			if !slices.Contains(open, want) {
				t.Errorf("%s: port %d is not open", name, want)
			}
		}
		if started := len(c.Deployed()) == len(c.Accelerators); slices.Contains(open, config.ServerPort) == started {
			t.Errorf("%s: open to everywhere: %v", name, open)
		}
	}
	for endpoint, port := range map[string]int{"": 443, "http://minio:9000": 9000, "http://minio": 80, "s3.example.com:8443": 8443, "https://s3.example.com": 443} {
		c := examples(t)["minimal"]
		c.NetworkPolicy, c.S3Bucket, c.S3Endpoint = true, "bucket", endpoint
		c.TargetURL = "https://servers/{accelerator}"
		var open []int
		for _, o := range templates.Objects(c.InCluster()) {
			if v, ok := o.Value.(networkingv1.NetworkPolicy); ok {
				for _, p := range v.Spec.Egress[1].Ports {
					open = append(open, p.Port.IntValue())
				}
			}
		}
		want := []int{443, port, 6443}
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(open, want) {
			t.Errorf("%q: open %v, want %v", endpoint, open, want)
		}
	}
}

func selects(t *testing.T, selector metav1.LabelSelector, of map[string]string) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(&selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labels.Set(of))
}
