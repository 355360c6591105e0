// Package configtest draws configurations for property tests.
package configtest

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/catalogue"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/engine"
)

// Draw is any valid configuration, ready for a cluster, with at most so many
// accelerators. One that Validate or ValidateCluster refuses is not drawn.
func Draw(most int) *rapid.Generator[config.Config] {
	return rapid.Custom(func(t *rapid.T) config.Config {
		c := config.Default()
		maybe := func(name string) bool { return rapid.Bool().Draw(t, name) }
		text := func(pattern, name string) string { return rapid.StringMatching(pattern).Draw(t, name) }

		// Names from which YAML, Argo or Kubernetes could make something else.
		c.Model = text(`[A-Za-z0-9]([ -z|~]{0,30}[!-z])?`, "model")
		c.Name = text(`[a-z]([a-z0-9-]{0,48}[a-z0-9])?`, "name")
		c.Namespace = text(`[a-z]([a-z0-9-]{0,60}[a-z0-9])?`, "namespace")
		c.CreateNamespace = maybe("create-namespace")

		n := rapid.IntRange(1, most).Draw(t, "accelerators")
		known := rapid.Permutation(catalogue.Names()).Draw(t, "known")
		for i := range n {
			var a config.Accelerator
			if i < len(known) && maybe("of the catalogue") {
				a.Name = known[i]
			} else {
				a.Name = fmt.Sprintf("%s%d", text(`[A-Za-z0-9]([A-Za-z0-9._-]{0,40}[A-Za-z0-9])?x`, "accelerator"), i)
				a.Resource = "example.com/gpu"
				a.NodeSelector = map[string]string{"example.com/product": a.Name}
			}
			if maybe("own target") {
				a.TargetURL = fmt.Sprintf("https://server-%d.%s:8443/v", i, text(`[a-z]{1,10}`, "domain"))
			}
			a.MaxNumSeqs = rapid.SampledFrom([]int{0, 4096}).Draw(t, "max-num-seqs")
			a.Count = rapid.IntRange(0, 8).Draw(t, "count")
			if maybe("own server") {
				a.Server = server(t)
			}
			c.Accelerators = append(c.Accelerators, a)
		}

		c.BatchSizes = rapid.SliceOfNDistinct(rapid.IntRange(1, 4096), 2, 20, rapid.ID).Draw(t, "batch-sizes")
		c.Shapes = nil
		for _, s := range rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) sweep.Shape {
			return sweep.Shape{PromptTokens: rapid.IntRange(1, 100_000).Draw(t, "prompt"), OutputTokens: rapid.IntRange(2, 10_000).Draw(t, "output")}
		}), 1, 16, rapid.ID).Draw(t, "shapes") {
			c.Shapes = append(c.Shapes, config.Shape{Shape: s})
		}
		c.MaxSeconds = rapid.IntRange(0, 86_400).Draw(t, "max-seconds")
		c.MaxRequests = rapid.IntRange(1, 1_000_000).Draw(t, "max-requests")
		c.Driver = rapid.SampledFrom([]string{sweep.Guidellm, sweep.Native}).Draw(t, "driver")
		c.Method = rapid.SampledFrom([]string{sweep.WLS, sweep.TwoPoint}).Draw(t, "method")
		if c.Method == sweep.WLS && maybe("precision") {
			c.Precision = rapid.SampledFrom([]string{"5%", "alpha=1%,beta=5%"}).Draw(t, "precision")
			c.MaxGPUMinutes = rapid.Float64Range(0, 1e6).Draw(t, "max-gpu-minutes")
		}
		if maybe("tokenizer") {
			c.Tokenizer = text(`[ -z|~]{0,30}`, "tokenizer")
		}

		drawAccess(t, &c)
		drawCapacity(t, &c)
		c.ParallelAccelerators = rapid.IntRange(0, 5).Draw(t, "parallel-accelerators")
		c.Retries = rapid.IntRange(0, 10).Draw(t, "retries")
		c.PendingTimeout = rapid.SampledFrom([]string{"0", "1m", "10m"}).Draw(t, "pending-timeout")
		if c.Driver == sweep.Guidellm && maybe("cluster") {
			c.LoadGenerator = config.Cluster
		}

		drawPlatform(t, &c)
		c.Engine = rapid.SampledFrom(engine.Names()).Draw(t, "engine")
		if c.Deploy = maybe("deploy"); c.Deploy && maybe("common server") {
			defaults := c.Server
			c.Server = server(t)
			c.Server.Image, c.Server.Command, c.Server.User = defaults.Image, defaults.Command, defaults.User
		}

		for i, a := range c.Accelerators {
			if c.Deploys(a) && a.Resource != "" && maybe("claim") {
				c.Accelerators[i].Resource, c.Accelerators[i].DeviceClass = "", "gpu.example.com"
				c.Accelerators[i].DeviceSelectors = rapid.SliceOfN(rapid.StringMatching(`[ -~]{1,40}x`), 0, 2).Draw(t, "device-selectors")
			}
		}
		c.Argo = rapid.SampledFrom([]string{config.Argo37, config.Argo40}).Draw(t, "argo")
		if c.Validate() != nil || c.ValidateCluster() != nil {
			t.Skip("not valid")
		}
		return c.InCluster()
	})
}

