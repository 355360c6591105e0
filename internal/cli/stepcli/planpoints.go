package stepcli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/design"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/linear4"
)

func planPointsCommand() *cli.Command {
	return &cli.Command{
		Name:      "plan-points",
		Usage:     "choose what to measure for a precision at least cost",
		ArgsUsage: "[PREVIOUS]",
		Description: `Reads a previous measurement (parameters.json, summary.json, a directory or s3://
prefix), or supposes a server of ordinary speed, and prints the points after which the
95 % interval of every parameter is no wider than ± --for-precision in nine sweeps of
ten. With --fit iteration3 it chooses among the shapes, too.

Exits with 65 when no plan reaches the precision.

Examples:
  step plan-points --for-precision 10% --shapes 1024/128 --max-batch 128
  step plan-points out/parameters.json --for-precision 3% --max-batch 128
  step plan-points --fit iteration3 --for-precision 5%`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "for-precision", Required: true, Usage: "half-width of the intervals, such as 2%"},
			&cli.StringFlag{Name: "fit", Value: parameters.Linear4, Usage: "linear4 (every shape for itself) or iteration3 (all together)"},
			&cli.StringFlag{Name: "shapes", Usage: "shapes to measure (linear4) or to choose from (iteration3), as `LIST`; otherwise those of PREVIOUS, or 128/128 (linear4) and a grid (iteration3)"},
			&cli.IntFlag{Name: "max-batch", Value: 64, Usage: "largest batch size to use; at most the server's max-num-seqs"},
			&cli.IntFlag{Name: "least-points", Value: 5, Usage: "points of a shape (linear4) or of all (iteration3), at least; fewer than 5 cannot show whether a line holds"},
			&cli.Float64Flag{Name: "overhead", Value: 20, Usage: "overhead of a point, `SECONDS`"},
		},
		Action: runPlanPoints,
	}
}

// wanted is what the points are chosen for.
type wanted struct {
	fit       string // linear4 or iteration3
	shapes    []sweep.Shape
	precision float64 // relative half-width
	most      int     // largest batch size
	least     int     // fewest points
	overhead  float64 // of a point, seconds
}

// wantedOf reads the flags and reports every mistake among them.
func wantedOf(c *cli.Context) (wanted, error) {
	w := wanted{fit: c.String("fit"), most: c.Int("max-batch"), least: c.Int("least-points"), overhead: c.Float64("overhead")}
	var errs []error
	var err error
	if w.precision, err = sweep.ParseShare(c.String("for-precision")); err != nil {
		errs = append(errs, fmt.Errorf("--for-precision: %w", err))
	}
	for _, text := range sweep.Items(c.String("shapes")) {
		shape, err := sweep.ParseShape(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--shapes: %w", err))
		}
		w.shapes = append(w.shapes, shape)
	}
	if w.fit != parameters.Linear4 && w.fit != fit.Iteration3 {
		errs = append(errs, fmt.Errorf("--fit: found %q, expected %s or %s", w.fit, parameters.Linear4, fit.Iteration3))
	}
	if w.most < 2 || w.least < 2 || !(w.overhead >= 0) {
		errs = append(errs, fmt.Errorf("--max-batch %d, --least-points %d, --overhead %v: expected 2 or more, 2 or more, 0 or more", w.most, w.least, w.overhead))
	}
	if c.NArg() > 1 {
		errs = append(errs, fmt.Errorf("expected at most one PREVIOUS, found %d arguments", c.NArg()))
	}
	return w, errors.Join(errs...)
}

func runPlanPoints(c *cli.Context) error {
	w, err := wantedOf(c)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	var before parameters.Summary
	if c.Args().Present() {
		if before, err = summaryAt(c.Context, c.Args().First()); err != nil {
			return err
		}
		if w.shapes == nil {
			for _, p := range before.Parameters {
				if !slices.Contains(w.shapes, p.Shape) {
					w.shapes = append(w.shapes, p.Shape)
				}
			}
		}
	}
	if w.fit == fit.Iteration3 {
		return planIteration3(c, w, before)
	}
	return planLinear4(c, w, before)
}

// planIteration3 chooses among the points of all shapes.
func planIteration3(c *cli.Context, w wanted, before parameters.Summary) error {
	if len(w.shapes) < 2 {
		w.shapes = append(w.shapes, design.OrdinaryShapes()...)
	}
	expected := design.OrdinaryIteration3
	for _, j := range before.Joint {
		if j.Fit == fit.Iteration3 && j.Verdict.Level != fit.Refused {
			expected = [3]float64{j.Terms[0].Value, j.Terms[1].Value, j.Terms[2].Value}
		}
	}
	candidates, err := design.Iteration3Candidates(w.shapes, design.Batches(w.most), expected, noiseOf(before))
	if err != nil {
		return err
	}
	return printPlan(c, w, "iteration3 of all shapes together", candidates, fit.TermNames(w.fit))
}

// planLinear4 chooses the points of each shape.
func planLinear4(c *cli.Context, w wanted, before parameters.Summary) error {
	if w.shapes == nil {
		w.shapes = []sweep.Shape{{PromptTokens: 128, OutputTokens: 128}}
	}
	for _, shape := range w.shapes {
		expected, largest := design.OrdinaryLinear4(shape), w.most
		for _, p := range before.Parameters {
			known, ok := p.Values()
			if p.Shape != shape || !p.Published() || !ok {
				continue
			}
			expected = known.Values()
			if l := p.Fit.Diagnostics.ITL; l != nil && l.BendFrom != nil && float64(largest) >= *l.BendFrom {
				largest = max(2, int(l.LinearTo))
				fmt.Fprintf(c.App.ErrWriter, "%s bends before batch %.4g: batch sizes up to %d are considered\n", shape, *l.BendFrom, largest)
			}
		}
		candidates := design.Linear4Candidates(shape, design.Batches(largest), expected, noiseOf(before))
		if err := printPlan(c, w, "linear4 of "+shape.String(), candidates, linear4.Names()); err != nil {
			return err
		}
	}
	return nil
}

func printPlan(c *cli.Context, want wanted, what string, candidates []design.Candidate, names []string) error {
	p, err := design.Choose(candidates, names, want.precision, want.overhead, want.least)
	if err != nil {
		return exit.Errorf(exit.Refused, "%s: %w", what, err)
	}
	w := c.App.Writer
	fmt.Fprintf(w, "%s: %d points of %.0f s, the first twice, %.1f min in all\n", what, len(p.Points), p.Seconds, p.Cost/60)
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
	if p.Times > 1 {
		fmt.Fprintf(w, "  %d times, and the measurements of all of them to one step aggregate\n", p.Times)
	}
	var expected []string
	for i, name := range names {
		expected = append(expected, fmt.Sprintf("%s ±%.2g %%", name, 100*p.Precision[i]))
	}
	_, err = fmt.Fprintf(w, "  expected: %s\n", strings.Join(expected, ", "))
	return err
}

// noiseOf is how noisy the points of a previous measurement were.
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
					*to = append(*to, design.PerSecond(v.StandardErrorMS, v.MS, seconds))
				}
			}
		}
	}
	return design.NoiseOf(itl, ttft)
}
