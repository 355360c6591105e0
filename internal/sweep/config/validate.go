package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // time zones are judged the same where the system has none

	"github.com/robfig/cron/v3"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/catalogue"
	"wfgen.dev/internal/sweep/engine"
	"wfgen.dev/internal/sweep/precision"
	"wfgen.dev/internal/sweep/slo"
	"wfgen.dev/internal/version"
)

// mistakes collects what is wrong; the zero value is ready.
type mistakes []error

func (m *mistakes) add(format string, args ...any) { *m = append(*m, fmt.Errorf(format, args...)) }

// Validate returns every mistake of the sweep, joined, or nil. It judges what
// running the sweep anywhere needs; ValidateCluster judges the rest.
func (c Config) Validate() error {
	var m mistakes
	if err := c.Sweep().Validate(); err != nil {
		m = append(m, err)
	}
	if c.Model != strings.TrimSpace(c.Model) || strings.ContainsAny(c.Model, "\n\t") {
		m.add("model: %q has white space around or within it", c.Model)
	}
	c.checkTarget(&m, "target-url", c.TargetURL)
	if c.MaxNumSeqs < 0 {
		m.add("max-num-seqs: %d is negative; 0 says that it is not known", c.MaxNumSeqs)
	}
	if c.PrefillChunk < 0 || c.PrefillChunk > sweep.MostTokens {
		m.add("prefill-chunk: %d is not a number of tokens up to %d; 0 measures no prefill rate", c.PrefillChunk, sweep.MostTokens)
	}
	if c.SLO != "" {
		if _, err := slo.Parse(c.SLO); err != nil {
			m.add("slo: %v", err)
		}
	}
	if c.Method != sweep.WLS && c.Method != sweep.TwoPoint {
		m.add("method: %q is neither %s nor %s", c.Method, sweep.WLS, sweep.TwoPoint)
	}
	c.checkPrecision(&m)
	c.checkLengths(&m)
	if c.Method == sweep.TwoPoint && len(c.BatchSizes) == 1 {
		m.add("method: two-point needs two batch sizes, found %d alone", c.BatchSizes[0])
	}
	if c.Retries < 0 || c.Retries > 10 {
		m.add("retries: %d is not between 0 and 10", c.Retries)
	}
	if d, err := time.ParseDuration(c.WaitTimeout); err != nil || d < time.Second {
		m.add("wait-timeout: %q is not a duration of a second or more, such as 40m", c.WaitTimeout)
	}
	if d, err := time.ParseDuration(c.PendingTimeout); err != nil || d < 0 || d > 0 && d < time.Minute {
		m.add("pending-timeout: %q is neither a duration of a minute or more, such as 10m, nor 0", c.PendingTimeout)
	}
	for _, a := range c.Accelerators {
		if why := validation.IsValidLabelValue(a.Name); len(why) > 0 {
			m.add("accelerators: %q cannot be the value of the label by which the autoscaler finds it: "+
				"at most 63 letters, digits, dashes, dots and underscores, a letter or digit at both ends", a.Name)
		}
		c.checkTarget(&m, "accelerators: target-url of "+a.Name, a.TargetURL)
		if a.Count < 0 {
			m.add("accelerators: count %d of %s is negative", a.Count, a.Name)
		}
		if a.MaxNumSeqs < 0 {
			m.add("accelerators: max-num-seqs %d of %s is negative", a.MaxNumSeqs, a.Name)
		}
		if a.PrefillChunk < 0 || a.PrefillChunk > sweep.MostTokens {
			m.add("accelerators: prefill-chunk %d of %s is not a number of tokens up to %d", a.PrefillChunk, a.Name, sweep.MostTokens)
		}
		if a.GPUCost < 0 {
			m.add("accelerators: gpu-cost %g of %s is negative", a.GPUCost, a.Name)
		}
	}
	if len(m) == 0 { // a target that is wrong has been said to be
		c.checkServersDiffer(&m)
	}
	return errors.Join(m...)
}

// checkLengths refuses shapes that the servers do not take.
func (c Config) checkLengths(m *mistakes) {
	if c.MaxModelLen < 0 {
		m.add("max-model-len: %d is negative", c.MaxModelLen)
	}
	for _, s := range c.Shapes {
		if need := s.PromptTokens + s.OutputTokens; c.MaxModelLen > 0 && need > c.MaxModelLen {
			m.add("shapes: %s needs %d tokens, above max-model-len %d; leave it out, or start the servers with more", s, need, c.MaxModelLen)
		}
	}
}

