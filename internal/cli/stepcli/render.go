package stepcli

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/aggregate"
	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/estimate/prefill"
	"wfgen.dev/internal/estimate/render"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

func renderCommand() *cli.Command {
	return &cli.Command{
		Name:      "render",
		Usage:     "write capacities or parameters in the format of a consumer",
		ArgsUsage: "CAPACITY|PARAMETERS...",
		Description: `Reads capacity.json, prefill.json, parameters.json and summary.json files, or directories
and s3:// prefixes that hold some, and writes on stdout. A refused verdict among them is
refused with exit code 65.

Formats of a capacity (step capacity --output), each by the safe end of its interval:
  keda                a ScaledObject: running and waiting requests per replica
  hpa                 a HorizontalPodAutoscaler: running requests per pod
  ray                 target_ongoing_requests and max_ongoing_requests of Ray Serve
  skyserve            target_qps_per_replica of SkyServe, by accelerator
  knative             annotations and containerConcurrency of Knative, and of KServe on it

Formats of a prefill record (step prefill):
  calibration         the llm-d router's calibration record (prefillCalibrationFile)
  keda-tokens         a token-aware ScaledObject: seconds of prefill in flight per replica,
                      within the ttft of --slo for prompts of --uncached-tokens

Formats of parameters:
  router              peakPrefillThroughput (tokens/s) of the llm-d router and of KEDA's
                      token-aware scaling, one per accelerator, from a prefill.json among the
                      inputs, or else from TTFT at batch 1 of the longest prompt, or of
                      --shape, which should be one chunk long. With a capacity.json also
                      maxConcurrency and maxTokenConcurrency of its saturation detector
  variantautoscaling  legacy: the VariantAutoscaling of WVA v0.0.1 to v0.4.2, which was
                      closed in 2026-09: one model, any number of accelerators
  inferno             legacy: model-data.json of the llm-inferno optimizer and control-loop
                      from 2026-03 on. From iteration3, so it takes a summary.json of two
                      shapes or more; --shape says which tokens maxBatchSize is for
  sim                 configuration of llm-d-inference-sim that replays one accelerator
                      at one shape, for versions that take durations such as 7030us
                      (those with latency-calculator); --max-batch-size is max-num-seqs
  planner             benchmarks to upload to llm-d-planner 0.3: one record for each measured
                      point, so it takes a run's directory, with measurements
  benchmark-report    Benchmark Report v0.2.1 (llm-d-benchmark), one YAML document per point
  aibrix              profile of one accelerator for the GPU optimizer of AIBrix 0.7, and for
                      Mélange: requests/s within --slo by output and input tokens
  dynamo              raw data of prefill and decode for the planner of Dynamo 1.6, of four
                      prompt lengths or more
  csv                 one row per model, accelerator and shape
  prometheus          gauges in text format, for a pushgateway or a textfile collector

Examples:
  step capacity runs/monday --slo itl=20ms --output runs/monday
  step render --format keda runs/monday/capacity.json --scale-target vllm-llama \
    --namespace llm | kubectl apply -f -
  step render --format variantautoscaling out/parameters.json | kubectl apply -f -
  step render --format variantautoscaling runs/monday/summary.json --shape 128/128 \
    --name llama --namespace llm --runs-on A100 --acc-count A100=1,H100=2`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Required: true, Usage: strings.Join(render.Formats(), ", ")},
			&cli.StringFlag{Name: "name", Usage: "name of the object; made of the model's name otherwise"},
			&cli.StringFlag{Name: "namespace", Usage: "namespace of the object"},
			&cli.StringFlag{Name: "max-batch-size", Usage: "the server's max-num-seqs, as `N` or A100=N,H100=N; the largest batch of the estimate otherwise"},
			&cli.StringFlag{Name: "acc-count", Usage: "GPUs of one replica, as `N` or A100=N,H100=N; 1 otherwise"},
			&cli.StringFlag{Name: "shape", Usage: "which `SHAPE` such as 128/128, where there are several"},
			&cli.StringFlag{Name: "runs-on", Usage: "`ACCELERATOR` that the variant runs on now, or that a file of one is for; needed where there are several"},
			&cli.StringFlag{Name: "slo", Usage: "objectives, as `LIST` such as ttft=200ms,itl=20ms (see step capacity), for aibrix and keda-tokens and, where there is no capacity.json, for its formats"},
			&cli.StringFlag{Name: "price", Usage: "money per replica and hour, as `PRICE` or A100=2.5,H100=4; for aibrix"},
			&cli.StringFlag{Name: "kv-tokens", Usage: "tokens that the KV cache of one replica holds, as `N` or A100=N,H100=N; otherwise as the measurements say; for dynamo"},
			&cli.IntFlag{Name: "uncached-tokens", Usage: "`TOKENS` of a usual prompt that the prefix cache does not hold; for keda-tokens"},
			&cli.StringFlag{Name: "scale-target", Usage: "`DEPLOYMENT` that is scaled; {accelerator} stands for the accelerator in lower case"},
			&cli.StringFlag{Name: "metrics", Value: "vllm", Usage: "keda, hpa: whose metrics count requests: " + strings.Join(render.Metrics(), ", ")},
			&cli.StringFlag{Name: "prometheus", Usage: "keda: `URL` of Prometheus", DefaultText: "http://prometheus.monitoring.svc:9090"},
			&cli.IntFlag{Name: "max-replicas", Value: 8, Usage: "most replicas of a scaler"},
			&cli.StringFlag{Name: "slo-class", Usage: "`NAME/KEY` of the ConfigMap with the service level objectives"},
		},
		Action: runRender,
	}
}

