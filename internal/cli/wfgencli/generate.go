package wfgencli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/estimate/render"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/engine"
	"wfgen.dev/internal/version"
	"wfgen.dev/templates"
)

// generateCommand is what wfgen does without a subcommand.
func generateCommand() *cli.Command {
	return &cli.Command{
		Name: "generate",
		Description: `Without a subcommand wfgen writes the Argo Workflows objects of the sweep. Every flag
has an environment variable: WFGEN_ and the flag's name, as in WFGEN_MODEL.

Examples:
  wfgen --accelerators A100,H100 | kubectl apply -f -
  wfgen --accelerators A100,H100 --target-url http://vllm-{accelerator}:8000 \
    --prompt-tokens 128,1024 --output-tokens 128 --cron '0 3 * * 0' --timezone Europe/Zurich \
    --format dir --output sweep && kubectl apply -k sweep --server-side
  wfgen init > sweep.yaml && wfgen --config sweep.yaml`,
		Flags:  append(sweepFlags(), clusterFlags()...),
		Action: generate,
	}
}

// repeated is a flag that can be given several times, whose values may hold commas; in
// an environment variable they are separated by semicolons.
type repeated []string

func (r *repeated) Set(text string) error {
	for part := range strings.SplitSeq(text, ";") {
		if part = strings.TrimSpace(part); part != "" {
			*r = append(*r, part)
		}
	}
	return nil
}

func (r *repeated) String() string { return strings.Join(*r, "; ") }

