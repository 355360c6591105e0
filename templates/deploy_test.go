package templates

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

func deployed(names ...string) config.Config {
	c := base(names...)
	c.Deploy = true
	return c
}

// Every accelerator without a server gets one, on nodes of its own.
func TestDeploy(t *testing.T) {
	c := deployed("A100", "H100", "MI300X", "L4")
	c.Accelerators[3].TargetURL = "http://l4:8000"
	want := map[string][2]string{ // task -> template, node
		"a100": {"deploy-a100", "NVIDIA-A100-SXM4-80GB"}, "h100": {"deploy-a100", "NVIDIA-H100-80GB-HBM3"},
		"mi300x": {"deploy-mi300x", "AMD_Instinct_MI300X_OAM"}, "l4": {acceleratorTemplate, ""},
	}
	for _, task := range template(t, c, sweepTemplate).DAG.Tasks[:4] {
		node := ""
		if p := task.Arguments.GetParameterByName(pNode); p != nil {
			node = p.Value.String()
		}
		if got := [2]string{task.Template, node}; got != want[task.Name] {
			t.Errorf("%s: %v, want %v", task.Name, got, want[task.Name])
		}
	}
	for slug, resource := range map[string]corev1.ResourceName{"a100": "nvidia.com/gpu", "mi300x": "amd.com/gpu"} {
		server := template(t, c, "server-"+slug)
		limit := server.Container.Resources.Limits[resource]
		if server.Daemon == nil || !*server.Daemon || limit.Value() != 1 || len(server.NodeSelector) != 1 ||
			len(server.Tolerations) != 1 || server.Tolerations[0].Key != string(resource) {
			t.Errorf("%s: %+v", slug, server)
		}
	}
	if spec := specs(Objects(c))[0]; spec.Arguments.GetParameterByName(pTargetURL) != nil {
		t.Error("a common target-url, which nobody reads")
	}

	// The task that waits runs beside the server, which may never come up.
	for _, task := range template(t, c, "deploy-a100").DAG.Tasks {
		if want := map[string]string{acceleratorTemplate: awaitTemplate}[task.Name]; task.Depends != want {
			t.Errorf("%s depends on %q, want %q", task.Name, task.Depends, want)
		}
	}
}

// Nothing of what deploying needs is asked for where nothing is deployed.
func TestRightsToDeploy(t *testing.T) {
	rules := func(c config.Config) (n int, service bool) {
		for _, o := range Objects(c) {
			switch v := o.Value.(type) {
			case rbacv1.Role:
				for _, r := range v.Rules {
					if slices.Contains(r.Verbs, "*") || slices.Contains(r.Resources, "*") || slices.Contains(r.Verbs, "delete") {
						t.Errorf("too much: %+v", r)
					}
				}
				n = len(v.Rules)
			case corev1.Service:
				service = true
			}
		}
		return n, service
	}
	if n, service := rules(base("A100")); n != 4 || service {
		t.Errorf("without: %d rules, service %v", n, service)
	}
	bare := base("A100")
	bare.PendingTimeout = "0"
	if n, service := rules(bare); n != 1 || service {
		t.Errorf("without, and without a guard: %d rules, service %v", n, service)
	}
	heard := base("A100")
	heard.NotifySecretName = "notifications" // whose guard asks whether the workflow was terminated
	if n, service := rules(heard); n != 5 || service {
		t.Errorf("with notifications: %d rules, service %v", n, service)
	}
	heard.PendingTimeout = "0"
	if n, _ := rules(heard); n != 1 {
		t.Errorf("with notifications, and without a guard: %d rules", n)
	}
	if n, service := rules(deployed("A100")); n < 2 || !service {
		t.Errorf("with: %d rules, service %v", n, service)
	}
}

