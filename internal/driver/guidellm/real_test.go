//go:build guidellm

// The driver against every guidellm that hack/guidellm/install.sh has installed:
//
//	hack/guidellm/install.sh 0.3.1 0.7.3
//	go test -tags guidellm ./internal/driver/guidellm -timeout 30m
//	go test -tags guidellm ./internal/driver/guidellm -run 'Real.*/0.7.3'

package guidellm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"wfgen.dev/internal/driver"
	"wfgen.dev/internal/exit"
	"wfgen.dev/internal/measurement"
	"wfgen.dev/internal/report"
	"wfgen.dev/internal/simulate"
	"wfgen.dev/internal/sweep"
)

const realKey = "sk-this-must-not-be-written"

// installation is the cache that hack/guidellm/install.sh fills.
func installation(t *testing.T) string {
	t.Helper()
	root := os.Getenv("WFGEN_CACHE")
	if root == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		root = filepath.Join(cache, "wfgen")
	}
	return filepath.Join(root, "guidellm")
}

// everyVersion runs f once with each installed guidellm.
func everyVersion(t *testing.T, f func(t *testing.T, g *Guidellm)) {
	t.Helper()
	root := installation(t)
	complete, err := filepath.Glob(filepath.Join(root, "*", ".complete"))
	if err != nil || len(complete) == 0 {
		t.Fatalf("no guidellm in %s; run hack/guidellm/install.sh: %v", root, err)
	}
	for _, mark := range complete {
		venv := filepath.Dir(mark)
		t.Run(filepath.Base(venv), func(t *testing.T) {
			g, err := Find(filepath.Join(venv, "bin", "guidellm"))
			if err != nil {
				t.Fatal(err)
			}
			if g.Version() != filepath.Base(venv) {
				t.Fatalf("found version %s in %s", g.Version(), venv)
			}
			f(t, g)
		})
	}
}

// target is a simulated server that notes what it is asked.
type target struct {
	*httptest.Server
	mu       sync.Mutex
	requests []request
	keys     map[string]bool
}

type request struct {
	Prompt    string `json:"prompt"`
	MaxTokens int    `json:"max_tokens"`
	IgnoreEOS bool   `json:"ignore_eos"`
	Stream    bool   `json:"stream"`
}

func (srv *target) seen() int {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return len(srv.requests)
}