// clusterFlags say where and how the sweep runs in a cluster.
func clusterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "name", Usage: "`NAME` of the WorkflowTemplate and of what belongs to it", DefaultText: defaults.Name},
		&cli.StringFlag{Name: "namespace", Aliases: []string{"n"}, Usage: "of all objects", DefaultText: defaults.Namespace},
		&cli.StringFlag{Name: "argo", Usage: "`LINE` of Argo Workflows that the objects are for: " + strings.Join(config.ArgoLines(), ", ") + "; 4.1 ends pending pods by itself", DefaultText: defaults.Argo},
		&cli.BoolFlag{Name: "create-namespace", Usage: "write the Namespace too, enforcing Pod Security restricted"},
		&cli.StringFlag{Name: "step-image", Usage: "`IMAGE` of step", DefaultText: version.Image("")},
		&cli.StringFlag{Name: "image-registry", Usage: "`REGISTRY` that serves it, under the name REGISTRY/step:" + version.Version()},
		guidellmImageFlag(),
		&cli.StringFlag{Name: "hf-secret-name", Usage: "Secret with a Hugging Face token, which need not exist", DefaultText: defaults.HFSecretName},
		&cli.StringFlag{Name: "hf-secret-key", Usage: "key of the token in it", DefaultText: defaults.HFSecretKey},
		&cli.StringFlag{Name: "api-key-secret-name", Usage: "Secret with the servers' API key", DefaultText: "none"},
		&cli.StringFlag{Name: "api-key-secret-key", Usage: "key of the API key in it", DefaultText: defaults.APIKeySecretKey},
		&cli.StringFlag{Name: "service-account", Usage: "ServiceAccount of the pods", DefaultText: "the name"},
		&cli.StringFlag{Name: "artifact-repository", Usage: "`CONFIGMAP[/KEY]` of the artifact repository", DefaultText: "the namespace's"},
		&cli.StringFlag{Name: "s3-bucket", Usage: "bucket for the results instead"},
		&cli.StringFlag{Name: "s3-endpoint", Usage: "`HOST[:PORT]` of the object store; http:// in front for one without TLS", DefaultText: "s3.amazonaws.com"},
		&cli.StringFlag{Name: "s3-region", Usage: "region of the bucket"},
		&cli.StringFlag{Name: "s3-prefix", Usage: "put before every key of the results, whatever the repository"},
		&cli.StringFlag{Name: "s3-secret", Usage: "Secret with accessKey and secretKey", DefaultText: "the credentials of the ServiceAccount"},
		&cli.GenericFlag{Name: "cron", Value: &repeated{}, Usage: "`SCHEDULE` on which the sweep runs by itself, such as '0 3 * * 0'; repeatable"},
		&cli.StringFlag{Name: "timezone", Usage: "of the schedules, such as Europe/Zurich", DefaultText: "the controller's"},
		parallelAcceleratorsFlag(),
		retriesFlag(), waitTimeoutFlag(), sloFlag(), prefillChunkFlag(),
		&cli.StringFlag{Name: "pending-timeout", Usage: "`DURATION` that a pod may take to begin before it is ended with the reason; 0: as long as it takes", DefaultText: defaults.PendingTimeout},
		&cli.StringFlag{Name: "drift-band", Usage: "compare with the parameters that were accepted last, and tolerate this `CHANGE`, such as 5%"},
		&cli.BoolFlag{Name: "fail-on-drift", Usage: "end a run as failed when something moved beyond it"},
		&cli.StringFlag{Name: "notify-secret-name", Usage: "Secret whose keys slack, webhook and alertmanager hold URLs that are notified of how a run ended"},
		&cli.StringSliceFlag{Name: "notify-on", Usage: "`EVENTS` that they are notified of: end, failure, drift", DefaultText: "failure,drift"},
		&cli.StringFlag{Name: "report-url", Usage: "`URL` of the results, passed on to them and linked to in Argo's interface; {run} stands for the run's name"},
		&cli.GenericFlag{Name: "links", Value: &repeated{}, Usage: "`TEXT=URL` that Argo's interface shows as a link beside the workflow, such as docs=https://wiki.example.com/llm; {run} stands for the run's name; repeatable"},
		&cli.StringFlag{Name: "publish", Usage: "configmap: put the results into the ConfigMap NAME-results as well"},
		&cli.StringSliceFlag{Name: "publish-formats", Usage: "write the results for these consumers as well, a file each: `FORMATS` of step render, such as keda"},
		&cli.StringFlag{Name: "scale-target", Usage: "for these: `DEPLOYMENT` that is scaled; {accelerator} stands for the accelerator in lower case"},
		&cli.StringFlag{Name: "target-namespace", Usage: "for these: namespace of the objects", DefaultText: "that of the sweep"},
		&cli.StringFlag{Name: "prometheus-url", Usage: "for keda: `URL` of Prometheus", DefaultText: "http://prometheus.monitoring.svc:9090"},
		&cli.IntFlag{Name: "max-replicas", Usage: "for these: most replicas of a scaler", DefaultText: strconv.Itoa(defaults.MaxReplicas)},
		&cli.StringFlag{Name: "load-generator", Usage: "inline, or cluster for one ClusterWorkflowTemplate that serves all namespaces", DefaultText: defaults.LoadGenerator},
		sharePodFlag(),
		&cli.StringFlag{Name: "load-generator-cpu", Usage: "CPUs asked for by the pod that makes the load", DefaultText: "4 for guidellm, 0.1 and 0.006 for each request at once for native"},
		&cli.StringFlag{Name: "load-generator-memory", Usage: "memory asked for by it", DefaultText: "4Gi for guidellm, 512Mi for native"},
		&cli.GenericFlag{Name: "load-generator-node-selector", Value: &repeated{}, Usage: "`NAME=VALUE` of the nodes that the load is made on; repeatable"},
		&cli.GenericFlag{Name: "pod-labels", Value: &repeated{}, Usage: "`NAME=VALUE` on every pod, servers too; repeatable"},
		&cli.GenericFlag{Name: "pod-annotations", Value: &repeated{}, Usage: "`NAME=VALUE` on every pod, servers too; repeatable"},
		&cli.StringFlag{Name: "queue-name", Usage: "`QUEUE` of Kueue in the namespace, by which every pod is admitted"},
		&cli.StringFlag{Name: "priority-class", Usage: "PriorityClass of every pod"},
		&cli.StringSliceFlag{Name: "image-pull-secrets", Usage: "`SECRETS` with credentials of the images' registries"},
		&cli.BoolFlag{Name: "network-policy", Usage: "write NetworkPolicies that let the pods reach servers, object store, API server and DNS, and nothing else"},
		&cli.IntSliceFlag{Name: "network-policy-ports", Usage: "further TCP `PORTS` that they may reach, such as that of an artifact repository"},
		simulateFlag(),
		&cli.BoolFlag{Name: "deploy", Usage: "start a server on each accelerator that has no target-url of its own, and end it when it is measured"},
		&cli.StringFlag{Name: "engine", Usage: "kind of these servers: " + strings.Join(engine.Names(), " or "), DefaultText: defaults.Engine},
		&cli.StringFlag{Name: "server-image", Usage: "`IMAGE` of the engine, or of what takes its arguments; a digest is accepted", DefaultText: strings.Join(engine.Images(), " or ")},
		&cli.StringFlag{Name: "server-command", Usage: "`WORDS` of its command", DefaultText: "the engine's"},
		&cli.GenericFlag{Name: "server-args", Value: &repeated{}, Usage: "further `ARGUMENT` of the server, such as --gpu-memory-utilization=0.95; repeatable"},
		&cli.GenericFlag{Name: "server-env", Value: &repeated{}, Usage: "`NAME=VALUE` of its environment; repeatable"},
		&cli.StringFlag{Name: "server-model-path", Usage: "what it loads", DefaultText: "the model"},
		&cli.StringFlag{Name: "server-dtype", Usage: "type of the weights", DefaultText: defaults.Server.DType},
		&cli.StringFlag{Name: "server-cpu", Usage: "CPUs asked for", DefaultText: "3 for each GPU"},
		&cli.StringFlag{Name: "server-memory", Usage: "memory asked for", DefaultText: "12Gi for each GPU"},
		&cli.StringFlag{Name: "server-shm", Usage: "size of /dev/shm", DefaultText: defaults.Server.Shm},
		&cli.StringFlag{Name: "server-cache-pvc", Usage: "PersistentVolumeClaim that keeps models", DefaultText: "none: each server downloads its own"},
		&cli.StringFlag{Name: "server-cache-size", Usage: "the most that a model may take on the node's disk without it", DefaultText: defaults.Server.CacheSize},
		&cli.Int64Flag{Name: "server-user", Usage: "user `ID` that the server runs as", DefaultText: strconv.FormatInt(defaults.Server.User, 10)},
		&cli.StringFlag{Name: "server-runtime-class", Usage: "RuntimeClass of the server's pod, such as nvidia"},
		&cli.StringFlag{Name: "server-priority-class", Usage: "PriorityClass of the server's pod"},
		&cli.StringFlag{Name: "format", Value: "yaml", Usage: "yaml: one stream for kubectl apply -f -; dir: a file per object and kustomization.yaml"},
		&cli.PathFlag{Name: "output", Aliases: []string{"o"}, Usage: "`PATH` of the file (yaml; - or none: stdout) or of the directory (dir)"},
	}
}

