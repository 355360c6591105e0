package stepcli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wfgen.dev/internal/point/measurement"
	"wfgen.dev/internal/point/report/reporttest"
	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/version"
)

const reports = "../../point/report/testdata/"

// unpack puts a packed report where step can read it.
func unpack(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, reporttest.Unpacked(t, name), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// runMeasure runs step measure and returns its code, stdout and stderr.
func runMeasure(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, words bytes.Buffer
	code = Run(context.Background(), append([]string{"measure"}, args...), strings.NewReader(stdin), &out, &words)
	return code, out.String(), words.String()
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestMeasure(t *testing.T) {
	out := t.TempDir()
	code, stdout, stderr := runMeasure("", reports+"worked-example/synchronous.json", reports+"worked-example/throughput.json", "--accelerator", "org/A100", "--output", out)
	if code != exit.Done {
		t.Fatalf("code %d: %s", code, stderr)
	}
	for _, want := range []string{"128/128", "7.000", "8.700", "15.000", "26.000", "20352"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the table lacks %s:\n%s", want, stdout)
		}
	}
	if !strings.Contains(stderr, "throughput.json, batch 64: a throughput run sends as much as it can") {
		t.Errorf("stderr: %s", stderr)
	}
	want := []string{"org--A100/measurements/128-128-b1.json", "org--A100/measurements/128-128-b64.json"}
	if got := files(t, out); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Fatalf("wrote %q, want %q", got, want)
	}
	f, err := os.Open(filepath.Join(out, want[1]))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := measurement.Decode(f, want[1])
	if err != nil {
		t.Fatal(err)
	}
	if m.Accelerator != "org/A100" || m.Taken.ITL.MS != 8.7 || m.Provenance.Tool != "step "+version.Version() || !strings.HasSuffix(m.Provenance.Report, "throughput.json") {
		t.Errorf("%+v", m)
	}
}

func TestMeasureJSON(t *testing.T) {
	data, err := os.ReadFile(reports + "worked-example/synchronous.json")
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := runMeasure(string(data), "--format", "json", "--model", "alias", "-")
	var all []measurement.Measurement
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || code != exit.Done {
		t.Fatalf("code %d: %v\n%s%s", code, err, stdout, stderr)
	}
	if len(all) != 1 || all[0].Model != "alias" || all[0].Provenance.Report != "stdin" {
		t.Errorf("%+v", all)
	}
}

// TestMeasureKeepsTheUsable: one bad report does not spoil the others.
func TestMeasureKeepsTheUsable(t *testing.T) {
	out := t.TempDir()
	bad := unpack(t, "v0.7.3-all500.json")
	code, stdout, stderr := runMeasure("{", "--accelerator", "A100", "--output", out, bad, reports+"worked-example/synchronous.json", "-")
	if code != exit.Done {
		t.Fatalf("code %d: %s", code, stderr)
	}
	for _, want := range []string{"v0.7.3-all500.json, batch 2: void: none of 6 requests succeeded: HTTP 500", "stdin: is cut off at byte 1"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, stderr)
		}
	}
	if !strings.Contains(stdout, "void") {
		t.Errorf("the table hides the void point:\n%s", stdout)
	}
	if got := files(t, out); len(got) != 1 || got[0] != "A100/measurements/128-128-b1.json" {
		t.Errorf("wrote %q", got)
	}
}

// TestMeasureOpenLoop: an open loop has a place of its own, whatever batch it made.
func TestMeasureOpenLoop(t *testing.T) {
	out := t.TempDir()
	closed, open := unpack(t, "tools/vllm-0.32.0/det-4.json"), filepath.Dir(unpack(t, "tools/aiperf-0.13.0/rate/profile_export.jsonl"))
	if err := os.Rename(unpack(t, "tools/aiperf-0.13.0/rate/profile_export_aiperf.json"), filepath.Join(open, "profile_export_aiperf.json")); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := runMeasure("", "--accelerator", "A100", "--output", out, closed, open); code != exit.Done {
		t.Fatalf("code %d: %s", code, stderr)
	}
	want := "A100/check/64-32-rate-8/measurement.json A100/measurements/64-32-b4.json"
	if got := strings.Join(files(t, out), " "); got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func TestMeasureFromLog(t *testing.T) {
	code, stdout, stderr := runMeasure("", "--from-log", "--accelerator", "A100", reports+"v0.3.1-console-80-columns.log")
	if code != exit.Done || !strings.Contains(stdout, "24.300") || !strings.Contains(stderr, "one decimal") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
}

func TestMeasureRefuses(t *testing.T) {
	example := reports + "worked-example/synchronous.json"
	notoken, again := unpack(t, "v0.7.3-notoken.json"), unpack(t, "v0.4.0-concurrent-sweep.json")
	for name, test := range map[string]struct {
		args  []string
		stdin string
		code  int
		want  []string
	}{
		"nothing":       {nil, "", exit.Usage, []string{"no report given"}},
		"flags":         {[]string{"--shape", "1", "--batch-size", "0", "--format", "xml", example}, "", exit.Usage, []string{"--shape", "--batch-size: 0", `--format: "xml"`}},
		"stdin twice":   {[]string{"-", "-"}, "", exit.Usage, []string{"stdin is given twice"}},
		"no file":       {[]string{"/nowhere/r.json"}, "", exit.Usage, []string{"/nowhere/r.json"}},
		"one of many":   {[]string{"/nowhere/r.json", example}, "", exit.Usage, []string{"/nowhere/r.json", "1 of 2 reports could not be read"}},
		"no report":     {[]string{t.TempDir()}, "", exit.Refused, []string{"no report in"}},
		"empty":         {[]string{"-"}, " \n", exit.Refused, []string{"stdin: is empty"}},
		"no tokens":     {[]string{notoken}, "", exit.Refused, []string{"successful without an output token x6", "no usable measurement"}},
		"console log":   {[]string{reports + "v0.3.1-console.log"}, "", exit.Refused, []string{"--from-log"}},
		"later log":     {[]string{"--from-log", reports + "v0.7.3-console.log"}, "", exit.Refused, []string{"medians"}},
		"no names":      {[]string{"--output", "OUT", again}, "", exit.Usage, []string{"model: missing; give it with --model", "accelerator: missing; give it with --accelerator"}},
		"same point":    {[]string{"--output", "OUT", "--accelerator", "A", example, example}, "", exit.Usage, []string{"would overwrite each other"}},
		"foreign store": {[]string{"--output", "gs://bucket", example}, "", exit.Usage, []string{"gs:// is not supported"}},
	} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			for i := range test.args {
				if test.args[i] == "OUT" {
					test.args[i] = out
				}
			}
			code, _, stderr := runMeasure(test.stdin, test.args...)
			if code != test.code {
				t.Errorf("code %d, want %d: %s", code, test.code, stderr)
			}
			for _, want := range test.want {
				if strings.Count(stderr, want) != 1 {
					t.Errorf("stderr does not hold %q once:\n%s", want, stderr)
				}
			}
			if got := files(t, out); len(got) > 0 {
				t.Errorf("wrote %q", got)
			}
		})
	}
}
