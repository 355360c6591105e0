package stepcli

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/bench"
	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/driver/native"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
	"wfgen.dev/internal/version"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      steps.Check.Name,
		Usage:     "hold the capacity of one accelerator against open loops at the claimed rate",
		ArgsUsage: "PATH...",
		Description: `Reads what step capacity reads, and makes open loops on the server: at the rate
that is claimed for the first shape, the low end of its interval, and 10 % above; up to
three at the claimed rate, where one does not tell whether the objectives hold. Writes
into --output: capacity.json with what was attained, outputs/ and check/ with the
measurements; with --configmap capacity.json goes into that, too. A claim that its
measurement contradicts is lowered or refused; exits with 65 when it is refused.

Example:
  step check runs/monday/summary.json --accelerator A100 --slo itl=20ms \
    --target http://vllm:8000 --model llama --output runs/monday/A100`,
		Flags:  steps.Check.Flags(),
		Action: runCheck,
	}
}

// above is how far above the claim the second open loop is: there the objectives should fail.
const above = 1.1

func runCheck(c *cli.Context) error {
	o, shapes, err := checkOptions(c)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	key, err := keyOf(c, steps.Check.Target.In(c))
	if err != nil {
		return err
	}
	api, err := configMapAPI(steps.Check.ConfigMap.In(c))
	if err != nil {
		return err
	}
	s, measured, err := summaryOf(c, c.Args().Slice(), shapes, o.SLOs)
	if err != nil {
		return err
	}
	name := steps.Check.Accelerator.In(c)
	s.Parameters = only(s.Parameters, func(p parameters.Parameters) bool { return p.Accelerator == name })
	if len(s.Parameters) == 0 {
		return exit.Errorf(exit.Refused, "no parameters of %s among the inputs", name)
	}
	out, err := store.New(c.Context, steps.Check.Output.In(c))
	if err != nil {
		return err
	}
	f := capacity.Of(s, o)
	switch claim := f.Capacities[0]; {
	case claim.Rate == nil:
	case claim.Rate.Safe() <= 0:
		fmt.Fprintf(c.App.ErrWriter, "not checked: the interval of the rate reaches 0, %s requests/s\n", claim.Rate)
	default:
		loops, err := checkLoops(c, key, claim, o.SLOs)
		if err != nil {
			return err
		}
		measured = append(measured, loops...)
	}
	f.Check(measured)
	data, err := f.Encode()
	if err != nil {
		return err
	}
	if err := writeCapacity(c, out, f, data); err != nil {
		return err
	}
	if api != nil {
		name, namespace := steps.Check.ConfigMap.In(c), cmp.Or(steps.Check.Namespace.In(c), api.Namespace)
		if err := putConfigMap(c, api, name, namespace, map[string]*string{layout.Capacity: new(string(data))}); err != nil {
			return err
		}
	}
	if err := capacity.Print(c.App.Writer, f); err != nil {
		return err
	}
	if first := f.Capacities[0]; first.Verdict.Level == fit.Refused {
		return exit.Errorf(exit.Refused, "refused: %s", first.Verdict.Reasons[0])
	}
	return nil
}

// mostLoops is how many open loops are made at the claimed rate where fewer do not tell
// whether the objectives hold.
const mostLoops = 3

// checkLoops makes the open loops at the claimed rate, until they show whether it holds,
// and one above.
func checkLoops(c *cli.Context, key string, claim capacity.Capacity, slos []slo.Objective) (all []capacity.Measured, err error) {
	measure := func(rate float64, loop int) error {
		m, err := checkAt(c, key, claim, slos, rate, loop)
		switch {
		case exit.Code(err) == exit.Refused: // it was measured, but says nothing
			fmt.Fprintf(c.App.ErrWriter, "not checked: %v\n", err)
		case err != nil:
			return err
		default:
			all = append(all, m)
		}
		return nil
	}
	for loop := 1; loop <= mostLoops; loop++ {
		if err := measure(claim.Rate.Safe(), loop); err != nil {
			return nil, err
		}
		if len(all) == 0 || !capacity.Together(slos, all).Unclear {
			break
		}
	}
	return all, measure(above*claim.Rate.Safe(), 1)
}

