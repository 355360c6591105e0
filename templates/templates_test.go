package templates

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/cluster/argolimits"
	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/config/configtest"
	"wfgen.dev/internal/sweep/plan"
)

func base(names ...string) config.Config {
	c := config.Default()
	for _, name := range names {
		c.Accelerators = append(c.Accelerators, config.Accelerator{Name: name})
	}
	return c.InCluster()
}

func fleet(n int) config.Config {
	c := base()
	c.BatchSizes = nil
	for i := range n {
		c.Accelerators = append(c.Accelerators, config.Accelerator{
			Name: fmt.Sprintf("Accelerator-%d", i), Resource: "example.com/gpu", NodeSelector: map[string]string{"example.com/product": fmt.Sprint(i)},
		})
	}
	for i := range 20 {
		c.BatchSizes = append(c.BatchSizes, 1+i*16)
	}
	return c
}

// specs are the workflow specifications among the objects, the shared load generator's
// first where there is one.
func specs(objects []manifest.Object) []wfv1.WorkflowSpec {
	var found []wfv1.WorkflowSpec
	for _, o := range objects {
		switch v := o.Value.(type) {
		case wfv1.ClusterWorkflowTemplate:
			found = append(found, v.Spec)
		case wfv1.WorkflowTemplate:
			found = append(found, v.Spec)
		}
	}
	return found
}

func template(t testing.TB, c config.Config, name string) wfv1.Template {
	t.Helper()
	for _, spec := range specs(Objects(c)) {
		for _, tmpl := range spec.Templates {
			if tmpl.Name == name {
				return tmpl
			}
		}
	}
	t.Fatalf("no template %s", name)
	return wfv1.Template{}
}

// Argo stores results where step, the local run and every later reader look for them.
func TestKeysAreThoseOfTheLayout(t *testing.T) {
	c := base("A100-SXM4.80GB")
	const (
		runName     = "run-1"
		accelerator = "A100-SXM4.80GB"
	)
	shape := sweep.Shape{PromptTokens: 128, OutputTokens: 64}
	filled := strings.NewReplacer(
		"{{workflow.name}}", runName, input(pAccelerator), accelerator,
		input(pPromptTokens), "128", input(pOutputTokens), "64", input(pBatchSize), "8", input(pAgain), "", reportsOfAgain, "",
	)
	fill := func(s string) string {
		results := ""
		for _, p := range template(t, c, acceleratorTemplate).DAG.Tasks[1].Arguments.Parameters {
			if p.Name == pResults {
				results = p.Value.String()
			}
		}
		return filled.Replace(strings.ReplaceAll(s, input(pResults), results))
	}
	inLatest := layout.LatestOf("m", accelerator, shape)
	for _, test := range []struct{ template, artifact, want string }{
		{pointTemplate, "measurement", layout.MeasurementOf(runName, sweep.Point{Accelerator: accelerator, Shape: shape, BatchSize: 8})},
		{pointTemplate, "reports", layout.ReportsOf(runName, accelerator, shape)},
		{aggregateTemplate, "parameters", layout.Accelerator(runName, accelerator) + "/" + layout.Parameters},
		{aggregateTemplate, "summary", layout.Run(runName) + "/" + layout.Summaries + "/" + accelerator + ".json"},
		{aggregateTemplate, "latest", inLatest[:strings.Index(inLatest, "/")]},
		{summaryTemplate, "summary", layout.Run(runName) + "/" + layout.Summary},
	} {
		for _, prefix := range []string{"", "team-a/x"} {
			c.S3Prefix = prefix
			want := test.want
			if prefix != "" {
				want = prefix + "/" + want
			}
			tmpl := template(t, c, test.template)
			a := tmpl.Outputs.GetArtifactByName(test.artifact)
			if a == nil || fill(a.S3.Key) != want {
				t.Errorf("%s of %s: %+v, want %s", test.artifact, test.template, a, want)
			}
		}
		c.S3Prefix = ""
	}
	// What is read is what was written.
	if got, want := fill(template(t, c, aggregateTemplate).Inputs.Artifacts[0].S3.Key), layout.Accelerator(runName, accelerator)+"/"+layout.Measurements+"/"; got != want {
		t.Errorf("measurements are read from %s, want %s", got, want)
	}
	if got, want := fill(template(t, c, summaryTemplate).Inputs.Artifacts[0].S3.Key), layout.Run(runName)+"/"+layout.Summaries+"/"; got != want {
		t.Errorf("summaries are read from %s, want %s", got, want)
	}
}

