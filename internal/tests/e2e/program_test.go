//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// programImage gives the nodes an image with nothing but a program of this module in it,
// and returns its name.
func (n *namespace) programImage(name string) string {
	n.t.Helper()
	work := n.t.TempDir()
	binary := filepath.Join(work, name)
	if out, err := command(n.t.Context(), "", "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./"+name); err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		n.t.Fatal(err)
	}
	archive := func(files ...any) []byte { // names and contents
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		for i := 0; i < len(files); i += 2 {
			data := files[i+1].([]byte)
			if err := w.WriteHeader(&tar.Header{Name: files[i].(string), Mode: 0o755, Size: int64(len(data))}); err != nil {
				n.t.Fatal(err)
			}
			if _, err := w.Write(data); err != nil {
				n.t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			n.t.Fatal(err)
		}
		return out.Bytes()
	}
	object := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			n.t.Fatal(err)
		}
		return data
	}
	layer := archive(name, program)
	image := fmt.Sprintf("wfgen.dev/e2e-%s:%.12x", name, sha256.Sum256(layer))
	file := filepath.Join(work, "image.tar")
	err = os.WriteFile(file, archive(
		"manifest.json", object([]any{map[string]any{"Config": "config.json", "RepoTags": []string{image}, "Layers": []string{"layer.tar"}}}),
		"config.json", object(map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{"Entrypoint": []string{"/" + name}, "User": "65532:65532"},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}}}),
		"layer.tar", layer), 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	if out, err := command(n.t.Context(), "", filepath.Join(root, "hack", "load-image"), file); err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
	return image
}
