package stepcli

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/bench"
	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/driver/guidellm"
	"wfgen.dev/internal/point/driver/native"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/retry"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/precision"
	"wfgen.dev/internal/sweep/slo"
	"wfgen.dev/internal/version"
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name:  steps.Bench.Name,
		Usage: "run one point: load a server with N streams, or at a rate, and measure ITL and TTFT",
		Description: `With --batch-size, so many streams each send a request when the last one is answered.
With --rate, requests arrive whatever becomes of those before them; the point says what
share of them met --slo, and exits with 65 where the server falls behind. Writes into
--output: measurement.json, reports/ (the raw report, the log, the server's scrapes)
and outputs/ (one file per value, for Argo). Exits with 69 when
the server cannot run the point, 75 when a later attempt may succeed, 65 when the
point was measured but cannot be used. --server says what the server runs as, which
is kept with the measurement: an estimate from points that differ in it is warned.
With --points, several are measured one after another; what is there already is not
measured again, so that the same command resumes.

Examples:
  step bench --target http://127.0.0.1:8000 --model simulated --accelerator A100 \
    --batch-size 8 --output out
  step bench --target http://vllm:8000 --model unsloth/Meta-Llama-3.1-8B --accelerator A100 \
    --batch-size 64 --prompt-tokens 1024 --output-tokens 256 --max-seconds 120 \
    --driver guidellm --output s3://results/a100-b64
  step bench --target http://vllm:8000 --model llama --accelerator A100 \
    --batch-size 8 --precision 1% --max-seconds 300 --output out
  step bench --target http://vllm:8000 --model llama --accelerator A100 --rate 3.2 \
    --slo p90.ttft=250ms,itl=20ms --output out
  step bench --target http://vllm:8000 --model llama --accelerator A100 --output run \
    --points '[{"batch-size": 1}, {"batch-size": 64}, {"batch-size": 8, "max-seconds": 60}]'
  step bench --target "$(cat out/outputs/target)" --server "$(cat out/outputs/server)" \
    --model llama --accelerator A100 \
    --batch-size 8 --output out`,
		Flags: steps.Bench.Flags(),
		Action: func(c *cli.Context) error {
			if err := clikit.NoArgs(c); err != nil {
				return err
			}
			o, points, err := benchOptions(c)
			if err != nil {
				return exit.With(exit.Usage, err)
			}
			o.Begin = time.Now() // to find a driver may take as long as to start it
			var d driver.Driver = native.Driver{Tool: version.Version()}
			if steps.Bench.Driver.In(c) == sweep.Guidellm {
				if d, err = guidellm.Find(steps.Bench.Guidellm.In(c)); err != nil {
					return err
				}
			}
			out, err := store.New(c.Context, steps.Bench.Output.In(c))
			if err != nil {
				return err
			}
			if len(points) > 0 {
				err = runSeveral(c, d, out, o, points)
			} else {
				err = attempt(c, "", func() error { return run(c, d, out, o) })
			}
			if err != nil && steps.Bench.GoOn.In(c) && c.Err() == nil {
				fmt.Fprintf(c.App.ErrWriter, "left out: %v\n", err)
				return nil
			}
			return err
		},
	}
}

// run runs the point, or those that share a process, and says a line about each.
func run(c *cli.Context, d driver.Driver, out store.Store, o bench.Options) error {
	if len(o.Levels) == 0 {
		m, err := bench.Run(c.Context, d, out, o)
		if m.Schema != "" {
			fmt.Fprintln(c.App.Writer, m.Describe())
		}
		return err
	}
	outcomes, err := bench.RunShared(c.Context, d, out, o)
	for _, one := range outcomes {
		if one.Measurement.Schema != "" {
			fmt.Fprintln(c.App.Writer, one.Measurement.Describe())
		}
	}
	if err != nil {
		return err
	}
	return bench.Join(outcomes)
}

// attempt runs the point, again while a later attempt may succeed. of says which it is,
// where there are several.
func attempt(c *cli.Context, of string, point func() error) error {
	attempts := steps.Bench.Attempts.In(c)
	return retry.Policy{Attempts: attempts}.Do(c.Context, point, func(n int, err error, pause time.Duration) {
		fmt.Fprintf(c.App.ErrWriter, "%sattempt %d of %d failed: %v; the next one in %s\n", of, n, attempts, err, pause)
	})
}

