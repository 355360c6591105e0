package stepcli

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/aggregate"
	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/design"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/precision"
	"wfgen.dev/internal/sweep/slo"
)

func nextCommand() *cli.Command {
	return &cli.Command{
		Name:      steps.Next.Name,
		Usage:     "choose the points that are needed next for a precision",
		ArgsUsage: "[PATH...]",
		Description: `Reads the measurements of one accelerator so far, of which there need not be any, and
prints the next round of points as JSON. An empty list ends the sweep: the precision is
reached, or what may be spent is, or more points would not help; "ended" says which, and
"reasons" how far each number is. The first round are short points of five batch sizes;
what follows are those that the widest interval needs most. Writes the list, why it is
empty and the reasons into --output as well, for Argo.

Examples:
  step next --accelerator A100 --shapes 128/128 --batch-sizes 1,2,4,8,16,32,64 \
    --precision alpha=1%,beta=5%
  step next runs/monday/A100/measurements --accelerator A100 --shapes 128/128 \
    --batch-sizes 1,2,4,8,16,32,64 --precision 5% --max-gpu-minutes 10 --round 2`,
		Flags:  steps.Next.Flags(),
		Action: runNext,
	}
}

// nextAsked is what step next is asked.
type nextAsked struct {
	shapes   []sweep.Shape
	sizes    []int
	goals    precision.Goals
	slos     []slo.Objective
	minutes  float64 // of GPUs; 0: no limit
	overhead float64
	gpus     int
}

// nextOptions reads the flags and reports every mistake among them.
func nextOptions(c *cli.Context) (a nextAsked, err error) {
	n := steps.Next
	a = nextAsked{minutes: n.MaxGPUMinutes.In(c), overhead: n.NodeOverhead.In(c), gpus: n.GPUs.In(c)}
	var errs []error
	bad := func(flag string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	for _, text := range sweep.Items(n.Shapes.In(c)) {
		shape, err := sweep.ParseShape(text)
		bad("shapes", err)
		a.shapes = append(a.shapes, shape)
	}
	a.sizes, err = sweep.ParseBatchSizes(n.BatchSizes.In(c))
	bad("batch-sizes", err)
	a.goals, err = precision.Parse(n.Precision.In(c))
	bad("precision", err)
	if text := n.SLO.In(c); text != "" {
		a.slos, err = slo.Parse(text)
		bad("slo", err)
	}
	if a.goals.Wants(precision.Capacity) && len(a.slos) == 0 {
		bad("precision", errors.New("a capacity is one within objectives; give --slo"))
	}
	if len(a.shapes) == 0 || len(a.sizes) < 2 || slices.Min(append(slices.Clone(a.sizes), 1)) < 1 {
		errs = append(errs, fmt.Errorf("--shapes, --batch-sizes: %d shapes and batch sizes %v; a line needs a shape and two batch sizes, each 1 or more", len(a.shapes), a.sizes))
	}
	if !(a.minutes >= 0) || !(a.overhead >= 0) || a.gpus < 1 || !(n.MaxSeconds.In(c) >= 0) || n.Round.In(c) < 1 || n.MaxRounds.In(c) < 1 || n.MaxNumSeqs.In(c) < 0 {
		errs = append(errs, fmt.Errorf("--max-gpu-minutes %v, --node-overhead %v, --max-seconds %v, --max-num-seqs %d: expected 0 or more; --gpus %d, --round %d, --max-rounds %d: expected 1 or more",
			a.minutes, a.overhead, n.MaxSeconds.In(c), n.MaxNumSeqs.In(c), a.gpus, n.Round.In(c), n.MaxRounds.In(c)))
	}
	return a, errors.Join(errs...)
}

func runNext(c *cli.Context) error {
	a, err := nextOptions(c)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	in, skipped, err := aggregate.Load(c.Context, present(c, c.Args().Slice()), "", &report.Options{})
	if err != nil {
		return err
	}
	for _, s := range skipped {
		fmt.Fprintf(c.App.ErrWriter, "skipped %s\n", s)
	}
	r := chooseNext(c, a, in)
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.App.Writer, string(data))
	if steps.Next.Output.In(c) == "" {
		return nil
	}
	out, err := store.New(c.Context, steps.Next.Output.In(c))
	if err != nil {
		return err
	}
	points, err := json.Marshal(r.Points)
	if err != nil {
		return err
	}
	for output, value := range map[layout.Output]string{layout.OutPoints: string(points), layout.OutEnded: r.Ended, layout.OutReasons: r.Reason()} {
		if err := out.Put(c.Context, output.Key(), strings.NewReader(value)); err != nil {
			return err
		}
	}
	return nil
}

