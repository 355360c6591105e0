//go:build vllm

package vllm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wfgen.dev/internal/estimate/fit"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/layout"
)

// What the server is started with. More streams than maxNumSeqs queue.
const (
	model       = "tiny"
	maxNumSeqs  = 8
	maxModelLen = 1024
)

// world is what all tests share: one server, since it takes a minute to start.
type world struct {
	step     string // the program
	guidellm string
	url      string
	server   *exec.Cmd
	log      string // of the server
}

// markName is an environment variable by which a test finds the processes that
// it started, whoever their parent is by now.
const markName = "HF_TEST_OF_WFGEN_MARK"

// TestVLLM is a story in the order of its parts: the server's death is the last.
func TestVLLM(t *testing.T) {
	w := start(t)
	parts := []struct {
		name string
		run  func(*testing.T, *world)
	}{
		{"Wait", wait},
		{"Fidelity", fidelity},
		{"Sweep", sweeps},
		{"Limits", limits},
		{"Others", others},
		{"Death", death},
	}
	for i, part := range parts {
		t.Run(part.name, func(t *testing.T) { part.run(t, w) })
		if i < len(parts)-1 && w.gone() {
			t.Fatalf("the server is gone:\n%s", tail(w.log))
		}
	}
}

// start builds step and starts the server, both ready when it returns.
func start(t *testing.T) *world {
	t.Helper()
	directory := t.TempDir()
	w := &world{step: filepath.Join(directory, "step"), log: filepath.Join(directory, "server.log")}
	if out, err := exec.Command("go", "build", "-o", w.step, "wfgen.dev/cmd/step").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command("../../../hack/guidellm/install.sh", "0.7.3").Output()
	if err != nil {
		t.Fatalf("hack/guidellm/install.sh: %v\n%s", err, stderr(err))
	}
	w.guidellm = strings.TrimSpace(string(out))
	if out, err := exec.Command("../../../hack/vllm/install.sh").CombinedOutput(); err != nil {
		t.Fatalf("hack/vllm/install.sh: %v\n%s", err, out)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	w.url = "http://127.0.0.1:" + port
	log, err := os.Create(w.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	w.server = exec.Command("../../../hack/vllm/start.sh", "--port", port,
		"--max-num-seqs", strconv.Itoa(maxNumSeqs), "--max-model-len", strconv.Itoa(maxModelLen))
	w.server.Stdout, w.server.Stderr = log, log
	w.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := w.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.kill)
	begin := time.Now()
	if code, _, stderr := w.run(t, "wait", "--timeout", "5m"); code != exit.Done {
		t.Fatalf("step wait: exit %d: %s\n%s", code, stderr, tail(w.log))
	}
	t.Logf("the server was ready after %.0f s", time.Since(begin).Seconds())
	return w
}

// kill ends the server with all its processes, as a lost node does.
func (w *world) kill() {
	_ = syscall.Kill(-w.server.Process.Pid, syscall.SIGKILL)
	_ = w.server.Wait() // it was killed, which is what it says
}

func (w *world) gone() bool {
	c, err := net.DialTimeout("tcp", strings.TrimPrefix(w.url, "http://"), 5*time.Second)
	if err == nil {
		err = c.Close()
	}
	return err != nil
}

// command prepares step with the server's address and model.
func (w *world) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(w.step, args...)
	c.Env = append(os.Environ(), "STEP_TARGET="+w.url, "STEP_MODEL="+model, "STEP_GUIDELLM="+w.guidellm,
		"STEP_TOKENIZER="+filepath.Join(filepath.Dir(w.guidellm), "../../tokenizer"), "HF_HUB_OFFLINE=1", markName+"="+t.Name())
	return c
}

func (w *world) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	c := w.command(t, args...)
	var out, words bytes.Buffer
	c.Stdout, c.Stderr = &out, &words
	if err := c.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), words.String()
}

// point is one step bench.
type point struct {
	driver        string
	batch         int
	prompt, out   int // tokens
	perStream     int // requests
	more          []string
	directory     string // of the results
	code          int
	stdout, words string
}

func (p *point) args() []string {
	return append([]string{"bench", "--accelerator", "cpu", "--driver", p.driver, "--batch-size", strconv.Itoa(p.batch),
		"--prompt-tokens", strconv.Itoa(p.prompt), "--output-tokens", strconv.Itoa(p.out),
		"--max-seconds", "0", "--max-requests", strconv.Itoa(p.perStream * p.batch), "--output", p.directory}, p.more...)
}

// bench runs a point and returns what it measured; nothing was, where no
// measurement is left.
func (w *world) bench(t *testing.T, p *point) measurement.Measurement {
	t.Helper()
	if p.directory == "" {
		p.directory = t.TempDir()
	}
	p.code, p.stdout, p.words = w.run(t, p.args()...)
	return p.measured(t, "measurement.json")
}

