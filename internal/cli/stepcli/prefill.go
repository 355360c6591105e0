package stepcli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/estimate/prefill"
	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/driver/native"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/engine"
	"wfgen.dev/internal/version"
)

func prefillCommand() *cli.Command {
	return &cli.Command{
		Name:  steps.Prefill.Name,
		Usage: "measure how fast an idle server computes prompts, for a router",
		Description: `Sends prompts of exactly one chunk, what one iteration of the server computes at most
(max-num-batched-tokens), one at a time and each only when the server's metrics say that
it has nothing to do. Writes prefill.json into --output: the rate, which is the chunk over
the median time to first token, every prompt, and a fingerprint of what the server is;
and outputs/prefill, the low end of the rate's interval.
step render makes of it the llm-d router's calibration record (--format calibration) and
KEDA's token-aware ScaledObject (--format keda-tokens).

Exits with 69 when the server cannot be asked so, with 75 when it is never idle, and with
65 when fewer than 10 prompts count or the 95 % interval of their median is wider than
--max-spread; what was measured is written all the same.

Example:
  step prefill --target http://vllm:8000 --model llama --accelerator A100 --chunk-tokens 8192 \
    --server @outputs/server --output prefill`,
		Flags:  steps.Prefill.Flags(),
		Action: runPrefill,
	}
}

func runPrefill(c *cli.Context) error {
	r, spread, err := prefillOptions(c)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	err = probePrefill(c, r, spread)
	if err != nil && steps.Prefill.GoOn.In(c) && c.Err() == nil {
		fmt.Fprintf(c.App.ErrWriter, "left out: %v\n", err)
		return nil
	}
	return err
}

// prefillOptions reads the flags, into the record that is to be filled, and reports every
// mistake among them.
func prefillOptions(c *cli.Context) (r prefill.Record, spread float64, err error) {
	f := steps.Prefill
	spread, errSpread := sweep.ParseShare(f.MaxSpread.In(c))
	server, errServer := instance(f.Server.In(c))
	errs := []error{clikit.NoArgs(c), errServer, checkEndpoint(f.Endpoint.In(c))}
	if errSpread != nil {
		errs = append(errs, fmt.Errorf("--max-spread: %w", errSpread))
	}
	errs = append(errs, plainNames([][2]string{{"model", f.Model.In(c)}, {"accelerator", f.Accelerator.In(c)}, {"model-revision", f.ModelRevision.In(c)}})...)
	chunk := f.ChunkTokens.In(c)
	if chunk == 0 {
		chunk = engine.ChunkTokens(server.Args)
	}
	switch {
	case chunk == 0:
		errs = append(errs, errors.New("--chunk-tokens: not given, and the arguments of --server do not say it; it is the server's max-num-batched-tokens (SGLang: chunked-prefill-size)"))
	case chunk < 1 || chunk > sweep.MostTokens:
		errs = append(errs, fmt.Errorf("--chunk-tokens: %d is not a number of tokens from 1 to %d", chunk, sweep.MostTokens))
	}
	if n := f.Samples.In(c); n < prefill.FewestSamples || n > 1000 {
		errs = append(errs, fmt.Errorf("--samples: %d is not a number from %d to 1000", n, prefill.FewestSamples))
	}
	if f.Patience.In(c) <= 0 {
		errs = append(errs, fmt.Errorf("--patience: %s is not a time above 0", f.Patience.In(c)))
	}
	return prefill.Record{
		Model: f.Model.In(c), Accelerator: f.Accelerator.In(c), ChunkTokens: chunk,
		Identity: prefill.IdentityOf(f.Model.In(c), f.Accelerator.In(c), f.ModelRevision.In(c), chunk, server),
		Tool:     "step " + version.Version(), Instance: server,
	}, spread, errors.Join(errs...)
}

// probePrefill fills the record in and writes it.
func probePrefill(c *cli.Context, r prefill.Record, spread float64) error {
	key, err := keyOf(c, steps.Prefill.Target.In(c))
	if err != nil {
		return err
	}
	out, err := store.New(c.Context, steps.Prefill.Output.In(c))
	if err != nil {
		return err
	}
	api, err := configMapAPI(steps.Prefill.ConfigMap.In(c))
	if err != nil {
		return err
	}
	client, err := llm.New(steps.Prefill.Target.In(c), key)
	if err != nil {
		return err
	}
	r.MeasuredAt, r.Target = record.Unix(time.Now()), client.Target()
	if err := measurePrefill(c, client, &r); err != nil {
		return err
	}
	r.Judge(spread)
	data, err := r.Encode()
	if err != nil {
		return err
	}
	if r.Usable() {
		if err := out.Put(c.Context, layout.OutPrefill.Key(), strings.NewReader(parameters.Format(r.SafeTokensPerSecond()))); err != nil {
			return err
		}
	}
	if err := out.Put(c.Context, layout.Prefill, bytes.NewReader(data)); err != nil {
		return err
	}
	if api != nil {
		name, namespace := steps.Prefill.ConfigMap.In(c), cmp.Or(steps.Prefill.Namespace.In(c), api.Namespace)
		if err := putConfigMap(c, api, name, namespace, map[string]*string{layout.Prefill: new(string(data))}); err != nil {
			return err
		}
	}
	if r.MedianTTFTMS > 0 {
		fmt.Fprintf(c.App.Writer, "%s on %s: %.0f prompt tokens/s (%d tokens in %.4g [%.4g, %.4g] ms, the median of the %s's times)\nfingerprint %s\n",
			r.Model, r.Accelerator, r.TokensPerSecond, r.ChunkTokens, r.MedianTTFTMS, r.LowTTFTMS, r.HighTTFTMS, r.From, r.Fingerprint)
	}
	if r.Verdict.Level == fit.Refused {
		return exit.Errorf(exit.Refused, "refused: %s", r.Verdict.Reasons[0])
	}
	for _, why := range r.Verdict.Reasons {
		fmt.Fprintf(c.App.ErrWriter, "warning: %s\n", why)
	}
	return nil
}

// measurePrefill asks the server, and fills in what it says of itself.
func measurePrefill(c *cli.Context, client *llm.Client, r *prefill.Record) error {
	found, err := client.Find(c.Context, r.Model)
	if err != nil {
		return err
	}
	if found.MaxModelLen > 0 && r.ChunkTokens+1 > found.MaxModelLen {
		return exit.Errorf(exit.Unusable, "a prompt of one chunk has %d tokens, and the server's max-model-len is %d; start it with a longer one", r.ChunkTokens, found.MaxModelLen)
	}
	r.ServerVersion = client.Version(c.Context)
	r.Samples, err = native.Prefill(c.Context, client, native.PrefillOptions{
		Model: r.Model, Endpoint: steps.Prefill.Endpoint.In(c), Tokens: r.ChunkTokens, Samples: steps.Prefill.Samples.In(c), Seed: time.Now().UnixNano(),
		Patience: steps.Prefill.Patience.In(c), Log: c.App.ErrWriter,
	})
	return err
}
