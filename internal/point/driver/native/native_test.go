package native

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep"
	"wfgen.dev/internal/tests/pipes"
)

func TestMain(m *testing.M) {
	pipes.Lay()
	os.Exit(m.Run())
}

// law is that of the servers, which answer exactly when it says in the virtual time of
// the tests that measure.
func law() simulate.Config {
	return simulate.Config{Model: "m", Alpha: 4, Beta: 0.5, Gamma: 10, Delta: 0.05, MaxNumSeqs: 8, MaxModelLen: 256}
}

func serve(t *testing.T, cfg simulate.Config) string {
	t.Helper()
	s, err := simulate.NewVirtual(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return pipes.Serve(t, s.Handler()).URL
}

func options(t testing.TB, target string) driver.Options {
	return driver.Options{
		Target: target, Model: "m", Shape: sweep.Shape{PromptTokens: 40, OutputTokens: 16}, BatchSize: 4,
		MaxRequests: 24, Seed: 7, Endpoint: "auto", Report: filepath.Join(t.TempDir(), "report.json"), Log: io.Discard, Deadline: time.Minute,
	}
}

func read(t testing.TB, o driver.Options) measurement.Measurement {
	t.Helper()
	f, err := os.Open(o.Report)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := report.Read(f, o.Report, report.Options{Accelerator: "A"})
	if err != nil || len(all) != 1 {
		t.Fatalf("%d measurements, %v", len(all), err)
	}
	return all[0]
}

func TestAPoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := serve(t, law())
		c, err := llm.New(target, "")
		if err != nil {
			t.Fatal(err)
		}
		before, err := c.Scrape(context.Background(), "m")
		if err != nil {
			t.Fatal(err)
		}
		o := options(t, target)
		var progress float64
		o.Progress = func(done, total float64) { progress = done / total }
		if err := (Driver{Tool: "test"}).Run(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		m := read(t, o)
		after, err := c.Scrape(context.Background(), "m")
		if err != nil {
			t.Fatal(err)
		}
		if got := int(*after.Successes - *before.Successes); got != m.Client.Requests {
			t.Errorf("the server counted %d requests, the client %d: warm-up must be counted by both", got, m.Client.Requests)
		}
		if m.Requests.Successful != 24 || m.Requests.Errored+m.Requests.Incomplete != 0 {
			t.Errorf("requests %+v, asked for 24", m.Requests)
		}
		if m.PromptTokens != 40 || m.OutputTokens != 16 {
			t.Errorf("%v prompt and %v output tokens counted, asked for 40 and 16", m.PromptTokens, m.OutputTokens)
		}
		if m.BatchSize != 4 || math.Abs(m.Client.Batch-4) > 0.4 {
			t.Errorf("batch %d, measured %.2f", m.BatchSize, m.Client.Batch)
		}
		if itl := m.Client.ITL.MeanMS; math.Abs(itl/6-1) > 0.02 {
			t.Errorf("ITL %.2f ms, the law says 6", itl)
		}
		if ttft := m.Client.TTFT.MeanMS; math.Abs(ttft/18-1) > 0.02 {
			t.Errorf("TTFT %.2f ms, the law says 18", ttft)
		}
		if progress == 0 {
			t.Error("no progress was told")
		}
	})
}

func TestASecondsLimitStillMakesEnoughRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t, serve(t, law()))
		o.MaxRequests, o.MaxSeconds = 0, 0.01
		if err := (Driver{}).Run(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		if m := read(t, o); m.Requests.Successful < sweep.MinPerStream*o.BatchSize || m.Requests.InWindow == 0 {
			t.Errorf("requests %+v", m.Requests)
		}
	})
}

