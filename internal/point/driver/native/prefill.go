package native

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/llm/completion"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
)

// PrefillOptions is a probe of a server that nobody else may use meanwhile.
type PrefillOptions struct {
	Model, Endpoint string
	Tokens          int // of every prompt
	Samples         int // prompts that shall count
	Seed            int64
	Patience        time.Duration // how long to wait for the server to be idle
	Log             io.Writer
}

// mostTries is how many prompts are sent for each that shall count.
const mostTries = 3

// Why a prompt does not count.
const (
	wrongLength = "the server counted another number of tokens"
	cachedPart  = "a part of the prompt was in the server's cache"
	notAlone    = "the server had requests of somebody else"
)

// Prefill sends one prompt after another, each when the server says that it has nothing
// to do, and asks again whether that held all the while. A prompt that does not count is
// returned with the reason, and another is sent for it. The error is exit.Unusable where
// the server cannot be asked so, exit.TryAgain where it is never idle.
func Prefill(ctx context.Context, client *llm.Client, o PrefillOptions) ([]measurement.Prefill, error) {
	s, err := client.Scrape(ctx, o.Model)
	switch {
	case err != nil:
		return nil, exit.Errorf(exit.Unusable, "whether the server is idle is not known, since it has no metrics: %w", llm.Brief(err))
	case s.Successes == nil && s.TTFT == nil:
		return nil, exit.Errorf(exit.Unusable, "whether the server is idle is not known: its metrics count no requests")
	}
	stall := completion.Stall
	known, err := approach(ctx, client, driver.Options{
		Model: o.Model, Endpoint: o.Endpoint, Seed: o.Seed, Shape: sweep.Shape{PromptTokens: o.Tokens, OutputTokens: 2},
	}, stall)
	if err != nil {
		return nil, classify(ctx, client, err)
	}
	random := rand.New(rand.NewPCG(uint64(o.Seed), 1))
	ask := func() (completion.Answer, error) {
		return completion.Stream(ctx, client, known.dialect, completion.Ask{Model: o.Model, Prompt: known.prompts.prompt(random), Tokens: 1}, stall)
	}
	// Without /tokenize prompts are as long as usage says; with it, special tokens may
	// come on top: a prompt of one token more would be two chunks.
	for range mostTries {
		a, err := ask()
		if err != nil {
			return nil, classify(ctx, client, err)
		}
		if a.PromptTokens == o.Tokens {
			break
		}
		known.prompts.words = max(1, known.prompts.words+o.Tokens-a.PromptTokens)
	}
	var samples []measurement.Prefill
	counted := 0
	for tries := 0; counted < o.Samples && tries < mostTries*o.Samples; tries++ {
		before, err := idle(ctx, client, o, 0)
		if err != nil {
			return samples, err
		}
		a, err := ask()
		if err != nil {
			return samples, classify(ctx, client, err)
		}
		s := measurement.Prefill{PromptTokens: a.PromptTokens, ClientMS: milliseconds(a.Pieces[0].Sub(a.Start))}
		after, err := idle(ctx, client, o, answered(before)+1)
		if err != nil {
			return samples, err
		}
		if b, c := before.TTFT, after.TTFT; b != nil && c != nil && c.Count-b.Count == 1 {
			s.ServerMS = new(1000 * (c.SumSeconds - b.SumSeconds))
		}
		switch hits := difference(before.PrefixCacheHits, after.PrefixCacheHits); {
		case answered(after)-answered(before) != 1:
			s.LeftOut = notAlone
		case a.PromptTokens != o.Tokens:
			s.LeftOut = wrongLength
		case a.CachedTokens > 0 || hits > 0:
			s.LeftOut = cachedPart
		default:
			counted++
		}
		samples = append(samples, s)
		said := fmt.Sprintf("prompt of %d tokens: first token after %.4g ms", s.PromptTokens, s.ClientMS)
		if s.ServerMS != nil {
			said += fmt.Sprintf(", %.4g ms by the server", *s.ServerMS)
		}
		if s.LeftOut != "" {
			said += "; left out: " + s.LeftOut
		}
		fmt.Fprintln(o.Log, said)
	}
	return samples, nil
}

// idle waits until the server has nothing to do, and has counted at least so many
// answers: its metrics may be a moment late.
func idle(ctx context.Context, client *llm.Client, o PrefillOptions, answers float64) (record.Scrape, error) {
	until := time.Now().Add(o.Patience)
	for {
		s, err := client.Scrape(ctx, o.Model)
		switch {
		case ctx.Err() != nil:
			return s, exit.Errorf(exit.TryAgain, "interrupted: %w", context.Cause(ctx))
		case err != nil:
			return s, exit.Errorf(exit.TryAgain, "%s: its metrics went away: %w", client.Target(), llm.Brief(err))
		case s.Running+s.Waiting == 0 && answered(s) >= answers:
			return s, nil
		case time.Now().After(until):
			return s, exit.Errorf(exit.TryAgain, "%s is not idle: %.0f requests run and %.0f wait, for %s now; keep others off it", client.Target(), s.Running, s.Waiting, o.Patience)
		}
		sleep(ctx, 20*time.Millisecond)
	}
}

// answered is how many requests the server has counted: finished, or with a first token.
func answered(s record.Scrape) float64 {
	switch {
	case s.Successes != nil:
		return *s.Successes
	case s.TTFT != nil:
		return s.TTFT.Count
	}
	return 0
}

// difference of two running totals; 0 where they are not told.
func difference(before, after *float64) float64 {
	if before == nil || after == nil {
		return 0
	}
	return *after - *before
}
