package templates

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
)

// Servers are a Deployment and a Service for each accelerator without a server, for
// whoever measures without Argo.
func Servers(c config.Config) []Object {
	var objects []Object
	if c.CreateNamespace {
		objects = append(objects, namespace(c))
	}
	c.Deploy = true
	for _, a := range c.Deployed() {
		objects = append(objects, serverDeployment(c, a), serverService(c, a))
	}
	return append(objects, exampleSecrets(c)...)
}

// Jobs are what measures every accelerator without Argo: a Job each, which runs the
// same step commands.
func Jobs(c config.Config) []Object {
	var objects []Object
	if c.Deploy {
		objects = Servers(c)
	} else {
		if c.CreateNamespace {
			objects = append(objects, namespace(c))
		}
		objects = append(objects, exampleSecrets(c)...)
	}
	examples := slices.IndexFunc(objects, func(o Object) bool { return o.Example })
	if examples < 0 {
		examples = len(objects)
	}
	jobs := []Object{serviceAccount(c), jobRole(c), roleBinding(c)}
	for _, a := range c.Accelerators {
		jobs = append(jobs, job(c, a))
	}
	return slices.Insert(objects, examples, jobs...)
}

// serverName is the name of an accelerator's server, and of its Service: the one that
// the default target-url looks for.
func serverName(a config.Accelerator) string { return "vllm-" + sweep.Slug(a.Name) }

func serverSelector(a config.Accelerator) map[string]string {
	return map[string]string{"app.kubernetes.io/name": serverName(a), componentLabel: serverComponent}
}

func ofServer(c config.Config, a config.Accelerator) metav1.ObjectMeta {
	m := meta(c, serverName(a))
	for key, value := range serverSelector(a) {
		m.Labels[key] = value
	}
	return m
}

func serverDeployment(c config.Config, a config.Accelerator) Object {
	s := c.ServerOf(a)
	container := serverContainer(c, a, s, plainSizes(c, a))
	container.Name = "server"
	var runtime *string
	if s.RuntimeClass != "" {
		runtime = &s.RuntimeClass
	}
	m := ofServer(c, a)
	value := appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: m,
		Spec: appsv1.DeploymentSpec{
			Replicas:                ptr(int32(1)),
			Strategy:                appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			ProgressDeadlineSeconds: ptr(int32(waitDeadline(c))),
			Selector:                &metav1.LabelSelector{MatchLabels: serverSelector(a)},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: m.Labels, Annotations: notToBeEvicted},
				Spec: corev1.PodSpec{
					NodeSelector:                 a.Nodes(),
					Affinity:                     affinity(s),
					Tolerations:                  s.Tolerations,
					PriorityClassName:            s.PriorityClass,
					RuntimeClassName:             runtime,
					EnableServiceLinks:           ptr(false),
					AutomountServiceAccountToken: ptr(false),
					SecurityContext:              serverSecurity(s),
					Volumes:                      serverVolumes(s),
					Containers:                   []corev1.Container{container},
				},
			},
		},
	}
	pod := "spec.template.spec"
	return Object{
		File:  "deployment-" + sweep.Slug(a.Name) + ".yaml",
		Value: value,
		Comments: []manifest.Comment{
			{Path: "apiVersion", Text: "It holds " + gpus(a) + " until it is deleted: kubectl delete -n " + c.Namespace + " deployment/" + serverName(a)},
			{Path: "spec.strategy", Text: "Two at a time would need twice the GPUs."},
			{Path: pod + ".enableServiceLinks", Text: "Otherwise a Service named vllm sets VLLM_PORT, which vLLM takes for its own."},
			{Path: pod + ".containers[server].args", Text: "max-num-seqs is the largest batch size, max-model-len fits the longest request."},
			{Path: pod + ".containers[server].startupProbe", Text: "Room to download the model."},
		},
	}
}

func gpus(a config.Accelerator) string {
	if n := max(1, a.Count); n > 1 {
		return strconv.Itoa(n) + " GPUs"
	}
	return "a GPU"
}

func serverService(c config.Config, a config.Accelerator) Object {
	return Object{
		File: "service-" + sweep.Slug(a.Name) + ".yaml",
		Value: corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: ofServer(c, a),
			Spec: corev1.ServiceSpec{
				Selector: serverSelector(a),
				Ports:    []corev1.ServicePort{{Name: "http", Port: config.ServerPort, TargetPort: intstr.FromString("http")}},
			},
		},
	}
}

