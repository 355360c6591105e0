package wfgencli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/version"
)

// wfgen runs the program as a user does, without the variables of the environment
// that the tests run in.
func wfgen(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "WFGEN_") && !slices.Contains(kept, name) {
			t.Setenv(name, "")
			_ = os.Unsetenv(name)
		}
	}
	var out, errs bytes.Buffer
	code = Run(context.Background(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

var kept = []string{"WFGEN_CRON", "WFGEN_MODEL"} // set by tests

// workflowTemplate is the one in a YAML stream.
func workflowTemplate(t *testing.T, stream string) *wfv1.WorkflowTemplate {
	t.Helper()
	for document := range strings.SplitSeq(stream, "---\n") {
		if strings.Contains(document, "\nkind: WorkflowTemplate\n") {
			var w wfv1.WorkflowTemplate
			if err := yaml.UnmarshalStrict([]byte(document), &w); err != nil {
				t.Fatal(err)
			}
			return &w
		}
	}
	t.Fatalf("no WorkflowTemplate in:\n%s", stream)
	return nil
}

func parameter(t *testing.T, w *wfv1.WorkflowTemplate, name string) string {
	t.Helper()
	p := w.Spec.Arguments.GetParameterByName(name)
	if p == nil {
		t.Fatalf("no parameter %s", name)
	}
	return p.Value.String()
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Without a word about it the image of step is that of wfgen's own version, which no
// registry serves as long as nobody released it; then wfgen says how to get it.
func TestImageOfThisVersion(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sweep")
	for _, test := range []struct {
		args  string
		image string // in what is written
		says  bool
	}{
		{"--accelerators A100", version.Image(""), true},
		{"jobs --accelerators A100 --format dir --output " + dir, version.Image(""), true},
		{"--accelerators A100 --image-registry registry.example.com/team", "registry.example.com/team/step:" + version.Version(), false},
		{"--accelerators A100 --step-image other/step:v7", "other/step:v7", false},
		{"--accelerators A100 --step-image other/step:v7 --image-registry registry.example.com", "other/step:v7", false},
		{"servers --accelerators A100", "", false}, // without step
	} {
		code, stdout, stderr := wfgen(t, strings.Fields(test.args)...)
		if strings.Contains(test.args, dir) {
			data, err := os.ReadFile(filepath.Join(dir, "job-a100.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			stdout = string(data)
		}
		if code != 0 || !strings.Contains(stdout, "image: "+test.image) {
			t.Errorf("%s: exit %d, does not name %s: %s", test.args, code, test.image, stderr)
		}
		if says := strings.Contains(stderr, "no registry serves "+test.image); says != test.says {
			t.Errorf("%s: says %q", test.args, stderr)
		}
	}
}

// Simulated servers come with the sweep, need no GPU and no node of a kind, follow what
// is said beside them, and fit into a laptop with the load on them.
func TestSimulateInACluster(t *testing.T) {
	code, stdout, stderr := wfgen(t, "--simulate", "--accelerators", "H100,Quantum")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	w := workflowTemplate(t, stdout)
	var cpu resource.Quantity
	servers := 0
	for _, template := range w.Spec.Templates {
		if template.Container == nil || len(template.Container.Command) < 2 || template.Container.Command[1] != "simulate" {
			continue
		}
		servers++
		if template.NodeSelector != nil || template.Tolerations != nil || len(template.Container.Resources.Limits) > 0 {
			t.Errorf("%s asks for a node of a kind: %v, %v, %v", template.Name, template.NodeSelector, template.Tolerations, template.Container.Resources.Limits)
		}
		if template.Container.Image != version.Image("") {
			t.Errorf("image %s", template.Container.Image)
		}
		cpu.Add(*template.Container.Resources.Requests.Cpu())
	}
	for _, template := range w.Spec.Templates {
		if template.Name == "point" {
			cpu.Add(*template.Container.Resources.Requests.Cpu())
			cpu.Add(*template.Container.Resources.Requests.Cpu())
		}
	}
	if servers != 2 || cpu.MilliValue() > 1500 { // of the two cores of a small cluster
		t.Errorf("%d servers; they and their load ask for %s CPUs", servers, cpu.String())
	}
	for _, want := range []string{"--alpha=6.973", "--delta=0.001364", "--seed=2"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no server has %s", want)
		}
	}
	if !regexp.MustCompile(`H100 +6.973 +0.027 +14.82\d? +0.001364`).MatchString(stderr) {
		t.Errorf("does not say the truth: %s", stderr)
	}
	if got := parameter(t, w, "model"); got != "simulated" {
		t.Errorf("model %s", got)
	}

	file := write(t, "sweep.yaml", "apiVersion: wfgen.dev/v1\nkind: Sweep\naccelerators: [{name: A100, target-url: 'http://mine:1'}]\n")
	for args, want := range map[string]string{
		"--accelerators A100 --simulate --target-url http://x":     "simulate: the sweep starts its own servers",
		"--simulate --config " + file:                              "simulate: the sweep starts its own servers",
		"jobs --accelerators A100 --simulate --server-image x/y:z": "simulate: --server-image is for servers that are not simulated",
	} {
		if code, _, stderr := wfgen(t, strings.Fields(args)...); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d: %s", args, code, stderr)
		}
	}
}

func TestGenerate(t *testing.T) {
	code, stdout, stderr := wfgen(t, "--accelerators", "A100, H100", "--model", "org/m", "--batch-sizes", "8,1", "--max-seconds", "60",
		"--target-url", "http://s-{accelerator}:80", "--target-url", "H100=https://h:8443")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	w := workflowTemplate(t, stdout)
	for name, want := range map[string]string{
		"model": "org/m", "batch-sizes": "[1,8]", "max-seconds": "60", "prompt-tokens": "128",
		"target-url": "http://s-{accelerator}:80", "target-url-h100": "https://h:8443",
	} {
		if got := parameter(t, w, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if strings.Contains(stdout, "kind: Secret") {
		t.Error("the stream holds a Secret: applying it would overwrite the real one")
	}
	if _, again, _ := wfgen(t, "--accelerators", "A100, H100", "--model", "org/m", "--batch-sizes", "8,1", "--max-seconds", "60",
		"--target-url", "http://s-{accelerator}:80", "--target-url", "H100=https://h:8443"); again != stdout {
		t.Error("not the same twice")
	}
}

func TestShapes(t *testing.T) {
	file := write(t, "sweep.yaml", "apiVersion: wfgen.dev/v1\nkind: Sweep\naccelerators: [A100]\nshapes: [64/16, 512/32]\n")
	for _, test := range []struct{ args, first, others string }{
		{"--prompt-tokens 256", "256/128", ""},
		{"--prompt-tokens 256,1024 --output-tokens 64", "256/64", `"1024/64"`},
		{"--prompt-tokens 256,1024 --output-tokens 64,32", "256/64", `"1024/32"`},
		{"--prompt-tokens [256,1024]", "256/128", `"1024/128"`},
		{"--shapes 1/2,4096/64", "1/2", `"4096/64"`},
		{"--config " + file, "64/16", `"512/32"`},
		{"--config " + file + " --output-tokens 8", "64/8", `"512/8"`},
		{"--config " + file + " --shapes 1/2", "1/2", ""},
	} {
		code, stdout, stderr := wfgen(t, append(strings.Fields(test.args), "--accelerators", "A100")...)
		if code != 0 {
			t.Errorf("%s: exit %d: %s", test.args, code, stderr)
			continue
		}
		w := workflowTemplate(t, stdout)
		if got := parameter(t, w, "prompt-tokens") + "/" + parameter(t, w, "output-tokens"); got != test.first {
			t.Errorf("%s: first shape %s, want %s", test.args, got, test.first)
		}
		want := `["{{workflow.parameters.prompt-tokens}}/{{workflow.parameters.output-tokens}}"`
		if test.others != "" {
			want += "," + test.others
		}
		if got := w.GetTemplateByName("accelerator").DAG.Tasks[1].WithParam; got != want+"]" {
			t.Errorf("%s: shapes %s", test.args, got)
		}
	}
}

// Flags win over their variables, these over the file, and the file over the defaults.
func TestPrecedence(t *testing.T) {
	file := write(t, "sweep.yaml", "apiVersion: wfgen.dev/v1\nkind: Sweep\nmodel: file\nmax-seconds: 7\nretries: 0\naccelerators:\n- {name: XPU, resource: a.b/c, node-selector: {d: e}}\n- A100\n")
	t.Setenv("WFGEN_MODEL", "variable")
	for _, test := range []struct {
		args  []string
		model string
	}{
		{[]string{"--config", file}, "variable"},
		{[]string{"--config", file, "--model", "flag"}, "flag"},
	} {
		code, stdout, stderr := wfgen(t, test.args...)
		if code != 0 {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		w := workflowTemplate(t, stdout)
		if got := parameter(t, w, "model"); got != test.model {
			t.Errorf("model %s, want %s", got, test.model)
		}
		if got := parameter(t, w, "max-seconds"); got != "7" {
			t.Errorf("max-seconds %s", got)
		}
		if w.GetTemplateByName("point").RetryStrategy != nil {
			t.Error("retries: 0 of the file was lost")
		}
	}
	// Naming accelerators picks of those that the file describes.
	code, stdout, stderr := wfgen(t, "--config", file, "--accelerators", "XPU")
	of := 0
	for _, task := range workflowTemplate(t, stdout).GetTemplateByName("sweep").DAG.Tasks {
		if task.Template == "accelerator" {
			of++
		}
	}
	if code != 0 || of != 1 {
		t.Errorf("exit %d, %d accelerators: %s", code, of, stderr)
	}
}

func TestCron(t *testing.T) {
	want := []string{"0 3 * * 0,3", "0 4 1,15 * *"}
	schedules := func(stdout string) []string {
		_, document, _ := strings.Cut(stdout, "kind: CronWorkflow\n")
		var c struct {
			Spec wfv1.CronWorkflowSpec `json:"spec"`
		}
		if err := yaml.Unmarshal([]byte(document), &c); err != nil {
			t.Fatal(err)
		}
		return c.Spec.Schedules
	}
	_, stdout, _ := wfgen(t, "--accelerators", "A100", "--cron", want[0], "--cron", want[1])
	if diff := cmp.Diff(want, schedules(stdout)); diff != "" {
		t.Errorf("flags: %s", diff)
	}
	t.Setenv("WFGEN_CRON", strings.Join(want, "; "))
	_, stdout, _ = wfgen(t, "--accelerators", "A100")
	if diff := cmp.Diff(want, schedules(stdout)); diff != "" {
		t.Errorf("variable: %s", diff)
	}
}

func TestFormats(t *testing.T) {
	dir := t.TempDir()
	code, stdout, stderr := wfgen(t, "--accelerators", "A100", "--format", "dir", "--output", filepath.Join(dir, "new"), "--s3-bucket", "results", "--s3-secret", "s3", "--cron", "@daily", "--create-namespace")
	if code != 0 || stdout != "" || !strings.Contains(stderr, "kubectl apply -k "+filepath.Join(dir, "new")+" --server-side") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	var names []string
	entries, err := os.ReadDir(filepath.Join(dir, "new"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{"99-hf-secret.example.yaml", "99-s3-secret.example.yaml", "artifactrepository.yaml", "cronworkflow.yaml", "kustomization.yaml",
		"namespace.yaml", "role.yaml", "rolebinding.yaml", "serviceaccount.yaml", "workflowtemplate.yaml"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	var k kustomization
	data, err := os.ReadFile(filepath.Join(dir, "new", "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &k); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		applied := !strings.Contains(name, ".example.") && name != "kustomization.yaml"
		if slices.Contains(k.Resources, name) != applied {
			t.Errorf("%s: in kustomization.yaml %v, want %v", name, !applied, applied)
		}
	}

	file := filepath.Join(dir, "sweep.yaml")
	if code, stdout, stderr := wfgen(t, "--accelerators", "A100", "--output", file); code != 0 || stdout != "" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	_, stream, _ := wfgen(t, "--accelerators", "A100")
	if data, err := os.ReadFile(file); err != nil || string(data) != stream {
		t.Errorf("the file is not the stream: %v", err)
	}
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	file := write(t, "file", "")
	for _, args := range [][]string{
		{"--output", filepath.Join(file, "sweep.yaml")},
		{"--format", "dir", "--output", file},
		{"--output", filepath.Dir(file)},
	} {
		code, stdout, stderr := wfgen(t, append(args, "--accelerators", "A100")...)
		if code == 0 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "output: ") {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A bad configuration ends with 2, writes nothing to stdout, and says of each mistake
// in one line what is wrong.
func TestMistakes(t *testing.T) {
	unknown := write(t, "sweep.yaml", "apiVersion: wfgen.dev/v1\nkind: Sweep\nacelerators: [A100]\nmax-seconds: soon\n")
	for _, test := range []struct {
		args string
		want []string
	}{
		{"", []string{"accelerators: none given"}},
		{"--accelerators ,", []string{"accelerators: none given"}},
		{"--accelerators A100,A100", []string{"A100 is given twice"}},
		{"--accelerators A100,a100", []string{`A100 and a100 both become "a100"`}},
		{"--accelerators A1000", []string{"A1000 is not in the catalogue; did you mean A100?"}},
		{"--accelerators A100 --max-seconds -5", []string{"max-seconds: -5 is negative"}},
		{"--accelerators A100 --max-seconds 0", []string{"max-seconds, max-requests: one of them"}},
		{"--accelerators A100 --max-seconds soon", []string{"max-seconds"}},
		{"--accelerators A100 --batch-sizes 0,8", []string{"batch-sizes: 0 is below 1"}},
		{"--accelerators A100 --batch-sizes 8,8", []string{"batch-sizes: 8 is given twice"}},
		{"--accelerators A100 --batch-sizes many", []string{`batch-sizes: "many" in "many" is not an integer`}},
		{"--accelerators A100 --deploy --server-env HOME --pod-labels =x", []string{`server-env: "HOME" is not NAME=VALUE`, `pod-labels: "=x" is not NAME=VALUE`}},
		{"--accelerators A100 --batch-sizes []", []string{"batch-sizes: the list is empty"}},
		{"--accelerators A100 --max-num-seqs 32", []string{"batch-sizes: 64 is above max-num-seqs 32 of A100's server"}},
		{"--accelerators A100 --prompt-tokens 1,2,3 --output-tokens 4,5", []string{"3 and 2 lengths cannot be paired"}},
		{"--accelerators A100 --shapes 128/128 --prompt-tokens 1", []string{"shapes: give these, or prompt-tokens"}},
		{"--accelerators A100 --shapes 128", []string{`shape "128": expected promptTokens/outputTokens`}},
		{"--accelerators A100 --cron daily", []string{`cron: "daily" is not a schedule`}},
		{"--accelerators A100 --cron @daily --timezone Mars", []string{`timezone: "Mars" is not known`}},
		{"--accelerators A100 --target-url vllm:8000", []string{"target-url"}},
		{"--accelerators A100,H100 --target-url http://vllm:8000", []string{"A100 and H100 would both be measured on http://vllm:8000"}},
		{"--accelerators A100 --target-url H100=http://vllm:8000", []string{"target-url: H100 is none of the accelerators"}},
		{"--accelerators A100 --driver genai-perf", []string{`driver: "genai-perf" is neither guidellm nor native`}},
		{"--accelerators A100 --format json", []string{`format: "json" is neither yaml nor dir`}},
		{"--accelerators A100 --format dir", []string{"output: format dir needs a directory"}},
		{"--accelerators A100 --acelerators H100", []string{"acelerators"}},
		{"--accelerators A100 --s3-region x", []string{"s3-region: \"x\" has no s3-bucket"}},
		{"--config " + unknown, []string{`unknown field "acelerators"; did you mean "accelerators"?`, "max-seconds: expected integer, found string", "accelerators: none given"}},
		{"--config absent.yaml --accelerators A100", []string{"absent.yaml"}},
		{"generat --accelerators A100", []string{`no command "generat"`}},
		{"--accelerators A100,A1000 --batch-sizes 0,x --max-seconds -1 --cron never --name A_b --format x", []string{
			"A1000 is not in the catalogue", `batch-sizes: "x"`, "max-seconds: -1", `cron: "never"`, `name: "A_b"`, `format: "x"`}},
	} {
		code, stdout, stderr := wfgen(t, strings.Fields(test.args)...)
		if code != 2 || stdout != "" {
			t.Errorf("%q: exit %d, stdout %q", test.args, code, stdout)
		}
		for _, want := range test.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%q: no %q", test.args, want)
			}
		}
		lines := strings.Count(stderr, "\n")
		if len(test.want) > 1 {
			lines-- // how many mistakes there are
		}
		if lines != len(test.want) {
			t.Errorf("%q: %d mistakes, want %d", test.args, lines, len(test.want))
		}
		if t.Failed() {
			t.Fatalf("said: %s", stderr)
		}
	}
}

// Whatever secrets lie in the environment, none is in what is written.
func TestNoSecretIsWritten(t *testing.T) {
	const secret = "s3cr3t-VALUE-0123456789"
	for _, name := range []string{"HF_TOKEN", "STEP_API_KEY", "OPENAI_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, secret)
	}
	dir := t.TempDir()
	args := []string{"--accelerators", "A100", "--s3-bucket", "results", "--s3-secret", "s3", "--api-key-secret-name", "key"}
	_, stdout, stderr := wfgen(t, args...)
	code, _, more := wfgen(t, append(args, "--format", "dir", "--output", dir)...)
	if code != 0 {
		t.Fatal(more)
	}
	written := stdout + stderr + more
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		written += string(data)
	}
	if strings.Contains(written, secret) {
		t.Error("a secret was written")
	}
	// Nor is a password that somebody put into a URL, not even into the complaint.
	code, stdout, stderr = wfgen(t, "--accelerators", "A100,H100", "--target-url", "http://user:"+secret+"@vllm-{accelerator}:8000")
	if code != 2 || strings.Contains(stdout+stderr, secret) {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestInit(t *testing.T) {
	code, stdout, stderr := wfgen(t, "init")
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	if code, _, stderr := wfgen(t, "--config", write(t, "sweep.yaml", stdout)); code != 0 {
		t.Errorf("what init writes does not generate: %s", stderr)
	}
	if code, stdout, _ := wfgen(t, "init", "--preset", "rag"); code != 0 || !strings.Contains(stdout, "shapes: [4096/512]") {
		t.Errorf("init --preset: code %d", code)
	}
	if code, _, stderr := wfgen(t, "init", "--preset", "cha"); code != 2 || !strings.Contains(stderr, "recipe, chat") {
		t.Errorf("init with an unknown preset: code %d, %s", code, stderr)
	}
	if code, stdout, _ := wfgen(t, "init", "--schema"); code != 0 || !strings.Contains(stdout, "json-schema.org") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	if code, _, _ := wfgen(t, "init", "sweep.yaml"); code != 2 {
		t.Errorf("exit %d for an argument that it does not take", code)
	}
}

// A newcomer's nodes are too small as often as not: the plan says what they must offer.
func TestPlanSaysWhatNodesMustOffer(t *testing.T) {
	code, stdout, stderr := wfgen(t, "plan", "--accelerators", "A100", "--deploy", "--driver", "native", "--batch-sizes", "1,8", "--load-generator-memory", "3Gi")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, want := range []string{`server of A100 +3 +12Gi +1 nvidia.com/gpu +nvidia.com/gpu.product=`, `each point +148m +3Gi +- +-`, `all others +50m +64Mi`} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("no %q in:\n%s", want, stdout)
		}
	}
	if _, stdout, _ := wfgen(t, "plan", "--accelerators", "A100", "--local"); strings.Contains(stdout, "a node must offer") {
		t.Error("a run on this machine has no nodes")
	}
}

// Shapes that are to be chosen are chosen by what the servers take, and it is said why.
func TestShapesAreChosen(t *testing.T) {
	plan := []string{"plan", "--accelerators", "A100", "--shapes", "auto"}
	code, stdout, stderr := wfgen(t, append(plan, "--max-model-len", "2048")...)
	if code != exit.Done || !strings.Contains(stdout, "the fewest of 19 that the server takes") || strings.Count(stdout, "batch 64") != 3 {
		t.Errorf("exit code %d: %s\n%s", code, stdout, stderr)
	}
	if code, _, stderr := wfgen(t, plan...); code != exit.Usage || !strings.Contains(stderr, "give max-model-len") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	file := filepath.Join(t.TempDir(), "sweep.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: wfgen.dev/v1\nkind: Sweep\naccelerators: [A100]\nshapes: auto\nmax-model-len: 1024\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = wfgen(t, "--config", file)
	if code != exit.Done || !strings.Contains(stderr, "the fewest of 12 that the server takes") || strings.Contains(stdout, "128/128") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if code, _, stderr := wfgen(t, "--config", file, "--shapes", "1024/64"); code != exit.Usage || !strings.Contains(stderr, "shapes: 1024/64 needs 1088 tokens, above max-model-len 1024") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
