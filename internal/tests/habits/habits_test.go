package habits

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wfgen.dev/internal/point/bench"
	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/driver/native"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/reason"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/sweep"
)

// habit is one way of answering, and what has to come of it. Where nothing is said the
// numbers have to be right.
type habit struct {
	name string
	set  func(*server)
	code int         // exit code
	says reason.Code // or that TTFT is void, or of a warning
	text string      // in the error
}

var shape = sweep.Shape{PromptTokens: 40, OutputTokens: 24}

var habits = []habit{
	{name: "none", set: func(s *server) {}},
	{name: "metrics", set: func(s *server) { s.metrics = true }},

	{name: "a role first", set: func(s *server) { s.roleFirst = true }},
	{name: "an empty piece first", set: func(s *server) { s.emptyFirst = true }},
	{name: "empty pieces between", set: func(s *server) { s.emptyBetween = true }},
	{name: "an empty piece last", set: func(s *server) { s.emptyLast = true }},
	{name: "comments", set: func(s *server) { s.keepAlive = true }},
	{name: "no [DONE]", set: func(s *server) { s.noDone = true }},
	{name: "usage with each", set: func(s *server) { s.usageEach = true }},
	{name: "usage before the end", set: func(s *server) { s.usageEarly = true }},
	{name: "usage 0 at the end", set: func(s *server) { s.zeroLast = true }},
	{name: "usage null", set: func(s *server) { s.nullUsage = true }},
	{name: "usage as texts", set: func(s *server) { s.usageTexts = true }},
	{name: "no usage", set: func(s *server) { s.noUsage = true }, code: exit.Unusable, text: "usage"},
	{name: "lines of 100 KiB", set: func(s *server) { s.longLines = true }},
	{name: "data over lines", set: func(s *server) { s.manyLines = true }},
	{name: "carriage returns", set: func(s *server) { s.carriage = true }},
	{name: "byte order mark", set: func(s *server) { s.bom = true }},
	{name: "gzip", set: func(s *server) { s.compress = true }},

	{name: "four at a time", set: func(s *server) { s.group = 4 }, code: exit.Refused, says: reason.Grouped},
	{name: "four at a time, and metrics", set: func(s *server) { s.group, s.metrics = 4, true }, says: reason.Grouped},
	{name: "speculative", set: func(s *server) { s.speculate = 4 }},
	{name: "speculative, and metrics that count steps", set: func(s *server) { s.speculate, s.metrics, s.steps = 4, true, true }},
	{name: "three pieces of a token", set: func(s *server) { s.split = 3 }, code: exit.Refused, says: reason.Counts},

	{name: "a proxy of blocks", set: func(s *server) { s.block = 500 }, code: exit.Refused, says: reason.Buffered},
	{name: "a proxy of blocks, and metrics", set: func(s *server) { s.block, s.metrics = 500, true }, says: reason.Buffered},
	{name: "a proxy that holds all", set: func(s *server) { s.whole = true }, code: exit.Refused, says: reason.Buffered},
	{name: "a proxy that holds all, and metrics", set: func(s *server) { s.whole, s.metrics = true, true }, says: reason.Buffered},
	{name: "gzip that holds all", set: func(s *server) { s.compressAll = true }, code: exit.Refused, says: reason.Buffered},
	{name: "connections that drop", set: func(s *server) { s.drop = true }},

	{name: "an answer in one piece", set: func(s *server) { s.asJSON = true }, code: exit.Refused, text: "one piece"},
	{name: "a page for everything", set: func(s *server) { s.html, s.page, s.models, s.tokenize = true, true, "page", "page" }, code: exit.TryAgain, text: "no LLM server"},
	{name: "chat only", set: func(s *server) { s.chatOnly = true }},
	{name: "422 for ignore_eos", set: func(s *server) { s.strict = true }},
	{name: "errors in the stream", set: func(s *server) {
		s.errorEvery, s.errorShape = 2, "data: {\"error\":{\"message\":\"out of memory\"}}\n\n"
	}, code: exit.Refused, says: reason.Errors},
	{name: "event: error", set: func(s *server) { s.errorEvery, s.errorShape = 6, "event: error\ndata: overloaded\n\n" }},
	{name: "cut answers", set: func(s *server) { s.cutAt = 12 }, code: exit.Refused, says: reason.Cut},
	{name: "answers that stop", set: func(s *server) { s.stopAt = 6 }, code: exit.Refused, says: reason.Label},
	{name: "answers a little short", set: func(s *server) { s.stopAt = 20 }, says: reason.Label},
	{name: "a tokenizer that counts nothing", set: func(s *server) { s.tokenize = "empty" }},
	{name: "a tokenizer that counts 0", set: func(s *server) { s.tokenize = "zero" }},
	{name: "a page for a tokenizer", set: func(s *server) { s.tokenize = "page" }},
	{name: "more prompt", set: func(s *server) { s.morePrompt = 5 }},
	{name: "no health", set: func(s *server) { s.health = "missing" }},
	{name: "health not allowed", set: func(s *server) { s.health = "not allowed" }},
	{name: "health answered with 501", set: func(s *server) { s.health = "501" }},
	{name: "health hangs", set: func(s *server) { s.health = "hangs" }},
	{name: "bare models", set: func(s *server) { s.models = "bare" }},
	{name: "names of models", set: func(s *server) { s.models = "texts" }},
	{name: "odd models", set: func(s *server) { s.models = "odd" }},
	{name: "a page for models", set: func(s *server) { s.models = "page" }},
	{name: "no models", set: func(s *server) { s.models = "missing" }},
	{name: "one slot", set: func(s *server) { s.slots, s.metrics = 1, true }, says: reason.Queue},
	{name: "one slot, and timings", set: func(s *server) { s.slots, s.timings = 1, true }, says: reason.Queue},
	{name: "one slot, and nobody tells", set: func(s *server) { s.slots = 1 }, says: reason.Queue},
	{name: "timings", set: func(s *server) { s.timings = true }},

	{name: "metrics under an alias", set: func(s *server) { s.metrics, s.alias = true, "/models/llama" }},
	{name: "gauges four times", set: func(s *server) { s.metrics, s.gaugeTimes = true, 4 }},
	{name: "ranks", set: func(s *server) { s.metrics, s.ranks = true, 8 }},
	{name: "noise in metrics", set: func(s *server) { s.metrics, s.noise = true, true }},
	{name: "a page for metrics", set: func(s *server) { s.page = true }},
	{name: "somebody else", set: func(s *server) { s.metrics, s.foreign = true, true }, code: exit.Refused, says: reason.Foreign},
	{name: "evictions", set: func(s *server) { s.metrics, s.evicts = true, true }, code: exit.Refused, says: reason.KVCache},
	{name: "cache hits", set: func(s *server) { s.metrics, s.cached = true, true }, code: exit.Refused, says: reason.PrefixCache},
	{name: "two replicas", set: func(s *server) { s.metrics, s.two = true, true }, code: exit.Refused, says: reason.Replicas},
}

