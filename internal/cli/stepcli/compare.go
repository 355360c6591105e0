package stepcli

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/aggregate"
	"wfgen.dev/internal/estimate/compare"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

func compareCommand() *cli.Command {
	return &cli.Command{
		Name:      "compare",
		Usage:     "say whether two estimates differ",
		ArgsUsage: "OLD NEW",
		Description: `Reads two parameters.json or summary.json files, or directories or s3:// prefixes
that hold some, and compares what both have: the same model, accelerator and shape.
Prints one line per parameter with the change, its 95 % interval and its p-value,
and one joint test of all parameters of a set. A parameter drifts when it changed by
more than --band, significantly (5 %), and the joint test says so too; over all sets
together false alarms stay below 5 %.

Exits with 3 when something drifts, with 2 when OLD and NEW have nothing in common,
and with 65 when one of them is refused. Other things that differ (server version,
image, GPU, driver) are warned of on stderr.

Example:
  step compare s3://results/latest/org--model/A100/128-128.json out/parameters.json --band 5%`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "band", Value: "5%", Usage: "change that is tolerated, such as 5% or 0.05"},
		},
		Action: runCompare,
	}
}

func runCompare(c *cli.Context) error {
	band, err := sweep.ParseShare(c.String("band"))
	if err != nil {
		return exit.Errorf(exit.Usage, "--band: %w", err)
	}
	if n := c.NArg(); n != 2 {
		return exit.Errorf(exit.Usage, "expected OLD and NEW, found %d arguments", n)
	}
	before, err := summaryAt(c.Context, c.Args().Get(0))
	if err != nil {
		return err
	}
	after, err := summaryAt(c.Context, c.Args().Get(1))
	if err != nil {
		return err
	}
	results, notes, err := compare.Compare(before, after, band)
	for _, n := range notes {
		fmt.Fprintln(c.App.ErrWriter, n)
	}
	var drift []string
	for i, r := range results {
		if i > 0 {
			fmt.Fprintln(c.App.Writer)
		}
		for _, w := range r.Warnings {
			fmt.Fprintf(c.App.ErrWriter, "%s of %s: %s\n", r.Model, r.What, w)
		}
		if err := printComparison(c.App.Writer, r, band); err != nil {
			return err
		}
		for _, name := range r.Drift {
			drift = append(drift, fmt.Sprintf("%s of %s, %s", name, r.What, r.Model))
		}
	}
	if err != nil {
		return err
	}
	if len(drift) > 0 {
		return exit.Errorf(exit.Drift, "beyond the band of %s: %s", c.String("band"), strings.Join(drift, "; "))
	}
	return nil
}

// summaryAt is all parameters at a location, each once.
func summaryAt(ctx context.Context, location string) (parameters.Summary, error) {
	in, _, err := aggregate.Load(ctx, []string{location}, "", nil)
	if err != nil {
		return parameters.Summary{}, err
	}
	if len(in.Parameters)+len(in.Joint) == 0 {
		return parameters.Summary{}, exit.Errorf(exit.Refused, "%s: no parameters found; make them with step aggregate", store.Called(location))
	}
	return aggregate.Estimate(aggregate.Inputs{Parameters: in.Parameters, Joint: in.Joint}, aggregate.Options{}), nil
}

func printComparison(w io.Writer, r compare.Result, band float64) error {
	fmt.Fprintf(w, "%s of %s\n", r.Model, r.What)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	unsure := 0.0
	for _, c := range r.Changes {
		switch {
		case c.Note != "":
			fmt.Fprintf(t, "  %s\t%s -> %s\t%s\n", c.Name, parameters.Format(c.Old), parameters.Format(c.New), c.Note)
			continue
		case math.IsNaN(c.P):
			fmt.Fprintf(t, "  %s\t%s -> %s\t%+.1f %%\tno interval\n", c.Name, parameters.Format(c.Old), parameters.Format(c.New), c.Percent)
		default:
			fmt.Fprintf(t, "  %s\t%s -> %s\t%+.1f %%\t[%+.1f, %+.1f]\t%s\n", c.Name, parameters.Format(c.Old), parameters.Format(c.New), c.Percent, c.Low, c.High, chance(c.P))
			unsure = max(unsure, -c.Low, c.High)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := "no drift"
	switch {
	case len(r.Drift) > 0:
		verdict = "DRIFT: " + strings.Join(r.Drift, ", ")
	case r.FamilyP < 1-fit.Confidence:
		verdict = "changed, but no parameter significantly beyond the band"
	case unsure > 100*band:
		verdict = fmt.Sprintf("no drift shown, but a change of up to %.1f %% cannot be excluded; measure longer", unsure)
	}
	test := "no joint test: one side has no intervals"
	if r.Tested > 0 {
		test = fmt.Sprintf("joint test of %d parameters %s", r.Tested, chance(r.P))
		if r.FamilyP > r.P {
			test += fmt.Sprintf(" (among all sets %s)", chance(r.FamilyP))
		}
	}
	_, err := fmt.Fprintf(w, "  %s; %s\n", test, verdict)
	return err
}

// chance writes a p-value.
func chance(p float64) string {
	if p < 0.001 {
		return "p<0.001"
	}
	return fmt.Sprintf("p=%.3f", p)
}
