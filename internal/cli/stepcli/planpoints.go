package stepcli

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/design"
)

func planPointsCommand() *cli.Command {
	return &cli.Command{
		Name:      "plan-points",
		Usage:     "choose what to measure for a precision at least cost",
		ArgsUsage: "[PREVIOUS]",
		Description: `Reads a previous measurement (parameters.json, summary.json, a directory or s3://
prefix), or supposes a server of ordinary speed, and prints the points after which the
95 % interval of every parameter is expected to be no wider than ± --for-precision.
With --fit iteration3 it chooses among the shapes, too.

Exits with 65 when no plan reaches the precision.

Examples:
  step plan-points --for-precision 2% --shapes 1024/128
  step plan-points out/parameters.json --for-precision 3% --max-batch 128
  step plan-points --fit iteration3 --for-precision 5%`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "for-precision", Required: true, Usage: "half-width of the intervals, such as 2%"},
			&cli.StringFlag{Name: "fit", Value: parameters.Linear4, Usage: "linear4 (every shape for itself) or iteration3 (all together)"},
			&cli.StringFlag{Name: "shapes", Usage: "shapes to measure (linear4) or to choose from (iteration3), as `LIST`; otherwise those of PREVIOUS, or 128/128 (linear4) and a grid (iteration3)"},
			&cli.IntFlag{Name: "max-batch", Value: 64, Usage: "largest batch size to use; at most the server's max-num-seqs"},
			&cli.IntFlag{Name: "least-points", Value: 5, Usage: "points of a shape (linear4) or of all (iteration3), at least; fewer than 5 cannot show whether a line holds"},
			&cli.Float64Flag{Name: "overhead", Value: 20, Usage: "`SECONDS` that a point costs beside the measuring"},
		},
		Action: runPlanPoints,
	}
}

// Suppositions about a server of which nothing is known, ms.
var (
	ordinaryIteration3 = [3]float64{6.5, 0.02, 5.5e-5}
	ordinaryShapes     = "64/64,64/256,64/1024,256/64,256/256,256/1024,1024/64,1024/256,1024/1024,4096/64,4096/256"
)

// ordinary is the linear4 of such a server at a shape.
func ordinary(s sweep.Shape) [4]float64 {
	in, out := float64(s.PromptTokens), float64(s.OutputTokens)
	e := ordinaryIteration3
	return [4]float64{e[0], e[1]*(in+out)/(out+1) + e[2]*(in+out/2), 15 + 0.025*in, (0.08 + 0.0001*in) / in}
}