func (p *point) measured(t *testing.T, name string) (m measurement.Measurement) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.directory, name))
	if errors.Is(err, os.ErrNotExist) {
		return m
	}
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wait: the right model is found, another is not waited for.
func wait(t *testing.T, w *world) {
	code, stdout, _ := w.run(t, "wait", "--timeout", "1m")
	if code != exit.Done || !strings.Contains(stdout, fmt.Sprintf("serves %s, max-model-len %d", model, maxModelLen)) {
		t.Errorf("exit %d: %s", code, stdout)
	}
	begin := time.Now()
	code, _, words := w.run(t, "wait", "--timeout", "10m", "--model", "another")
	if code != exit.Unusable || !strings.Contains(words, `serves tiny, not "another"`) {
		t.Errorf("another model: exit %d: %s", code, words)
	}
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("another model was waited for, %s", took)
	}
}

// disturbed measures by how much the machine stops a process, from how late one wakes that
// wants to every millisecond until stop: the root mean square, ms, of how late it sees what
// happens at any moment. Of a stop of d, which is d/T of the time, that is d²/3.
func disturbed() (stop func() float64) {
	begin, end, late := time.Now(), make(chan struct{}), make(chan float64)
	go func() {
		cubes := 0.0 // s³
		for {
			due := time.Now().Add(time.Millisecond)
			select {
			case <-end:
				late <- 1000 * math.Sqrt(cubes/3/time.Since(begin).Seconds())
				return
			case <-time.After(time.Until(due)):
				cubes += math.Pow(time.Since(due).Seconds(), 3)
			}
		}
	}()
	return func() float64 {
		close(end)
		return <-late
	}
}

// sweeps measures with both drivers what each says of the other's subject.
func sweeps(t *testing.T, w *world) {
	table := []string{"| driver | streams | requests: client, server | ITL client / server, ms | TTFT client / server, ms | server's queue, prefill, ms |", "|---|---|---|---|---|---|"}
	for _, driver := range []struct {
		name      string
		perStream int
		percent   float64 // how far its ITL may be off the server's
	}{{"native", 12, 2}, {"guidellm", 10, 10}} {
		t.Run(driver.name, func(t *testing.T) {
			results := t.TempDir()
			for _, batch := range []int{1, 2, 4, 8} {
				p := point{driver: driver.name, batch: batch, prompt: 64, out: 48, perStream: driver.perStream,
					directory: filepath.Join(results, fmt.Sprintf("b%d", batch))}
				stop := disturbed()
				m := w.bench(t, &p)
				late := stop()
				if p.code != exit.Done {
					t.Fatalf("batch %d: exit %d\n%s", batch, p.code, p.words)
				}
				if m.Client == nil || m.Server == nil || m.Client.ITL == nil || m.Server.ITL == nil || m.Client.TTFT == nil || m.Server.TTFT == nil {
					t.Fatalf("batch %d: a witness is missing: %+v", batch, m)
				}
				// The witnesses see the same tokens, so that the speed of the machine does not
				// matter; but one with other work may stop the client at the first or the last
				// token of an answer, and moves the mean of its gaps by that: three standard
				// errors over the answers of one stream, since a stop meets all streams.
				itl := wholeITL(t, p, batch)
				off, noise := 100*(m.Client.Plain.ITLMS/itl-1), 100*3*late*math.Sqrt(2/float64(driver.perStream))/(itl*(m.OutputTokens-1))
				t.Logf("batch %d: the client's ITL is %+.2f %% off the server's; the machine makes a process %.2f ms late, which excuses %.2f %%", batch, off, late, noise)
				if math.Abs(off) > driver.percent+noise {
					t.Errorf("batch %d: the client's ITL is %+.2f %% off the server's, more than %.0f %% and the %.2f %% of a process that is %.2f ms late", batch, off, driver.percent, noise, late)
				}
				if m.Requests.Successful != driver.perStream*batch || m.Requests.Errored+m.Requests.Incomplete > 0 {
					t.Errorf("batch %d: requests %+v, asked for %d", batch, m.Requests, driver.perStream*batch)
				}
				if m.Client.Requests != m.Server.Requests {
					t.Errorf("batch %d: the client counted %d requests, the server %d", batch, m.Client.Requests, m.Server.Requests)
				}
				if len(m.Taken.Void)+len(m.Taken.VoidTTFT) > 0 || m.Taken.TTFT == nil || m.Taken.TTFT.From != measurement.Server {
					t.Errorf("batch %d: taken %+v", batch, m.Taken)
				}
				if math.Abs(m.PromptTokens-64) > 2 || math.Abs(m.OutputTokens-48) > 0.2*48 { // drawn within 20 %
					t.Errorf("batch %d: %.1f prompt and %.1f output tokens", batch, m.PromptTokens, m.OutputTokens)
				}
				table = append(table, fmt.Sprintf("| %s | %d | %d, %d | %.2f / %.2f | %.1f / %.1f | %.1f, %.1f |", driver.name, batch,
					m.Client.Requests, m.Server.Requests, m.Client.ITL.MeanMS, m.Server.ITL.MeanMS,
					m.Client.TTFT.MeanMS, m.Server.TTFT.MeanMS, *m.Server.QueueMS, *m.Server.PrefillMS))
			}
			estimate := filepath.Join(results, "estimate")
			code, stdout, words := w.run(t, "aggregate", results, "--output", estimate)
			// A busy machine may be too uneven for a verdict to be favourable;
			// that is for it to say.
			if code != exit.Done && code != exit.Refused {
				t.Errorf("aggregate: exit %d\n%s", code, words)
			}
			file, err := os.Open(filepath.Join(estimate, layout.OneParameters))
			if err != nil {
				t.Fatalf("%v\n%s", err, words)
			}
			defer file.Close()
			p, err := parameters.Decode(file, file.Name())
			if err != nil {
				t.Fatal(err)
			}
			alpha, low, high, _ := p.Parameter("alpha")
			switch {
			case len(p.Fit.Points) != 4:
				t.Errorf("%d points in the estimate", len(p.Fit.Points))
			case code == exit.Done && p.HasITL() && !(0 < alpha && low < alpha && alpha < high):
				t.Errorf("alpha %v [%v, %v]", alpha, low, high)
			case code == exit.Refused && (p.Verdict.Level != fit.Refused || len(p.Verdict.Reasons) == 0):
				t.Errorf("exit %d with the verdict %+v", code, p.Verdict)
			}
			t.Logf("exit %d\n%s%s", code, stdout, words)
		})
	}
	t.Logf("client and server side by side\n%s", strings.Join(table, "\n"))
}