func applyClusterFlags(c *cli.Context, cfg *config.Config) (mistakes []error) {
	for name, to := range map[string]*string{
		"name": &cfg.Name, "namespace": &cfg.Namespace, "step-image": &cfg.StepImage, "image-registry": &cfg.ImageRegistry, "guidellm-image": &cfg.GuidellmImage,
		"hf-secret-name": &cfg.HFSecretName, "hf-secret-key": &cfg.HFSecretKey,
		"api-key-secret-name": &cfg.APIKeySecretName, "api-key-secret-key": &cfg.APIKeySecretKey,
		"service-account": &cfg.ServiceAccount, "artifact-repository": &cfg.ArtifactRepository,
		"s3-bucket": &cfg.S3Bucket, "s3-endpoint": &cfg.S3Endpoint, "s3-region": &cfg.S3Region, "s3-prefix": &cfg.S3Prefix, "s3-secret": &cfg.S3Secret,
		"timezone": &cfg.Timezone, "argo": &cfg.Argo, "engine": &cfg.Engine, "wait-timeout": &cfg.WaitTimeout, "pending-timeout": &cfg.PendingTimeout, "load-generator": &cfg.LoadGenerator,
		"publish": &cfg.Publish, "scale-target": &cfg.ScaleTarget, "target-namespace": &cfg.TargetNamespace, "prometheus-url": &cfg.PrometheusURL,
		"load-generator-cpu": &cfg.LoadGeneratorCPU, "load-generator-memory": &cfg.LoadGeneratorMemory,
		"queue-name": &cfg.QueueName, "priority-class": &cfg.PriorityClass, "drift-band": &cfg.DriftBand,
		"notify-secret-name": &cfg.NotifySecretName, "report-url": &cfg.ReportURL,
	} {
		setString(c, name, to)
	}
	for name, to := range map[string]*map[string]string{
		"load-generator-node-selector": &cfg.LoadGeneratorNodeSelector, "links": &cfg.Links, "pod-labels": &cfg.PodLabels, "pod-annotations": &cfg.PodAnnotations,
	} {
		mistakes = append(mistakes, setPairs(c, name, to))
	}
	if c.IsSet("image-pull-secrets") {
		cfg.ImagePullSecrets = items(c.StringSlice("image-pull-secrets"))
	}
	if c.IsSet("publish-formats") {
		cfg.PublishFormats = items(c.StringSlice("publish-formats"))
	}
	setInt(c, "max-replicas", &cfg.MaxReplicas)
	if c.IsSet("notify-on") {
		cfg.NotifyOn = items(c.StringSlice("notify-on"))
	}
	if c.IsSet("fail-on-drift") {
		cfg.FailOnDrift = c.Bool("fail-on-drift")
	}
	if c.IsSet("network-policy") {
		cfg.NetworkPolicy = c.Bool("network-policy")
	}
	if c.IsSet("network-policy-ports") {
		cfg.NetworkPolicyPorts = c.IntSlice("network-policy-ports")
	}
	applySharePod(c, cfg)
	mistakes = append(mistakes, applyServerFlags(c, &cfg.Server))
	if c.IsSet("deploy") {
		cfg.Deploy = c.Bool("deploy")
	}
	setInt(c, "parallel-accelerators", &cfg.ParallelAccelerators)
	setInt(c, "retries", &cfg.Retries)
	if c.IsSet("create-namespace") {
		cfg.CreateNamespace = c.Bool("create-namespace")
	}
	if c.IsSet("cron") {
		cfg.Cron = *c.Generic("cron").(*repeated)
	}
	return mistakes
}

