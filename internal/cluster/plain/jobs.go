package plain

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
	"wfgen.dev/internal/sweep/precision"
)

// Jobs are what measures every accelerator without Argo: a Job each, and where the
// configuration deploys them, the servers.
func Jobs(c config.Config) []manifest.Object {
	p := plan.Of(c)
	objects := pods.Namespace(p)
	objects = append(objects, pods.NetworkPolicies(p)...)
	objects = append(objects, servers(p)...)
	objects = append(objects, pods.Access(p, rules(p))...)
	for _, a := range p.Accelerators {
		objects = append(objects, job(p, a))
	}
	if p.PendingTimeout > 0 {
		objects = append(objects, start(p), guard(p))
	}
	return append(objects, pods.ExampleSecrets(p)...)
}

// rules let the last container keep the results in a ConfigMap, the first one see why a
// server does not come up, and the guard end pods.
func rules(p plan.Plan) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	if intoConfigMap(p) {
		var names []string
		for _, a := range p.Accelerators {
			names = append(names, jobName(p, a))
		}
		rules = append(rules,
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"create"}}, // of any name: Kubernetes cannot tell
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: names, Verbs: []string{"get", "patch"}})
	}
	return append(rules, pods.PodRules(p.Deploy, p.PendingTimeout > 0)...)
}

// intoConfigMap says whether each Job leaves its results in a ConfigMap of its own.
func intoConfigMap(p plan.Plan) bool { return p.S3Bucket == "" || p.Publish == config.ConfigMap }

// jobName is the name of an accelerator's Job, and of the ConfigMap of its results. A
// label holds no more characters than that.
func jobName(p plan.Plan, a plan.Accelerator) string {
	name := p.Name + "-" + a.Slug
	return strings.TrimRight(name[:min(len(name), 63)], "-")
}

const resultsDir = "/results"

// results are where a Job keeps what its containers leave.
type results struct {
	points    string // below it each point's
	estimates string
	publish   []steps.Setting // of the estimate: where else it goes
}

// resultsOf are in the pod and then a ConfigMap, or in the bucket, where each run of
// the Job has a prefix of its own.
func resultsOf(p plan.Plan, a plan.Accelerator) results {
	bucket := p.Bucket()
	if bucket == "" {
		return results{resultsDir + "/points", resultsDir, []steps.Setting{steps.Aggregate.ConfigMap.Set(jobName(p, a))}}
	}
	run := jobName(p, a) + "-" + pods.Reference(pods.RunID)
	publish := []steps.Setting{steps.Aggregate.Latest.Set(bucket)}
	if p.DriftBand != "" {
		publish = append(publish, steps.Aggregate.DriftBand.Set(p.DriftBand))
	}
	if p.Publish == config.ConfigMap {
		publish = append(publish, steps.Aggregate.ConfigMap.Set(jobName(p, a)))
	}
	if p.FailOnDrift {
		publish = append(publish, steps.Aggregate.FailOnDrift.Set(true))
	}
	return results{
		points:    bucket + "/" + layout.Accelerator(run, a.Name) + "/points",
		estimates: bucket + "/" + layout.Run(run),
		publish:   publish,
	}
}

// underTest is what the containers are told of the server that they measure.
type underTest struct {
	target string
	limit  int // max-num-seqs; 0: not known
}

func underTestOf(p plan.Plan, a plan.Accelerator) underTest {
	if a.Deployed {
		return underTest{a.ServiceURL(), p.ServerLimit(a)}
	}
	return underTest{a.TargetURL, a.MaxNumSeqs}
}

