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
)

// Every command line of wfgen and step that README and docs show is one that the
// programs take. Those that only write are run; of the others, which need a server, a
// cluster or results, the flags and their number are judged.
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
	run, judged := 0, 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commandLines(string(text)) {
			words, err := split(substitution.ReplaceAllString(line, "1"))
			if err != nil {
				t.Errorf("%s: %s: %v", filepath.Base(page), line, err)
				continue
			}
			program, args := words[0], words[1:]
			writes := program == "wfgen" && !slices.Contains(args, "run") && !slices.Contains(args, "plan") && !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--config") || strings.Contains(a, "$") || a == "-c" })
			if writes {
				run++
				args = inDirectory(args, t.TempDir())
			} else {
				judged++
				args = append(args[:len(args):len(args)], "--help")
			}
			// --help with an argument asks for the help of that "topic": the flags were taken.
			if code, stderr := call(program, args); code != 0 && (writes || !strings.Contains(stderr, "No help topic")) {
				t.Errorf("%s: %s\nexit %d: %s", filepath.Base(page), line, code, stderr)
			}
		}
	}
	if run < 10 || judged < 20 {
		t.Errorf("%d lines run and %d judged: where have they gone?", run, judged)
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

// inDirectory makes relative outputs ones of a directory.
func inDirectory(args []string, dir string) []string {
	args = slices.Clone(args)
	for i := range args {
		if i > 0 && (args[i-1] == "--output" || args[i-1] == "-o") {
			args[i] = filepath.Join(dir, filepath.Base(args[i]))
		}
	}
	return args
}

// substitution is the output of another command, which is a number wherever docs use it.
var substitution = regexp.MustCompile(`"?\$\([^)]*\)"?`)

var command = regexp.MustCompile(`^(?:\$ )?(?:bin/)?(wfgen|step)(?: |$)`)

// commandLines are the lines of code blocks that begin with one of the programs, with
// those that go on after a backslash, and without what comes after a pipe or the like.
func commandLines(markdown string) []string {
	var found []string
	fenced := false
	lines := strings.Split(markdown, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		if !fenced && !strings.HasPrefix(line, "    ") {
			continue
		}
		line = strings.ReplaceAll(strings.TrimSpace(line), "go run ./cmd/", "")
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			line = strings.TrimSuffix(line, `\`) + strings.TrimSpace(lines[i])
		}
		if command.MatchString(line) {
			found = append(found, strings.TrimPrefix(strings.TrimPrefix(line, "$ "), "bin/"))
		}
	}
	return found
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