// server is any part of the settings of a server.
func server(t *rapid.T) config.Server {
	maybe := func(name string) bool { return rapid.Bool().Draw(t, name) }
	var s config.Server
	for _, f := range []struct {
		to   *string
		name string
		from []string
	}{
		{&s.Image, "image", []string{"vllm/vllm-openai:v0.32.0@sha256:" + strings.Repeat("0f", 32), "localhost:5000/vllm"}},
		{&s.ModelPath, "model-path", []string{"/cache/llama", "org/other"}},
		{&s.DType, "dtype", []string{"bfloat16"}},
		{&s.CPU, "cpu", []string{"500m", "16"}},
		{&s.Memory, "memory", []string{"1Gi", "64Gi"}},
		{&s.Shm, "shm", []string{"1Gi"}},
		{&s.CachePVC, "cache-pvc", []string{"models"}},
		{&s.CacheSize, "cache-size", []string{"10Gi"}},
		{&s.RuntimeClass, "runtime-class", []string{"nvidia"}},
		{&s.PriorityClass, "priority-class", []string{"calibration"}},
	} {
		if maybe(f.name) {
			*f.to = rapid.SampledFrom(f.from).Draw(t, f.name)
		}
	}
	if maybe("command") {
		s.Command = []string{"/step", "simulate"}
	}
	if maybe("args") {
		s.Args = rapid.SliceOfN(rapid.StringMatching(`--[a-z]{3,9}=[ -z|~]{0,12}`), 1, 3).Draw(t, "args")
	}
	if maybe("env") {
		s.Env = map[string]string{"VLLM_LOGGING_LEVEL": rapid.StringMatching(`[ -z|~]{0,12}`).Draw(t, "value"), "HOME": "/tmp/home"}
	}
	if maybe("tolerations") {
		s.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}, {Key: "a/b", Value: "c", Effect: corev1.TaintEffectNoSchedule}}[:rapid.IntRange(0, 2).Draw(t, "n")]
	}
	if maybe("affinity") {
		s.Affinity = map[string]any{"podAntiAffinity": map[string]any{}}
	}
	s.User = rapid.SampledFrom([]int64{0, 2000}).Draw(t, "user")
	return s
}

