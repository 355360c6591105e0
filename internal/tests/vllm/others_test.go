//go:build vllm

package vllm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wfgen.dev/internal/llm"
	"wfgen.dev/internal/run/exit"
)

// others: a second client that uses the server during a point is noticed,
// whether its requests end within the point or not.
func others(t *testing.T, w *world) {
	for name, tokens := range map[string]int{"short requests": 8, "one long request": maxModelLen - 8} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				for ctx.Err() == nil {
					w.complete(ctx, t, tokens)
				}
			})
			busy(t, w, 1)
			p := point{driver: "native", batch: 1, prompt: 16, out: 16, perStream: 10}
			m := w.bench(t, &p)
			cancel()
			wg.Wait()
			if p.code != exit.Refused || !strings.Contains(p.words, "somebody else was using it") {
				t.Errorf("exit %d, void %q\n%s", p.code, m.Taken.Void, p.words)
			}
			t.Logf("%q", m.Taken.Void)
		})
	}
}

// complete asks for one answer, and reads it unless ctx ends before.
func (w *world) complete(ctx context.Context, t *testing.T, tokens int) {
	body := fmt.Sprintf(`{"model":%q,"prompt":"the other client","max_tokens":%d,"ignore_eos":true,"stream":true}`, model, tokens)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/v1/completions", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err == nil {
		_, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	if err != nil && ctx.Err() == nil {
		t.Error(err)
	}
}

// running is how many requests the server says that it runs.
func running(t *testing.T, w *world) float64 {
	t.Helper()
	c, err := llm.New(w.url, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Scrape(t.Context(), model)
	if err != nil {
		t.Fatal(err)
	}
	return s.Running
}

// busy waits until the server runs so many requests together.
func busy(t *testing.T, w *world, requests float64) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); running(t, w) < requests; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the server never ran %.0f requests together", requests)
		}
	}
}

// death: the server is lost while both drivers use it. What is known is kept,
// marked, and nothing of either driver is left running.
func death(t *testing.T, w *world) {
	type end struct {
		point
		err bytes.Buffer
	}
	ends := []*end{{point: point{driver: "guidellm"}}, {point: point{driver: "native"}}}
	var wg sync.WaitGroup
	for i, e := range ends {
		e.batch, e.prompt, e.out, e.directory = 2, 64, 48, t.TempDir()
		e.more = []string{"--max-seconds", "20", "--max-requests", "0"}
		c := w.command(t, e.args()...)
		c.Stderr = &e.err
		wg.Go(func() {
			_ = c.Run() // its code says more
			e.code = c.ProcessState.ExitCode()
		})
		busy(t, w, float64(1+2*i)) // guidellm takes long to begin
	}
	time.Sleep(2 * time.Second)
	w.kill()
	begin := time.Now()
	wg.Wait()
	t.Logf("all ended %.0f s later", time.Since(begin).Seconds())
	for _, e := range ends {
		if e.code != exit.TryAgain {
			t.Errorf("%s: exit %d\n%s", e.driver, e.code, &e.err)
		}
		m := e.measured(t, "measurement.partial.json")
		if !m.Partial || m.Requests.Successful == 0 || m.Requests.Errored == 0 {
			t.Errorf("%s: kept %+v", e.driver, m)
		}
		lines := strings.Split(strings.TrimSpace(e.err.String()), "\n")
		t.Logf("%s: %+v: %s", e.driver, m.Requests, lines[len(lines)-1])
	}
	for _, command := range left(t) {
		t.Errorf("left running: %s", command)
	}
}

// left are the commands that the test has started and that still run, whoever
// their parent is by now.
func left(t *testing.T) (commands []string) {
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
		if command, err := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline")); err == nil && len(command) > 0 {
			commands = append(commands, strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return commands
}
