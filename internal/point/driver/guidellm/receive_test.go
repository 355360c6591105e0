package guidellm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wfgen.dev/internal/redact"
	"wfgen.dev/internal/run/exit"
)

const key = "sk-0123456789abcdef"

// deliver lets a process write to the pipe of a report.
func deliver(t *testing.T, script string) (target string, keep error) {
	t.Helper()
	dir := t.TempDir()
	target = filepath.Join(dir, "not", "yet", "report.json")
	p, out := shell(t, script)
	in, err := receive(filepath.Join(p.dir, reportName), target, redact.Of(key))
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
		if err != nil || string(text) != `{"key": "***"}` {
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
	if _, err := receive(filepath.Join(t.TempDir(), "pipe"), target, redact.Secrets{}); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), file) {
		t.Errorf("code %d: %v", exit.Code(err), err)
	}
}