// jobRole lets the last container keep the results in a ConfigMap, and the first one
// see why a server does not come up.
func jobRole(c config.Config) Object {
	var rules []rbacv1.PolicyRule
	if c.S3Bucket == "" {
		var names []string
		for _, a := range c.Accelerators {
			names = append(names, jobName(c, a))
		}
		rules = append(rules,
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"create"}}, // of any name: Kubernetes cannot tell
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: names, Verbs: []string{"get", "patch"}})
	}
	if c.Deploy {
		rules = append(rules, seePods()...)
	}
	return Object{File: "role.yaml", Value: rbacv1.Role{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"},
		ObjectMeta: meta(c, c.Name),
		Rules:      rules,
	}}
}

// jobName is the name of an accelerator's Job, and of the ConfigMap of its results. A
// label holds no more characters than that.
func jobName(c config.Config, a config.Accelerator) string {
	name := c.Name + "-" + sweep.Slug(a.Name)
	return strings.TrimRight(name[:min(len(name), 63)], "-")
}

// jobRun is the name of the run: a Job that is made anew is another run. The kubelet
// fills it in.
const jobRun = "$(JOB_UID)"

const resultsDir = "/results"

// job measures one accelerator in one pod, whose init containers run one after another:
// wait, each point; then the estimate. A point that fails says so and lets the next one
// run, as in the workflow.
func job(c config.Config, a config.Accelerator) Object {
	target := strings.ReplaceAll(a.TargetURL, "{accelerator}", sweep.Slug(a.Name))
	if target == "" {
		target = strings.ReplaceAll(c.TargetURL, "{accelerator}", sweep.Slug(a.Name))
	}
	if c.Deploys(a) {
		target = fmt.Sprintf("http://%s:%d", serverName(a), config.ServerPort)
	}
	maxNumSeqs := limit(c, a)
	if maxNumSeqs == "" {
		maxNumSeqs = "0"
		if c.Deploys(a) {
			maxNumSeqs = plainSizes(c, a).maxNumSeqs
		}
	}
	sizes := slices.Sorted(slices.Values(c.BatchSizes))
	list, err := json.Marshal(sizes)
	if err != nil {
		panic(err) // integers
	}
	var shapes []string
	for _, s := range c.Shapes {
		shapes = append(shapes, s.String())
	}
	bucket, out := "", resultsDir
	points := out + "/points"
	if c.S3Bucket != "" {
		bucket = "s3://" + strings.Trim(c.S3Bucket+"/"+strings.Trim(c.S3Prefix, "/"), "/")
		run := jobName(c, a) + "-" + jobRun
		out = bucket + "/" + layout.Run(run)
		points = bucket + "/" + layout.Accelerator(run, a.Name) + "/points"
	}

	wait := []string{"wait", "--target=" + target, "--model=" + c.Model, "--timeout=" + c.WaitTimeout,
		"--batch-sizes=" + string(list), "--shapes=" + strings.Join(shapes, ","), "--max-num-seqs=" + maxNumSeqs, "--output=" + resultsDir}
	if c.Deploys(a) {
		wait = append(wait, "--pods=app.kubernetes.io/name="+serverName(a))
	}
	var init []corev1.Container
	if c.Driver == sweep.Guidellm {
		install := installStep(c)
		install.VolumeMounts = []corev1.VolumeMount{{Name: "tools", MountPath: toolsDir}}
		init = append(init, install)
	}
	init = append(init, jobContainer(c, waitTemplate, small, wait...))
	for _, s := range c.Shapes {
		for _, b := range sizes {
			values := map[string]string{
				pTargetURL: target, pModel: c.Model, pAccelerator: a.Name, pBatchSize: strconv.Itoa(b), pBatchSizes: string(list),
				pPromptTokens: strconv.Itoa(s.PromptTokens), pOutputTokens: strconv.Itoa(s.OutputTokens),
				pMaxSeconds: strconv.Itoa(c.MaxSeconds), pMaxRequests: strconv.Itoa(c.MaxRequests), pMaxNumSeqs: maxNumSeqs, pTokenizer: c.Tokenizer,
			}
			name := fmt.Sprintf("%s-b%d", s.Slug(), b)
			args := benchArgs(c, func(name string) string { return values[name] }, points+"/"+name)
			args = append(args, "--server=@"+resultsDir+"/"+layout.Outputs+"/"+pServer, fmt.Sprintf("--attempts=%d", c.Retries+1), "--go-on")
			point := jobContainer(c, pointTemplate+"-"+name, loadResources(c), args...)
			if c.Driver == sweep.Guidellm {
				guidellmContainer(c, &point)
			}
			init = append(init, point)
		}
	}
	estimate := []string{"aggregate", points, "--output=" + out, "--method=" + c.Method, "--shapes=" + strings.Join(shapes, ","), "--expect=" + a.Name}
	if bucket != "" {
		estimate = append(estimate, "--latest="+bucket)
	} else {
		estimate = append(estimate, "--configmap="+jobName(c, a))
	}

	security := podSecurity(stepUser)
	if c.Driver == sweep.Guidellm {
		security = podSecurity(guidellmUser)
	}
	m := meta(c, jobName(c, a))
	volumes := []corev1.Volume{emptyDir("tmp"), emptyDir("results")}
	if c.Driver == sweep.Guidellm {
		volumes = append(volumes, emptyDir("tools"))
	}
	perPoint := int64(pointDeadline(c.MaxSeconds)) * int64(1+c.Retries)
	value := batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: m,
		Spec: batchv1.JobSpec{
			BackoffLimit:          ptr(int32(1)),
			ActiveDeadlineSeconds: ptr(int64(waitDeadline(c)) + int64(len(c.Shapes)*len(sizes))*perPoint + 3600),
			PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
				{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}},
				{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
					Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{exit.Usage, exit.Refused, exit.Unusable}}},
			}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: m.Labels, Annotations: notToBeEvicted},
				Spec: corev1.PodSpec{
					RestartPolicy:      corev1.RestartPolicyNever,
					ServiceAccountName: accountName(c),
					EnableServiceLinks: ptr(false),
					SecurityContext:    security,
					Volumes:            volumes,
					InitContainers:     init,
					Containers:         []corev1.Container{jobContainer(c, aggregateTemplate, medium, estimate...)},
				},
			},
		},
	}
	key := layout.Summary // of several shapes each has a key of its own; this one holds all
	if len(c.Shapes) == 1 {
		key = layout.OneParameters
	}
	results := fmt.Sprintf("kubectl get configmap -n %s %s -o jsonpath='{.data.%s}'", c.Namespace, jobName(c, a), strings.ReplaceAll(key, ".", `\.`))
	if c.S3Bucket != "" {
		results = out
	}
	return Object{
		File:  "job-" + sweep.Slug(a.Name) + ".yaml",
		Value: value,
		Comments: []manifest.Comment{
			{Path: "apiVersion", Text: fmt.Sprintf("Follow it: kubectl logs -n %s job/%s --all-containers --follow\nThe results: %s", c.Namespace, jobName(c, a), results)},
			{Path: "spec.podFailurePolicy", Text: "What another attempt cannot mend (usage, refused, unusable) ends the Job at once; an eviction does not count."},
			{Path: "spec.template.spec.initContainers", Text: "Containers run one after another: no point is disturbed by another."},
		},
	}
}