func serve(t *testing.T, c simulate.Config) *target {
	t.Helper()
	if c.Alpha == 0 {
		c.Alpha, c.Beta, c.Gamma, c.Delta = 20, 0.5, 40, 0.02
	}
	c.Model = "simulated"
	s, err := simulate.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	handler := s.Handler()
	srv := &target{keys: map[string]bool{}}
	srv.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		srv.mu.Lock()
		srv.keys[r.Header.Get("Authorization")] = true
		srv.mu.Unlock()
		if r.URL.Path == "/v1/completions" {
			body, err := io.ReadAll(r.Body)
			var q request
			if err == nil {
				err = json.Unmarshal(body, &q)
			}
			if err != nil {
				t.Errorf("request: %v", err)
			}
			if !strings.Contains(q.Prompt, "Test connection") { // 0.2 and 0.3, before they begin
				srv.mu.Lock()
				srv.requests = append(srv.requests, q)
				srv.mu.Unlock()
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv
}

// point is a short run whose files all lie below the returned directory.
func point(t *testing.T, srv *target) (o driver.Options, log *bytes.Buffer, files string) {
	t.Helper()
	files = t.TempDir()
	t.Setenv("TMPDIR", files)
	t.Setenv("HF_HOME", filepath.Join(files, "huggingface"))
	t.Setenv("HF_HUB_OFFLINE", "1")
	t.Setenv(markName, t.Name())
	log = &bytes.Buffer{}
	return driver.Options{
		Target: srv.URL, Model: "simulated",
		Shape: sweep.Shape{PromptTokens: 64, OutputTokens: 16}, BatchSize: 2, MaxRequests: 20,
		Tokenizer: filepath.Join(installation(t), "tokenizer"),
		Report:    filepath.Join(files, "out", "report.json"), Log: log, Deadline: 4 * time.Minute,
	}, log, files
}

// markName is an environment variable by which a test finds the processes that
// it started, whoever their parent is by now.
const markName = "GUIDELLM__TEST_MARK"

func ours(t *testing.T) (commands []string) {
	t.Helper()
	for _, pid := range pids(t) {
		if command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(command) > 0 {
			commands = append(commands, strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return commands
}

func pids(t *testing.T) (pids []int) {
	t.Helper()
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range environments {
		env, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(env, []byte(markName+"="+t.Name()+"\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func noneLeft(t *testing.T) {
	t.Helper()
	if left := ours(t); len(left) > 0 {
		t.Errorf("%d processes left: %q", len(left), left)
	}
}

func readReport(t *testing.T, o driver.Options) measurement.Measurement {
	t.Helper()
	f, err := os.Open(o.Report)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := report.Read(f, "report.json", report.Options{Accelerator: "X", Model: o.Model, Shape: o.Shape, BatchSize: o.BatchSize})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("%d measurements", len(all))
	}
	return all[0]
}

func TestRealRun(t *testing.T) {
	everyVersion(t, func(t *testing.T, g *Guidellm) {
		seen := map[string]int{} // prompts of the runs before
		for i, test := range []struct {
			batch, requests int
			seconds         float64
		}{{1, 12, 0}, {4, 0, 6}} {
			srv := serve(t, simulate.Config{})
			o, log, files := point(t, srv)
			o.BatchSize, o.MaxRequests, o.MaxSeconds, o.Seed = test.batch, test.requests, test.seconds, int64(1000+i)
			o.Spread = 0.25
			// What an image sets must not matter.
			t.Setenv("GUIDELLM_OUTPUT_PATH", "/results/benchmarks.json")
			t.Setenv("GUIDELLM_OUTPUT_DIR", "/results")
			t.Setenv("GUIDELLM_RATE", "99")
			t.Setenv("GUIDELLM__DEFAULT_RESULTS_DIR", "/results")
			begin := time.Now()
			if err := g.Run(t.Context(), o); err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			t.Logf("batch %d: %.1f s", test.batch, time.Since(begin).Seconds())
			noneLeft(t)
			m := readReport(t, o)
			if m.Client == nil || m.Client.Basis != measurement.BasisRows || m.Client.ITL == nil || m.Client.TTFT == nil {
				t.Fatalf("not measured from rows: %+v", m)
			}
			truth := 20 + 0.5*m.Client.Batch
			if off := m.Client.ITL.MeanMS/truth - 1; math.Abs(off) > 0.05 {
				t.Errorf("batch %d: ITL %.2f ms is %.1f %% off %.2f", test.batch, m.Client.ITL.MeanMS, 100*off, truth)
			}
			if math.Abs(m.Client.Batch-float64(test.batch)) > 0.1*float64(test.batch) {
				t.Errorf("measured batch %.2f, asked for %d", m.Client.Batch, test.batch)
			}
			t.Logf("batch %d: %d requests, ITL %.2f (truth %.2f), TTFT %.1f, measured batch %.2f", test.batch,
				m.Requests.Successful, m.Client.ITL.MeanMS, truth, m.Client.TTFT.MeanMS, m.Client.Batch)
			if test.requests > 0 && (m.Requests.Successful != test.requests || len(srv.requests) != test.requests) {
				t.Errorf("%d requests reported, %d seen, %d asked for", m.Requests.Successful, len(srv.requests), test.requests)
			}
			asked := map[int]bool{}
			for _, q := range srv.requests {
				if n := len(strings.Fields(q.Prompt)); n < 62 || n > 66 {
					t.Errorf("prompt of %d tokens", n)
				}
				if q.MaxTokens < 12 || q.MaxTokens > 20 || !q.IgnoreEOS || !q.Stream {
					t.Errorf("max_tokens %d, ignore_eos %v, stream %v", q.MaxTokens, q.IgnoreEOS, q.Stream)
				}
				asked[q.MaxTokens] = true
				if before, found := seen[q.Prompt]; found && before != i {
					t.Errorf("runs with different seeds send the same prompt")
				} else {
					seen[q.Prompt] = i
				}
			}
			if len(asked) < 4 {
				t.Errorf("answers of the lengths %v were asked for, of 12 to 20 tokens each", slices.Sorted(maps.Keys(asked)))
			}
			if m.Shape != o.Shape || m.OutputTokens < 12 || m.OutputTokens > 20 {
				t.Errorf("shape %s, %.3g output tokens in the mean", m.Shape, m.OutputTokens)
			}
			report, err := os.ReadFile(o.Report)
			if err != nil {
				t.Fatal(err)
			}
			if sampled := !g.version.before(0, 5, 4); sampled && bytes.Contains(report, []byte(srv.requests[0].Prompt)) {
				t.Errorf("the report of %d bytes holds prompts", len(report))
			}
			if strings.Contains(log.String(), "\x1b[") {
				t.Errorf("the log holds terminal codes")
			}
			left, err := os.ReadDir(files)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range left {
				if strings.HasPrefix(entry.Name(), "guidellm-") {
					t.Errorf("left %s", entry.Name())
				}
			}
		}
	})
}

// The key reaches the server and nothing else: no argument, no file, no log.
func TestRealKey(t *testing.T) {
	everyVersion(t, func(t *testing.T, g *Guidellm) {
		for _, fail := range []float64{0, 1} {
			if fail == 1 && !g.version.before(0, 4, 0) {
				continue // only 0.2 and 0.3 write the headers of each request that fails
			}
			srv := serve(t, simulate.Config{APIKey: realKey, FailRate: fail})
			o, log, files := point(t, srv)
			o.APIKey = realKey
			t.Setenv("HF_TOKEN", "hf_nor-may-this")
			stop, watched := make(chan struct{}), make(chan []string)
			go func() {
				var seen []string
				for {
					for _, command := range ours(t) {
						if strings.Contains(command, realKey) {
							seen = append(seen, command)
						}
					}
					select {
					case <-stop:
						watched <- seen
						return
					case <-time.After(300 * time.Millisecond):
					}
				}
			}()
			err := g.Run(t.Context(), o)
			close(stop)
			if seen := <-watched; len(seen) > 0 {
				t.Errorf("arguments hold the key: %q", seen)
			}
			noneLeft(t)
			if !g.version.before(0, 4, 0) && g.version.before(0, 5, 2) {
				if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), g.Version()) {
					t.Errorf("code %d: %v", exit.Code(err), err)
				}
				return
			}
			if fail == 0 {
				if err != nil {
					t.Fatalf("%v\n%s", err, log)
				}
				if m := readReport(t, o); m.Requests.Successful != o.MaxRequests {
					t.Errorf("%d of %d requests succeeded\n%s", m.Requests.Successful, o.MaxRequests, log)
				}
			}
			if !srv.keys["Bearer "+realKey] {
				t.Errorf("the server saw %v", srv.keys)
			}
			if strings.Contains(log.String(), realKey) || err != nil && strings.Contains(err.Error(), realKey) {
				t.Errorf("the key is in the log or in the error: %v\n%s", err, log)
			}
			err = filepath.WalkDir(files, func(name string, entry os.DirEntry, err error) error {
				if err != nil || !entry.Type().IsRegular() {
					return err
				}
				text, err := os.ReadFile(name)
				if bytes.Contains(text, []byte(realKey)) || bytes.Contains(text, []byte("hf_nor-may-this")) {
					t.Errorf("%s holds a secret", name)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestRealFailures(t *testing.T) {
	everyVersion(t, func(t *testing.T, g *Guidellm) {
		old := g.version.before(0, 4, 0)
		for _, test := range []struct {
			name   string
			config simulate.Config
			change func(o *driver.Options)
			codes  []int  // any of them
			says   string // in the error
		}{
			{name: "unreachable", change: func(o *driver.Options) { o.Target = "http://127.0.0.1:1" }, codes: []int{exit.TryAgain}, says: "http://127.0.0.1:1"},
			// From 0.4 on nobody asks, and every request fails: the report says so.
			{name: "wrong model", change: func(o *driver.Options) { o.Model = "another" }, codes: []int{exit.Unusable, exit.Done}, says: "another"},
			{name: "every request fails", config: simulate.Config{FailRate: 1}, codes: []int{exit.TryAgain, exit.Done}, says: "guidellm"},
			{name: "hang", config: simulate.Config{Hang: true}, change: func(o *driver.Options) { o.Deadline = 30 * time.Second }, codes: []int{exit.TryAgain}, says: "deadline"},
			{name: "tokenizer missing", change: func(o *driver.Options) { o.Tokenizer = "/no/such/tokenizer" }, codes: []int{exit.Usage}, says: "--tokenizer"},
			{name: "unwritable", change: func(o *driver.Options) { o.Report = "/proc/no/report.json" }, codes: []int{exit.Usage}, says: "/proc/no"},
		} {
			t.Run(test.name, func(t *testing.T) {
				srv := serve(t, test.config)
				o, log, _ := point(t, srv)
				if test.change != nil {
					test.change(&o)
				}
				begin := time.Now()
				err := g.Run(t.Context(), o)
				took := time.Since(begin)
				if code := exit.Code(err); !slices.Contains(test.codes, code) || old && code == exit.Done {
					t.Errorf("code %d, want one of %v: %v\n%s", code, test.codes, err, log)
				}
				if took > o.Deadline+g.grace {
					t.Errorf("took %v", took)
				}
				if err != nil && !strings.Contains(err.Error(), test.says) {
					t.Errorf("%q does not say %q", err, test.says)
				}
				_, statErr := os.Stat(o.Report)
				if (err == nil) != (statErr == nil) {
					t.Errorf("error %v, report %v", err, statErr)
				}
				if err == nil { // then it is for the report to say what happened
					if m := readReport(t, o); m.Requests.Successful != 0 || len(m.Taken.Void) == 0 {
						t.Errorf("%d requests succeeded, void %q", m.Requests.Successful, m.Taken.Void)
					}
				}
				noneLeft(t)
				t.Logf("%.1f s: %v", took.Seconds(), err)
			})
		}
	})
}

// However a run is ended in its middle, none of its processes is left.
func TestRealEnds(t *testing.T) {
	everyVersion(t, func(t *testing.T, g *Guidellm) {
		for _, test := range []struct {
			name string
			end  func(t *testing.T, cancel func())
			says string
		}{
			{"interrupted", func(_ *testing.T, cancel func()) { cancel() }, "interrupted"},
			{"out of memory", killMain, "137"},
		} {
			t.Run(test.name, func(t *testing.T) {
				srv := serve(t, simulate.Config{})
				o, log, _ := point(t, srv)
				o.MaxRequests, o.MaxSeconds = 0, 60
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					for ctx.Err() == nil && srv.seen() < 10 {
						time.Sleep(100 * time.Millisecond)
					}
					test.end(t, cancel)
				}()
				err := g.Run(ctx, o)
				if exit.Code(err) != exit.TryAgain || !strings.Contains(err.Error(), test.says) {
					t.Errorf("code %d: %v\n%s", exit.Code(err), err, log)
				}
				if _, err := os.Stat(o.Report); err == nil {
					t.Errorf("left a report")
				}
				noneLeft(t)
			})
		}
	})
}

// killMain kills guidellm as the kernel does when memory runs out: the first
// process only, not the workers.
func killMain(t *testing.T, _ func()) {
	first := 0
	for _, pid := range pids(t) {
		if first == 0 || pid < first {
			first = pid
		}
	}
	if first == 0 {
		t.Error("guidellm is not there")
		return
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}
