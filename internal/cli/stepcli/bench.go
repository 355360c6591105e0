package stepcli

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/point/bench"
	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/driver/guidellm"
	"wfgen.dev/internal/point/driver/native"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "run one point: load a server with N streams and measure ITL and TTFT",
		Description: `Writes into --output: measurement.json, reports/ (the raw report, the log, the
server's scrapes) and outputs/ (one file per value, for Argo). Exits with 69 when
the server cannot run the point, 75 when a later attempt may succeed, 65 when the
point was measured but cannot be used. --server tells what the server runs as, which
is kept with the measurement: an estimate from points that differ in it is warned.

Examples:
  step bench --target http://127.0.0.1:8000 --model simulated --batch-size 8 --output out
  step bench --target http://vllm:8000 --model unsloth/Meta-Llama-3.1-8B --accelerator A100 \
    --batch-size 64 --prompt-tokens 1024 --output-tokens 256 --max-seconds 120 \
    --driver guidellm --output s3://results/a100-b64
  step bench --target "$(cat out/outputs/target)" --server "$(cat out/outputs/server)" --model llama \
    --batch-size 8 --output out`,
		Flags: []cli.Flag{
			targetFlag(), modelFlag(), apiKeyFlag(),
			&cli.StringFlag{Name: "accelerator", Value: "unknown", Usage: "`NAME` that the results are keyed by"},
			&cli.StringFlag{Name: "batch-size", Required: true, Usage: "`N` requests that the server shall run together; with --share-process a list of such"},
			&cli.BoolFlag{Name: "share-process", Usage: "run all batch sizes of --batch-size in one guidellm process (0.4 or newer), whose start is then paid for once; each is a point of its own, in b<N>/ below --output"},
			&cli.StringFlag{Name: "batch-sizes", Usage: "all batch sizes of the sweep, as `LIST`; the largest one's report is named throughput"},
			&cli.IntFlag{Name: "prompt-tokens", Value: 128, Usage: "tokens of each prompt"},
			&cli.IntFlag{Name: "output-tokens", Value: 128, Usage: "tokens of each answer"},
			&cli.Float64Flag{Name: "output-spread", Value: 0.2, Usage: "`FRACTION` by which answers differ in length, about the same mean, so that streams do not march in step; 0: all alike"},
			&cli.Float64Flag{Name: "max-seconds", Value: 120, Usage: "length of the measurement; 0: --max-requests decides"},
			&cli.IntFlag{Name: "max-requests", Usage: "requests in all; 0: --max-seconds decides"},
			&cli.IntFlag{Name: "max-num-seqs", Usage: "the server's max-num-seqs, if known; a batch size above it is refused"},
			&cli.StringFlag{Name: "server", Usage: "what the server runs as: the `JSON` that step wait writes into outputs/server, or @FILE with it; {}: not known"},
			&cli.IntFlag{Name: "attempts", Value: 1, Usage: "how often the point is tried where a later attempt may succeed"},
			&cli.BoolFlag{Name: "go-on", Usage: "exit with 0 although the point failed, after saying why: what comes after it shall run"},
			&cli.StringFlag{Name: "driver", Value: sweep.Native, Usage: "what makes the load: native or guidellm"},
			&cli.StringFlag{Name: "guidellm", Usage: "`PATH` of guidellm; otherwise looked for in PATH and in its image's place"},
			&cli.StringFlag{Name: "tokenizer", Usage: "for guidellm: directory or model id of the tokenizer; the model's own otherwise"},
			&cli.Int64Flag{Name: "seed", Usage: "prompts are drawn from it; a different one each time otherwise, since a repeated prompt is answered from the cache"},
			&cli.DurationFlag{Name: "margin", Value: 3 * time.Minute, Usage: "how long beyond --max-seconds the driver may take before it is stopped"},
			&cli.Float64Flag{Name: "probe-seconds", Value: bench.DefaultProbeSeconds, Usage: "where guidellm makes the load and the server's /metrics cannot say TTFT, the native driver makes the same load for so many `SECONDS` more, or until each stream has made three requests, to tell TTFT without guidellm's own delays; 0: it does not"},
			&cli.StringFlag{Name: "output", Required: true, Usage: "directory or s3://bucket/prefix"},
		},
		Action: func(c *cli.Context) error {
			if err := clikit.NoArgs(c); err != nil {
				return err
			}
			o, err := benchOptions(c)
			if err != nil {
				return exit.With(exit.Usage, err)
			}
			o.Begin = time.Now() // to find a driver may take as long as to start it
			var d driver.Driver = native.Driver{Tool: Version}
			if c.String("driver") == sweep.Guidellm {
				if d, err = guidellm.Find(c.String("guidellm")); err != nil {
					return err
				}
			}
			out, err := store.New(c.Context, c.String("output"))
			if err != nil {
				return err
			}
			err = attempt(c, func() error { return run(c, d, out, o) })
			if err != nil && c.Bool("go-on") && c.Err() == nil {
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
			fmt.Fprintln(c.App.Writer, bench.Describe(m))
		}
		return err
	}
	outcomes, err := bench.RunShared(c.Context, d, out, o)
	for _, one := range outcomes {
		if one.Measurement.Schema != "" {
			fmt.Fprintln(c.App.Writer, bench.Describe(one.Measurement))
		}
	}
	if err != nil {
		return err
	}
	return bench.Join(outcomes)
}

