package stepcli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cluster/kube"
	"wfgen.dev/internal/estimate/aggregate"
	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/page"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/estimate/prefill"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/precision"
)

func aggregateCommand() *cli.Command {
	return &cli.Command{
		Name:      steps.Aggregate.Name,
		Usage:     "estimate alpha, beta, gamma and delta from measurements or raw reports",
		ArgsUsage: "PATH...",
		Description: `Reads measurements, raw reports, parameters and summaries, in any mixture, from
files, directories and s3:// prefixes. Estimates one set of parameters for every
model, accelerator and shape; parameters and summaries that were made already are
merged unchanged. Writes into --output: ACCELERATOR/parameters/SHAPE.json,
summary.json, report/index.html (a page to look at), parameters.json (where there is
one set) and outputs/ (one file per value, for Argo). Prints a table on stdout.

With --configmap the same goes into a ConfigMap, for whoever has no S3: summary.json
and, for every set that is not refused, ACCELERATOR.SHAPE.json (parameters.json too
where there is one set). Other keys of the ConfigMap stay. It runs in a pod whose
ServiceAccount may patch and create configmaps.

With --formats the results are written for consumers, too, as step render does.
With --drift-band the parameters are compared with those that were accepted last, as
step compare does. What moved is said on stderr, in summary.json and in
outputs/drift; --latest then keeps what it has, until a run with --drift-band off.

With --history the parameters of earlier runs say what no run knows alone: by how much
a restart, another GPU of the type or another day changes them. What was accepted last
knows those before it, and is asked with --drift-band, too. Only runs of the same server
count: version, image, arguments, GPU and driver.

Exits with 65 when a verdict is refused or an expected accelerator has no
parameters; everything that is good is written all the same. With --expect a PATH
may be absent, as an empty s3:// prefix may: where every part of a sweep has failed
the summary says so.

Examples:
  step aggregate runs/monday --output runs/monday
  step aggregate synchronous.json throughput.json --accelerator A100 \
    --method two-point --output out
  step aggregate s3://results/runs/7/summaries --output s3://results/runs/7 \
    --expect A100,H100 --latest s3://results
  step aggregate /results/points --output /results --configmap llm-parameters`,
		Flags:  steps.Aggregate.Flags(),
		Action: runAggregate,
	}
}

func runAggregate(c *cli.Context) error {
	o, err := aggregateOptions(c)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	out, err := store.New(c.Context, steps.Aggregate.Output.In(c))
	if err != nil {
		return err
	}
	raw, err := rawReports(c)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	var latest store.Store
	if location := steps.Aggregate.Latest.In(c); location != "" {
		if latest, err = store.New(c.Context, location); err != nil {
			return err
		}
	}

	paths := c.Args().Slice()
	if len(o.Expect) > 0 {
		paths = present(c, paths)
	}
	api, err := configMapAPI(steps.Aggregate.ConfigMap.In(c))
	if err != nil {
		return err
	}

	in, skipped, err := aggregate.Load(c.Context, paths, steps.Aggregate.Output.In(c), raw)
	if err != nil {
		return err
	}
	for _, s := range skipped {
		fmt.Fprintf(c.App.ErrWriter, "skipped %s\n", s)
	}
	if len(in.Measurements)+len(in.Parameters)+len(in.Failures)+len(o.Expect) == 0 {
		return exit.Errorf(exit.Refused, "%s: no measurement, report, parameters or summary found", strings.Join(c.Args().Slice(), ", "))
	}
	s := aggregate.Estimate(in, o)
	if err := besideEarlier(c, &s); err != nil {
		return err
	}
	for _, n := range s.Notes {
		fmt.Fprintln(c.App.ErrWriter, n)
	}
	content := contentOf(s, in)
	prefills, err := evidenceAt(c, steps.Aggregate.Evidence.In(c), &content)
	if err != nil {
		return err
	}
	if err := writePage(c, out, content); err != nil {
		return err
	}
	if err := aggregate.Write(c.Context, s, out, latest); err != nil {
		return err
	}
	if err := aggregate.Print(c.App.Writer, s, steps.Aggregate.Verbose.In(c)); err != nil {
		return err
	}
	if err := publish(c, api, s, content, prefills, out); err != nil {
		return err
	}
	refused := slices.DeleteFunc([]string{aggregate.Refusals(s), contradicted(content.Capacity)}, func(why string) bool { return why == "" })
	if len(refused) > 0 {
		return exit.Errorf(exit.Refused, "refused: %s", strings.Join(refused, "; "))
	}
	if moved := s.Drift.Moved(); len(moved) > 0 && steps.Aggregate.FailOnDrift.In(c) {
		return exit.Errorf(exit.Drift, "beyond the band of %s: %s", steps.Aggregate.DriftBand.In(c), strings.Join(moved, "; "))
	}
	return nil
}