// runSeveral runs points one after another, and says a line about each.
func runSeveral(c *cli.Context, d driver.Driver, out store.Store, o bench.Options, points []sweep.Point) error {
	s := bench.Several{
		Options: o, Points: points, Done: []store.Store{out},
		Attempt: func(p sweep.Point, try func() error) error { return attempt(c, p.Name()+": ", try) },
		Said: func(p sweep.Point, m measurement.Measurement, err error) {
			if m.Schema != "" {
				fmt.Fprintln(c.App.Writer, m.Describe())
			}
			if err != nil {
				fmt.Fprintf(c.App.ErrWriter, "%s failed: %v\n", p.Name(), err)
			}
		},
	}
	if place := steps.Bench.Done.In(c); place != "" {
		done, err := store.New(c.Context, place)
		if err != nil {
			return err
		}
		s.Done = append(s.Done, done)
	}
	return bench.RunSeveral(c.Context, d, out, s)
}

// pointsOf reads --points, if they are given. What a point does not say is as the other
// flags have it; the options get the largest batch size.
func pointsOf(c *cli.Context, o *bench.Options) ([]sweep.Point, error) {
	if steps.Bench.Points.In(c) == "" {
		if steps.Bench.Done.In(c) != "" {
			return nil, errors.New("--done: is of several points; give --points")
		}
		return nil, nil
	}
	var listed []precision.Point
	if err := json.Unmarshal([]byte(steps.Bench.Points.In(c)), &listed); err != nil {
		return nil, fmt.Errorf("--points: %w; expected the JSON list that step next chooses, such as [{\"batch-size\": 8}]", err)
	}
	var points []sweep.Point
	var errs []error
	if steps.Bench.BatchSize.In(c) != "" || steps.Bench.Rate.Given(c) || steps.Bench.ShareProcess.In(c) {
		errs = append(errs, errors.New("--points: says what --batch-size, --rate and --share-process say of one; leave those out"))
	}
	if len(listed) == 0 {
		errs = append(errs, errors.New("--points: the list is empty"))
	}
	names := map[string]bool{}
	for i, one := range listed {
		one.PromptTokens = cmp.Or(one.PromptTokens, o.Shape.PromptTokens)
		one.OutputTokens = cmp.Or(one.OutputTokens, o.Shape.OutputTokens)
		p := one.Of(o.Accelerator)
		for _, err := range one.Mistakes(0) { // 0: as the flags have it
			errs = append(errs, fmt.Errorf("--points: number %d: %w", i+1, err))
		}
		if names[p.Name()] {
			errs = append(errs, fmt.Errorf("--points: number %d is %s, as one before it is; let \"again\" tell them apart, such as %q", i+1, p.Name(), sweep.AgainEnd(p.Again+1)))
		}
		names[p.Name()] = true
		points = append(points, p)
		o.BatchSize = max(o.BatchSize, p.BatchSize)
	}
	return points, errors.Join(errs...)
}

