package stepcli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/aggregate"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/slo"
	"wfgen.dev/internal/version"
)

func measureCommand() *cli.Command {
	return &cli.Command{
		Name:      "measure",
		Usage:     "reduce existing reports to measurements",
		ArgsUsage: "REPORT...",
		Description: `Reads reports of guidellm, the native driver, AIPerf, vllm bench, SGLang's bench_serving,
inference-perf, GenAI-Perf, Benchmark Reports and plain CSV (docs/formats.md), as files,
directories, s3://bucket/key, or - for stdin, and prints one measurement per benchmark in
them. What a format does not say is asked for: --model, --shape, --batch-size.
With --output it writes those that can be used, for step aggregate. What cannot be
used is named on stderr with the reason; the exit code is 65 when nothing can be.

Examples:
  step measure --accelerator A100 synchronous.json throughput.json
  step measure --accelerator H100 artifacts/               # a sweep of AIPerf
  step measure --accelerator A100 --batch-size 64 --output out synchronous.json throughput.json
  gunzip -c sweep.json.gz | step measure --accelerator H100 --format json -
  COLUMNS=250 guidellm benchmark ... | tee log.txt
  step measure --from-log --shape 128/128 log.txt`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "accelerator", Usage: "`NAME` that the results are keyed by"},
			&cli.StringFlag{Name: "model", Usage: "`NAME` that the results are keyed by, instead of the report's"},
			&cli.StringFlag{Name: "shape", Usage: "`PROMPT/OUTPUT` tokens, such as 128/128, for reports that do not state them"},
			&cli.IntFlag{Name: "batch-size", Usage: "requests in flight, for reports that do not state them"},
			&cli.StringFlag{Name: "output", Usage: "directory or s3://bucket/prefix to write ACCELERATOR/measurements/*.json to"},
			&cli.StringFlag{Name: "format", Value: "table", Usage: "what to print: table, or json (a list of measurements, void ones included)"},
			&cli.StringFlag{Name: "slo", Usage: "objectives that requests which arrived at a rate are held against, as `LIST` such as ttft=250ms,p90.itl=20ms"},
			&cli.BoolFlag{Name: "from-log", Usage: "the arguments are console logs of guidellm 0.2 or 0.3: one decimal, the last resort"},
		},
		Action: measure,
	}
}

func measure(c *cli.Context) error {
	o, err := measureOptions(c)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	var out store.Store
	if c.String("output") != "" {
		if out, err = store.New(c.Context, c.String("output")); err != nil {
			return err
		}
	}
	read := report.Read
	if c.Bool("from-log") {
		read = report.ReadLog
	}
	var all, usable []measurement.Measurement
	var failed []error // other than for what the report says
	names, listed, err := reportsAt(c)
	if err != nil {
		return err
	}
	for _, name := range names {
		found, err := measureFile(c.Context, name, read, o)
		if err != nil && len(names) == 1 && !listed[name] {
			return err
		}
		if listed[name] && exit.Code(err) == exit.Refused {
			err = fmt.Errorf("skipped %w", err)
		}
		if err != nil {
			fmt.Fprintln(c.App.ErrWriter, err)
		}
		if err != nil && exit.Code(err) != exit.Refused {
			failed = append(failed, err)
		}
		for _, m := range found {
			m.Provenance.Tool = "step " + version.Version()
			all = append(all, m)
			if len(m.Taken.Void) == 0 {
				usable = append(usable, m)
			}
		}
	}
	explainMeasurements(c.App.ErrWriter, all)
	if c.String("format") == "json" {
		err = printJSON(c.App.Writer, all)
	} else {
		err = printMeasurements(c.App.Writer, all)
	}
	if err != nil {
		return err
	}
	if out != nil {
		if err := writeMeasurements(c.Context, out, usable); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return exit.Errorf(exit.Code(failed[0]), "%d of %d reports could not be read", len(failed), c.NArg())
	}
	if len(all) == 0 {
		return exit.Errorf(exit.Refused, "no report in %s: in a directory files of JSON, CSV and YAML are looked at; give an HTML page by its own name", strings.Join(c.Args().Slice(), ", "))
	}
	if len(usable) == 0 {
		return exit.Errorf(exit.Refused, "no usable measurement in %s; the reasons are above", strings.Join(c.Args().Slice(), ", "))
	}
	return nil
}

// measureOptions reads the flags and reports every mistake among them.
func measureOptions(c *cli.Context) (report.Options, error) {
	o := report.Options{Accelerator: c.String("accelerator"), Model: c.String("model"), BatchSize: c.Int("batch-size")}
	var errs []error
	if c.NArg() == 0 {
		errs = append(errs, errors.New("no report given; give files, s3://bucket/key, or - for stdin"))
	}
	stdin := slices.DeleteFunc(slices.Clone(c.Args().Slice()), func(name string) bool { return name != store.Stdin })
	if len(stdin) > 1 {
		errs = append(errs, errors.New("-: stdin is given twice, but can be read once"))
	}
	if text := c.String("shape"); text != "" {
		shape, err := sweep.ParseShape(text)
		if err != nil {
			err = fmt.Errorf("--shape: %w", err)
		}
		o.Shape, errs = shape, append(errs, err)
	}
	if text := c.String("slo"); text != "" {
		slos, err := slo.Parse(text)
		if err != nil {
			err = fmt.Errorf("--slo: %w", err)
		}
		o.SLOs, errs = slos, append(errs, err)
	}
	if c.IsSet("batch-size") && o.BatchSize < 1 {
		errs = append(errs, fmt.Errorf("--batch-size: %d is below 1", o.BatchSize))
	}
	if f := c.String("format"); f != "table" && f != "json" {
		errs = append(errs, fmt.Errorf("--format: %q is neither table nor json", f))
	}
	return o, errors.Join(errs...)
}

