package stepcli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/aggregate"
	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/render"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

func renderCommand() *cli.Command {
	return &cli.Command{
		Name:      "render",
		Usage:     "write parameters in the format of a consumer",
		ArgsUsage: "PARAMETERS...",
		Description: `Reads parameters.json and summary.json files, or directories and s3:// prefixes
that hold some, and writes on stdout. A refused verdict among them is refused with
exit code 65.

Formats:
  variantautoscaling  the VariantAutoscaling of WVA v0.0.1 to v0.4.2: one model, any
                      number of accelerators
  inferno             model-data.json of the llm-inferno optimizer and control-loop from
                      2026-03 on; the values are also what WVA v0.5 and later learn by
                      itself. From iteration3, so it takes a summary.json of two shapes
                      or more; --shape says which tokens maxBatchSize is for
  router              peakPrefillThroughput (tokens/s) of the llm-d router and of KEDA's
                      token-aware scaling, one per accelerator, from TTFT at batch 1 of
                      the longest prompt, or of --shape; it should be one chunk long
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
			&cli.StringFlag{Name: "slo", Usage: "objectives, as `LIST` such as ttft=200ms,itl=20ms (see step capacity); for aibrix"},
			&cli.StringFlag{Name: "price", Usage: "money per replica and hour, as `PRICE` or A100=2.5,H100=4; for aibrix"},
			&cli.StringFlag{Name: "kv-tokens", Usage: "tokens that the KV cache of one replica holds, as `N` or A100=N,H100=N; otherwise as the measurements say; for dynamo"},
			&cli.StringFlag{Name: "scale-target", Usage: "`DEPLOYMENT` that is scaled"},
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
	in, _, err := aggregate.Load(c.Context, c.Args().Slice(), "", nil)
	if err != nil {
		return err
	}
	if len(in.Parameters) == 0 {
		return exit.Errorf(exit.Refused, "%s: no parameters found; make them with step aggregate", strings.Join(c.Args().Slice(), ", "))
	}
	// The same parameters may lie in a file of their own and in a summary.
	s := aggregate.Estimate(aggregate.Inputs{Parameters: in.Parameters, Joint: in.Joint}, aggregate.Options{})
	o.Joint = s.Joint
	for _, m := range in.Measurements {
		o.Points = append(o.Points, m.Measurement)
	}
	if len(o.SLOs) > 0 {
		prices, err := prices(c.String("price"))
		if err != nil {
			return exit.With(exit.Usage, fmt.Errorf("--price: %w", err))
		}
		o.Capacities = capacity.Of(s, capacity.Options{SLOs: o.SLOs, MaxNumSeqs: o.MaxBatch, Prices: prices}).Capacities
	}
	o.Note = func(text string) { fmt.Fprintln(c.App.ErrWriter, text) }
	text, err := render.Render(c.String("format"), s.Parameters, o)
	if err != nil {
		return err
	}
	_, err = c.App.Writer.Write(text)
	return err
}

// renderOptions reads the flags and reports every mistake among them.
func renderOptions(c *cli.Context) (render.Options, error) {
	o := render.Options{
		Name: c.String("name"), Namespace: c.String("namespace"), RunsOn: c.String("runs-on"), ScaleTarget: c.String("scale-target"),
	}
	var errs []error
	if !c.Args().Present() {
		errs = append(errs, errors.New("nothing to read: name parameters.json or summary.json files"))
	}
	var err error
	if o.MaxBatch, err = numbers(c.String("max-batch-size")); err != nil {
		errs = append(errs, fmt.Errorf("--max-batch-size: %w", err))
	}
	if o.Count, err = numbers(c.String("acc-count")); err != nil {
		errs = append(errs, fmt.Errorf("--acc-count: %w", err))
	}
	if o.KVTokens, err = numbers(c.String("kv-tokens")); err != nil {
		errs = append(errs, fmt.Errorf("--kv-tokens: %w", err))
	}
	if text := c.String("slo"); text != "" {
		if o.SLOs, err = slo.Parse(text); err != nil {
			errs = append(errs, fmt.Errorf("--slo: %w", err))
		}
	}
	if text := c.String("shape"); text != "" {
		shape, err := sweep.ParseShape(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--shape: %w", err))
		}
		o.Shape = &shape
	}
	if text := c.String("slo-class"); text != "" {
		name, key, found := strings.Cut(text, "/")
		if !found || name == "" || key == "" {
			errs = append(errs, fmt.Errorf("--slo-class: %q is not NAME/KEY", text))
		}
		o.SLOName, o.SLOKey = name, key
	}
	return o, errors.Join(errs...)
}

// numbers reads 4, or A100=4,H100=8; the number of all is under "".
func numbers(text string) (map[string]int, error) {
	found := map[string]int{}
	for _, part := range list(text) {
		name, value, named := strings.Cut(part, "=")
		if !named {
			name, value = "", part
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q: expected a number from 1 up, or ACCELERATOR=NUMBER", part)
		}
		found[name] = n
	}
	return found, nil
}
