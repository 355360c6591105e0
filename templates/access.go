package templates

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/sweep/plan"
)

// rules are what Argo's executor needs, and nothing more: it reports results. Where
// the sweep starts servers it may see why one does not come up, and end its pod.
func rules(p plan.Plan) []rbacv1.PolicyRule {
	rules := []rbacv1.PolicyRule{{
		APIGroups: []string{"argoproj.io"},
		Resources: []string{"workflowtaskresults"},
		Verbs:     []string{"create", "patch"},
	}}
	if len(p.Deployed()) > 0 {
		rules = append(rules, awaitRules()...)
	}
	return rules
}

// awaitRules let step wait give a server's pod up as well: as failed, since one that
// is deleted while it is pending is made again by Argo.
func awaitRules() []rbacv1.PolicyRule {
	return append(pods.SeePods(), rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/status"}, Verbs: []string{"patch"}})
}