// job measures one accelerator in one pod, whose init containers run one after another:
// wait, each point, and with a chunk the prefill rate; then the estimate, and with
// objectives the check of a replica's capacity within them. What fails before the
// estimate says so and lets the next one run, as in the workflow.
func job(p plan.Plan, a plan.Accelerator) manifest.Object {
	to := resultsOf(p, a)
	m := pods.Meta(p, jobName(p, a))
	maps.Copy(m.Labels, pods.QueueLabels(p))
	volumes := []corev1.Volume{pods.TmpVolume(), pods.EmptyDir("results")}
	if a.Deployed || intoConfigMap(p) {
		volumes = append(volumes, pods.TokenVolume())
	}
	security := pods.Security(pods.StepUser)
	if p.Driver == sweep.Guidellm {
		volumes = append(volumes, pods.ToolsVolume())
		security = pods.Security(pods.GuidellmUser)
	}
	first, last := measure(p, a, to), estimate(p, a, to)
	if a.PrefillChunk > 0 {
		first = append(first, prefill(p, a, to))
	}
	if p.SLO != "" {
		first, last = append(first, last), check(p, a, to)
	}
	value := batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: m,
		Spec: batchv1.JobSpec{
			BackoffLimit:          new(int32(1)),
			ActiveDeadlineSeconds: new(p.AcceleratorDeadline(1)),
			PodFailurePolicy:      failurePolicy(),
			Template: podOf(p, pods.NotToBeEvicted, corev1.PodSpec{
				RestartPolicy:   corev1.RestartPolicyNever,
				SecurityContext: security,
				Volumes:         volumes,
				InitContainers:  first,
				Containers:      []corev1.Container{last},
			}),
		},
	}
	return manifest.Object{
		File:  "job-" + a.Slug + ".yaml",
		Value: value,
		Comments: []manifest.Comment{
			{Path: "apiVersion", Text: fmt.Sprintf("Follow it: kubectl logs -n %s job/%s --all-containers --follow\nThe results: %s", p.Namespace, m.Name, whereResultsAre(p, a, to))},
			{Path: "spec.podFailurePolicy", Text: "What another attempt cannot fix (usage, refused, unusable) ends the Job at once; an eviction does not count."},
			{Path: "spec.template.spec.initContainers", Text: "Containers run one after another: no point is disturbed by another."},
		},
	}
}

// podOf is the pod of a Job: the spec, with what all of them have.
func podOf(p plan.Plan, annotations map[string]string, spec corev1.PodSpec) corev1.PodTemplateSpec {
	labels, annotations := pods.Metadata(p, nil, annotations)
	spec.NodeSelector, spec.Tolerations = p.LoadGeneratorNodeSelector, p.LoadGeneratorTolerations
	spec.PriorityClassName, spec.ImagePullSecrets = p.PriorityClass, pods.PullSecrets(p)
	spec.ServiceAccountName = p.AccountName()
	spec.AutomountServiceAccountToken, spec.EnableServiceLinks = new(false), new(false)
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations}, Spec: spec}
}

// failurePolicy ends the Job at once where another attempt cannot help, and does not
// count an eviction.
func failurePolicy() *batchv1.PodFailurePolicy {
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}},
		{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{exit.Usage, exit.Refused, exit.Unusable}}},
	}}
}

func whereResultsAre(p plan.Plan, a plan.Accelerator, to results) string {
	if p.S3Bucket != "" {
		return to.estimates
	}
	key := layout.Summary // of several shapes each has a key of its own; this one holds all
	if len(p.Shapes) == 1 {
		key = layout.OneParameters
	}
	return fmt.Sprintf("kubectl get configmap -n %s %s -o jsonpath='{.data.%s}'", p.Namespace, jobName(p, a), strings.ReplaceAll(key, ".", `\.`))
}

// measure are the containers that wait for the server and run the points.
func measure(p plan.Plan, a plan.Accelerator, to results) []corev1.Container {
	at := underTestOf(p, a)
	list, err := json.Marshal(slices.Sorted(slices.Values(p.BatchSizes)))
	if err != nil {
		panic(err) // integers
	}
	sizes := string(list)
	var containers []corev1.Container
	if p.Driver == sweep.Guidellm {
		install := pods.InstallStep(p)
		install.VolumeMounts = pods.ToolsMounts()
		containers = append(containers, install)
	}

	wait := steps.Wait.With(
		steps.Wait.Target.Set(at.target), steps.Wait.Model.Set(p.Model), steps.Wait.Timeout.Is(p.Config.WaitTimeout),
		steps.Wait.BatchSizes.Set(sizes), steps.Wait.Shapes.Set(steps.List(p.Shapes)), steps.Wait.MaxNumSeqs.Set(at.limit), steps.Wait.Output.Set(resultsDir))
	if a.Deployed {
		wait = wait.And(steps.Wait.Pods.Set("app.kubernetes.io/name=" + a.ServerName))
	}
	first := container(p, steps.Wait.Name, pods.Small, wait, pods.APIKeyEnv(p))
	if a.Deployed {
		first.VolumeMounts = append(first.VolumeMounts, pods.TokenMount())
	}
	containers = append(containers, first)

	for i, point := range a.Points {
		name, place := "point-"+point.Name(), to.points+"/"+point.Name()
		of := steps.Bench.BatchSize.Set(strconv.Itoa(point.BatchSize))
		if p.SharesPod() {
			if i > 0 && a.Points[i-1].Shape == point.Shape {
				continue // is measured with the first of its shape
			}
			name, place, of = "points-"+point.Shape.Slug(), to.points, steps.Bench.Points.Set(precision.List(a.Points, point.Shape))
		}
		containers = append(containers, bench(p, a, point.Shape, name, place, of, sizes))
	}
	return containers
}

