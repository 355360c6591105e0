package stepcli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"wfgen.dev/internal/estimate/capacity"
	"wfgen.dev/internal/estimate/parameters"
	"wfgen.dev/internal/run/exit"
)

func TestCapacity(t *testing.T) {
	from, out := swept(t, 0.02, "NVIDIA A100"), t.TempDir()
	code, stdout, stderr := step("capacity", from, "--slo", "itl=8ms,p90.ttft=200ms", "--price", "A100=2.5", "--traffic", "100",
		"--mix", "128/128=1,1024/128=1", "--max-num-seqs", "64", "--output", out)
	if code != 0 {
		t.Fatalf("code %d\n%s%s", code, stdout, stderr)
	}
	for line := range strings.Lines(stdout) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, " \n")); n > parameters.Columns {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"one replica within itl=8ms,p90.ttft=200ms", "A100         128/128", "A100         1024/128", "100 requests/s of 50 % 128/128 and 50 % 1024/128 need", "per 1M tokens"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("stdout lacks %q:\n%s", want, stdout)
		}
	}
	file, err := os.Open(filepath.Join(out, "capacity.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f, err := capacity.Decode(file, "capacity.json")
	if err != nil || len(f.Capacities) != 3 || f.Fleet == nil {
		t.Fatalf("%+v, %v", f, err)
	}
	text, err := os.ReadFile(filepath.Join(out, "outputs", "capacity-a100"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := strconv.ParseFloat(string(text), 64); err != nil || got <= 0 || got > f.Capacities[0].Rate.Value {
		t.Errorf("capacity-a100 is %q, the claim %v", text, f.Capacities[0].Rate)
	}

	code, stdout, _ = step("capacity", from+"/summary.json", "--slo", "itl=8ms", "--json")
	var printed capacity.File
	if err := json.Unmarshal([]byte(stdout), &printed); code != 0 || err != nil || printed.Capacities[0].Binding != "itl" {
		t.Errorf("--json: code %d, %v\n%s", code, err, stdout)
	}
	code, _, stderr = step("capacity", from, "--slo", "ttft=1ms")
	if code != exit.Refused || !strings.Contains(stderr, "ttft=1ms: a request that has the server for itself takes") {
		t.Errorf("code %d: %s", code, stderr)
	}
	code, _, stderr = step("capacity", from, "--slo", "itl=8ms", "--price", "A100=2,A1000=3", "--max-num-seqs", "L4=64")
	for _, want := range []string{"--price: left out: A1000 is none of the accelerators, A100", "--max-num-seqs: left out: L4 is none"} {
		if code != 0 || !strings.Contains(stderr, want) {
			t.Errorf("code %d, stderr lacks %q: %s", code, want, stderr)
		}
	}
	code, _, stderr = step("capacity", "--slo", "ttft=1", "--mix", "1/1=1", "--price", "A100=x", "--output-spread", "2", "--max-num-seqs", "0")
	for _, want := range []string{"nothing to read", `"ttft=1"`, "--mix: ", "--price: ", "--output-spread: ", "--max-num-seqs: "} {
		if code != exit.Usage || !strings.Contains(stderr, want) {
			t.Errorf("code %d, stderr lacks %q: %s", code, want, stderr)
		}
	}
}

func TestRenderACapacity(t *testing.T) {
	from, out := swept(t, 0.02, "NVIDIA A100"), t.TempDir()
	if code, _, stderr := step("capacity", from, "--slo", "itl=8ms", "--output", out); code != 0 {
		t.Fatal(stderr)
	}
	code, stdout, stderr := step("render", "--format", "keda", out, "--shape", "128/128", "--scale-target", "vllm", "--metrics", "sglang", "--max-replicas", "3")
	if code != 0 || !strings.Contains(stdout, "kind: ScaledObject") || !strings.Contains(stdout, "maxReplicaCount: 3") || !strings.Contains(stdout, "sglang:num_running_reqs") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	if code, stdout, stderr = step("render", "--format", "router", from, out+"/capacity.json", "--shape", "128/128"); code != 0 || !strings.Contains(stdout, "maxConcurrency") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	if code, _, stderr = step("render", "--format", "ray", from); code != exit.Usage || !strings.Contains(stderr, "none is among the inputs") {
		t.Errorf("code %d: %s", code, stderr)
	}
	if code, _, stderr = step("render", "--format", "ray", out, "--metrics", "x", "--max-replicas", "0"); code != exit.Usage || !strings.Contains(stderr, "--metrics") || !strings.Contains(stderr, "--max-replicas") {
		t.Errorf("code %d: %s", code, stderr)
	}
}
