package templates

import (
	"fmt"
	"slices"
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/retry"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep/plan"
)

// podSpecPatch makes every pod of the workflow pass Pod Security "restricted": Argo's own
// containers do not by themselves. They alone get the ServiceAccount's identity; Argo's
// automountServiceAccountToken: false would want a Secret with one that never expires.
// Without enableServiceLinks: false a Service named vllm would set VLLM_PORT in every pod
// of the namespace.
var podSpecPatch = patch(corev1.PodSpec{
	AutomountServiceAccountToken: new(false),
	EnableServiceLinks:           new(false),
	InitContainers:               []corev1.Container{executor("init")},
	Containers:                   []corev1.Container{executor("wait")},
	Volumes:                      []corev1.Volume{pods.TokenVolume()},
})

// executor is what a container of Argo's own needs beyond what Argo gives it.
func executor(name string) corev1.Container {
	return corev1.Container{
		Name:         name,
		VolumeMounts: []corev1.VolumeMount{pods.TokenMount()},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
}

// patch writes a part of a pod that Argo's templates have no field for. It is merged into
// the pod by Kubernetes' rules: containers, volumes and mounts by their names.
func patch(spec corev1.PodSpec) string {
	text, err := manifest.YAML(spec)
	if err != nil {
		panic(err) // a struct of strings
	}
	return string(text)
}

// terminationLog is where a step leaves its error, for Kubernetes and Argo to show.
const terminationLog = "STEP_TERMINATION_LOG"

// stepPod is a pod that runs a command of step, within so many seconds, and is tried
// again where that command may then succeed.
func stepPod(p plan.Plan, name string, deadline int, r corev1.ResourceRequirements, call steps.Call) wfv1.Template {
	container := pods.Step(p, r, call)
	container.Env = append(container.Env, corev1.EnvVar{Name: terminationLog, Value: corev1.TerminationMessagePathDefault})
	return wfv1.Template{
		Name:                  name,
		ActiveDeadlineSeconds: new(intstr.FromInt32(int32(deadline))),
		Volumes:               []corev1.Volume{pods.TmpVolume()},
		Container:             &container,
		RetryStrategy:         again(p, call.Command),
	}
}

// loadPod is a stepPod that makes load on a server, of which its inputs tell.
func loadPod(p plan.Plan, name string, deadline int, call steps.Call, names ...string) wfv1.Template {
	t := stepPod(p, name, deadline, pods.LoadResources(p), call)
	t.Container.Env = append(t.Container.Env, pods.APIKeyEnv(p)...)
	t.Inputs = inputs(names...)
	t.Inputs.Parameters = append(t.Inputs.Parameters, serverInput)
	t.Synchronization = &wfv1.Synchronization{Mutexes: []*wfv1.Mutex{{Name: serverLock}}}
	t.Metadata = wfv1.Metadata{Annotations: pods.NotToBeEvicted}
	t.NodeSelector, t.Tolerations = p.LoadGeneratorNodeSelector, p.LoadGeneratorTolerations
	return t
}

// onPlatform gives every pod what the platform wants of it. It stands on the templates:
// podMetadata of a specification does not reach the pods of a workflow that refers to it.
func onPlatform(p plan.Plan, templates []wfv1.Template) {
	for i, t := range templates {
		if t.Container != nil {
			templates[i].Metadata.Labels, templates[i].Metadata.Annotations = pods.Metadata(p, t.Metadata.Labels, t.Metadata.Annotations)
		}
	}
}

// again tries the pod of a command once more after it was lost, or said that another
// attempt may succeed.
func again(p plan.Plan, command steps.Command) *wfv1.RetryStrategy {
	if p.Retries == 0 {
		return nil
	}
	expression := `lastRetry.status == "Error"`
	if command.Again {
		expression = fmt.Sprintf(`lastRetry.exitCode == "%d" || `, exit.TryAgain) + expression
	}
	return &wfv1.RetryStrategy{
		Limit:       new(intstr.FromString(fmt.Sprint(p.Retries))),
		RetryPolicy: wfv1.RetryPolicyAlways,
		Expression:  expression,
		Backoff:     &wfv1.Backoff{Duration: retry.First.String(), Factor: new(intstr.FromString(fmt.Sprint(retry.Factor)))},
	}
}

// outputParameters are values that a command leaves in files. Empty stands for one
// that it did not leave.
func outputParameters(command steps.Command, names ...layout.Output) []wfv1.Parameter {
	var parameters []wfv1.Parameter
	for _, name := range names {
		if !slices.Contains(command.Outputs, name) {
			panic(fmt.Sprintf("step %s leaves no output %s", command.Name, name))
		}
		parameters = append(parameters, wfv1.Parameter{
			Name:      string(name),
			ValueFrom: &wfv1.ValueFrom{Path: strings.Join([]string{outDir, name.Key()}, "/"), Default: wfv1.AnyStringPtr("")},
		})
	}
	return parameters
}

// artifact is a file, or a directory, at a key of its own, stored as it is.
func artifact(name, path, key string) wfv1.Artifact {
	return wfv1.Artifact{
		Name:             name,
		Path:             path,
		ArtifactLocation: wfv1.ArtifactLocation{S3: &wfv1.S3Artifact{Key: key}},
		Archive:          &wfv1.ArchiveStrategy{None: &wfv1.NoneStrategy{}},
		Optional:         true, // a failed step leaves what it has
	}
}

// optional reads a file, if there is one.
func optional(name, path, key string) wfv1.Artifact {
	return wfv1.Artifact{Name: name, Path: path, Optional: true, ArtifactLocation: wfv1.ArtifactLocation{S3: &wfv1.S3Artifact{Key: key}}}
}

// directory reads all objects under a key. With none the step says what is missing,
// better than Argo could.
func directory(name, path, key string) wfv1.Artifact {
	return wfv1.Artifact{
		Name:             name,
		Path:             path,
		ArtifactLocation: wfv1.ArtifactLocation{S3: &wfv1.S3Artifact{Key: key + "/"}},
		Optional:         true,
	}
}