// bench is the container that measures a point of a shape, or several.
func bench(p plan.Plan, a plan.Accelerator, shape sweep.Shape, name, place string, of steps.Setting, sizes string) corev1.Container {
	at, b := underTestOf(p, a), steps.Bench
	call := b.With(
		b.Target.Set(at.target), b.Model.Set(p.Model), b.Accelerator.Set(a.Name), of, b.BatchSizes.Set(sizes),
		b.PromptTokens.Set(shape.PromptTokens), b.OutputTokens.Set(shape.OutputTokens),
		b.MaxSeconds.Set(float64(p.MaxSeconds)), b.MaxRequests.Set(p.MaxRequests), b.MaxNumSeqs.Set(at.limit), b.Driver.Set(p.Driver))
	if p.Driver == sweep.Guidellm {
		call = call.And(b.Tokenizer.Set(p.Tokenizer))
	}
	call = call.And(b.Output.Set(place), b.Server.Set("@"+resultsDir+"/"+layout.OutServer.Key()), b.Attempts.Set(p.Retries+1), b.GoOn.Set(true))
	c := container(p, name, pods.LoadResources(p), call, slices.Concat(pods.APIKeyEnv(p), pods.BucketEnv(p)))
	if p.Driver == sweep.Guidellm {
		pods.IntoGuidellm(p, &c)
	}
	return c
}

// estimate is the container that estimates from what the points have left.
func estimate(p plan.Plan, a plan.Accelerator, to results) corev1.Container {
	call := steps.Aggregate.With(
		steps.Aggregate.Output.Set(to.estimates), steps.Aggregate.Method.Set(p.Method), steps.Aggregate.Shapes.Set(steps.List(p.Shapes)),
		steps.Aggregate.Expect.Set(a.Name)).And(to.publish...).On(to.points)
	c := container(p, steps.Aggregate.Name, pods.Medium, call, pods.BucketEnv(p))
	if intoConfigMap(p) {
		c.VolumeMounts = append(c.VolumeMounts, pods.TokenMount())
	}
	return c
}

// check is the container that tells the capacity of a replica within the objectives, and
// holds it against requests that arrive at that rate.
func check(p plan.Plan, a plan.Accelerator, to results) corev1.Container {
	at, k := underTestOf(p, a), steps.Check
	call := k.With(
		k.Target.Set(at.target), k.Model.Set(p.Model), k.Accelerator.Set(a.Name), k.SLO.Set(p.SLO), k.Shapes.Set(steps.List(p.Shapes)),
		k.MaxNumSeqs.Set(at.limit), k.ChunkTokens.Set(a.PrefillChunk), k.MaxSeconds.Set(float64(p.CheckSeconds())), k.Price.Set(p.Prices()),
		k.Server.Set("@"+resultsDir+"/"+layout.OutServer.Key()), k.Output.Set(to.estimates+"/"+layout.AcceleratorInRun(a.Name)),
	).On(to.estimates + "/" + layout.Summary)
	return keptContainer(p, a, call, k.ConfigMap)
}

// prefill is the container that measures how fast the idle server computes prompts.
func prefill(p plan.Plan, a plan.Accelerator, to results) corev1.Container {
	k := steps.Prefill
	call := k.With(
		k.Target.Set(underTestOf(p, a).target), k.Model.Set(p.Model), k.Accelerator.Set(a.Name), k.ChunkTokens.Set(a.PrefillChunk),
		k.Server.Set("@"+resultsDir+"/"+layout.OutServer.Key()), k.Output.Set(to.estimates+"/"+layout.AcceleratorInRun(a.Name)), k.GoOn.Set(true))
	return keptContainer(p, a, call, k.ConfigMap)
}

// keptContainer asks the server for something, whose file goes into the Job's ConfigMap
// where there is no bucket.
func keptContainer(p plan.Plan, a plan.Accelerator, call steps.Call, configMap steps.Flag[string]) corev1.Container {
	if p.S3Bucket == "" {
		call = call.And(configMap.Set(jobName(p, a)))
	}
	c := container(p, call.Name, pods.LoadResources(p), call, slices.Concat(pods.APIKeyEnv(p), pods.BucketEnv(p)))
	if p.S3Bucket == "" {
		c.VolumeMounts = append(c.VolumeMounts, pods.TokenMount())
	}
	return c
}

