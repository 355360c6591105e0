package wfgencli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/budget"
	"wfgen.dev/internal/clikit"
	"wfgen.dev/internal/config"
	"wfgen.dev/internal/exit"
	"wfgen.dev/internal/sweep"
)

func planCommand() *cli.Command {
	return &cli.Command{
		Name:  "plan",
		Usage: "print the points in their order, and the time and money they are expected to take",
		Description: `Nothing is started and no server is asked. The time of a point is what was asked
for, plus what the driver and a pod of a workflow cost.

Example:
  wfgen plan --accelerators A100,H100 --gpu-cost A100=2.5 --gpu-cost H100=4.1`,
		Flags: append(sweepFlags(),
			&cli.StringSliceFlag{Name: "gpu-cost", Usage: "`NAME=MONEY` per GPU and hour, repeatable; MONEY alone for all"},
			&cli.BoolFlag{Name: "local", Usage: "for wfgen run: no pods, accelerators one after another"},
		),
		Action: func(c *cli.Context) error {
			if err := clikit.NoArgs(c); err != nil {
				return err
			}
			cfg, err := configFrom(c)
			if err != nil {
				return err
			}
			o := budget.Options{PerNode: budget.PodOverhead, Parallel: cfg.ParallelAccelerators, RequestSeconds: requestSeconds}
			if c.Bool("local") {
				o.PerNode, o.Parallel = 0, 1
				if c.String("config") == "" && !c.IsSet("driver") {
					cfg.Driver = sweep.Native // as wfgen run does
				}
			}
			if err := applyCosts(&cfg, c.StringSlice("gpu-cost")); err != nil {
				return exit.With(exit.Usage, err)
			}
			return budget.Expect(cfg.Sweep(), o).Write(c.App.Writer)
		},
	}
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
	t, n := truthOf(accelerator), float64(batch)
	ttft := t.Gamma + t.Delta*float64(shape.PromptTokens)*n
	return (ttft + float64(shape.OutputTokens-1)*(t.Alpha+t.Beta*n)) / 1000
}
