package store

import (
	"io"
	"net/http"

	"wfgen.dev/internal/run/exit"
)

// mostAnswer is the most that is read of an answer which is no object: a page of a
// listing, the largest of them, has a thousand keys of at most 1024 bytes each.
const mostAnswer = 16 << 20

// brief cuts answers that are no objects: the client reads them whole, and whatever
// stands at the endpoint must not fill the memory of a small pod.
type brief struct{ http.RoundTripper }

func (b brief) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	if object := r.Method == http.MethodGet && r.URL.RawQuery == "" && resp.StatusCode/100 == 2; !object {
		resp.Body = &limited{ReadCloser: resp.Body, left: mostAnswer}
	}
	return resp, nil
}

// limited is a body that ends with an error where it is too long.
type limited struct {
	io.ReadCloser
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		_ = l.Close() // with the connection, which nobody reads on
		return 0, exit.Errorf(exit.Usage, "an answer of more than %d MiB, which no object store gives; set AWS_ENDPOINT_URL to one", mostAnswer>>20)
	}
	n, err := l.ReadCloser.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
