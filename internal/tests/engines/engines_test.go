//go:build engines

package engines

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/run/reason"
)

const (
	model   = "tiny"
	scripts = "../../../../shared/servers"
)

// program builds step once.
func program(t *testing.T) string {
	t.Helper()
	step := filepath.Join(t.TempDir(), "step")
	if out, err := exec.Command("go", "build", "-o", step, "wfgen.dev/cmd/step").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return step
}

// background runs a server until the test ends.
func background(t *testing.T, env []string, name string, args ...string) (log string) {
	t.Helper()
	log = filepath.Join(t.TempDir(), "log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	c.Stdout, c.Stderr = f, f
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGTERM)
		done := time.AfterFunc(10*time.Second, func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) })
		_ = c.Wait()
		done.Stop()
		_ = f.Close()
	})
	return log
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// ready waits for a server.
func ready(t *testing.T, url, name, log string) {
	t.Helper()
	c, err := llm.New(url, "")
	if err == nil {
		_, err = c.Wait(t.Context(), name, 12*time.Minute, func(string) {})
	}
	if err != nil {
		text, _ := os.ReadFile(log)
		t.Fatalf("%v\n%s", err, text[max(0, len(text)-3000):])
	}
}

// point is one step bench and what became of it.
type point struct {
	target, model string
	batch, prompt int
	out           int
	ca            string // certificate of an authority of the tests' own

	code  int
	words string
	measurement.Measurement
}

func (p *point) run(t *testing.T, step string) {
	t.Helper()
	directory := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, step, "bench", "--accelerator", "CPU", "--target", p.target, "--model", p.model, "--batch-size", strconv.Itoa(p.batch),
		"--prompt-tokens", strconv.Itoa(p.prompt), "--output-tokens", strconv.Itoa(p.out), "--max-seconds", "0",
		"--max-requests", strconv.Itoa(10*p.batch), "--output", directory)
	c.Env = append(os.Environ(), "SSL_CERT_FILE="+p.ca)
	if p.ca == "" {
		c.Env = c.Env[:len(c.Env)-1]
	}
	out, err := c.CombinedOutput()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	p.code, p.words = c.ProcessState.ExitCode(), string(out)
	data, err := os.ReadFile(filepath.Join(directory, "measurement.json"))
	if err == nil {
		err = json.Unmarshal(data, &p.Measurement)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// sample matches a line of /metrics.
var sample = regexp.MustCompile(`(?m)^([a-z]+:[a-z_]+)(?:\{[^}\n]*\})? ([0-9.e+-]+)`)

// totals are the sums of a server's metrics by name, read without step's own reader.
func totals(url string) (map[string]float64, error) {
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	sums := map[string]float64{}
	for _, m := range sample.FindAllSubmatch(text, -1) {
		if v, err := strconv.ParseFloat(string(m[2]), 64); err == nil {
			sums[string(m[1])] += v
		}
	}
	return sums, nil
}

// moment is what a server's metrics said at some time.
type moment struct {
	at     float64 // Unix seconds
	totals map[string]float64
}

// course is what they said during a point.
type course []moment

// watch reads a server's metrics over and over, until what it returns is called.
func watch(t *testing.T, url string) (stop func() course) {
	t.Helper()
	const every = 200 * time.Millisecond
	var seen course
	read := func() error {
		sums, err := totals(url)
		if err == nil {
			seen = append(seen, moment{float64(time.Now().UnixNano()) / 1e9, sums})
		}
		return err
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	done, end := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				_ = read() // a busy server answers the next one
			}
		}
	}()
	return func() course {
		close(end)
		<-done
		if err := read(); err != nil {
			t.Fatal(err)
		}
		return seen
	}
}

// grown is by how much a total grew from one time to another, Unix seconds.
func (c course) grown(name string, from, to float64) float64 {
	at := func(t float64) float64 {
		value := c[0].totals[name]
		for _, m := range c {
			if m.at <= t {
				value = m.totals[name]
			}
		}
		return value
	}
	return at(to) - at(from)
}

// truth is what a server says itself of the point's steady window, which is what the
// point's own numbers are of: at its begin a server fills its batch, and may compile. Its
// totals grow as requests end, so that some at the edges are in them and not wholly in the
// window: the truth lies between what it says with those that began before, and without.
func (c course) truth(p *point, of func(grown func(name string) float64) float64) (truth [2]float64) {
	request := p.Client.WindowSeconds / 10 // how long one takes, s
	if w := p.Client; w.TTFT != nil && w.ITL != nil {
		request = (w.TTFT.MeanMS + (p.OutputTokens-1)*w.ITL.MeanMS) / 1000
	}
	for i, later := range []float64{0, request} {
		truth[i] = of(func(name string) float64 {
			return c.grown(name, p.Client.WindowStart+later, p.Client.WindowStart+p.Client.WindowSeconds)
		})
	}
	return truth
}

