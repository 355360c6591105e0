// Package pods is what the pods of a sweep have in common, whether Argo starts them
// or a Job does: their users, resources and security, the containers that run step
// and guidellm, the container of a server, and the objects that pods need beside
// them.
package pods

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/plan"
)

// Directories of a pod. All lie on emptyDirs: the root file system is read-only.
const (
	Tmp       = "/tmp"
	tools     = "/tools" // where an init container puts step for an image without it
	stepInUse = tools + "/step"
	stepPath  = "/step" // in step's own image
)

// Users of the images. They are given as numbers because Argo's executor image may
// have none, and Pod Security "restricted" wants one that is not root.
const (
	StepUser     = 65532
	GuidellmUser = 1001
)

// NotToBeEvicted keeps autoscalers from taking the node away under a measurement.
var NotToBeEvicted = map[string]string{
	"cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
	"karpenter.sh/do-not-disrupt":                    "true",
}

// Resources of steps that only wait or calculate.
var (
	Small  = Resources("50m", "64Mi")
	Medium = Resources("200m", "256Mi")
)

// Resources are a request, and the memory as a limit as well. CPU has no limit:
// throttling would be measured as latency.
func Resources(cpu, memory string) corev1.ResourceRequirements {
	m := resource.MustParse(memory)
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: m},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: m},
	}
}

// LoadResources are what the pod asks for that makes the load.
func LoadResources(p plan.Plan) corev1.ResourceRequirements {
	// step itself takes a fifth of a core for 64 streams of 8 ms, a third for 256. Twice
	// that and a little: what is asked for is what it gets on a busy node.
	cpu, memory := fmt.Sprintf("%dm", 100+6*p.LargestBatch()), "512Mi"
	if p.Driver == sweep.Guidellm {
		cpu, memory = "4", "4Gi" // several Python processes
	}
	if p.LoadGeneratorCPU != "" {
		cpu = p.LoadGeneratorCPU
	}
	if p.LoadGeneratorMemory != "" {
		memory = p.LoadGeneratorMemory
	}
	return Resources(cpu, memory)
}

// Security of a pod that runs as the user.
func Security(user int64) *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot:   new(true),
		RunAsUser:      new(user),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// ContainerSecurity takes every right from a container that it does not need.
func ContainerSecurity() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// EmptyDir is a volume that lives as long as its pod.
func EmptyDir(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

// TmpVolume and its mount are where every container may write.
func TmpVolume() corev1.Volume     { return EmptyDir("tmp") }
func tmpMount() corev1.VolumeMount { return corev1.VolumeMount{Name: "tmp", MountPath: Tmp} }

// ToolsVolume brings step into a container of another image.
func ToolsVolume() corev1.Volume     { return EmptyDir("tools") }
func toolsMount() corev1.VolumeMount { return corev1.VolumeMount{Name: "tools", MountPath: tools} }

// The identity of a pod's ServiceAccount. It is mounted by hand, into those containers
// alone that ask the API server: with automountServiceAccountToken all of them would have
// it, a load generator of somebody else's too. It is the short-lived one that the kubelet
// renews, not a Secret.
const tokenVolume = "api-token"

// TokenVolume is where that identity comes from.
func TokenVolume() corev1.Volume {
	return corev1.Volume{Name: tokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: new(int64(3607))}},
		{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
			Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
		}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}},
		}}},
	}}}}
}

// TokenMount gives a container the identity.
func TokenMount() corev1.VolumeMount {
	return corev1.VolumeMount{Name: tokenVolume, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}
}

// Step is a container that runs a command of step. The command is explicit: Argo
// cannot look up the entrypoint of an image in a registry that it may not read.
// What a submitter decides, which is what Argo fills in, stands in variables before
// all others: the kubelet then finds nothing to expand in it.
func Step(p plan.Plan, r corev1.ResourceRequirements, call steps.Call) corev1.Container {
	args, foreign := call.Split(filledIn)
	var env []corev1.EnvVar
	for _, s := range foreign {
		env = append(env, corev1.EnvVar{Name: s.Variable(), Value: s.Value})
	}
	for i, arg := range args {
		args[i] = literal(arg)
	}
	return corev1.Container{
		Image:           p.StepImage,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{stepPath},
		Args:            args,
		Env:             env,
		Resources:       r,
		VolumeMounts:    []corev1.VolumeMount{tmpMount()},
		SecurityContext: ContainerSecurity(),
	}
}

