// Package plain makes the objects of a sweep without Argo: a Deployment and a Service
// for each server, a Job for each accelerator, which runs the same commands of step
// as a workflow does.
package plain

import (
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

// Servers are a Deployment and a Service for each accelerator without a server, for
// whoever measures without Argo.
func Servers(c config.Config) []manifest.Object {
	c.Deploy = true
	p := plan.Of(c)
	objects := pods.Namespace(p)
	objects = append(objects, servers(p)...)
	return append(objects, pods.ExampleSecrets(p)...)
}

func servers(p plan.Plan) []manifest.Object {
	var objects []manifest.Object
	for _, a := range p.Deployed() {
		objects = append(objects, pods.ClaimTemplate(p, a, a.ServerName)...)
		objects = append(objects, serverDeployment(p, a), serverService(p, a))
	}
	return objects
}

func serverSelector(a plan.Accelerator) map[string]string {
	return map[string]string{"app.kubernetes.io/name": a.ServerName, pods.ComponentLabel: pods.ServerComponent}
}

func ofServer(p plan.Plan, a plan.Accelerator) metav1.ObjectMeta {
	m := pods.Meta(p, a.ServerName)
	for key, value := range serverSelector(a) {
		m.Labels[key] = value
	}
	return m
}

func serverDeployment(p plan.Plan, a plan.Accelerator) manifest.Object {
	s := a.Server
	container := pods.ServerContainer(p, a, pods.PlainSizes(p, a))
	container.Name = "server"
	var runtime *string
	if s.RuntimeClass != "" {
		runtime = &s.RuntimeClass
	}
	m := ofServer(p, a)
	labels, annotations := pods.Metadata(p, m.Labels, pods.NotToBeEvicted)
	maps.Copy(m.Labels, pods.QueueLabels(p))
	value := appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: m,
		Spec: appsv1.DeploymentSpec{
			Replicas:                new(int32(1)),
			Strategy:                appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			ProgressDeadlineSeconds: new(int32(p.WaitDeadline())),
			Selector:                &metav1.LabelSelector{MatchLabels: serverSelector(a)},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations},
				Spec: corev1.PodSpec{
					NodeSelector:                 a.Nodes,
					Affinity:                     pods.Affinity(s),
					Tolerations:                  s.Tolerations,
					PriorityClassName:            pods.ServerPriority(p, s),
					ImagePullSecrets:             pods.PullSecrets(p),
					RuntimeClassName:             runtime,
					EnableServiceLinks:           new(false),
					AutomountServiceAccountToken: new(false),
					SecurityContext:              pods.ServerSecurity(s),
					ResourceClaims:               pods.Claims(a, a.ServerName),
					Volumes:                      pods.ServerVolumes(s),
					Containers:                   []corev1.Container{container},
				},
			},
		},
	}
	pod := "spec.template.spec"
	return manifest.Object{
		File:  "deployment-" + a.Slug + ".yaml",
		Value: value,
		Comments: []manifest.Comment{
			{Path: "apiVersion", Text: "It holds " + gpus(a) + " until it is deleted: kubectl delete -n " + p.Namespace + " deployment/" + a.ServerName},
			{Path: "spec.strategy", Text: "Two at a time would need twice the GPUs."},
			{Path: pod + ".enableServiceLinks", Text: "Otherwise a Service named vllm sets VLLM_PORT, which vLLM takes for its own."},
			{Path: pod + ".containers[server].args", Text: "max-num-seqs is the largest batch size, max-model-len fits the longest request."},
			{Path: pod + ".containers[server].startupProbe", Text: "Room to download the model."},
		},
	}
}

func gpus(a plan.Accelerator) string {
	if a.Count > 1 {
		return strconv.Itoa(a.Count) + " GPUs"
	}
	return "a GPU"
}

func serverService(p plan.Plan, a plan.Accelerator) manifest.Object {
	return manifest.Object{
		File: "service-" + a.Slug + ".yaml",
		Value: corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: ofServer(p, a),
			Spec: corev1.ServiceSpec{
				Selector: serverSelector(a),
				Ports:    []corev1.ServicePort{{Name: "http", Port: config.ServerPort, TargetPort: intstr.FromString("http")}},
			},
		},
	}
}
