package guidellm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wfgen.dev/internal/run/exit"
)

const key = "sk-0123456789abcdef"

// However a text comes in pieces, the secret does not get through, and nothing
// else is changed.
func TestSecretsInPieces(t *testing.T) {
	s := newSecrets(key, "hf_token_of_somebody", "", "short")
	text := `{"Authorization": "Bearer ` + key + `", "sk-": 1, "sk-0123": "` + key[:10] + `", "t": "hf_token_of_somebody", "short": "` + key + key + `"}` + key[:5]
	want := strings.NewReplacer(key, string(redacted), "hf_token_of_somebody", string(redacted)).Replace(text)
	for size := 1; size <= len(text); size++ {
		var out strings.Builder
		w := s.writer(&out)
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if _, err := w.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.flush(); err != nil || out.String() != want {
			t.Fatalf("pieces of %d: %q, %v", size, out.String(), err)
		}
	}
}

// A key is found as JSON and Python write it, too.
func TestSecretsAsTheyAreSpelled(t *testing.T) {
	odd := "p\"ass\\wörd<&>"
	s := newSecrets(odd)
	for _, spelled := range []string{odd, `p\"ass\\wörd<&>`, `p\"ass\\w\u00f6rd<&>`} {
		if got := string(s.redact([]byte("a " + spelled + " b"))); got != "a [redacted] b" {
			t.Errorf("%s: %s", spelled, got)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// What cannot be stored is dropped, so that who says it is not blocked, and told
// in the end.
func TestErrorsOfTheLogAreKept(t *testing.T) {
	w := newSecrets(key).writer(full{})
	for range 3 {
		if n, err := w.Write([]byte("abc")); n != 3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if err := w.flush(); err == nil || err.Error() != "disk full" {
		t.Errorf("%v", err)
	}
}

// deliver lets a process write to the pipe of a report.
func deliver(t *testing.T, script string) (target string, keep error) {
	t.Helper()
	dir := t.TempDir()
	target = filepath.Join(dir, "not", "yet", "report.json")
	p, out := shell(t, script)
	in, err := receive(filepath.Join(p.dir, reportName), target, newSecrets(key))
	if err != nil {
		t.Fatal(err)
	}
	if end, err := p.run(t.Context()); err != nil || end.code != 0 {
		t.Fatalf("%+v, %v: %s", end, err, out)
	}
	keep = in.keep()
	in.discard()
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(target), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left %q, %v", left, err)
	}
	return target, keep
}

func TestReportComesThroughThePipe(t *testing.T) {
	for name, script := range map[string]string{
		"at once":          `printf '{"key": "` + key + `"}' > report.json`,
		"in parts":         `{ printf '{"key": "sk-01234'; sleep 0.1; printf '56789abcdef"}'; } > report.json`,
		"beside, then put": `printf '{"key": "` + key + `"}' > other && mv other report.json`,
	} {
		target, err := deliver(t, script)
		text, _ := os.ReadFile(target)
		if err != nil || string(text) != `{"key": "[redacted]"}` {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func TestLargeReport(t *testing.T) {
	target, err := deliver(t, `head -c 20000000 /dev/zero | tr '\0' x > report.json`)
	if info, statErr := os.Stat(target); err != nil || statErr != nil || info.Size() != 20_000_000 {
		t.Errorf("%v, %v", err, statErr)
	}
}

func TestNoReport(t *testing.T) {
	for _, script := range []string{"true", ": > report.json"} {
		target, err := deliver(t, script)
		if _, statErr := os.Stat(target); !errors.Is(err, errNoReport) || statErr == nil {
			t.Errorf("%s: %v, %v", script, err, statErr)
		}
	}
}

func TestReportThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(file, "report.json")
	if _, err := receive(filepath.Join(t.TempDir(), "pipe"), target, nil); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), file) {
		t.Errorf("code %d: %v", exit.Code(err), err)
	}
}