// filledIn says whether a value holds a reference that Argo fills in.
func filledIn(value string) bool { return strings.Contains(value, "{{") }

// Reference is how an argument names a variable of its container, which the kubelet
// fills in.
func Reference(variable string) string { return "$(" + variable + ")" }

// RunID is the variable of a Job's containers that tells one run of it from another.
const RunID = "JOB_UID"

// literal keeps the kubelet from expanding anything in an argument but the run.
func literal(arg string) string {
	escaped := strings.ReplaceAll(arg, "$", "$$") // which it undoes
	return strings.ReplaceAll(escaped, "$"+Reference(RunID), Reference(RunID))
}

// InstallStep is an init container that puts step where containers without it can run
// it.
func InstallStep(p plan.Plan) corev1.Container {
	c := Step(p, Small, steps.InstallTo.With().On(stepInUse))
	c.Name, c.VolumeMounts = "install-step", nil
	return c
}

// ToolsMounts are those of a container that installs step itself.
func ToolsMounts() []corev1.VolumeMount { return []corev1.VolumeMount{toolsMount()} }

// IntoGuidellm makes a container that runs step one of the unmodified guidellm image.
func IntoGuidellm(p plan.Plan, c *corev1.Container) {
	c.Image = p.GuidellmImage
	c.Command = []string{stepInUse}
	c.VolumeMounts = append(c.VolumeMounts, toolsMount())
	c.Env = append(c.Env, corev1.EnvVar{Name: "HF_HOME", Value: Tmp + "/huggingface"})
	if p.HFSecretName != "" {
		// The name is fixed: whoever may only submit must not choose which Secret of the
		// namespace a pod gets that talks to a URL of his choice.
		c.Env = append(c.Env, secretEnv("HF_TOKEN", p.HFSecretName, p.HFSecretKey, true))
	}
}

// APIKeyEnv gives step the servers' API key, where they ask for one, and says which
// servers those are: the target can be changed by who may only submit.
func APIKeyEnv(p plan.Plan) []corev1.EnvVar {
	if p.APIKeySecretName == "" {
		return nil
	}
	return []corev1.EnvVar{
		secretEnv(steps.Bench.APIKey.Variable(), p.APIKeySecretName, p.APIKeySecretKey, false),
		{Name: steps.Bench.APIKeyFor.Variable(), Value: steps.List(p.Targets())},
	}
}

// Keys of the Secret of notifications.
const (
	slackKey        = "slack"
	webhookKey      = "webhook"
	alertmanagerKey = "alertmanager"
)

// NotifyEnv gives step notify, or step guard, the addresses, as many as there are.
func NotifyEnv(p plan.Plan) []corev1.EnvVar {
	n := steps.Notify
	return []corev1.EnvVar{
		secretEnv(n.SlackURL.Variable(), p.NotifySecretName, slackKey, true),
		secretEnv(n.WebhookURL.Variable(), p.NotifySecretName, webhookKey, true),
		secretEnv(n.Alertmanager.Variable(), p.NotifySecretName, alertmanagerKey, true),
	}
}

func secretEnv(name, secret, key string, optional bool) corev1.EnvVar {
	ref := SecretKey(secret, key)
	if optional {
		ref.Optional = new(true)
	}
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: ref}}
}

// SecretKey refers to one key of a Secret.
func SecretKey(name, key string) *corev1.SecretKeySelector {
	return &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key}
}

// Keys of a Secret with S3 credentials, as Argo's own examples have them.
const (
	AccessKey       = "accessKey"
	SecretAccessKey = "secretKey"
)

// BucketEnv is how step reaches the bucket: as the tools of AWS do.
func BucketEnv(p plan.Plan) []corev1.EnvVar {
	if p.S3Bucket == "" {
		return nil
	}
	var env []corev1.EnvVar
	if p.S3Secret != "" {
		env = append(env, secretEnv("AWS_ACCESS_KEY_ID", p.S3Secret, AccessKey, false), secretEnv("AWS_SECRET_ACCESS_KEY", p.S3Secret, SecretAccessKey, false))
	}
	if p.S3Region != "" {
		env = append(env, corev1.EnvVar{Name: "AWS_REGION", Value: p.S3Region})
	}
	if e := p.S3Endpoint; e != "" && !strings.HasSuffix(e, "amazonaws.com") {
		if !strings.Contains(e, "://") {
			e = "https://" + e
		}
		env = append(env, corev1.EnvVar{Name: "AWS_ENDPOINT_URL", Value: e})
	}
	return env
}
