package main

import (
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// platforms are what the programs are released for; the image is for those of linux.
var platforms = []struct{ os, arch string }{
	{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"},
}

// programs of an archive.
var programs = []string{"wfgen", "step"}

// release writes a whole release into an empty or new directory.
func (b build) release(dir string, stderr io.Writer) error {
	if err := b.checkChangelog(); err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty; a release is made in a directory of its own", dir)
	}
	var written []string
	put := func(name string, write func(io.Writer) error) error {
		if err := writeFile(filepath.Join(dir, name), write); err != nil {
			return err
		}
		fmt.Fprintln(stderr, "wrote", filepath.Join(dir, name))
		written = append(written, name)
		return nil
	}
	var arches []string
	for _, p := range platforms {
		files, err := b.archive(p.os, p.arch)
		if err != nil {
			return err
		}
		name := b.archiveName(p.os, p.arch)
		top := map[string]file{}
		for path, f := range files {
			top[name+"/"+path] = f
		}
		err = put(name+".tar.gz", func(w io.Writer) error {
			z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
			if err != nil {
				return err
			}
			if err := writeTar(z, top, b.time); err != nil {
				return err
			}
			return z.Close()
		})
		if err != nil {
			return err
		}
		if p.os == "linux" {
			arches = append(arches, p.arch)
			// The bill of the image is that of its program.
			if err := put(fmt.Sprintf("step-image_%s_%s.cdx.json", b.version, p.arch), func(w io.Writer) error {
				_, err := w.Write(files["step.cdx.json"].data)
				return err
			}); err != nil {
				return err
			}
		}
	}
	image, err := b.imageLayout(arches)
	if err != nil {
		return err
	}
	if err := put("step-image_"+b.version+".oci.tar", func(w io.Writer) error { return writeTar(w, image, b.time) }); err != nil {
		return err
	}
	sums, err := checksums(dir, written)
	if err != nil {
		return err
	}
	return put("SHA256SUMS", func(w io.Writer) error {
		_, err := io.WriteString(w, sums)
		return err
	})
}

// archiveName is the name of an archive without its ending, and of the folder in it.
func (b build) archiveName(goos, goarch string) string {
	return "wfgen_" + b.version + "_" + goos + "_" + goarch
}

// archive is what is in the archive of one platform.
func (b build) archive(goos, goarch string) (map[string]file, error) {
	work, err := os.MkdirTemp("", "release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	files := map[string]file{}
	var binaries []string
	for _, program := range programs {
		binary := filepath.Join(work, program)
		if err := b.compile(program, goos, goarch, binary); err != nil {
			return nil, err
		}
		bill, err := b.bill(binary)
		if err != nil {
			return nil, fmt.Errorf("bill of materials of %s: %w", program, err)
		}
		data, err := os.ReadFile(binary)
		if err != nil {
			return nil, err
		}
		files[program], files[program+".cdx.json"] = file{data, 0o755}, file{bill, 0o644}
		binaries = append(binaries, binary)
	}
	others, err := b.licenses(binaries...)
	if err != nil {
		return nil, err
	}
	files[thirdParty] = file{others, 0o644}
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md"} {
		data, err := os.ReadFile(filepath.Join(b.source, name))
		if err != nil {
			return nil, err
		}
		files[name] = file{data, 0o644}
	}
	return files, nil
}

var (
	releaseVersion = regexp.MustCompile(`^v\d+\.\d+\.\d+$`)
	changelogEntry = regexp.MustCompile(`(?m)^## (\S+)`)
)

// checkChangelog refuses a release that the changelog does not begin with.
func (b build) checkChangelog() error {
	text, err := os.ReadFile(filepath.Join(b.source, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	first := changelogEntry.FindSubmatch(text)
	if releaseVersion.MatchString(b.version) && (first == nil || string(first[1]) != b.version) {
		return fmt.Errorf("CHANGELOG.md does not begin with %s: say there what is new, and make internal/version the same", b.version)
	}
	return nil
}

// readAll reads the files below a directory, by their paths in it.
func readAll(dir string) (map[string]file, error) {
	files := map[string]file{}
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, path)
		files[path] = file{data, 0o644}
		return err
	})
	return files, err
}

// checksums are those of the files, as sha256sum --check reads them.
func checksums(dir string, names []string) (string, error) {
	var sums strings.Builder
	for _, name := range slices.Sorted(slices.Values(names)) {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		sum := sha256.New()
		_, err = io.Copy(sum, f)
		f.Close()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sum.Sum(nil), name)
	}
	return sums.String(), nil
}
