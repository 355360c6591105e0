package seams

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// wings are the folders of the tree, each of which may import those before it, and none
// after it: who knows more stands further down.
var wings = [][]string{
	{"internal/redact", "internal/version"},
	{"internal/sweep"},   // what to measure
	{"internal/run"},     // how it runs: the contract, files, exit codes
	{"internal/cluster"}, // what runs in a cluster
	{"internal/llm"},     // the server under test
	{"internal/point"},   // one point
	{"internal/estimate", "internal/local", "templates"}, // what comes of points; who asks for them
	{"internal/cli"},
	{"cmd", "hack"},
}

// Arrows between folders run one way, so that a folder can be read with those above it
// and without those below.
func TestWings(t *testing.T) {
	const module = "wfgen.dev/"
	floor := map[string]int{}
	for i, names := range wings {
		for _, name := range names {
			floor[name] = i
		}
	}
	wing := func(pkg string) (string, bool) {
		parts := strings.Split(strings.TrimPrefix(pkg, module), "/")
		if parts[0] == "internal" && len(parts) > 1 {
			parts = parts[:2]
		} else {
			parts = parts[:1]
		}
		name := strings.Join(parts, "/")
		_, known := floor[name]
		return name, known
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		pkgs := slices.DeleteFunc(strings.Fields(line), func(pkg string) bool { return !strings.HasPrefix(pkg, module) })
		from, known := wing(pkgs[0])
		if strings.HasPrefix(pkgs[0], module+"internal/tests/") || pkgs[0] == module+"examples" {
			continue // tests only
		}
		if !known {
			t.Errorf("%s: say in wings between which folders it stands", pkgs[0])
			continue
		}
		seen[from] = true
		for _, pkg := range pkgs[1:] {
			if to, _ := wing(pkg); to != from && floor[to] >= floor[from] {
				t.Errorf("%s imports %s: %s stands beside or below %s; move what both need up, or the one that knows more down", pkgs[0], pkg, to, from)
			}
		}
	}
	for name := range floor {
		if !seen[name] {
			t.Errorf("%s: no package of it was looked at", name)
		}
	}
}
