package argolimits

import (
	"strings"
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestCheck(t *testing.T) {
	no, deadline := false, intstr.FromInt32(1)
	gauge := func(name, value string, realtime *bool) *wfv1.Prometheus {
		return &wfv1.Prometheus{Name: name, Gauge: &wfv1.Gauge{Value: value, Realtime: realtime}}
	}
	for _, test := range []struct {
		want string // empty: nothing is wrong
		spec wfv1.WorkflowSpec
	}{
		{"", wfv1.WorkflowSpec{Templates: named(200)}},
		{"201 templates", wfv1.WorkflowSpec{Templates: named(201)}},
		{`template "a_b"`, of(wfv1.Template{Name: "a_b"})},
		{`template "` + strings.Repeat("a", 129), of(wfv1.Template{Name: strings.Repeat("a", 129)})},
		{"", of(wfv1.Template{Name: strings.Repeat("a", 128), Inputs: wfv1.Inputs{Parameters: make([]wfv1.Parameter, 500)}})},
		{"501 inputs", of(wfv1.Template{Name: "a", Inputs: wfv1.Inputs{Parameters: make([]wfv1.Parameter, 501)}})},
		{"101 metrics", of(wfv1.Template{Name: "a", Metrics: &wfv1.Metrics{Prometheus: repeat(gauge("m", "1", &no), 101)}})},
		{"", of(wfv1.Template{Name: "a", Metrics: &wfv1.Metrics{Prometheus: repeat(gauge("m", strings.Repeat("1", 256), &no), 100)}})},
		{"257 characters", of(wfv1.Template{Name: "a", Metrics: &wfv1.Metrics{Prometheus: repeat(gauge("m", strings.Repeat("1", 257), &no), 1)}})},
		{"realtime is required", of(wfv1.Template{Name: "a", Metrics: &wfv1.Metrics{Prometheus: repeat(gauge("m", "1", nil), 1)}})},
		{`metric "a-b"`, of(wfv1.Template{Name: "a", Metrics: &wfv1.Metrics{Prometheus: repeat(gauge("a-b", "1", &no), 1)}})},
		{"a deadline on what is no pod", of(wfv1.Template{Name: "a", ActiveDeadlineSeconds: &deadline, DAG: &wfv1.DAGTemplate{}})},
		{"a deadline on what is no pod", of(wfv1.Template{Name: "a", Timeout: "1s", Steps: []wfv1.ParallelSteps{{}}})},
		{"", of(wfv1.Template{Name: "a", ActiveDeadlineSeconds: &deadline})},
		{"201 tasks", of(wfv1.Template{Name: "a", DAG: &wfv1.DAGTemplate{Tasks: tasks("t", 201)}})},
		{"", of(wfv1.Template{Name: "a", DAG: &wfv1.DAGTemplate{Tasks: tasks("t", 200)}})},
		{`task "1a" starts with a digit`, of(wfv1.Template{Name: "a", DAG: &wfv1.DAGTemplate{Tasks: tasks("1a", 1)}})},
		{"singular mutex", of(wfv1.Template{Name: "a", Synchronization: &wfv1.Synchronization{Mutex: &wfv1.Mutex{Name: "m"}}})},
	} {
		err := Check(test.spec)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
}

func of(t wfv1.Template) wfv1.WorkflowSpec { return wfv1.WorkflowSpec{Templates: []wfv1.Template{t}} }

func named(n int) []wfv1.Template {
	list := make([]wfv1.Template, n)
	for i := range list {
		list[i].Name = "t"
	}
	return list
}

func tasks(name string, n int) []wfv1.DAGTask {
	list := make([]wfv1.DAGTask, n)
	for i := range list {
		list[i].Name = name
	}
	return list
}

func repeat(m *wfv1.Prometheus, n int) []*wfv1.Prometheus {
	list := make([]*wfv1.Prometheus, n)
	for i := range list {
		list[i] = m
	}
	return list
}
