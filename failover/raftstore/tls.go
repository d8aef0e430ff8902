package raftstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// TLS is how the members of a group know each other. Both sides demand that the other
// one is a node, and go by the certificates of the moment.
type TLS struct {
	Server *tls.Config
	Client func() *tls.Config // for one connection; gets the name of the host that is dialled
}

// Bounds of connections that have not shown who they are.
const (
	handshakeTimeout = 2 * time.Second
	maxStrangers     = 256
	strangersTold    = time.Second // between two lines of the log
)

// dial makes the handshake on a connection to address.
func (t *TLS) dial(ctx context.Context, k net.Conn, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dial %s: %w", address, err), k.Close())
	}
	conf := t.Client()
	conf.ServerName = host
	c := tls.Client(k, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = k.Close() // which a handshake that took too long has done already
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return c, nil
}

// lobby holds accepted connections until they have shown who they are. When there
// are too many, the one that has been there longest has to go: a handshake between
// nodes takes milliseconds, so strangers cannot keep nodes out by waiting.
type lobby struct {
	logger *slog.Logger

	mu      sync.Mutex
	waiting []*guest // longest first
	told    time.Time
	untold  int
}

// guest is an accepted connection that makes its handshake when it is first read:
// in the goroutine of who serves it, so that Accept waits for nobody.
type guest struct {
	*tls.Conn
	raw   net.Conn
	lobby *lobby
	greet func() error
}

func (l *lobby) enter(raw net.Conn, conf *tls.Config) *guest {
	g := &guest{Conn: tls.Server(raw, conf), raw: raw, lobby: l}
	g.greet = sync.OnceValue(g.handshake)
	l.mu.Lock()
	l.waiting = append(l.waiting, g)
	var gone *guest
	if len(l.waiting) > maxStrangers {
		gone = l.waiting[0]
		l.waiting = slices.Delete(l.waiting, 0, 1)
	}
	l.mu.Unlock()
	if gone != nil {
		_ = gone.raw.Close() // whoever serves it learns of it
	}
	return g
}

func (l *lobby) leave(g *guest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, g); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
}

// refused logs why a connection is closed, but not each of very many.
func (l *lobby) refused(from net.Addr, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.told) < strangersTold {
		l.untold++
		return
	}
	l.logger.Warn("connection to the Raft port refused: it did not show that a node of this cluster opened it",
		"from", from.String(), "error", err, "more", l.untold)
	l.told, l.untold = time.Now(), 0
}

func (g *guest) handshake() error {
	defer g.lobby.leave(g)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := g.HandshakeContext(ctx); err != nil {
		g.lobby.refused(g.RemoteAddr(), err)
		// Raft's transport says nothing of a connection that just ends.
		return io.EOF
	}
	return nil
}

// Read implements net.Conn.
func (g *guest) Read(b []byte) (int, error) {
	if err := g.greet(); err != nil {
		return 0, err
	}
	return g.Conn.Read(b)
}

// Close implements net.Conn.
func (g *guest) Close() error {
	g.lobby.leave(g)
	return g.Conn.Close()
}
