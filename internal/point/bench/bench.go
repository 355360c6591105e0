// Package bench runs one point: a driver makes the load, the server's /metrics
// are scraped meanwhile, and both are reduced to a measurement.
package bench

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
	"strconv"
	"strings"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/run/scratch"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep/slo"
)

// Options is one point and where its files go.
type Options struct {
	driver.Options                 // Report, Log, Progress and Deadline are filled in by Run
	Accelerator    string          // the key of the results
	BatchSizes     []int           // every batch size of the sweep; names the largest one's report throughput
	SLOs           []slo.Objective // that an open loop is held against
	Probe          driver.Driver   // makes a second witness where the server is none; nil: nobody does
	ProbeSeconds   float64         // least length of that; 0: none is made
	MaxNumSeqs     int             // the most requests that the server runs at once; 0: not known
	Provenance     measurement.Provenance
	Begin          time.Time     // since when the point costs time; zero: since Run is called
	Margin         time.Duration // beyond MaxSeconds until the driver is stopped
	ProgressFile   string        // file that Argo reads the progress from; empty: none
	Part, Parts    int           // of the progress: which of so many points this is, from 0; 0, 0: the only one
	Stderr         io.Writer     // words, and the driver's log in brief
}

// Run runs the point and puts its files into out: the measurement, the raw
// report with log and scrapes, and one small file per output parameter. A point
// that no estimate may use is written with its reasons and returned with an
// exit.Refused error; one that was interrupted leaves measurement.partial.json,
// which nothing takes for a measurement.
func Run(ctx context.Context, d driver.Driver, out store.Store, o Options) (measurement.Measurement, error) {
	name := layout.ReportName(o.BatchSize, o.BatchSizes)
	if o.Rate > 0 {
		name = layout.OpenReport(o.Rate)
	}
	r, err := start(ctx, d, out, o, name)
	if err != nil {
		return measurement.Measurement{}, err
	}
	defer r.close()
	all, err := readReport(r.Options, r.key)
	if err == nil && len(all) != 1 {
		err = exit.Errorf(exit.Refused, "the report of one point holds %d benchmarks", len(all))
	}
	if err != nil && r.failure != nil {
		err = r.failure // it says why there is nothing to reduce
	}
	if err != nil {
		return measurement.Measurement{}, err
	}
	return r.point(ctx, all[0], "", time.Since(r.Begin).Seconds()-all[0].Seconds)
}

// process is the load of one point, or of several that share a process of the driver,
// when it is over.
type process struct {
	Options
	driver    driver.Driver
	client    *llm.Client
	out       store.Store
	work      string // temporary directory
	remove    func() // it
	key       string // of the raw report in out
	failure   error  // of the driver
	series    []record.Scrape
	scrapeErr error
}

func (r *process) close() { r.remove() }

// start checks what can be checked, makes the load, and keeps what it leaves: report,
// log and scrapes, whose names begin with name. The error says that it did not come to
// that, or that nothing could be kept.
func start(ctx context.Context, d driver.Driver, out store.Store, o Options, name string) (*process, error) {
	if o.Begin.IsZero() {
		o.Begin = time.Now()
	}
	client, err := check(ctx, &o)
	if err != nil {
		return nil, err
	}
	if err := store.Check(ctx, out); err != nil {
		return nil, err
	}
	work, remove, err := scratch.Dir("step-bench-")
	if err != nil {
		return nil, err
	}
	r := &process{driver: d, client: client, out: out, work: work, remove: remove, key: path.Join(layout.Reports, name+".json")}
	if err := r.load(ctx, o, name); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *process) load(ctx context.Context, o Options, name string) error {
	log, err := os.Create(filepath.Join(r.work, "log.txt"))
	if err != nil {
		return exit.Errorf(exit.Usage, "no temporary file: %w", err)
	}
	defer log.Close()
	shown := &brief{w: o.Stderr}
	defer func() { _ = shown.Close() }() // nobody reads what cannot be shown
	words := redact.From(ctx).And(redact.Of(o.APIKey)).Writer(io.MultiWriter(log, shown))
	o.Log = words
	o.Report = filepath.Join(r.work, "report.json")
	o.Progress = progressFile(o.ProgressFile, o.Part, max(1, o.Parts))
	o.Deadline = o.deadline()
	r.Options = o

	scrapes := startScraping(ctx, r.client, o.Model, pace(o.Options))
	r.failure = r.driver.Run(ctx, o.Options)
	r.series, r.scrapeErr = scrapes.stop(ctx)
	if err := words.Flush(); err != nil {
		return exit.Errorf(exit.TryAgain, "the log %s could not be written: %w", log.Name(), err)
	}

	// What there is, is kept, whatever became of the load.
	ctx = context.WithoutCancel(ctx)
	if err := putFile(ctx, r.out, r.key, o.Report); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := putFile(ctx, r.out, layout.Log(name), log.Name()); err != nil {
		return err
	}
	if len(r.series) == 0 {
		return nil
	}
	data, err := report.EncodeScrapes(r.series)
	if err != nil {
		return err
	}
	return r.out.Put(ctx, layout.Scrapes(name), bytes.NewReader(data))
}

