package templates

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wfgen.dev/internal/sweep/config"
)

// cacheDir is where a server keeps models.
const cacheDir = "/cache"

// Labels of servers' pods. The names of Kubernetes' own are those that it recommends.
const (
	componentLabel   = "app.kubernetes.io/component"
	acceleratorLabel = "wfgen.dev/accelerator"
	serverComponent  = "llm-server"
)

// serverLabels tell the servers of a sweep from its other pods.
func serverLabels(c config.Config) map[string]string {
	l := labels(c)
	l[componentLabel] = serverComponent
	return l
}

// notToBeEvicted keeps autoscalers from taking the node away under a measurement.
var notToBeEvicted = map[string]string{
	"cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
	"karpenter.sh/do-not-disrupt":                    "true",
}

// sizes are what a server is told of the sweep, as numbers or as what Argo makes
// numbers of.
type sizes struct {
	model       string
	maxNumSeqs  string
	maxModelLen string
}

// modelMargin is how many tokens a request may have beyond those of its shape: what
// a chat template adds, and the end of a text.
const modelMargin = 128

// spread is by how much the native driver lets answers be longer than asked.
const spread = 1.2

// modelLen is the longest request of these shapes, tokens.
func modelLen(shapes []config.Shape) int {
	longest := 0
	for _, s := range shapes {
		longest = max(longest, int(float64(s.PromptTokens)+spread*float64(s.OutputTokens)))
	}
	return longest + modelMargin
}

// plainSizes are those of the configuration.
func plainSizes(c config.Config, a config.Accelerator) sizes {
	s := sizes{model: c.Model, maxNumSeqs: limit(c, a), maxModelLen: strconv.Itoa(modelLen(c.Shapes))}
	if s.maxNumSeqs == "" {
		s.maxNumSeqs = strconv.Itoa(slices.Max(c.BatchSizes))
	}
	return s
}

// limit is the configured max-num-seqs of an accelerator's server, empty when there
// is none.
func limit(c config.Config, a config.Accelerator) string {
	n := a.MaxNumSeqs
	if n == 0 {
		n = c.MaxNumSeqs
	}
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// serverArgs are the arguments of vLLM. The largest batch runs at once, the longest
// request fits, and no prompt is answered from a cache.
func serverArgs(a config.Accelerator, s config.Server, z sizes) []string {
	path := s.ModelPath
	if path == "" {
		path = z.model
	}
	args := []string{
		path,
		"--served-model-name=" + z.model,
		"--host=0.0.0.0",
		"--port=" + strconv.Itoa(config.ServerPort),
		"--tensor-parallel-size=" + strconv.Itoa(max(1, a.Count)),
		"--dtype=" + s.DType,
		"--max-num-seqs=" + z.maxNumSeqs,
		"--max-model-len=" + z.maxModelLen,
		"--no-enable-prefix-caching",
	}
	return append(args, s.Args...)
}

// serverContainer is the container of an accelerator's server.
func serverContainer(c config.Config, a config.Accelerator, s config.Server, z sizes) corev1.Container {
	gpus := *resource.NewQuantity(int64(max(1, a.Count)), resource.DecimalSI)
	return corev1.Container{
		Image:           s.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         s.Command,
		Args:            serverArgs(a, s, z),
		Env:             serverEnv(c, s),
		Ports:           []corev1.ContainerPort{{Name: "http", ContainerPort: config.ServerPort}},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(s.CPU), corev1.ResourceMemory: resource.MustParse(s.Memory), corev1.ResourceName(a.GPU()): gpus},
			Limits:   corev1.ResourceList{corev1.ResourceName(a.GPU()): gpus},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "tmp", MountPath: tmpDir},
			{Name: "cache", MountPath: cacheDir},
			{Name: "shm", MountPath: "/dev/shm"},
		},
		StartupProbe:    health(5, int32(waitTimeout(c)/(5*time.Second))+1),
		ReadinessProbe:  health(5, 3),
		LivenessProbe:   health(10, 6),
		SecurityContext: containerSecurity(),
	}
}

// health asks the server every so many seconds.
func health(period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/health", Port: intstr.FromInt32(config.ServerPort)}},
		PeriodSeconds:    period,
		TimeoutSeconds:   5,
		FailureThreshold: failures,
	}
}

// serverEnv gives a user without a name or a home what Python and PyTorch ask for, and
// puts everything that is written on the pod's volumes.
func serverEnv(c config.Config, s config.Server) []corev1.EnvVar {
	env := []corev1.EnvVar{
		{Name: "HOME", Value: tmpDir},
		{Name: "USER", Value: "server"},
		{Name: "HF_HOME", Value: cacheDir + "/huggingface"},
		{Name: "VLLM_NO_USAGE_STATS", Value: "1"},
	}
	if c.HFSecretName != "" {
		env = append(env, secretEnv("HF_TOKEN", c.HFSecretName, c.HFSecretKey, true))
	}
	if c.APIKeySecretName != "" {
		env = append(env, secretEnv("VLLM_API_KEY", c.APIKeySecretName, c.APIKeySecretKey, false))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		env = slices.DeleteFunc(env, func(e corev1.EnvVar) bool { return e.Name == name })
		env = append(env, corev1.EnvVar{Name: name, Value: s.Env[name]})
	}
	return env
}

// serverVolumes are what the server writes to: scratch, models, shared memory.
func serverVolumes(s config.Server) []corev1.Volume {
	cache := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: quantity(s.CacheSize)}}
	if s.CachePVC != "" {
		cache = corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: s.CachePVC}}
	}
	return []corev1.Volume{
		emptyDir("tmp"),
		{Name: "cache", VolumeSource: cache},
		{Name: "shm", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: quantity(s.Shm)}}},
	}
}

func quantity(text string) *resource.Quantity {
	if text == "" {
		return nil
	}
	return ptr(resource.MustParse(text))
}

// serverSecurity lets the server's user write to a volume of models.
func serverSecurity(s config.Server) *corev1.PodSecurityContext {
	security := podSecurity(s.User)
	security.FSGroup = ptr(s.User)
	security.FSGroupChangePolicy = ptr(corev1.FSGroupChangeOnRootMismatch) // a volume of models is large
	return security
}

// affinity was validated.
func affinity(s config.Server) *corev1.Affinity {
	a, err := s.Affinities()
	if err != nil {
		panic(fmt.Sprintf("affinity was not validated: %v", err))
	}
	return a
}

// serverNames gives servers' pods names in the cluster's DNS. A pod of a later run, or
// one that a retry made, is found by it; an address might by then be somebody else's.
func serverNames(c config.Config) Object {
	return Object{
		File: "service.yaml",
		Value: corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: meta(c, c.Name),
			Spec: corev1.ServiceSpec{
				ClusterIP: corev1.ClusterIPNone,
				Selector:  serverLabels(c),
				Ports:     []corev1.ServicePort{{Name: "http", Port: config.ServerPort, TargetPort: intstr.FromString("http")}},
			},
		},
	}
}
