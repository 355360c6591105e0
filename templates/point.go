package templates

import (
	"fmt"
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
)

// point loads one server with batch-size requests at a time. It gets everything by
// its inputs, so that a ClusterWorkflowTemplate can hold it as it is.
func point(c config.Config) wfv1.Template {
	guidellm := c.Driver == sweep.Guidellm
	names := []string{pModel, pBatchSize, pBatchSizes, pTargetURL, pAccelerator, pPromptTokens, pOutputTokens, pMaxSeconds, pMaxRequests}
	if guidellm {
		names = append(names, pTokenizer)
	}
	names = append(names, pMaxNumSeqs, pResults)

	args := benchArgs(c, input, outDir)
	t := stepPod(c, pointTemplate, 0, loadResources(c), args...)
	if guidellm {
		intoGuidellm(c, &t)
	}
	t.Container.Env = append(append(t.Container.Env, apiKeyEnv(c)...), corev1.EnvVar{Name: "STEP_SERVER", Value: input(pServer)})
	t.Inputs = inputs(names...)
	t.Inputs.Parameters = append(t.Inputs.Parameters, serverInput)
	t.ActiveDeadlineSeconds = ptr(intstr.FromString(pointDeadlineExpression))
	t.RetryStrategy = retry(c, `lastRetry.exitCode == "75" || lastRetry.status == "Error"`)
	t.Synchronization = &wfv1.Synchronization{Mutexes: []*wfv1.Mutex{{Name: serverLock}}}
	t.Metadata = wfv1.Metadata{Annotations: notToBeEvicted}
	shape := input(pPromptTokens) + "-" + input(pOutputTokens)
	t.Outputs = wfv1.Outputs{
		Parameters: outputParameters("itl", "ttft", "batch"),
		Artifacts: []wfv1.Artifact{
			artifact("measurement", outDir+"/"+layout.Measurement, measurementsKey(input(pResults))+"/"+shape+"-b"+input(pBatchSize)+".json"),
			artifact("reports", outDir+"/"+layout.Reports, input(pResults)+"/"+layout.Reports+"/"+shape),
		},
	}
	return t
}

// serverLock is the name of the mutex that keeps two runs from loading one server
// together: the server's URL in letters, digits and dashes, so that it follows a
// target that is changed at submit.
const serverLock = `{{=sprig.trimSuffix("-", sprig.regexReplaceAll("[^A-Za-z0-9]+", inputs.parameters["target-url"], "-"))}}`

// pointDeadline is the deadline of a point's pod in seconds: twice its length for
// warm-up and drain, and half an hour for the images; four hours where requests
// limit it.
func pointDeadline(maxSeconds int) int {
	if maxSeconds == 0 {
		return 14400
	}
	return 2*maxSeconds + 1800
}

// pointDeadlineExpression is the same for what max-seconds is at submit.
const pointDeadlineExpression = `{{=asInt(inputs.parameters["max-seconds"]) == 0 ? 14400 : 2 * asInt(inputs.parameters["max-seconds"]) + 1800}}`

// intoGuidellm turns the pod into one of the unmodified guidellm image, into which
// an init container brings step.
func intoGuidellm(c config.Config, t *wfv1.Template) {
	t.InitContainers = []wfv1.UserContainer{{Container: installStep(c), MirrorVolumeMounts: ptr(true)}}
	t.Volumes = append(t.Volumes, emptyDir("tools"))
	t.SecurityContext = podSecurity(guidellmUser)
	guidellmContainer(c, t.Container)
}

// installStep puts step where containers without it can run it.
func installStep(c config.Config) corev1.Container {
	return corev1.Container{
		Name:            "install-step",
		Image:           c.StepImage,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{stepPath},
		Args:            []string{"install-to", stepInUse},
		Resources:       small,
		SecurityContext: containerSecurity(),
	}
}

// guidellmContainer makes the container one of the unmodified guidellm image.
func guidellmContainer(c config.Config, container *corev1.Container) {
	container.Image = c.GuidellmImage
	container.Command = []string{stepInUse}
	container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "tools", MountPath: toolsDir})
	container.Env = append(container.Env, corev1.EnvVar{Name: "HF_HOME", Value: tmpDir + "/huggingface"})
	if c.HFSecretName != "" {
		// The name is fixed: whoever may only submit must not choose which Secret of the
		// namespace a pod gets that talks to a URL of his choice.
		container.Env = append(container.Env, secretEnv("HF_TOKEN", c.HFSecretName, c.HFSecretKey, true))
	}
}

// benchArgs are those of step bench; value gives what the parameters stand for.
func benchArgs(c config.Config, value func(name string) string, output string) []string {
	args := []string{"bench", "--target=" + value(pTargetURL)}
	for _, name := range []string{pModel, pAccelerator, pBatchSize, pBatchSizes, pPromptTokens, pOutputTokens, pMaxSeconds, pMaxRequests, pMaxNumSeqs} {
		args = append(args, "--"+name+"="+value(name))
	}
	args = append(args, "--driver="+c.Driver)
	if c.Driver == sweep.Guidellm {
		args = append(args, "--tokenizer="+value(pTokenizer))
	}
	return append(args, "--output="+output)
}

func pointComments(c config.Config, at string) []manifest.Comment {
	comments := []manifest.Comment{
		{Path: at + ".synchronization", Text: "One point at a time on a server, also when several workflows run."},
		{Path: at + ".container.resources.requests.cpu", Text: "With too few CPUs the load generator's own contention is measured as latency."},
	}
	if c.Retries > 0 {
		comments = append(comments, manifest.Comment{Path: at + ".retryStrategy", Text: "75: try again (connection lost, driver crashed). What cannot heal fails at once."})
	}
	if c.Driver == sweep.Guidellm {
		comments = append(comments,
			manifest.Comment{Path: at + ".initContainers", Text: "step comes in beside the unmodified guidellm."},
			manifest.Comment{Path: at + ".securityContext.runAsUser", Text: "The user of the guidellm image."})
	}
	return comments
}

// loadResources are what the pod asks for that makes the load.
func loadResources(c config.Config) corev1.ResourceRequirements {
	cpu, memory := "2", "512Mi" // step: one goroutine per stream
	if c.Driver == sweep.Guidellm {
		cpu, memory = "4", "4Gi" // several Python processes
	}
	if c.LoadGeneratorCPU != "" {
		cpu = c.LoadGeneratorCPU
	}
	if c.LoadGeneratorMemory != "" {
		memory = c.LoadGeneratorMemory
	}
	return resources(cpu, memory)
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

// outputParameters are values that step leaves in files. Empty stands for one that
// it did not leave.
func outputParameters(names ...string) []wfv1.Parameter {
	var parameters []wfv1.Parameter
	for _, name := range names {
		parameters = append(parameters, wfv1.Parameter{
			Name:      name,
			ValueFrom: &wfv1.ValueFrom{Path: strings.Join([]string{outDir, layout.Outputs, name}, "/"), Default: wfv1.AnyStringPtr("")},
		})
	}
	return parameters
}

// retry tries a pod again while the expression holds. Argo judges it only after the
// backoff, which is therefore short: a failure for good waits for it as well.
func retry(c config.Config, expression string) *wfv1.RetryStrategy {
	if c.Retries == 0 {
		return nil
	}
	return &wfv1.RetryStrategy{
		Limit:       ptr(intstr.FromString(fmt.Sprint(c.Retries))),
		RetryPolicy: wfv1.RetryPolicyAlways,
		Expression:  expression,
		Backoff:     &wfv1.Backoff{Duration: "10s", Factor: ptr(intstr.FromString("3"))},
	}
}
