// Package bench runs one point: a driver makes the load, the server's /metrics
// are scraped meanwhile, and both are reduced to a measurement.
package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"wfgen.dev/internal/driver"
	"wfgen.dev/internal/exit"
	"wfgen.dev/internal/layout"
	"wfgen.dev/internal/measurement"
	"wfgen.dev/internal/report"
	"wfgen.dev/internal/server"
	"wfgen.dev/internal/store"
	"wfgen.dev/internal/sweep"
)

// Options is one point and where its files go.
type Options struct {
	driver.Options               // Report, Log, Progress and Deadline are filled in by Run
	Accelerator    string        // the key of the results
	BatchSizes     []int         // every batch size of the sweep; names the largest one's report throughput
	Probe          driver.Driver // makes a second witness where the server is none; nil: nobody does
	ProbeSeconds   float64       // least length of that; 0: none is made
	MaxNumSeqs     int           // the most requests that the server runs at once; 0: not known
	Provenance     measurement.Provenance
	Begin          time.Time     // since when the point costs time; zero: since Run is called
	Margin         time.Duration // beyond MaxSeconds until the driver is stopped
	ProgressFile   string        // file that Argo reads the progress from; empty: none
	Stderr         io.Writer     // words, and the driver's log in brief
}

// Run runs the point and puts its files into out: the measurement, the raw
// report with log and scrapes, and one small file per output parameter. A point
// that no estimate may use is written with its reasons and returned with an
// exit.Refused error; one that was interrupted leaves measurement.partial.json,
// which nothing takes for a measurement.
func Run(ctx context.Context, d driver.Driver, out store.Store, o Options) (measurement.Measurement, error) {
	if o.Begin.IsZero() {
		o.Begin = time.Now()
	}
	var none measurement.Measurement
	client, err := check(ctx, &o)
	if err != nil {
		return none, err
	}
	if err := store.Check(ctx, out); err != nil {
		return none, err
	}
	work, err := os.MkdirTemp("", "step-bench-")
	if err != nil {
		return none, exit.Errorf(exit.Usage, "no temporary directory: %w", err)
	}
	defer os.RemoveAll(work)

	name := layout.ReportName(o.BatchSize, o.BatchSizes)
	log, err := os.Create(filepath.Join(work, "log.txt"))
	if err != nil {
		return none, exit.Errorf(exit.Usage, "no temporary file: %w", err)
	}
	defer log.Close()
	shown := &brief{w: o.Stderr}
	defer func() { _ = shown.Close() }() // nobody reads what cannot be shown
	o.Log = io.MultiWriter(log, shown)
	o.Report = filepath.Join(work, "report.json")
	o.Progress = progressFile(o.ProgressFile)
	o.Deadline = o.deadline()

	scrapes := startScraping(ctx, client, o.Model, o.MaxSeconds)
	failure := d.Run(ctx, o.Options)
	series, scrapeErr := scrapes.stop(ctx)

	// What there is, is kept, whatever became of the point.
	running := ctx
	ctx = context.WithoutCancel(ctx)
	reportKey := path.Join(layout.Reports, name+".json")
	if err := putFile(ctx, out, reportKey, o.Report); err != nil && !errors.Is(err, os.ErrNotExist) {
		return none, err
	}
	if err := putFile(ctx, out, path.Join(layout.Reports, name+"-log.txt"), log.Name()); err != nil {
		return none, err
	}
	if len(series) > 0 {
		data, err := json.Marshal(scrapeFile{Schema: ScrapesSchema, Scrapes: series})
		if err != nil {
			return none, err
		}
		if err := out.Put(ctx, path.Join(layout.Reports, name+"-server.json"), bytes.NewReader(data)); err != nil {
			return none, err
		}
	}
	m, err := reduce(o, d, reportKey, series)
	if failure != nil && err != nil {
		return none, failure // it says why there is nothing to reduce
	}
	if err != nil {
		return none, err
	}
	if scrapeErr != nil {
		m.Notes = append(m.Notes, "no server witness: "+scrapeErr.Error())
	}
	if failure == nil && (m.Requests.Errored > 0 || len(m.Taken.Void) > 0) {
		// Some drivers go on asking a server that is lost until their time is
		// over, and then report the few answers that they had before.
		if _, err := client.Find(running, o.Model); err != nil {
			failure = exit.Errorf(exit.TryAgain, "the server went away during the point; %d requests were answered, %d failed: %w",
				m.Requests.Successful, m.Requests.Errored, err)
		}
	}
	if failure == nil {
		if err := o.probe(running, out, name, &m); err != nil {
			return none, err
		}
	}
	m.OverheadSeconds = max(0, time.Since(o.Begin).Seconds()-m.Seconds)
	file := layout.Measurement
	if failure != nil {
		m.Partial, file = true, "measurement.partial.json"
		m.Notes = append(m.Notes, failure.Error())
	}
	data, err := measurement.Encode(m)
	if err != nil {
		return m, err
	}
	if err := out.Put(ctx, file, bytes.NewReader(data)); err != nil {
		return m, err
	}
	if failure != nil {
		return m, failure
	}
	for key, value := range outputs(m) {
		if err := out.Put(ctx, path.Join(layout.Outputs, key), strings.NewReader(value)); err != nil {
			return m, err
		}
	}
	if m.Requests.Successful == 0 {
		why := strings.Join(m.Taken.Void, "; ")
		if m.Requests.Errored > 0 {
			why += "; the log of the server at " + o.Provenance.Target + " should say more"
		}
		return m, exit.Errorf(exit.TryAgain, "%s at batch size %d: %s", o.Shape, o.BatchSize, why)
	}
	if len(m.Taken.Void) > 0 {
		if slices.Contains(m.Taken.Void, restarted) {
			return m, exit.Errorf(exit.TryAgain, "%s at batch size %d: %s; its log before the restart should say why", o.Shape, o.BatchSize, restarted)
		}
		return m, exit.Errorf(exit.Refused, "%s at batch size %d cannot be used: %s", o.Shape, o.BatchSize, strings.Join(m.Taken.Void, "; "))
	}
	return m, nil
}