// reportsAt are the reports that the arguments name, and those among them that are
// only listed in a directory.
func reportsAt(c *cli.Context) (names []string, listed map[string]bool, err error) {
	listed = map[string]bool{}
	for _, location := range c.Args().Slice() {
		if info, err := os.Stat(location); location == store.Stdin || !store.IsRemote(location) && (err != nil || !info.IsDir()) || store.IsRemote(location) && report.Readable(location) {
			names = append(names, location)
			continue
		}
		found, err := aggregate.Reports(c.Context, location)
		if err != nil {
			return nil, nil, err
		}
		for _, name := range found {
			names, listed[name] = append(names, name), true
		}
	}
	return names, listed, nil
}

type reader = func(io.Reader, string, report.Options) ([]measurement.Measurement, error)

func measureFile(ctx context.Context, name string, read reader, o report.Options) ([]measurement.Measurement, error) {
	f, err := store.OpenPath(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	o.Beside = report.BesidePath(ctx, name, store.OpenPath)
	return read(f, store.Called(name), o)
}

// writeMeasurements writes all or, where one cannot be named or stands for the
// same point as another, none.
func writeMeasurements(ctx context.Context, out store.Store, usable []measurement.Measurement) error {
	var mistakes []string
	bad := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); !slices.Contains(mistakes, text) { // many points of a report share one
			mistakes = append(mistakes, text)
		}
	}
	files := map[string][]byte{}
	from, began := map[string]string{}, map[string]float64{}
	var keys []string
	for _, m := range usable {
		point := sweep.Point{Accelerator: m.Accelerator, Shape: m.Shape, BatchSize: m.BatchSize}
		// The place that it has in a run, below the run.
		place := func() string {
			if m.Open != nil {
				return path.Join(layout.AcceleratorInRun(m.Accelerator), layout.OpenLoopOf(m.Shape, m.Open.Rate, point.Again+1), layout.Measurement)
			}
			return strings.TrimPrefix(layout.MeasurementOf("", point), layout.Run("")+"/")
		}
		key := place()
		for from[key] == m.Provenance.Report && from[key] != "" && began[key] != m.StartedAt { // measured again
			point.Again++
			key = place()
		}
		data, err := measurement.Encode(m)
		if err != nil {
			bad("%s: cannot be written: %v", m.Provenance.Report, err)
			continue
		}
		if other, taken := from[key]; taken {
			bad("%s and %s hold the same points of %s, such as %s, and would overwrite each other; give each an --output of its own",
				other, m.Provenance.Report, m.Accelerator, key)
			break
		}
		files[key], from[key], began[key] = data, m.Provenance.Report, m.StartedAt
		keys = append(keys, key)
	}
	for _, key := range keys {
		before, err := out.Open(ctx, key)
		if err != nil {
			continue // nothing there, or the writing will say why not
		}
		old, err := measurement.Decode(before, key)
		before.Close()
		if now, _ := measurement.Decode(bytes.NewReader(files[key]), key); err == nil && old.Model != now.Model {
			bad("%s in %s is of model %s and would be overwritten by %s; give each an --output of its own", key, out, old.Model, now.Model)
		}
	}
	if len(mistakes) > 0 {
		return exit.Errorf(exit.Usage, "%s", strings.Join(mistakes, "\n"))
	}
	for _, key := range keys {
		if err := out.Put(ctx, key, bytes.NewReader(files[key])); err != nil {
			return err
		}
	}
	return nil
}

// explainMeasurements says why points are void and what to know of the others,
// each thing once per report.
func explainMeasurements(w io.Writer, all []measurement.Measurement) {
	type remark struct{ report, text string }
	var order []remark
	batches := map[remark][]string{}
	for _, m := range all {
		var texts []string
		add := func(prefix string, list []string) {
			for _, text := range list {
				texts = append(texts, prefix+text)
			}
		}
		add("void: ", m.Taken.Void)
		add("void for TTFT: ", m.Taken.VoidTTFT)
		add("warning: ", m.Taken.Warnings)
		add("", m.Notes)
		for _, text := range texts {
			r := remark{m.Provenance.Report, text}
			if batches[r] == nil {
				order = append(order, r)
			}
			batches[r] = append(batches[r], strconv.Itoa(m.BatchSize))
		}
	}
	for _, r := range order {
		fmt.Fprintf(w, "%s, batch %s: %s\n", r.report, strings.Join(batches[r], ", "), r.text)
	}
}

func printJSON(w io.Writer, all []measurement.Measurement) error {
	if all == nil {
		all = []measurement.Measurement{} // a list for whoever reads it
	}
	data, err := layout.JSON(all)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

func printMeasurements(w io.Writer, all []measurement.Measurement) error {
	if len(all) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "accelerator\tmodel\tshape\tbatch\tmeasured\tITL ms\tTTFT ms\trequests\tfailed\tmade of\treport")
	for _, m := range all {
		basis := "void"
		if m.Client != nil && len(m.Taken.Void) == 0 {
			basis = m.Client.Basis
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%.2f\t%s\t%s\t%d\t%d\t%s\t%s\n", orDash(m.Accelerator), orDash(m.Model), m.Shape, m.BatchSize, m.Taken.Batch,
			millis(m.Taken.ITL), millis(m.Taken.TTFT), m.Requests.Successful, m.Requests.Errored, basis, m.Provenance.Report)
	}
	return table.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// millis is a value with its standard error, where that is known.
func millis(v *measurement.Value) string {
	switch {
	case v == nil:
		return "-"
	case v.StandardErrorMS == 0:
		return fmt.Sprintf("%.3f", v.MS)
	default:
		return fmt.Sprintf("%.3f ± %.2g", v.MS, v.StandardErrorMS)
	}
}
