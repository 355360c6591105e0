package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/catalogue"
	"wfgen.dev/internal/tests/schematest"
)

const header = "apiVersion: wfgen.dev/v1\nkind: Sweep\n"

func TestParse(t *testing.T) {
	c, err := parse("sweep.yaml", []byte(header+`
model: org/model
accelerators:
- A100
- name: XPU-9
  target-url: http://xpu:80
  resource: example.com/xpu
  node-selector: {example.com/product: xpu-9}
  count: 4
  max-num-seqs: 32
  gpu-cost: 2.5
target-url: http://vllm-{accelerator}:8000
shapes: [128/128, 4096/64]
batch-sizes: [1, 16]
max-num-seqs: 64
retries: 0
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Retries != 0 || c.MaxSeconds != 120 || c.Namespace != "default" {
		t.Errorf("retries %d, max-seconds %d, namespace %q: a zero in the file must stay, defaults must fill the rest", c.Retries, c.MaxSeconds, c.Namespace)
	}
	want := sweep.Sweep{
		Model:      "org/model",
		Shapes:     []sweep.Shape{{PromptTokens: 128, OutputTokens: 128}, {PromptTokens: 4096, OutputTokens: 64}},
		BatchSizes: []int{1, 16},
		MaxSeconds: 120,
		Driver:     sweep.Guidellm,
		Accelerators: []sweep.Accelerator{
			{Name: "A100", TargetURL: "http://vllm-a100:8000", MaxNumSeqs: 64, Count: 1},
			{Name: "XPU-9", TargetURL: "http://xpu:80", MaxNumSeqs: 32, Count: 4, GPUCost: 2.5},
		},
	}
	if diff := cmp.Diff(want, c.Sweep()); diff != "" {
		t.Error(diff)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if err := c.ValidateCluster(); err != nil {
		t.Error(err)
	}
}

// The structure of a file is judged as a whole, each mistake in the file's words.
func TestParseMistakes(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"expected fields such as apiVersion: wfgen.dev/v1"}},
		{"not YAML", "a: [", []string{"not YAML"}},
		{"twice", header + "model: a\nmodel: b\n", []string{`"model" already set`}},
		{"no version", "model: a\n", []string{"apiVersion is missing; write apiVersion: wfgen.dev/v1", "kind is missing; write kind: Sweep"}},
		{"other version", "apiVersion: wfgen.dev/v2\nkind: Sweep\n", []string{`apiVersion: "wfgen.dev/v2" is not wfgen.dev/v1`}},
		{"unknown field", header + "batchSizes: [1]\nmodle: a\nzzz: 1\n", []string{
			`unknown field "batchSizes"; did you mean "batch-sizes"?`, `unknown field "modle"; did you mean "model"?`, `unknown field "zzz"`}},
		{"unknown field of an accelerator", header + "accelerators: [{name: A100, cuont: 1}]\n", []string{`accelerators[0]: unknown field "cuont"; did you mean "count"?`}},
		{"types", header + "max-seconds: long\nbatch-sizes: [1, two]\naccelerators: [{name: A100, count: x}]\n", []string{
			"max-seconds: expected integer, found string", "batch-sizes[1]: expected integer, found string", "accelerators[0].count: expected integer, found string"}},
		{"no name", header + "accelerators: [{count: 1}, A100]\n", []string{"accelerators[0]: name is missing"}},
		{"shape", header + "shapes: [128x128]\n", []string{`shapes[0]: "128x128": expected promptTokens/outputTokens such as 128/128`}},
		{"unknown field of a server", header + "server: {imgae: a}\naccelerators: [{name: A100, server: {memroy: 1}}]\n", []string{
			`server: unknown field "imgae"; did you mean "image"?`, `accelerators[0].server: unknown field "memroy"; did you mean "memory"?`}},
		{"choice", header + "driver: genai-perf\n", []string{`driver: "genai-perf" is not guidellm or native`}},
		{"too large", header + "max-seconds: 1e30\n", []string{"max-seconds"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := parse("sweep.yaml", []byte(test.text))
			if err == nil {
				t.Fatal("no error")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Errorf("%d mistakes, want %d", len(lines), len(test.want))
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q", want)
				}
			}
			for _, line := range lines {
				if !strings.HasPrefix(line, "sweep.yaml: ") {
					t.Errorf("the file is not named: %q", line)
				}
			}
			if t.Failed() {
				t.Logf("got:\n%v", err)
			}
			// What was said about the structure is not said again about the content.
			c.Accelerators = append(c.Accelerators, Accelerator{Name: "H100"})
			if err := c.Validate(); err != nil {
				t.Errorf("the rest: %v", err)
			}
		})
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "absent.yaml")
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(file, []byte(header), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), c); diff != "" {
		t.Errorf("a file that says nothing is the default: %s", diff)
	}
}

func TestSchemaDescribesTheType(t *testing.T) {
	schematest.Describes(t, "sweep.schema.json", Config{})
}

func valid() Config {
	c := Default()
	c.Accelerators = []Accelerator{{Name: "A100"}, {Name: "H100"}}
	c.TargetURL = c.InCluster().TargetURL
	return c
}

func TestValid(t *testing.T) {
	c := valid()
	c.GuidellmImage = "ghcr.io/vllm-project/guidellm:v0.8.1@sha256:" + strings.Repeat("0a", 32)
	c.StepImage = "localhost:5000/step"
	c.Cron = []string{"0 3 * * 0,3", "@weekly"}
	c.Timezone = "Europe/Zurich"
	c.S3Bucket, c.S3Endpoint, c.S3Prefix, c.S3Region, c.S3Secret = "results", "http://minio.s3:9000", "team-a/calibration/", "eu-central-1", "s3-credentials"
	c.LoadGenerator = Cluster
	c.LoadGeneratorCPU, c.LoadGeneratorMemory = "500m", "1Gi"
	c.ServiceAccountAnnotations = map[string]string{"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if err := c.ValidateCluster(); err != nil {
		t.Error(err)
	}
}

// Every bad value gives one line that names its field.
func TestMistakes(t *testing.T) {
	for _, test := range []struct {
		name string
		bad  func(*Config)
		want string
	}{
		{"model with space", func(c *Config) { c.Model = " m" }, "model: \" m\" has white space"},
		{"target without scheme", func(c *Config) { c.TargetURL = "vllm:8000" }, `target-url: "vllm:8000": expected http://`},
		{"reference in the model", func(c *Config) { c.Model = "$(STEP_API_KEY)" }, "holds $(, which Kubernetes would replace"},
		{"a flag for a model", func(c *Config) { c.Model = "--trust-remote-code" }, "begins with a dash"},
		{"target with password", func(c *Config) { c.TargetURL = "http://u:p@vllm" }, `target-url: "http://***@vllm" holds a password`},
		{"one server for two", func(c *Config) { c.TargetURL = "http://vllm:8000" }, "target-url: A100 and H100 would both be measured on http://vllm:8000"},
		{"not a URL", func(c *Config) { c.TargetURL = "http://u:p@[vllm" }, "target-url: not a URL"},
		{"own target", func(c *Config) { c.Accelerators[0].TargetURL = "ftp://x" }, "accelerators: target-url of A100"},
		{"target with query", func(c *Config) { c.TargetURL = "http://vllm/?key=abc" }, "without a query"},
		{"negative max-num-seqs", func(c *Config) { c.MaxNumSeqs = -1 }, "max-num-seqs: -1 is negative"},
		{"method", func(c *Config) { c.Method = "ols" }, `method: "ols" is neither wls nor two-point`},
		{"two-point with one", func(c *Config) { c.Method, c.BatchSizes = sweep.TwoPoint, []int{8} }, "two-point needs two batch sizes"},
		{"no label", func(c *Config) { c.Accelerators[0].Name = "A100 80GB" }, `"A100 80GB" cannot be the value of the label`},
		{"negative count", func(c *Config) { c.Accelerators[0].Count = -1 }, "count -1 of A100 is negative"},
		{"negative limit", func(c *Config) { c.Accelerators[0].MaxNumSeqs = -1 }, "max-num-seqs -1 of A100 is negative"},
		{"negative cost", func(c *Config) { c.Accelerators[0].GPUCost = -1 }, "gpu-cost -1 of A100 is negative"},
		{"batch above the server's", func(c *Config) { c.Accelerators[0].MaxNumSeqs = 32 }, "batch-sizes: 64 is above max-num-seqs 32 of A100"},

		{"name", func(c *Config) { c.Name = "Sweep_1" }, `name: "Sweep_1" is not a Kubernetes name`},
		{"long name", func(c *Config) { c.Name = strings.Repeat("a", 51) }, "has 51 characters, 50 at most"},
		{"namespace", func(c *Config) { c.Namespace = "" }, `namespace: "" is not`},
		{"service account", func(c *Config) { c.ServiceAccount = "A" }, `service-account: "A" is not`},
		{"hf secret", func(c *Config) { c.HFSecretName = "hf_abc" }, `hf-secret-name: "hf_abc" is not`},
		{"hf key", func(c *Config) { c.HFSecretKey = "a b" }, `hf-secret-key: "a b" is not`},
		{"api secret", func(c *Config) { c.APIKeySecretName, c.APIKeySecretKey = "S", "k" }, `api-key-secret-name: "S" is not`},
		{"step image", func(c *Config) { c.StepImage = "step image" }, `step-image: "step image" is not an image`},
		{"registry", func(c *Config) { c.ImageRegistry = "https://registry.example.com" }, `image-registry: "https://registry.example.com" is not a registry`},
		{"guidellm image", func(c *Config) { c.GuidellmImage = "ghcr.io/x@sha256:12" }, `guidellm-image: "ghcr.io/x@sha256:12" is not an image`},
		{"unknown accelerator", func(c *Config) { c.Accelerators[0].Name = "A1000" }, "A1000 is not in the catalogue; did you mean A100?"},
		{"unknown accelerator like none", func(c *Config) { c.Accelerators[0].Name = "quantum" }, "quantum is not in the catalogue (A100, H100"},
		{"half described", func(c *Config) { c.Accelerators[0] = Accelerator{Name: "quantum", Resource: "x.com/q"} }, "quantum is not in the catalogue"},
		{"resource", func(c *Config) { c.Accelerators[0].Resource = "a b" }, `resource "a b" of A100`},
		{"node selector", func(c *Config) { c.Accelerators[0].NodeSelector = map[string]string{"a b": "c"} }, "node-selector a b=c of A100"},
		{"repository", func(c *Config) { c.ArtifactRepository = "a b" }, `artifact-repository: "a b" is not`},
		{"two places", func(c *Config) { c.ArtifactRepository, c.S3Bucket = "repo/key", "bucket" }, "give one of them"},
		{"region alone", func(c *Config) { c.S3Region = "eu-central-1" }, `s3-region: "eu-central-1" has no s3-bucket`},
		{"bucket", func(c *Config) { c.S3Bucket = "s3://bucket" }, `s3-bucket: "s3://bucket" is not the name`},
		{"endpoint", func(c *Config) { c.S3Bucket, c.S3Endpoint = "bucket", "https://host/path" }, `s3-endpoint: "https://host/path" is not host`},
		{"prefix", func(c *Config) { c.S3Prefix = "../up" }, `s3-prefix: "../up" is not a path`},
		{"templated prefix", func(c *Config) { c.S3Prefix = "{{workflow.name}}" }, "s3-prefix"},
		{"secret alone", func(c *Config) { c.S3Secret = "s3" }, "s3-secret"},
		{"cron", func(c *Config) { c.Cron = []string{"every day"} }, `cron: "every day" is not a schedule`},
		{"cron with zone", func(c *Config) { c.Cron = []string{"CRON_TZ=UTC 0 3 * * 0"} }, "use timezone"},
		{"timezone", func(c *Config) { c.Cron, c.Timezone = []string{"0 3 * * 0"}, "Mars/Base" }, `timezone: "Mars/Base" is not known`},
		{"timezone alone", func(c *Config) { c.Timezone = "UTC" }, "timezone: UTC has no cron schedule"},
		{"parallel", func(c *Config) { c.ParallelAccelerators = -1 }, "parallel-accelerators: -1 is negative"},
		{"retries", func(c *Config) { c.Retries = -1 }, "retries: -1 is not between"},
		{"wait", func(c *Config) { c.WaitTimeout = "40" }, `wait-timeout: "40" is not a duration`},
		{"taken name", func(c *Config) {
			c.Accelerators[0] = Accelerator{Name: "Guard", Resource: "example.com/gpu", NodeSelector: map[string]string{"a": "b"}}
		}, `Guard would be called "guard"`},
		{"pending", func(c *Config) { c.PendingTimeout = "10s" }, `pending-timeout: "10s" is neither a duration of a minute or more`},
		{"load generator", func(c *Config) { c.LoadGenerator = "sidecar" }, `load-generator: "sidecar" is neither`},
		{"shared native", func(c *Config) { c.LoadGenerator, c.Driver = Cluster, sweep.Native }, "load-generator: cluster is the shared guidellm"},
		{"shared pod", func(c *Config) { c.LoadGenerator, c.Driver, c.SharePod = Cluster, sweep.Guidellm, new(true) }, "share-pod: the shared load generator"},
		{"cpu", func(c *Config) { c.LoadGeneratorCPU = "many" }, `load-generator-cpu: "many" is not`},
		{"memory", func(c *Config) { c.LoadGeneratorMemory = "-1Gi" }, `load-generator-memory: "-1Gi" is not`},
		{"templating in the model", func(c *Config) { c.Model = "a{{b}}" }, "model: \"a{{b}}\" holds {{"},
		{"templating in the tokenizer", func(c *Config) { c.Tokenizer = "{{=1}}" }, "tokenizer: "},
		{"password in the model", func(c *Config) { c.Model = "http://u:hunter2-hunter2@h/m" }, `model: "http://***@h/m" holds a password`},
		{"token in the tokenizer", func(c *Config) { c.Tokenizer = "hf_Abcdef0123456789" }, `tokenizer: "***" holds a password or a token`},
		{"deploy nothing", func(c *Config) {
			c.Deploy, c.Accelerators = true, []Accelerator{{Name: "A100", TargetURL: "http://a:1"}}
		}, "deploy: every accelerator has a target-url of its own"},
		{"server image", func(c *Config) { c.Deploy, c.Server.Image = true, "v llm" }, `server.image: "v llm" is not an image`},
		{"image for other GPUs", func(c *Config) { c.Deploy, c.Accelerators[0].Name = true, "MI300X" }, "server of MI300X.image: vllm/vllm-openai:v0.32.0 runs on NVIDIA GPUs alone"},
		{"publish", func(c *Config) { c.Publish = "secret" }, `publish: "secret" is not configmap`},
		{"target of nothing", func(c *Config) { c.ScaleTarget = "vllm" }, "scale-target: there are no publish-formats"},
		{"scale target", func(c *Config) { c.PublishFormats, c.ScaleTarget = []string{"keda"}, "vllm {accelerator}" }, `scale-target: "vllm {accelerator}" is not`},
		{"replicas", func(c *Config) { c.MaxReplicas = 0 }, "max-replicas: 0 is below 1"},
		{"argo", func(c *Config) { c.Argo = "3.5" }, `argo: "3.5" is none of 3.7, 4.0, 4.1`},
		{"class without deploy", func(c *Config) { c.Accelerators[0].DeviceClass = "gpu.nvidia.com" }, "device-class of A100: nothing is claimed"},
		{"class and resource", func(c *Config) {
			c.Deploy, c.Accelerators[0].DeviceClass, c.Accelerators[0].Resource = true, "gpu.nvidia.com", "nvidia.com/gpu"
		}, "device-class of A100: a pod asks for the GPU by it or by resource"},
		{"class", func(c *Config) { c.Deploy, c.Accelerators[0].DeviceClass = true, "GPU" }, `device-class of A100: "GPU" is not`},
		{"selectors alone", func(c *Config) { c.Accelerators[0].DeviceSelectors = []string{"true"} }, "device-selectors of A100 have no device-class"},
		{"empty selector", func(c *Config) {
			c.Deploy, c.Accelerators[0].DeviceClass, c.Accelerators[0].DeviceSelectors = true, "gpu.nvidia.com", []string{" "}
		}, "device-selectors of A100: one is empty"},
		{"same devices", func(c *Config) {
			c.Deploy, c.Accelerators[0].DeviceClass, c.Accelerators[1].DeviceClass = true, "gpu.nvidia.com", "gpu.nvidia.com"
		}, "device-class of H100: A100 claims the same devices"},
		{"engine", func(c *Config) { c.Engine = "tgi" }, `engine: "tgi" is none of vllm, sglang`},
		{"engine of a server with arguments", func(c *Config) {
			c.Engine, c.Deploy, c.Server.Args = "tgi", true, []string{"--max-concurrent-requests=8"}
		}, `engine: "tgi" is none of vllm, sglang`},
		{"argument of SGLang", func(c *Config) { c.Deploy, c.Engine, c.Server.Args = true, "sglang", []string{"--tp-size=2"} }, "server.args: --tp-size is given by the sweep itself"},
		{"root", func(c *Config) { c.Deploy, c.Server.User = true, 0 }, "server.user: 0 is root"},
		{"quantity of a server", func(c *Config) { c.Deploy, c.Accelerators[1].Server.Shm = true, "8 GB" }, `server of H100.shm: "8 GB" is not`},
		{"claim", func(c *Config) { c.Deploy, c.Server.CachePVC = true, "Models" }, `server.cache-pvc: "Models" is not`},
		{"argument of the sweep", func(c *Config) { c.Deploy, c.Server.Args = true, []string{"--max-num-seqs=8"} }, "server.args: --max-num-seqs is given by the sweep itself"},
		{"variable", func(c *Config) { c.Deploy, c.Server.Env = true, map[string]string{"A B": ""} }, `server.env: "A B" is not`},
		{"secret variable", func(c *Config) { c.Deploy, c.Server.Env = true, map[string]string{"HF_TOKEN": "hf_x"} }, "server.env: HF_TOKEN looks like a secret"},
		{"templated variable", func(c *Config) { c.Deploy, c.Server.Env = true, map[string]string{"A": "{{b}}"} }, `server.env: A="{{b}}" holds {{`},
		{"templated argument", func(c *Config) { c.Deploy, c.Server.Args = true, []string{"--x={{b}}"} }, `server: "--x={{b}}" holds {{`},
		{"operator", func(c *Config) {
			c.Deploy, c.Server.Tolerations = true, []corev1.Toleration{{Key: "a", Operator: "Is"}}
		}, `server.tolerations[0].operator: "Is"`},
		{"effect", func(c *Config) {
			c.Deploy, c.Server.Tolerations = true, []corev1.Toleration{{Key: "a", Effect: "Never"}}
		}, `server.tolerations[0].effect: "Never"`},
		{"value", func(c *Config) {
			c.Deploy, c.Server.Tolerations = true, []corev1.Toleration{{Key: "a", Operator: "Exists", Value: "b"}}
		}, "Exists takes no value"},
		{"affinity", func(c *Config) { c.Deploy, c.Server.Affinity = true, map[string]any{"nodeAfinity": map[string]any{}} }, `server.affinity: not a Kubernetes affinity`},
		{"too many servers", func(c *Config) {
			c.Deploy, c.Accelerators = true, nil
			for i := range 91 {
				c.Accelerators = append(c.Accelerators, Accelerator{Name: fmt.Sprintf("x%d", i), Resource: "x.com/gpu", NodeSelector: map[string]string{"x": "y"},
					Server: Server{Memory: fmt.Sprintf("%dGi", i+1)}})
			}
		}, "91 different servers are more than the 90"},
		{"pod label", func(c *Config) { c.PodLabels = map[string]string{"team": "a b"} }, "pod-labels: team=a b is not a label"},
		{"pod label of the sweep", func(c *Config) { c.PodLabels = map[string]string{"app.kubernetes.io/part-of": "x"} }, "app.kubernetes.io/part-of is set by"},
		{"queue as a label", func(c *Config) { c.PodLabels = map[string]string{QueueLabel: "x"} }, "use queue-name"},
		{"pod annotation", func(c *Config) { c.PodAnnotations = map[string]string{"a b": "c"} }, `pod-annotations: "a b" is not`},
		{"templated pod annotation", func(c *Config) { c.PodAnnotations = map[string]string{"a": "{{b}}"} }, "pod-annotations: a:"},
		{"queue", func(c *Config) { c.QueueName = "My Queue" }, `queue-name: "My Queue" is not`},
		{"priority", func(c *Config) { c.PriorityClass = "Low" }, `priority-class: "Low" is not`},
		{"pull secret", func(c *Config) { c.ImagePullSecrets = []string{"user:password"} }, `image-pull-secrets: "user:password" is not`},
		{"nodes of the load", func(c *Config) { c.LoadGeneratorNodeSelector = map[string]string{"a b": "c"} }, "load-generator-node-selector: a b=c"},
		{"toleration of the load", func(c *Config) { c.LoadGeneratorTolerations = []corev1.Toleration{{Value: "x"}} }, "load-generator-tolerations[0]: without a key"},
		{"policy port", func(c *Config) { c.NetworkPolicy, c.NetworkPolicyPorts = true, []int{0} }, "network-policy-ports: 0 is not a port"},
		{"policy port alone", func(c *Config) { c.NetworkPolicyPorts = []int{80} }, "there is no network-policy"},
		{"event", func(c *Config) { c.NotifySecretName, c.NotifyOn = "n", []string{"always"} }, `notify-on: "always" is none of`},
		{"event alone", func(c *Config) { c.NotifyOn = []string{"end"} }, "notify-on: there is no notify-secret-name"},
		{"a URL for a Secret", func(c *Config) { c.NotifySecretName = "https://hooks.example" }, `notify-secret-name: "https`},
		{"report", func(c *Config) { c.NotifySecretName, c.ReportURL = "n", "argo/{run}" }, `report-url: "argo/{run}" is not`},
		{"drift", func(c *Config) { c.DriftBand = "5" }, `drift-band: found "5", expected a share`},
		{"drift alone", func(c *Config) { c.FailOnDrift = true }, "there is no drift-band"},
		{"annotation", func(c *Config) { c.ServiceAccountAnnotations = map[string]string{"a b": "c"} }, `service-account-annotations: "a b" is not`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := valid()
			test.bad(&c)
			var text string
			for _, err := range []error{c.Validate(), c.ValidateCluster()} {
				if err != nil {
					text += err.Error() + "\n"
				}
			}
			if !strings.Contains(text, test.want) {
				t.Errorf("no %q in:\n%s", test.want, text)
			}
			if n := strings.Count(text, "\n"); n != 1 && test.name != "no label" { // which is not in the catalogue either
				t.Errorf("%d lines, want one:\n%s", n, text)
			}
		})
	}
}