// drawAccess draws what the sweep may reach and when it runs: secrets, storage, account,
// schedules.
func drawAccess(t *rapid.T, c *config.Config) {
	maybe := func(name string) bool { return rapid.Bool().Draw(t, name) }
	text := func(pattern, name string) string { return rapid.StringMatching(pattern).Draw(t, name) }

	if maybe("api key") {
		c.APIKeySecretName = text(`[a-z]([a-z0-9.-]{0,10}[a-z0-9])?`, "api-key-secret-name")
	}
	if maybe("no hf secret") {
		c.HFSecretName = ""
	}
	if maybe("digest") {
		c.GuidellmImage += "@sha256:" + strings.Repeat("0f", 32)
	}
	switch rapid.SampledFrom([]string{"default", "repository", "bucket", "bucket with secret"}).Draw(t, "storage") {
	case "repository":
		c.ArtifactRepository = text(`[a-z]{1,10}(/[A-Za-z0-9_-]{1,10})?`, "artifact-repository")
	case "bucket with secret":
		c.S3Secret = "credentials"
		fallthrough
	case "bucket":
		c.S3Bucket = text(`[a-z0-9][a-z0-9-]{1,20}[a-z0-9]`, "s3-bucket")
		c.S3Endpoint = rapid.SampledFrom([]string{"", "http://minio:9000", "https://s3.example.com", "s3.example.com"}).Draw(t, "s3-endpoint")
		c.S3Region = rapid.SampledFrom([]string{"", "eu-central-1"}).Draw(t, "s3-region")
	}
	c.S3Prefix = rapid.SampledFrom([]string{"", "a", "a/b/", "/team-a/x.y"}).Draw(t, "s3-prefix")
	if maybe("service account") {
		c.ServiceAccount = text(`[a-z]([a-z0-9-]{0,20}[a-z0-9])?`, "service-account")
		c.ServiceAccountAnnotations = map[string]string{"eks.amazonaws.com/role-arn": text(`[ -~]{0,40}`, "annotation")}
	}
	if maybe("cron") {
		c.Cron = rapid.SliceOfN(rapid.SampledFrom([]string{"0 3 * * 0", "*/5 1,2 * * 1-5", "@daily"}), 1, 3).Draw(t, "schedules")
		c.Timezone = rapid.SampledFrom([]string{"", "UTC", "Europe/Zurich"}).Draw(t, "timezone")
	}
}

// drawCapacity draws what is told of servers besides their latency.
func drawCapacity(t *rapid.T, c *config.Config) {
	c.SLO = rapid.SampledFrom([]string{"", "ttft=250ms,p90.itl=20ms"}).Draw(t, "slo")
	c.PrefillChunk = rapid.SampledFrom([]int{0, 16_384}).Draw(t, "prefill-chunk")
	for i := range c.Accelerators {
		c.Accelerators[i].PrefillChunk = rapid.SampledFrom([]int{0, 8192}).Draw(t, "prefill-chunk of its own")
	}
}

// drawPlatform draws what a platform wants of the pods, and who is told.
func drawPlatform(t *rapid.T, c *config.Config) {
	maybe := func(name string) bool { return rapid.Bool().Draw(t, name) }
	text := func(pattern, name string) string { return rapid.StringMatching(pattern).Draw(t, name) }

	if maybe("notify") {
		c.NotifySecretName, c.ReportURL = "notifications", "https://argo.example.com/{run}"
		c.NotifyOn = []string{"end", "drift"}[:rapid.IntRange(0, 2).Draw(t, "events")]
	}
	if maybe("publish") {
		c.Publish, c.PublishFormats, c.ScaleTarget = config.ConfigMap, []string{"keda", "csv"}, "vllm-{accelerator}"
	}
	if maybe("drift") {
		c.DriftBand, c.FailOnDrift = "5%", maybe("fail-on-drift")
	}
	if maybe("platform") {
		c.PodLabels = map[string]string{"team": text(`[a-z0-9]{0,9}`, "label")}
		c.PodAnnotations = map[string]string{"a.b/c": text(`[ -z|~]{0,20}`, "annotation")}
		c.QueueName, c.PriorityClass, c.ImagePullSecrets = "queue", "calibration", []string{"registry", "other"}
		c.LoadGeneratorNodeSelector = map[string]string{"pool": "cpu"}
		c.LoadGeneratorTolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
		c.NetworkPolicy, c.NetworkPolicyPorts = true, []int{9000, 65535}
	}
}
