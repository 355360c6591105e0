package habits

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

// The servers are reached through pipes, so that they and step live in one bubble of
// virtual time: what is measured is exact, and takes no time.

var (
	listeners sync.Map // of pipes, by host
	hosts     atomic.Int64
)

func TestMain(m *testing.M) {
	transport := http.DefaultTransport.(*http.Transport)
	transport.Proxy = nil
	transport.DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		l, ok := listeners.Load(host)
		if !ok {
			return nil, fmt.Errorf("nobody listens at %s", address)
		}
		return l.(*pipes).dial(ctx)
	}
	os.Exit(m.Run())
}

// pipes is a listener.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.connections <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.connections:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// listen serves until the test ends, and returns the URL.
func listen(t *testing.T, h http.Handler) string {
	p := &pipes{connections: make(chan net.Conn), closed: make(chan struct{})}
	host := fmt.Sprintf("habit-%d", hosts.Add(1))
	listeners.Store(host, p)
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(p) }()
	t.Cleanup(func() {
		_ = s.Close()
		listeners.Delete(host)
	})
	return "http://" + host
}
