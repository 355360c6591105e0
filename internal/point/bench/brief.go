package bench

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// What of a driver's words is shown besides being logged.
const (
	briefLine  = 240 // bytes
	briefLines = 200
)

// brief passes on what a driver says so that people can read it: long lines cut
// short, and no more than the first of many. A driver whose every request fails may
// say a page for each. All its streams may say something at once.
type brief struct {
	w     io.Writer
	mutex sync.Mutex
	line  []byte // begun, not ended; a little more of it than is shown
	lines int
}

func (b *brief) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	n := len(p)
	for len(p) > 0 {
		part, rest, ended := bytes.Cut(p, []byte("\n"))
		b.line = append(b.line, part[:min(len(part), max(0, briefLine+1-len(b.line)))]...)
		p = rest
		if ended {
			if err := b.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// Close shows what was said last, without an end of line.
func (b *brief) Close() error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if len(b.line) == 0 {
		return nil
	}
	return b.flush()
}

func (b *brief) flush() error {
	line := b.line
	b.line = b.line[:0]
	b.lines++
	switch {
	case b.lines > briefLines+1:
		return nil
	case b.lines > briefLines:
		_, err := fmt.Fprintln(b.w, "... more of this is in the log file")
		return err
	case len(line) > briefLine:
		line = append(bytes.ToValidUTF8(line[:briefLine], nil), "..."...)
	}
	_, err := fmt.Fprintf(b.w, "%s\n", line)
	return err
}
