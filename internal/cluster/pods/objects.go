package pods

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/sweep/plan"
)

// Meta names an object of the sweep.
func Meta(p plan.Plan, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:      name,
		Namespace: p.Namespace,
		Labels:    Labels(p),
	}
}

// Labels tell the objects of a sweep from all others.
func Labels(p plan.Plan) map[string]string {
	return map[string]string{
		"app.kubernetes.io/managed-by": "wfgen",
		PartOfLabel:                    p.Name,
	}
}

// Namespace enforces on every pod what the sweep's pods keep to; none where the sweep
// does not make it.
func Namespace(p plan.Plan) []manifest.Object {
	if !p.CreateNamespace {
		return nil
	}
	l := Labels(p)
	l["pod-security.kubernetes.io/enforce"] = "restricted"
	return []manifest.Object{{File: "namespace.yaml", Value: corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: p.Namespace, Labels: l},
	}}}
}

// Access is the ServiceAccount of the pods with a Role of these rules.
func Access(p plan.Plan, rules []rbacv1.PolicyRule) []manifest.Object {
	account := Meta(p, p.AccountName())
	account.Annotations = p.ServiceAccountAnnotations
	return []manifest.Object{
		{File: "serviceaccount.yaml", Value: corev1.ServiceAccount{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
			ObjectMeta: account,
		}},
		{File: "role.yaml", Value: rbacv1.Role{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"},
			ObjectMeta: Meta(p, p.Name),
			Rules:      rules,
		}},
		{File: "rolebinding.yaml", Value: rbacv1.RoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
			ObjectMeta: Meta(p, p.Name),
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: p.Name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: p.AccountName(), Namespace: p.Namespace}},
		}},
	}
}

// PodRules are the rights to look at pods. To see is what step wait needs to find a
// server's pod and to say why it does not come up; to end is what step guard needs, and step
// wait where it gives a pod up: as failed, since Argo makes one again that is deleted while
// it is pending.
func PodRules(see, end bool) []rbacv1.PolicyRule {
	if !see && !end {
		return nil
	}
	core := func(resource string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{resource}, Verbs: verbs}
	}
	rules := []rbacv1.PolicyRule{core("pods", "list"), core("events", "list")}
	if see {
		rules = []rbacv1.PolicyRule{core("pods", "get", "list"), core("pods/log", "get"), core("events", "list")}
	}
	if end {
		rules = append(rules, core("pods/status", "patch"))
	}
	return rules
}

// ExampleSecrets show which Secrets the sweep looks for. They hold placeholders: a
// real value never passes through the generator.
func ExampleSecrets(p plan.Plan) []manifest.Object {
	var objects []manifest.Object
	add := func(file, name, text string, data map[string]string) {
		objects = append(objects, manifest.Object{
			File: file,
			Value: corev1.Secret{
				TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: p.Namespace},
				StringData: data,
			},
			Comments: []manifest.Comment{{Path: "apiVersion", Text: text}},
			Example:  true,
		})
	}
	if p.HFSecretName != "" {
		add("99-hf-secret.example.yaml", p.HFSecretName,
			"Only for tokenizers of gated models. Copy, fill in, apply; or:\nkubectl create secret generic "+p.HFSecretName+" -n "+p.Namespace+" --from-file="+p.HFSecretKey+"=/dev/stdin",
			map[string]string{p.HFSecretKey: "<Hugging Face token>"})
	}
	if p.APIKeySecretName != "" {
		add("99-api-key-secret.example.yaml", p.APIKeySecretName,
			"The API key of the servers. Copy, fill in, apply.",
			map[string]string{p.APIKeySecretKey: "<API key>"})
	}
	if p.NotifySecretName != "" {
		add("99-notify-secret.example.yaml", p.NotifySecretName,
			"Who is told how a run ended. Copy, keep the keys that you want, fill in, apply.",
			map[string]string{slackKey: "<URL of an incoming webhook>", webhookKey: "<URL that takes JSON>", alertmanagerKey: "<URL of Alertmanager>"})
	}
	if p.S3Secret != "" {
		add("99-s3-secret.example.yaml", p.S3Secret,
			"Credentials of the bucket "+p.S3Bucket+". Copy, fill in, apply.",
			map[string]string{AccessKey: "<access key>", SecretAccessKey: "<secret key>"})
	}
	return objects
}