var update = flag.Bool("update", false, "write the tables into docs/engines.md")

// document logs a table, and writes it into the documentation between the markers of its
// name where that is asked for.
func document(t *testing.T, name string, table []string) {
	t.Helper()
	text := strings.Join(table, "\n")
	t.Logf("%s\n%s", name, text)
	if !*update || t.Failed() {
		return
	}
	const page = "../../../docs/engines.md"
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+" -->\n", "\n<!-- end of "+name+" -->"
	before, rest, found := strings.Cut(string(data), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no markers %q and %q", page, begin, end)
	}
	if err := os.WriteFile(page, []byte(before+begin+text+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// off is how far what was taken is off the truth, or off the nearer end of one that lies
// between two, per cent.
func off(got float64, want ...float64) float64 {
	return 100 * (got/min(max(got, slices.Min(want)), slices.Max(want)) - 1)
}

// hold compares a point's ITL with what its server says itself of the same window. A
// machine with other work makes a client late, never a program's claim wrong: where what
// was taken is off by 10 %, the measurement has to say that client and server differ, and
// the server's number in it has to be right.
func (p *point) hold(t *testing.T, name string, truth [2]float64) {
	t.Helper()
	taken := p.Taken.ITL
	if taken == nil {
		t.Errorf("%s: exit 0, and no ITL: %+v", name, p.Taken)
		return
	}
	if math.Abs(off(taken.MS, truth[:]...)) <= 10 {
		return
	}
	if w := p.Server; taken.From == measurement.Client && taken.MS > truth[0] && p.Taken.Has(reason.Witness) && w != nil && w.ITL != nil && math.Abs(off(w.ITL.MeanMS, truth[:]...)) <= 10 {
		t.Logf("%s: the client was late, %.2f ms, and the measurement says so", name, taken.MS)
		return
	}
	t.Errorf("%s: ITL %.2f ms of the %s is %+.1f %% off the server's own %.2f; findings %+v", name, taken.MS, taken.From, off(taken.MS, truth[:]...), truth, p.Taken.Findings)
}

func row(p *point, name, more string) string {
	number := func(v *measurement.Value, void bool) string {
		if v == nil || void {
			return "void"
		}
		return fmt.Sprintf("%.2f (%s)", v.MS, v.From)
	}
	var codes []string
	for _, f := range p.Taken.Findings {
		codes = append(codes, string(f.Code))
	}
	void := len(p.Taken.Void) > 0
	return fmt.Sprintf("| %s | %d | %d | %s | %s | %.2f | %s | %s |", name, p.batch, p.code, number(p.Taken.ITL, void),
		number(p.Taken.TTFT, void || len(p.Taken.VoidTTFT) > 0), p.Taken.Batch, strings.Join(slices.Compact(codes), ", "), more)
}

// TestLlama: llama.cpp's server, alone and behind nginx.
func TestLlama(t *testing.T) {
	if _, err := os.Stat(scripts); err != nil {
		t.Skip("../shared/servers, whose scripts start llama.cpp, is not there")
	}
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip("nginx is not installed: apt-get install nginx-light")
	}
	step, cache := program(t), filepath.Join(os.TempDir(), "wfgen-llama")
	words, err := filepath.Abs("../../point/driver/native/prompt.go")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(scripts+"/install-llama.sh", cache).CombinedOutput(); err != nil {
		t.Skipf("llama.cpp cannot be installed: %v\n%s", err, out)
	}
	var urls []string
	for range 2 {
		port := freePort(t)
		url := "http://127.0.0.1:" + port
		log := background(t, []string{"WORDS=" + words}, scripts+"/start-llama.sh", cache, "--port", port)
		ready(t, url, model, log)
		urls = append(urls, url)
	}
	proxy := t.TempDir()
	background(t, nil, scripts+"/start-nginx.sh", proxy, strings.TrimPrefix(urls[0], "http://"), strings.TrimPrefix(urls[1], "http://"))
	ready(t, "http://127.0.0.1:8402", model, "")
	ca := filepath.Join(proxy, "certs/ca.crt")

	table := []string{"| reached by | streams | exit | ITL, ms | TTFT, ms | batch | codes | llama.cpp's own ITL |", "|---|---|---|---|---|---|---|---|"}
	for _, tc := range []struct {
		name    string
		target  string
		batch   int
		ca      string
		refused int         // exit code
		says    string      // in its words
		finding reason.Code // that has to be there
	}{
		{name: "directly", target: urls[0], batch: 1},
		{name: "directly", target: urls[0], batch: 4},
		{name: "directly", target: urls[0], batch: 8, finding: reason.Queue},
		{name: "nginx, nothing but proxy_pass", target: "http://127.0.0.1:8400", batch: 2},
		{name: "nginx, no /metrics", target: "http://127.0.0.1:8401", batch: 2},                        // no metrics
		{name: "nginx, no /metrics", target: "http://127.0.0.1:8401", batch: 8, finding: reason.Queue}, // which its answers tell
		{name: "nginx, buffering off", target: "http://127.0.0.1:8402", batch: 2},
		{name: "nginx, gzip on", target: "http://127.0.0.1:8403", batch: 2},
		{name: "nginx, TLS and HTTP/2", target: "https://localhost:8404", batch: 2, ca: ca},
		{name: "nginx, TLS of an unknown authority", target: "https://localhost:8404", batch: 2, refused: exit.Unusable, says: "SSL_CERT_FILE"},
		{name: "nginx, no /tokenize", target: "http://127.0.0.1:8405", batch: 2},
		{name: "nginx, below a path", target: "http://127.0.0.1:8406/llm", batch: 2},
		{name: "nginx, read timeout of 1 s", target: "http://127.0.0.1:8407", batch: 2},
		{name: "nginx, 5 requests a second", target: "http://127.0.0.1:8408", batch: 2},
		{name: "nginx, 301 to TLS", target: "http://127.0.0.1:8409", batch: 2, refused: exit.Unusable, says: "it redirects to https://localhost:8404"},
		{name: "nginx, two replicas in turn", target: "http://127.0.0.1:8410", batch: 2, refused: exit.Refused, says: "two replicas"},
		{name: "nginx, 5 requests per connection", target: "https://localhost:8411", batch: 2, ca: ca},
	} {
		p := point{target: tc.target, model: model, batch: tc.batch, prompt: 64, out: 48, ca: tc.ca}
		stop := watch(t, urls[0])
		p.run(t, step)
		seen := stop()
		if tc.refused != 0 {
			if p.code != tc.refused || !strings.Contains(p.words, tc.says) {
				t.Errorf("%s: exit %d, want %d and %q\n%s", tc.target, p.code, tc.refused, tc.says, p.words)
			}
			table = append(table, row(&p, tc.name, ""))
			continue
		}
		if p.code != exit.Done {
			if len(p.Taken.Void) == 0 {
				t.Errorf("%s: exit %d\n%s", tc.target, p.code, p.words)
			}
			table = append(table, row(&p, tc.name, ""))
			continue
		}
		// Each answer has a gap less than tokens; of answers it keeps no count.
		const tokens = "llamacpp:tokens_predicted_total"
		each := (seen[len(seen)-1].totals[tokens] - seen[0].totals[tokens]) / float64(p.Client.Requests)
		truth := seen.truth(&p, func(grown func(string) float64) float64 {
			return 1000 * grown("llamacpp:tokens_predicted_seconds_total") / (grown(tokens) * (1 - 1/each))
		})
		p.hold(t, fmt.Sprintf("%s, %d streams", tc.target, tc.batch), truth)
		if tc.finding != "" && !p.Taken.Has(tc.finding) {
			t.Errorf("%s, %d streams: findings %+v, want %s", tc.target, tc.batch, p.Taken.Findings, tc.finding)
		}
		if p.Taken.Batch > 4.3 {
			t.Errorf("%s, %d streams: batch %.2f of a server with four slots", tc.target, tc.batch, p.Taken.Batch)
		}
		table = append(table, row(&p, tc.name, fmt.Sprintf("%.2f", truth[0])))
	}
	document(t, "TestLlama", table)

	// a slot holds 2048 tokens, which its list of models says
	long := point{target: urls[0], model: model, batch: 1, prompt: 2000, out: 100}
	long.run(t, step)
	if long.code != exit.Unusable || !strings.Contains(long.words, "2048") {
		t.Errorf("a shape longer than a slot: exit %d\n%s", long.code, long.words)
	}
}

// TestHeldBack: a proxy that holds answers back, before a server whose law is known.
func TestHeldBack(t *testing.T) {
	if _, err := os.Stat(scripts); err != nil {
		t.Skip("../shared/servers, whose whole.py is the proxy, is not there")
	}
	step := program(t)
	const itl, ttft = 6.973 + 0.027*4, 14.825 + 0.001364*128*4
	table := []string{"| answers | streams | exit | ITL, ms | TTFT, ms | batch | codes | law: ITL, TTFT |", "|---|---|---|---|---|---|---|---|"}
	for _, metrics := range []bool{true, false} {
		port := freePort(t)
		args := []string{"simulate", "--listen", "127.0.0.1:" + port, "--model", model}
		if !metrics {
			args = append(args, "--no-metrics")
		}
		background(t, nil, step, args...)
		ready(t, "http://127.0.0.1:"+port, model, "")
		for _, block := range []string{"", "4096", "whole"} {
			target := "http://127.0.0.1:" + port
			if block != "" {
				own := freePort(t)
				args := []string{scripts + "/whole.py", own, target}
				if block != "whole" {
					args = append(args, block)
				}
				background(t, nil, "python3", args...)
				target = "http://127.0.0.1:" + own
				ready(t, target, model, "")
			}
			p := point{target: target, model: model, batch: 4, prompt: 128, out: 64}
			p.run(t, step)
			p.target = map[string]string{"": "as they come", "4096": "in blocks of 4 KiB", "whole": "whole"}[block]
			if !metrics {
				p.target += ", no /metrics"
			}
			table = append(table, row(&p, p.target, fmt.Sprintf("%.2f, %.2f", itl, ttft)))
			if p.code != exit.Done {
				if p.code != exit.Refused || !p.Taken.Has(reason.Buffered) || block == "" {
					t.Errorf("%s: exit %d\n%s", p.target, p.code, p.words)
				}
				continue
			}
			if e := off(p.Taken.ITL.MS, itl); math.Abs(e) > 10 {
				t.Errorf("%s: ITL %.2f ms is %+.1f %% off", p.target, p.Taken.ITL.MS, e)
			}
			if e := off(p.Taken.TTFT.MS, ttft); len(p.Taken.VoidTTFT) == 0 && math.Abs(e) > 30 { // of a machine with other work
				t.Errorf("%s: TTFT %.2f ms is %+.1f %% off", p.target, p.Taken.TTFT.MS, e)
			}
		}
	}
	document(t, "TestHeldBack", table)
}

// TestVLLM: the real vLLM in the settings that make its numbers mean something else.
func TestVLLM(t *testing.T) {
	if out, err := exec.Command("../../../hack/vllm/install.sh").CombinedOutput(); err != nil {
		t.Skipf("hack/vllm/install.sh: %v\n%s", err, out)
	}
	step := program(t)
	table := []string{"| server, model | streams | exit | ITL, ms | TTFT, ms | batch | codes | vLLM's own ITL, TTFT, ms, batch |", "|---|---|---|---|---|---|---|---|"}
	for _, server := range []struct {
		name   string
		args   []string
		models []string
		points []int // streams
		places int
	}{
		{"speculative decoding, two names", []string{"--max-num-seqs", "8", "--served-model-name", "base", model,
			"--speculative-config", `{"method":"ngram","num_speculative_tokens":4,"prompt_lookup_max":3,"prompt_lookup_min":1}`,
			"--override-generation-config", `{"temperature":0}`}, []string{model, "base"}, []int{1, 4}, 8},
		{"plain", []string{"--max-num-seqs", "8"}, []string{model}, []int{1, 4}, 8},
		{"prefix caching, four places", []string{"--max-num-seqs", "4", "--enable-prefix-caching"}, []string{model}, []int{4, 8}, 4},
	} {
		t.Run(server.name, func(t *testing.T) {
			port := freePort(t)
			url := "http://127.0.0.1:" + port
			log := background(t, nil, "../../../hack/vllm/start.sh", append([]string{"--port", port, "--max-model-len", "1024"}, server.args...)...)
			ready(t, url, server.models[0], log)
			for _, name := range server.models {
				for _, batch := range server.points {
					p := point{target: url, model: name, batch: batch, prompt: 64, out: 96}
					stop := watch(t, url)
					p.run(t, step)
					seen := stop()
					if p.code != exit.Done {
						t.Errorf("%s, %d streams: exit %d\n%s", name, batch, p.code, p.words)
						continue
					}
					// All three are told as a request ends.
					truth := seen.truth(&p, func(grown func(string) float64) float64 {
						return 1000 * grown("vllm:request_decode_time_seconds_sum") / (grown("vllm:request_generation_tokens_sum") - grown("vllm:request_success_total"))
					})
					ttft := seen.truth(&p, func(grown func(string) float64) float64 {
						return 1000 * grown("vllm:time_to_first_token_seconds_sum") / grown("vllm:time_to_first_token_seconds_count")
					})
					p.hold(t, fmt.Sprintf("%s, %d streams", name, batch), truth)
					if queued := batch > server.places; queued != p.Taken.Has(reason.Queue) {
						t.Errorf("%s, %d streams in %d places: findings %+v", name, batch, server.places, p.Taken.Findings)
					}
					if p.Taken.Batch > 1.02*float64(server.places) {
						t.Errorf("%s, %d streams: batch %.2f in %d places", name, batch, p.Taken.Batch, server.places)
					}
					table = append(table, row(&p, server.name+", "+name, fmt.Sprintf("%.2f, %.1f, %.2f", truth[0], ttft[0], p.Server.Batch)))
				}
			}
		})
	}
	document(t, "TestVLLM", table)
}