// chooseNext is the next round, and says on stderr what a sweep that ends has saved.
func chooseNext(c *cli.Context, a nextAsked, in aggregate.Inputs) precision.Round {
	n := steps.Next
	r := precision.Round{Schema: precision.RoundSchema, Number: n.Round.In(c), Points: []precision.Point{}}
	measured := aggregate.Points(in, n.Accelerator.In(c))
	left, spent, overhead, count := math.Inf(1), 0.0, 0.0, 0.0
	for _, points := range measured {
		for _, p := range points {
			spent += p.Seconds + p.OverheadSeconds + a.overhead
			overhead += p.OverheadSeconds + a.overhead
			count++
		}
	}
	if a.minutes > 0 {
		left = 60*a.minutes/float64(a.gpus) - spent
	}
	var ended []string
	var saved []string
	for _, shape := range a.shapes {
		points := measured[shape]
		w := design.Wish{
			Shape: shape, BatchSizes: a.sizes, Goals: a.goals, MaxSeconds: n.MaxSeconds.In(c), Overhead: a.overhead,
			Left: left, Round: r.Number, MostRounds: n.MaxRounds.In(c), Capacity: func() design.Capacity { return capacityOf(c, a, in, shape) },
		}
		d := design.Decision{Why: precision.Refused, Detail: "the first round left no measurement"}
		if len(points) > 0 || r.Number == 1 {
			d = design.Next(designed(points), w)
		}
		for _, one := range d.Runs {
			left -= one.Seconds
			r.Points = append(r.Points, precision.Point{PromptTokens: shape.PromptTokens, OutputTokens: shape.OutputTokens, BatchSize: one.BatchSize, MaxSeconds: int(one.Seconds)})
		}
		ended = append(ended, d.Why)
		if text := d.Describe(); text != "" {
			r.Reasons = append(r.Reasons, fmt.Sprintf("%s: %s", shape, text))
		}
		if len(points) > 0 {
			saved = append(saved, savings(designed(points), w, a)...)
		}
	}
	number(r.Points, measured)
	if len(r.Points) > 0 {
		return r
	}
	r.Ended = precision.Reached
	for _, why := range ended {
		if why != precision.Reached {
			r.Ended = why
			break
		}
	}
	if spent > 0 {
		fmt.Fprintf(c.App.ErrWriter, "ended by %s after %.1f GPU-minutes; overhead per point: %.2g s, %.0f %% of it\n",
			r.Ended, spent/60*float64(a.gpus), overhead/count, 100*overhead/spent)
	}
	for _, line := range append(slices.Clone(r.Reasons), saved...) {
		fmt.Fprintln(c.App.ErrWriter, line)
	}
	return r
}

// designed are points as a design takes them.
func designed(points []aggregate.Point) []design.Measured {
	var all []design.Measured
	for _, p := range points {
		m := design.Measured{Point: p.Point, BatchSize: p.BatchSize, Seconds: p.Seconds + p.OverheadSeconds}
		if p.Client != nil {
			m.Window = p.Client.WindowSeconds
		}
		all = append(all, m)
	}
	return all
}

// number gives each point the end of its name: none of those that were measured has it.
func number(points []precision.Point, measured map[sweep.Shape][]aggregate.Point) {
	type of struct {
		shape sweep.Shape
		batch int
	}
	next := map[of]int{}
	for shape, ms := range measured {
		for _, m := range ms {
			k := of{shape, m.BatchSize}
			name := strings.TrimSuffix(m.File[strings.LastIndex(m.File, "/")+1:], ".json")
			next[k] = max(next[k], sweep.AgainOf(name)+1)
		}
	}
	for i, p := range points {
		k := of{sweep.Shape{PromptTokens: p.PromptTokens, OutputTokens: p.OutputTokens}, p.BatchSize}
		points[i].Again = sweep.AgainEnd(next[k])
		next[k]++
	}
}

// fixedSeconds are those of each point of the design that asks for no precision.
const fixedSeconds = 120

// savings says what the same would have taken otherwise, and how well it is expected to
// be told then.
func savings(points []design.Measured, w design.Wish, a nextAsked) []string {
	spent := 0.0
	for _, p := range points {
		spent += p.Seconds + a.overhead
	}
	fixed, recipe := design.Alternatives(points, w, fixedSeconds)
	widths := func(alternative design.Alternative) string {
		var parts []string
		for i, g := range a.goals {
			parts = append(parts, fmt.Sprintf("%s ±%s", g.Of, precision.Percent(alternative.Widths[i])))
		}
		return strings.Join(parts, ", ")
	}
	minutes := func(seconds float64) float64 { return seconds / 60 * float64(a.gpus) }
	return []string{
		fmt.Sprintf("%s: %.1f GPU-minutes; all %d batch sizes for %d s each would take %.1f (expected: %s)",
			w.Shape, minutes(spent), len(w.BatchSizes), fixedSeconds, minutes(fixed.Seconds), widths(fixed)),
		fmt.Sprintf("%s: the two-run recipe takes %.1f, and has no intervals (its estimates would scatter by %s)", w.Shape, minutes(recipe.Seconds), widths(recipe)),
	}
}

// capacityOf is how well the capacity of the accelerator is told by what was measured.
func capacityOf(c *cli.Context, a nextAsked, in aggregate.Inputs, shape sweep.Shape) design.Capacity {
	s := aggregate.Estimate(in, aggregate.Options{Method: fit.WLS, Source: measurement.Auto, TTFT: measurement.Auto, Batch: measurement.Auto, Shapes: a.shapes})
	s.Parameters = only(s.Parameters, func(p parameters.Parameters) bool {
		return p.Accelerator == steps.Next.Accelerator.In(c) && p.Shape == shape
	})
	o := capacity.Options{SLOs: a.slos, Spread: sweep.OutputSpread}
	if n := steps.Next.MaxNumSeqs.In(c); n > 0 {
		o.MaxNumSeqs = map[string]int{"": n}
	}
	for _, one := range capacity.Of(s, o).Capacities {
		if one.Rate != nil && one.Rate.Low != nil && one.Rate.Value > 0 && one.InFlight != nil {
			return design.Capacity{Share: (*one.Rate.High - *one.Rate.Low) / 2 / one.Rate.Value, Batch: one.InFlight.Value}
		}
	}
	return design.Capacity{Share: math.NaN(), Batch: float64(slices.Max(a.sizes))}
}
