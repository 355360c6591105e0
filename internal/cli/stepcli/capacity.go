package stepcli

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/aggregate"
	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
)

func capacityCommand() *cli.Command {
	return &cli.Command{
		Name:      "capacity",
		Usage:     "say what one replica can handle within objectives, and what that costs",
		ArgsUsage: "PATH...",
		Description: `Reads parameters, summaries and measurements, in any mixture, from files,
directories and s3:// prefixes, and prints for every accelerator and shape the largest
rate of requests, arriving at random, at which all objectives hold, with 95 % intervals.
With --traffic it also prints how many replicas of each handle that, the cheapest first.

An objective is METRIC=TIME or STATISTIC.METRIC=TIME, several are separated by commas:
  ttft   from a request's arrival to its first token
  itl    between tokens: the mean over a request's own gaps
  e2e    from a request's arrival to its last token
  mean (otherwise), p50, p90, p95, p99 over requests

Open loops among the inputs (step bench --rate with the same --slo, raw reports) check the
claim: one that they contradict is lowered to what was attained, or refused.

Nothing is claimed beyond the most requests in flight that were measured, nor beyond 95 %
of the rate at which the server saturates. docs/capacity.md says how the numbers are made
and how right they are. Exits with 65 when no objectives can be met by any accelerator.

Examples:
  step capacity runs/monday/summary.json --slo ttft=250ms,itl=20ms
  step capacity out/parameters.json --slo p90.ttft=400ms,itl=20ms --max-num-seqs 256 \
    --price A100=2.5
  step capacity s3://results/runs/7 --slo itl=20ms --price A100=2.5,H100=5 --traffic 40 \
    --mix 128/128=0.7,1024/256=0.3 --output s3://results/runs/7`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "slo", Required: true, Usage: "objectives, as `LIST` such as ttft=250ms,p90.itl=20ms"},
			&cli.StringFlag{Name: "max-num-seqs", Usage: "requests that the server runs at once, as `N` or A100=N,H100=N; otherwise as the server's arguments in the parameters say, or the largest batch measured"},
			&cli.StringFlag{Name: "max-num-batched-tokens", Usage: "tokens of an iteration of the server, as `N` or A100=N,H100=N; otherwise as its arguments say, or " + strconv.Itoa(capacity.DefaultChunk)},
			&cli.StringFlag{Name: "price", Usage: "money per hour of one replica, as `PRICE` or A100=2.5,H100=5"},
			&cli.Float64Flag{Name: "traffic", Usage: "`REQUESTS` per second that a fleet has to handle"},
			&cli.StringFlag{Name: "mix", Usage: "shapes of that traffic and their shares, as `LIST` such as 128/128=0.7,1024/256=0.3; the objectives are over all of it"},
			&cli.Float64Flag{Name: "output-spread", Value: sweep.OutputSpread, Usage: "`FRACTION` by which answers differ in length"},
			&cli.BoolFlag{Name: "json", Usage: "print capacity.json rather than a table"},
			&cli.StringFlag{Name: "output", Usage: "directory or s3://bucket/prefix that gets capacity.json and outputs/"},
		},
		Action: runCapacity,
	}
}

func runCapacity(c *cli.Context) error {
	o, err := capacityOptions(c)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	s, measured, err := summaryOf(c, c.Args().Slice(), nil, o.SLOs)
	if err != nil {
		return err
	}
	names := parameters.Distinct(s.Parameters, func(p parameters.Parameters) string { return p.Accelerator })
	strangers(c, "price", o.Prices, names)
	strangers(c, "max-num-seqs", o.MaxNumSeqs, names)
	strangers(c, "max-num-batched-tokens", o.Chunk, names)
	f := capacity.Of(s, o)
	f.Check(measured)
	data, err := f.Encode()
	if err != nil {
		return err
	}
	if location := c.String("output"); location != "" {
		out, err := store.New(c.Context, location)
		if err != nil {
			return err
		}
		if err := writeCapacity(c, out, f, data); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		_, err = c.App.Writer.Write(data)
	} else {
		err = capacity.Print(c.App.Writer, f)
	}
	if err != nil {
		return err
	}
	for _, one := range f.Capacities {
		if one.Verdict.Level != fit.Refused {
			return nil
		}
	}
	return exit.Errorf(exit.Refused, "no accelerator meets %s: %s", slo.Format(o.SLOs), strings.Join(f.Capacities[0].Verdict.Reasons, "; "))
}

func writeCapacity(c *cli.Context, out store.Store, f capacity.File, data []byte) error {
	for name, value := range capacity.Outputs(f) {
		if err := out.Put(c.Context, name.Key(), strings.NewReader(value)); err != nil {
			return err
		}
	}
	return out.Put(c.Context, layout.Capacity, bytes.NewReader(data))
}

// summaryOf estimates what lies at the paths, and merges what is estimated already. The
// open loops among the measurements, which are no points of an estimate, come beside it.
func summaryOf(c *cli.Context, paths []string, shapes []sweep.Shape, slos []slo.Objective) (s parameters.Summary, open []capacity.Measured, err error) {
	in, skipped, err := aggregate.Load(c.Context, paths, "", &report.Options{SLOs: slos})
	if err != nil {
		return s, nil, err
	}
	for _, m := range in.Measurements {
		if m.Open != nil {
			open = append(open, capacity.Measured{Measurement: m.Measurement, File: m.File})
		}
	}
	in.Measurements = slices.DeleteFunc(in.Measurements, func(m aggregate.Source) bool { return m.Open != nil })
	for _, s := range skipped {
		fmt.Fprintf(c.App.ErrWriter, "skipped %s\n", s)
	}
	s = aggregate.Estimate(in, aggregate.Options{Method: fit.WLS, Source: measurement.Auto, TTFT: measurement.Auto, Batch: measurement.Auto, Shapes: shapes})
	if len(s.Parameters) == 0 {
		return s, nil, exit.Errorf(exit.Refused, "%s: no parameters, summary or measurement found; make them with step bench and step aggregate", strings.Join(paths, ", "))
	}
	return s, open, nil
}

// capacityOptions reads the flags and reports every mistake among them.
func capacityOptions(c *cli.Context) (capacity.Options, error) {
	o := capacity.Options{Spread: c.Float64("output-spread"), Traffic: c.Float64("traffic")}
	var errs []error
	if !c.Args().Present() {
		errs = append(errs, errors.New("nothing to read: name parameters, summaries or measurements, or directories that hold some"))
	}
	o.SLOs = read(c, &errs, "slo", slo.Parse)
	o.MaxNumSeqs = read(c, &errs, "max-num-seqs", numbers)
	o.Chunk = read(c, &errs, "max-num-batched-tokens", numbers)
	o.Prices = read(c, &errs, "price", prices)
	o.Mix = read(c, &errs, "mix", capacity.ParseMix)
	if o.Spread < 0 || o.Spread >= 1 || math.IsNaN(o.Spread) {
		errs = append(errs, fmt.Errorf("--output-spread: %v is not a fraction from 0 to below 1", o.Spread))
	}
	if o.Traffic < 0 || math.IsNaN(o.Traffic) || math.IsInf(o.Traffic, 0) {
		errs = append(errs, fmt.Errorf("--traffic: %v is not a rate above 0", o.Traffic))
	}
	if len(o.Mix) > 0 && o.Traffic == 0 {
		errs = append(errs, errors.New("--mix: is of a traffic, and --traffic is not given"))
	}
	return o, errors.Join(errs...)
}