// A point ends as soon as its means are told as well as wanted, and not before its
// fewest requests; where that is out of reach, when its time is over. It says which.
func TestAPointEndsWhenItsMeansAreToldWellEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := law()
		cfg.Jitter = 0.05 // without it there is no error to tell
		target := serve(t, cfg)
		for _, c := range []struct {
			want        measurement.Wanted
			seconds     float64
			ended       string
			least, most float64 // requests of a stream
		}{
			{measurement.Wanted{ITL: 0.5}, 60, measurement.EndedPrecision, 24, 200},
			{measurement.Wanted{ITL: 1e-9}, 0.5, measurement.EndedMaxSeconds, 3, 20},
			{measurement.Wanted{TTFT: 1e-9}, 0, measurement.EndedMaxRequests, 10, 10},
		} {
			o := options(t, target)
			var log bytes.Buffer
			o.Log, o.Wanted, o.MaxSeconds, o.BatchSize, o.Shape.OutputTokens = &log, c.want, c.seconds, 2, 6
			if o.MaxRequests = 0; c.seconds == 0 {
				o.MaxRequests = 20
			}
			if err := (Driver{Tool: "test"}).Run(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			m := read(t, o)
			if per := float64(m.Requests.Successful) / 2; m.Ended != c.ended || per < c.least || per > c.most {
				t.Errorf("%+v: ended by %q after %v requests of a stream", c.want, m.Ended, per)
			}
			if !strings.Contains(log.String(), "ended by "+c.ended) {
				t.Errorf("%+v: the log does not say so: %s", c.want, &log)
			}
		}
	})
}

func TestAnswersDifferInLengthAboutTheSameMean(t *testing.T) {
	l := load{Options: driver.Options{Shape: sweep.Shape{OutputTokens: 100}, Spread: 0.2}}
	random := rand.New(rand.NewPCG(1, 2))
	least, most, sum := 1000, 0, 0
	const draws = 10000
	for range draws {
		n := l.length(random)
		least, most, sum = min(least, n), max(most, n), sum+n
	}
	if mean := float64(sum) / draws; least != 80 || most != 120 || math.Abs(mean-100) > 0.5 {
		t.Errorf("from %d to %d, mean %.2f", least, most, mean)
	}
	l.Spread = 0
	if n := l.length(random); n != 100 {
		t.Errorf("%d tokens without a spread", n)
	}
}

func TestPromptsDifferAndFollowTheSeed(t *testing.T) {
	p := prompter{words: 12}
	seen := map[string]bool{}
	for i := range 1000 {
		text := p.prompt(rand.New(rand.NewPCG(1, uint64(i))))
		if seen[text] {
			t.Fatalf("the prompt %q comes twice", text)
		}
		seen[text] = true
	}
	if a, b := p.prompt(rand.New(rand.NewPCG(1, 1))), p.prompt(rand.New(rand.NewPCG(1, 1))); a != b {
		t.Error("the same seed gives other prompts")
	}
}

