package pods

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/engine"
	"wfgen.dev/internal/sweep/plan"
)

// cacheDir is where a server keeps models.
const cacheDir = "/cache"

// Labels of pods. The names of Kubernetes' own are those that it recommends.
const (
	PartOfLabel      = "app.kubernetes.io/part-of" // the sweep's name
	ComponentLabel   = "app.kubernetes.io/component"
	AcceleratorLabel = "wfgen.dev/accelerator"
	ServerComponent  = "llm-server"
)

// ServerLabels tell the servers of a sweep from its other pods.
func ServerLabels(p plan.Plan) map[string]string {
	l := Labels(p)
	l[ComponentLabel] = ServerComponent
	return l
}

// Sizes are what a server is told of the sweep: text, or what Argo makes text of.
type Sizes struct {
	Model       string
	MaxNumSeqs  string
	MaxModelLen string
	ChunkTokens string // empty: as the engine chooses
}

// PlainSizes are those of the configuration.
func PlainSizes(p plan.Plan, a plan.Accelerator) Sizes {
	z := Sizes{Model: p.Model, MaxNumSeqs: strconv.Itoa(p.ServerLimit(a)), MaxModelLen: strconv.Itoa(p.LongestRequest(a))}
	if a.PrefillChunk > 0 {
		z.ChunkTokens = strconv.Itoa(a.PrefillChunk)
	}
	return z
}

// variables moves what Argo fills in into variables, to which the arguments refer: the
// kubelet expands references to secrets in an argument, but not in what it has put
// there itself.
func (z Sizes) variables() (Sizes, []corev1.EnvVar) {
	var env []corev1.EnvVar
	for _, v := range []struct {
		name string
		text *string
	}{{"WFGEN_MODEL", &z.Model}, {"WFGEN_MAX_NUM_SEQS", &z.MaxNumSeqs}, {"WFGEN_MAX_MODEL_LEN", &z.MaxModelLen}, {"WFGEN_PREFILL_CHUNK", &z.ChunkTokens}} {
		if filledIn(*v.text) {
			env = append(env, corev1.EnvVar{Name: v.name, Value: *v.text})
			*v.text = Reference(v.name)
		}
	}
	return z, env
}

// serverArgs are the arguments of the engine. The largest batch runs at once, the longest
// request fits, and no prompt is answered from a cache.
func serverArgs(p plan.Plan, a plan.Accelerator, z Sizes) []string {
	args := p.ServerEngine().Args(engine.Settings{
		Path: cmp.Or(a.Server.ModelPath, z.Model), Model: z.Model, GPUs: a.Count, DType: a.Server.DType,
		MaxNumSeqs: z.MaxNumSeqs, MaxModelLen: z.MaxModelLen, ChunkTokens: z.ChunkTokens, Port: config.ServerPort, Key: p.APIKeySecretName != "",
	})
	return append(args, a.Server.Args...)
}

// ServerContainer is the container of an accelerator's server.
func ServerContainer(p plan.Plan, a plan.Accelerator, z Sizes) corev1.Container {
	s := a.Server
	resources := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(s.CPU), corev1.ResourceMemory: resource.MustParse(s.Memory)},
	}
	switch { // a simulated server has no GPU
	case a.DeviceClass != "":
		resources.Claims = []corev1.ResourceClaim{{Name: claimName}}
	case a.Resource != "":
		gpus := *resource.NewQuantity(int64(a.Count), resource.DecimalSI)
		resources.Requests[corev1.ResourceName(a.Resource)] = gpus
		resources.Limits = corev1.ResourceList{corev1.ResourceName(a.Resource): gpus}
	}
	z, env := z.variables()
	return corev1.Container{
		Image:           s.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         s.Command,
		Args:            serverArgs(p, a, z),
		Env:             append(env, serverEnv(p, s)...),
		Ports:           []corev1.ContainerPort{{Name: "http", ContainerPort: config.ServerPort}},
		Resources:       resources,
		VolumeMounts: []corev1.VolumeMount{
			tmpMount(),
			{Name: "cache", MountPath: cacheDir},
			{Name: "shm", MountPath: "/dev/shm"},
		},
		StartupProbe:    health(5, int32(p.WaitTimeout/(5*time.Second))+1),
		ReadinessProbe:  health(5, 3),
		LivenessProbe:   health(10, 6),
		SecurityContext: ContainerSecurity(),
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
func serverEnv(p plan.Plan, s config.Server) []corev1.EnvVar {
	env := []corev1.EnvVar{
		{Name: "HOME", Value: Tmp},
		{Name: "USER", Value: "server"},
		{Name: "HF_HOME", Value: cacheDir + "/huggingface"},
	}
	for _, v := range p.ServerEngine().Variables {
		env = append(env, corev1.EnvVar{Name: v.Name, Value: v.Value})
	}
	if p.HFSecretName != "" {
		env = append(env, secretEnv("HF_TOKEN", p.HFSecretName, p.HFSecretKey, true))
	}
	if p.APIKeySecretName != "" {
		env = append(env, secretEnv(p.ServerEngine().KeyVariable, p.APIKeySecretName, p.APIKeySecretKey, false))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		env = slices.DeleteFunc(env, func(e corev1.EnvVar) bool { return e.Name == name })
		env = append(env, corev1.EnvVar{Name: name, Value: s.Env[name]})
	}
	return env
}

// ServerVolumes are what the server writes to: scratch, models, shared memory.
func ServerVolumes(s config.Server) []corev1.Volume {
	cache := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: quantity(s.CacheSize)}}
	if s.CachePVC != "" {
		cache = corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: s.CachePVC}}
	}
	return []corev1.Volume{
		TmpVolume(),
		{Name: "cache", VolumeSource: cache},
		{Name: "shm", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: quantity(s.Shm)}}},
	}
}

func quantity(text string) *resource.Quantity {
	if text == "" {
		return nil
	}
	return new(resource.MustParse(text))
}

// ServerSecurity lets the server's user write to a volume of models.
func ServerSecurity(s config.Server) *corev1.PodSecurityContext {
	security := Security(s.User)
	security.FSGroup = new(s.User)
	security.FSGroupChangePolicy = new(corev1.FSGroupChangeOnRootMismatch) // a volume of models is large
	return security
}

// Affinity of a server's pod, which was validated.
func Affinity(s config.Server) *corev1.Affinity {
	a, err := s.Affinities()
	if err != nil {
		panic(fmt.Sprintf("affinity was not validated: %v", err))
	}
	return a
}
