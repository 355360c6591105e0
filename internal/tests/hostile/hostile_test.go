// Package hostile runs the programs as users do, against servers that echo, redirect and
// crash, kills them at random moments, and looks at everything that they leave.
package hostile

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cli/stepcli"
	"wfgen.dev/internal/cli/wfgencli"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
	"wfgen.dev/internal/run/store"
	"wfgen.dev/internal/tests/waiting"
)

// programs holds links named step and wfgen to this test, which is then that program.
var programs string

func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "step":
		clikit.Main(stepcli.Run)
	case "wfgen":
		clikit.Main(wfgencli.Run)
	}
	waiting.Together(8)
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "hostile-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		self, err := os.Executable()
		if err != nil {
			panic(err)
		}
		for _, name := range []string{"step", "wfgen"} {
			if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
				panic(err)
			}
		}
		programs = dir
		return m.Run()
	}())
}

// command is one of the programs with an environment of its own.
func command(t *testing.T, env []string, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(programs, name), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	return cmd
}

// The canaries, by where they stand.
var canaries = map[string]string{
	"STEP_API_KEY":          "canary-of-the-server-4711",
	"HF_TOKEN":              "hf_CanaryOfTheHub4712",
	"AWS_SECRET_ACCESS_KEY": "canary/of+the/bucket/4713",
	"AWS_SESSION_TOKEN":     "canary-of-the-session-4714",
	"MY_PASSWORD":           "canary of somebody 4715",
	"user of a URL":         "canary-of-a-url-4716",
	"query of a URL":        "canary-of-a-query-4717",
	"argument of a server":  "canary-of-an-argument-4718",
}

// search finds what of a canary is in text: all of it, in the spellings of files, or so
// much of its beginning that the rest can be guessed.
func search(text []byte) (found []string) {
	for where, canary := range canaries {
		quoted, _ := json.Marshal(canary)
		for _, spelling := range []string{canary, canary[:12], base64.StdEncoding.EncodeToString([]byte(canary)), strings.Trim(string(quoted), `"`)} {
			if bytes.Contains(text, []byte(spelling)) {
				found = append(found, where)
				break
			}
		}
	}
	slices.Sort(found)
	return found
}

// hostile is a server that answers with the Authorization which it was sent, in whatever
// way.
func hostile(t *testing.T, way string, thief string) *httptest.Server {
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said := r.Header.Get("Authorization")
		key := strings.TrimPrefix(said, "Bearer ")
		w.Header().Set("X-Authorization", said)
		w.Header().Set("Server", key)
		switch {
		case way == "redirects":
			http.Redirect(w, r, thief+r.URL.Path, http.StatusTemporaryRedirect)
		case way == "crashes" && asked.Add(1) > 6:
			panic(http.ErrAbortHandler)
		case way == "refuses", way == "refuses prompts" && r.Method == http.MethodPost:
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error": {"message": "%s is no key; %s%s \u001b[2J"}}`, said, strings.Repeat("x", 270-len(said)), key)
		case r.URL.Path == "/v1/models":
			fmt.Fprintf(w, `{"data": [{"id": "m", "max_model_len": 4096}, {"id": "other\n\u001b[31mACCEPTED %s"}]}`, key)
		case r.URL.Path == "/version":
			fmt.Fprintf(w, `{"version": "1.0 %s"}`, key)
		case r.URL.Path == "/metrics":
			fmt.Fprintf(w, "vllm:num_requests_running{model_name=\"m\",key=\"%s\"} 0\nthis is no metric but %s\n", key, key)
		case r.Method == http.MethodPost && strings.HasPrefix(way, "streams"):
			w.Header().Set("Content-Type", "text/event-stream")
			var ask struct {
				Tokens int `json:"max_tokens"`
			}
			_ = json.NewDecoder(r.Body).Decode(&ask) // or none
			n := asked.Add(1)
			for i := range ask.Tokens {
				time.Sleep(time.Millisecond)
				fmt.Fprintf(w, "data: {\"choices\": [{\"text\": \"%s\"}]}\n\n", key)
				_ = http.NewResponseController(w).Flush() // the client sees it or has gone
				if i == 4 && way == "streams and dies" && n > 20 {
					panic(http.ErrAbortHandler)
				}
			}
			fmt.Fprintf(w, "data: {\"choices\": [{\"text\": \"\", \"finish_reason\": \"length\"}]}\n\n"+
				"data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 8, \"completion_tokens\": %d}}\n\ndata: [DONE]\n\n", ask.Tokens)
		case r.Method == http.MethodPost:
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: {\"choices\": [{\"text\": \"a\"}]}\n\ndata: {\"error\": {\"message\": \"broke off with %s\"}}\n\n", key)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// fakeGuidellm says all that it knows, in its words and in its report.
const fakeGuidellm = `#!/bin/sh
case "$*" in *--version*) echo "guidellm version: 0.7.3"; exit 0;; esac
env; echo "$@"; env >&2
exit 1
`

// scene is a place in which programs are run with the canaries in their environment, and
// all that they leave.
type scene struct {
	t       *testing.T
	dir     string
	env     []string
	streams bytes.Buffer
	logs    int
	stolen  atomic.Int32
	thief   *httptest.Server // where redirects lead
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, dir: t.TempDir()}
	s.thief = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { s.stolen.Add(1) }))
	t.Cleanup(s.thief.Close)
	s.env = []string{"TMPDIR=" + s.dir}
	for name, value := range canaries {
		if !strings.Contains(name, " ") {
			s.env = append(s.env, name+"="+value)
		}
	}
	return s
}

