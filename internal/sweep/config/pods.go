package config

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// QueueLabel is how a pod says which LocalQueue of Kueue admits it.
const QueueLabel = "kueue.x-k8s.io/queue-name"

// ownLabels are what the sweep, Argo and Kueue tell pods by. One that a user set would
// make a pod somebody else's.
func ownLabel(key string) bool {
	return slices.Contains([]string{"app.kubernetes.io/managed-by", "app.kubernetes.io/part-of", "app.kubernetes.io/component", "app.kubernetes.io/name"}, key) ||
		strings.HasPrefix(key, "wfgen.dev/") || strings.HasPrefix(key, "workflows.argoproj.io/")
}

// checkPods judges what a platform wants of pods.
func (c Config) checkPods(m *mistakes) {
	for _, key := range sortedKeys(c.PodLabels) {
		value := c.PodLabels[key]
		switch {
		case len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0:
			m.add("pod-labels: %s=%s is not a label", key, value)
		case ownLabel(key):
			m.add("pod-labels: %s is set by the sweep or by Argo", key)
		case key == QueueLabel:
			m.add("pod-labels: %s: use queue-name, which sets it where Kueue looks for it", key)
		}
	}
	for _, key := range sortedKeys(c.PodAnnotations) {
		if len(validation.IsQualifiedName(strings.ToLower(key))) > 0 {
			m.add("pod-annotations: %q is not the key of an annotation", key)
		}
		if strings.HasPrefix(key, "workflows.argoproj.io/") {
			m.add("pod-annotations: %s is set by Argo", key)
		}
	}
	for _, key := range sortedKeys(c.LoadGeneratorNodeSelector) {
		value := c.LoadGeneratorNodeSelector[key]
		if len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
			m.add("load-generator-node-selector: %s=%s is not a node label", key, value)
		}
	}
	checkTolerations(m, "load-generator-tolerations", c.LoadGeneratorTolerations)
	for _, n := range []struct{ field, name string }{{"queue-name", c.QueueName}, {"priority-class", c.PriorityClass}} {
		if n.name != "" && len(validation.IsDNS1123Subdomain(n.name)) > 0 {
			m.add("%s: %q is not a Kubernetes name: lower case letters, digits, dashes and dots", n.field, n.name)
		}
	}
	if c.QueueName != "" && len(c.QueueName) > validation.LabelValueMaxLength {
		m.add("queue-name: %q is too long for the value of a label, %d characters at most", c.QueueName, validation.LabelValueMaxLength)
	}
	for _, name := range c.ImagePullSecrets {
		if len(validation.IsDNS1123Subdomain(name)) > 0 {
			m.add("image-pull-secrets: %q is not a Kubernetes name: lower case letters, digits, dashes and dots", name)
		}
	}
	for _, port := range c.NetworkPolicyPorts {
		if port < 1 || port > 65535 {
			m.add("network-policy-ports: %d is not a port, 1 to 65535", port)
		}
	}
	if len(c.NetworkPolicyPorts) > 0 && !c.NetworkPolicy {
		m.add("network-policy-ports: there is no network-policy to go with them")
	}
}