// container runs a command with the secrets that it has a use for.
func container(p plan.Plan, name string, r corev1.ResourceRequirements, call steps.Call, secrets []corev1.EnvVar) corev1.Container {
	c := pods.Step(p, r, call)
	c.Name = name
	c.Env = append(c.Env, corev1.EnvVar{Name: pods.RunID, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
		FieldPath: "metadata.labels['batch.kubernetes.io/controller-uid']"}}})
	c.Env = append(c.Env, secrets...)
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "results", MountPath: resultsDir})
	return c
}

// start is a Job that shows whether a pod with the image of step can begin at all: without
// that nothing can, not even the guard, and Kubernetes ends no pod that waits. It ends the
// Job itself, whose deadline is that patience. The others are not made to wait for it: a Job
// that is resumed by another one is suspended again whenever it is applied again.
func start(p plan.Plan) manifest.Object {
	name := p.Name + "-start"
	value := looksAfter(p, name, steps.Guard.With(steps.Guard.Pods.Set(podsOfJobs(p)), steps.Guard.Once.Set(true)))
	value.Spec.ActiveDeadlineSeconds = new(int64(p.PendingTimeout.Seconds()))
	value.Spec.BackoffLimit = new(int32(0))
	value.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	value.Annotations = map[string]string{"wfgen.dev/if-it-fails": fmt.Sprintf("DeadlineExceeded: the image %s cannot be pulled, or no node has room for a pod of %s CPU and %s; "+
		"kubectl describe pod -n %s -l %s=%s tells which. Correct step-image, image-pull-secrets or the nodes, delete the Jobs, and apply them again.",
		p.StepImage, pods.Small.Requests.Cpu(), pods.Small.Requests.Memory(), p.Namespace, pods.PartOfLabel, p.Name)}
	return manifest.Object{
		File:  "job-start.yaml",
		Value: value,
		Comments: []manifest.Comment{{Path: "apiVersion",
			Text: fmt.Sprintf("Fails within pending-timeout when the image of step cannot be run, without which no Job begins: kubectl wait -n %s --for=condition=complete --timeout=%s job/%s",
				p.Namespace, p.PendingTimeout, name)}},
	}
}

// podsOfJobs are labels of the pods that are looked after. Servers have somebody who waits
// for them.
func podsOfJobs(p plan.Plan) string {
	return pods.PartOfLabel + "=" + p.Name + "," + pods.ComponentLabel + "!=" + pods.ServerComponent + "," + batchv1.JobNameLabel + "!=" + guardName(p)
}

func guardName(p plan.Plan) string { return p.Name + "-guard" }

// guard is a Job that ends the pods of the others when they do not begin to run. It ends
// with them.
func guard(p plan.Plan) manifest.Object {
	g := steps.Guard
	value := looksAfter(p, guardName(p), g.With(g.Pods.Set(podsOfJobs(p)), g.PendingTimeout.Set(p.PendingTimeout), g.UntilEnded.Set(true)))
	value.Spec.ActiveDeadlineSeconds = new(p.AcceleratorDeadline(1))
	return manifest.Object{
		File:  "job-guard.yaml",
		Value: value,
		Comments: []manifest.Comment{
			{Path: "apiVersion", Text: fmt.Sprintf("Ends a pod that does not begin to run within pending-timeout, and says why: kubectl logs -n %s job/%s", p.Namespace, guardName(p))},
		},
	}
}

// looksAfter is a Job whose pod asks the API server about the others'.
func looksAfter(p plan.Plan, name string, call steps.Call) batchv1.Job {
	m := pods.Meta(p, name)
	maps.Copy(m.Labels, pods.QueueLabels(p))
	c := pods.Step(p, pods.Small, call)
	c.Name = call.Name
	c.VolumeMounts = append(c.VolumeMounts, pods.TokenMount())
	return batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: m,
		Spec: batchv1.JobSpec{
			Template: podOf(p, nil, corev1.PodSpec{
				RestartPolicy:   corev1.RestartPolicyOnFailure,
				SecurityContext: pods.Security(pods.StepUser),
				Volumes:         []corev1.Volume{pods.TmpVolume(), pods.TokenVolume()},
				Containers:      []corev1.Container{c},
			}),
		},
	}
}
