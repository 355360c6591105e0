package hack

import (
	"bytes"
	"context"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wfgen.dev/internal/cli/wfgencli"
	"wfgen.dev/internal/version"
)

var update = flag.Bool("update", false, "write the manifests again")

// manifests are the files and the command line that makes each.
var manifests = map[string]struct{ line, text string }{
	"vllm-benchmark-deployment.yaml": {
		"servers --accelerators A100 --namespace vllm-test --name vllm-benchmark",
		"A vLLM server that is set up for benchmark-jobs-template.yaml. Another model or GPU: change the line.",
	},
	"benchmark-jobs-template.yaml": {
		"jobs --accelerators A100 --namespace vllm-test --name benchmark",
		"Measures the server of vllm-benchmark-deployment.yaml, one batch size after another, and keeps its parameters in a ConfigMap.",
	},
}

func TestManifests(t *testing.T) {
	// Of the latest release, not of this commit.
	t.Setenv("WFGEN_STEP_IMAGE", version.ImageOf("", version.Latest))
	for file, m := range manifests {
		t.Run(file, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := wfgencli.Run(context.Background(), strings.Fields(m.line), strings.NewReader(""), &stdout, &stderr); code != 0 {
				t.Fatalf("wfgen %s: exit %d: %s", m.line, code, &stderr)
			}
			want := "# " + m.text + "\n# Made by: wfgen " + m.line + "\n" + stdout.String()
			if *update {
				if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Errorf("not what wfgen writes; make generate writes it again:\n%s", diff)
			}
		})
	}
}