// run runs a program, with more in its environment, and returns its exit code.
func (s *scene) run(more []string, name string, args ...string) (code int) {
	s.logs++
	cmd := command(s.t, slices.Concat(s.env, more, []string{fmt.Sprintf("STEP_TERMINATION_LOG=%s/termination-%d", s.dir, s.logs)}), name, args...)
	cmd.Stdout, cmd.Stderr = &s.streams, &s.streams
	fmt.Fprintf(&s.streams, "\n$ %s %s\n", name, args[0])
	err := cmd.Run()
	if cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// revealsNothing searches every byte that was left, in at least so many files.
func (s *scene) revealsNothing(fewest int) {
	s.t.Helper()
	if s.stolen.Load() > 0 {
		s.t.Error("a redirect was followed to another server")
	}
	if found := search(s.streams.Bytes()); len(found) > 0 {
		s.t.Errorf("streams hold %q:\n%s", found, s.streams.Bytes())
	}
	if bytes.ContainsAny(s.streams.Bytes(), "\x1b\r") {
		s.t.Errorf("streams act on a terminal: %q", s.streams.Bytes())
	}
	files := 0
	err := filepath.WalkDir(s.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(name)
		if found := search(append(data, name...)); len(found) > 0 {
			s.t.Errorf("%s holds %q", name, found)
		}
		return err
	})
	if err != nil || files < fewest {
		s.t.Errorf("%d files were searched, %v", files, err)
	}
}