// wholeITL is the server's mean ITL, ms, over all that it did in a point. The
// native driver's first requests are among it: a few tokens of a server without
// load, next to thousands.
func wholeITL(t *testing.T, p point, batch int) float64 {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(p.directory, "reports", "*-server.json"))
	if err != nil || len(found) != 1 {
		t.Fatalf("batch %d: scrapes %q, %v", batch, found, err)
	}
	data, err := os.ReadFile(found[0])
	var file struct{ Scrapes []record.Scrape }
	if err == nil {
		err = json.Unmarshal(data, &file)
	}
	if err != nil || len(file.Scrapes) < 2 {
		t.Fatalf("batch %d: %d scrapes, %v", batch, len(file.Scrapes), err)
	}
	first, last := file.Scrapes[0].ITL, file.Scrapes[len(file.Scrapes)-1].ITL
	return 1000 * (last.SumSeconds - first.SumSeconds) / (last.Count - first.Count)
}

// limits: what the server cannot run at once, or not at all.
func limits(t *testing.T, w *world) {
	above := point{driver: "native", batch: 2 * maxNumSeqs, prompt: 64, out: 48, perStream: 6}
	m := w.bench(t, &above)
	if above.code != exit.Done || len(m.Taken.VoidTTFT) == 0 || !strings.Contains(m.Taken.VoidTTFT[0], "requests queued for") {
		t.Errorf("%d streams on a server of %d: exit %d, void for gamma and delta: %q\n%s", above.batch, maxNumSeqs, above.code, m.Taken.VoidTTFT, above.words)
	}
	if m.Taken.Batch > maxNumSeqs {
		t.Errorf("measured batch %.2f, the server runs %d at once", m.Taken.Batch, maxNumSeqs)
	}
	t.Logf("%d streams: measured batch %.2f, %q", above.batch, m.Taken.Batch, m.Taken.VoidTTFT)

	for _, driver := range []string{"native", "guidellm"} {
		for _, p := range []point{
			{driver: driver, batch: 2 * maxNumSeqs, prompt: 64, out: 48, perStream: 6, more: []string{"--max-num-seqs", strconv.Itoa(maxNumSeqs)},
				words: fmt.Sprintf("batch size %d is above the server's max-num-seqs %d", 2*maxNumSeqs, maxNumSeqs)},
			{driver: driver, batch: 1, prompt: maxModelLen, out: 48, perStream: 6,
				words: fmt.Sprintf("shape %d/48 needs %d tokens", maxModelLen, maxModelLen+48)},
		} {
			says := p.words
			m := w.bench(t, &p)
			if p.code != exit.Unusable || !strings.Contains(p.words, says) || m.Schema != "" {
				t.Errorf("%s: exit %d, expected %d and %q: %s", driver, p.code, exit.Unusable, says, p.words)
			}
			t.Logf("%s: %s", driver, p.words)
		}
	}
}

func stderr(err error) string {
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		return string(e.Stderr)
	}
	return ""
}

// tail is the end of a log.
func tail(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-4000):])
}