// checkPrecision refuses what does not go with rounds of points.
func (c Config) checkPrecision(m *mistakes) {
	if !(c.MaxGPUMinutes >= 0) || math.IsInf(c.MaxGPUMinutes, 1) {
		m.add("max-gpu-minutes: %v is not a number from 0 up", c.MaxGPUMinutes)
	}
	if c.Precision == "" {
		if c.MaxGPUMinutes > 0 {
			m.add("max-gpu-minutes: bounds a sweep that is asked for a precision; give precision, such as 5%%")
		}
		return
	}
	goals, err := precision.Parse(c.Precision)
	if err != nil {
		m.add("precision: %v", err)
	}
	if goals.Wants(precision.Capacity) && c.SLO == "" {
		m.add("precision: a capacity is one within objectives; give slo")
	}
	if c.Method == sweep.TwoPoint {
		m.add("precision: the method two-point has no intervals that could be narrow; leave method out")
	}
	if len(c.BatchSizes) == 1 {
		m.add("precision: one batch size tells no line; give batch-sizes of two or more")
	}
	if c.ShareProcess {
		m.add("precision: its points differ in length, and cannot share a process; leave share-process out")
	}
}

// checkServersDiffer refuses one server for two accelerators: it has one GPU type,
// and its numbers would be given to the other as well.
func (c Config) checkServersDiffer(m *mistakes) {
	of := map[string]string{}
	for _, a := range c.Sweep().Accelerators {
		if other, taken := of[a.TargetURL]; taken && a.TargetURL != "" && other != a.Name {
			m.add("target-url: %s and %s would both be measured on %s; put {accelerator} into it, or give NAME=URL for each", other, a.Name, a.TargetURL)
		} else {
			of[a.TargetURL] = a.Name
		}
	}
}

func (c Config) checkTarget(m *mistakes, field, target string) {
	if target == "" {
		return
	}
	u, err := url.Parse(strings.ReplaceAll(target, "{accelerator}", "a"))
	switch {
	case err != nil && strings.Contains(target, "@"): // not repeated: it may hold a password
		m.add("%s: not a URL; expected http://host:port or https://host", field)
	case err != nil:
		m.add("%s: %q is not a URL; expected http://host:port or https://host", field, target)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		m.add("%s: %q: expected http://host:port or https://host", field, target)
	case u.User != nil:
		m.add("%s: %q holds a password, which would be readable in every object and log; use api-key-secret-name", field, redact.Text(target))
	case u.RawQuery != "" || u.Fragment != "":
		m.add("%s: %q: give the server's address without a query or fragment", field, target)
	}
}

// ValidateCluster returns every mistake of what a cluster needs beyond the sweep,
// joined, or nil.
func (c Config) ValidateCluster() error {
	var m mistakes
	// Workflows, and pods after them, append to the name; a label holds 63 characters.
	checkName(&m, "name", c.Name, 50)
	checkName(&m, "namespace", c.Namespace, 63)
	for _, n := range []struct{ field, name string }{
		{"service-account", c.ServiceAccount}, {"hf-secret-name", c.HFSecretName},
		{"api-key-secret-name", c.APIKeySecretName}, {"s3-secret", c.S3Secret}, {"notify-secret-name", c.NotifySecretName},
	} {
		if n.name != "" && len(validation.IsDNS1123Subdomain(n.name)) > 0 {
			m.add("%s: %q is not a Kubernetes name: lower case letters, digits, dashes and dots", n.field, n.name)
		}
	}
	for _, k := range []struct{ field, of, key string }{
		{"hf-secret-key", c.HFSecretName, c.HFSecretKey}, {"api-key-secret-key", c.APIKeySecretName, c.APIKeySecretKey},
	} {
		if k.of != "" && len(validation.IsConfigMapKey(k.key)) > 0 {
			m.add("%s: %q is not a key of a Secret: letters, digits, dashes, dots and underscores", k.field, k.key)
		}
	}
	if c.StepImage != "" {
		checkImage(&m, "step-image", c.StepImage)
	}
	if c.ImageRegistry != "" && !image.MatchString(version.Image(c.ImageRegistry)) {
		m.add("image-registry: %q is not a registry, such as registry.example.com/team", c.ImageRegistry)
	}
	checkImage(&m, "guidellm-image", c.GuidellmImage)
	c.checkAccelerators(&m)
	if !slices.Contains(ArgoLines(), c.Argo) {
		m.add("argo: %q is none of %s", c.Argo, strings.Join(ArgoLines(), ", "))
	}
	if _, known := engine.Find(c.Engine); !known {
		m.add("engine: %q is none of %s", c.Engine, strings.Join(engine.Names(), ", "))
	}
	c.checkServers(&m)
	c.checkStorage(&m)
	c.checkCron(&m)
	if c.DriftBand != "" {
		if _, err := sweep.ParseShare(c.DriftBand); err != nil {
			m.add("drift-band: %w", err)
		}
	} else if c.FailOnDrift {
		m.add("fail-on-drift: there is no drift-band to go with it")
	}
	c.checkNotifications(&m)
	c.checkPublish(&m)
	if c.ParallelAccelerators < 0 {
		m.add("parallel-accelerators: %d is negative; 0 measures all side by side", c.ParallelAccelerators)
	}
	if c.LoadGenerator != Inline && c.LoadGenerator != Cluster {
		m.add("load-generator: %q is neither %s nor %s", c.LoadGenerator, Inline, Cluster)
	}
	if c.LoadGenerator == Cluster && c.Driver == sweep.Native {
		m.add("load-generator: cluster is the shared guidellm; the native driver is part of step: use inline")
	}
	if c.SharesPod() && c.LoadGenerator == Cluster {
		m.add("share-pod: the shared load generator measures one point in a pod; use load-generator: inline, or leave share-pod out")
	}
	checkQuantity(&m, "load-generator-cpu", c.LoadGeneratorCPU)
	checkQuantity(&m, "load-generator-memory", c.LoadGeneratorMemory)
	c.checkPods(&m)
	c.checkTemplating(&m)
	return errors.Join(m...)
}

