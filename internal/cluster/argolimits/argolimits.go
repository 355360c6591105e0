// Package argolimits knows what Argo Workflows 4 refuses at apply although its
// offline linter does not say so: the limits that its CRDs carry for the sake of
// their validation rules, and a few of those rules.
package argolimits

import (
	"errors"
	"fmt"
	"regexp"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
)

// The limits, as docs/upgrading.md and the CRDs of 4.0 have them.
const (
	MaxTemplates   = 200
	MaxTasks       = 200 // of a DAG
	MaxInputs      = 500 // parameters of a template
	MaxMetrics     = 100 // of a template
	MaxNameLength  = 128
	MaxMetricValue = 256 // characters
)

var (
	name   = regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9]*$`)
	metric = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
)

// Check returns every breach of a limit, joined, or nil.
func Check(spec wfv1.WorkflowSpec) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	checkName := func(kind, n string) {
		if !name.MatchString(n) || len(n) > MaxNameLength {
			bad("%s %q: not a name of letters, digits and dashes, %d at most", kind, n, MaxNameLength)
		}
	}
	checkLock := func(of string, s *wfv1.Synchronization) {
		if s != nil && (s.Mutex != nil || s.Semaphore != nil) {
			bad("%s: singular mutex or semaphore, removed in 4.0", of)
		}
	}

	if n := len(spec.Templates); n > MaxTemplates {
		bad("%d templates, %d at most", n, MaxTemplates)
	}
	checkLock("workflow", spec.Synchronization)
	for _, t := range spec.Templates {
		checkName("template", t.Name)
		checkLock("template "+t.Name, t.Synchronization)
		if n := len(t.Inputs.Parameters); n > MaxInputs {
			bad("template %s: %d inputs, %d at most", t.Name, n, MaxInputs)
		}
		if t.Metrics != nil {
			if n := len(t.Metrics.Prometheus); n > MaxMetrics {
				bad("template %s: %d metrics, %d at most", t.Name, n, MaxMetrics)
			}
			for _, m := range t.Metrics.Prometheus {
				checkMetric(bad, t.Name, m)
			}
		}
		if t.DAG == nil && t.Steps == nil {
			continue
		}
		if t.ActiveDeadlineSeconds != nil || t.Timeout != "" {
			bad("template %s: a deadline on what is no pod", t.Name)
		}
		if t.DAG == nil {
			continue
		}
		if n := len(t.DAG.Tasks); n > MaxTasks {
			bad("template %s: %d tasks, %d at most", t.Name, n, MaxTasks)
		}
		for _, task := range t.DAG.Tasks {
			checkName("template "+t.Name+": task", task.Name)
			if task.Name != "" && task.Name[0] >= '0' && task.Name[0] <= '9' {
				bad("template %s: task %q starts with a digit, which depends does not allow", t.Name, task.Name)
			}
		}
	}
	return errors.Join(errs...)
}

func checkMetric(bad func(string, ...any), template string, m *wfv1.Prometheus) {
	if !metric.MatchString(m.Name) {
		bad("template %s: metric %q is not a name for Prometheus", template, m.Name)
	}
	if m.Gauge == nil {
		return
	}
	if m.Gauge.Realtime == nil {
		bad("template %s: metric %s: realtime is required", template, m.Name)
	}
	if n := len(m.Gauge.Value); n > MaxMetricValue {
		bad("template %s: metric %s: a value of %d characters, %d at most", template, m.Name, n, MaxMetricValue)
	}
}