// A wait in vain leaves its reason where the estimate would have been, and every pod of
// step leaves it in its status.
func TestWhatFailsSaysWhy(t *testing.T) {
	for _, spec := range specs(Objects(base("A100"))) {
		summaries := map[string]string{}
		for _, tmpl := range spec.Templates {
			if tmpl.Container == nil {
				continue
			}
			if !slices.Contains(tmpl.Container.Env, corev1.EnvVar{Name: "STEP_TERMINATION_LOG", Value: "/dev/termination-log"}) {
				t.Errorf("%s: its error is in its log alone", tmpl.Name)
			}
			if a := tmpl.Outputs.GetArtifactByName("summary"); a != nil {
				summaries[tmpl.Name] = a.S3.Key
			}
		}
		if w := summaries[waitTemplate]; w == "" || w != summaries[aggregateTemplate] {
			t.Errorf("summaries %v: that of wait and that of aggregate are one", summaries)
		}
	}
}

func TestFirstShapeFollowsTheParameters(t *testing.T) {
	c := base("A100")
	c.Shapes = append(c.Shapes, config.Shape{Shape: sweep.Shape{PromptTokens: 4096, OutputTokens: 64}})
	submit := strings.NewReplacer(global(pPromptTokens), "256", global(pOutputTokens), "32")
	var items []string // which the nodes are named by
	if err := json.Unmarshal([]byte(submit.Replace(shapeItems(plan.Of(c)))), &items); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"256/32", "4096/64"}, items); diff != "" {
		t.Error(diff)
	}
	if got := submit.Replace(shapeList(plan.Of(c))); got != "256/32,4096/64" {
		t.Errorf("got %s", got)
	}
}

func TestTargets(t *testing.T) {
	c := base("A100", "H100")
	c.Accelerators[1].TargetURL = "http://h:1"
	task := template(t, c, sweepTemplate).DAG.Tasks
	if got := task[0].Arguments.GetParameterByName(pTargetURL).Value.String(); got != "{{workflow.parameters.target-url}}" {
		t.Errorf("A100: %s", got)
	}
	if got := task[1].Arguments.GetParameterByName(pTargetURL).Value.String(); got != "{{workflow.parameters.target-url-h100}}" {
		t.Errorf("H100: %s", got)
	}
	spec := specs(Objects(c))[0]
	if got := spec.Arguments.GetParameterByName("target-url-h100"); got == nil || got.Value.String() != "http://h:1" {
		t.Errorf("parameter: %+v", got)
	}

	many := fleet(60)
	for i := range many.Accelerators {
		many.Accelerators[i].TargetURL = fmt.Sprintf("http://s%d:1", i)
	}
	if got := template(t, many, sweepTemplate).DAG.Tasks[59].Arguments.GetParameterByName(pTargetURL).Value.String(); got != "http://s59:1" {
		t.Errorf("of many: %s", got)
	}
	if spec := specs(Objects(many))[0]; len(spec.Arguments.Parameters) > 15 {
		t.Errorf("%d parameters", len(spec.Arguments.Parameters))
	}
}

func TestLimitOfTheServer(t *testing.T) {
	c := base("A100", "H100", "L4")
	c.MaxNumSeqs, c.Accelerators[1].MaxNumSeqs = 64, 128
	for i, want := range []string{"64", "128", "64"} {
		if got := template(t, c, sweepTemplate).DAG.Tasks[i].Arguments.GetParameterByName(pMaxNumSeqs).Value.String(); got != want {
			t.Errorf("%s: %s, want %s", c.Accelerators[i].Name, got, want)
		}
	}
}