// point makes the measurement out of what the report says of one point, writes it and
// what belongs to it below dir, and says what it is worth. overhead is what the point
// has cost so far beyond its load, seconds.
func (r *process) point(ctx context.Context, m measurement.Measurement, dir string, overhead float64) (measurement.Measurement, error) {
	r.complete(&m)
	failure := r.failure
	if failure == nil && (m.Requests.Errored > 0 || len(m.Taken.Void) > 0) {
		// Some drivers go on asking a server that is lost until their time is
		// over, and then report the few answers that they had before.
		if _, err := r.client.Find(ctx, r.Model); err != nil {
			failure = exit.Errorf(exit.TryAgain, "the server went away during the point; %d requests were answered, %d failed: %w",
				m.Requests.Successful, m.Requests.Errored, err)
		}
	}
	if failure == nil {
		begin := time.Now()
		if err := r.probe(ctx, dir, &m); err != nil {
			return m, err
		}
		overhead += time.Since(begin).Seconds()
	}
	m.OverheadSeconds = max(0, overhead)
	ctx = context.WithoutCancel(ctx)
	file := layout.Measurement
	if failure != nil {
		m.Partial, file = true, "measurement.partial.json"
		m.Notes = append(m.Notes, failure.Error())
	}
	data, err := measurement.Encode(m)
	if err != nil {
		return m, err
	}
	if err := r.out.Put(ctx, path.Join(dir, file), bytes.NewReader(data)); err != nil {
		return m, err
	}
	if failure != nil {
		return m, failure
	}
	for key, value := range outputs(m) {
		if err := r.out.Put(ctx, path.Join(dir, key.Key()), strings.NewReader(value)); err != nil {
			return m, err
		}
	}
	if m.Requests.Successful == 0 && !m.Requests.AtOnce() {
		why := strings.Join(m.Taken.Void, "; ")
		if m.Requests.Errored > 0 {
			why += "; the log of the server at " + r.Provenance.Target + " should say more"
		}
		return m, exit.Errorf(exit.TryAgain, "%s at %s: %s", r.Shape, m.Load(), why)
	}
	if len(m.Taken.Void) > 0 {
		if m.Taken.Has(reason.Restarted) {
			return m, exit.Errorf(exit.TryAgain, "%s at %s: %s; its log before the restart should say why", r.Shape, m.Load(), measurement.ServerRestarted)
		}
		return m, exit.Errorf(exit.Refused, "%s at %s cannot be used: %s", r.Shape, m.Load(), strings.Join(m.Taken.Void, "; "))
	}
	return m, nil
}

// unlimited is how long a point may take that only its requests limit.
const unlimited = 4 * time.Hour

// betweenLevels is how long a driver may take from one level to the next, seconds:
// guidellm answers what is under way, reduces, and pauses.
const betweenLevels = 30.0

// deadline is when the driver is stopped, whatever it does.
func (o Options) deadline() time.Duration {
	if o.MaxSeconds == 0 {
		return unlimited
	}
	levels := float64(len(o.Options.BatchSizes()))
	seconds := levels*o.MaxSeconds + (levels-1)*betweenLevels
	return time.Duration(seconds*float64(time.Second)) + o.Margin
}

// check asks the server, before any load, whether the point can work there.
func check(ctx context.Context, o *Options) (*llm.Client, error) {
	client, err := llm.New(o.Target, o.APIKey)
	if err != nil {
		return nil, err
	}
	if most := slices.Max(o.Options.BatchSizes()); o.MaxNumSeqs > 0 && most > o.MaxNumSeqs {
		return nil, exit.Errorf(exit.Unusable, "batch size %d is above the server's max-num-seqs %d: requests would queue, and the queue would be measured; leave it out, or start the server with --max-num-seqs %d",
			most, o.MaxNumSeqs, most)
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
func readReport(o Options, key string) ([]measurement.Measurement, error) {
	f, err := os.Open(o.Report)
	if err != nil {
		return nil, exit.Errorf(exit.TryAgain, "the driver left no report")
	}
	defer f.Close()
	return report.Read(f, key, report.Options{Accelerator: o.Accelerator, Model: o.Model, Shape: o.Shape, BatchSize: o.BatchSize, SLOs: o.SLOs})
}

// complete adds to what the report says what is known besides, the server's witness
// above all, and weighs again.
func (r *process) complete(m *measurement.Measurement) {
	m.Driver = measurement.Driver{Name: r.driver.Name(), Version: r.driver.Version()}
	m.Provenance = r.Provenance
	m.Provenance.Report = r.key
	if r.scrapeErr != nil {
		m.Notes = append(m.Notes, "no server witness: "+r.scrapeErr.Error())
	}
	m.Witnessed(r.series)
}

// outputs are the values that a workflow shows of a point. What is void is empty.
func outputs(m measurement.Measurement) map[layout.Output]string {
	number := func(v *measurement.Value, void ...[]string) string {
		if v == nil || slices.ContainsFunc(void, func(why []string) bool { return len(why) > 0 }) {
			return ""
		}
		return strconv.FormatFloat(v.MS, 'g', 6, 64)
	}
	return map[layout.Output]string{
		layout.OutITL:   number(m.Taken.ITL, m.Taken.Void),
		layout.OutTTFT:  number(m.Taken.TTFT, m.Taken.Void, m.Taken.VoidTTFT),
		layout.OutBatch: strconv.FormatFloat(m.Taken.Batch, 'g', 6, 64),
		layout.OutCount: strconv.Itoa(m.Requests.Successful),
	}
}

func putFile(ctx context.Context, out store.Store, key, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return out.Put(ctx, key, f)
}

// progressFile writes N/M for Argo's UI, of one of so many parts; a file that cannot be
// written only costs the progress.
func progressFile(name string, part, parts int) func(done, total float64) {
	if name == "" {
		return nil
	}
	last := -1
	return func(done, total float64) {
		whole := max(1, int(total))
		if n := part*whole + min(whole, int(done)); n != last {
			last = n
			_ = os.WriteFile(name, fmt.Appendf(nil, "%d/%d\n", n, parts*whole), 0o644)
		}
	}
}
