package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// The contents of the image beside step itself.
const (
	stepPath       = "step"
	rootsPath      = "etc/ssl/certs/ca-certificates.crt"
	licensePath    = "licenses/LICENSE"
	thirdPartyPath = "licenses/" + thirdParty
	user           = "65532:65532"
	entrypoint     = "/step"
)

// thirdParty is the name of the file with the licenses of what is linked.
const thirdParty = "THIRD-PARTY-LICENSES.txt"

func labels(version, commit string) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "step",
		"org.opencontainers.image.description": "Measures the latency of LLM servers and estimates what their autoscaler needs",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     version,
		"org.opencontainers.image.revision":    commit,
	}
}

// imageArchive writes the image of one architecture as docker load, podman load, kind
// load image-archive and ctr -n k8s.io images import take it, and prints its name.
func (b build) imageArchive(arch, output string, stdout, stderr io.Writer) error {
	made, err := b.imageFor(arch)
	if err != nil {
		return err
	}
	reference, err := tag(b.image, made)
	if err != nil {
		return err
	}
	if err := writeFile(output, func(w io.Writer) error { return tarball.Write(reference, made, w) }); err != nil {
		return err
	}
	fmt.Fprintln(stderr, "wrote", output)
	_, err = fmt.Fprintln(stdout, reference)
	return err
}

// imageFor compiles step and makes its image.
func (b build) imageFor(arch string) (v1.Image, error) {
	work, err := os.MkdirTemp("", "image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	binary := filepath.Join(work, "step")
	if err := b.compile("step", "linux", arch, binary); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	own, err := os.ReadFile(filepath.Join(b.source, "LICENSE"))
	if err != nil {
		return nil, err
	}
	others, err := b.licenses(binary)
	if err != nil {
		return nil, err
	}
	return b.assemble(arch, map[string]file{
		stepPath:       {data, 0o755},
		rootsPath:      {roots(), 0o644},
		licensePath:    {own, 0o644},
		thirdPartyPath: {others, 0o644},
	})
}

// assemble makes the image: one layer from scratch, and its configuration.
func (b build) assemble(arch string, files map[string]file) (v1.Image, error) {
	layer, err := layerOf(files)
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
		Labels:     labels(b.version, b.commit),
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
	var data bytes.Buffer
	if err := writeTar(&data, files, time.Time{}); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data.Bytes())), nil })
}

// writeTar writes files of root, all of one time, in the order of their names, each
// directory before what is in it.
func writeTar(out io.Writer, files map[string]file, at time.Time) error {
	var names []string
	for path := range files {
		for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
			names = append(names, dir+"/")
		}
		names = append(names, path)
	}
	slices.Sort(names)
	w := tar.NewWriter(out)
	for _, path := range slices.Compact(names) {
		h := tar.Header{Name: path, Mode: 0o755, Typeflag: tar.TypeDir, Format: tar.FormatPAX, ModTime: at}
		if f, ok := files[path]; ok {
			h.Typeflag, h.Mode, h.Size = tar.TypeReg, f.mode, int64(len(f.data))
		}
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := w.Write(files[path].data); err != nil {
			return err
		}
	}
	return w.Close()
}

// imageLayout is the image for all architectures, as the files of an OCI image layout.
func (b build) imageLayout(arches []string) (map[string]file, error) {
	index := v1.ImageIndex(empty.Index)
	for _, arch := range arches {
		image, err := b.imageFor(arch)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	dir, err := os.MkdirTemp("", "layout-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return nil, err
	}
	err = path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          b.image, // for ctr and docker load
		"org.opencontainers.image.ref.name": b.version,
	}))
	if err != nil {
		return nil, err
	}
	return readAll(dir)
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