func TestEveryAcceleratorRunsOnce(t *testing.T) {
	for _, n := range []int{1, 2, 199, 200, 201, 1000} {
		c := fleet(n)
		seen := map[string]bool{}
		summaryAfter := ""
		for _, spec := range specs(Objects(c)) {
			for _, tmpl := range spec.Templates {
				if tmpl.DAG == nil {
					continue
				}
				for _, task := range tmpl.DAG.Tasks {
					if task.Template == acceleratorTemplate {
						if seen[task.Name] {
							t.Errorf("%d: %s twice", n, task.Name)
						}
						seen[task.Name] = true
					}
					if task.Template == summaryTemplate {
						summaryAfter = task.Depends
					}
				}
			}
		}
		if len(seen) != n {
			t.Errorf("%d accelerators: %d tasks", n, len(seen))
		}
		root := template(t, c, sweepTemplate)
		for _, task := range root.DAG.Tasks {
			if slices.Contains(config.TakenNames, task.Name) {
				continue // an accelerator cannot have it
			}
			if !strings.Contains(summaryAfter, finished(task.Name)) {
				t.Errorf("%d: the summary does not wait for %s", n, task.Name)
			}
			if task.Depends != startTemplate {
				t.Errorf("%d: %s depends on %q: its pods would not be looked after", n, task.Name, task.Depends)
			}
		}
	}
}

func TestParallelAccelerators(t *testing.T) {
	for _, test := range []struct {
		n, parallel int
		fleets      int
	}{{3, 0, 0}, {3, 2, 1}, {300, 0, 2}, {300, 7, 2}} {
		c := fleet(test.n)
		c.ParallelAccelerators = test.parallel
		root := template(t, c, sweepTemplate)
		if root.Parallelism != nil {
			t.Errorf("%+v: the guard would take the place of an accelerator", test)
		}
		fleets := 0
		for _, task := range root.DAG.Tasks {
			if !strings.HasPrefix(task.Name, fleetTemplate) {
				continue
			}
			fleets++
			if got := template(t, c, task.Template).Parallelism; test.parallel > 0 && (got == nil || *got != int64(test.parallel)) || test.parallel == 0 && got != nil {
				t.Errorf("%+v: %s runs %v at once", test, task.Name, got)
			}
			if test.parallel > 0 && fleets > 1 && task.Depends != finished(fmt.Sprintf("%s-%d", fleetTemplate, fleets-1)) {
				t.Errorf("%+v: %s depends on %q", test, task.Name, task.Depends)
			}
		}
		if fleets != test.fleets {
			t.Errorf("%+v: %d fleets", test, fleets)
		}
	}
}

// A pod that is tried again is not seen by Argo's timeout, and one that another DAG's
// limit holds back looks after nobody.
func TestPodsAreLookedAfter(t *testing.T) {
	c := base("A100")
	first, daemon := template(t, c, startTemplate), template(t, c, guardTemplate)
	if first.RetryStrategy != nil || first.Timeout != "10m0s" {
		t.Errorf("start: retries %v, timeout %q", first.RetryStrategy, first.Timeout)
	}
	if daemon.Daemon == nil || daemon.Timeout != "" || daemon.RetryStrategy != nil {
		t.Errorf("guard: daemon %v, timeout %q, which would end it while it works", daemon.Daemon, daemon.Timeout)
	}
	for _, tmpl := range []wfv1.Template{first, daemon} {
		if len(tmpl.Outputs.Artifacts)+len(tmpl.Inputs.Artifacts) > 0 {
			t.Errorf("%s: without the object store's secret it could not begin", tmpl.Name)
		}
	}
	c.PendingTimeout = "0"
	for _, task := range template(t, c, sweepTemplate).DAG.Tasks {
		if task.Template == startTemplate || task.Template == guardTemplate || strings.Contains(task.Depends, guardTemplate) {
			t.Errorf("turned off, and yet: %+v", task)
		}
	}
}

