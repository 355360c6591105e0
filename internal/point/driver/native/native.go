// Package native is the built-in driver: a closed loop of streams over HTTP, or requests
// that arrive at a rate. It notes when every token arrived. It needs no Python, starts at once, and its
// own time in the numbers is a fraction of a millisecond.
package native

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/llm/completion"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// Driver is the built-in driver; its version is that of the program.
type Driver struct {
	Tool  string
	Stall time.Duration // after which a silent request is given up; 0: two minutes
}

// Name is native.
func (Driver) Name() string { return sweep.Native }

// Version is the program's.
func (d Driver) Version() string { return d.Tool }

// acquaintance is what is known of a server before the load.
type acquaintance struct {
	dialect  completion.Dialect // its endpoint is empty until the server was tried
	prompts  prompter
	early    []report.NativeRequest
	expected time.Duration // that a request takes alone
}

// approach asks the server for a few answers: how it wants to be asked, how many tokens
// a prompt has, how long a request takes.
func approach(ctx context.Context, client *llm.Client, o driver.Options, stall time.Duration) (k acquaintance, err error) {
	// Requests before the streams begin are part of the report, marked as
	// warm-up: the server counts them too.
	note := func(a completion.Answer, err error) { k.early = append(k.early, row(0, a, err, true)) }
	random := rand.New(rand.NewPCG(uint64(o.Seed), 0))
	ask := func(prompt string, tokens int) (completion.Answer, error) {
		q := completion.Ask{Model: o.Model, Prompt: prompt, Tokens: tokens}
		return retry(ctx, func() (a completion.Answer, err error) {
			if k.dialect.Endpoint == "" {
				var d completion.Dialect
				if d, a, err = completion.Try(ctx, client, o.Endpoint, q, stall, note); err == nil {
					k.dialect = d
				}
				return a, err
			}
			a, err = completion.Stream(ctx, client, k.dialect, q, stall)
			note(a, err)
			return a, err
		})
	}
	usage := func(prompt string) (int, error) {
		a, err := ask(prompt, 1)
		return a.PromptTokens, err
	}
	tokenize := func(prompt string) (int, error) { return client.Tokenize(ctx, o.Model, prompt) }
	if o.Endpoint == sweep.Chat {
		tokenize = nil // it would not count the template's
	}
	k.prompts, err = calibrate(o.Shape.PromptTokens, random, tokenize, usage)
	if err != nil {
		return k, err
	}
	warm := min(o.Shape.OutputTokens, 16)
	first, err := ask(k.prompts.prompt(random), warm)
	if err == nil && k.dialect.Endpoint == sweep.Chat && tokenize != nil {
		k.prompts, err = calibrate(o.Shape.PromptTokens, random, nil, usage)
	}
	if err != nil {
		return k, err
	}
	// all of the answer, and not of its decoding alone: pieces may come together
	k.expected = first.End.Sub(first.Start) * time.Duration(o.Shape.OutputTokens) / time.Duration(max(1, first.OutputTokens))
	if n := len(first.Pieces); n > 1 && first.FirstTokens < 2 {
		ttft, gap := first.Pieces[0].Sub(first.Start), first.Pieces[n-1].Sub(first.Pieces[0])/time.Duration(max(1, first.OutputTokens-1))
		k.expected = ttft + gap*time.Duration(o.Shape.OutputTokens-1)
	}
	return k, nil
}