func runRender(c *cli.Context) error {
	o, err := renderOptions(c)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	paths, err := readRecords(c, &o)
	if err != nil {
		return err
	}
	o.Note = func(text string) { fmt.Fprintln(c.App.ErrWriter, text) }
	format := c.String("format")
	if render.TakesPrefill(format) {
		text, err := render.Prefill(format, o)
		if err != nil {
			return err
		}
		_, err = c.App.Writer.Write(text)
		return err
	}
	if render.TakesCapacity(format) && len(o.Capacities) > 0 {
		return writeCapacityFormat(c, o)
	}
	if len(paths) == 0 {
		return exit.Errorf(exit.Usage, "--format %s is made of parameters, and none are among the inputs", format)
	}
	in, _, err := aggregate.Load(c.Context, paths, "", nil)
	if err != nil {
		return err
	}
	if len(in.Parameters) == 0 {
		return exit.Errorf(exit.Refused, "%s: no parameters found; make them with step aggregate", strings.Join(c.Args().Slice(), ", "))
	}
	// The same parameters may lie in a file of their own and in a summary.
	s := aggregate.Estimate(aggregate.Inputs{Parameters: in.Parameters, Joint: in.Joint}, aggregate.Options{})
	names := parameters.Distinct(s.Parameters, func(p parameters.Parameters) string { return p.Accelerator })
	strangers(c, "max-batch-size", o.MaxBatch, names)
	strangers(c, "acc-count", o.Count, names)
	strangers(c, "kv-tokens", o.KVTokens, names)
	o.Joint = s.Joint
	for _, m := range in.Measurements {
		o.Points = append(o.Points, m.Measurement)
	}
	if len(o.SLOs) > 0 && len(o.Capacities) == 0 {
		prices, err := prices(c.String("price"))
		if err != nil {
			return exit.With(exit.Usage, fmt.Errorf("--price: %w", err))
		}
		o.Capacities = capacity.Of(s, capacity.Options{SLOs: o.SLOs, MaxNumSeqs: o.MaxBatch, Prices: prices, Spread: sweep.OutputSpread}).Capacities
	}
	if render.TakesCapacity(format) {
		return writeCapacityFormat(c, o)
	}
	text, err := render.Render(format, s.Parameters, o)
	if err != nil {
		return err
	}
	_, err = c.App.Writer.Write(text)
	return err
}

