// Command release makes what the project gives away: the image of step, and with "all" a
// whole release: archives of both programs, the image for every architecture, licenses,
// bills of materials and checksums. The same source makes the same bytes on every machine
// with the same Go. The Makefile calls it as
//
//	go run . image -version v1.2.3 -image wfgen.dev/step:v1.2.3 -output ../../dist/step-v1.2.3.tar
//	go run . all -version v1.2.3 -image ghcr.io/me/step:v1.2.3 -registry ghcr.io/me -output ../../dist/v1.2.3
//
// The image needs no container engine. What is in it, and how step is compiled for it, is
// what the Dockerfile says; a test holds the two together.
//
// It is a module of its own: libraries that read and write registries and bills of
// materials are nothing that step or wfgen should be built with.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// build is what is released.
type build struct {
	source   string // directory of the wfgen.dev module
	version  string
	commit   string
	registry string // that the image is pushed to; empty: none
	image    string // its name
	time     time.Time
}

func run(args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 || args[0] != "image" && args[0] != "all" {
		return errors.New("expected image or all, then flags")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	var b build
	flags.StringVar(&b.version, "version", "dev", "`VERSION` that the programs say they have")
	flags.StringVar(&b.commit, "commit", "", "`COMMIT` that they are made from")
	flags.StringVar(&b.registry, "registry", "", "`REGISTRY` that the image is going to be pushed to")
	flags.StringVar(&b.image, "image", "", "`NAME[:TAG]` of the image; without a tag it is the first twelve digits of the image's digest")
	flags.StringVar(&b.source, "source", "../..", "`DIR` of the wfgen.dev module")
	seconds := flags.Int64("time", 0, "`SECONDS` since 1970 that the files in the archives bear, such as the commit's")
	arch := flags.String("arch", runtime.GOARCH, "`GOARCH` of the nodes; for image alone")
	output := flags.String("output", "", "`FILE` of the image's archive, or `DIR` of the release")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case b.image == "" || *output == "":
		return errors.New("-image and -output must be given")
	}
	b.time = time.Unix(*seconds, 0).UTC()
	if args[0] == "image" {
		return b.imageArchive(*arch, *output, stdout, stderr)
	}
	return b.release(*output, stderr)
}

// writeFile writes a file whole or not at all.
func writeFile(path string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone already when all went well
	err = write(temporary)
	if err := errors.Join(err, temporary.Chmod(0o644), temporary.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.Rename(temporary.Name(), path)
}
