package bench

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestBrief(t *testing.T) {
	long := strings.Repeat("é", 500)
	for name, tc := range map[string]struct{ said, shown string }{
		"as it is":   {"one\ntwo\n", "one\ntwo\n"},
		"a new line": {"no end", "no end\n"},
		"long":       {long + "\nnext\n", long[:briefLine] + "...\nnext\n"},
		"many":       {strings.Repeat("again\n", 1000), strings.Repeat("again\n", briefLines) + "... more of this is in the log file\n"},
	} {
		for size, read := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "in bytes": iotest.OneByteReader,
		} {
			var shown strings.Builder
			b := &brief{w: &shown}
			if _, err := io.Copy(b, read(strings.NewReader(tc.said))); err != nil {
				t.Fatal(err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if shown.String() != tc.shown {
				t.Errorf("%s, %s:\n%s", name, size, fmt.Sprintf("%.600s", shown.String()))
			}
		}
	}
}
