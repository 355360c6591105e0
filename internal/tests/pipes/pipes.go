// Package pipes is a network within one process: servers that are reached through pipes
// can live with their clients in one bubble of testing/synctest, where what is measured
// is exact and waiting takes no time.
package pipes

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	listeners sync.Map // by host
	hosts     atomic.Int64
)

// Lay lets http.DefaultTransport, and what is cloned from it later, reach the servers of
// Serve; nothing else is reached any more but this machine by its number. It is for a
// TestMain.
func Lay() {
	transport := http.DefaultTransport.(*http.Transport)
	transport.Proxy = nil
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if l, ok := listeners.Load(host); ok {
			return l.(*listener).dial(ctx)
		}
		if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
			return dial(ctx, network, address)
		}
		return nil, fmt.Errorf("nobody listens at %s", address)
	}
}

// Serve serves until the test ends, or the server is closed.
func Serve(t testing.TB, h http.Handler) *httptest.Server {
	l := &listener{host: fmt.Sprintf("pipe-%d", hosts.Add(1)), connections: make(chan net.Conn), closed: make(chan struct{})}
	listeners.Store(l.host, l)
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// listener hands out one end of every pipe. It is its own address.
type listener struct {
	host        string
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func (l *listener) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.connections <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.connections:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		listeners.Delete(l.host)
		close(l.closed)
	})
	return nil
}

func (l *listener) Addr() net.Addr  { return l }
func (l *listener) Network() string { return "pipe" }
func (l *listener) String() string  { return l.host }