// No secret is in any byte that any command leaves.
func TestCanaries(t *testing.T) {
	t.Parallel()
	scene := newScene(t)
	fake := filepath.Join(t.TempDir(), "guidellm")
	if err := os.WriteFile(fake, []byte(fakeGuidellm), 0o755); err != nil {
		t.Fatal(err)
	}
	url, query, argument := canaries["user of a URL"], canaries["query of a URL"], canaries["argument of a server"]
	run := func(name string, args ...string) int { return scene.run(nil, name, args...) }
	config := filepath.Join(t.TempDir(), "sweep.yaml") // not among what is searched
	text := "apiVersion: wfgen.dev/v1\nserver:\n  args: [--api-key, \"" + argument + "\"]\n  env: {API_TOKEN: \"" + argument + "\"}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, way := range []string{"refuses", "refuses prompts", "redirects", "crashes", "echoes"} {
		s := hostile(t, way, scene.thief.URL)
		out := filepath.Join(scene.dir, strconv.Itoa(i))
		codes := []int{
			run("step", "wait", "--target", s.URL, "--model", "another", "--timeout", "1s", "--accelerator", "A100", "--output", out+"/wait"),
			run("step", "preflight", "--target", s.URL, "--model", "m", "--batch-sizes", "1", "--shapes", "8/8"),
			run("step", "bench", "--accelerator", "A100", "--target", s.URL, "--model", "m", "--batch-size", "1", "--prompt-tokens", "8", "--output-tokens", "8", "--max-seconds", "1", "--output", out+"/native"),
			run("step", "bench", "--accelerator", "A100", "--target", s.URL, "--model", "m", "--batch-size", "1", "--max-seconds", "1", "--margin", "5s", "--driver", "guidellm", "--guidellm", fake, "--output", out+"/guidellm"),
			run("step", "bench", "--accelerator", "A100", "--target", "http://"+url+"@"+s.Listener.Addr().String()+"/?token="+query, "--model", "m", "--batch-size", "1", "--max-seconds", "1", "--output", out+"/url"),
			run("step", "wait", "--target", "http://"+url+"@"+s.Listener.Addr().String(), "--model", "m", "--timeout", "1s", "--output", out+"/url-wait"),
			run("step", "preflight", "--target", "http://x:"+url+"@[::", "--model", "m", "--batch-sizes", "1", "--shapes", "8/8"),
		}
		if slices.Contains(codes[:5], exit.Done) && way != "echoes" || slices.Contains(codes, exit.Fault) || codes[0] == exit.Usage {
			t.Errorf("a server that %s: exit codes %v", way, codes)
		}
	}
	if code := run("wfgen", "--config", config, "--deploy", "--accelerators", "A100"); code != exit.Usage {
		t.Errorf("secrets in a configuration: exit %d", code)
	}
	run("step", "aggregate", filepath.Join(scene.dir, "4"), "--output", filepath.Join(scene.dir, "estimate"))
	scene.revealsNothing(10)
}

// ways are those in which the servers of a sweep betray it.
var ways = []string{"refuses", "refuses prompts", "redirects", "crashes", "echoes", "streams", "streams and dies"}