// Nobody but Argo's own containers and the steps that ask the API server has the
// ServiceAccount's identity.
func TestWhoAsksTheAPIServer(t *testing.T) {
	asks := map[string]bool{startTemplate: true, guardTemplate: true, awaitTemplate: true}
	c := deployed("A100", "H100")
	for _, spec := range specs(Objects(c)) {
		if !strings.Contains(spec.PodSpecPatch, "automountServiceAccountToken: false") || spec.AutomountServiceAccountToken != nil {
			t.Errorf("the patch of all pods:\n%s", spec.PodSpecPatch)
		}
		for _, tmpl := range spec.Templates {
			if has := strings.Contains(tmpl.PodSpecPatch, "serviceaccount"); has != asks[tmpl.Name] {
				t.Errorf("%s: identity %v, want %v", tmpl.Name, has, asks[tmpl.Name])
			}
		}
	}
}

func TestDeadlineOfAWait(t *testing.T) {
	if got := template(t, base("A100"), waitTemplate).ActiveDeadlineSeconds.IntValue(); got != 40*60+600 {
		t.Errorf("wait: %d", got)
	}
}

// Whatever valid configuration comes, the objects have valid names, keep to Argo's
// limits, are written the same way twice and read back as what they are.
func TestAnyConfiguration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := configtest.Draw(12).Draw(t, "configuration")
		check(t, c)
	})
}

func TestLargeFleets(t *testing.T) {
	for _, n := range []int{199, 200, 1000} {
		c := fleet(n)
		check(t, c)
		c.LoadGenerator = config.Cluster
		check(t, c)
		c.Deploy = true
		check(t, c)
	}
}