// firstPause is how long bench waits before its second attempt; each further pause is
// three times as long, as in the workflow.
var firstPause = 10 * time.Second

// attempt runs the point, again while a later attempt may succeed.
func attempt(c *cli.Context, point func() error) error {
	pause := firstPause
	for n := 1; ; n++ {
		err := point()
		if exit.Code(err) != exit.TryAgain || n >= c.Int("attempts") {
			return err
		}
		fmt.Fprintf(c.App.ErrWriter, "attempt %d of %d failed: %v; the next one in %s\n", n, c.Int("attempts"), err, pause)
		select {
		case <-c.Done():
			return err
		case <-time.After(pause):
		}
		pause *= 3
	}
}

// benchOptions reads the flags and reports every mistake among them.
func benchOptions(c *cli.Context) (bench.Options, error) {
	o := bench.Options{
		Options: driver.Options{
			Target: c.String("target"), Model: c.String("model"), APIKey: c.String("api-key"),
			Shape:      sweep.Shape{PromptTokens: c.Int("prompt-tokens"), OutputTokens: c.Int("output-tokens")},
			MaxSeconds: c.Float64("max-seconds"), MaxRequests: c.Int("max-requests"),
			Spread: c.Float64("output-spread"), Seed: c.Int64("seed"), Tokenizer: c.String("tokenizer"),
		},
		Accelerator:  c.String("accelerator"),
		MaxNumSeqs:   c.Int("max-num-seqs"),
		Provenance:   measurement.Provenance{Tool: "step " + Version},
		Margin:       c.Duration("margin"),
		Probe:        native.Driver{Tool: Version},
		ProbeSeconds: c.Float64("probe-seconds"),
		ProgressFile: os.Getenv("ARGO_PROGRESS_FILE"),
		Stderr:       c.App.ErrWriter,
	}
	var err error
	var errs []error
	o.Provenance.Instance, err = instance(c.String("server"))
	errs = append(errs, err)
	sizes, err := sweep.ParseBatchSizes(c.String("batch-size"))
	if err != nil {
		errs = append(errs, fmt.Errorf("--batch-size: %w", err))
	}
	o.BatchSize = slices.Max(append(slices.Clone(sizes), 0))
	switch {
	case c.Bool("share-process"):
		o.Levels = sizes
		if len(slices.Compact(slices.Sorted(slices.Values(sizes)))) < len(sizes) {
			errs = append(errs, fmt.Errorf("--batch-size: %s holds a batch size twice", c.String("batch-size")))
		}
		if c.String("driver") != sweep.Guidellm {
			errs = append(errs, fmt.Errorf("--share-process: is for --driver %s, whose start takes long", sweep.Guidellm))
		}
	case len(sizes) > 1:
		errs = append(errs, fmt.Errorf("--batch-size: %s are several; give --share-process too, or run step bench for each", c.String("batch-size")))
	}
	if text := c.String("batch-sizes"); text != "" {
		sizes, err := sweep.ParseBatchSizes(text)
		errs, o.BatchSizes = append(errs, err), sizes
	}
	for _, n := range []struct {
		flag  string
		value float64
		least float64
	}{
		{"batch-size", float64(slices.Min(append(slices.Clone(sizes), o.BatchSize))), 1}, {"prompt-tokens", float64(o.Shape.PromptTokens), 1},
		{"output-tokens", float64(o.Shape.OutputTokens), 2}, {"max-seconds", o.MaxSeconds, 0},
		{"max-requests", float64(o.MaxRequests), 0}, {"max-num-seqs", float64(o.MaxNumSeqs), 0},
		{"margin", o.Margin.Seconds(), 1}, {"probe-seconds", o.ProbeSeconds, 0},
		{"attempts", float64(c.Int("attempts")), 1},
	} {
		if !(n.value >= n.least) {
			errs = append(errs, fmt.Errorf("--%s: %v is below %v", n.flag, n.value, n.least))
		}
	}
	if o.MaxSeconds == 0 && o.MaxRequests == 0 {
		errs = append(errs, errors.New("--max-seconds and --max-requests are both 0: one must end the point"))
	}
	if o.MaxRequests > 0 && o.MaxRequests < sweep.MinPerStream*o.BatchSize {
		errs = append(errs, fmt.Errorf("--max-requests: %d is below %d, %d per stream: none would lie in the steady window; 10 per stream is a good number",
			o.MaxRequests, sweep.MinPerStream*o.BatchSize, sweep.MinPerStream))
	}
	if o.Spread < 0 || o.Spread >= 1 {
		errs = append(errs, fmt.Errorf("--output-spread: %v is not a fraction from 0 to below 1", o.Spread))
	}
	if d := c.String("driver"); d != sweep.Native && d != sweep.Guidellm {
		errs = append(errs, fmt.Errorf("--driver: %q is neither %s nor %s", d, sweep.Native, sweep.Guidellm))
	}
	if !c.IsSet("seed") {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		o.Seed = int64(binary.LittleEndian.Uint64(b[:]) >> 33)
	}
	return o, errors.Join(errs...)
}

// instance reads what step wait has found out about the server.
func instance(text string) (measurement.Instance, error) {
	var i measurement.Instance
	if strings.TrimSpace(text) == "" {
		return i, nil
	}
	if file, ok := strings.CutPrefix(text, "@"); ok {
		data, err := os.ReadFile(file)
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
