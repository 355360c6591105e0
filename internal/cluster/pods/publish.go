package pods

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// Results are the ConfigMap that runs fill, where the sweep publishes into one. It is
// written here, so that no pod needs the right to create any.
func Results(p plan.Plan) []manifest.Object {
	if p.Publish != config.ConfigMap {
		return nil
	}
	return []manifest.Object{{
		File: "configmap-results.yaml",
		Value: corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: Meta(p, p.ResultsName()),
		},
		Comments: []manifest.Comment{{Path: "apiVersion", Text: "Runs fill it; to apply this again leaves what they put there."}},
	}}
}

// PublishRule lets a pod write into that ConfigMap, and no other.
func PublishRule(p plan.Plan) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{p.ResultsName()}, Verbs: []string{"patch"}}
}

// Formats are what the estimate is told of the formats of consumers. The first of the
// shapes is the one that a scaler is for.
func Formats(p plan.Plan, shapes string) []steps.Setting {
	a := steps.Aggregate
	settings := []steps.Setting{
		a.Formats.Set(steps.List(p.PublishFormats)), a.Shapes.Is(shapes), a.Metrics.Set(p.Engine), a.MaxReplicas.Set(p.MaxReplicas),
		a.TargetNamespace.Set(cmp.Or(p.TargetNamespace, p.Namespace)),
	}
	if p.ScaleTarget != "" {
		settings = append(settings, a.ScaleTarget.Set(p.ScaleTarget))
	}
	if p.PrometheusURL != "" {
		settings = append(settings, a.Prometheus.Set(p.PrometheusURL))
	}
	return settings
}
