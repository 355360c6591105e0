package templates

import (
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// template41 is a template with what it can have since Argo 4.1, whose Go types cannot be
// had as a module. The field is Argo's own, of the same name and type:
// https://github.com/argoproj/argo-workflows/blob/3e3345ae6a951984204ce06e13d1c528f41d4801/pkg/apis/workflow/v1alpha1/workflow_types.go
type template41 struct {
	wfv1.Template
	PendingTimeout string `json:"pendingTimeout,omitempty"`
}

// object41 is a WorkflowTemplate, or one for the cluster, of such templates.
type object41 struct {
	metav1.TypeMeta
	metav1.ObjectMeta `json:"metadata"`
	Spec              spec41 `json:"spec"`
}

type spec41 struct {
	wfv1.WorkflowSpec
	Templates []template41 `json:"templates"` // instead of the specification's own
}

// behindGuard is how much later than the guard, and than who waits for a server, both of
// which say why, Argo itself gives a pod up that does not begin: it counts the time that an
// image takes, too.
const behindGuard = time.Minute

// ofLine is an object for the line of Argo that is written for: as it is, or with what
// 4.1 has a field for.
func ofLine(p plan.Plan, kind metav1.TypeMeta, meta metav1.ObjectMeta, spec wfv1.WorkflowSpec, older any) any {
	if p.Argo != config.Argo41 {
		return older
	}
	o := object41{TypeMeta: kind, ObjectMeta: meta, Spec: spec41{WorkflowSpec: spec}}
	for _, t := range spec.Templates {
		with := template41{Template: t}
		if t.Container != nil && p.PendingTimeout > 0 {
			with.PendingTimeout = (max(p.PendingTimeout, p.WaitTimeout) + behindGuard).String()
		}
		o.Spec.Templates = append(o.Spec.Templates, with)
	}
	return o
}

// lineNeeded is the oldest Argo that takes the objects, as its annotation says it.
func lineNeeded(p plan.Plan) string {
	if p.Argo == config.Argo41 {
		return ">= 4.1.0"
	}
	return ">= 3.6.0"
}