// benchOptions reads the flags and reports every mistake among them. points are those of
// --points, none where it runs one.
func benchOptions(c *cli.Context) (o bench.Options, points []sweep.Point, err error) {
	o = bench.Options{
		Options: driver.Options{
			Target: steps.Bench.Target.In(c), Model: steps.Bench.Model.In(c),
			Shape:      sweep.Shape{PromptTokens: steps.Bench.PromptTokens.In(c), OutputTokens: steps.Bench.OutputTokens.In(c)},
			MaxSeconds: steps.Bench.MaxSeconds.In(c), MaxRequests: steps.Bench.MaxRequests.In(c),
			Spread: steps.Bench.Spread.In(c), Seed: steps.Bench.Seed.In(c), Tokenizer: steps.Bench.Tokenizer.In(c),
			Endpoint: steps.Bench.Endpoint.In(c),
		},
		Accelerator:  steps.Bench.Accelerator.In(c),
		MaxNumSeqs:   steps.Bench.MaxNumSeqs.In(c),
		Provenance:   measurement.Provenance{Tool: "step " + version.Version()},
		Margin:       steps.Bench.Margin.In(c),
		Probe:        native.Driver{Tool: version.Version()},
		ProbeSeconds: steps.Bench.ProbeSeconds.In(c),
		ProgressFile: os.Getenv("ARGO_PROGRESS_FILE"),
		Stderr:       c.App.ErrWriter,
	}
	var sizes []int
	var errKey error
	o.APIKey, errKey = keyOf(c, o.Target)
	o.Provenance.Instance, err = instance(steps.Bench.Server.In(c))
	errs := []error{errKey, err, checkEndpoint(o.Endpoint)}
	smallest := 1.0
	o.Rate, o.Arrivals = steps.Bench.Rate.In(c), steps.Bench.Arrivals.In(c)
	points, err = pointsOf(c, &o)
	errs = append(errs, err)
	if !steps.Bench.Rate.Given(c) && steps.Bench.Points.In(c) == "" {
		if sizes, err = sweep.ParseBatchSizes(steps.Bench.BatchSize.In(c)); err != nil {
			errs = append(errs, fmt.Errorf("--batch-size: %w; or give --rate", err))
		} else {
			o.BatchSize, smallest = slices.Max(sizes), float64(slices.Min(sizes))
		}
	}
	errs = append(errs, openOptions(c, &o))
	switch {
	case steps.Bench.ShareProcess.In(c):
		o.Levels = sizes
		if len(slices.Compact(slices.Sorted(slices.Values(sizes)))) < len(sizes) {
			errs = append(errs, fmt.Errorf("--batch-size: %s holds a batch size twice", steps.Bench.BatchSize.In(c)))
		}
		if steps.Bench.Driver.In(c) != sweep.Guidellm {
			errs = append(errs, fmt.Errorf("--share-process: is for --driver %s, whose start takes long", sweep.Guidellm))
		}
	case len(sizes) > 1:
		errs = append(errs, fmt.Errorf("--batch-size: %s are several; give --share-process too, or run step bench for each", steps.Bench.BatchSize.In(c)))
	}
	if text := steps.Bench.Precision.In(c); text != "" {
		o.Wanted, err = measurement.ParseWanted(text)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("--precision: %w", err))
		case steps.Bench.Driver.In(c) != sweep.Native:
			errs = append(errs, fmt.Errorf("--precision: is for --driver %s; a point of %s cannot end early: measure it again, as wfgen run --precision does, until the points together say enough", sweep.Native, sweep.Guidellm))
		case steps.Bench.Rate.Given(c):
			errs = append(errs, errors.New("--precision: is of a closed loop; give --batch-size, not --rate"))
		}
	}
	if text := steps.Bench.BatchSizes.In(c); text != "" {
		sizes, err := sweep.ParseBatchSizes(text)
		errs, o.BatchSizes = append(errs, err), sizes
	}
	errs = append(errs, benchLimits(c, o, smallest)...)
	if o.MaxSeconds == 0 && o.MaxRequests == 0 {
		errs = append(errs, errors.New("--max-seconds and --max-requests are both 0: one must end the point"))
	}
	if o.MaxRequests > 0 && o.MaxRequests < sweep.MinPerStream*o.BatchSize {
		errs = append(errs, fmt.Errorf("--max-requests: %d is below %d, %d per stream: none would lie in the steady window; 10 per stream is a good number",
			o.MaxRequests, sweep.MinPerStream*o.BatchSize, sweep.MinPerStream))
	}
	if !(o.Spread >= 0 && o.Spread < 1) {
		errs = append(errs, fmt.Errorf("--output-spread: %v is not a fraction from 0 to below 1", o.Spread))
	}
	if d := steps.Bench.Driver.In(c); d != sweep.Native && d != sweep.Guidellm {
		errs = append(errs, fmt.Errorf("--driver: %q is neither %s nor %s", d, sweep.Native, sweep.Guidellm))
	}
	if !steps.Bench.Seed.Given(c) {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		o.Seed = int64(binary.LittleEndian.Uint64(b[:]) >> 33)
	}
	return o, points, errors.Join(errs...)
}

