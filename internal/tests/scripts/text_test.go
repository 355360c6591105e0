package scripts

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// columns are the most that a line of prose may take: of Markdown and of comments. What is
// a table, code or an address is as long as it has to be.
const columns = 120

// foreign are words that an English reader stumbles over, each with a better one.
var foreign = regexp.MustCompile(`(?i)\b(mend(s|ed|ing)?|anew|gone on with|go(es)? home|beside (its|the) (load|measuring)|of the kind)\b`)

var (
	comment = regexp.MustCompile(`^\s*(//|#)\s`)
	address = regexp.MustCompile(`https?://`)
	row     = regexp.MustCompile("^(\\||```|    )")
)

// prose are the lines of a file that are written for people.
func prose(name, text string) map[int]string {
	lines := map[int]string{}
	fenced := false
	for i, line := range strings.Split(text, "\n") {
		switch filepath.Ext(name) {
		case ".md":
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			if !fenced && !row.MatchString(line) {
				lines[i+1] = line
			}
		default:
			if output := strings.HasPrefix(strings.TrimSpace(line), "// {"); comment.MatchString(line) && !output {
				lines[i+1] = line
			}
		}
	}
	return lines
}

// Prose is as wide as a screen, and is English.
func TestProse(t *testing.T) {
	const root = "../../.."
	seen := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			switch entry.Name() {
			case ".git", "bin", "dist", "testdata", "examples": // testdata and examples are what programs write
				return filepath.SkipDir
			}
			return nil
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch filepath.Ext(name) {
		case ".go", ".md", ".sh":
		default:
			if entry.Name() != "Makefile" && entry.Name() != "Dockerfile" {
				return nil
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for number, line := range prose(name, string(text)) {
			seen++
			wide := utf8.RuneCountInString(strings.ReplaceAll(line, "\t", "    "))
			if wide > columns && !address.MatchString(line) {
				t.Errorf("%s:%d: %d columns", name, number, wide)
			}
			if word := foreign.FindString(line); word != "" && !strings.HasSuffix(name, "scripts/text_test.go") {
				t.Errorf("%s:%d: %q", name, number, word)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 5_000 {
		t.Errorf("%d lines seen: where have they gone?", seen)
	}
}
