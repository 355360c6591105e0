package scripts

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wfgen.dev/internal/cli/clikit"
	"wfgen.dev/internal/cli/stepcli"
	"wfgen.dev/internal/cli/wfgencli"
	"wfgen.dev/internal/point/report/reporttest"
	"wfgen.dev/internal/run/exit"
)

// refuses are the lines whose point is that something is refused, and nothing published.
var refuses = []string{"v0.7.3-all500.json"}

// results puts into the directory what the docs speak of: the reports of the two-run
// recipe, and what was estimated from them, under the names of two runs.
func results(t *testing.T, root, dir string) {
	t.Helper()
	from := filepath.Join(root, "internal", "point", "report", "testdata")
	for _, name := range []string{"synchronous.json", "throughput.json"} {
		data, err := os.ReadFile(filepath.Join(from, "worked-example", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), data)
	}
	write(t, filepath.Join(dir, "v0.7.3-all500.json"), reporttest.Unpacked(t, "v0.7.3-all500.json"))
	for _, out := range []string{"out", "before", "after", "runs/monday", "runs/last-week"} {
		if code, words := call("step", []string{"aggregate", "synchronous.json", "throughput.json", "--method", "two-point", "--accelerator", "A100", "--output", out}); code != 0 {
			t.Fatalf("exit %d: %s", code, words)
		}
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Every command line of wfgen and step that README and docs show is one that the programs
// take, and is run where the docs' results are and the examples' configurations, unless the
// docs say what it needs that is not here.
func TestDocumentedCommands(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, filepath.Join(root, "README.md"), filepath.Join(root, "examples", "README.md"))
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "examples"))); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "docs", "h100"), os.DirFS(filepath.Join(root, "docs", "h100"))); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	results(t, root, dir)
	run, judged := 0, 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commandLines(string(text)) {
			words, err := split(substitution.ReplaceAllString(line.text, "1"))
			if err != nil {
				t.Errorf("%s: %s: %v", filepath.Base(page), line.text, err)
				continue
			}
			program, args := words[0], words[1:]
			code, stderr := call(program, append(args[:len(args):len(args)], "--help"))
			// --help with an argument asks for the help of that "topic": the flags were taken.
			if code != 0 && !strings.Contains(stderr, "No help topic") {
				t.Errorf("%s: %s\nexit %d: %s", filepath.Base(page), line.text, code, stderr)
			}
			if line.needs != "" {
				judged++
				continue
			}
			run++
			want := exit.Done
			if slices.ContainsFunc(args, func(a string) bool { return slices.Contains(refuses, a) }) {
				want = exit.Refused
			}
			if code, stderr := call(program, args); code != want {
				t.Errorf("%s: %s\nexit %d: %s", filepath.Base(page), line.text, code, stderr)
			}
		}
	}
	t.Logf("%d lines run; %d need what is not here", run, judged)
	if run < 30 {
		t.Errorf("%d lines run: where have they gone?", run)
	}
}

// The help of every command fits into a terminal of 100 columns.
func TestHelpFits(t *testing.T) {
	commands := regexp.MustCompile(`(?m)^   ([a-z][a-z-]+)[, ].*$`)
	for _, program := range []string{"wfgen", "step"} {
		var pages []string
		_, top := help(program)
		_, list, _ := strings.Cut(top, "COMMANDS:")
		list, _, _ = strings.Cut(list, "OPTIONS:")
		for _, m := range commands.FindAllStringSubmatch(list, -1) {
			pages = append(pages, m[1])
		}
		if len(pages) < 5 {
			t.Fatalf("%s has the commands %v", program, pages)
		}
		for _, page := range append(pages, "") {
			code, text := help(program, strings.Fields(page)...)
			if code != 0 {
				t.Errorf("%s %s --help: exit %d", program, page, code)
			}
			for line := range strings.Lines(text) {
				if n := len([]rune(strings.TrimRight(line, "\n"))); n > clikit.Width {
					t.Errorf("%s %s --help: %d columns: %s", program, page, n, line)
				}
			}
		}
	}
}

func help(program string, words ...string) (int, string) {
	var stdout, stderr bytes.Buffer
	code := mains[program](context.Background(), append(words, "--help"), strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String()
}

var mains = map[string]func(context.Context, []string, io.Reader, io.Writer, io.Writer) int{"wfgen": wfgencli.Run, "step": stepcli.Run}

func call(program string, args []string) (int, string) {
	var stdout, stderr bytes.Buffer
	code := mains[program](context.Background(), args, strings.NewReader(""), &stdout, &stderr)
	return code, stderr.String()
}

// substitution is the output of another command, which is a number wherever docs use it.
var substitution = regexp.MustCompile(`"?\$\([^)]*\)"?`)

var command = regexp.MustCompile(`^(?:\$ )?(?:bin/)?(wfgen|step)(?: |$)`)

// aLine is a command line of the docs.
type aLine struct {
	text  string
	needs string // that is not here, as the docs say; empty: it is run
}

// mark is a comment of a block of code about the lines that come after it.
var mark = regexp.MustCompile(`^# (needs|takes) \S`)

// commandLines are the lines of code blocks that begin with one of the programs, with
// those that go on after a backslash.
func commandLines(markdown string) []aLine {
	var found []aLine
	fenced, needs := false, ""
	lines := strings.Split(markdown, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if strings.HasPrefix(line, "```") {
			fenced, needs = !fenced, ""
			continue
		}
		if !fenced && !strings.HasPrefix(line, "    ") {
			needs = ""
			continue
		}
		line = strings.ReplaceAll(strings.TrimSpace(line), "go run ./cmd/", "")
		if mark.MatchString(line) {
			needs = line
		}
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			line = strings.TrimSuffix(line, `\`) + strings.TrimSpace(lines[i])
		}
		if command.MatchString(line) {
			found = append(found, aLine{strings.TrimPrefix(strings.TrimPrefix(line, "$ "), "bin/"), needs})
		}
	}
	return found
}

// Scripts and targets of make that the docs name are there.
func TestDocumentedTargets(t *testing.T) {
	const root = "../../../"
	makefile, err := os.ReadFile(root + "Makefile")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(root + "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	target, script := regexp.MustCompile("(?m)(?:^ {4}|`|&& )make ([a-z][a-z0-9-]*)"), regexp.MustCompile(`\bhack/[a-z][a-z/.-]*[a-z]\b`)
	seen := 0
	for _, page := range append(pages, root+"README.md", root+"CONTRIBUTING.md", root+"examples/README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range target.FindAllSubmatch(text, -1) {
			seen++
			if !regexp.MustCompile(`(?m)^(?:[a-z0-9 -]* )?` + string(m[1]) + `(?: [a-z0-9 -]*)?:`).Match(makefile) {
				t.Errorf("%s: make has no target %s", filepath.Base(page), m[1])
			}
		}
		for _, name := range script.FindAll(text, -1) {
			seen++
			if _, err := os.Stat(root + string(name)); err != nil {
				t.Errorf("%s: %v", filepath.Base(page), err)
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d seen: where have they gone?", seen)
	}
}

// split makes words of a line as a shell does, up to a pipe, a redirection, a comment or
// the next command.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	quote, in := rune(0), false
	end := func() {
		if in {
			words = append(words, word.String())
		}
		word.Reset()
		in = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == ' ':
			end()
		case strings.ContainsRune("|>;&", r) && !in, r == '#' && !in, strings.ContainsRune("|>;", r):
			end()
			return words, nil
		default:
			word.WriteRune(r)
			in = true
		}
	}
	end()
	if quote != 0 {
		return nil, fmt.Errorf("a quote is not closed")
	}
	return words, nil
}
