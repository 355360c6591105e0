package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// archive writes the archive of an image and returns its path and the name of its image.
func archive(t *testing.T, args ...string) (path, image string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "out", "step.tar")
	var stdout, stderr bytes.Buffer
	args = append([]string{"image", "-image", "wfgen.dev/step:v1", "-output", path}, args...)
	if err := run(args, &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	return path, strings.TrimSpace(stdout.String())
}

func TestSameSourceSameArchive(t *testing.T) {
	one, image := archive(t, "-version", "v1")
	two, _ := archive(t, "-version", "v1")
	a, err1 := os.ReadFile(one)
	b, err2 := os.ReadFile(two)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("two runs made different archives")
	}
	if len(a) >= 30<<20 {
		t.Errorf("%d bytes, expected less than 30 MB", len(a))
	}
	if image != "wfgen.dev/step:v1" {
		t.Errorf("image %q", image)
	}
	if entries, err := os.ReadDir(filepath.Dir(one)); err != nil || len(entries) != 1 {
		t.Errorf("left beside the archive: %v, %v", entries, err)
	}
}

// A name without a tag gets one that tells contents apart.
func TestTagOfTheContents(t *testing.T) {
	_, one := archive(t, "-version", "v1", "-image", "localhost:5000/step")
	_, two := archive(t, "-version", "v2", "-image", "localhost:5000/step")
	if one == two || !regexp.MustCompile(`^localhost:5000/step:[0-9a-f]{12}$`).MatchString(one) {
		t.Errorf("%q and %q", one, two)
	}
}

func TestContents(t *testing.T) {
	path, _ := archive(t, "-version", "v1")
	image, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	config := configOf(t, image)
	if config.OS != "linux" || config.Architecture != runtime.GOARCH {
		t.Errorf("for %s/%s", config.OS, config.Architecture)
	}
	data, modes := contentsOf(t, image)
	if len(modes) != 8 || modes["step"] != 0o755 || modes[rootsPath] != 0o644 {
		t.Errorf("files %v", modes)
	}
	if !bytes.Contains(data["step"], []byte("ELF")) || !bytes.Contains(data["step"], []byte("v1")) {
		t.Error("step is no program of this version")
	}
	if !bytes.Contains(data[licensePath], []byte("Apache License")) || !bytes.Contains(data[thirdPartyPath], []byte("gonum.org/v1/gonum@")) {
		t.Error("no licenses")
	}
	if pool := x509.NewCertPool(); !pool.AppendCertsFromPEM(data[rootsPath]) {
		t.Error("no certificate authorities")
	}
}

// contentsOf are the files of an image, directories included, and their modes.
func contentsOf(t *testing.T, image v1.Image) (data map[string][]byte, modes map[string]int64) {
	t.Helper()
	data, modes = map[string][]byte{}, map[string]int64{}
	contents := mutate.Extract(image)
	defer contents.Close()
	for r := tar.NewReader(contents); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return data, modes
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s belongs to %d:%d", h.Name, h.Uid, h.Gid)
		}
		modes[h.Name] = h.Mode
		if data[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func configOf(t *testing.T, image v1.Image) *v1.ConfigFile {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// The archive and the Dockerfile describe one image.
func TestAsTheDockerfileSays(t *testing.T) {
	b := build{version: "$VERSION", commit: "$COMMIT", registry: "$REGISTRY"}
	image, err := b.assemble("amd64", map[string]file{"step": {[]byte("step"), 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	config := configOf(t, image).Config
	want := []string{"FROM scratch", "ARG VERSION=dev COMMIT"}
	label := "LABEL"
	for _, name := range []string{"title", "description", "licenses", "version", "revision"} {
		key := "org.opencontainers.image." + name
		label += " " + key + `="` + config.Labels[key] + `"`
	}
	if len(config.Labels) != 5 {
		t.Errorf("labels %v: compare them all", config.Labels)
	}
	want = append(want, label,
		"COPY --from=build /"+rootsPath+" /"+rootsPath,
		"COPY --from=build /step /"+stepPath,
		"COPY LICENSE /"+licensePath,
		"COPY --from=build /"+thirdParty+" /"+thirdPartyPath,
		"USER "+config.User,
		`ENTRYPOINT ["`+strings.Join(config.Entrypoint, `", "`)+`"]`)

	instructions := dockerfile(t)
	from := 0
	for i, line := range instructions {
		if strings.HasPrefix(line, "FROM ") {
			from = i
		}
	}
	if got := strings.Join(instructions[from:], "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the Dockerfile's image:\n%s\nthe archive's:\n%s", got, strings.Join(want, "\n"))
	}

	line := b.compiler("step", "/step")
	for i, arg := range line {
		if strings.Contains(arg, " ") {
			line[i] = `"` + arg + `"`
		}
	}
	run := "RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH " + strings.Join(line, " ")
	licenses := "RUN " + strings.Join(licensesTool, " ") + " /step > /" + thirdParty
	if got := instructions[from-2 : from]; got[0] != run || got[1] != licenses {
		t.Errorf("the Dockerfile runs:\n%s\nthis:\n%s\n%s", strings.Join(got, "\n"), run, licenses)
	}
}

// dockerfile returns the instructions of the Dockerfile, one a line, without comments.
func dockerfile(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	joined := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(string(text), "")
	var lines []string
	for line := range strings.Lines(joined) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	return lines
}

func TestMistakes(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "SHA256SUMS"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for says, args := range map[string][]string{
		"expected image or all":           {"none"},
		"unexpected argument":             {"image", "-image", "wfgen.dev/step:v1", "step.tar"},
		"-image and -output":              {"image"},
		"tag can only contain":            {"image", "-image", "wfgen.dev/step:not a tag"},
		"unsupported GOOS/GOARCH":         {"image", "-image", "wfgen.dev/step:v1", "-arch", "abacus"},
		"directory":                       {"image", "-image", "wfgen.dev/step:v1", "-source", t.TempDir() + "/none"},
		"flag provided but not defin":     {"image", "-none"},
		"does not begin with v9.9.9":      {"all", "-image", "wfgen.dev/step:v9.9.9", "-version", "v9.9.9"},
		full + " is not empty; a release": {"all", "-image", "wfgen.dev/step:dev", "-output", full},
	} {
		var stderr bytes.Buffer
		args := append([]string{args[0], "-output", filepath.Join(t.TempDir(), "x.tar")}, args[1:]...)
		err := run(args, io.Discard, &stderr)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
