package wfgencli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/estimate/budget"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/local"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/linear4"
	"wfgen.dev/internal/sweep/plan"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  runName,
		Usage: "run the sweep from this machine, without a cluster",
		Description: `Runs the plan that a cluster would run, with the same step commands: for every
accelerator wait, then every shape and batch size, then the estimate. Results lie
under OUTPUT/runs/RUN; the table goes to stdout. A run that was interrupted goes on
when the same command is given again.

With --precision points are chosen in rounds until the intervals are as narrow; the run
exits with 4 when that is not reached, after writing what was.

Examples:
  wfgen run --simulate --accelerators A100,H100
  wfgen run --accelerators A100 --target http://127.0.0.1:8000 --model unsloth/Meta-Llama-3.1-8B
  wfgen run --accelerators A100 --target http://127.0.0.1:8000 --model llama \
    --precision alpha=1%,beta=5% --max-gpu-minutes 10
  wfgen run --target A100=http://10.0.0.7:8000 --target H100=http://10.0.0.8:8000 \
    --accelerators A100,H100 --parallel 2 --model unsloth/Meta-Llama-3.1-8B \
    --output s3://results/calibration`,
		Flags: append(alias(sweepFlags(), "target-url", "target"), sloFlag(), prefillChunkFlag(),
			simulateFlag(),
			waitTimeoutFlag(), retriesFlag(),
			&cli.IntFlag{Name: "parallel", Value: 1, Usage: "accelerators to measure at the same time; this machine makes the load for all"},
			shareProcessFlag(),
			&cli.BoolFlag{Name: "force", Usage: "measure again what the run has measured already"},
			&cli.StringFlag{Name: "run", Usage: "`NAME` of the run; an unfinished run of the same plan is resumed, or a new one named by the time begins"},
			&cli.StringFlag{Name: "output", Value: "out", Usage: "directory or s3://bucket/prefix"},
			&cli.StringFlag{Name: "step", Usage: "`PATH` of the step program; otherwise beside wfgen, in this checkout, or in PATH"},
		),
		Action: func(c *cli.Context) error {
			if err := clikit.NoArgs(c); err != nil {
				return err
			}
			cfg, err := runConfig(c)
			if err != nil {
				return err
			}
			return runSweep(c, cfg)
		},
	}
}

// runName is the command that measures from this machine.
const runName = "run"

// runConfig is the configuration as a run on one machine needs it: the native
// driver unless guidellm was asked for, targets from --target, and short points
// for simulated servers.
func runConfig(c *cli.Context) (config.Config, error) {
	cfg, err := configFrom(c)
	if err != nil {
		return cfg, err
	}
	if unset(c, "driver") {
		cfg.Driver = sweep.Native
	}
	if c.Bool("simulate") {
		cfg = cfg.SimulatedDefaults(func(field string) bool { return unset(c, field) })
	}
	setString(c, "wait-timeout", &cfg.WaitTimeout)
	setInt(c, "retries", &cfg.Retries)
	cfg.ShareProcess = c.Bool("share-process")
	errs := []error{checkTargets(c, cfg)}
	if cfg.Precision != "" && c.Bool("force") {
		errs = append(errs, errors.New("--force: a run that is asked for a precision adds to what it has measured; name another with --run"))
	}
	if cfg.ShapesAuto && errs[0] == nil {
		limits, err := limitsOf(c, cfg)
		if err == nil {
			err = chooseShapes(c, &cfg, limits)
		}
		errs = append(errs, err)
	}
	if n := c.Int("parallel"); n < 1 {
		errs = append(errs, fmt.Errorf("--parallel: %d is below 1", n))
	}
	return cfg, usage(append(errs, cfg.Validate())...)
}

// unset says whether nobody said anything of a flag, nor a file of the field of its name.
func unset(c *cli.Context, flag string) bool { return c.String("config") == "" && !c.IsSet(flag) }

func simulateFlag() cli.Flag {
	return &cli.BoolFlag{Name: "simulate", Usage: "measure simulated servers, whose truth is known"}
}

// checkTargets refuses a run without a server for each accelerator.
func checkTargets(c *cli.Context, cfg config.Config) error {
	if c.Bool("simulate") {
		if c.IsSet("target-url") {
			return errors.New("--simulate starts its own servers; leave --target out")
		}
		return nil
	}
	var errs []error
	for _, a := range cfg.Accelerators {
		if a.TargetURL == "" && cfg.TargetURL == "" {
			errs = append(errs, fmt.Errorf("--target: none for %s; give --target %s=http://… or --simulate", a.Name, a.Name))
		}
	}
	return errors.Join(errs...)
}

