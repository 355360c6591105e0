package templates

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// rules are what Argo's executor needs: it reports results. Where results are published
// it may also write into the one ConfigMap for them, and where the sweep guards its pods
// or starts servers, see why one does not begin, and end it. Where somebody is to hear of
// its end, it may see whether the workflow was terminated.
func rules(p plan.Plan) []rbacv1.PolicyRule {
	rules := []rbacv1.PolicyRule{{
		APIGroups: []string{"argoproj.io"},
		Resources: []string{"workflowtaskresults"},
		Verbs:     []string{"create", "patch"},
	}}
	if p.Publish == config.ConfigMap {
		rules = append(rules, pods.PublishRule(p))
	}
	if tellsOfTermination(p) {
		rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{"argoproj.io"}, Resources: []string{"workflows"}, Verbs: []string{"get"}})
	}
	deploys := len(p.Deployed()) > 0
	return append(rules, pods.PodRules(deploys, deploys || guarded(p))...)
}
