// Mutants shows that tests of the seam between who asks for a command of step and step
// itself can fail: it changes one thing at a time, as a slip of the hand would, and runs
// the tests that should notice by its meaning. The tree is not touched; go test compiles
// the change from a copy.
//
//	make mutants               # all
//	make mutants MUTANT=retry  # those whose name holds a word
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutant is a change, and the tests that notice it.
type mutant struct {
	name     string
	file     string
	old, new string   // old stands in the file once
	killers  []string // package.Test
}

func main() {
	word := flag.String("only", "", "run the mutants whose names hold this `WORD`")
	find := flag.String("find", "", "run all tests of these `PACKAGES` instead, and print which fail")
	flag.Parse()
	var errs []error
	tried := 0
	for _, m := range mutants {
		if !strings.Contains(m.name, *word) {
			continue
		}
		tried++
		killed, err := m.try(strings.Fields(*find))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", m.name, err))
			fmt.Printf("%-60s %v\n", m.name, err)
		default:
			fmt.Printf("%-60s %s\n", m.name, strings.Join(killed, ", "))
		}
	}
	if tried == 0 {
		errs = append(errs, fmt.Errorf("no mutant is named %q", *word))
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintf(os.Stderr, "mutants: %d of %d are not noticed:\n%v\n", len(errs), tried, err)
		os.Exit(1)
	}
}

// try runs the tests with the change, and returns those that failed; the error says which
// of them did not.
func (m mutant) try(packages []string) ([]string, error) {
	overlay, remove, err := m.overlay()
	if err != nil {
		return nil, err
	}
	defer remove()
	if len(packages) > 0 {
		failed, err := failures(overlay, "", packages...)
		if err == nil && len(failed) == 0 {
			err = errors.New("survives")
		}
		return failed, err
	}
	if len(m.killers) == 0 {
		return nil, errors.New("no test is named for it")
	}
	var failed []string
	for _, killer := range m.killers {
		dot := strings.LastIndex(killer, ".")
		found, err := failures(overlay, "^"+killer[dot+1:]+"$", "./"+killer[:dot])
		if err != nil {
			return nil, err
		}
		if !slices.Contains(found, killer[dot+1:]) {
			return nil, fmt.Errorf("%s passes all the same", killer)
		}
		failed = append(failed, killer)
	}
	return failed, nil
}

// overlay is a file that tells go test of the change.
func (m mutant) overlay() (name string, remove func(), err error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return "", nil, err
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return "", nil, fmt.Errorf("%q stands in %s %d times and should stand there once: the code has changed, let the mutant follow", m.old, m.file, n)
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	changed := filepath.Join(dir, filepath.Base(m.file))
	original, err := filepath.Abs(m.file)
	if err != nil {
		return "", remove, err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", remove, err
	}
	name = filepath.Join(dir, "overlay.json")
	return name, remove, errors.Join(
		os.WriteFile(changed, []byte(strings.Replace(string(text), m.old, m.new, 1)), 0o600),
		os.WriteFile(name, list, 0o600))
}

var failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)

// failures are the tests that fail with the change. One that does not compile tells
// nothing.
func failures(overlay, run string, packages ...string) ([]string, error) {
	args := []string{"test", "-overlay", overlay, "-timeout", "3m"}
	if run != "" {
		args = append(args, "-run", run)
	}
	out, err := exec.Command("go", append(args, packages...)...).CombinedOutput()
	var failed []string
	for _, match := range failedTest.FindAllStringSubmatch(string(out), -1) {
		failed = append(failed, match[1])
	}
	if err != nil && len(failed) == 0 || strings.Contains(string(out), "[build failed]") {
		lines := strings.SplitN(string(out), "\n", 6)
		return nil, fmt.Errorf("go test: %w\n%s", err, strings.Join(lines[:min(5, len(lines))], "\n"))
	}
	return failed, nil
}