// applyServerFlags sets what all servers have in common. Tolerations, affinities and
// what differs between accelerators need a configuration file.
func applyServerFlags(c *cli.Context, s *config.Server) error {
	for name, to := range map[string]*string{
		"server-image": &s.Image, "server-model-path": &s.ModelPath, "server-dtype": &s.DType, "server-cpu": &s.CPU, "server-memory": &s.Memory,
		"server-shm": &s.Shm, "server-cache-pvc": &s.CachePVC, "server-cache-size": &s.CacheSize,
		"server-runtime-class": &s.RuntimeClass, "server-priority-class": &s.PriorityClass,
	} {
		setString(c, name, to)
	}
	if c.IsSet("server-command") {
		s.Command = strings.Fields(c.String("server-command"))
	}
	if c.IsSet("server-user") {
		s.User = c.Int64("server-user")
	}
	if c.IsSet("server-args") {
		s.Args = *c.Generic("server-args").(*repeated)
	}
	return setPairs(c, "server-env", &s.Env)
}

// setPairs reads NAME=VALUE, each occurrence one.
func setPairs(c *cli.Context, flag string, to *map[string]string) error {
	if !c.IsSet(flag) {
		return nil
	}
	var errs []error
	*to = map[string]string{}
	for _, text := range *c.Generic(flag).(*repeated) {
		name, value, found := strings.Cut(text, "=")
		if !found || name == "" {
			errs = append(errs, fmt.Errorf("%s: %q is not NAME=VALUE", flag, text))
			continue
		}
		(*to)[name] = value
	}
	return errors.Join(errs...)
}

