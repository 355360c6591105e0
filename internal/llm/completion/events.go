package completion

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// longestLine is the most that one line of a stream may hold, bytes: usage and log
// probabilities make lines of some hundred KiB, a line without an end fills the memory.
const longestLine = 16 << 20

// errLongLine says that a line has no end.
var errLongLine = fmt.Errorf("the stream holds a line of more than %d MiB", longestLine>>20)

// events reads server-sent events (WHATWG HTML, section 9.2) line by line, and knows
// when each line arrived: that is when the read that brought its end returned, so that
// lines which came together have one time, however long it takes to read them.
type events struct {
	src    io.Reader
	now    func() time.Time
	at     time.Time // of the last read
	buf    *[]byte
	r, w   int
	skipLF bool // the line before ended with CR, perhaps CR LF
	begun  bool
	err    error // of the source, once its bytes are used up
}

// buffers are shared: thousands of streams come and go.
var buffers = sync.Pool{New: func() any { b := make([]byte, 8<<10); return &b }}

func newEvents(src io.Reader, now func() time.Time) *events {
	return &events{src: src, now: now, buf: buffers.Get().(*[]byte)}
}

// close gives the buffer back; lines that were read are no longer valid.
func (e *events) close() {
	if e.buf != nil && len(*e.buf) <= 64<<10 {
		buffers.Put(e.buf)
	}
	e.buf = nil
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// line is the next line without its end, which is LF, CR or both; it is valid until
// the next call. A last line without an end comes before the error.
func (e *events) line() ([]byte, error) {
	scanned := 0
	for {
		b := *e.buf
		if e.skipLF && e.r < e.w {
			e.skipLF = false
			if b[e.r] == '\n' {
				e.r++
			}
		}
		if i := endOfLine(b[e.r+scanned : e.w]); i >= 0 {
			end := e.r + scanned + i
			line := b[e.r:end]
			e.skipLF = b[end] == '\r'
			e.r = end + 1
			return e.first(line), nil
		}
		scanned = e.w - e.r
		if e.err != nil {
			if scanned > 0 {
				line := b[e.r:e.w]
				e.r = e.w
				return e.first(line), nil
			}
			return nil, e.err
		}
		if err := e.fill(); err != nil {
			return nil, err
		}
	}
}

// first takes the byte order mark off the first line.
func (e *events) first(line []byte) []byte {
	if !e.begun {
		e.begun = true
		line = bytes.TrimPrefix(line, byteOrderMark)
	}
	return line
}

// fill reads once; what has not been used stays.
func (e *events) fill() error {
	b := *e.buf
	if e.r > 0 {
		copy(b, b[e.r:e.w])
		e.r, e.w = 0, e.w-e.r
	}
	if e.w == len(b) {
		if len(b) >= longestLine {
			return errLongLine
		}
		b = append(b, make([]byte, len(b))...)
		e.buf = &b
	}
	n, err := e.src.Read(b[e.w:])
	e.at = e.now()
	e.w += n
	e.err = err
	return nil
}

func endOfLine(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// errBroken says that an event ended before its JSON did.
var errBroken = errors.New("the stream holds a chunk whose JSON is cut off")

// event is what one or more data lines say.
type event struct {
	name string // of the field event; empty: message
	data []byte
	at   time.Time
}

// next is the next event with data. take is asked whether the data that there is make
// a whole: most servers write each event on one line, and then the event's time is that
// line's and not that of the empty line after it. Comments, which keep connections
// alive, and events without data are passed over. alive is called for every line.
func (e *events) next(alive func(), take func(event) (whole bool, err error)) error {
	var name string
	var data []byte // lines so far, when one is not whole
	var at time.Time
	for {
		line, err := e.line()
		if err != nil {
			if data != nil && errors.Is(err, io.EOF) {
				return errBroken
			}
			return err
		}
		alive()
		field, value, colon := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch {
		case len(line) == 0: // the event ends
			name = ""
			if data == nil {
				continue
			}
			return errBroken // every line more has been offered
		case len(field) == 0 && colon: // a comment
		case string(field) == "event":
			name = string(value)
		case string(field) == "data":
			one := value
			if data != nil {
				data = append(append(data, '\n'), value...)
				one = data
			}
			at = e.at
			whole, err := take(event{name, one, at})
			if err != nil {
				return err
			}
			switch {
			case whole:
				data = nil
			case data == nil:
				data = append(make([]byte, 0, 2*len(value)), value...)
			}
		}
	}
}