// besideEarlier adds what the runs before tell of another, and what moved since.
func besideEarlier(c *cli.Context, s *parameters.Summary) error {
	last, err := acceptedLast(c)
	if err != nil {
		return err
	}
	if err := withHistory(c, s, last); err != nil {
		return err
	}
	s.Drift, err = driftOf(c, *s, last)
	return err
}

// withHistory adds what earlier runs tell, where they are given, or where what was accepted
// last, and knows of those before it, is read anyway.
func withHistory(c *cli.Context, s *parameters.Summary, last []parameters.Parameters) error {
	if at := steps.Aggregate.History.In(c); at != "" {
		earlier, _, err := aggregate.Load(c.Context, []string{at}, "", nil) // what is skipped, such as raw reports, is no run's result
		if err != nil {
			return err
		}
		last = append(last, earlier.Parameters...)
	}
	if len(last) > 0 {
		aggregate.Across(s, last)
	}
	return nil
}

// contradicted says which claims their own measurements contradict; empty: none. A run that
// ends well must not hide one.
func contradicted(all []capacity.Capacity) string {
	var why []string
	for _, c := range all {
		if c.Check != nil && c.Check.Verdict == capacity.Contradicted {
			why = append(why, fmt.Sprintf("capacity of %s, %s: %s", c.Accelerator, c.Shape, c.Check))
		}
	}
	return strings.Join(why, "; ")
}

// present leaves out the paths that are not there, and says which.
func present(c *cli.Context, paths []string) []string {
	return slices.DeleteFunc(paths, func(path string) bool {
		_, err := os.Stat(path)
		absent := path != store.Stdin && !store.IsRemote(path) && errors.Is(err, fs.ErrNotExist)
		if absent {
			fmt.Fprintf(c.App.ErrWriter, "%s: not there\n", path)
		}
		return absent
	})
}

// driftOff stands for no comparison, where a band has to be said.
const driftOff = "off"

// acceptedLast are the parameters that --drift-band compares with; none where it is not given.
func acceptedLast(c *cli.Context) ([]parameters.Parameters, error) {
	if steps.Aggregate.DriftBand.In(c) == "" {
		return nil, nil
	}
	previous := steps.Aggregate.Previous.In(c)
	if latest := steps.Aggregate.Latest.In(c); previous == "" && latest != "" {
		previous = strings.TrimSuffix(latest, "/") + "/" + layout.Latest
	}
	if _, err := os.Stat(previous); store.IsRemote(previous) || err == nil {
		last, _, err := aggregate.Load(c.Context, []string{previous}, "", nil)
		return last.Parameters, err
	}
	return nil, nil // nothing was accepted yet
}

// driftOf compares with what was accepted last, where that is asked for, and says what
// moved.
func driftOf(c *cli.Context, s parameters.Summary, last []parameters.Parameters) (*parameters.Drift, error) {
	text := steps.Aggregate.DriftBand.In(c)
	if text == "" || text == driftOff {
		return nil, nil
	}
	band, err := sweep.ParseShare(text)
	if err != nil {
		return nil, err
	}
	d := aggregate.Drift(s, last, band)
	for _, line := range d.Moved() {
		fmt.Fprintf(c.App.ErrWriter, "drift: %s\n", line)
	}
	if len(d.Moved()) > 0 {
		fmt.Fprintf(c.App.ErrWriter, "what moved beyond %s is not kept as latest; accept it with --drift-band %s\n", text, driftOff)
	}
	return d, nil
}

