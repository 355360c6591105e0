package guidellm

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
)

// shortest is the length from which a secret can be told from ordinary text:
// cutting every "1" or "null" out of a report would destroy it.
const shortest = 8

var redacted = []byte("[redacted]")

// secrets are texts that must not be written, in each way that they may be spelled.
type secrets [][]byte

func newSecrets(values ...string) secrets {
	var s secrets
	for _, v := range values {
		if v = strings.TrimSpace(v); len(v) < shortest {
			continue
		}
		spellings := []string{v, strconv.QuoteToASCII(v)} // quoted as Python's json.dumps does
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if e.Encode(v) == nil {
			spellings = append(spellings, strings.TrimSpace(b.String()))
		}
		for i, spelling := range spellings {
			if i > 0 {
				spelling = spelling[1 : len(spelling)-1]
			}
			if i == 0 || spelling != v {
				s = append(s, []byte(spelling))
			}
		}
	}
	return s
}

// redact replaces the secrets in text.
func (s secrets) redact(text []byte) []byte {
	for _, secret := range s {
		text = bytes.ReplaceAll(text, secret, redacted)
	}
	return text
}

// writer writes to w what it is given, without the secrets, also where one comes
// in pieces. Errors of w are kept for flush, and what follows them is dropped: a
// process whose output cannot be stored must not be blocked by that.
func (s secrets) writer(w io.Writer) *redactor { return &redactor{secrets: s, w: w} }

type redactor struct {
	secrets secrets
	w       io.Writer
	held    []byte // what may be the beginning of a secret
	err     error
}

func (r *redactor) Write(p []byte) (int, error) {
	text := r.secrets.redact(append(r.held, p...))
	keep := r.secrets.beginning(text)
	r.write(text[:len(text)-keep])
	r.held = append([]byte(nil), text[len(text)-keep:]...)
	return len(p), nil
}

// flush writes what was held back, and tells the first error.
func (r *redactor) flush() error {
	r.write(r.held)
	r.held = nil
	return r.err
}

func (r *redactor) write(p []byte) {
	if r.err == nil && len(p) > 0 {
		_, r.err = r.w.Write(p)
	}
}

// beginning is the length of the longest end of text with which a secret begins.
func (s secrets) beginning(text []byte) int {
	longest := 0
	for _, secret := range s {
		for n := min(len(secret)-1, len(text)); n > longest; n-- {
			if bytes.HasPrefix(secret, text[len(text)-n:]) {
				longest = n
			}
		}
	}
	return longest
}
