package guidellm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"wfgen.dev/internal/run/exit"
	"wfgen.dev/internal/sweep/release"
)

// places are where guidellm's own container images have it, in case it is not on PATH.
var places = []string{"/opt/app-root/bin/guidellm", "/opt/app-root/guidellm/bin/guidellm"}

// How long a process that only tells a version may take.
const (
	askTimeout   = 30 * time.Second // Python reading metadata: a fraction of a second
	startTimeout = 3 * time.Minute  // guidellm --version: 5-15 s of imports, more on a cold disk
)

// Find finds guidellm and learns its version, without starting it where that can
// be helped: each start costs 5-15 s of CPU while a GPU waits. An empty binary
// means: on PATH, else where guidellm's images have it.
func Find(binary string) (*Guidellm, error) {
	path, err := locate(binary)
	if err != nil {
		return nil, err
	}
	version, err := versionOf(path)
	if err != nil {
		return nil, err
	}
	if version.TooOld() {
		return nil, exit.Errorf(exit.Usage, "guidellm %s is too old; install %s or newer, best %s, or use the native driver", version, release.Oldest(), release.Newest)
	}
	return &Guidellm{binary: path, version: version, grace: 10 * time.Second}, nil
}

func locate(binary string) (string, error) {
	if binary != "" {
		path, err := exec.LookPath(binary)
		if err == nil {
			path, err = filepath.Abs(path) // it will run in another directory
		}
		if err != nil {
			return "", exit.Errorf(exit.Usage, "guidellm: %w; name the file that starts guidellm, or leave the flag out to look for it on PATH", err)
		}
		return path, nil
	}
	for _, name := range append([]string{"guidellm"}, places...) {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", exit.Errorf(exit.Usage, "no guidellm on PATH (%s), nor as %s; install it (pip install guidellm), run in its image, or use the native driver",
		os.Getenv("PATH"), strings.Join(places, ", "))
}

// versionOf learns the version of the guidellm that a script starts: from the
// name of its package's metadata directory, else from its Python, and only where
// neither tells by starting it.
func versionOf(binary string) (release.Release, error) {
	python := interpreter(binary)
	if python != "" {
		if r, ok := versionBeside(python); ok {
			return r, nil
		}
		out, err := output(askTimeout, python, "-c", "import importlib.metadata as m; print(m.version('guidellm'))")
		if r, ok := release.Parse(out); err == nil && ok {
			return r, nil
		}
	}
	out, err := output(startTimeout, binary, "--version")
	if r, ok := release.Parse(out); err == nil && ok {
		return r, nil
	}
	if err != nil {
		return release.Release{}, exit.Errorf(exit.Usage, "guidellm: %s does not tell its version: %w; is it guidellm, and does it start?", binary, err)
	}
	return release.Release{}, exit.Errorf(exit.Usage, "guidellm: %s --version says %q, which holds no version; is it guidellm?", binary, firstLine(out))
}

// interpreter is the Python that a script of a Python package runs with, or "".
func interpreter(script string) string {
	f, err := os.Open(script)
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "#!") {
		return ""
	}
	words := strings.Fields(strings.TrimPrefix(lines.Text(), "#!"))
	if len(words) == 0 {
		return ""
	}
	if words[0] == "/bin/sh" && lines.Scan() {
		// Installers write this where the path of Python has a space or is too
		// long for a first line: '''exec' "/long path/python" "$0" "$@"
		if m := execLine.FindStringSubmatch(lines.Text()); m != nil {
			return m[1]
		}
		return ""
	}
	name := words[0]
	if filepath.Base(name) == "env" && len(words) > 1 {
		name = words[len(words)-1] // after options such as -S
	}
	if !strings.HasPrefix(filepath.Base(name), "python") {
		return ""
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

var execLine = regexp.MustCompile(`^'''exec' ['"]?(/[^'"]*python[^'"/]*?)['"]? ['"]?\$0`)

// versionBeside finds the metadata of guidellm among the packages of the virtual
// environment that python, unresolved, stands in.
func versionBeside(python string) (release.Release, bool) {
	root := filepath.Dir(filepath.Dir(python))
	var found []string
	for _, lib := range []string{"lib", "lib64"} {
		matches, err := filepath.Glob(filepath.Join(escape(root), lib, "python*", "*-packages", "guidellm-*.dist-info"))
		if err != nil {
			return release.Release{}, false
		}
		for _, m := range matches {
			name := filepath.Base(m)
			if len(found) == 0 || found[0] != name { // lib64 may be a link to lib
				found = append(found, name)
			}
		}
	}
	if len(found) != 1 { // two Pythons share this root: ask the one that counts
		return release.Release{}, false
	}
	return release.Parse(strings.TrimSuffix(strings.TrimPrefix(found[0], "guidellm-"), ".dist-info"))
}

// escape makes a path match itself in filepath.Glob.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func output(timeout time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, lastLine(string(failed.Stderr)))
	}
	return string(out), err
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex(text, "\n")+1:]
}
