package templates

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wfgen.dev/internal/sweep/config"
)

// Users of the images. They are given as numbers because Argo's executor image may
// have none, and Pod Security "restricted" wants one that is not root.
const (
	stepUser     = 65532
	guidellmUser = 1001
)

// podSpecPatch makes every pod of the workflow pass Pod Security "restricted":
// Argo's own containers do not by themselves. Without enableServiceLinks: false a
// Service named vllm would set VLLM_PORT in every pod of the namespace.
const podSpecPatch = `enableServiceLinks: false
initContainers:
- name: init
  securityContext:
    allowPrivilegeEscalation: false
    capabilities:
      drop: [ALL]
containers:
- name: wait
  securityContext:
    allowPrivilegeEscalation: false
    capabilities:
      drop: [ALL]
`

// Resources of steps that only wait or calculate.
var (
	small  = resources("50m", "64Mi")
	medium = resources("200m", "256Mi")
)

// resources are a request, and the memory as a limit as well. CPU has no limit:
// throttling would be measured as latency.
func resources(cpu, memory string) corev1.ResourceRequirements {
	m := resource.MustParse(memory)
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: m},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: m},
	}
}

func podSecurity(user int64) *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot:   ptr(true),
		RunAsUser:      ptr(user),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func containerSecurity() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr(false),
		ReadOnlyRootFilesystem:   ptr(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// stepPod is a pod that runs step. The command is explicit: Argo cannot look up the
// entrypoint of an image in a registry that it may not read.
func stepPod(c config.Config, name string, deadline int, r corev1.ResourceRequirements, args ...string) wfv1.Template {
	return wfv1.Template{
		Name:                  name,
		ActiveDeadlineSeconds: ptr(intstr.FromInt32(int32(deadline))),
		Volumes:               []corev1.Volume{emptyDir("tmp")},
		Container: &corev1.Container{
			Image:           c.StepImage,
			ImagePullPolicy: corev1.PullIfNotPresent,
			Command:         []string{stepPath},
			Args:            args,
			Env:             []corev1.EnvVar{{Name: "STEP_TERMINATION_LOG", Value: corev1.TerminationMessagePathDefault}},
			Resources:       r,
			VolumeMounts:    []corev1.VolumeMount{{Name: "tmp", MountPath: tmpDir}},
			SecurityContext: containerSecurity(),
		},
	}
}

func emptyDir(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

// apiKeyEnv gives step the servers' API key, where they ask for one.
func apiKeyEnv(c config.Config) []corev1.EnvVar {
	if c.APIKeySecretName == "" {
		return nil
	}
	return []corev1.EnvVar{secretEnv("STEP_API_KEY", c.APIKeySecretName, c.APIKeySecretKey, false)}
}

func secretEnv(name, secret, key string, optional bool) corev1.EnvVar {
	ref := &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: key}
	if optional {
		ref.Optional = ptr(true)
	}
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: ref}}
}
