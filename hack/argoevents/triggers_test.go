package argoevents

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/argoproj/argo-events/pkg/apis/events/v1alpha1"
	"github.com/argoproj/argo-events/pkg/sensors/dependencies"
	"github.com/argoproj/argo-events/pkg/sensors/triggers"
	"sigs.k8s.io/yaml"
)

const dir = "../../examples/triggers"

// find decodes the first object of a kind in a file of the examples, and nothing that its
// type does not know.
func find(t *testing.T, file, kind string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	for document := range bytes.SplitSeq(data, []byte("\n---\n")) {
		var o struct{ Kind string }
		if err := yaml.Unmarshal(document, &o); err != nil {
			t.Fatal(err)
		}
		if o.Kind == kind {
			if err := yaml.UnmarshalStrict(document, into); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			return
		}
	}
	t.Fatalf("%s: no %s", file, kind)
}

// deployment is an event of a Deployment, as the EventSource tells it.
func deployment(image string, status string) *v1alpha1.Event {
	return &v1alpha1.Event{Context: &v1alpha1.EventContext{DataContentType: "application/json"}, Data: []byte(`{"type":"UPDATE","body":{"metadata":{"name":"vllm-a100","generation":7},
		"spec":{"replicas":2,"template":{"spec":{"containers":[{"name":"server","image":"` + image + `"}]}}},"status":` + status + `}}`)}
}

// A finished rollout starts a sweep, named after the image; one that goes on does not.
func TestSensor(t *testing.T) {
	var source v1alpha1.EventSource
	find(t, "eventsource.yaml", "EventSource", &source)
	var sensor v1alpha1.Sensor
	find(t, "sensor.yaml", "Sensor", &sensor)
	d := sensor.Spec.Dependencies[0]
	if _, has := source.Spec.Resource[d.EventName]; !has || source.Name != d.EventSourceName || source.Namespace != sensor.Namespace {
		t.Fatalf("the sensor hears of %s/%s", d.EventSourceName, d.EventName)
	}
	for status, want := range map[string]bool{
		`{"observedGeneration":7,"replicas":2,"updatedReplicas":2,"availableReplicas":2}`:                         true,
		`{"observedGeneration":7,"replicas":3,"updatedReplicas":1,"availableReplicas":2,"unavailableReplicas":1}`: false,
		`{"observedGeneration":6,"replicas":2,"updatedReplicas":2,"availableReplicas":2}`:                         false,
		`{"observedGeneration":7,"updatedReplicas":2,"unavailableReplicas":2}`:                                    false,
	} {
		passes, err := dependencies.Filter(deployment("vllm/vllm-openai:v1", status), d.Filters, d.FiltersLogicalOperator)
		if passes != want {
			t.Errorf("%s passes: %v, %v", status, passes, err)
		}
	}

	trigger := sensor.Spec.Triggers[0].Template.K8s
	names := map[string]bool{}
	for _, image := range []string{"vllm/vllm-openai:v1", "vllm/vllm-openai:v1", "vllm/vllm-openai@sha256:" + strings.Repeat("0f", 32)} {
		made, err := triggers.ApplyParams(trigger.Source.Resource.Value, trigger.Parameters, map[string]*v1alpha1.Event{d.Name: deployment(image, "{}")})
		if err != nil {
			t.Fatal(err)
		}
		var w struct {
			Kind     string
			Metadata struct {
				Name, Namespace string
				Annotations     map[string]string
			}
			Spec struct{ WorkflowTemplateRef struct{ Name string } }
		}
		if err := json.Unmarshal(made, &w); err != nil {
			t.Fatal(err)
		}
		if w.Kind != "Workflow" || w.Spec.WorkflowTemplateRef.Name != "nightly" || w.Metadata.Namespace != "calibration" || w.Metadata.Annotations["engine-image"] != image ||
			len(w.Metadata.Name) != len("nightly-")+12 {
			t.Errorf("%s", made)
		}
		names[w.Metadata.Name] = true
	}
	if len(names) != 2 {
		t.Errorf("two images, sweeps %v", names)
	}
}
