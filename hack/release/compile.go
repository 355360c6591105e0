package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// compiler is how a program is compiled: without paths, times and the state of the
// checkout, so that it is the same everywhere.
func (b build) compiler(program, output string) []string {
	const stamp = " -X wfgen.dev/internal/version."
	return []string{"go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid=" + stamp + "version=" + b.version + stamp + "commit=" + b.commit + stamp + "registry=" + b.registry,
		"-o", output, "./cmd/" + program}
}

// compile writes a program for a platform.
func (b build) compile(program, goos, goarch, output string) error {
	_, err := b.inSource([]string{"CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + goarch}, b.compiler(program, output)...)
	return err
}

// licensesTool prints the licenses of what is linked into programs.
var licensesTool = []string{"go", "run", "./hack/licenses"}

// licenses are those of what is linked into the programs.
func (b build) licenses(programs ...string) ([]byte, error) {
	return b.inSource([]string{"GOOS=", "GOARCH="}, append(licensesTool[:len(licensesTool):len(licensesTool)], programs...)...)
}

// inSource runs a command in the module's directory and returns what it prints.
func (b build) inSource(env []string, line ...string) ([]byte, error) {
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir = b.source
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(line, " "), err, failed.Stderr)
	}
	return out, err
}
