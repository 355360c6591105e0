package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"pgregory.net/rapid"

	"wfgen.dev/internal/cluster/manifest"
	"wfgen.dev/internal/sweep/config"
	"wfgen.dev/internal/sweep/config/configtest"
	"wfgen.dev/templates"
)

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard)
	os.Exit(m.Run())
}

func stream(t interface{ Fatal(...any) }, c config.Config) []byte {
	var out bytes.Buffer
	for _, o := range templates.Objects(c) {
		data, err := manifest.YAML(o.Value, o.Comments...)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "---\n%s", data)
	}
	return out.Bytes()
}

// Argo's linter has nothing to say about any valid configuration.
func TestAnyConfigurationIsClean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := stream(t, configtest.Draw(6).Draw(t, "configuration"))
		if err := run([]string{"-"}, bytes.NewReader(data), io.Discard); err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
	})
}

func TestLargeFleetIsClean(t *testing.T) {
	c := config.Default().InCluster()
	for i := range 1000 {
		c.Accelerators = append(c.Accelerators, config.Accelerator{Name: fmt.Sprintf("Accelerator-%d", i)})
	}
	if err := run([]string{"-"}, bytes.NewReader(stream(t, c)), io.Discard); err != nil {
		t.Error(err)
	}
}

func TestExamplesAreClean(t *testing.T) {
	var out bytes.Buffer
	if err := run([]string{"../../examples"}, nil, &out); err != nil {
		t.Error(err)
	}
	if n := strings.Count(out.String(), "objects"); n < 5 {
		t.Errorf("%d examples:\n%s", n, &out)
	}
}

// What is wrong is found, by the linter or by the limits.
func TestMistakesAreFound(t *testing.T) {
	c := config.Default().InCluster()
	c.Accelerators = []config.Accelerator{{Name: "A100"}}
	c.Cron = []string{"0 3 * * 0"}
	good := string(stream(t, c))
	for _, test := range []struct{ old, new, want string }{
		{"template: wait", "template: wiat", "wiat"},
		{"entrypoint: sweep", "entrypoint: sweep\n  onexit: sweep", "onexit"},
		{"{{inputs.parameters.batch-size}}", "{{inputs.parameters.batchsize}}", "batchsize"},
		{"depends: wait", "depends: wiat", "wiat"},
		{"realtime: false", "operation: Set", "realtime is required"},
		{"- name: a100", "- name: 1a100", "starts with a digit"},
		{"  schedules:\n  - 0 3 * * 0", "  schedule: 0 3 * * 0", "singular schedule"},
		{"0 3 * * 0", "0 3 * *", "cron"},
	} {
		bad := strings.Replace(good, test.old, test.new, 1)
		if bad == good {
			t.Errorf("nothing to replace for %q", test.old)
		}
		if err := run([]string{"-"}, strings.NewReader(bad), io.Discard); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.new, err, test.want)
		}
	}
	if err := run([]string{"-"}, strings.NewReader(good), io.Discard); err != nil {
		t.Error(err)
	}
}

func TestNothingToLint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(file, []byte("kind: ConfigMap\napiVersion: v1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, paths := range [][]string{nil, {file}, {filepath.Dir(file)}, {file + ".absent"}} {
		if err := run(paths, nil, io.Discard); err == nil {
			t.Errorf("%v: no error", paths)
		}
	}
}
