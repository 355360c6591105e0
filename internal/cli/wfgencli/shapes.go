package wfgencli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"wfgen.dev/internal/estimate/design"
	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/steps"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/plan"
	"wfgen.dev/internal/sweep/precision"
)

// jointShare is how well the joint models shall predict ITL where no precision is asked
// for, relative.
const jointShare = 0.05

// chooseShapes puts those shapes into the configuration from which the joint models are
// told as well as the precision that is asked for, and says why these.
func chooseShapes(c *cli.Context, cfg *config.Config, limits design.Limits) error {
	if limits.ModelLen == 0 {
		return errors.New("shapes: auto depends on what the servers take, which is not known; give max-model-len")
	}
	if len(cfg.BatchSizes) == 0 {
		return nil // has been said
	}
	w := design.JointWish{BatchSizes: cfg.BatchSizes, Seconds: float64(cmp.Or(cfg.MaxSeconds, config.Default().MaxSeconds)), Share: jointShare, Limits: limits}
	if cfg.Precision != "" {
		if goals, err := precision.Parse(cfg.Precision); err == nil { // otherwise that has been said
			w.Share = slices.MaxFunc(goals, func(a, b precision.Goal) int { return cmp.Compare(a.Share, b.Share) }).Share // a slope's, as a rule
		}
		w.Seconds = min(w.Seconds, design.FirstSeconds)
	}
	choice, err := design.Shapes(w)
	if err != nil {
		return fmt.Errorf("shapes: auto: %w", err)
	}
	cfg.Shapes = nil
	for _, s := range choice.Shapes {
		cfg.Shapes = append(cfg.Shapes, config.Shape{Shape: s})
	}
	to := c.App.ErrWriter
	if c.Command.Name == planName { // shows what is going to be measured
		to = c.App.Writer
	}
	_, err = fmt.Fprintf(to, "shapes: %s\n\n", choice.Describe())
	return err
}

// limitsOf are what all servers of a run on one machine take: as they say, or as was given.
func limitsOf(c *cli.Context, cfg config.Config) (design.Limits, error) {
	limits := design.Limits{ModelLen: cfg.MaxModelLen}
	if c.Bool("simulate") {
		limits.ModelLen = cmp.Or(limits.ModelLen, sweep.SimulatedMaxModelLen)
		return limits, nil
	}
	var errs []error
	for _, a := range plan.Of(cfg).Accelerators {
		of, err := askLimits(c.Context, a.TargetURL, cfg.Model)
		if err != nil {
			errs = append(errs, fmt.Errorf("shapes: auto: %s: %w; or give max-model-len", a.Name, err))
			continue
		}
		limits.ModelLen, limits.CacheTokens = least(limits.ModelLen, of.ModelLen), least(limits.CacheTokens, of.CacheTokens)
	}
	if cfg.MaxModelLen > 0 {
		errs = nil // it was given for servers that do not say, or do not answer yet
	}
	return limits, errors.Join(errs...)
}

// askLimits asks a server what it takes; 0: it does not say.
func askLimits(ctx context.Context, target, model string) (l design.Limits, err error) {
	client, err := llm.New(target, os.Getenv(steps.Bench.APIKey.Variable()))
	if err != nil {
		return l, exit.With(exit.Usage, err)
	}
	found, err := client.Find(ctx, model)
	if err != nil {
		return l, err
	}
	l.ModelLen = found.MaxModelLen
	if cache, err := client.Cache(ctx, model); err == nil && cache != nil { // without metrics nobody knows
		l.CacheTokens = cache.Tokens
	}
	return l, nil
}

// least is the lesser of two limits, of which 0 is none.
func least(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
