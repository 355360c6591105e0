package templates

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/sweep/config"
)

// namespace enforces on every pod what the sweep's pods keep to.
func namespace(c config.Config) Object {
	l := labels(c)
	l["pod-security.kubernetes.io/enforce"] = "restricted"
	return Object{File: "namespace.yaml", Value: corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: c.Namespace, Labels: l},
	}}
}

func accountName(c config.Config) string {
	if c.ServiceAccount != "" {
		return c.ServiceAccount
	}
	return c.Name
}

func serviceAccount(c config.Config) Object {
	m := meta(c, accountName(c))
	m.Annotations = c.ServiceAccountAnnotations
	return Object{File: "serviceaccount.yaml", Value: corev1.ServiceAccount{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: m,
	}}
}

// role is what Argo's executor needs, and nothing more: it reports results. Where the
// sweep starts servers it may see why one does not come up, and end its pod.
func role(c config.Config) Object {
	rules := []rbacv1.PolicyRule{{
		APIGroups: []string{"argoproj.io"},
		Resources: []string{"workflowtaskresults"},
		Verbs:     []string{"create", "patch"},
	}}
	if len(c.Deployed()) > 0 {
		rules = append(rules, awaitRules()...)
	}
	return Object{File: "role.yaml", Value: rbacv1.Role{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"},
		ObjectMeta: meta(c, c.Name),
		Rules:      rules,
	}}
}

// awaitRules let step wait give a server's pod up as well: as failed, since one that
// is deleted while it is pending is made again by Argo.
func awaitRules() []rbacv1.PolicyRule {
	return append(seePods(), rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/status"}, Verbs: []string{"patch"}})
}

// seePods is what step wait needs to find a server's pod and to say why it does not
// come up.
func seePods() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list"}},
		{APIGroups: []string{""}, Resources: []string{"pods/log"}, Verbs: []string{"get"}},
		{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"list"}},
	}
}

func roleBinding(c config.Config) Object {
	return Object{File: "rolebinding.yaml", Value: rbacv1.RoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
		ObjectMeta: meta(c, c.Name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: c.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: accountName(c), Namespace: c.Namespace}},
	}}
}
