package stepcli

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

func predictCommand() *cli.Command {
	return &cli.Command{
		Name:      "predict",
		Usage:     "predict ITL, TTFT and linear4 at a shape, measured or not",
		ArgsUsage: "SUMMARY",
		Description: `Reads a summary.json (or a directory or s3:// prefix that holds one) of a sweep over
two shapes or more and predicts what a closed loop of --batch requests would see at
--shape, by the model of all shapes that predicts best, with the 95 % interval of what
would be measured: what is not known of the terms, and how far the model is off shapes
that it has not seen. Also prints the linear4 that follows for that shape between --from
and --batch, with 95 % intervals. With --fit linear4 it predicts from the lines of a
shape that was measured.

What lies beyond the prompts, contexts and batches that were measured is refused with
65 unless --extrapolate is given.

Example:
  step predict runs/monday/summary.json --shape 700/300 --batch 32`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "shape", Required: true, Usage: "prompt and output tokens, such as 700/300"},
			&cli.Float64Flag{Name: "batch", Required: true, Usage: "requests in the server together"},
			&cli.Float64Flag{Name: "from", Value: 1, Usage: "smallest batch of the linear4 that is printed, where it is below --batch"},
			&cli.StringFlag{Name: "fit", Value: best, Usage: "engine or iteration3; best, whichever of them predicts shapes left out of it better; or linear4, of a shape that was measured"},
			&cli.StringFlag{Name: "accelerator", Usage: "which one, where there are several"},
			&cli.BoolFlag{Name: "extrapolate", Usage: "predict beyond what was measured, too"},
		},
		Action: runPredict,
	}
}

// best stands for whichever model of all shapes predicts best.
const best = "best"

