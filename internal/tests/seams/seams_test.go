// Package seams tests which parts of the program may know which others.
package seams

import (
	"os/exec"
	"strings"
	"testing"
)

func imports(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	return strings.Fields(string(out))
}

func TestSeams(t *testing.T) {
	for _, tc := range []struct {
		pkg       string
		forbidden []string
		why       string
	}{
		{"wfgen.dev/cmd/step", []string{"github.com/argoproj/", "k8s.io/", "wfgen.dev/templates"}, "the image of step stays small"},
		{"wfgen.dev/cmd/wfgen", []string{"wfgen.dev/internal/point/driver", "wfgen.dev/internal/point/bench", "wfgen.dev/internal/llm/simulate"}, "wfgen starts step; there is no second code path"},
		{"wfgen.dev/internal/estimate/fit", []string{"net", "net/http", "wfgen.dev/internal/run/store"}, "the mathematics does no I/O"},
		{"wfgen.dev/internal/point/measurement", []string{"net", "net/http", "wfgen.dev/internal/run/store"}, "the reduction does no I/O"},
	} {
		for _, dep := range imports(t, tc.pkg) {
			for _, f := range tc.forbidden {
				if dep == f || strings.HasSuffix(f, "/") && strings.HasPrefix(dep, f) {
					t.Errorf("%s imports %s: %s", tc.pkg, dep, tc.why)
				}
			}
		}
	}
}
