// Package config is what a user asks for, from a file, from flags or from both:
// the sweep itself, and for a cluster where and how it runs there. Fields, flags
// and the parameters of the workflow share one set of names.
package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/engine"
	"wfgen.dev/internal/sweep/release"
	"wfgen.dev/internal/version"
)

// The version of the configuration file that this package reads.
const (
	APIVersion = "wfgen.dev/v1"
	Kind       = "Sweep"
)

// Config is a configuration file. The names of its fields are those of the flags.
type Config struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`

	// The sweep.
	Model         string        `json:"model,omitempty"`
	Accelerators  []Accelerator `json:"accelerators,omitempty"`
	TargetURL     string        `json:"target-url,omitempty"` // {accelerator} stands for the accelerator's slug
	Shapes        []Shape       `json:"shapes,omitempty"`
	BatchSizes    []int         `json:"batch-sizes,omitempty"`
	MaxSeconds    int           `json:"max-seconds"`             // length of a point; 0: MaxRequests limits it
	MaxRequests   int           `json:"max-requests,omitempty"`  // requests of a point; 0: MaxSeconds limits it
	MaxNumSeqs    int           `json:"max-num-seqs,omitempty"`  // of every server; 0: not known
	MaxModelLen   int           `json:"max-model-len,omitempty"` // of every server, tokens of a prompt and its answer; 0: not known
	ShapesAuto    bool          `json:"-"`                       // the shapes are to be chosen, by what the servers take; written as shapes: auto
	Driver        string        `json:"driver,omitempty"`
	Tokenizer     string        `json:"tokenizer,omitempty"`       // for guidellm; empty: the model's own
	Method        string        `json:"method,omitempty"`          // of the estimate: wls or two-point
	Precision     string        `json:"precision,omitempty"`       // that the parameters are wanted with; empty: the points are fixed
	MaxGPUMinutes float64       `json:"max-gpu-minutes,omitempty"` // that the points of a precision may take, all accelerators together; 0: no limit
	ShareProcess  bool          `json:"-"`                         // of a run on one machine: all batch sizes of a shape in one guidellm process
	SLO           string        `json:"slo,omitempty"`             // objectives that a replica's capacity is told for and checked by; empty: it is not
	PrefillChunk  int           `json:"prefill-chunk,omitempty"`   // prompt tokens that every server computes in an iteration at most, of which the prefill rate is measured; 0: it is not

	// Where and how it runs in a cluster.
	Name                      string              `json:"name,omitempty"`
	Namespace                 string              `json:"namespace,omitempty"`
	Argo                      string              `json:"argo,omitempty"` // line of Argo Workflows that the objects are for
	CreateNamespace           bool                `json:"create-namespace,omitempty"`
	StepImage                 string              `json:"step-image,omitempty"`     // empty: of this version
	ImageRegistry             string              `json:"image-registry,omitempty"` // that serves it; empty: where releases are, if this is one
	GuidellmImage             string              `json:"guidellm-image,omitempty"`
	HFSecretName              string              `json:"hf-secret-name,omitempty"`
	HFSecretKey               string              `json:"hf-secret-key,omitempty"`
	APIKeySecretName          string              `json:"api-key-secret-name,omitempty"`
	APIKeySecretKey           string              `json:"api-key-secret-key,omitempty"`
	ServiceAccount            string              `json:"service-account,omitempty"` // empty: the name
	ServiceAccountAnnotations map[string]string   `json:"service-account-annotations,omitempty"`
	ArtifactRepository        string              `json:"artifact-repository,omitempty"` // ConfigMap, or ConfigMap/key
	S3Bucket                  string              `json:"s3-bucket,omitempty"`
	S3Endpoint                string              `json:"s3-endpoint,omitempty"`
	S3Region                  string              `json:"s3-region,omitempty"`
	S3Prefix                  string              `json:"s3-prefix,omitempty"`
	S3Secret                  string              `json:"s3-secret,omitempty"` // empty: the credentials of the ServiceAccount
	Cron                      []string            `json:"cron,omitempty"`
	Timezone                  string              `json:"timezone,omitempty"`
	ParallelAccelerators      int                 `json:"parallel-accelerators,omitempty"` // 0: all at once
	Retries                   int                 `json:"retries"`
	WaitTimeout               string              `json:"wait-timeout,omitempty"`    // a Go duration
	PendingTimeout            string              `json:"pending-timeout,omitempty"` // a Go duration; 0: a pod may wait for ever
	DriftBand                 string              `json:"drift-band,omitempty"`      // change of what was accepted last that is tolerated, such as 5%; empty: not compared
	FailOnDrift               bool                `json:"fail-on-drift,omitempty"`
	NotifySecretName          string              `json:"notify-secret-name,omitempty"` // whose keys slack, webhook and alertmanager hold URLs
	NotifyOn                  []string            `json:"notify-on,omitempty"`          // end, failure, drift; empty: the latter two
	ReportURL                 string              `json:"report-url,omitempty"`         // for notifications, and Argo's interface; {run} stands for the run
	Links                     map[string]string   `json:"links,omitempty"`              // URLs by what they show, for Argo's interface; {run} stands for the run
	Publish                   string              `json:"publish,omitempty"`            // where else results go: configmap; empty: nowhere
	PublishFormats            []string            `json:"publish-formats,omitempty"`    // of consumers, of step render
	ScaleTarget               string              `json:"scale-target,omitempty"`       // for these: Deployment that is scaled
	TargetNamespace           string              `json:"target-namespace,omitempty"`   // for these: of the objects; empty: that of the sweep
	PrometheusURL             string              `json:"prometheus-url,omitempty"`     // for these; empty: the usual one
	MaxReplicas               int                 `json:"max-replicas,omitempty"`       // for these: most replicas of a scaler
	LoadGenerator             string              `json:"load-generator,omitempty"`     // inline or cluster
	SharePod                  *bool               `json:"share-pod,omitempty"`          // points of one shape, or of one round, in one pod; absent: as SharesPod says
	LoadGeneratorCPU          string              `json:"load-generator-cpu,omitempty"`
	LoadGeneratorMemory       string              `json:"load-generator-memory,omitempty"`
	LoadGeneratorNodeSelector map[string]string   `json:"load-generator-node-selector,omitempty"`
	LoadGeneratorTolerations  []corev1.Toleration `json:"load-generator-tolerations,omitempty"`
	PodLabels                 map[string]string   `json:"pod-labels,omitempty"`      // of every pod, servers too
	PodAnnotations            map[string]string   `json:"pod-annotations,omitempty"` // of every pod, servers too
	QueueName                 string              `json:"queue-name,omitempty"`      // of Kueue, by which every pod is admitted
	PriorityClass             string              `json:"priority-class,omitempty"`  // of every pod; a server may have its own
	ImagePullSecrets          []string            `json:"image-pull-secrets,omitempty"`
	NetworkPolicy             bool                `json:"network-policy,omitempty"`       // let the pods reach what the sweep needs, and nothing else
	NetworkPolicyPorts        []int               `json:"network-policy-ports,omitempty"` // further TCP ports that they may reach
	Deploy                    bool                `json:"deploy,omitempty"`               // start the servers of accelerators without a target-url of their own
	Engine                    string              `json:"engine,omitempty"`               // of the servers that are started: vllm or sglang
	Server                    Server              `json:"server,omitzero"`                // how they are started
}

// Accelerator is one GPU type of the configuration. In a file it may be its name
// alone.
type Accelerator struct {
	Name         string            `json:"name"`
	TargetURL    string            `json:"target-url,omitempty"` // its own server instead of the common target-url
	Resource     string            `json:"resource,omitempty"`
	NodeSelector map[string]string `json:"node-selector,omitempty"`

	// Instead of a resource, a claim (dynamic resource allocation) to Count devices of a class
	// for which all of these CEL expressions hold.
	DeviceClass     string   `json:"device-class,omitempty"`
	DeviceSelectors []string `json:"device-selectors,omitempty"`

	Count        int     `json:"count,omitempty"`         // GPUs of one server (tensor parallelism); 0: one
	MaxNumSeqs   int     `json:"max-num-seqs,omitempty"`  // of its own server; 0: the common one
	GPUCost      float64 `json:"gpu-cost,omitempty"`      // money per GPU and hour; 0: not known
	PrefillChunk int     `json:"prefill-chunk,omitempty"` // of its own server; 0: the common one
	Server       Server  `json:"server,omitzero"`         // what differs from the common server, where it is deployed
	Simulated    bool    `json:"-"`                       // its server is simulated: no GPU, any node
}

// UnmarshalJSON reads a name alone, or an object that describes the accelerator.
func (a *Accelerator) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		*a = Accelerator{}
		return json.Unmarshal(data, &a.Name)
	}
	type plain Accelerator // without this method
	return json.Unmarshal(data, (*plain)(a))
}

// Shape is a sweep.Shape that files write as 128/128.
type Shape struct {
	sweep.Shape `json:"-"` // the methods below write and read it
}

// MarshalJSON writes the shape as 128/128.
func (s Shape) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads 128/128.
func (s *Shape) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("shape %s: expected text such as 128/128", data)
	}
	shape, err := sweep.ParseShape(text)
	s.Shape = shape
	return err
}

// The lines of Argo Workflows. Objects for 3.7 hold nothing that came later or went, and
// are accepted from 3.6 on; 4.0 brought nothing that a sweep has a use for.
const (
	Argo37 = "3.7"
	Argo40 = "4.0"
	Argo41 = "4.1"
)

// ArgoLines are all of them.
func ArgoLines() []string { return []string{Argo37, Argo40, Argo41} }

// ConfigMap is where results go besides the artifact repository.
const ConfigMap = "configmap"

// The ways in which the load generator reaches the workflow.
const (
	Inline  = "inline"  // its template is in the workflow's own template
	Cluster = "cluster" // one ClusterWorkflowTemplate serves every namespace
)

// Defaults of a sweep in a cluster.
const (
	// DefaultGuidellmImage is the newest published image whose reports step reads.
	DefaultGuidellmImage = "ghcr.io/vllm-project/guidellm:v" + release.Newest
)

// Default is the configuration of a user who said nothing. It names no
// accelerators and no server: nobody else can.
func Default() Config {
	return Config{
		APIVersion:    APIVersion,
		Kind:          Kind,
		Model:         "unsloth/Meta-Llama-3.1-8B",
		Shapes:        []Shape{{sweep.Shape{PromptTokens: 128, OutputTokens: 128}}},
		BatchSizes:    []int{1, 2, 4, 8, 16, 32, 64},
		MaxSeconds:    120,
		Driver:        sweep.Guidellm,
		Method:        sweep.WLS,
		Name:          "llm-parameter-estimation",
		Namespace:     "default",
		Argo:          Argo37,
		GuidellmImage: DefaultGuidellmImage,
		HFSecretName:  "huggingface-secret",
		HFSecretKey:   "token",

		APIKeySecretKey: "api-key",
		MaxReplicas:     8,
		Retries:         2,
		WaitTimeout:     "40m",
		PendingTimeout:  "10m",
		LoadGenerator:   Inline,
		Engine:          engine.VLLM,
		Server:          defaultServer(),
	}
}

// InCluster fills in what has a usual value in a cluster alone: the image of step, the
// servers' names, and where a bucket is.
func (c Config) InCluster() Config {
	if c.StepImage == "" {
		c.StepImage = version.Image(c.ImageRegistry)
	}
	if c.TargetURL == "" {
		c.TargetURL = fmt.Sprintf("http://%s:%d", ServerName(c.Engine, "{accelerator}"), ServerPort)
	}
	if c.S3Bucket != "" && c.S3Endpoint == "" {
		c.S3Endpoint = "s3.amazonaws.com"
	}
	return c
}

// ServerName is the name of an accelerator's server outside a workflow, and of its Service.
func ServerName(engine, slug string) string { return engine + "-" + slug }

// SharesPod says whether the points of a shape, or of a round, are measured in one pod.
// Where nobody says, they do where it saves much (docs/precision.md): the native driver's
// points of a round, which are short.
func (c Config) SharesPod() bool {
	if c.SharePod != nil {
		return *c.SharePod
	}
	return c.Precision != "" && c.Driver == sweep.Native && c.LoadGenerator == Inline
}

// Sweep is what the configuration asks to measure. The targets are resolved:
// {accelerator} is replaced by the slug.
func (c Config) Sweep() sweep.Sweep {
	s := sweep.Sweep{
		Model:       c.Model,
		BatchSizes:  c.BatchSizes,
		MaxSeconds:  c.MaxSeconds,
		MaxRequests: c.MaxRequests,
		Driver:      c.Driver,

		ShareProcess: c.ShareProcess,
	}
	for _, shape := range c.Shapes {
		s.Shapes = append(s.Shapes, shape.Shape)
	}
	for _, a := range c.Accelerators {
		target := a.TargetURL
		if target == "" && !c.Deploy {
			target = c.TargetURL
		}
		s.Accelerators = append(s.Accelerators, sweep.Accelerator{
			Name:       a.Name,
			TargetURL:  strings.ReplaceAll(target, "{accelerator}", sweep.Slug(a.Name)),
			MaxNumSeqs: cmp.Or(a.MaxNumSeqs, c.MaxNumSeqs),
			GPUCost:    a.GPUCost,
			Count:      max(1, a.Count),
		})
	}
	return s
}
