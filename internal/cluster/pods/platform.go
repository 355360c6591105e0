package pods

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// Metadata is what every pod of the sweep carries: the sweep's own labels, what the
// user wants of all pods, the queue that admits it, and what this pod has beyond.
func Metadata(p plan.Plan, labels, annotations map[string]string) (l, a map[string]string) {
	l, a = maps.Clone(p.PodLabels), maps.Clone(p.PodAnnotations)
	if l == nil {
		l = map[string]string{}
	}
	maps.Copy(l, Labels(p))
	maps.Copy(l, QueueLabels(p))
	maps.Copy(l, labels)
	if a == nil && len(annotations) > 0 {
		a = map[string]string{}
	}
	maps.Copy(a, annotations)
	return l, a
}

// QueueLabels name the queue. Kueue looks for them on a pod, and on a Job or Deployment,
// which it admits as a whole.
func QueueLabels(p plan.Plan) map[string]string {
	if p.QueueName == "" {
		return nil
	}
	return map[string]string{config.QueueLabel: p.QueueName}
}

// ServerPriority is the PriorityClass of a server's pod.
func ServerPriority(p plan.Plan, s config.Server) string {
	return cmp.Or(s.PriorityClass, p.PriorityClass)
}

// PullSecrets are the credentials of the images' registries.
func PullSecrets(p plan.Plan) []corev1.LocalObjectReference {
	var list []corev1.LocalObjectReference
	for _, name := range p.ImagePullSecrets {
		list = append(list, corev1.LocalObjectReference{Name: name})
	}
	return list
}

// Ports that a sweep reaches.
const (
	dnsPort   = 53
	httpsPort = 443
	apiPort   = 6443 // the API server's own, into which a node turns 443 of its Service
)

// NetworkPolicies let the sweep's pods reach what a sweep needs and nothing else, and
// nobody reach them but each other at the servers that the sweep starts. A
// NetworkPolicy knows no host names, so that what lies behind one is held to its port.
func NetworkPolicies(p plan.Plan) []manifest.Object {
	if !p.NetworkPolicy {
		return nil
	}
	all := metav1.LabelSelector{MatchLabels: Labels(p)}
	servers := metav1.LabelSelector{MatchLabels: ServerLabels(p)}
	http := []networkingv1.NetworkPolicyPort{port(corev1.ProtocolTCP, config.ServerPort)}
	egress := []networkingv1.NetworkPolicyEgressRule{
		{Ports: []networkingv1.NetworkPolicyPort{port(corev1.ProtocolUDP, dnsPort), port(corev1.ProtocolTCP, dnsPort)}},
	}
	var outside []networkingv1.NetworkPolicyPort
	for _, n := range outsidePorts(p) {
		outside = append(outside, port(corev1.ProtocolTCP, n))
	}
	egress = append(egress, networkingv1.NetworkPolicyEgressRule{Ports: outside})
	if len(p.Deployed()) > 0 {
		egress = append(egress, networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{{PodSelector: &servers}}, Ports: http})
	}
	objects := []manifest.Object{{
		File: "networkpolicy.yaml",
		Value: networkingv1.NetworkPolicy{
			TypeMeta:   networkPolicyType,
			ObjectMeta: Meta(p, p.Name),
			Spec: networkingv1.NetworkPolicySpec{
				PodSelector: all,
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
				Egress:      egress,
			},
		},
		Comments: []manifest.Comment{
			{Path: "spec.policyTypes", Text: "Ingress without a rule: nobody reaches these pods."},
			{Path: "spec.egress", Text: "Names; then the API server, the object store, models, and servers, whose hosts a policy cannot name:\n" +
				"put ipBlock or podSelector here to hold them tighter. Another port at submit needs to be here, too."},
		},
	}}
	if len(p.Deployed()) == 0 {
		return objects
	}
	return append(objects, manifest.Object{
		File: "networkpolicy-servers.yaml",
		Value: networkingv1.NetworkPolicy{
			TypeMeta:   networkPolicyType,
			ObjectMeta: Meta(p, p.Name+"-servers"),
			Spec: networkingv1.NetworkPolicySpec{
				PodSelector: servers,
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
				Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &all}}, Ports: http}},
			},
		},
	})
}

var networkPolicyType = metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy"}

func port(protocol corev1.Protocol, n int) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: new(intstr.FromInt32(int32(n)))}
}

// outsidePorts are the TCP ports that the sweep reaches elsewhere, ascending: the API
// server's, those of the servers that it does not start, the object store's, and what
// the user adds.
func outsidePorts(p plan.Plan) []int {
	ports := append([]int{httpsPort, apiPort}, p.NetworkPolicyPorts...)
	if p.S3Bucket != "" {
		ports = append(ports, portOf(p.S3Endpoint, httpsPort))
	}
	for _, a := range p.Accelerators {
		if !a.Deployed {
			ports = append(ports, portOf(a.TargetURL, httpsPort))
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// portOf is the port of a URL, or of host:port without a scheme, which was validated.
func portOf(address string, otherwise int) int {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return otherwise
	}
	if n, err := strconv.Atoi(u.Port()); err == nil {
		return n
	}
	if u.Scheme == "http" {
		return 80
	}
	return otherwise
}
