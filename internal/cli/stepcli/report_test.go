package stepcli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	sweep := unpack(t, "v0.7.3-concurrent-sweep.json")
	run := t.TempDir()
	if code, _, stderr := step("aggregate", sweep, "--accelerator", "A100", "--output", run); code != 0 {
		t.Fatalf("code %d: %s", code, stderr)
	}
	made, err := os.ReadFile(filepath.Join(run, "report", "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "new", "monday.html")
	if code, stdout, stderr := step("report", run, "--output", file, "--compare", run); code != 0 || stdout+stderr != "" {
		t.Fatalf("code %d: %s%s", code, stdout, stderr)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []string{string(made), string(page)} {
		for _, want := range []string{"<!DOCTYPE html>", "Latency parameters of mock-model", "ITL over the batch size", "A100"} {
			if !strings.Contains(of, want) {
				t.Errorf("the page does not say %q", want)
			}
		}
	}
	// The run's own knows the raw report, and so how requests are distributed.
	for of, holds := range map[string]bool{string(made): true, string(page): false} {
		if strings.Contains(of, "ITL among requests") != holds {
			t.Errorf("distribution among requests: want %t", holds)
		}
	}
	if !strings.Contains(string(page), "What changed since "+run) || strings.Contains(string(made), "What changed") {
		t.Error("what changed is not where it was asked for alone")
	}

	for format, want := range map[string]string{"markdown": "| A100 | warned |", "text": "ITL = alpha + beta*batch", "html": "</html>"} {
		if code, stdout, stderr := step("report", sweep, "--accelerator", "A100", "--format", format); code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%s: code %d, %s%s", format, code, stdout, stderr)
		}
	}
	// What was published is shown as it is, also where measurements could say it again.
	if code, stdout, stderr := step("report", sweep, run, "--accelerator", "A100", "--format", "markdown"); code != 0 || strings.Count(stdout, "| A100 |") != 1 {
		t.Errorf("code %d, %s%s", code, stdout, stderr)
	}
	for want, args := range map[string][]string{
		"--format":            {"report", run, "--format", "pdf"},
		"nothing to read":     {"report"},
		"--band":              {"report", run, "--band", "much"},
		"--compare: a report": {"report", run, "--format", "text", "--compare", run},
		"no such file":        {"report", filepath.Join(run, "absent")},
		"names no object":     {"report", run, "--output", "s3://bucket/prefix"},
	} {
		if code, _, stderr := step(args...); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%q: code %d, %s", args, code, stderr)
		}
	}
	if code, _, stderr := step("report", t.TempDir()); code != 65 || !strings.Contains(stderr, "no measurement") {
		t.Errorf("nothing: code %d, %s", code, stderr)
	}
}