func runPredict(c *cli.Context) error {
	var errs []error
	shape, err := sweep.ParseShape(c.String("shape"))
	if err != nil {
		errs = append(errs, fmt.Errorf("--shape: %w", err))
	}
	from, batch, name := c.Float64("from"), c.Float64("batch"), c.String("fit")
	if !(from >= 1 && batch >= from) {
		errs = append(errs, fmt.Errorf("--from %v, --batch %v: expected 1 <= from <= batch", from, batch))
	}
	if fit.TermNames(name) == nil && name != parameters.Linear4 && name != best {
		errs = append(errs, fmt.Errorf("--fit: found %q, expected %s, %s, %s or %s", name, best, fit.Engine, fit.Iteration3, parameters.Linear4))
	}
	if c.NArg() != 1 {
		errs = append(errs, fmt.Errorf("expected one SUMMARY, found %d arguments", c.NArg()))
	}
	if err := errors.Join(errs...); err != nil {
		return exit.With(exit.Usage, err)
	}
	s, err := summaryAt(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	if name == parameters.Linear4 {
		return predictLines(c, s, shape, batch)
	}
	var found []parameters.Joint
	for _, j := range s.Joint {
		if (j.Fit == name || name == best) && (c.String("accelerator") == "" || j.Accelerator == c.String("accelerator")) {
			found = append(found, j)
		}
	}
	names := parameters.Distinct(found, func(j parameters.Joint) string { return j.Model + " on " + j.Accelerator })
	switch {
	case len(found) == 0:
		return exit.Errorf(exit.Refused, "%s: holds no model of all shapes (--fit %s); it takes a sweep over two shapes or more", store.Called(c.Args().First()), name)
	case len(names) > 1:
		return exit.Errorf(exit.Usage, "%s holds models of %s; choose with --accelerator, or name one model's file", store.Called(c.Args().First()), strings.Join(names, ", "))
	}
	w := fit.Work{Batch: batch, PromptTokens: float64(shape.PromptTokens), OutputTokens: float64(shape.OutputTokens)}
	j := bestFor(w, found)
	model, err := j.Predictor()
	if err != nil {
		return exit.With(exit.Refused, err)
	}
	if beyond := model.Outside(w); len(beyond) > 0 {
		if !c.Bool("extrapolate") {
			return exit.Errorf(exit.Refused, "beyond what was measured: %s; measure there, or take the risk with --extrapolate", strings.Join(beyond, "; "))
		}
		fmt.Fprintf(c.App.ErrWriter, "EXTRAPOLATED: %s\n", strings.Join(beyond, "; "))
	}
	if j.LeftOutErrorPercent == nil && !slices.ContainsFunc(j.Linear4, func(l parameters.Implied) bool { return l.Shape == shape }) {
		fmt.Fprintf(c.App.ErrWriter, "warning: how far %s is off a shape that it has not seen is not known, and not in the intervals: none of its %d shapes can be left out of it; measure one more\n", j.Fit, j.Shapes)
	}
	itl, ttft := model.Predict(w)
	ofITL, ofTTFT := model.Interval(w, 0)
	fmt.Fprintf(c.App.Writer, "%s of %s on %s, %s tokens, batch %v: ITL %s, TTFT %s\n", j.Fit, j.Model, j.Accelerator, shape, batch, between(itl, ofITL), between(ttft, ofTTFT))
	if from >= batch {
		return nil
	}
	implied, err := j.Imply(shape, from, batch)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "linear4 between the batches %v and %v:\n", from, batch)
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, p := range []struct {
		name     string
		value    float64
		interval *parameters.Interval
	}{{"alpha", implied.Alpha, implied.Intervals.Alpha}, {"beta", implied.Beta, implied.Intervals.Beta}, {"gamma", implied.Gamma, implied.Intervals.Gamma}, {"delta", implied.Delta, implied.Intervals.Delta}} {
		between := "no interval"
		if p.interval != nil {
			between = fmt.Sprintf("95 %% [%s, %s]", parameters.Format(p.interval.Low), parameters.Format(p.interval.High))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t\n", p.name, parameters.Format(p.value), between)
	}
	return t.Flush()
}

// bestFor is the model that predicts best, of those that were fitted to such work where
// one was: iteration3 leaves batch 1 out.
func bestFor(w fit.Work, models []parameters.Joint) parameters.Joint {
	within := slices.DeleteFunc(slices.Clone(models), func(j parameters.Joint) bool {
		model, err := j.Predictor()
		return err != nil || len(model.Outside(w)) > 0
	})
	if i := parameters.Best(within); i >= 0 {
		return within[i]
	}
	return models[max(0, parameters.Best(models))]
}

// between is a latency with the interval of what would be measured, where it is known.
func between(ms float64, interval [2]float64) string {
	text := parameters.Format(ms) + " ms"
	if !math.IsNaN(interval[0]) {
		text += fmt.Sprintf(" 95 %% [%s, %s]", parameters.Format(interval[0]), parameters.Format(interval[1]))
	}
	return text
}

// predictLines predicts from the linear4 of a measured shape.
func predictLines(c *cli.Context, s parameters.Summary, shape sweep.Shape, batch float64) error {
	found := 0
	for _, p := range s.Parameters {
		if p.Shape != shape || c.String("accelerator") != "" && p.Accelerator != c.String("accelerator") {
			continue
		}
		found++
		text := []string{}
		for _, l := range []struct {
			name string
			has  bool
			line *parameters.Line
			at   func() parameters.Step
		}{
			{"ITL", p.HasITL(), p.Fit.Diagnostics.ITL, func() parameters.Step { return p.PredictITL(batch) }},
			{"TTFT", p.HasTTFT(), p.Fit.Diagnostics.TTFT, func() parameters.Step { return p.PredictTTFT(batch, float64(shape.PromptTokens)) }},
		} {
			if !l.has {
				text = append(text, l.name+" refused")
				continue
			}
			const slack = 0.05 // the batch measured is never quite that asked for
			if l.line != nil && (batch > l.line.LinearTo*(1+slack) || batch < l.line.LinearFrom*(1-slack) && l.line.LinearFrom > 2.1) {
				beyond := fmt.Sprintf("%s: batch %v, where the line is that of the batches %.4g to %.4g", l.name, batch, l.line.LinearFrom, l.line.LinearTo)
				if !c.Bool("extrapolate") {
					return exit.Errorf(exit.Refused, "beyond what was measured: %s; measure there, or take the risk with --extrapolate", beyond)
				}
				fmt.Fprintf(c.App.ErrWriter, "EXTRAPOLATED: %s\n", beyond)
			}
			step := l.at()
			text = append(text, l.name+" "+between(step.MS, [2]float64{step.Low, step.High}))
		}
		fmt.Fprintf(c.App.Writer, "%s of %s on %s, %s tokens, batch %v: %s\n", parameters.Linear4, p.Model, p.Accelerator, shape, batch, strings.Join(text, ", "))
	}
	if found == 0 {
		return exit.Errorf(exit.Refused, "%s: holds no parameters of %s; --fit %s predicts shapes that were not measured", store.Called(c.Args().First()), shape, fit.Engine)
	}
	return nil
}