func generate(c *cli.Context) error {
	if c.Args().Present() {
		return exit.Errorf(exit.Usage, "no command %q; see wfgen --help", c.Args().First())
	}
	return writeObjects(c, templates.Objects, func(cfg config.Config) string {
		return fmt.Sprintf("argo submit -n %s --from workflowtemplate/%s --watch", cfg.Namespace, cfg.Name)
	}, checkFormats)
}

// writeObjects writes the objects of the configuration; then says what to do when they are
// deployed, and checks are further mistakes.
func writeObjects(c *cli.Context, objects func(config.Config) []manifest.Object, then func(config.Config) string, checks ...func(config.Config) error) error {
	cfg, mistakes := readConfig(c)
	mistakes = append(mistakes, applyClusterFlags(c, &cfg)...)
	if c.Bool("simulate") {
		mistakes = append(mistakes, checkSimulate(c, cfg))
		cfg = cfg.SimulatedDefaults(func(field string) bool { return unset(c, field) }).SimulatedServers()
	}
	mistakes = append(mistakes, cfg.Validate(), cfg.ValidateCluster())
	for _, check := range checks {
		mistakes = append(mistakes, check(cfg))
	}
	format, output := c.String("format"), c.Path("output")
	switch {
	case format != "yaml" && format != "dir":
		mistakes = append(mistakes, fmt.Errorf("format: %q is neither yaml nor dir", format))
	case format == "dir" && (output == "" || output == "-"):
		mistakes = append(mistakes, errors.New("output: format dir needs a directory to write to"))
	}
	if err := usage(mistakes...); err != nil {
		return err
	}

	own := cfg.StepImage == "" && cfg.ImageRegistry == ""
	cfg = cfg.InCluster()
	files, err := written(cfg, objects(cfg))
	if err != nil {
		return err
	}
	if err := place(c, format, output, then(cfg), files); err != nil {
		return err
	}
	if c.Bool("simulate") {
		if err := writeTruths(c.App.ErrWriter, cfg); err != nil {
			return err
		}
	}
	if own && !version.Published() && bytes.Contains(stream(files), []byte(cfg.StepImage)) {
		fmt.Fprintln(c.App.ErrWriter, unpublished(cfg.StepImage))
	}
	return nil
}

// checkFormats refuses formats of consumers that could not be made at the end of a run.
func checkFormats(cfg config.Config) error {
	var errs []error
	for _, format := range cfg.PublishFormats {
		if err := render.Publishable(format); err != nil {
			errs = append(errs, fmt.Errorf("publish-formats: %w", err))
			continue
		}
		if !render.TakesCapacity(format) {
			continue
		}
		if cfg.SLO == "" {
			errs = append(errs, fmt.Errorf("publish-formats: %s is made of a capacity; say by slo within what", format))
		}
		if cfg.ScaleTarget == "" && (format == "keda" || format == "hpa") {
			errs = append(errs, fmt.Errorf("publish-formats: %s scales a Deployment; name it by scale-target", format))
		}
		if n := len(cfg.Accelerators); n > templates.MostEvidence {
			errs = append(errs, fmt.Errorf("publish-formats: %s is made of the capacities of %d accelerators, %d at most", format, n, templates.MostEvidence))
		}
	}
	return errors.Join(errs...)
}

// checkSimulate refuses what simulated servers make meaningless.
func checkSimulate(c *cli.Context, cfg config.Config) error {
	var errs []error
	if cfg.TargetURL != "" || slices.ContainsFunc(cfg.Accelerators, func(a config.Accelerator) bool { return a.TargetURL != "" }) {
		errs = append(errs, errors.New("simulate: the sweep starts its own servers; leave target-url out"))
	}
	for _, name := range c.LocalFlagNames() {
		if strings.HasPrefix(name, "server-") {
			errs = append(errs, fmt.Errorf("simulate: --%s is for servers that are not simulated; leave it out", name))
		}
	}
	return errors.Join(errs...)
}

// writeTruths says what simulated servers follow, to be held against what is estimated.
func writeTruths(w io.Writer, cfg config.Config) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "simulated\talpha\tbeta\tgamma\tdelta\t")
	for _, a := range cfg.Accelerators {
		truth := config.Truth(a.Name)
		fmt.Fprintf(t, "%s\t%.6g\t%.6g\t%.6g\t%.6g\t\n", a.Name, truth.Alpha, truth.Beta, truth.Gamma, truth.Delta)
	}
	return t.Flush()
}

