package guidellm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"wfgen.dev/internal/point/driver"
	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
)

func TestFailure(t *testing.T) {
	o := driver.Options{Target: "http://vllm:8000", Model: "m", Tokenizer: "org/tok", Deadline: 90 * time.Second}
	tests := []struct {
		name string
		end  outcome
		said string
		env  string // of HF_HUB_OFFLINE
		code int
		says []string
	}{
		{name: "done", code: exit.Done},
		{name: "noise", said: "ConnectError: retried", code: exit.Done}, // a code of 0 is for the report to judge
		{name: "deadline", end: outcome{code: -1, signal: syscall.SIGTERM, stopped: errDeadline}, code: exit.TryAgain, says: []string{"1m30s", "does not answer", "said nothing"}},
		{name: "interrupted", end: outcome{code: -1, stopped: context.Canceled, seconds: 12}, code: exit.TryAgain, says: []string{"interrupted after 12 s"}},
		{name: "killed", end: outcome{code: -1, signal: syscall.SIGKILL}, code: exit.TryAgain, says: []string{"137", "memory limit"}},
		{name: "killed below a shell", end: outcome{code: 137}, code: exit.TryAgain, says: []string{"memory limit"}},
		{name: "crash", end: outcome{code: -1, signal: syscall.SIGSEGV}, said: "oh\n", code: exit.TryAgain, says: []string{"signal 11", "oh"}},
		{name: "error", end: outcome{code: 1}, said: "one\n\ntwo\n", code: exit.TryAgain, says: []string{"exit code 1", "  one\n  two"}},
		{name: "arguments", end: outcome{code: 2}, said: "Usage: guidellm [OPTIONS]\nError: No such command 'benchmark'.\n", code: exit.Usage, says: []string{"No such command", "native driver"}},
		{name: "model", end: outcome{code: 1}, said: "ValueError: Model m not found in available models:['other']", code: exit.Unusable, says: []string{`"m"`, "vllm:8000", "other"}},
		{name: "disk", end: outcome{code: 1}, said: "OSError: [Errno 28] No space left on device", code: exit.TryAgain, says: []string{"no space left"}},
		{name: "unreachable", end: outcome{code: 1}, said: "httpx.ConnectError: All connection attempts failed", code: exit.TryAgain, says: []string{"cannot reach http://vllm:8000"}},
		{name: "key refused", end: outcome{code: 1}, said: "httpx.HTTPStatusError: Client error '401 Unauthorized' for url", code: exit.Usage, says: []string{"API key"}},
		{name: "server error", end: outcome{code: 1}, said: "httpx.HTTPStatusError: Server error '503 Service Unavailable' for url", code: exit.TryAgain, says: []string{"503 Service Unavailable"}},
		{name: "cut off", end: outcome{code: 1}, said: "httpx.RemoteProtocolError: peer closed connection without sending complete message body", code: exit.TryAgain, says: []string{"http://vllm:8000", "cuts the connection"}},
		{name: "tokenizer", end: outcome{code: 1}, said: "OSError: org/tok is not a local folder and is not a valid model identifier", code: exit.Usage, says: []string{"--tokenizer", `"org/tok"`, "HF_TOKEN"}},
		{name: "hub away", end: outcome{code: 1}, said: "OSError: We couldn't connect to 'https://huggingface.co' to load the files", code: exit.TryAgain, says: []string{"--tokenizer"}},
		{name: "hub off", env: "1", end: outcome{code: 1}, said: "OSError: We couldn't connect to 'https://huggingface.co' to load the files", code: exit.Usage, says: []string{"--tokenizer", "HF_HUB_OFFLINE"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("HF_HUB_OFFLINE", test.env)
			err := version(t, "0.7.3").failure(test.end, o, test.said)
			if exit.Code(err) != test.code {
				t.Fatalf("code %d: %v", exit.Code(err), err)
			}
			for _, part := range test.says {
				if !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), "guidellm 0.7.3") {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if errors.Is(test.end.stopped, context.Canceled) && !errors.Is(err, context.Canceled) {
				t.Errorf("%v does not wrap its cause", err)
			}
		})
	}
}

func TestLastLines(t *testing.T) {
	const said = `starting
Traceback (most recent call last):
  File "/x/y.py", line 3, in <module>
    main()
    ^^^^^^
  File "/x/z.py", line 9, in main
    raise ValueError(

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
ValueError: what was wrong
`
	if got, want := lastLines(said), "; its last words:\n  starting\n  ValueError: what was wrong"; got != want {
		t.Errorf("%q", got)
	}
	if got := lastLines(strings.Repeat("a line\n", 100) + strings.Repeat("x", 1000)); strings.Count(got, "\n") != tailLines || len(got) > 500 {
		t.Errorf("%q", got)
	}
}

// The end of a long log is kept, whatever its length, and no secret in it.
func TestTail(t *testing.T) {
	tl := &tail{}
	w := tl.behind(redact.Of(key))
	for i := range 50_000 {
		fmt.Fprintf(w, "line %d with %s\n", i, key)
	}
	if err := tl.flush(); err != nil {
		t.Fatal(err)
	}
	text := tl.text()
	if len(text) < tailBytes || len(text) > 2*tailBytes || strings.Contains(text, key) || !strings.HasSuffix(text, "line 49999 with ***\n") {
		t.Errorf("%d bytes, ending in %q", len(text), text[len(text)-50:])
	}
}

func TestProgress(t *testing.T) {
	type step struct{ done, total float64 }
	var steps []step
	synctest.Test(t, func(*testing.T) {
		stop := progress(driver.Options{MaxSeconds: 1, Progress: func(done, total float64) { steps = append(steps, step{done, total}) }})
		time.Sleep(2500 * time.Millisecond)
		stop()
	})
	if len(steps) < 3 || steps[0].total != 1 || steps[len(steps)-1] != (step{1, 1}) {
		t.Errorf("%v", steps)
	}
	for i := 1; i < len(steps); i++ {
		if steps[i].done < steps[i-1].done {
			t.Errorf("%v", steps)
		}
	}
	progress(driver.Options{MaxSeconds: 1})() // nobody asks
}