func writePage(c *cli.Context, out store.Store, content page.Content) error {
	var report bytes.Buffer
	if err := page.HTML(&report, content); err != nil {
		return err
	}
	return out.Put(c.Context, layout.Page, &report)
}

// evidenceAt reads measurements and capacities for a report, and prefill records for
// consumers. Without any the report is what it is: the estimate does not need them.
func evidenceAt(c *cli.Context, location string, to *page.Content) ([]prefill.Record, error) {
	if _, err := os.Stat(location); location == "" || !store.IsRemote(location) && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	in, skipped, err := aggregate.Load(c.Context, []string{location}, "", nil)
	if err != nil {
		return nil, err
	}
	for _, s := range skipped {
		fmt.Fprintf(c.App.ErrWriter, "skipped %s\n", s)
	}
	to.Measurements = contentOf(parameters.Summary{}, in).Measurements
	if to.Capacity, err = capacitiesAt(c.Context, location); err != nil {
		return nil, err
	}
	prefills, err := recordsAt(c.Context, location, layout.Prefill, prefill.Decode)
	for _, r := range prefills {
		if !r.Usable() {
			fmt.Fprintf(c.App.ErrWriter, "the prefill rate of %s is refused: %s\n", r.Accelerator, strings.Join(r.Verdict.Reasons, "; "))
		}
	}
	return prefills, err
}

// keepInConfigMap puts what may be published into --configmap.
func keepInConfigMap(c *cli.Context, api *kube.Client, s parameters.Summary, rendered map[string][]byte) error {
	name, namespace := steps.Aggregate.ConfigMap.In(c), cmp.Or(steps.Aggregate.Namespace.In(c), api.Namespace)
	data, err := aggregate.ConfigMap(s, rendered)
	if err != nil {
		return fmt.Errorf("ConfigMap %s: %w", name, err)
	}
	if err := putConfigMap(c, api, name, namespace, data); err != nil {
		return err
	}
	fmt.Fprintf(c.App.ErrWriter, "ConfigMap %s in namespace %s: %s\n", name, namespace, aggregate.Described(data))
	return nil
}

// putConfigMap sets keys of a ConfigMap, and leaves its others.
func putConfigMap(c *cli.Context, api *kube.Client, name, namespace string, data map[string]*string) error {
	switch err := api.PutConfigMap(c.Context, namespace, name, data); {
	case kube.IsForbidden(err):
		return exit.Errorf(exit.Unusable, "ConfigMap %s: %w; grant it: kubectl -n %s create role results --verb=create,patch --resource=configmaps, and bind it to this pod's ServiceAccount", name, err, namespace)
	case kube.IsInvalid(err):
		return exit.Errorf(exit.Usage, "ConfigMap %s: %w", name, err) // its name, or more than it holds
	case err != nil:
		return exit.Errorf(exit.TryAgain, "ConfigMap %s: %w", name, err)
	}
	return nil
}

// configMapAPI is the API for --configmap; nil where that is not given.
func configMapAPI(name string) (*kube.Client, error) {
	if name == "" {
		return nil, nil
	}
	api, err := inCluster()
	if err != nil {
		return nil, exit.Errorf(exit.Usage, "--configmap: %w; from elsewhere: kubectl create configmap NAME --from-file=OUTPUT", err)
	}
	return api, nil
}

