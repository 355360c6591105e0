package redact

import (
	"bytes"
	"io"
	"sync"
)

// Writer writes to another what it is given, without the secrets, also where one comes
// in pieces. Errors are kept for Flush, and what follows them is dropped: a process
// whose output cannot be stored must not be blocked by that. Several goroutines may
// write to it.
type Writer struct {
	mutex   sync.Mutex
	secrets Secrets
	w       io.Writer
	held    []byte // what may be the beginning of a secret
	err     error
}

// Writer writes to w without the secrets, and changes nothing else. Flush ends it.
func (s Secrets) Writer(w io.Writer) *Writer { return &Writer{secrets: s, w: w} }

func (r *Writer) Write(p []byte) (int, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	text := r.secrets.Bytes(append(r.held, p...))
	keep := r.secrets.beginning(text)
	r.write(text[:len(text)-keep])
	r.held = bytes.Clone(text[len(text)-keep:])
	return len(p), nil
}

// Flush writes what was held back, and tells the first error.
func (r *Writer) Flush() error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.write(r.held)
	r.held = nil
	return r.err
}

func (r *Writer) write(p []byte) {
	if r.err == nil && len(p) > 0 {
		_, r.err = r.w.Write(p)
	}
}

// Reader reads r without the secrets.
func (s Secrets) Reader(r io.Reader) io.Reader {
	if s.None() {
		return r
	}
	in := &reader{r: r}
	in.out = s.Writer(&in.ready)
	return in
}

type reader struct {
	r     io.Reader
	out   *Writer
	ready bytes.Buffer
	err   error // of r
}

func (in *reader) Read(p []byte) (int, error) {
	var chunk [32 << 10]byte
	for in.ready.Len() == 0 && in.err == nil {
		var n int
		n, in.err = in.r.Read(chunk[:])
		_, _ = in.out.Write(chunk[:n]) // into memory
		if in.err != nil {
			_ = in.out.Flush()
		}
	}
	if in.ready.Len() == 0 {
		return 0, in.err
	}
	return in.ready.Read(p)
}

// Lines is a stream that people or terminals read. What is written to it comes out by
// whole lines, made fit to be seen: see WordsTo and DataTo. Several goroutines may write
// to it.
type Lines struct {
	mutex sync.Mutex
	w     io.Writer
	fit   func(string) string
	held  []byte
}

// WordsTo is the stream of what a program says, for people.
func (s Secrets) WordsTo(w io.Writer) *Lines { return &Lines{w: w, fit: s.Words} }

// DataTo is the stream of what a program prints, for programs as well: the names and numbers in it stay as
// they are, but for known secrets and for what draws on a terminal.
func (s Secrets) DataTo(w io.Writer) *Lines {
	return &Lines{w: w, fit: func(line string) string { return Clean(string(s.Bytes([]byte(line)))) }}
}

// longestLine is about how much a line may hold before it is written in parts.
const longestLine = 1 << 20

func (l *Lines) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.held = append(l.held, p...)
	end := bytes.LastIndexByte(l.held, '\n') + 1
	if end == 0 && len(l.held) > longestLine {
		end = len(l.held)
	}
	if end == 0 {
		return len(p), nil
	}
	out := l.fit(string(l.held[:end]))
	l.held = bytes.Clone(l.held[end:])
	if _, err := io.WriteString(l.w, out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes a last line that has no end.
func (l *Lines) Flush() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if len(l.held) == 0 {
		return nil
	}
	out := l.fit(string(l.held))
	l.held = nil
	_, err := io.WriteString(l.w, out)
	return err
}

// Unwrap is the writer behind the stream.
func (l *Lines) Unwrap() io.Writer { return l.w }