// streams of every point.
const streams = 2

// measure runs a point against a server with the habits, in virtual time.
func measure(t *testing.T, habits ...habit) (s *server, m measurement.Measurement, err error) {
	t.Helper()
	s = &server{}
	for _, h := range habits {
		h.set(s)
	}
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		out, problem := store.New(context.Background(), directory)
		if problem != nil {
			t.Fatal(problem)
		}
		m, err = bench.Run(context.Background(), native.Driver{Tool: "test"}, out, bench.Options{
			Options: driver.Options{
				Target: s.start(t), Model: "m", Shape: shape, BatchSize: streams, MaxRequests: 8 * streams, Seed: 7, Spread: 0.1,
			},
			Accelerator: "A", Margin: time.Minute, Stderr: io.Discard,
		})
	})
	return s, m, err
}

// truth says which of the numbers that are taken is wrong; none: "".
func truth(s *server, m measurement.Measurement) string {
	running := float64(streams)
	if s.slots > 0 {
		running = float64(s.slots)
	}
	wrong := func(name string, got, want float64) string {
		if math.Abs(got/want-1) > 0.1 {
			return fmt.Sprintf("%s %.3g, the truth is %.3g; ", name, got, want)
		}
		return ""
	}
	text := wrong("ITL", m.Taken.ITL.MS, float64(trueITL.Milliseconds()))
	if s.errorEvery == 0 { // else streams pause, and fewer are in flight indeed
		text += wrong("batch", m.Taken.Batch, running)
	}
	if len(m.Taken.VoidTTFT) == 0 {
		text += wrong("TTFT", m.Taken.TTFT.MS, float64(trueTTFT.Milliseconds()))
	}
	return text
}

func TestHabits(t *testing.T) {
	for _, h := range habits {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			s, m, err := measure(t, h)
			if exit.Code(err) != h.code || err != nil && !strings.Contains(err.Error(), h.text) {
				t.Fatalf("exit %d, %v; want %d and %q; \nclient %+v\nserver %+v", exit.Code(err), err, h.code, h.text, m.Client, m.Server)
			}
			if h.says != "" && !m.Taken.Has(h.says) {
				t.Errorf("findings %+v, want one of %s", m.Taken.Findings, h.says)
			}
			if err != nil {
				return
			}
			if text := truth(s, m); text != "" {
				t.Errorf("%s\ntaken %+v\nclient %+v\nserver %+v", text, m.Taken, m.Client, m.Server)
			}
		})
	}
}

// No two habits together give a wrong number that looks like a right one. Pairs are
// drawn by WFGEN_PAIRS_SEED; WFGEN_PAIRS says how many.
func TestPairsOfHabits(t *testing.T) {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return n
		}
		return otherwise
	}
	seed := number("WFGEN_PAIRS_SEED", 1)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	pairs := map[[2]int]bool{}
	for len(pairs) < min(number("WFGEN_PAIRS", 100), len(habits)*(len(habits)-1)/2) {
		a, b := random.IntN(len(habits)), random.IntN(len(habits))
		if a < b {
			pairs[[2]int{a, b}] = true
		}
	}
	for _, pair := range slices.SortedFunc(maps.Keys(pairs), func(a, b [2]int) int { return slices.Compare(a[:], b[:]) }) {
		a, b := habits[pair[0]], habits[pair[1]]
		t.Run(a.name+" + "+b.name, func(t *testing.T) {
			t.Parallel()
			s, m, err := measure(t, a, b)
			if err != nil {
				if code := exit.Code(err); code != exit.Refused && code != exit.Unusable && code != exit.TryAgain {
					t.Errorf("exit %d, %v", code, err)
				}
				return
			}
			if text := truth(s, m); text != "" {
				t.Errorf("seed %d: %s\ntaken %+v\nclient %+v\nserver %+v", seed, text, m.Taken, m.Client, m.Server)
			}
		})
	}
}