func checkName(m *mistakes, field, name string, most int) {
	if len(validation.IsDNS1123Label(name)) > 0 {
		m.add("%s: %q is not a Kubernetes name: lower case letters, digits and dashes, a letter or digit at both ends", field, name)
	} else if len(name) > most {
		m.add("%s: %q has %d characters, %d at most", field, name, len(name), most)
	}
}

// image is what container runtimes accept as a reference: a host or path in lower
// case, a tag, a digest.
var image = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$`)

func checkImage(m *mistakes, field, name string) {
	if !image.MatchString(name) {
		m.add("%s: %q is not an image, such as registry/path:tag or registry/path@sha256:…", field, name)
	}
}

func checkQuantity(m *mistakes, field, value string) {
	if value == "" {
		return
	}
	if q, err := resource.ParseQuantity(value); err != nil || q.Sign() <= 0 {
		m.add("%s: %q is not a positive quantity such as 4 or 4Gi", field, value)
	}
}

// TakenNames are what a workflow calls its own tasks, in which an accelerator has one of
// its name too.
var TakenNames = []string{"start", "guard", "not-started", "summary"}

func (c Config) checkAccelerators(m *mistakes) {
	for _, a := range c.Accelerators {
		if slug := sweep.Slug(a.Name); slices.Contains(TakenNames, slug) {
			m.add("accelerators: %s would be called %q in the cluster, which is what the sweep calls a part of its own; rename it", a.Name, slug)
		}
		if a.Resource != "" && len(validation.IsQualifiedName(a.Resource)) > 0 {
			m.add("accelerators: resource %q of %s is not the name of a resource, such as nvidia.com/gpu", a.Resource, a.Name)
		}
		for _, key := range sortedKeys(a.NodeSelector) {
			value := a.NodeSelector[key]
			if len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
				m.add("accelerators: node-selector %s=%s of %s is not a node label", key, value, a.Name)
			}
		}
		c.checkDevice(m, a)
		if _, known := catalogue.Find(a.Name); known || a.Name == "" || a.Simulated || a.DeviceClass != "" || len(a.NodeSelector) > 0 && a.Resource != "" {
			continue
		}
		if near := catalogue.Nearest(a.Name); near != "" {
			m.add("accelerators: %s is not in the catalogue; did you mean %s? Otherwise describe it in the configuration with resource and node-selector", a.Name, near)
		} else {
			m.add("accelerators: %s is not in the catalogue (%s); describe it in the configuration with resource and node-selector",
				a.Name, strings.Join(catalogue.Names(), ", "))
		}
	}
}

// checkDevice judges the claim of an accelerator.
func (c Config) checkDevice(m *mistakes, a Accelerator) {
	at := "accelerators: device-class of " + a.Name
	switch {
	case a.DeviceClass == "" && len(a.DeviceSelectors) > 0:
		m.add("accelerators: device-selectors of %s have no device-class to go with them", a.Name)
	case a.DeviceClass == "":
	case len(validation.IsDNS1123Subdomain(a.DeviceClass)) > 0:
		m.add("%s: %q is not the name of a DeviceClass, such as gpu.nvidia.com", at, a.DeviceClass)
	case a.Resource != "":
		m.add("%s: a pod asks for the GPU by it or by resource %s; give one of them", at, a.Resource)
	case !c.Deploys(a):
		m.add("%s: nothing is claimed for a server that is there; it goes with deploy", at)
	}
	for _, expression := range a.DeviceSelectors {
		if strings.TrimSpace(expression) == "" {
			m.add("accelerators: device-selectors of %s: one is empty; give CEL such as device.attributes[\"gpu.nvidia.com\"].productName == \"NVIDIA H100 80GB HBM3\"", a.Name)
		}
	}
	for _, other := range c.Accelerators {
		if other.Name == a.Name {
			break
		}
		if a.DeviceClass != "" && a.DeviceClass == other.DeviceClass && slices.Equal(a.DeviceSelectors, other.DeviceSelectors) && maps.Equal(a.NodeSelector, other.NodeSelector) {
			m.add("%s: %s claims the same devices; tell them apart by device-selectors or node-selector", at, other.Name)
		}
	}
}

// Repository splits an artifact repository's reference into ConfigMap and key.
func (c Config) Repository() (configMap, key string) {
	configMap, key, _ = strings.Cut(c.ArtifactRepository, "/")
	return configMap, key
}

func (c Config) checkStorage(m *mistakes) {
	if c.ArtifactRepository != "" {
		configMap, key := c.Repository()
		if len(validation.IsDNS1123Subdomain(configMap)) > 0 || key != "" && len(validation.IsConfigMapKey(key)) > 0 {
			m.add("artifact-repository: %q is not the name of a ConfigMap, or ConfigMap/key", c.ArtifactRepository)
		}
		if c.S3Bucket != "" {
			m.add("artifact-repository, s3-bucket: give one of them, not both: results have one place")
		}
	}
	if c.S3Bucket == "" {
		for _, f := range []struct{ field, value string }{{"s3-endpoint", c.S3Endpoint}, {"s3-region", c.S3Region}, {"s3-secret", c.S3Secret}} {
			if f.value != "" {
				m.add("%s: %q has no s3-bucket to go with it", f.field, f.value)
			}
		}
	} else if !bucket.MatchString(c.S3Bucket) {
		m.add("s3-bucket: %q is not the name of a bucket: 3 to 63 lower case letters, digits, dots and dashes", c.S3Bucket)
	}
	if c.S3Endpoint != "" {
		u, err := url.Parse("https://" + strings.TrimPrefix(strings.TrimPrefix(c.S3Endpoint, "http://"), "https://"))
		if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
			m.add("s3-endpoint: %q is not host or host:port, with http:// in front for one without TLS", c.S3Endpoint)
		}
	}
	if !prefix.MatchString(c.S3Prefix) {
		m.add("s3-prefix: %q is not a path of letters, digits, dots, dashes and underscores", c.S3Prefix)
	}
	if c.S3Region != "" && len(validation.IsDNS1123Label(c.S3Region)) > 0 {
		m.add("s3-region: %q is not a region, such as eu-central-1", c.S3Region)
	}
}

var (
	bucket = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefix = regexp.MustCompile(`^/?([A-Za-z0-9_-][A-Za-z0-9._-]*/?)*$`)
)

func (c Config) checkCron(m *mistakes) {
	for _, schedule := range c.Cron {
		if strings.Contains(schedule, "TZ=") {
			m.add("cron: %q sets a time zone; use timezone", schedule)
		} else if _, err := cron.ParseStandard(schedule); err != nil {
			m.add("cron: %q is not a schedule of five fields, such as \"0 3 * * 0\" for Sundays at 3: %v", schedule, err)
		}
	}
	if c.Timezone == "" {
		return
	}
	if len(c.Cron) == 0 {
		m.add("timezone: %s has no cron schedule to go with it", c.Timezone)
	}
	if _, err := time.LoadLocation(c.Timezone); err != nil || c.Timezone == "Local" {
		m.add("timezone: %q is not known; expected a name such as Europe/Zurich or UTC", c.Timezone)
	}
}

// Events that somebody can be told of.
var events = []string{"end", "failure", "drift"}

func (c Config) checkNotifications(m *mistakes) {
	for _, e := range c.NotifyOn {
		if !slices.Contains(events, e) {
			m.add("notify-on: %q is none of %s", e, strings.Join(events, ", "))
		}
	}
	if c.NotifySecretName == "" {
		if len(c.NotifyOn) > 0 {
			m.add("notify-on: there is no notify-secret-name to go with it")
		}
	}
	if !linkable(c.ReportURL) && c.ReportURL != "" {
		m.add("report-url: %q is not a URL such as https://argo.example.com/workflows/calibration/{run}", redact.Text(c.ReportURL))
	}
	for _, name := range sortedKeys(c.Links) {
		if name == "" || strings.ContainsAny(name, "[]()<>`\\") || !redact.Plain(name) {
			m.add("links: %q is no text of a link", redact.Text(name))
		}
		if !linkable(c.Links[name]) {
			m.add("links: %s: %q is not a URL such as https://grafana.example.com/d/llm?var-run={run}", redact.Text(name), redact.Text(c.Links[name]))
		}
	}
}

