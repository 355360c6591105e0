package stepcli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
	"wfgen.dev/internal/run/steps"
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
		Name:      steps.Report.Name,
		Usage:     "make a page that one can look at",
		ArgsUsage: "PATH...",
		Description: `Reads measurements, raw reports, parameters, summaries and capacity.json, in any
mixture, from files, directories and s3:// prefixes, and makes a report of them: the
verdict of every accelerator and shape, what one replica can handle within the objectives,
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
		Flags: append(steps.Report.Flags(),
			&cli.StringFlag{Name: "format", Value: formatHTML, Usage: "html (the page), markdown (the answer, for pull requests and chat) or text (the table of step aggregate)"},
			&cli.BoolFlag{Name: "verbose", Usage: "for --format text: everything that is known of each set of parameters"},
			&cli.StringFlag{Name: "compare", Usage: "an earlier run at `PATH`: the report says what has changed since"},
			&cli.StringFlag{Name: "band", Value: "5%", Usage: "change that --compare tolerates, such as 5% or 0.05"},
			&cli.StringFlag{Name: "model", Usage: "the model's name, for raw reports, which often hold a path or an alias"},
			&cli.StringFlag{Name: "accelerator", Usage: "`NAME` of the accelerator, for raw reports, which seldom hold it"},
		),
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
		found, err := capacitiesAt(c.Context, at)
		if err != nil {
			return err
		}
		content.Capacity = append(content.Capacity, found...)
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
	return writeTo(c, steps.Report.Output.In(c), &b)
}

// contentOf is what a report of a summary shows.
func contentOf(s parameters.Summary, in aggregate.Inputs) page.Content {
	c := page.Content{Summary: s}
	for _, m := range in.Measurements {
		if m.Open == nil { // otherwise it is the check of a capacity, and shown there
			c.Measurements = append(c.Measurements, m.Measurement)
		}
	}
	return c
}

// capacitiesAt reads capacity.json, named itself, or all that a directory or a prefix holds.
func capacitiesAt(ctx context.Context, location string) (all []capacity.Capacity, err error) {
	files, err := recordsAt(ctx, location, layout.Capacity, capacity.Decode)
	for _, f := range files {
		all = append(all, f.Capacities...)
	}
	return all, err
}

// recordsAt reads files of a name in the same way.
func recordsAt[T any](ctx context.Context, location, base string, decode func(r io.Reader, name string) (T, error)) (all []T, err error) {
	read := func(name string, open func() (io.ReadCloser, error)) error {
		r, err := open()
		if err != nil {
			return err
		}
		defer r.Close()
		one, err := decode(r, name)
		all = append(all, one)
		return err
	}
	switch ext := path.Ext(location); {
	case path.Base(location) == base:
		return all, read(location, func() (io.ReadCloser, error) { return store.OpenPath(ctx, location) })
	case ext == ".json" || location == store.Stdin:
		return nil, nil
	}
	if !store.IsRemote(location) && !isDir(location) {
		return nil, nil
	}
	s, err := store.New(ctx, location)
	if err != nil {
		return nil, err
	}
	keys, err := s.List(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if path.Base(key) != base {
			continue
		}
		if err := read(strings.TrimRight(location, "/")+"/"+key, func() (io.ReadCloser, error) { return s.Open(ctx, key) }); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
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