// aggregateOptions reads the flags and reports every mistake among them.
func aggregateOptions(c *cli.Context) (aggregate.Options, error) {
	o := aggregate.Options{
		Method: steps.Aggregate.Method.In(c), Source: steps.Aggregate.Source.In(c), TTFT: steps.Aggregate.TTFT.In(c), Batch: steps.Aggregate.Batch.In(c),
		Expect:    sweep.Items(steps.Aggregate.Expect.In(c)),
		WeightsGB: steps.Aggregate.WeightsGB.In(c), CacheBytes: steps.Aggregate.CacheBytes.In(c), GPUs: steps.Aggregate.GPUs.In(c),
	}
	var errs []error
	if !c.Args().Present() {
		errs = append(errs, errors.New("nothing to read: name files, directories or s3:// prefixes"))
	}
	for _, f := range []struct {
		flag, value string
		words       []string
	}{
		{"method", o.Method, []string{fit.WLS, fit.TwoPoint}},
		{"source", o.Source, []string{measurement.Auto, measurement.Server, measurement.Client}},
		{"ttft", o.TTFT, []string{measurement.Auto, measurement.Mean, measurement.Median}},
		{"batch", o.Batch, []string{measurement.Auto, aggregate.Nominal, aggregate.Measured}},
	} {
		if !slices.Contains(f.words, f.value) {
			errs = append(errs, fmt.Errorf("--%s: found %q, expected one of %s", f.flag, f.value, strings.Join(f.words, ", ")))
		}
	}
	band, previous := steps.Aggregate.DriftBand.In(c), steps.Aggregate.Previous.In(c)
	if band != "" && band != driftOff {
		if _, err := sweep.ParseShare(band); err != nil {
			errs = append(errs, fmt.Errorf("--drift-band: %w, or %s", err, driftOff))
		}
		if previous == "" && steps.Aggregate.Latest.In(c) == "" {
			errs = append(errs, errors.New("--drift-band: nothing to compare with; give --previous or --latest"))
		}
	}
	if !(o.WeightsGB >= 0) || !(o.CacheBytes >= 0) || o.GPUs < 1 {
		errs = append(errs, fmt.Errorf("--weights-gb %v, --kv-bytes-per-token %v, --gpus %d: expected 0 or more, 0 or more, 1 or more", o.WeightsGB, o.CacheBytes, o.GPUs))
	}
	if text := steps.Aggregate.Range.In(c); text != "" {
		from, to, err := batches(text)
		if err == nil && o.Method == fit.TwoPoint {
			err = fmt.Errorf("the method two-point has no range but its two points")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--range: %w", err))
		}
		o.From, o.To = from, to
	}
	if text := steps.Aggregate.Precision.In(c); text != "" {
		var err error
		if o.Precision, err = precision.Parse(text); err != nil {
			errs = append(errs, fmt.Errorf("--precision: %w", err))
		}
	}
	for _, text := range sweep.Items(steps.Aggregate.Shapes.In(c)) {
		shape, err := sweep.ParseShape(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--shapes: %w", err))
		}
		o.Shapes = append(o.Shapes, shape)
	}
	errs = append(errs, publishMistakes(c))
	return o, errors.Join(errs...)
}

// rawReports are what raw reports among the inputs do not say.
func rawReports(c *cli.Context) (*report.Options, error) {
	a := steps.Aggregate
	o := report.Options{Model: a.Model.In(c), Accelerator: a.Accelerator.In(c), BatchSize: a.BatchSize.In(c)}
	var errs []error
	if text := a.Shape.In(c); text != "" {
		shape, err := sweep.ParseShape(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--shape: %w", err))
		}
		o.Shape = shape
	}
	if a.BatchSize.Given(c) && o.BatchSize < 1 {
		errs = append(errs, fmt.Errorf("--batch-size: %d is below 1", o.BatchSize))
	}
	return &o, errors.Join(errs...)
}

// batches reads a range of batches, 16..128.
func batches(text string) (from, to float64, err error) {
	low, high, found := strings.Cut(text, "..")
	from, err1 := strconv.ParseFloat(strings.TrimSpace(low), 64)
	to, err2 := strconv.ParseFloat(strings.TrimSpace(high), 64)
	if !found || err1 != nil || err2 != nil || !(from >= 1 && to > from) || math.IsInf(to, 0) {
		return 0, 0, fmt.Errorf("found %q, expected the smallest and a larger batch, such as 16..128", text)
	}
	return from, to, nil
}