// Tokenizers differ; the asked number of tokens is met on each.
func TestCalibrate(t *testing.T) {
	for name, tc := range map[string]struct {
		count func(words int) int
		api   bool // it has /tokenize
		want  float64
	}{
		"a word is a token":                {func(n int) int { return n }, true, 100},
		"a special token in front":         {func(n int) int { return n + 1 }, true, 100},
		"three tokens for two words":       {func(n int) int { return (3*n + 1) / 2 }, true, 101},
		"counted by usage":                 {func(n int) int { return n + 4 }, false, 100},
		"three tokens a word, no such sum": {func(n int) int { return 3 * n }, true, 99},
	} {
		t.Run(name, func(t *testing.T) {
			h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !tc.api {
					http.NotFound(w, r)
					return
				}
				body, _ := io.ReadAll(r.Body)
				prompt, _, _ := strings.Cut(strings.SplitN(string(body), `"prompt":"`, 2)[1], `"`)
				_, _ = w.Write([]byte(`{"count":` + itoa(tc.count(len(strings.Fields(prompt)))) + `}`))
			}))
			defer h.Close()
			c, err := llm.New(h.URL, "")
			if err != nil {
				t.Fatal(err)
			}
			usage := func(prompt string) (int, error) { return tc.count(len(strings.Fields(prompt))), nil }
			tokenize := func(prompt string) (int, error) { return c.Tokenize(context.Background(), "m", prompt) }
			p, err := calibrate(100, rand.New(rand.NewPCG(1, 2)), tokenize, usage)
			if err != nil {
				t.Fatal(err)
			}
			if p.tokens != tc.want {
				t.Errorf("%d words make %v tokens, want %v", p.words, p.tokens, tc.want)
			}
		})
	}
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func TestFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		server func(*simulate.Config)
		point  func(*driver.Options)
		code   int
		says   string
	}{
		"wrong model":       {nil, func(o *driver.Options) { o.Model = "other" }, exit.Unusable, "404"},
		"shape too long":    {nil, func(o *driver.Options) { o.Shape.OutputTokens = 1000 }, exit.Unusable, "400"},
		"unreachable":       {nil, func(o *driver.Options) { o.Target = "http://127.0.0.1:1" }, exit.TryAgain, "127.0.0.1:1"},
		"every request 500": {func(c *simulate.Config) { c.FailRate = 1 }, nil, exit.TryAgain, "500"},
		"no usage":          {func(c *simulate.Config) { c.NoUsage = true }, nil, exit.Unusable, "usage"},
		"silent":            {func(c *simulate.Config) { c.Hang = true }, func(o *driver.Options) { o.Deadline = 300 * time.Millisecond }, exit.TryAgain, "300ms"},
		"every stream cut":  {func(c *simulate.Config) { c.AbortRate = 1 }, nil, exit.TryAgain, "before the answer was complete"},
		"unwritable report": {nil, func(o *driver.Options) { o.Report = "/no/such/place/report.json" }, exit.Usage, "/no/such/place"},
		"key missing":       {func(c *simulate.Config) { c.APIKey = "k" }, nil, exit.Unusable, "401"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := law()
				if tc.server != nil {
					tc.server(&cfg)
				}
				o := options(t, serve(t, cfg))
				if tc.point != nil {
					tc.point(&o)
				}
				err := (Driver{}).Run(context.Background(), o)
				if exit.Code(err) != tc.code || err == nil || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("exit %d, %v; want %d and %q", exit.Code(err), err, tc.code, tc.says)
				}
			})
		})
	}
}

func TestASilentServerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := law()
		cfg.Hang = true
		o := options(t, serve(t, cfg))
		err := Driver{Stall: 100 * time.Millisecond}.Run(context.Background(), o)
		if exit.Code(err) != exit.TryAgain || err == nil || !strings.Contains(err.Error(), "sent nothing for 100ms") {
			t.Errorf("exit %d, %v", exit.Code(err), err)
		}
	})
}

func TestSomeFailuresAreCountedAndTheRestIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := law()
		cfg.FailRate, cfg.Seed = 0.2, 3
		o := options(t, serve(t, cfg))
		o.MaxRequests = 60
		if err := (Driver{}).Run(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		m := read(t, o)
		if m.Requests.Errored == 0 || m.Requests.Successful == 0 || m.Requests.Errored+m.Requests.Successful != 60 {
			t.Errorf("requests %+v", m.Requests)
		}
		for text := range m.Requests.Errors {
			if !strings.Contains(text, "500") {
				t.Errorf("an error is not named: %q", text)
			}
		}
	})
}

func TestInterruptionLeavesAReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t, serve(t, law()))
		o.MaxRequests, o.MaxSeconds = 0, 60
		ctx, cancel := context.WithCancel(context.Background())
		o.Progress = func(done, _ float64) {
			if done > 0.5 {
				cancel()
			}
		}
		err := (Driver{}).Run(ctx, o)
		if exit.Code(err) != exit.TryAgain || !errors.Is(err, context.Canceled) {
			t.Fatalf("exit %d, %v", exit.Code(err), err)
		}
		if m := read(t, o); m.Requests.Successful == 0 || m.Requests.Incomplete == 0 {
			t.Errorf("requests %+v", m.Requests)
		}
	})
}

func TestTheKeyIsNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := law()
		cfg.APIKey = "very-secret-key"
		o := options(t, serve(t, cfg))
		var log bytes.Buffer
		o.APIKey, o.Log = cfg.APIKey, &log
		if err := (Driver{}).Run(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(o.Report)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(append(data, log.Bytes()...), []byte(cfg.APIKey)) {
			t.Error("the key is in the report or in the log")
		}
	})
}