// The example says what the defaults are, and nothing that is not so.
func TestExampleShowsTheDefaults(t *testing.T) {
	got, err := parse("example.yaml", Example)
	if err != nil {
		t.Fatal(err)
	}
	want := Default().InCluster()
	want.Accelerators = []Accelerator{{Name: "A100"}, {Name: "H100"}}
	if diff := cmp.Diff(want, got.InCluster()); diff != "" {
		t.Error(diff)
	}
	for _, name := range catalogue.Names() {
		if !bytes.Contains(Example, []byte(name)) {
			t.Errorf("the catalogue knows %s, the example does not", name)
		}
	}
}

// With every line of it in use the example is still valid, and holds every field.
func TestExampleShowsEveryField(t *testing.T) {
	inUse := regexp.MustCompile(`(?m)^#([^ \n]|  )`).ReplaceAll(Example, []byte("$1"))
	c, err := parse("example.yaml", inUse)
	if err != nil {
		t.Fatalf("%v\n%s", err, inUse)
	}
	c.ArtifactRepository = "" // beside a bucket it is a mistake
	c.BatchSizes = []int{1, 32}
	c.Deploy = true // without it nothing is claimed
	if err := errors.Join(c.Validate(), c.ValidateCluster()); err != nil {
		t.Error(err)
	}
	var names struct {
		Properties map[string]struct {
			Items struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(Schema, &names); err != nil {
		t.Fatal(err)
	}
	for name, property := range names.Properties {
		if !regexp.MustCompile(`(?m)^` + name + `:`).Match(inUse) {
			t.Errorf("%s is not in the example", name)
		}
		for name := range property.Items.Properties {
			if !regexp.MustCompile(`(?m)^[ -] ` + name + `:`).Match(inUse) {
				t.Errorf("accelerators[].%s is not in the example", name)
			}
		}
	}
}

func TestServerOf(t *testing.T) {
	c, err := parse("sweep.yaml", []byte(header+`
deploy: true
server: {args: [--a], env: {A: "1", B: "1"}, memory: 1Gi, tolerations: []}
accelerators:
- A100
- {name: MI300X, count: 2, server: {image: rocm/vllm:1, args: [--b], env: {B: "2"}, cpu: "1", tolerations: [{operator: Exists}]}}
- {name: H100, target-url: "http://h:1"}
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Validate(), c.ValidateCluster()); err != nil {
		t.Fatal(err)
	}
	common := defaultServer()
	common.Image, common.Command = "vllm/vllm-openai:v0.32.0", []string{"vllm", "serve"}
	common.Args, common.Env, common.Tolerations = []string{"--a"}, map[string]string{"A": "1", "B": "1"}, []corev1.Toleration{}
	common.CPU, common.Memory = "3", "1Gi"
	if diff := cmp.Diff(common, c.ServerOf(c.Accelerators[0])); diff != "" {
		t.Errorf("A100: %s", diff)
	}
	own := common
	own.Image, own.Args, own.Env = "rocm/vllm:1", []string{"--a", "--b"}, map[string]string{"A": "1", "B": "2"}
	own.CPU, own.Tolerations = "1", []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	if diff := cmp.Diff(own, c.ServerOf(c.Accelerators[1])); diff != "" {
		t.Errorf("MI300X: %s", diff)
	}
	if got := len(c.Servers()); got != 2 || len(c.Deployed()) != 2 {
		t.Errorf("%d groups of %d, want 2 of 2: H100 has a server", got, len(c.Deployed()))
	}
	if c.Sweep().Accelerators[0].TargetURL != "" {
		t.Error("a deployed server has no address before it is deployed")
	}

	// What is said about nothing is the resource's own taint, and by the number of GPUs.
	c = Default()
	got := c.ServerOf(Accelerator{Name: "MI300X", Count: 4})
	if len(got.Tolerations) != 1 || got.Tolerations[0].Key != "amd.com/gpu" || got.CPU != "12" || got.Memory != "48Gi" {
		t.Errorf("got %+v", got)
	}
	c.Engine = "sglang"
	if got := c.ServerOf(Accelerator{Name: "A100"}); got.Image != "lmsysorg/sglang:v0.5.6" || got.Command[0] != "python3" {
		t.Errorf("sglang: %s, %q", got.Image, got.Command)
	}
}

func TestSchemaSaysTheDefaults(t *testing.T) {
	var schema struct {
		Properties map[string]struct{ Default any }
	}
	if err := json.Unmarshal(Schema, &schema); err != nil {
		t.Fatal(err)
	}
	c := Default()
	c.S3Bucket = "bucket" // whose endpoint has a default
	data, err := json.Marshal(c.InCluster())
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "s3-bucket")
	delete(fields, "step-image") // of each version its own
	for name, property := range schema.Properties {
		want, set := fields[name]
		switch {
		case name == "apiVersion" || name == "kind":
		case !set && property.Default != nil && !slices.Contains([]any{"", 0.0, false}, property.Default):
			t.Errorf("%s: the schema says %v, there is none", name, property.Default)
		case set && !cmp.Equal(want, property.Default):
			t.Errorf("%s: the schema says %v, it is %v", name, property.Default, want)
		}
	}
}

// A second document would be ignored without a word, and a mistaken path fill the memory.
func TestOneDocumentOfABoundedLength(t *testing.T) {
	name := filepath.Join(t.TempDir(), "sweep.yaml")
	for text, line := range map[string]int{
		"# comment\n---\nname: a\n---\nname: b\n": 4,
		"name: a\n--- # the other\nname: b\n":     2,
		"%YAML 1.2\n---\nname: a\n...\n":          0,
		"---\nname: a\n":                          0,
		"text: |\n  ---\nname: a\n":               0,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(name)
		if found := err != nil && strings.Contains(err.Error(), fmt.Sprintf("second YAML document begins in line %d", line)); found != (line > 0) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%v", err)
	}
}
