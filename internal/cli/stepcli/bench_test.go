package stepcli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"wfgen.dev/internal/llm/record"
	"wfgen.dev/internal/llm/simulate"
	"wfgen.dev/internal/run/exit"
)

// One of a chain of points: it is tried again while that may help, and does not keep
// the next one from its turn.
func TestBenchInAChain(t *testing.T) {
	u := simulated(t, simulate.Config{Alpha: 2, Gamma: 5, MaxNumSeqs: 4, FailRate: 1})
	for _, test := range []struct {
		name  string
		args  []string
		code  int
		words []string
		not   string
	}{
		{"fixable", []string{"--target", "http://127.0.0.1:1", "--model", "m"}, exit.TryAgain, nil, "attempt 1 of"},
		{"tried again", []string{"--target", "http://127.0.0.1:1", "--model", "m", "--attempts", "3"}, exit.TryAgain, []string{"attempt 1 of 3 failed", "attempt 2 of 3 failed"}, "attempt 3 of 3"},
		{"left out", []string{"--target", "http://127.0.0.1:1", "--model", "m", "--attempts", "2", "--go-on"}, exit.Done, []string{"attempt 1 of 2 failed", "left out: "}, ""},
		{"for good", []string{"--target", u.String(), "--model", "other", "--attempts", "3", "--go-on"}, exit.Done, []string{"left out: ", "other"}, "attempt 1"},
		{"usage is no failure of the point", []string{"--target", u.String(), "--model", "m", "--attempts", "0", "--go-on"}, exit.Usage, []string{"--attempts: 0 is below 1"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := t.TempDir()
			var code int
			var words string
			run := func(*testing.T) {
				code, _, words = step(append(append([]string{"bench", "--accelerator", "A100"}, test.args...), "--batch-size", "1", "--max-seconds", "1", "--output", out)...)
			}
			if slices.Contains(test.args, u.String()) {
				run(t)
			} else { // nobody listens: only the pauses take time, which is virtual
				synctest.Test(t, run)
			}
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			for _, want := range test.words {
				if !strings.Contains(words, want) {
					t.Errorf("no %q", want)
				}
			}
			if test.not != "" && strings.Contains(words, test.not) {
				t.Errorf("says %q", test.not)
			}
			if t.Failed() {
				t.Log(words)
			}
		})
	}
}

// What step wait left in a file for a container that starts later.
func TestBenchReadsTheServerFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(file, []byte(`{"pod":"p","args":["--a"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := instance("@" + file)
	if err != nil || got.Pod != "p" || len(got.Args) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := instance("@" + file + "x"); err == nil || !strings.Contains(err.Error(), "--server: ") {
		t.Errorf("a file that is not there: %v", err)
	}
	if got, err := instance(""); err != nil || got.Pod != (record.Instance{}).Pod {
		t.Errorf("nothing: %+v, %v", got, err)
	}
}

func TestBenchRefusesAnOpenLoopThatIsNone(t *testing.T) {
	base := []string{"bench", "--accelerator", "A100", "--target", "http://127.0.0.1:1", "--model", "m", "--output", t.TempDir()}
	for want, args := range map[string][]string{
		"--rate: -1 is not":       {"--rate", "-1"},
		"--arrivals: \"x\"":       {"--rate", "1", "--arrivals", "x"},
		"--slo: \"ttft=1\"":       {"--rate", "1", "--slo", "ttft=1"},
		"two kinds of load":       {"--rate", "1", "--batch-size", "4"},
		"give --rate":             {"--batch-size", "4", "--slo", "ttft=1ms"},
		"--rate: is for --driver": {"--rate", "1", "--driver", "guidellm"},
		"the list is empty; expected one such as 1,8,64; or give --rate\n": {},
	} {
		if code, _, words := step(append(base, args...)...); code != exit.Usage || !strings.Contains(words, want) {
			t.Errorf("%v: code %d, %s", args, code, words)
		}
	}
}

// What --points says of each point is read, and every mistake of it told.
func TestBenchRefusesPointsThatAreNone(t *testing.T) {
	for _, test := range []struct {
		args []string
		says []string
	}{
		{[]string{"--points", "1,8"}, []string{"--points: ", "expected the JSON list"}},
		{[]string{"--points", "[]"}, []string{"--points: the list is empty"}},
		{[]string{"--points", `[{"batch-size":8},{"batch-size":0},{"batch-size":8}]`}, []string{"number 2", "number 3 is 128-128-b8, as one before it", `"-again"`}},
		{[]string{"--points", `[{"batch-size":8}]`, "--batch-size", "8"}, []string{"leave those out"}},
		{[]string{"--batch-size", "8", "--done", "x"}, []string{"--done: is of several points"}},
	} {
		code, _, words := step(append([]string{"bench", "--target", "http://127.0.0.1:1", "--model", "m", "--accelerator", "A100", "--output", t.TempDir()}, test.args...)...)
		if code != exit.Usage {
			t.Errorf("%q: exit code %d", test.args, code)
		}
		for _, say := range test.says {
			if !strings.Contains(words, say) {
				t.Errorf("%q: %s does not say %q", test.args, words, say)
			}
		}
	}
}