// writeCapacityFormat writes what is made of capacities.
func writeCapacityFormat(c *cli.Context, o render.Options) error {
	format := c.String("format")
	if len(o.Capacities) == 0 {
		return exit.Errorf(exit.Usage, "--format %s is made of a capacity.json, and none is among the inputs; make it with step capacity --output, or give --slo", format)
	}
	text, err := render.Capacity(format, o.Capacities, o)
	if err != nil {
		return err
	}
	_, err = c.App.Writer.Write(text)
	return err
}

// readRecords reads those of the arguments that are named capacity.json or prefill.json, or
// that hold such files, and returns the arguments that hold other things.
func readRecords(c *cli.Context, o *render.Options) (others []string, err error) {
	records := map[string]func(io.Reader, string) error{
		layout.Capacity: func(r io.Reader, name string) error {
			f, err := capacity.Decode(r, name)
			o.Capacities = append(o.Capacities, f.Capacities...)
			return err
		},
		layout.Prefill: func(r io.Reader, name string) error {
			p, err := prefill.Decode(r, name)
			o.Prefills = append(o.Prefills, p)
			return err
		},
	}
	for _, path := range c.Args().Slice() {
		alone := false
		for name, read := range records {
			file := path
			switch {
			case strings.HasSuffix(path, name):
				alone = true
			case strings.HasSuffix(path, ".json"):
				continue
			default:
				file = strings.TrimSuffix(path, "/") + "/" + name
			}
			r, err := store.OpenPath(c.Context, file)
			if err != nil {
				if file == path {
					return nil, err
				}
				continue // a directory need not hold one
			}
			if err = errors.Join(read(r, file), r.Close()); err != nil {
				return nil, err
			}
		}
		if !alone {
			others = append(others, path)
		}
	}
	return others, nil
}

// objectName is how Kubernetes names objects (RFC 1123, a subdomain).
var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// renderOptions reads the flags and reports every mistake among them.
func renderOptions(c *cli.Context) (render.Options, error) {
	o := render.Options{
		Name: c.String("name"), Namespace: c.String("namespace"), RunsOn: c.String("runs-on"), ScaleTarget: c.String("scale-target"),
		UncachedTokens: c.Int("uncached-tokens"), Metrics: c.String("metrics"), Prometheus: c.String("prometheus"), MostReplicas: c.Int("max-replicas"),
	}
	var errs []error
	if !c.Args().Present() {
		errs = append(errs, errors.New("nothing to read: name capacity.json, parameters.json or summary.json files"))
	}
	if !slices.Contains(render.Metrics(), o.Metrics) {
		errs = append(errs, fmt.Errorf("--metrics: %q is none of %s", o.Metrics, strings.Join(render.Metrics(), ", ")))
	}
	if o.MostReplicas < 1 {
		errs = append(errs, fmt.Errorf("--max-replicas: %d is below 1", o.MostReplicas))
	}
	o.MaxBatch = read(c, &errs, "max-batch-size", numbers)
	o.Count = read(c, &errs, "acc-count", numbers)
	o.KVTokens = read(c, &errs, "kv-tokens", numbers)
	if c.String("slo") != "" {
		o.SLOs = read(c, &errs, "slo", slo.Parse)
	}
	if c.String("shape") != "" {
		o.Shape = new(read(c, &errs, "shape", sweep.ParseShape))
	}
	if text := c.String("slo-class"); text != "" {
		name, key, found := strings.Cut(text, "/")
		if !found || name == "" || key == "" {
			errs = append(errs, fmt.Errorf("--slo-class: %q is not NAME/KEY", text))
		}
		o.SLOName, o.SLOKey = name, key
	}
	for _, n := range []struct{ flag, name string }{
		{"name", o.Name}, {"namespace", o.Namespace}, {"scale-target", strings.ReplaceAll(o.ScaleTarget, "{accelerator}", "a")}, {"slo-class", o.SLOName},
	} {
		if n.name != "" && !objectName.MatchString(n.name) {
			errs = append(errs, fmt.Errorf("--%s: %q is not a Kubernetes name: lower case letters, digits, dashes and dots", n.flag, n.name))
		}
	}
	return o, errors.Join(errs...)
}