// Neither is one in what a whole run on this machine leaves, nor the containers of the
// Jobs, run one after another as the kubelet would.
func TestCanariesOfASweep(t *testing.T) {
	t.Parallel()
	sweep := []string{"--model", "m", "--driver", "native", "--batch-sizes", "1,2", "--prompt-tokens", "8", "--output-tokens", "8", "--max-seconds", "0", "--max-requests", "10",
		"--wait-timeout", "1s", "--retries", "0"}
	accelerators := []string{"A100", "H100", "H200", "L4", "L40S", "MI300X", "B200"}
	betrayed := func(t *testing.T) (s *scene, targets []string) {
		s = newScene(t)
		for i, way := range ways {
			targets = append(targets, accelerators[i]+"="+hostile(t, way, s.thief.URL).URL)
		}
		return s, targets
	}
	t.Run("run", func(t *testing.T) {
		t.Parallel()
		s, targets := betrayed(t)
		args := append([]string{"run", "--run", "r", "--parallel", strconv.Itoa(len(ways)), "--output", filepath.Join(s.dir, "out"), "--step", filepath.Join(programs, "step"),
			"--accelerators", strings.Join(accelerators, ",")}, sweep...)
		for _, target := range targets {
			args = append(args, "--target", target)
		}
		if code := s.run(nil, "wfgen", args...); code == exit.Done || code == exit.Fault {
			t.Errorf("exit code %d", code)
		}
		if !strings.Contains(s.streams.String(), "failed:") {
			t.Errorf("what failed is not said:\n%s", &s.streams)
		}
		streaming := accelerators[slices.Index(ways, "streams")]
		if reports, _ := filepath.Glob(filepath.Join(s.dir, "out", layout.Accelerator("r", streaming), layout.Reports, "*", "*.json")); len(reports) == 0 {
			t.Error("the server that streams the key was never loaded")
		}
		s.revealsNothing(5)
	})
	t.Run("jobs", func(t *testing.T) {
		t.Parallel()
		s, targets := betrayed(t)
		ran := 0
		for i, target := range targets {
			_, url, _ := strings.Cut(target, "=")
			results := filepath.Join(s.dir, accelerators[i])
			cmd := command(t, s.env, "wfgen", append([]string{"jobs", "--accelerators", accelerators[i], "--target-url", url, "--api-key-secret-name", "k"}, sweep...)...)
			cmd.Stderr = &s.streams
			objects, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, &s.streams)
			}
			if found := search(objects); len(found) > 0 {
				t.Errorf("the objects hold %q", found)
			}
			for _, c := range containers(t, objects) {
				if slices.Contains(c.Args, "guard") { // asks the cluster
					continue
				}
				ran++
				for i := range c.Args {
					c.Args[i] = strings.ReplaceAll(c.Args[i], "/results", results)
				}
				var env []string
				for _, e := range c.Env {
					if e.Value != "" {
						env = append(env, e.Name+"="+e.Value)
					}
				}
				if code := s.run(env, "step", c.Args...); code == exit.Fault {
					t.Errorf("%v: exit code %d", c.Args, code)
				}
			}
		}
		if ran < 4*len(ways) { // wait, two points, the estimate
			t.Errorf("%d containers", ran)
		}
		s.revealsNothing(len(ways))
	})
}

// containers are those of the Jobs among objects, in the order in which they run.
func containers(t *testing.T, objects []byte) (all []corev1.Container) {
	t.Helper()
	for text := range strings.SplitSeq(string(objects), "\n---\n") {
		var job batchv1.Job
		if err := yaml.Unmarshal([]byte(text), &job); err != nil {
			t.Fatal(err)
		}
		all = append(all, append(job.Spec.Template.Spec.InitContainers, job.Spec.Template.Spec.Containers...)...)
	}
	return all
}

// The second signal ends a program that waits for something else.
func TestTheSecondSignalEnds(t *testing.T) {
	t.Parallel()
	for _, number := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if signal.Ignored(number) {
			t.Logf("%v: ignored by who started this test (nohup), and so by what it starts: not tried", number)
			continue
		}
		cmd := command(t, nil, "step", "measure", "-")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// More than a pipe holds: when it is written, the program reads.
		if _, err := in.Write(append([]byte(`{"benchmarks": [{"x": "`), bytes.Repeat([]byte("x"), 1<<20)...)); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for waiting := true; waiting; {
			_ = cmd.Process.Signal(number)
			select {
			case err := <-ended:
				if err == nil {
					t.Errorf("%v: ended well", number)
				}
				waiting = false
			case <-time.After(200 * time.Millisecond):
			}
		}
		_ = in.Close() // it may have been closed with the process
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != number {
			t.Errorf("%v: ended with %v", number, cmd.ProcessState)
		}
	}
}