func runSweep(c *cli.Context, cfg config.Config) error {
	ctx, stderr := c.Context, c.App.ErrWriter
	say := func(text string) { fmt.Fprintln(stderr, text) }
	program, err := local.FindStep(ctx, c.String("step"), say)
	if err != nil {
		return err
	}
	r, pending, err := prepare(c, cfg, say)
	if err != nil {
		return err
	}
	r.Step = local.Program(program)
	ctx, release, err := r.Begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	left := 0
	for _, points := range pending {
		left += len(points)
	}
	bar := newProgress(stderr, left, expectedTime(r, left))
	r.Progress = bar

	var truths map[string]linear4.Model
	if c.Bool("simulate") {
		var stop func()
		truths, stop, err = simulateServers(context.WithoutCancel(ctx), program, r)
		defer stop()
		if err != nil {
			return err
		}
	}

	failures, err := r.Measure(ctx, pending)
	bar.stop()
	if lost := context.Cause(ctx); lost != nil && c.Err() == nil {
		return exit.Errorf(exit.TryAgain, "the run was lost: %w", lost)
	}
	if ctx.Err() != nil {
		say(fmt.Sprintf("interrupted; what was measured is kept in %s\nresume with the same command and --run %s, or estimate from what there is: step aggregate %s --output %s",
			r.Location(), r.Run, r.Location(), r.Location()))
		return exit.Errorf(exit.TryAgain, "interrupted")
	}
	if err != nil {
		return err
	}
	if len(failures) > 0 {
		say(fmt.Sprintf("\n%d failed:", len(failures)))
		for _, text := range failures {
			say("  " + text)
		}
	}
	err = r.Aggregate(ctx)
	if r.Plan.SLO != "" {
		for _, a := range r.Plan.Accelerators {
			if cerr := r.Check(ctx, a); cerr != nil {
				err = errors.Join(err, fmt.Errorf("capacity of %s: %w", a.Name, cerr))
			}
		}
		err = errors.Join(err, r.Report(ctx))
	}
	if len(truths) > 0 {
		if terr := writeTruth(ctx, c.App.Writer, r, truths); terr != nil {
			return errors.Join(err, terr)
		}
	}
	if short := r.Imprecise(); len(short) > 0 && err == nil {
		err = exit.Errorf(exit.Imprecise, "the precision that was asked for was not reached: %s", strings.Join(short, "; "))
	}
	say("results: " + r.Location())
	if at, ok := r.Page(context.WithoutCancel(ctx)); ok {
		say("report: " + at)
	}
	return err
}

// prepare opens the store and finds out which run this is, and what of it is still to
// be measured.
func prepare(c *cli.Context, cfg config.Config, say func(string)) (*local.Runner, map[string][]sweep.Point, error) {
	ctx := c.Context
	out, err := store.New(ctx, c.String("output"))
	if err != nil {
		return nil, nil, err
	}
	if err := store.Check(ctx, out); err != nil {
		return nil, nil, err
	}
	run, resumed, err := local.NameRun(ctx, out, plan.Of(cfg), c.String("run"), time.Now())
	if err != nil {
		return nil, nil, err
	}
	r := &local.Runner{
		Plan: plan.Of(cfg), Out: out, Run: run,
		Force: c.Bool("force"), Parallel: c.Int("parallel"), Stdout: c.App.Writer,
	}
	pending, err := r.Pending(ctx)
	if err != nil {
		return nil, nil, err
	}
	left, all := 0, 0
	for _, a := range r.Plan.Accelerators {
		left += len(pending[a.Name])
		all += len(a.Points)
	}
	switch {
	case cfg.Precision != "":
		say(fmt.Sprintf("run %s: points until %s, in %s", run, cfg.Precision, r.Location()))
	case resumed && left < all:
		say(fmt.Sprintf("run %s: %d of %d points are measured already, %d to go (--force measures all again)", run, all-left, all, left))
	default:
		say(fmt.Sprintf("run %s: %d points in %s", run, all, r.Location()))
	}
	return r, pending, nil
}

// expectedTime is how long the points take that are left.
func expectedTime(r *local.Runner, left int) time.Duration {
	s := r.Plan.Sweep()
	expected := budget.Expect(s, budget.Options{Overhead: budget.Overhead(s.Driver, ""), Parallel: r.Parallel, RequestSeconds: requestSeconds})
	return time.Duration(expected.Seconds * float64(left) / float64(expected.Points) * float64(time.Second))
}

// simulateServers starts a server for each accelerator, large enough for the sweep,
// and makes it the accelerator's target. stop ends those that were started.
func simulateServers(ctx context.Context, program string, r *local.Runner) (truths map[string]linear4.Model, stop func(), err error) {
	truths = map[string]linear4.Model{}
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	for i, a := range r.Plan.Accelerators {
		truths[a.Name] = config.Truth(a.Name)
		url, end, err := local.Simulate(ctx, program, r.Plan.Model, truths[a.Name], r.Plan.ServerLimit(a), r.Plan.LongestRequest(a), config.SimulatedJitter, int64(i)+1)
		if err != nil {
			return nil, stop, err
		}
		stops = append(stops, end)
		r.Plan.Accelerators[i].TargetURL = url
	}
	return truths, stop, nil
}

// writeTruth prints the parameters that the simulated servers followed beside
// those that were estimated.
func writeTruth(ctx context.Context, w io.Writer, r *local.Runner, truths map[string]linear4.Model) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\nsimulated servers: truth beside estimate\n")
	fmt.Fprintln(t, "accelerator\tshape\tparameter\ttruth\testimate\terror\tinside interval\t")
	for _, a := range r.Plan.Accelerators {
		truth := truths[a.Name]
		for _, shape := range r.Plan.Sweep().Shapes {
			p, err := readParameters(ctx, r.Out, path.Join(layout.Run(r.Run), layout.ParametersOf(a.Name, shape)))
			if err != nil {
				fmt.Fprintf(t, "%s\t%s\tno parameters\t\t\t\t\t\n", a.Name, shape)
				continue
			}
			for i, parameter := range linear4.Parameters {
				name, truth := parameter.Name, truth.Values()[i]
				estimate, low, high, ok := p.Parameter(name)
				if !ok {
					fmt.Fprintf(t, "%s\t%s\t%s\t%.6g\t-\t\t\t\n", a.Name, shape, name, truth)
					continue
				}
				inside := "no"
				if low <= truth && truth <= high {
					inside = "yes"
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%.6g\t%.6g\t%+.2f %%\t%s\t\n", a.Name, shape, name, truth, estimate, 100*(estimate/truth-1), inside)
			}
		}
	}
	return t.Flush()
}

func readParameters(ctx context.Context, out store.Store, key string) (parameters.Parameters, error) {
	f, err := out.Open(ctx, key)
	if err != nil {
		return parameters.Parameters{}, err
	}
	defer f.Close()
	return parameters.Decode(f, key)
}