// linkable says whether a text, {run} in it filled in, is a URL that a page may link to.
func linkable(text string) bool {
	u, err := url.Parse(strings.ReplaceAll(text, "{run}", "run"))
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && !strings.ContainsAny(text, " ()<>")
}

func (c Config) checkPublish(m *mistakes) {
	if c.Publish != "" && c.Publish != ConfigMap {
		m.add("publish: %q is not %s", c.Publish, ConfigMap)
	}
	if len(c.PublishFormats) == 0 {
		for _, f := range []struct{ field, value string }{{"scale-target", c.ScaleTarget}, {"target-namespace", c.TargetNamespace}, {"prometheus-url", c.PrometheusURL}} {
			if f.value != "" {
				m.add("%s: there are no publish-formats to go with it", f.field)
			}
		}
	}
	if name := strings.ReplaceAll(c.ScaleTarget, "{accelerator}", "a"); name != "" && len(validation.IsDNS1123Subdomain(name)) > 0 {
		m.add("scale-target: %q is not the name of a Deployment; {accelerator} stands for the accelerator", c.ScaleTarget)
	}
	if c.TargetNamespace != "" {
		checkName(m, "target-namespace", c.TargetNamespace, 63)
	}
	c.checkTarget(m, "prometheus-url", c.PrometheusURL)
	if c.MaxReplicas < 1 {
		m.add("max-replicas: %d is below 1", c.MaxReplicas)
	}
}

