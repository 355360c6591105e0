package stepcli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/aggregate"
	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/compare"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/page"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

// Formats of a report.
const (
	formatHTML     = "html"
	formatMarkdown = "markdown"
	formatText     = "text"
)

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "make a page that one can look at",
		ArgsUsage: "PATH...",
		Description: `Reads measurements, raw reports, parameters, summaries and capacity.json, in any
mixture, from files, directories and s3:// prefixes, and makes a report of them: the
verdict of every accelerator and shape, what one replica bears within the objectives,
where step capacity was asked, all of them side by side, and then the evidence: the
points with their errors, the line with its interval, what was left out and why, the
course of every point in time, what the witnesses said, where the numbers come from
and how to measure them again.

The page is one HTML file without scripts that asks nobody for anything. Parameters
that were made already are shown as they are; where there are measurements alone they
are estimated first, with the defaults of step aggregate. The pictures of time and of
distributions are made of measurements: name the run, not its summary, to have them.

Examples:
  step report runs/monday --output monday.html
  step report runs/monday --compare runs/last-week --output monday.html
  step report s3://results/runs/7 --output s3://results/runs/7/report/index.html
  step report runs/monday --format markdown | gh pr comment 42 --body-file -`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Value: "-", Usage: "`FILE` or s3://bucket/key that gets the report; - for stdout"},
			&cli.StringFlag{Name: "format", Value: formatHTML, Usage: "html (the page), markdown (the answer, for pull requests and chat) or text (the table of step aggregate)"},
			&cli.BoolFlag{Name: "verbose", Usage: "for --format text: everything that is known of each set of parameters"},
			&cli.StringFlag{Name: "compare", Usage: "an earlier run at `PATH`: the report says what has changed since"},
			&cli.StringFlag{Name: "band", Value: "5%", Usage: "change that --compare tolerates, such as 5% or 0.05"},
			&cli.StringFlag{Name: "model", Usage: "the model's name, for raw reports, which often hold a path or an alias"},
			&cli.StringFlag{Name: "accelerator", Usage: "`NAME` of the accelerator, for raw reports, which seldom hold it"},
		},
		Action: runReport,
	}
}

func runReport(c *cli.Context) error {
	var errs []error
	if !c.Args().Present() {
		errs = append(errs, errors.New("nothing to read: name files, directories or s3:// prefixes"))
	}
	format := c.String("format")
	if formats := []string{formatHTML, formatMarkdown, formatText}; !slices.Contains(formats, format) {
		errs = append(errs, fmt.Errorf("--format: found %q, expected one of %s", format, strings.Join(formats, ", ")))
	}
	band, err := sweep.ParseShare(c.String("band"))
	if err != nil {
		errs = append(errs, fmt.Errorf("--band: %w", err))
	}
	if c.String("compare") != "" && format == formatText {
		errs = append(errs, errors.New("--compare: a report as text has no place for it; use step compare, or another --format"))
	}
	if err := errors.Join(errs...); err != nil {
		return exit.With(exit.Usage, err)
	}

	in, skipped, err := aggregate.Load(c.Context, c.Args().Slice(), "", &report.Options{Model: c.String("model"), Accelerator: c.String("accelerator")})
	if err != nil {
		return err
	}
	for _, s := range skipped {
		fmt.Fprintf(c.App.ErrWriter, "skipped %s\n", s)
	}
	if len(in.Measurements)+len(in.Parameters)+len(in.Failures) == 0 {
		return exit.Errorf(exit.Refused, "%s: no measurement, report, parameters or summary found", strings.Join(c.Args().Slice(), ", "))
	}
	summary := aggregate.Shown(in, aggregate.Options{Method: fit.WLS, Source: measurement.Auto, TTFT: measurement.Auto, Batch: measurement.Auto})
	content := contentOf(summary, in)
	for _, at := range c.Args().Slice() {
		f, err := capacityAt(c.Context, at)
		if err != nil {
			return err
		}
		content.Capacity = append(content.Capacity, f.Capacities...)
	}
	if before := c.String("compare"); before != "" {
		old, err := summaryAt(c.Context, before)
		if err != nil {
			return err
		}
		content.Before = before
		content.Changes, content.Notes, err = compare.Compare(old, content.Summary, band)
		if err != nil { // a part that cannot be compared is a note of the report
			content.Notes = append(content.Notes, err.Error())
		}
	}

	var b bytes.Buffer
	switch format {
	case formatHTML:
		err = page.HTML(&b, content)
	case formatMarkdown:
		err = page.Markdown(&b, content)
	case formatText:
		err = aggregate.Print(&b, content.Summary, c.Bool("verbose"))
	}
	if err != nil {
		return err
	}
	return writeTo(c, c.String("output"), &b)
}

// contentOf is what a report of a summary shows.
func contentOf(s parameters.Summary, in aggregate.Inputs) page.Content {
	c := page.Content{Summary: s}
	for _, m := range in.Measurements {
		c.Measurements = append(c.Measurements, m.Measurement)
	}
	return c
}

// capacityAt reads capacity.json, named itself or by what holds it; empty where there is
// none.
func capacityAt(ctx context.Context, location string) (capacity.File, error) {
	switch ext := path.Ext(location); {
	case path.Base(location) == layout.Capacity:
	case ext == ".json":
		return capacity.File{}, nil
	default:
		location = strings.TrimRight(location, "/") + "/" + layout.Capacity
	}
	r, err := store.OpenPath(ctx, location)
	if errors.Is(err, fs.ErrNotExist) {
		return capacity.File{}, nil
	}
	if err != nil {
		return capacity.File{}, err
	}
	defer r.Close()
	return capacity.Decode(r, location)
}

// writeTo writes a file, an object, or stdout for -, whole or not at all.
func writeTo(c *cli.Context, location string, r io.Reader) error {
	if location == "-" {
		_, err := io.Copy(c.App.Writer, r)
		return err
	}
	dir, file := filepath.Dir(location), filepath.Base(location)
	if store.IsRemote(location) {
		i := strings.LastIndex(location, "/")
		dir, file = location[:i], location[i+1:]
		if path.Ext(file) == "" {
			return exit.Errorf(exit.Usage, "--output: %s names no object with an extension; give s3://bucket/prefix/report.html", location)
		}
	}
	s, err := store.New(c.Context, dir)
	if err != nil {
		return err
	}
	return s.Put(c.Context, file, r)
}