// checkAt makes one open loop. A server that falls behind is an answer, not a failure.
func checkAt(c *cli.Context, key string, claim capacity.Capacity, slos []slo.Objective, rate float64, loop int) (capacity.Measured, error) {
	// Long enough for the server to fill, for some requests, and to empty.
	request := claim.InFlight.Value / claim.Rate.Value
	seconds := max(steps.Check.MaxSeconds.In(c), 3*request+30/rate)
	o := bench.Options{
		Options: driver.Options{
			Target: steps.Check.Target.In(c), Model: steps.Check.Model.In(c), APIKey: key,
			Shape: claim.Shape, Rate: rate, Arrivals: sweep.Poisson, MaxSeconds: seconds,
			Spread: sweep.OutputSpread, Seed: time.Now().UnixNano(), Endpoint: steps.Check.Endpoint.In(c),
		},
		Accelerator: claim.Accelerator, SLOs: slos, Margin: 3 * time.Minute, Stderr: c.App.ErrWriter,
		Provenance: measurement.Provenance{Tool: "step " + version.Version()},
	}
	var err error
	if o.Provenance.Instance, err = instance(steps.Check.Server.In(c)); err != nil {
		return capacity.Measured{}, exit.With(exit.Usage, err)
	}
	dir := layout.OpenLoopOf(claim.Shape, rate, loop)
	out, err := store.New(c.Context, strings.TrimRight(steps.Check.Output.In(c), "/")+"/"+dir)
	if err != nil {
		return capacity.Measured{}, err
	}
	m, err := bench.Run(c.Context, native.Driver{Tool: version.Version()}, out, o)
	if m.Schema != "" {
		fmt.Fprintln(c.App.ErrWriter, m.Describe())
	}
	if m.Open != nil && m.Open.Behind {
		err = nil
	}
	return capacity.Measured{Measurement: m, File: path.Join(dir, layout.Measurement)}, err
}

// checkOptions reads the flags and reports every mistake among them.
func checkOptions(c *cli.Context) (o capacity.Options, shapes []sweep.Shape, err error) {
	o.Spread = sweep.OutputSpread
	var errs []error
	bad := func(flag string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	if !c.Args().Present() {
		errs = append(errs, errors.New("nothing to read: name parameters, summaries or measurements, or directories that hold some"))
	}
	o.SLOs, err = slo.Parse(steps.Check.SLO.In(c))
	bad("slo", err)
	o.Prices, err = prices(steps.Check.Price.In(c))
	bad("price", err)
	errs = append(errs, checkEndpoint(steps.Check.Endpoint.In(c)))
	for _, f := range []struct {
		flag steps.Flag[int]
		to   *map[string]int
	}{{steps.Check.MaxNumSeqs, &o.MaxNumSeqs}, {steps.Check.ChunkTokens, &o.Chunk}} {
		switch n := f.flag.In(c); {
		case n > 0:
			*f.to = map[string]int{"": n}
		case n < 0:
			bad(f.flag.Name, fmt.Errorf("%d is negative", n))
		}
	}
	if x := steps.Check.MaxSeconds.In(c); !(x > 0 && x <= sweep.MostSeconds) {
		bad("max-seconds", fmt.Errorf("%v is not a number of seconds above 0", x))
	}
	for _, text := range sweep.Items(steps.Check.Shapes.In(c)) {
		shape, err := sweep.ParseShape(text)
		bad("shapes", err)
		shapes = append(shapes, shape)
	}
	return o, shapes, errors.Join(errs...)
}

func only[T any](all []T, keep func(T) bool) []T {
	var kept []T
	for _, x := range all {
		if keep(x) {
			kept = append(kept, x)
		}
	}
	return kept
}