// Run makes the load of one point and writes the native report. The streams
// start spread over about one request, so that they do not march in step, and
// all stop at one moment: those under way are answered, none begins.
func (d Driver) Run(ctx context.Context, o driver.Options) error {
	client, err := llm.New(o.Target, o.APIKey)
	if err != nil {
		return err
	}
	stall := cmp.Or(d.Stall, completion.Stall)
	ctx, cancel := context.WithTimeoutCause(ctx, o.Deadline,
		exit.Errorf(exit.TryAgain, "the server had not answered everything %s after the start; the point was stopped", o.Deadline))
	defer cancel()

	known, err := approach(ctx, client, o, stall)
	if err != nil {
		return classify(ctx, client, err)
	}
	for _, cost := range known.dialect.Costs() {
		fmt.Fprintf(o.Log, "native driver: %s\n", cost)
	}
	asked := fmt.Sprintf("%d streams", o.BatchSize)
	header := report.NativeHeader{
		Schema: report.NativeSchema, Tool: d.Tool, Model: o.Model, Target: client.Target(), Endpoint: known.dialect.Path(),
		Shape: o.Shape, BatchSize: o.BatchSize, Seed: o.Seed, StartedAt: record.Unix(time.Now()),
	}
	if o.Rate > 0 {
		asked = fmt.Sprintf("%.4g requests/s (%s)", o.Rate, o.Arrivals)
		header.BatchSize, header.Rate, header.Arrivals = 0, o.Rate, o.Arrivals
	}
	fmt.Fprintf(o.Log, "native driver: %s, %s, %s, prompts of %.0f tokens, a request alone takes about %.2f s\n",
		client.Target(), o.Shape, asked, known.prompts.tokens, known.expected.Seconds())

	file, err := os.Create(o.Report)
	if err != nil {
		return exit.Errorf(exit.Usage, "the report cannot be written to %s: %w", filepath.Dir(o.Report), err)
	}
	defer file.Close()
	w, err := report.NewNativeWriter(file, header)
	if err != nil {
		return err
	}
	for _, r := range known.early {
		if err := w.Add(r); err != nil {
			return err
		}
	}
	l := &load{Options: o, stall: stall, client: client, dialect: known.dialect, prompts: known.prompts, out: w, cancel: cancel}
	if o.Wanted.Any() && o.Rate == 0 {
		l.precise = &precise{Stop: measurement.Stop{Wanted: o.Wanted, Streams: o.BatchSize}}
	}
	if o.Rate > 0 {
		l.arrive(ctx, known.expected)
	} else {
		ramp := known.expected
		if o.MaxSeconds > 0 {
			ramp = min(ramp, time.Duration(o.MaxSeconds*float64(time.Second))/4)
		}
		l.run(ctx, ramp)
	}
	cause := context.Cause(ctx)
	err = w.Close(report.NativeEnd{EndedAt: record.Unix(time.Now()), Interrupted: cause != nil, Ended: l.why()})
	if err = errors.Join(err, file.Close()); err != nil {
		return exit.Errorf(exit.TryAgain, "the report %s could not be written: %w", o.Report, err)
	}
	fmt.Fprintf(o.Log, "native driver: %d requests answered, %d failed\n", l.answered.Load(), l.failed.Load())
	if l.precise != nil {
		fmt.Fprintf(o.Log, "native driver: ended by %s; %s\n", l.why(), l.precise)
	}
	if err := l.broken.Load(); err != nil {
		return *err
	}
	if cause != nil && !errors.As(cause, new(*exit.Error)) {
		return exit.Errorf(exit.TryAgain, "interrupted: %w", cause)
	}
	return cause
}

// load is the load of one point.
type load struct {
	driver.Options
	stall   time.Duration
	client  *llm.Client
	dialect completion.Dialect
	prompts prompter
	out     *report.NativeWriter
	cancel  context.CancelFunc

	started  atomic.Int64 // requests begun
	answered atomic.Int64
	failed   atomic.Int64
	row      atomic.Int64           // failures since the last answer
	full     atomic.Bool            // no further request begins
	ended    atomic.Pointer[string] // why; the first reason
	precise  *precise               // nil: nobody wants a precision
	broken   atomic.Pointer[error]
}

func (l *load) run(ctx context.Context, ramp time.Duration) {
	begin := time.Now()
	until := begin.Add(ramp + time.Duration(l.MaxSeconds*float64(time.Second)))
	finished := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { l.watch(begin, until, finished) })
	var streams sync.WaitGroup
	for i := range l.BatchSize {
		streams.Go(func() {
			random := rand.New(rand.NewPCG(uint64(l.Seed), uint64(i)+1))
			sleep(ctx, time.Until(begin.Add(ramp*time.Duration(i)/time.Duration(l.BatchSize))))
			for ctx.Err() == nil && !l.full.Load() {
				if n := l.started.Add(1); l.MaxRequests > 0 && n > int64(l.MaxRequests) {
					l.end(measurement.EndedMaxRequests)
					return
				}
				l.request(ctx, i, random)
			}
		})
	}
	streams.Wait()
	close(finished)
	watch.Wait()
}

func (l *load) request(ctx context.Context, stream int, random *rand.Rand) {
	a, err := completion.Stream(ctx, l.client, l.dialect, completion.Ask{Model: l.Model, Prompt: l.prompts.prompt(random), Tokens: l.length(random)}, l.stall)
	r := row(stream, a, err, false)
	if err != nil && ctx.Err() != nil {
		r.Status, r.Error = report.NativeIncomplete, ""
	}
	if werr := l.out.Add(r); werr != nil {
		l.stop(exit.Errorf(exit.TryAgain, "the report %s could not be written: %w", l.Report, werr))
		return
	}
	if row, known := r.Row(); known && l.precise != nil {
		l.precise.add(row)
	}
	if err == nil {
		l.answered.Add(1)
		l.row.Store(0)
		return
	}
	if ctx.Err() != nil {
		return
	}
	l.failed.Add(1)
	if refused(err) || completion.Incurable(err) {
		l.stop(classify(ctx, l.client, err))
		return
	}
	if n := l.row.Add(1); n == 1 || n%50 == 0 {
		fmt.Fprintf(l.Log, "native driver: request failed: %v\n", err)
	}
	if l.row.Load() >= int64(max(20, 4*l.BatchSize)) {
		l.stop(exit.Errorf(exit.TryAgain, "%s: the last %d requests failed, the newest with: %w", l.client.Target(), l.row.Load(), err))
		return
	}
	sleep(ctx, 250*time.Millisecond) // a broken server is not hammered
}

