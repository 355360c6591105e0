package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// A release made twice, from two copies of the source in different places, has the same
// bytes; and its programs, image and papers are what they should be.
func TestRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles both programs for four platforms, twice")
	}
	const version, commit = "1234567890ab", "1234567890abcdef1234567890abcdef12345678"
	released := func(source string) string {
		dir := filepath.Join(t.TempDir(), "dist")
		var stderr bytes.Buffer
		if err := run([]string{"all", "-version", version, "-commit", commit, "-registry", "ghcr.io/somebody",
			"-image", "ghcr.io/somebody/step:" + version, "-time", "1700000000", "-source", source, "-output", dir}, io.Discard, &stderr); err != nil {
			t.Fatalf("%v\n%s", err, &stderr)
		}
		return dir
	}
	one := released("../..")
	two := released(copyOf(t, "../.."))
	sums, err1 := os.ReadFile(filepath.Join(one, "SHA256SUMS"))
	again, err2 := os.ReadFile(filepath.Join(two, "SHA256SUMS"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(sums), string(again)); diff != "" {
		t.Errorf("two runs made different bytes:\n%s", diff)
	}
	check := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = one
	if out, err := check.CombinedOutput(); err != nil || bytes.Count(out, []byte(": OK")) != 7 {
		t.Errorf("%v: %s", err, out)
	}

	for _, p := range platforms {
		name := "wfgen_" + version + "_" + p.os + "_" + p.arch
		files := unpack(t, filepath.Join(one, name+".tar.gz"))
		var got []string
		for path := range files {
			got = append(got, strings.TrimPrefix(path, name+"/"))
		}
		slices.Sort(got)
		want := []string{"CHANGELOG.md", "LICENSE", "README.md", "THIRD-PARTY-LICENSES.txt", "step", "step.cdx.json", "wfgen", "wfgen.cdx.json"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		for _, program := range programs {
			data := files[name+"/"+program]
			machine(t, data, p.os, p.arch)
			info, err := buildinfo.Read(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			var bill struct {
				Components []struct {
					Name, Version, Purl string
					Evidence            struct{ Licenses []any }
				}
			}
			if err := json.Unmarshal(files[name+"/"+program+".cdx.json"], &bill); err != nil {
				t.Fatal(err)
			}
			if len(bill.Components) != len(info.Deps)+1 { // and Go's own
				t.Errorf("%s: %d modules in the bill, %d and Go in the program", program, len(bill.Components), len(info.Deps))
			}
			for _, c := range bill.Components {
				if c.Name == "std" {
					continue
				}
				if !bytes.Contains(files[name+"/"+thirdParty], []byte(c.Name+"@"+c.Version+", ")) {
					t.Errorf("%s: the licenses miss %s %s", program, c.Name, c.Version)
				}
				if len(c.Evidence.Licenses) == 0 {
					t.Errorf("%s: the bill has no license of %s", program, c.Name)
				}
				if c.Purl != "pkg:golang/"+c.Name+"@"+c.Version {
					t.Errorf("%s: the bill names %s", program, c.Purl)
				}
			}
			if p.os == runtime.GOOS && p.arch == runtime.GOARCH {
				saysItsVersion(t, data, program+" version "+version+"\n")
			}
		}
	}
	multiArchitecture(t, filepath.Join(one, "step-image_"+version+".oci.tar"), "ghcr.io/somebody/step:"+version)
}

// copyOf is a copy of the source, without its history, elsewhere.
func copyOf(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"cmd", "internal", "templates", "hack", "go.mod", "go.sum", "LICENSE", "README.md", "CHANGELOG.md"} {
		if out, err := exec.Command("cp", "-r", filepath.Join(source, name), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return dir
}

func unpack(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := io.Reader(f)
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
		if program := slices.Contains(programs, filepath.Base(h.Name)); program != (h.Mode == 0o755) || h.ModTime.Unix() != 1700000000 {
			t.Errorf("%s: mode %o, of %s", h.Name, h.Mode, h.ModTime)
		}
	}
}

// machine checks what a program is for by its header.
func machine(t *testing.T, data []byte, goos, goarch string) {
	t.Helper()
	var got string
	switch goos {
	case "linux":
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		got = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[f.Machine]
		if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 {
			t.Errorf("needs libraries: %v, %v", libraries, err)
		}
	case "darwin":
		f, err := macho.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		got = map[macho.Cpu]string{macho.CpuAmd64: "amd64", macho.CpuArm64: "arm64"}[f.Cpu]
	}
	if got != goarch {
		t.Errorf("a program of %s/%s is for %q", goos, goarch, got)
	}
}

func saysItsVersion(t *testing.T, program []byte, want string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "--version").CombinedOutput()
	if err != nil || string(out) != want {
		t.Errorf("--version says %q, want %q (%v)", out, want, err)
	}
}

func multiArchitecture(t *testing.T, path, name string) {
	t.Helper()
	dir := t.TempDir()
	for file, data := range unpack(t, path) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := top.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(outer.Manifests) != 1 || outer.Manifests[0].Annotations["io.containerd.image.name"] != name {
		t.Fatalf("manifests %+v", outer.Manifests)
	}
	index, err := top.ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range manifest.Manifests {
		got = append(got, m.Platform.String())
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if config := configOf(t, image); config.Architecture != m.Platform.Architecture {
			t.Errorf("the image for %s is for %s", m.Platform, config.Architecture)
		}
		if files, _ := contentsOf(t, image); len(files[stepPath]) == 0 || len(files[thirdPartyPath]) == 0 {
			t.Errorf("the image for %s lacks step or its licenses", m.Platform)
		}
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, got); diff != "" {
		t.Error(diff)
	}
}