// unlimited is how long a point may take that only its requests limit.
const unlimited = 4 * time.Hour

// deadline is when the driver is stopped, whatever it does.
func (o Options) deadline() time.Duration {
	if o.MaxSeconds == 0 {
		return unlimited
	}
	return time.Duration(o.MaxSeconds*float64(time.Second)) + o.Margin
}

// check asks the server, before any load, whether the point can work there.
func check(ctx context.Context, o *Options) (*server.Client, error) {
	client, err := server.New(o.Target, o.APIKey)
	if err != nil {
		return nil, err
	}
	if o.MaxNumSeqs > 0 && o.BatchSize > o.MaxNumSeqs {
		return nil, exit.Errorf(exit.Unusable, "batch size %d is above the server's max-num-seqs %d: requests would queue, and the queue would be measured; leave it out, or start the server with --max-num-seqs %d",
			o.BatchSize, o.MaxNumSeqs, o.BatchSize)
	}
	found, err := client.Find(ctx, o.Model)
	if err != nil {
		return nil, err
	}
	if need := o.Shape.PromptTokens + o.Shape.OutputTokens; found.MaxModelLen > 0 && need > found.MaxModelLen {
		return nil, exit.Errorf(exit.Unusable, "shape %s needs %d tokens, but %s serves %s with max-model-len %d; leave it out, or start the server with --max-model-len %d",
			o.Shape, need, client.Target(), o.Model, found.MaxModelLen, need)
	}
	if _, longest := o.OutputTokens(); found.MaxModelLen > 0 && o.Shape.PromptTokens+longest > found.MaxModelLen {
		o.Spread = 0 // no room for longer answers
	}
	o.Provenance.Target = client.Target()
	o.Provenance.MaxModelLen = found.MaxModelLen
	o.Provenance.ServerVersion = client.Version(ctx)
	o.Provenance.Cache, _ = client.Cache(ctx, o.Model) // without metrics the scrapes say so
	return client, nil
}

// readReport reads the report that a driver left at o.Report, as step measure does;
// key is the place where it is kept.
func readReport(o Options, key string) (measurement.Measurement, error) {
	var none measurement.Measurement
	f, err := os.Open(o.Report)
	if err != nil {
		return none, exit.Errorf(exit.TryAgain, "the driver left no report")
	}
	defer f.Close()
	all, err := report.Read(f, key, report.Options{Accelerator: o.Accelerator, Model: o.Model, Shape: o.Shape, BatchSize: o.BatchSize})
	if err != nil {
		return none, err
	}
	if len(all) != 1 {
		return none, exit.Errorf(exit.Refused, "the report of one point holds %d benchmarks", len(all))
	}
	return all[0], nil
}

