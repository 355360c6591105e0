package guidellm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wfgen.dev/internal/run/exit"
)

// tree writes files below a new directory, whose name stands for ROOT in them;
// an empty text makes a directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "venv [1]") // names that a pattern would misread
	for name, text := range files {
		path := filepath.Join(root, name)
		if text == "" {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "ROOT", root)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	started  = "#!/bin/sh\ntouch 'ROOT/started'\nexit 1\n" // tells that it ran
	longPath = "#!/bin/sh\n'''exec' \"ROOT/bin/python3\" \"$0\" \"$@\"\n' '''\ntouch 'ROOT/started'\n"
	quoted   = "#!/bin/sh\n'''exec' 'ROOT/bin/python' \"$0\" \"$@\"\n' '''\ntouch 'ROOT/started'\n"
)

func TestVersionWithoutAStart(t *testing.T) {
	tests := map[string]map[string]string{
		"long path": {"bin/guidellm": longPath, "bin/python3": started, "lib/python3.13/site-packages/guidellm-0.7.3.dist-info": ""},
		"quoted":    {"bin/guidellm": quoted, "bin/python": started, "lib/python3.11/site-packages/guidellm-0.7.3.dist-info/METADATA": "x"},
		"both libs": {"bin/guidellm": quoted, "bin/python": started, "lib/python3.11/site-packages/guidellm-0.7.3.dist-info": "", "lib64/python3.11/site-packages/guidellm-0.7.3.dist-info": ""},
		"others":    {"bin/guidellm": quoted, "bin/python": started, "lib/python3.11/site-packages/guidellm-0.7.3.dist-info": "", "lib/python3.11/site-packages/guidellm_plugin-9.9.9.dist-info": ""},
	}
	for name, files := range tests {
		t.Run(name, func(t *testing.T) {
			root := tree(t, files)
			g, err := Find(filepath.Join(root, "bin", "guidellm"))
			if err != nil || g.Version() != "0.7.3" || g.Name() != "guidellm" {
				t.Errorf("%+v, %v", g, err)
			}
			if _, err := os.Stat(filepath.Join(root, "started")); err == nil {
				t.Error("something was started")
			}
		})
	}
}

// A path without a space stands in the first line itself.
func TestInterpreter(t *testing.T) {
	dir := t.TempDir()
	python := filepath.Join(dir, "python3.12")
	if err := os.WriteFile(python, []byte(started), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for text, want := range map[string]string{
		"#!" + python + "\nimport sys\n":   python,
		"#!" + python + " -I\n":            python,
		"#! /usr/bin/env python3.12\n":     python,
		"#!/usr/bin/env -S python3.12\n":   python,
		"#!" + dir + "/python9\n":          "", // not there
		"#!/bin/bash\nexec python3.12 x\n": "",
		"#!/bin/sh\nexec python3.12 x\n":   "",
		"#!\n":                             "",
		"\x7fELF":                          "",
		"":                                 "",
	} {
		script := filepath.Join(dir, "guidellm")
		if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if got := interpreter(script); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := interpreter(filepath.Join(dir, "none")); got != "" {
		t.Errorf("no script: %q", got)
	}
}

// Where the directories do not tell, the interpreter is asked, and guidellm
// itself last.
func TestVersionByAsking(t *testing.T) {
	const answers = "#!/bin/sh\n[ \"$1\" = -c ] && echo 0.6.1\n"
	tests := map[string]struct {
		files map[string]string
		want  string
	}{
		"no metadata beside it": {map[string]string{"bin/guidellm": quoted, "bin/python": answers}, "0.6.1"},
		"two of them": {map[string]string{"bin/guidellm": quoted, "bin/python": answers,
			"lib/python3.11/site-packages/guidellm-0.7.3.dist-info": "", "lib/python3.9/site-packages/guidellm-0.6.1.dist-info": ""}, "0.6.1"},
		"a wrapper":           {map[string]string{"bin/guidellm": "#!/bin/sh\n[ \"$1\" = --version ] && echo guidellm version: 0.5.4\n"}, "0.5.4"},
		"no such interpreter": {map[string]string{"bin/guidellm": "#!/bin/sh\n[ \"$1\" = --version ] || echo 9.9\necho guidellm, version 0.8.0.dev3+gabc123\n"}, "0.8.0.dev3+gabc123"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g, err := Find(filepath.Join(tree(t, test.files), "bin", "guidellm"))
			if err != nil || g.Version() != test.want {
				t.Errorf("%+v, %v", g, err)
			}
		})
	}
}

func TestFindRefuses(t *testing.T) {
	tests := map[string]struct{ script, says string }{
		"not guidellm": {"#!/bin/sh\necho hello\n", "hello"},
		"broken":       {"#!/bin/sh\necho 'ModuleNotFoundError: guidellm' >&2\nexit 1\n", "ModuleNotFoundError"},
		"too old":      {"#!/bin/sh\necho 0.1.0\n", "too old"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Find(filepath.Join(tree(t, map[string]string{"bin/guidellm": test.script}), "bin", "guidellm"))
			if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), test.says) {
				t.Errorf("code %d: %v", exit.Code(err), err)
			}
		})
	}
	t.Setenv("PATH", t.TempDir())
	for _, binary := range []string{"", "/no/such/guidellm", "guidellm"} {
		_, err := Find(binary)
		if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "PATH") && !strings.Contains(err.Error(), binary) {
			t.Errorf("%q: code %d: %v", binary, exit.Code(err), err)
		}
	}
	_, err := Find("")
	for _, part := range []string{os.Getenv("PATH"), "/opt/app-root/bin/guidellm", "native"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}

func TestFindOnPath(t *testing.T) {
	root := tree(t, map[string]string{"bin/guidellm": quoted, "bin/python": started, "lib/python3.11/site-packages/guidellm-0.3.1.dist-info": ""})
	t.Setenv("PATH", filepath.Join(root, "bin"))
	g, err := Find("")
	if err != nil || g.Version() != "0.3.1" || g.binary != filepath.Join(root, "bin", "guidellm") {
		t.Errorf("%+v, %v", g, err)
	}
}
