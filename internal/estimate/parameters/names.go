package parameters

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Columns are those of a terminal, which what is printed for people does not exceed.
const Columns = 100

// Wrapped is a text in lines of at most so many columns, as far as its words allow: the
// first behind an indent, the others two further in.
func Wrapped(indent, text string) (lines []string) {
	line, used := indent, utf8.RuneCountInString(indent)
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		if i > 0 && used+1+n > Columns {
			lines = append(lines, line)
			line, used = indent+"  "+word, len(indent)+2+n
			continue
		}
		if i > 0 {
			line, used = line+" ", used+1
		}
		line, used = line+word, used+n
	}
	return append(lines, line)
}

// Shortened makes names of at most so many characters, 5 or more, for columns: of a longer
// one the middle is left out. Names that would then be alike stay whole.
func Shortened(names []string, most int) func(name string) string {
	cut := func(name string) string {
		r := []rune(name)
		if len(r) <= most {
			return name
		}
		head := (most - 1) / 2
		return string(r[:head]) + "…" + string(r[len(r)-(most-1-head):])
	}
	return func(name string) string {
		short := cut(name)
		if slices.ContainsFunc(names, func(other string) bool { return other != name && (other == short || cut(other) == short) }) {
			return name
		}
		return short
	}
}