func checkEndpoint(word string) error {
	if slices.Contains(sweep.Endpoints(), word) {
		return nil
	}
	return fmt.Errorf("--endpoint: %q is none of %s", word, strings.Join(sweep.Endpoints(), ", "))
}

// openOptions reads the flags of an open loop, and reports every mistake among them.
func openOptions(c *cli.Context, o *bench.Options) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Arrivals != sweep.Poisson && o.Arrivals != sweep.Constant {
		bad("--arrivals: %q is neither %s nor %s", o.Arrivals, sweep.Poisson, sweep.Constant)
	}
	if text := steps.Bench.SLO.In(c); text != "" {
		var err error
		if o.SLOs, err = slo.Parse(text); err != nil {
			bad("--slo: %w", err)
		}
	}
	switch {
	case !steps.Bench.Rate.Given(c):
		if o.SLOs != nil || steps.Bench.Arrivals.Given(c) {
			bad("--slo, --arrivals: are of requests that arrive at a rate; give --rate")
		}
	case !(o.Rate > 0 && o.Rate < 1e6):
		bad("--rate: %v is not a number of requests per second above 0", o.Rate)
	case steps.Bench.BatchSize.In(c) != "":
		bad("--rate: and --batch-size are two kinds of load; leave one out")
	case steps.Bench.Driver.In(c) != sweep.Native || steps.Bench.ShareProcess.In(c):
		bad("--rate: is for --driver %s; a report of guidellm at a constant or poisson rate can be given to step measure", sweep.Native)
	}
	return errors.Join(errs...)
}

// benchLimits are the mistakes of single numbers and names.
func benchLimits(c *cli.Context, o bench.Options, smallest float64) (errs []error) {
	for _, n := range []struct {
		flag        string
		value       float64
		least, most float64
	}{
		{"batch-size", smallest, 1, sweep.MostBatch},
		{"prompt-tokens", float64(o.Shape.PromptTokens), 1, sweep.MostTokens}, {"output-tokens", float64(o.Shape.OutputTokens), 2, sweep.MostTokens},
		{"max-seconds", o.MaxSeconds, 0, sweep.MostSeconds}, {"max-requests", float64(o.MaxRequests), 0, math.Inf(1)},
		{"max-num-seqs", float64(o.MaxNumSeqs), 0, math.Inf(1)}, {"margin", o.Margin.Seconds(), 1, sweep.MostSeconds},
		{"probe-seconds", o.ProbeSeconds, 0, sweep.MostSeconds}, {"attempts", float64(steps.Bench.Attempts.In(c)), 1, 1000},
	} {
		switch {
		case !(n.value >= n.least):
			errs = append(errs, fmt.Errorf("--%s: %v is below %v", n.flag, n.value, n.least))
		case n.value > n.most:
			errs = append(errs, fmt.Errorf("--%s: %v is above %v", n.flag, n.value, n.most))
		}
	}
	return append(errs, plainNames([][2]string{{"model", o.Model}, {"accelerator", o.Accelerator}})...)
}

// plainNames refuses flags, given with their values, that cannot name results.
func plainNames(flags [][2]string) (errs []error) {
	for _, f := range flags {
		if !redact.Plain(f[1]) {
			errs = append(errs, fmt.Errorf("--%s: %q holds a control character, and cannot name results", f[0], f[1]))
		}
	}
	return errs
}

// instance reads what step wait has found out about the server.
func instance(text string) (record.Instance, error) {
	var i record.Instance
	if strings.TrimSpace(text) == "" {
		return i, nil
	}
	if file, ok := strings.CutPrefix(text, "@"); ok {
		f, err := os.Open(file)
		if err != nil {
			return i, fmt.Errorf("--server: %w", err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, measurement.MaxFileSize))
		if err != nil {
			return i, fmt.Errorf("--server: %w", err)
		}
		text = string(data)
	}
	if err := json.Unmarshal([]byte(text), &i); err != nil {
		return i, fmt.Errorf("--server: %w; expected the JSON that step wait writes into outputs/server, or {}", err)
	}
	return i, nil
}