// goodPerStream is how many requests a stream of guidellm should make: it starts all
// at once, and cuts off what is under way at the end.
const goodPerStream = 10

// restarted voids a point whose server began again in the middle: streams that found
// nobody to ask were idle, so that fewer requests ran together than were measured at.
const restarted = "the server restarted during the point"

// reduce makes the measurement out of the report that the driver left and of the
// scrapes.
func reduce(o Options, d driver.Driver, key string, series []measurement.Scrape) (measurement.Measurement, error) {
	m, err := readReport(o, key)
	if err != nil {
		return m, err
	}
	m.Driver = measurement.Driver{Name: d.Name(), Version: d.Version()}
	o.Provenance.Report = key
	m.Provenance = o.Provenance
	if measurement.Restarted(series) {
		m.Taken.Void = append(m.Taken.Void, restarted)
	}
	if m.Client != nil {
		if d.Name() == sweep.Guidellm {
			if streams := m.Requests.Successful / o.BatchSize; streams < goodPerStream {
				m.Notes = append(m.Notes, fmt.Sprintf("each stream made %d requests; from %d on, beginning and end of guidellm's run matter little", streams, goodPerStream))
			}
			// its report holds none of what it asks before it begins
			series = during(series, m.StartedAt, m.StartedAt+m.Seconds)
		}
		m.Server = measurement.ServerWitness(series, m.Client.WindowStart, m.Client.WindowStart+m.Client.WindowSeconds)
		m.Taken = m.Weigh("auto", "auto")
	}
	return m, nil
}

// outputs are the values that a workflow shows of a point.
func outputs(m measurement.Measurement) map[string]string {
	number := func(v *measurement.Value) string {
		if v == nil {
			return ""
		}
		return strconv.FormatFloat(v.MS, 'g', 6, 64)
	}
	return map[string]string{
		"itl":      number(m.Taken.ITL),
		"ttft":     number(m.Taken.TTFT),
		"batch":    strconv.FormatFloat(m.Taken.Batch, 'g', 6, 64),
		"requests": strconv.Itoa(m.Requests.Successful),
	}
}

// noticeable is by how many percent the witnesses must differ for people to be told.
const noticeable = 3

// Describe is one line about a measured point, for people.
func Describe(m measurement.Measurement) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s batch %d", m.Accelerator, m.Shape, m.BatchSize)
	if m.Taken.Batch > 0 {
		fmt.Fprintf(&b, " (measured %.2f)", m.Taken.Batch)
	}
	b.WriteString(": ")
	for _, v := range []struct {
		name       string
		value      *measurement.Value
		difference *float64
	}{{"ITL", m.Taken.ITL, m.Taken.ITLDifferencePercent}, {"TTFT", m.Taken.TTFT, m.Taken.TTFTDifferencePercent}} {
		if v.value == nil {
			continue
		}
		fmt.Fprintf(&b, "%s %.3f ms (%s", v.name, v.value.MS, v.value.From)
		if v.difference != nil && math.Abs(*v.difference) > noticeable {
			fmt.Fprintf(&b, "; the client's is %+.1f %% off", *v.difference)
		}
		b.WriteString("), ")
	}
	fmt.Fprintf(&b, "%d requests", m.Requests.Successful)
	if m.Requests.Errored > 0 {
		fmt.Fprintf(&b, ", %d failed", m.Requests.Errored)
		for _, text := range slices.Sorted(maps.Keys(m.Requests.Errors)) {
			fmt.Fprintf(&b, "; %d x %s", m.Requests.Errors[text], text)
		}
	}
	return b.String()
}

func putFile(ctx context.Context, out store.Store, key, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return out.Put(ctx, key, f)
}

// progressFile writes N/M for Argo's UI; a file that cannot be written only
// costs the progress.
func progressFile(name string) func(done, total float64) {
	if name == "" {
		return nil
	}
	last := -1
	return func(done, total float64) {
		if n := int(done); n != last {
			last = n
			_ = os.WriteFile(name, fmt.Appendf(nil, "%d/%d\n", n, int(max(total, 1))), 0o644)
		}
	}
}
