package native

import (
	"context"
	"io"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/llm/completion"
	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/tests/pipes"
)

func idleServer(t *testing.T, c simulate.Config) *llm.Client {
	t.Helper()
	sim, err := simulate.NewVirtual(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	server := pipes.Serve(t, sim.Handler())
	client, err := llm.New(server.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestPrefill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := idleServer(t, simulate.Config{Alpha: 1, Gamma: 2, Delta: 0.01})
		o := PrefillOptions{Model: simulate.DefaultModel, Tokens: 512, Samples: 12, Seed: 1, Patience: 10 * time.Second, Log: io.Discard}
		samples, err := Prefill(context.Background(), client, o)
		if err != nil || len(samples) < 12 {
			t.Fatalf("%d samples, %v", len(samples), err)
		}
		for _, s := range samples {
			if s.PromptTokens != 512 || s.ServerMS == nil || math.Abs(*s.ServerMS-7.12) > 0.01 || math.Abs(s.ClientMS-7.12) > 0.01 {
				t.Errorf("%+v: the law says 7.12 ms", s)
			}
		}

		// Somebody else is on the server: it is never idle, or what was measured does not count.
		busy, stop := context.WithCancel(context.Background())
		defer stop()
		go func() {
			for busy.Err() == nil {
				_, _ = completion.Stream(busy, client, completion.Dialect{Endpoint: "completions"}, completion.Ask{Model: o.Model, Prompt: "the of", Tokens: 200}, time.Minute)
			}
		}()
		for {
			s, err := client.Scrape(busy, o.Model)
			if err != nil {
				t.Fatal(err)
			}
			if s.Running > 0 {
				break
			}
		}
		o.Patience = 100 * time.Millisecond
		if _, err := Prefill(context.Background(), client, o); exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), "not idle") {
			t.Errorf("a server that is busy: %v", err)
		}
	})
}

// A short request of somebody else, between two looks at the gauges, is seen in the counts.
func TestPrefillSeesOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := idleServer(t, simulate.Config{Alpha: 0.1, Gamma: 3})
		busy, stop := context.WithCancel(context.Background())
		defer stop()
		go func() {
			for busy.Err() == nil {
				_, _ = completion.Stream(busy, client, completion.Dialect{Endpoint: "completions"}, completion.Ask{Model: simulate.DefaultModel, Prompt: "the of", Tokens: 1}, time.Minute)
				sleep(busy, 4*time.Millisecond)
			}
		}()
		samples, err := Prefill(context.Background(), client, PrefillOptions{Model: simulate.DefaultModel, Tokens: 64, Samples: 10, Seed: 1, Patience: 10 * time.Second, Log: io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		others := 0
		for _, s := range samples {
			if s.LeftOut == notAlone {
				others++
			}
		}
		if others == 0 {
			t.Errorf("%d samples, and nobody else was seen", len(samples))
		}
	})
}

func TestPrefillNeedsMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := idleServer(t, simulate.Config{NoMetrics: true})
		_, err := Prefill(context.Background(), client, PrefillOptions{Model: simulate.DefaultModel, Tokens: 64, Samples: 10, Log: io.Discard})
		if exit.Code(err) != exit.Unusable || !strings.Contains(err.Error(), "idle") {
			t.Error(err)
		}
	})
}
