package raftstore

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// stream listens where this node was told to and goes by the name under which
// the other members know it, which may be a host name. It closes the connections
// that it made and accepted when it is closed: Raft's transport leaves those that
// others opened for as long as the others keep them.
type stream struct {
	net.Listener
	name  memberAddr
	tls   *TLS // nil: plain TCP
	lobby lobby

	mu     sync.Mutex
	conns  map[*kept]struct{}
	closed bool
}

func newStream(l net.Listener, name string, t *TLS, logger *slog.Logger) *stream {
	return &stream{
		Listener: l, name: memberAddr(name), tls: t, lobby: lobby{logger: logger},
		conns: make(map[*kept]struct{}),
	}
}

// Addr returns the name for the others, not the address that is listened on.
func (s *stream) Addr() net.Addr { return s.name }

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	k, err := s.keep(c)
	if err != nil || s.tls == nil {
		return k, err
	}
	return s.lobby.enter(k, s.tls), nil
}

// Dial implements raft.StreamLayer.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", string(address))
	if err != nil {
		return nil, err
	}
	k, err := s.keep(c)
	if err != nil || s.tls == nil {
		return k, err
	}
	return s.tls.dial(ctx, k, string(address))
}

// Close implements net.Listener.
func (s *stream) Close() error {
	err := s.Listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for k := range s.conns {
		_ = k.Conn.Close() // whoever uses it learns of it
	}
	clear(s.conns)
	return err
}

func (s *stream) keep(c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	k := &kept{Conn: c, of: s}
	s.conns[k] = struct{}{}
	return k, nil
}

// kept is a connection that its stream closes too.
type kept struct {
	net.Conn
	of *stream
}

// Close implements net.Conn.
func (k *kept) Close() error {
	k.of.mu.Lock()
	delete(k.of.conns, k)
	k.of.mu.Unlock()
	return k.Conn.Close()
}

// memberAddr is a net.Addr that is not resolved before it is dialled.
type memberAddr string

func (memberAddr) Network() string  { return "tcp" }
func (a memberAddr) String() string { return string(a) }

// newTransport speaks Raft over s, one request to a peer after the other. Raft would
// rather send several at once, but then a sender waits for ever for room behind an
// answer of a newer term, whose reader has left; so Shutdown never ends either. One
// small state at a time gains nothing from it.
func newTransport(s raft.StreamLayer, logger hclog.Logger) *raft.NetworkTransport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s, MaxPool: connsPerPeer, MaxRPCsInFlight: 1, Timeout: rpcTimeout, Logger: logger,
	})
}
