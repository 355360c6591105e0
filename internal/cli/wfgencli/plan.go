package wfgencli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cluster/pods"
	"wfgen.dev/internal/estimate/budget"
	"wfgen.dev/internal/estimate/design"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
	"wfgen.dev/internal/sweep/precision"
)

// planName is the command that prints what is going to be measured.
const planName = "plan"

func planCommand() *cli.Command {
	return &cli.Command{
		Name:  planName,
		Usage: "print the points, the time and money that they take, and what nodes must offer",
		Description: `Nothing is started and no server is asked. The time of a point is what was asked
for, plus what the driver and a pod of a workflow cost: typical figures, or those of
an earlier run, whose summary also says how long requests take.

Examples:
  wfgen plan --accelerators A100,H100 --gpu-cost A100=2.5 --gpu-cost H100=4.1
  wfgen plan --config sweep.yaml --from runs/last-week/summary.json`,
		Flags: append(without(sweepFlags(), "target-url", "tokenizer", "method"),
			append(only(clusterFlags(), "deploy", "share-pod", "load-generator-cpu", "load-generator-memory"), parallelAcceleratorsFlag(), guidellmImageFlag(),
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
			applySharePod(c, &cfg)
			if c.IsSet("deploy") {
				cfg.Deploy = c.Bool("deploy")
			}
			o := budget.Options{PerNode: plan.NodeOverhead, Parallel: cfg.ParallelAccelerators, RequestSeconds: requestSeconds}
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
			cfg.ShareProcess = c.Bool("share-process")
			err = cfg.Validate()
			if cfg.ShareProcess && !c.Bool("local") {
				err = errors.Join(err, errors.New("--share-process: a workflow has a pod for each point; give --local too"))
			}
			if c.Bool("share-pod") && c.Bool("local") {
				err = errors.Join(err, errors.New("--share-pod: a run on one machine has no pods; leave it out"))
			}
			if err != nil {
				return exit.With(exit.Usage, err)
			}
			o.SharePod = cfg.SharesPod() && !c.Bool("local")
			if cfg.Precision != "" {
				if !c.Bool("local") {
					o.PerNode = plan.Of(cfg).RoundOverhead()
				}
				err = planRounds(c.App.Writer, cfg, o)
			} else {
				err = budget.Expect(cfg.Sweep(), o).Write(c.App.Writer)
			}
			if err != nil || c.Bool("local") {
				return err
			}
			if err := cfg.ValidateCluster(); err != nil {
				return exit.With(exit.Usage, err)
			}
			return pods.WriteNeeds(c.App.Writer, pods.Needs(plan.Of(cfg)))
		},
	}
}

// planRounds prints what a precision is expected to take, and what it takes at most.
func planRounds(out io.Writer, cfg config.Config, o budget.Options) error {
	goals, err := precision.Parse(cfg.Precision)
	if err != nil {
		return err
	}
	p := plan.Of(cfg)
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "accelerator\tshape\tpoints\tGPU-minutes\tmoney\t\n")
	for _, a := range p.Accelerators {
		left := math.Inf(1)
		if minutes := p.GPUMinutes(); minutes > 0 {
			left = 60 * minutes / float64(a.Count)
		}
		for _, shape := range cfg.Sweep().Shapes {
			runs, seconds, reached := design.Expect(design.Wish{
				Shape: shape, BatchSizes: cfg.BatchSizes, Goals: goals, MaxSeconds: float64(cfg.MaxSeconds), Overhead: o.Overhead + o.PerNode, Left: left,
				Round: 1, MostRounds: precision.MostRounds,
				Capacity: func() design.Capacity {
					return design.Capacity{Share: math.NaN(), Batch: float64(p.LargestBatch()) / 2}
				},
			})
			left -= seconds
			note := ""
			if !reached {
				note = "not expected to reach " + cfg.Precision
			}
			minutes, money := seconds/60*float64(a.Count), "-"
			if a.GPUCost > 0 {
				money = fmt.Sprintf("%.2f", minutes/60*a.GPUCost)
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%.1f\t%s\t%s\n", a.Name, shape, len(runs), minutes, money, note)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	most := fmt.Sprintf("%d rounds of each accelerator, whose points last at most %d s", precision.MostRounds, cmp.Or(cfg.MaxSeconds, int(design.LongestPoint)))
	if cfg.MaxGPUMinutes > 0 {
		most = fmt.Sprintf("%.1f GPU-minutes of points (max-gpu-minutes)", cfg.MaxGPUMinutes)
	}
	_, err = fmt.Fprintf(out, "\nexpected of a server of ordinary noise, for %s; at most %s\noverhead per point: %.0f s\n", cfg.Precision, most, o.Overhead+o.PerNode)
	return err
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
