// Command licenses prints the license and notice files of everything that is linked into
// programs, as those files stand in the modules' sources and in Go's own.
//
//	go run ./hack/licenses bin/wfgen bin/step >THIRD-PARTY-LICENSES.txt
//
// What is linked is what the programs themselves say, so that nothing has to be kept up
// to date by hand. It uses the standard library alone: the Dockerfile runs it.
package main

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(binaries []string, w io.Writer) error {
	if len(binaries) == 0 {
		return errors.New("which programs? such as: go run ./hack/licenses bin/wfgen bin/step")
	}
	linked, err := modules(binaries)
	if err != nil {
		return err
	}
	sources, err := locate(slices.Sorted(maps.Keys(linked)))
	if err != nil {
		return err
	}
	// Many modules have the same text: it is printed once, below all their names.
	var texts []string
	holders := map[string][]string{}
	for _, s := range sources {
		files, err := licensesIn(s.dir)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			text := files[name]
			if _, known := holders[text]; !known {
				texts = append(texts, text)
			}
			holders[text] = append(holders[text], s.name+", "+name)
		}
	}
	var out bytes.Buffer
	out.WriteString("Licenses and notices of the software that is part of these programs.\n")
	for _, text := range texts {
		fmt.Fprintf(&out, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(holders[text], "\n"), strings.Trim(text, "\n"))
	}
	_, err = w.Write(out.Bytes())
	return err
}

// modules are the names, path@version, of the modules that are linked into the programs.
func modules(binaries []string) (map[string]bool, error) {
	linked := map[string]bool{}
	for _, binary := range binaries {
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			return nil, fmt.Errorf("%w; expected a program built by Go", err)
		}
		for _, m := range info.Deps {
			linked[m.Path+"@"+m.Version] = true
		}
	}
	return linked, nil
}

// source is where the source of something lies.
type source struct{ name, dir string }

// locate finds the sources of modules in the module cache, after those of Go itself.
func locate(names []string) ([]source, error) {
	goroot, err := goTool("env", "GOROOT")
	if err != nil {
		return nil, err
	}
	version, err := goTool("env", "GOVERSION")
	if err != nil {
		return nil, err
	}
	sources := []source{{"Go's standard library, " + version, goroot}}
	if len(names) == 0 {
		return sources, nil
	}
	var paths []string
	for _, name := range names {
		path, _, _ := strings.Cut(name, "@")
		paths = append(paths, path)
	}
	list, err := goTool(append([]string{"list", "-m", "-f", "{{.Path}}@{{.Version}}\t{{.Dir}}"}, paths...)...)
	if err != nil {
		return nil, err
	}
	for line := range strings.SplitSeq(list, "\n") {
		name, dir, _ := strings.Cut(line, "\t")
		if !slices.Contains(names, name) || dir == "" {
			return nil, fmt.Errorf("%s: its source is not at hand; run go mod download in the checkout that the program was built from", name)
		}
		sources = append(sources, source{name, dir})
	}
	return sources, nil
}

func goTool(args ...string) (string, error) {
	out, err := exec.Command("go", args...).Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, failed.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

var legal = regexp.MustCompile(`(?i)^(licen[sc]e|copying|notice|patents)([-._].*)?$`)

// licensesIn are the license and notice files at the top of a source, one at least.
func licensesIn(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found, licensed := map[string]string{}, false
	for _, e := range entries {
		if !e.Type().IsRegular() || !legal.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		found[e.Name()] = strings.ReplaceAll(string(data), "\r\n", "\n")
		licensed = licensed || !strings.HasPrefix(strings.ToLower(e.Name()), "notice") && !strings.HasPrefix(strings.ToLower(e.Name()), "patents")
	}
	if !licensed {
		return nil, fmt.Errorf("no license file in %s", dir)
	}
	return found, nil
}
