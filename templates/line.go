package templates

import (
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// template41 is a template with what it can have since Argo 4.1, whose Go types cannot be
// had as a module: pendingTimeout (docs/new-features.md of v4.1.0, issue 10341) and
// resourceClaims (pull request 16587), of Kubernetes' own type.
type template41 struct {
	wfv1.Template
	PendingTimeout string                    `json:"pendingTimeout,omitempty"`
	ResourceClaims []corev1.PodResourceClaim `json:"resourceClaims,omitempty"`
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
	claims := map[string][]corev1.PodResourceClaim{}
	for _, g := range serverGroups(p) {
		claims[g.serverTemplate()] = g.claims(p)
	}
	o := object41{TypeMeta: kind, ObjectMeta: meta, Spec: spec41{WorkflowSpec: spec}}
	for _, t := range spec.Templates {
		with := template41{Template: t, ResourceClaims: claims[t.Name]}
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