func jobContainer(c config.Config, name string, r corev1.ResourceRequirements, args ...string) corev1.Container {
	env := append(apiKeyEnv(c), corev1.EnvVar{Name: "JOB_UID", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
		FieldPath: "metadata.labels['batch.kubernetes.io/controller-uid']"}}})
	return corev1.Container{
		Name:            name,
		Image:           c.StepImage,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{stepPath},
		Args:            args,
		Env:             append(env, bucketEnv(c)...),
		Resources:       r,
		VolumeMounts:    []corev1.VolumeMount{{Name: "tmp", MountPath: tmpDir}, {Name: "results", MountPath: resultsDir}},
		SecurityContext: containerSecurity(),
	}
}

// bucketEnv is how step reaches the bucket: as the tools of AWS do.
func bucketEnv(c config.Config) []corev1.EnvVar {
	if c.S3Bucket == "" {
		return nil
	}
	var env []corev1.EnvVar
	if c.S3Secret != "" {
		env = append(env, secretEnv("AWS_ACCESS_KEY_ID", c.S3Secret, accessKey, false), secretEnv("AWS_SECRET_ACCESS_KEY", c.S3Secret, secretAccessKey, false))
	}
	if c.S3Region != "" {
		env = append(env, corev1.EnvVar{Name: "AWS_REGION", Value: c.S3Region})
	}
	if e := c.S3Endpoint; e != "" && !strings.HasSuffix(e, "amazonaws.com") {
		if !strings.Contains(e, "://") {
			e = "https://" + e
		}
		env = append(env, corev1.EnvVar{Name: "AWS_ENDPOINT_URL", Value: e})
	}
	return env
}
