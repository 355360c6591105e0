package stepcli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/llm/preflight"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep"
)

func preflightCommand() *cli.Command {
	return &cli.Command{
		Name:  steps.Preflight.Name,
		Usage: "ask a server whether it can run the points of a sweep",
		Description: `Asks /v1/models, /version and /metrics, and for one tiny answer, and says all at once
what would spoil points: answers that do not stream or are not counted, a wrong key,
shapes longer than max-model-len, batches that the KV cache does not hold (the server
would evict requests) or that are above max-num-seqs (they would queue), prefix
caching, requests of somebody else, a server without metrics.

Exits with 69 when a point cannot be measured, with 0 when there are only warnings,
with 75 when the server does not answer.

Examples:
  step preflight --target http://vllm:8000 --model llama --batch-sizes 1,8,64 \
    --shapes 128/128,1024/256
  step preflight --target http://vllm:8000 --model llama --batch-sizes '[1,8,64]' \
    --shapes 4096/256 --max-num-seqs 64`,
		Flags: steps.Preflight.Flags(),
		Action: func(c *cli.Context) error {
			if err := clikit.NoArgs(c); err != nil {
				return err
			}
			plan, err := intentOf(c)
			if err == nil && plan == nil {
				err = errors.New("--batch-sizes and --shapes: not given; they say what is going to be measured")
			}
			if err != nil {
				return exit.With(exit.Usage, err)
			}
			key, err := keyOf(c, steps.Preflight.Target.In(c))
			if err != nil {
				return err
			}
			client, err := llm.New(steps.Preflight.Target.In(c), key)
			if err != nil {
				return err
			}
			return runPreflight(c.Context, c, client, *plan, c.App.Writer)
		},
	}
}

// runPreflight prints the table on stdout and what it has found on words.
func runPreflight(ctx context.Context, c *cli.Context, client *llm.Client, plan preflight.Intent, words io.Writer) error {
	r, err := preflight.Check(ctx, client, steps.Preflight.Model.In(c), plan)
	if err != nil {
		return err
	}
	if err := errors.Join(r.PrintTable(c.App.Writer), r.PrintFindings(words)); err != nil {
		return err
	}
	return r.Err()
}

// intentOf reads what is going to be measured, for wait as for preflight; nil where
// neither batch sizes nor shapes are given.
func intentOf(c *cli.Context) (*preflight.Intent, error) {
	if steps.Preflight.BatchSizes.In(c) == "" && steps.Preflight.Shapes.In(c) == "" {
		return nil, nil
	}
	p := preflight.Intent{MaxNumSeqs: steps.Preflight.MaxNumSeqs.In(c), Spread: steps.Preflight.Spread.In(c), Endpoint: steps.Preflight.Endpoint.In(c)}
	var errs []error
	var err error
	if p.BatchSizes, err = sweep.ParseBatchSizes(steps.Preflight.BatchSizes.In(c)); err != nil {
		errs = append(errs, fmt.Errorf("--batch-sizes: %w", err))
	} else if len(p.BatchSizes) == 0 {
		errs = append(errs, errors.New("--batch-sizes: none given"))
	}
	for _, b := range p.BatchSizes {
		if b < 1 {
			errs = append(errs, fmt.Errorf("--batch-sizes: %d is below 1", b))
		}
	}
	errs = append(errs, checkEndpoint(p.Endpoint))
	texts := sweep.Items(steps.Preflight.Shapes.In(c))
	if len(texts) == 0 {
		errs = append(errs, errors.New("--shapes: none given"))
	}
	for _, text := range texts {
		s, err := sweep.ParseShape(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--shapes: %w", err))
		}
		p.Shapes = append(p.Shapes, s)
	}
	if p.MaxNumSeqs < 0 {
		errs = append(errs, fmt.Errorf("--max-num-seqs: %d is below 0", p.MaxNumSeqs))
	}
	if !(p.Spread >= 0 && p.Spread < 1) {
		errs = append(errs, fmt.Errorf("--output-spread: %v is not a fraction from 0 to below 1", p.Spread))
	}
	return &p, errors.Join(errs...)
}