// place writes the files where they are wanted, and says how to deploy them.
func place(c *cli.Context, format, output, then string, files []file) error {
	switch {
	case format == "dir":
		return writeDir(c, output, then, files)
	case output != "" && output != "-":
		if err := writeFile(output, stream(files)); err != nil {
			return err
		}
		fmt.Fprintf(c.App.ErrWriter, "wrote %s; deploy it with: kubectl apply --server-side -f %s\n", output, output)
		return nil
	default:
		for _, f := range files {
			if len(f.data) > lastApplied {
				fmt.Fprintf(c.App.ErrWriter, "%s is large: deploy it with kubectl apply --server-side\n", f.name)
			}
		}
		_, err := c.App.Writer.Write(stream(files))
		return err
	}
}

// unpublished says how a cluster gets the image of a version that is in no registry.
func unpublished(image string) string {
	build := "make images"
	if version.Version() == version.Unknown { // the Makefile knows the checkout's
		build += " VERSION=" + version.Unknown
	}
	return fmt.Sprintf("no registry serves %s: build it with %q, and load it into the nodes (hack/load-image for kind, k3d, minikube)\n"+
		"or push it to a registry of yours (docs/cluster.md) and say --image-registry or --step-image", image, build)
}

// lastApplied is about how large an object may be that kubectl applies without
// --server-side: it keeps a copy in an annotation, and those end at 256 KiB.
const lastApplied = 240 << 10

// file is an object as it is written.
type file struct {
	name    string
	data    []byte
	example bool
}

func written(cfg config.Config, objects []manifest.Object) ([]file, error) {
	var files []file
	for _, o := range objects {
		data, err := manifest.YAML(o.Value, o.Comments...)
		if errors.Is(err, manifest.ErrTooLarge) {
			return nil, exit.Errorf(exit.Usage, "%s is %w: give each part of the %d accelerators a sweep of its own name", o.File, err, len(cfg.Accelerators))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.File, err)
		}
		files = append(files, file{o.File, data, o.Example})
	}
	return files, nil
}

// stream is all that can be applied, as one YAML stream.
func stream(files []file) []byte {
	var out bytes.Buffer
	for _, f := range files {
		if !f.example {
			out.WriteString("---\n")
			out.Write(f.data)
		}
	}
	return out.Bytes()
}

// kustomization lists the files to apply, for kubectl apply -k.
type kustomization struct {
	APIVersion  string      `json:"apiVersion"`
	Kind        string      `json:"kind"`
	Resources   []string    `json:"resources"`
	SortOptions sortOptions `json:"sortOptions"`
}

// sortOptions keep the order of the resources. By itself kustomize puts a CronWorkflow
// before its WorkflowTemplate; Argo's controller then finds it invalid, and looks again
// only after 20 minutes.
type sortOptions struct {
	Order string `json:"order"`
}

func writeDir(c *cli.Context, dir, then string, files []file) error {
	k := kustomization{APIVersion: "kustomize.config.k8s.io/v1beta1", Kind: "Kustomization", SortOptions: sortOptions{Order: "fifo"}}
	for _, f := range files {
		if !f.example {
			k.Resources = append(k.Resources, f.name)
		}
	}
	data, err := manifest.YAML(k, manifest.Comment{Path: "apiVersion", Text: "kubectl apply -k . --server-side"})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	for _, f := range append(files, file{name: "kustomization.yaml", data: data}) {
		if err := writeFile(filepath.Join(dir, f.name), f.data); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.App.ErrWriter, "wrote %d files to %s; deploy them with: kubectl apply -k %s --server-side\nthen run: %s\n", len(files)+1, dir, dir, then)
	return nil
}

// writeFile writes a file whole or not at all.
func writeFile(path string, data []byte) error {
	if err := store.WriteFile(path, 0o644, bytes.NewReader(data)); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}