type fataler interface {
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func check(t fataler, c config.Config) {
	objects, again := Objects(c), Objects(c)
	files := map[string]bool{}
	for i, o := range objects {
		data, err := manifest.YAML(o.Value, o.Comments...)
		if err != nil {
			t.Fatalf("%s: %v", o.File, err)
		}
		second, err := manifest.YAML(again[i].Value, again[i].Comments...)
		if err != nil || string(second) != string(data) {
			t.Errorf("%s: not the same twice: %v", o.File, err)
		}
		if files[o.File] {
			t.Errorf("two objects in %s", o.File)
		}
		files[o.File] = true
		checkName(t, o)
		checkReadsBack(t, o, data)
	}
	for _, spec := range specs(objects) {
		checkLimits(t, spec)
		for _, tmpl := range spec.Templates {
			checkRestricted(t, spec, tmpl)
		}
	}
	checkReferences(t, objects)
}

func checkName(t fataler, o manifest.Object) {
	m, ok := o.Value.(metav1.ObjectMetaAccessor)
	if !ok { // the values are not pointers, whose methods these are
		v := reflect.New(reflect.TypeOf(o.Value))
		v.Elem().Set(reflect.ValueOf(o.Value))
		m = v.Interface().(metav1.ObjectMetaAccessor)
	}
	meta := m.GetObjectMeta()
	if why := validation.IsDNS1123Subdomain(meta.GetName()); len(why) > 0 {
		t.Errorf("%s: name %q: %v", o.File, meta.GetName(), why)
	}
	for key, value := range meta.GetLabels() {
		if why := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(why) > 0 {
			t.Errorf("%s: label %s=%s: %v", o.File, key, value, why)
		}
	}
}

func checkReadsBack(t fataler, o manifest.Object, data []byte) {
	v := reflect.New(reflect.TypeOf(o.Value))
	if err := yaml.UnmarshalStrict(data, v.Interface()); err != nil {
		t.Errorf("%s: %v", o.File, err)
		return
	}
	want, err1 := json.Marshal(o.Value)
	got, err2 := json.Marshal(v.Elem().Interface())
	if err1 != nil || err2 != nil || string(want) != string(got) {
		t.Errorf("%s reads back differently: %s", o.File, cmp.Diff(string(want), string(got)))
	}
}

// checkLimits are those of Argo 4, which its API server enforces, and that names are
// given once, pods have deadlines and only they have locks.
func checkLimits(t fataler, spec wfv1.WorkflowSpec) {
	if err := argolimits.Check(spec); err != nil {
		t.Errorf("%v", err)
	}
	seen := map[string]bool{}
	once := func(what, name string) {
		if seen[what+name] {
			t.Errorf("%s %s twice", what, name)
		}
		seen[what+name] = true
	}
	for _, p := range spec.Arguments.Parameters {
		once("parameter ", p.Name)
	}
	for _, tmpl := range spec.Templates {
		once("template ", tmpl.Name)
		if tmpl.Steps != nil {
			continue
		}
		if tmpl.DAG == nil {
			if tmpl.ActiveDeadlineSeconds == nil {
				t.Errorf("%s: no deadline", tmpl.Name)
			}
			continue
		}
		if tmpl.Synchronization != nil {
			t.Errorf("%s: a lock on what is no pod", tmpl.Name)
		}
		for _, task := range tmpl.DAG.Tasks {
			once("task "+tmpl.Name+"/", task.Name)
		}
	}
}

// checkRestricted holds a pod to the Pod Security standard "restricted", and to what
// the sweep adds to it.
func checkRestricted(t fataler, spec wfv1.WorkflowSpec, tmpl wfv1.Template) {
	if tmpl.Container == nil {
		return
	}
	pod := tmpl.SecurityContext
	if pod == nil {
		pod = spec.SecurityContext
	}
	if pod != nil && (pod.RunAsNonRoot == nil || !*pod.RunAsNonRoot || pod.RunAsUser == nil || *pod.RunAsUser == 0 ||
		pod.SeccompProfile == nil || pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault) {
		t.Errorf("%s: pod security %+v", tmpl.Name, pod)
	}
	containers := []corev1.Container{*tmpl.Container}
	for _, init := range tmpl.InitContainers {
		containers = append(containers, init.Container)
	}
	for _, c := range containers {
		s := c.SecurityContext
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
			s.Capabilities == nil || !reflect.DeepEqual(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
			t.Errorf("%s: container security %+v", tmpl.Name, s)
		}
		if len(c.Command) == 0 || c.Image == "" || c.ImagePullPolicy != corev1.PullIfNotPresent {
			t.Errorf("%s: image %q, command %v, pull %s", tmpl.Name, c.Image, c.Command, c.ImagePullPolicy)
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || !c.Resources.Limits.Cpu().IsZero() {
			t.Errorf("%s: resources %+v", tmpl.Name, c.Resources)
		}
		for _, m := range c.VolumeMounts {
			found := false
			for _, v := range tmpl.Volumes {
				found = found || v.Name == m.Name && (v.EmptyDir != nil || v.PersistentVolumeClaim != nil)
			}
			if !found {
				t.Errorf("%s: no volume %s", tmpl.Name, m.Name)
			}
		}
		for _, arg := range append(slices.Clone(c.Command), c.Args...) {
			if strings.Contains(arg, "{{") {
				t.Errorf("%s: the kubelet expands references to secrets in %q, which somebody gives at submit", tmpl.Name, arg)
			}
		}
		secret := ""
		for _, e := range c.Env {
			if e.ValueFrom != nil {
				secret = e.Name
			}
			if strings.Contains(e.Value, "{{") && secret != "" {
				t.Errorf("%s: %s=%s stands after %s, to which it can refer", tmpl.Name, e.Name, e.Value, secret)
			}
			if strings.HasSuffix(e.Name, "_TOKEN") || strings.HasSuffix(e.Name, "_KEY") {
				if e.Value != "" || e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil {
					t.Errorf("%s: %s does not come from a Secret", tmpl.Name, e.Name)
				}
			}
		}
	}
}

var reference = regexp.MustCompile(`\{\{(inputs|workflow)\.parameters\.([^}]+)\}\}`)

// checkReferences looks for parameters that nobody declares or gives.
func checkReferences(t fataler, objects []manifest.Object) {
	all := map[string]wfv1.Template{}
	var arguments wfv1.Arguments
	for _, spec := range specs(objects) {
		for _, tmpl := range spec.Templates {
			all[tmpl.Name] = tmpl
		}
		if spec.Entrypoint != "" {
			arguments = spec.Arguments
		}
	}
	for _, tmpl := range all {
		text, err := json.Marshal(tmpl)
		if err != nil {
			t.Fatalf("%v", err)
		}
		for _, m := range reference.FindAllStringSubmatch(string(text), -1) {
			if m[1] == "inputs" && tmpl.Inputs.GetParameterByName(m[2]) == nil || m[1] == "workflow" && arguments.GetParameterByName(m[2]) == nil {
				t.Errorf("%s: %s is not declared", tmpl.Name, m[0])
			}
		}
		for _, in := range tmpl.Inputs.Parameters {
			if !strings.Contains(string(text), "inputs.parameters."+in.Name) && !strings.Contains(string(text), `inputs.parameters[\"`+in.Name) {
				t.Errorf("%s: input %s is not used", tmpl.Name, in.Name)
			}
		}
		if tmpl.DAG == nil {
			continue
		}
		for _, task := range tmpl.DAG.Tasks {
			called := task.Template
			if task.TemplateRef != nil {
				called = task.TemplateRef.Template
			}
			callee := all[called]
			for _, in := range callee.Inputs.Parameters {
				if in.Default == nil && task.Arguments.GetParameterByName(in.Name) == nil {
					t.Errorf("%s: task %s does not give %s", tmpl.Name, task.Name, in.Name)
				}
			}
			for _, a := range task.Arguments.Parameters {
				if callee.Inputs.GetParameterByName(a.Name) == nil {
					t.Errorf("%s: task %s gives %s, which %s does not take", tmpl.Name, task.Name, a.Name, called)
				}
			}
		}
	}
	for _, p := range arguments.Parameters {
		used := false
		for _, tmpl := range all {
			text, err := json.Marshal(tmpl)
			if err != nil {
				t.Fatalf("%v", err)
			}
			used = used || strings.Contains(string(text), "{{workflow.parameters."+p.Name+"}}") || strings.Contains(string(text), `workflow.parameters[\"`+p.Name+`\"]`)
		}
		if !used {
			t.Errorf("parameter %s of the workflow is not used", p.Name)
		}
	}
}

// The examples of Secrets hold placeholders, and nothing that is applied is a Secret.
func TestSecretsHoldPlaceholders(t *testing.T) {
	c := base("A100")
	c.S3Bucket, c.S3Secret, c.APIKeySecretName = "bucket", "s3", "key"
	n := 0
	for _, o := range Objects(c) {
		s, ok := o.Value.(corev1.Secret)
		if ok != o.Example {
			t.Errorf("%s: example %v", o.File, o.Example)
		}
		if !ok {
			continue
		}
		n++
		for key, value := range s.StringData {
			if !strings.HasPrefix(value, "<") || !strings.HasSuffix(value, ">") {
				t.Errorf("%s: %s: %q", o.File, key, value)
			}
		}
		if len(s.Data) > 0 {
			t.Errorf("%s: data", o.File)
		}
	}
	if n != 3 {
		t.Errorf("%d examples of Secrets, want 3", n)
	}
}

// A thousand accelerators with twenty batch sizes each.
func BenchmarkFleet(b *testing.B) {
	c := fleet(1000)
	bytes := 0
	for b.Loop() {
		bytes = 0
		for _, o := range Objects(c) {
			data, err := manifest.YAML(o.Value, o.Comments...)
			if err != nil {
				b.Fatal(err)
			}
			bytes += len(data)
		}
	}
	b.ReportMetric(float64(bytes), "YAML-bytes")
}
