//go:build guidellm

package guidellm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cli/stepcli"
	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report"
	"wfgen.dev/internal/sweep"
)

// The truth of the simulated server. It is slow enough that a machine with other
// work to do delivers it, and the same in every test, benchmark and file of
// testdata.
const (
	alpha = 20.0 // ms
	beta  = 0.5  // ms per request
	gamma = 40.0 // ms
	delta = 0.02 // ms per prompt token and request

	promptTokens = 64
	outputTokens = 16 // in the mean
	fewest, most = 13, 19
)

func trueITL(n float64) float64  { return alpha + beta*n }
func trueTTFT(n float64) float64 { return gamma + delta*promptTokens*n }

const (
	apiKey  = "sk-this-must-not-be-written"
	hfToken = "hf_nor-may-this"
)

// asStep makes this test binary be step: what is tested is a process, with its
// signals, its exit code and what it leaves behind.
const asStep = "WFGEN_TEST_IS_STEP"

func TestMain(m *testing.M) {
	if os.Getenv(asStep) != "" {
		clikit.Main(stepcli.Run)
	}
	os.Exit(m.Run())
}

// installation is the cache that hack/guidellm/install.sh fills.
func installation(t testing.TB) string {
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

// installed are the versions in the cache.
func installed(t testing.TB) []string {
	t.Helper()
	complete, err := filepath.Glob(filepath.Join(installation(t), "*", ".complete"))
	if err != nil || len(complete) == 0 {
		t.Fatalf("no guidellm in %s; run hack/guidellm/install.sh: %v", installation(t), err)
	}
	var versions []string
	for _, mark := range complete {
		versions = append(versions, filepath.Base(filepath.Dir(mark)))
	}
	return versions
}

// before tells whether a version is older than another one, both in three numbers.
func before(version, other string) bool {
	var v, o [3]int
	fmt.Sscanf(version, "%d.%d.%d", &v[0], &v[1], &v[2])
	fmt.Sscanf(other, "%d.%d.%d", &o[0], &o[1], &o[2])
	return slices.Compare(v[:], o[:]) < 0
}

// takesKey tells whether a version can be given an API key.
func takesKey(version string) bool {
	return before(version, "0.4.0") || !before(version, "0.5.2")
}

// target is a simulated server that notes what it is asked.
type target struct {
	*httptest.Server
	mu       sync.Mutex
	requests []request
	keys     map[string]bool
	first    chan struct{} // closed by the first request
}

type request struct {
	Prompt    string `json:"prompt"`
	MaxTokens int    `json:"max_tokens"`
	IgnoreEOS bool   `json:"ignore_eos"`
	Stream    bool   `json:"stream"`
}

// asked are the requests for tokens so far, guidellm's own trials left out.
func (srv *target) asked() []request {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return slices.Clone(srv.requests)
}

func (srv *target) authorizations() []string {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return slices.Sorted(maps.Keys(srv.keys))
}

func law() simulate.Config {
	return simulate.Config{Model: "simulated", Alpha: alpha, Beta: beta, Gamma: gamma, Delta: delta}
}

// serve starts a simulated server. instead, if there is one, answers the requests
// for tokens in its place.
func serve(t testing.TB, c simulate.Config, instead http.HandlerFunc) *target {
	t.Helper()
	s, err := simulate.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	handler := s.Handler()
	srv := &target{keys: map[string]bool{}, first: make(chan struct{})}
	srv.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/completions" {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return // the client has gone
			}
			var q request
			if err := json.Unmarshal(body, &q); err != nil {
				t.Errorf("request: %v", err)
			}
			srv.mu.Lock()
			srv.keys[r.Header.Get("Authorization")] = true
			if !strings.Contains(q.Prompt, "Test connection") { // 0.2 and 0.3, before they begin
				if len(srv.requests) == 0 {
					close(srv.first)
				}
				srv.requests = append(srv.requests, q)
			}
			srv.mu.Unlock()
			r.Body = io.NopCloser(bytes.NewReader(body))
			if instead != nil {
				instead(w, r)
				return
			}
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv
}

// noToken answers every request with a stream that holds no token and says that
// all went well.
func noToken(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	io.WriteString(w, `data: {"id":"c","object":"text_completion","model":"simulated","choices":[{"index":0,"text":"","finish_reason":"stop"}]}`+"\n\n"+
		`data: {"id":"c","object":"text_completion","model":"simulated","choices":[],"usage":{"prompt_tokens":64,"completion_tokens":0,"total_tokens":64}}`+"\n\ndata: [DONE]\n\n")
}

// markName is an environment variable by which a test finds the processes that
// it started, whoever their parent is by now.
const markName = "HF_TEST_OF_WFGEN_MARK"

var marks atomic.Int64

// step is a run of step bench.
type step struct {
	dir    string // below which all its files lie
	output string
	mark   string
	cmd    *exec.Cmd
	out    bytes.Buffer
	err    bytes.Buffer

	took    time.Duration
	code    int
	started bool     // guidellm, as far as a look twice a second can tell
	leaked  []string // command lines that hold a secret
}

