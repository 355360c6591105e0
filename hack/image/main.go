// Command image writes the image of step as an archive, where no container engine
// is at hand. What is in it, and how step is compiled for it, is what the Dockerfile
// says; a test holds the two together.
//
//	go run . -version v1.2.3 -output ../../dist/step-v1.2.3.tar
//
// docker load, podman load, kind load image-archive and ctr -n k8s.io images import
// take the archive. The same source makes the same bytes on every machine.
// The image's name is printed on stdout.
//
// It is a module of its own: a library that reads and writes registries is nothing
// that step or wfgen should be built with.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	version := flags.String("version", "dev", "`VERSION` that step says it has")
	image := flags.String("image", "", "`NAME[:TAG]` of the image; without a tag it is the first twelve digits of the image's digest (default wfgen.dev/step:VERSION)")
	arch := flags.String("arch", runtime.GOARCH, "`GOARCH` of the nodes")
	source := flags.String("source", "../..", "`DIR` of the wfgen.dev module")
	output := flags.String("output", "", "`FILE` to write (default SOURCE/dist/step-VERSION.tar)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *image == "" {
		*image = "wfgen.dev/step:" + *version
	}
	if *output == "" {
		*output = filepath.Join(*source, "dist", "step-"+*version+".tar")
	}
	binary, err := compile(*source, *arch, *version)
	if err != nil {
		return err
	}
	made, err := assemble(binary, *arch, *version)
	if err != nil {
		return err
	}
	reference, err := tag(*image, made)
	if err != nil {
		return err
	}
	if err := write(*output, reference, made); err != nil {
		return err
	}
	fmt.Fprintln(stderr, "wrote", *output)
	_, err = fmt.Fprintln(stdout, reference)
	return err
}

// The contents of the image beside step itself.
const (
	stepPath   = "step"
	rootsPath  = "etc/ssl/certs/ca-certificates.crt"
	user       = "65532:65532"
	entrypoint = "/step"
)

func labels(version string) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "step",
		"org.opencontainers.image.description": "Measures the latency of LLM servers and estimates what their autoscaler needs",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     version,
	}
}

// compiler is how step is compiled for an image: without paths, times and the state
// of the checkout, so that it is the same everywhere.
func compiler(version, output string) []string {
	return []string{"go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X wfgen.dev/internal/cli/stepcli.Version=" + version,
		"-o", output, "./cmd/step"}
}

func compile(source, arch, version string) ([]byte, error) {
	work, err := os.MkdirTemp("", "image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	binary := filepath.Join(work, "step")
	line := compiler(version, binary)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(line, " "), err, out)
	}
	return os.ReadFile(binary)
}

// assemble makes the image: one layer from scratch, and its configuration.
func assemble(binary []byte, arch, version string) (v1.Image, error) {
	layer, err := layerOf(map[string]file{
		stepPath:  {binary, 0o755},
		rootsPath: {roots(), 0o644},
	})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	config.Config = v1.Config{
		User:       user,
		Entrypoint: []string{entrypoint},
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, // as docker sets it
		WorkingDir: "/",
		Labels:     labels(version),
	}
	return mutate.ConfigFile(image, config)
}

type file struct {
	data []byte
	mode int64
}

// layerOf is a layer of files that belong to root, without times, in the order of
// their names, each directory before what is in it.
func layerOf(files map[string]file) (v1.Layer, error) {
	var names []string
	for path := range files {
		for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
			names = append(names, dir+"/")
		}
		names = append(names, path)
	}
	slices.Sort(names)
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for _, path := range slices.Compact(names) {
		h := tar.Header{Name: path, Mode: 0o755, Typeflag: tar.TypeDir, Format: tar.FormatPAX}
		if f, ok := files[path]; ok {
			h.Typeflag, h.Mode, h.Size = tar.TypeReg, f.mode, int64(len(f.data))
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[path].data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data.Bytes())), nil })
}

// roots are the public certificate authorities, which S3 and HTTPS targets need:
// Mozilla's list, of the version in go.mod, so that they do not depend on the machine.
// One that Mozilla trusts only in part cannot be said in this file and is left out.
func roots() []byte {
	var list bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&list, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a Buffer takes all
		}
	}
	return list.Bytes()
}

// tag completes the image's name.
func tag(image string, made v1.Image) (name.Tag, error) {
	if !strings.Contains(image[strings.LastIndex(image, "/")+1:], ":") {
		digest, err := made.Digest()
		if err != nil {
			return name.Tag{}, err
		}
		image += ":" + digest.Hex[:12]
	}
	return name.NewTag(image, name.StrictValidation)
}

// write writes the archive whole or not at all.
func write(path string, reference name.Tag, image v1.Image) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone already when all went well
	err = tarball.Write(reference, image, temporary)
	if err := errors.Join(err, temporary.Chmod(0o644), temporary.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.Rename(temporary.Name(), path)
}