// length draws the tokens of one answer.
func (l *load) length(random *rand.Rand) int {
	least, most := l.OutputTokens()
	return least + random.IntN(most-least+1)
}

func (l *load) stop(err error) {
	l.broken.CompareAndSwap(nil, &err)
	l.cancel()
}

// end lets no further request begin.
func (l *load) end(why string) {
	l.ended.CompareAndSwap(nil, &why)
	l.full.Store(true)
}

// why the load ended; empty where nothing that was asked for ended it.
func (l *load) why() string {
	if why := l.ended.Load(); why != nil {
		return *why
	}
	return ""
}

// precise are the requests that ended so far, and the rule that looks at them.
type precise struct {
	measurement.Stop
	mutex sync.Mutex
	rows  []record.Request
	begin float64 // of the first, Unix seconds
	end   float64 // of the last
}

func (p *precise) add(row record.Request) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if len(p.rows) == 0 || row.Start < p.begin {
		p.begin = row.Start
	}
	p.rows, p.end = append(p.rows, row), max(p.end, row.End)
}

// enough asks the rule, where there is enough to look at: rows are many.
func (p *precise) enough() bool {
	p.mutex.Lock()
	var rows []record.Request
	due := p.Due(len(p.rows), p.end-p.begin)
	if due {
		rows = slices.Clone(p.rows)
	}
	p.mutex.Unlock()
	return due && p.Enough(rows)
}

// watch ends the load when its time is over, or its means are told as well as asked,
// and the streams have made enough requests, sweep.MinPerStream each on average. It
// tells the progress meanwhile.
func (l *load) watch(begin, until time.Time, finished <-chan struct{}) {
	total := until.Sub(begin).Seconds()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-finished:
			return
		case now := <-tick.C:
			enough := l.answered.Load() >= int64(sweep.MinPerStream*l.BatchSize)
			switch {
			case l.full.Load() || !enough:
			case l.MaxSeconds > 0 && now.After(until):
				l.end(measurement.EndedMaxSeconds)
			case l.precise != nil && l.precise.enough():
				l.end(measurement.EndedPrecision)
			}
			if l.Progress == nil {
				continue
			}
			if l.MaxSeconds > 0 {
				l.Progress(min(now.Sub(begin).Seconds(), total), total)
			} else {
				l.Progress(float64(l.answered.Load()), float64(l.MaxRequests))
			}
		}
	}
}

func row(stream int, a completion.Answer, err error, warmup bool) report.NativeRequest {
	r := report.NativeRequest{
		Stream: stream, Start: record.Unix(a.Start), PromptTokens: a.PromptTokens, OutputTokens: a.OutputTokens,
		CachedTokens: a.CachedTokens, AskedTokens: a.Asked, Cut: err == nil && a.Cut(), FirstTokens: a.FirstTokens,
		PrefillMS: a.PrefillMS, DecodeMS: a.DecodeMS,
		Status: report.NativeSuccessful, Warmup: warmup,
	}
	if err != nil {
		r.Status, r.Error = report.NativeErrored, err.Error()
	}
	end := a.End
	if end.IsZero() {
		end = time.Now()
	}
	r.EndMS = milliseconds(end.Sub(a.Start))
	if n := len(a.Pieces); n > 0 {
		r.FirstTokenMS = milliseconds(a.Pieces[0].Sub(a.Start))
		r.GapsUS = make([]int64, n-1)
		for i := range r.GapsUS {
			// differences of rounded times, not rounded differences: they add up exactly
			r.GapsUS[i] = a.Pieces[i+1].Sub(a.Pieces[0]).Microseconds() - a.Pieces[i].Sub(a.Pieces[0]).Microseconds()
		}
	}
	return r
}

// retry gives a request that failed in passing a few more chances; one that the
// server refused (4xx) has had its answer.
func retry(ctx context.Context, f func() (completion.Answer, error)) (a completion.Answer, err error) {
	for range 5 {
		if a, err = f(); err == nil || ctx.Err() != nil || refused(err) || completion.Incurable(err) {
			return a, err
		}
		sleep(ctx, 250*time.Millisecond)
	}
	return a, err
}

func refused(err error) bool {
	var status *llm.StatusError
	return errors.As(err, &status) && status.Code >= 400 && status.Code < 500 && status.Code != 429 && status.Code != 408
}

// classify says whether waiting may fix the failure of the first requests.
func classify(ctx context.Context, client *llm.Client, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return exit.With(exit.TryAgain, cause)
	}
	if refused(err) {
		return exit.Errorf(exit.Unusable, "%s refused the request: %w", client.Target(), err)
	}
	return completion.Classify(client, err)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