// interpreted says what would be made of a value that is not taken as it stands: Argo
// fills in {{…}}, and the kubelet $(…), from all of a container's variables; a line break
// ends what it stands in.
func interpreted(value string) string {
	switch {
	case strings.Contains(value, "{{"), strings.Contains(value, "}}"):
		return "holds {{ or }}, which Argo would replace"
	case strings.Contains(value, "$("):
		return "holds $(, which Kubernetes would replace by a variable of the container"
	case !redact.Plain(value):
		return "holds a line break or another control character"
	}
	return ""
}

// checkTemplating refuses what others would interpret.
func (c Config) checkTemplating(m *mistakes) {
	check := func(field, value string) {
		if why := interpreted(value); why != "" {
			m.add("%s: %q %s", field, redact.Text(value), why)
		}
	}
	open := func(field, value string) { // readable in every object
		check(field, value)
		if redact.Text(value) != value {
			m.add("%s: %q holds a password or a token, which would be readable in every object and log", field, redact.Text(value))
		}
	}
	open("model", c.Model)
	if strings.HasPrefix(c.Model, "-") {
		m.add("model: %q begins with a dash, and a server would take it for an argument", c.Model)
	}
	check("target-url", c.TargetURL)
	open("tokenizer", c.Tokenizer)
	open("report-url", c.ReportURL)
	for _, name := range sortedKeys(c.Links) {
		check("links", name)
		open("links: "+name, c.Links[name])
	}
	check("prometheus-url", c.PrometheusURL)
	for _, a := range c.Accelerators {
		check("accelerators: target-url of "+a.Name, a.TargetURL)
	}
	for _, key := range sortedKeys(c.PodAnnotations) {
		open("pod-annotations: "+key, c.PodAnnotations[key])
	}
	for _, key := range sortedKeys(c.ServiceAccountAnnotations) {
		if len(validation.IsQualifiedName(key)) > 0 {
			m.add("service-account-annotations: %q is not the key of an annotation", key)
		}
	}
}

func sortedKeys(labels map[string]string) []string { return slices.Sorted(maps.Keys(labels)) }