func TestServerArguments(t *testing.T) {
	c := deployed("A100")
	c.Accelerators[0].Count = 4
	c.Shapes = append(c.Shapes, config.Shape{Shape: sweep.Shape{PromptTokens: 4000, OutputTokens: 100}})
	c.Server.Args, c.Server.ModelPath = []string{"--dtype=half"}, "/cache/model"
	container := template(t, c, "server-a100").Container
	args := container.Args
	if want := (corev1.EnvVar{Name: "WFGEN_MAX_NUM_SEQS", Value: largestBatch}); !slices.Contains(container.Env, want) {
		t.Errorf("no %v in %v", want, container.Env)
	}
	for _, want := range []string{"--served-model-name=$(WFGEN_MODEL)", "--tensor-parallel-size=4", "--no-enable-prefix-caching", "--max-num-seqs=$(WFGEN_MAX_NUM_SEQS)"} {
		if !slices.Contains(args, want) {
			t.Errorf("no %s in %q", want, args)
		}
	}
	if args[0] != "/cache/model" || args[len(args)-1] != "--dtype=half" {
		t.Errorf("got %q", args)
	}
	// hack/argolint evaluates the expressions as Argo does.
	p := plan.Of(c)
	if got := longestRequest(p, p.Accelerators[0]); !strings.HasSuffix(got, ", 4248)}}") {
		t.Errorf("longest request: %s", got)
	}
	if z := pods.PlainSizes(p, p.Accelerators[0]); z.MaxModelLen != "4248" || z.MaxNumSeqs != "64" {
		t.Errorf("plain: %+v", z)
	}

	// One chunk, which the server is told, and a prompt of which it takes.
	c.PrefillChunk = 8192
	args = template(t, c, "server-a100").Container.Args
	if args[len(args)-2] != "--max-num-batched-tokens=$(WFGEN_PREFILL_CHUNK)" {
		t.Errorf("got %q", args)
	}
	if got := longestRequest(plan.Of(c), plan.Of(c).Accelerators[0]); !strings.HasSuffix(got, `, 4248, asInt(workflow.parameters["prefill-chunk"]) + 128)}}`) {
		t.Errorf("longest request: %s", got)
	}
	p = plan.Of(c)
	if z := pods.PlainSizes(p, p.Accelerators[0]); z.MaxModelLen != "8320" || z.ChunkTokens != "8192" {
		t.Errorf("plain: %+v", z)
	}
	c.PrefillChunk = 0

	c.MaxNumSeqs = 256
	args = template(t, c, "server-a100").Container.Args
	if !slices.Contains(args, "--max-num-seqs=256") {
		t.Errorf("max-num-seqs of the configuration: %q", args)
	}
	if got := template(t, c, "deploy-a100").DAG.Tasks[2].Arguments.GetParameterByName(pMaxNumSeqs).Value.String(); got != "256" {
		t.Errorf("points are told %s", got)
	}
}

// Whatever a server writes lies on a volume: its root file system is read-only.
func TestServerVolumes(t *testing.T) {
	c := deployed("A100")
	pod := template(t, c, "server-a100")
	home := regexp.MustCompile(`^(/tmp|/cache)`)
	for _, e := range pod.Container.Env {
		if (e.Name == "HOME" || e.Name == "HF_HOME") && !home.MatchString(e.Value) {
			t.Errorf("%s=%s is not on a volume", e.Name, e.Value)
		}
	}
	if pod.Volumes[2].EmptyDir.Medium != corev1.StorageMediumMemory || pod.Volumes[1].EmptyDir.SizeLimit.String() != "200Gi" {
		t.Errorf("%+v", pod.Volumes)
	}
	c.Server.CachePVC = "models"
	if pod = template(t, c, "server-a100"); pod.Volumes[1].PersistentVolumeClaim == nil || *pod.SecurityContext.FSGroup != 1001 {
		t.Errorf("%+v", pod.Volumes)
	}
	// The startup probe outlasts the wait.
	if p := pod.Container.StartupProbe; p.PeriodSeconds*p.FailureThreshold < 40*60 {
		t.Errorf("%+v", p)
	}
}