func runPlanPoints(c *cli.Context) error {
	var errs []error
	precision, err := sweep.ParseShare(c.String("for-precision"))
	if err != nil {
		errs = append(errs, fmt.Errorf("--for-precision: %w", err))
	}
	var shapes []sweep.Shape
	for _, text := range list(c.String("shapes")) {
		shape, err := sweep.ParseShape(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--shapes: %w", err))
		}
		shapes = append(shapes, shape)
	}
	name, most, least, overhead := c.String("fit"), c.Int("max-batch"), c.Int("least-points"), c.Float64("overhead")
	if name != parameters.Linear4 && name != fit.Iteration3 {
		errs = append(errs, fmt.Errorf("--fit: found %q, expected %s or %s", name, parameters.Linear4, fit.Iteration3))
	}
	if most < 2 || least < 2 || !(overhead >= 0) {
		errs = append(errs, fmt.Errorf("--max-batch %d, --least-points %d, --overhead %v: expected 2 or more, 2 or more, 0 or more", most, least, overhead))
	}
	if c.NArg() > 1 {
		errs = append(errs, fmt.Errorf("expected at most one PREVIOUS, found %d arguments", c.NArg()))
	}
	if err := errors.Join(errs...); err != nil {
		return exit.With(exit.Usage, err)
	}
	var before parameters.Summary
	if c.Args().Present() {
		if before, err = summaryAt(c.Context, c.Args().First()); err != nil {
			return err
		}
		if shapes == nil {
			for _, p := range before.Parameters {
				if !slices.Contains(shapes, p.Shape) {
					shapes = append(shapes, p.Shape)
				}
			}
		}
	}
	noise := noiseOf(before)

	if name == fit.Iteration3 {
		if len(shapes) < 2 {
			for text := range strings.SplitSeq(ordinaryShapes, ",") {
				shape, err := sweep.ParseShape(text)
				if err != nil {
					return err
				}
				shapes = append(shapes, shape)
			}
		}
		expected := ordinaryIteration3
		for _, j := range before.Joint {
			if j.Fit == fit.Iteration3 && j.Verdict.Level != fit.Refused {
				expected = [3]float64{j.Terms[0].Value, j.Terms[1].Value, j.Terms[2].Value}
			}
		}
		candidates, err := design.Iteration3(shapes, design.Batches(most), expected, noise)
		if err != nil {
			return err
		}
		return printPlan(c, "iteration3 of all shapes together", candidates, fit.TermNames(name), precision, overhead, least)
	}
	if shapes == nil {
		shapes = []sweep.Shape{{PromptTokens: 128, OutputTokens: 128}}
	}
	for _, shape := range shapes {
		expected, largest := ordinary(shape), most
		for _, p := range before.Parameters {
			if p.Shape != shape || !p.Published() {
				continue
			}
			expected = [4]float64{*p.Alpha, *p.Beta, *p.Gamma, *p.Delta}
			if l := p.Fit.Diagnostics.ITL; l != nil && l.BendFrom != nil && float64(largest) >= *l.BendFrom {
				largest = max(2, int(l.LinearTo))
				fmt.Fprintf(c.App.ErrWriter, "%s bends before batch %.4g: batch sizes up to %d are considered\n", shape, *l.BendFrom, largest)
			}
		}
		if err := printPlan(c, "linear4 of "+shape.String(), design.Linear4(shape, design.Batches(largest), expected, noise), parameters.Names, precision, overhead, least); err != nil {
			return err
		}
	}
	return nil
}

func printPlan(c *cli.Context, what string, candidates []design.Candidate, names []string, precision, overhead float64, least int) error {
	p, err := design.Choose(candidates, names, precision, overhead, least)
	if err != nil {
		return exit.Errorf(exit.Refused, "%s: %w", what, err)
	}
	w := c.App.Writer
	fmt.Fprintf(w, "%s: %d points of %.0f s, %.1f min in all\n", what, len(p.Points), p.Seconds, p.Cost/60)
	var shapes []sweep.Shape
	batches := map[sweep.Shape][]string{}
	for _, q := range p.Points {
		if !slices.Contains(shapes, q.Shape) {
			shapes = append(shapes, q.Shape)
		}
		batches[q.Shape] = append(batches[q.Shape], strconv.Itoa(q.Batch))
	}
	for _, s := range shapes {
		fmt.Fprintf(w, "  --shapes %s --batch-sizes %s --max-seconds %.0f\n", s, strings.Join(batches[s], ","), p.Seconds)
	}
	var expected []string
	for i, name := range names {
		expected = append(expected, fmt.Sprintf("%s ±%.2g %%", name, 100*p.Precision[i]))
	}
	_, err = fmt.Fprintf(w, "  expected: %s\n", strings.Join(expected, ", "))
	return err
}

// noiseOf is how noisy the points of a previous measurement were: the median of
// their relative errors, carried to one second; the default where they have none.
func noiseOf(s parameters.Summary) design.Noise {
	var itl, ttft []float64
	for _, p := range s.Parameters {
		if len(p.Fit.Points) == 0 {
			continue
		}
		seconds := p.Provenance.Seconds / float64(len(p.Fit.Points))
		for _, q := range p.Fit.Points {
			for v, to := range map[*parameters.Value]*[]float64{q.ITL: &itl, q.TTFT: &ttft} {
				if v != nil && v.StandardErrorMS > 0 && v.MS > 0 {
					*to = append(*to, v.StandardErrorMS/v.MS*math.Sqrt(seconds))
				}
			}
		}
	}
	n := design.DefaultNoise
	if len(itl) > 0 && len(ttft) > 0 {
		slices.Sort(itl)
		slices.Sort(ttft)
		n = design.Noise{ITL: itl[len(itl)/2], TTFT: ttft[len(ttft)/2]}
	}
	return n
}
