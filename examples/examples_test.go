package examples

import (
	"bytes"
	"context"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"wfgen.dev/internal/cli/wfgencli"
	"wfgen.dev/internal/version"
)

var update = flag.Bool("update", false, "write the examples again")

// examples are the directories and the command line that makes each.
var examples = map[string]string{
	"minimal":                "--accelerators A100,H100 --output minimal/sweep.yaml",
	"fleet-with-shapes":      "--config fleet-with-shapes/wfgen.yaml --format dir --output fleet-with-shapes",
	"capacity":               "--config capacity/wfgen.yaml --format dir --output capacity",
	"cron":                   "--config cron/wfgen.yaml --format dir --output cron",
	"cluster-load-generator": "--config cluster-load-generator/wfgen.yaml --format dir --output cluster-load-generator",
	"deploy":                 "--config deploy/wfgen.yaml --format dir --output deploy",
	"claims":                 "--config claims/wfgen.yaml --format dir --output claims",
	"precision":              "--config precision/wfgen.yaml --format dir --output precision",
	"s3-irsa":                "--config s3-irsa/wfgen.yaml --format dir --output s3-irsa",
}

// written by hand, beside what wfgen writes.
const (
	configuration = "wfgen.yaml"
	triggers      = "triggers" // what starts a sweep; hack/argoevents holds it against Argo Events
)

func TestExamples(t *testing.T) {
	// Of the latest release, not of this commit.
	t.Setenv("WFGEN_STEP_IMAGE", version.ImageOf("", version.Latest))
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for dir, line := range examples {
		t.Run(dir, func(t *testing.T) {
			if !bytes.Contains(readme, []byte("wfgen "+line)) {
				t.Errorf("README.md does not say how it is made: wfgen %s", line)
			}
			if *update {
				for name := range files(t, dir) {
					if name != configuration {
						if err := os.Remove(filepath.Join(dir, name)); err != nil {
							t.Fatal(err)
						}
					}
				}
				generate(t, line)
			}
			made := filepath.Join(t.TempDir(), dir)
			if err := os.Mkdir(made, 0o755); err != nil {
				t.Fatal(err)
			}
			generate(t, strings.Replace(line, "--output "+dir, "--output "+made, 1))
			got, want := files(t, made), files(t, dir)
			delete(want, configuration)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("not what wfgen writes; make generate writes it again (-example +wfgen):\n%s", diff)
			}
		})
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, known := examples[e.Name()]; e.IsDir() && !known && e.Name() != triggers {
			t.Errorf("nothing makes %s", e.Name())
		}
	}
}

// What starts the sweep of examples/cron names it, and is what Argo knows.
func TestEventBinding(t *testing.T) {
	data, err := os.ReadFile(triggers + "/workfloweventbinding.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var binding wfv1.WorkflowEventBinding
	if err := yaml.UnmarshalStrict(data, &binding); err != nil {
		t.Fatal(err)
	}
	sweep, err := os.ReadFile("cron/workflowtemplate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var nightly wfv1.WorkflowTemplate
	if err := yaml.Unmarshal(sweep, &nightly); err != nil {
		t.Fatal(err)
	}
	if submit := binding.Spec.Submit; submit.WorkflowTemplateRef.Name != nightly.Name || binding.Namespace != nightly.Namespace {
		t.Errorf("%s in %s starts %s, the sweep is %s in %s", binding.Name, binding.Namespace, submit.WorkflowTemplateRef.Name, nightly.Name, nightly.Namespace)
	}
}

func generate(t *testing.T, line string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := wfgencli.Run(context.Background(), strings.Fields(line), strings.NewReader(""), &stdout, &stderr); code != 0 {
		t.Fatalf("wfgen %s: exit %d: %s", line, code, &stderr)
	}
	if stdout.Len() > 0 {
		t.Errorf("wfgen %s: writes to stdout as well", line)
	}
}

// files are the contents of a directory, by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	contents := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		contents[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return contents
}
