package wfgencli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/estimate/budget"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
)

func planCommand() *cli.Command {
	return &cli.Command{
		Name:  "plan",
		Usage: "print the points in their order, the time and money they are expected to take, and what nodes must offer",
		Description: `Nothing is started and no server is asked. The time of a point is what was asked
for, plus what the driver and a pod of a workflow cost: typical figures, or those of
an earlier run, whose summary also tells how long requests take.

Examples:
  wfgen plan --accelerators A100,H100 --gpu-cost A100=2.5 --gpu-cost H100=4.1
  wfgen plan --config sweep.yaml --from runs/last-week/summary.json`,
		Flags: append(without(sweepFlags(), "target-url", "tokenizer", "method"),
			append(only(clusterFlags(), "deploy", "load-generator-cpu", "load-generator-memory"), parallelAcceleratorsFlag(), guidellmImageFlag(),
				&cli.StringSliceFlag{Name: "gpu-cost", Usage: "`NAME=MONEY` per GPU and hour, repeatable; MONEY alone for all"},
				&cli.StringFlag{Name: "from", Usage: "`FILE` or s3://bucket/key of the summary.json of an earlier run"},
				shareProcessFlag(),
				&cli.BoolFlag{Name: "local", Usage: "for wfgen run: no pods, accelerators one after another"},
			)...),
		Action: func(c *cli.Context) error {
			if err := clikit.NoArgs(c); err != nil {
				return err
			}
			cfg, err := configFrom(c)
			if err != nil {
				return err
			}
			setInt(c, "parallel-accelerators", &cfg.ParallelAccelerators)
			setString(c, "guidellm-image", &cfg.GuidellmImage)
			setString(c, "load-generator-cpu", &cfg.LoadGeneratorCPU)
			setString(c, "load-generator-memory", &cfg.LoadGeneratorMemory)
			if c.IsSet("deploy") {
				cfg.Deploy = c.Bool("deploy")
			}
			o := budget.Options{PerNode: budget.PodOverhead, Parallel: cfg.ParallelAccelerators, RequestSeconds: requestSeconds}
			if c.Bool("local") {
				o.PerNode, o.Parallel = 0, 1
				if c.String("config") == "" && !c.IsSet("driver") {
					cfg.Driver = sweep.Native // as wfgen run does
				}
			}
			o.Overhead = budget.Overhead(cfg.Driver, cfg.GuidellmImage)
			if name := c.String("from"); name != "" {
				before, err := readSummary(c.Context, name)
				if err != nil {
					return err
				}
				o = o.Previous(before, cfg.Model, cfg.Driver)
			}
			if err := applyCosts(&cfg, c.StringSlice("gpu-cost")); err != nil {
				return exit.With(exit.Usage, err)
			}
			s, err := shareProcess(c, cfg.Sweep())
			if err == nil && s.ShareProcess && !c.Bool("local") {
				err = errors.New("--share-process: a workflow has a pod for each point; give --local too")
			}
			if err != nil {
				return exit.With(exit.Usage, err)
			}
			if err := budget.Expect(s, o).Write(c.App.Writer); err != nil || c.Bool("local") {
				return err
			}
			if err := cfg.ValidateCluster(); err != nil {
				return exit.With(exit.Usage, err)
			}
			return pods.WriteNeeds(c.App.Writer, pods.Needs(plan.Of(cfg)))
		},
	}
}

func readSummary(ctx context.Context, name string) (parameters.Summary, error) {
	f, err := store.OpenPath(ctx, name)
	if err != nil {
		return parameters.Summary{}, err
	}
	defer f.Close()
	return parameters.DecodeSummary(f, name)
}

func applyCosts(cfg *config.Config, costs []string) error {
	for _, text := range costs {
		name, value, named := strings.Cut(text, "=")
		if !named {
			value = name
		}
		cost, err := strconv.ParseFloat(value, 64)
		if err != nil || !(cost >= 0) {
			return fmt.Errorf("--gpu-cost %s: expected NAME=MONEY per GPU and hour, such as A100=2.5", text)
		}
		found := false
		for i := range cfg.Accelerators {
			if !named || cfg.Accelerators[i].Name == name {
				cfg.Accelerators[i].GPUCost, found = cost, true
			}
		}
		if !found {
			return fmt.Errorf("--gpu-cost %s: %q is not among the accelerators", text, name)
		}
	}
	return nil
}

// requestSeconds is how long one request plausibly takes, by the catalogue's
// figures for an 8B model; what it is used for, the end of a point, needs no more.
func requestSeconds(accelerator string, shape sweep.Shape, batch int) float64 {
	t, n := config.Truth(accelerator), float64(batch)
	return (t.TTFT(float64(shape.PromptTokens), n) + float64(shape.OutputTokens-1)*t.ITL(n)) / 1000
}