// processes lists those of this test's programs.
func processes(t *testing.T) (found []string) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(all) == 0 {
		t.Skip("no /proc here")
	}
	for _, name := range all {
		line, err := os.ReadFile(name)
		if err == nil && bytes.HasPrefix(line, []byte(programs)) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// resumed runs a sweep, kills it so many times at random moments, and lets it end. What
// was measured before a kill must still be there, as it was.
func resumed(t *testing.T, env []string, location string, kills int, random *rand.Rand) {
	t.Helper()
	out, err := store.New(t.Context(), location)
	if err != nil {
		t.Fatal(err)
	}
	measured := map[string]string{}
	look := func() {
		keys, err := out.List(t.Context(), "runs/r")
		if err != nil {
			t.Fatal(err)
		}
		now := map[string]string{}
		for _, key := range keys {
			if !strings.Contains(key, "/measurements/") {
				continue
			}
			f, err := out.Open(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(f)
			f.Close()
			if err != nil || !json.Valid(data) {
				t.Fatalf("%s: %v: %q", key, err, data)
			}
			now[key] = string(data)
		}
		for key, before := range measured {
			if now[key] != before {
				t.Errorf("%s was lost, or measured twice", key)
			}
		}
		measured = now
	}
	args := []string{"run", "--simulate", "--accelerators", "A100", "--batch-sizes", "1,2,4", "--prompt-tokens", "16", "--output-tokens", "4",
		"--max-seconds", "0", "--max-requests", "12", "--run", "r", "--output", location, "--step", filepath.Join(programs, "step")}
	for i := 0; ; i++ {
		cmd := command(t, env, "wfgen", args...)
		var words bytes.Buffer
		cmd.Stdout, cmd.Stderr = &words, &words
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i == kills {
			if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != exit.Refused { // so short a sweep says little
				t.Fatalf("%v: %s", err, &words)
			}
			break
		}
		time.Sleep(time.Duration(random.Int64N(int64(4 * time.Second))))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for left, begin := processes(t), time.Now(); len(left) > 0; left = processes(t) {
			if time.Since(begin) > 20*time.Second {
				t.Fatalf("left running by a killed run: %q", left)
			}
			time.Sleep(50 * time.Millisecond)
		}
		look()
	}
	look()
	keys, err := out.List(t.Context(), "runs/r")
	if err != nil {
		t.Fatal(err)
	}
	var points []string
	for _, key := range keys {
		if strings.Contains(key, "/measurements/") {
			points = append(points, filepath.Base(key))
		}
		if strings.Contains(key, ".partial-") {
			t.Errorf("%s is left", key)
		}
	}
	if want := []string{"16-4-b1-again.json", "16-4-b1.json", "16-4-b2.json", "16-4-b4.json"}; !slices.Equal(points, want) {
		t.Errorf("measured %q, want %q", points, want)
	}
	if !slices.Contains(keys, "runs/r/summary.json") {
		t.Errorf("no summary in %q", keys)
	}
}

// Killed at any moment and resumed, a run has measured every point once, and nothing of
// it is left running. HOSTILE_KILLS says how often it is killed; few times otherwise.
func TestKilledAndResumed(t *testing.T) {
	kills := 1
	if text := os.Getenv("HOSTILE_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	} else {
		t.Parallel() // the bucket's part cannot: it sets variables
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	t.Run("directory", func(t *testing.T) {
		for left := kills; left > 0; left -= 2 { // a run that is killed too often is done before
			resumed(t, []string{"TMPDIR=" + t.TempDir()}, t.TempDir(), min(left, 2), random)
		}
	})
	t.Run("bucket", func(t *testing.T) {
		if kills == 1 {
			t.Skip("HOSTILE_KILLS is not set")
		}
		for left := kills; left > 0; left -= 2 {
			backend := s3mem.New()
			if err := backend.CreateBucket("results"); err != nil {
				t.Fatal(err)
			}
			fake := gofakes3.New(backend).Server()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut { // the fake wants a length, which an empty object has none of
					body, _ := io.ReadAll(r.Body)
					r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
					r.Header.Set("Content-Length", strconv.Itoa(len(body)))
				}
				fake.ServeHTTP(w, r)
			}))
			t.Cleanup(server.Close)
			env := []string{"TMPDIR=" + t.TempDir()}
			for name, value := range map[string]string{"AWS_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "for-the-test-alone"} {
				t.Setenv(name, value)
				env = append(env, name+"="+value)
			}
			resumed(t, env, "s3://results/x", min(left, 2), random)
		}
	})
}