// command prepares a run of step, whose temporary files lie below its directory.
func command(t testing.TB, args ...string) *step {
	t.Helper()
	dir := t.TempDir()
	s := &step{dir: dir, output: filepath.Join(dir, "out"), mark: fmt.Sprintf("%d-%d", os.Getpid(), marks.Add(1))}
	for _, name := range []string{"tmp", "huggingface"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(own, args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.err
	s.cmd.Env = append(os.Environ(), asStep+"=1", markName+"="+s.mark,
		"TMPDIR="+filepath.Join(dir, "tmp"), "HF_HOME="+filepath.Join(dir, "huggingface"), "HF_HUB_OFFLINE=1", "HF_TOKEN="+hfToken,
		// What an image sets must not matter.
		"GUIDELLM_OUTPUT_PATH=/results/benchmarks.json", "GUIDELLM_OUTPUT_DIR=/results", "GUIDELLM_RATE=99", "GUIDELLM__DEFAULT_RESULTS_DIR=/results",
	)
	return s
}

// bench prepares a point; more flags override these.
func bench(t testing.TB, version string, srv *target, batch int, more ...string) *step {
	t.Helper()
	s := command(t, "bench", "--target", srv.URL, "--model", "simulated", "--accelerator", "X",
		"--prompt-tokens", fmt.Sprint(promptTokens), "--output-tokens", fmt.Sprint(outputTokens), "--batch-size", fmt.Sprint(batch))
	if version == sweep.Native {
		s.cmd.Args = append(s.cmd.Args, "--driver", "native")
	} else {
		s.cmd.Args = append(s.cmd.Args, "--driver", "guidellm", "--guidellm", filepath.Join(installation(t), version, "bin", "guidellm"),
			"--tokenizer", filepath.Join(installation(t), "tokenizer"))
	}
	s.cmd.Args = append(s.cmd.Args, "--output", s.output)
	s.cmd.Args = append(s.cmd.Args, more...)
	return s
}

// run runs it to its end and looks at its processes meanwhile and after.
func (s *step) run(t testing.TB) *step {
	t.Helper()
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			for _, command := range s.commands() {
				s.started = s.started || strings.Contains(command, "bin/guidellm ") && !strings.Contains(command, "--guidellm")
				if strings.Contains(command, apiKey) || strings.Contains(command, hfToken) {
					s.leaked = append(s.leaked, command)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	}()
	begin := time.Now()
	err := s.cmd.Run()
	s.took = time.Since(begin)
	close(stop)
	<-watched
	if s.cmd.ProcessState == nil {
		t.Fatalf("step: %v", err)
	}
	s.code = s.cmd.ProcessState.ExitCode()
	if left := s.commands(); len(left) > 0 {
		t.Errorf("%d processes left: %q", len(left), left)
	}
	if len(s.leaked) > 0 {
		t.Errorf("arguments hold a secret: %q", s.leaked)
	}
	for _, text := range []string{s.out.String(), s.err.String()} {
		if strings.Contains(text, apiKey) || strings.Contains(text, hfToken) {
			t.Errorf("a secret is printed: %s", text)
		}
		if strings.Contains(text, "\x1b[") {
			t.Errorf("terminal codes are printed: %q", text)
		}
	}
	err = filepath.WalkDir(s.dir, func(name string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(name)
		if bytes.Contains(text, []byte(apiKey)) || bytes.Contains(text, []byte(hfToken)) {
			t.Errorf("%s holds a secret", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, pattern := range []string{"guidellm-*", "step-bench-*"} {
		if left, _ := filepath.Glob(filepath.Join(s.dir, "tmp", pattern)); len(left) > 0 {
			t.Errorf("left %q", left)
		}
	}
	return s
}

// pids are its processes and those that they started.
func (s *step) pids() (pids []int) {
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range environments {
		env, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(env, []byte(markName+"="+s.mark+"\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func (s *step) commands() (commands []string) {
	for _, pid := range s.pids() {
		if command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(command) > 0 {
			commands = append(commands, strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return commands
}

// terminate tells step to end, as Kubernetes does.
func (s *step) terminate(t testing.TB) {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// killGuidellm kills guidellm as the kernel does when memory runs out: its first
// process only, not its workers.
func (s *step) killGuidellm(t testing.TB) {
	for _, pid := range s.pids() {
		if parent(pid) != s.cmd.Process.Pid {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		return
	}
	t.Error("guidellm is not there")
}

// parent is the process that started another one; 0: not known. Numbers do not tell
// which came first: they start again from the bottom.
func parent(pid int) int {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// number (name) state parent …, where a name may hold anything
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
	return n
}

// words is the last thing that step said, without guidellm's own last words.
func (s *step) words() string {
	text := "\n" + strings.TrimSpace(s.err.String())
	_, text, _ = strings.Cut(text, "\nstep: ")
	text, _, _ = strings.Cut(text, "; its last words:\n")
	return text
}

// report reads the raw report again, as step measure does.
func (s *step) report(t testing.TB) measurement.Measurement {
	t.Helper()
	f, err := os.Open(s.rawReport(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := report.Read(f, "report.json", report.Options{Accelerator: "X", Model: "simulated", Shape: sweep.Shape{PromptTokens: promptTokens, OutputTokens: outputTokens}})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("%d measurements", len(all))
	}
	return all[0]
}

var beside = regexp.MustCompile(`-(server|probe)\.json$`)

// rawReport is the path of the report that guidellm made.
func (s *step) rawReport(t testing.TB) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.output, "reports", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, beside.MatchString)
	if len(names) != 1 {
		t.Fatalf("reports %q", names)
	}
	return names[0]
}

// measurement is what the point was reduced to.
func (s *step) measurement(t testing.TB) measurement.Measurement {
	t.Helper()
	f, err := os.Open(filepath.Join(s.output, "measurement.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := measurement.Decode(f, "measurement.json")
	if err != nil {
		t.Fatal(err)
	}
	return m
}
