package raftstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// TLS is how the members of a group know each other. Both sides demand that the other
// one is a node, and go by the certificates of the moment.
type TLS struct {
	Server *tls.Config
	Client func() *tls.Config // for one connection; gets the name of the host that is dialled
	// Hold has an accepted connection closed as soon as peer, what it has shown, would not
	// let it in any more, until release is called. Nil: it stays as long as both ends like.
	Hold func(conn net.Conn, peer []*x509.Certificate) (release func())
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
// are too many, the one has to go that has been there longest of the source with the
// most of them: a handshake between nodes takes milliseconds, so strangers can keep nodes
// out neither by waiting nor by coming in numbers.
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
	tls   *TLS
	raw   net.Conn
	from  string
	lobby *lobby
	greet func() error

	mu      sync.Mutex
	release func() // nil: it is not held
	closed  bool
}

func (l *lobby) enter(raw net.Conn, t *TLS) *guest {
	g := &guest{Conn: tls.Server(raw, t.Server), tls: t, raw: raw, from: sourceOf(raw), lobby: l}
	g.greet = sync.OnceValue(g.handshake)
	l.mu.Lock()
	l.waiting = append(l.waiting, g)
	var gone *guest
	if len(l.waiting) > maxStrangers {
		i := l.crowding()
		gone = l.waiting[i]
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	l.mu.Unlock()
	if gone != nil {
		_ = gone.raw.Close() // whoever serves it learns of it
	}
	return g
}

// crowding returns the first of the source that has the most.
func (l *lobby) crowding() (first int) {
	from := make(map[string]int)
	for _, g := range l.waiting {
		from[g.from]++
	}
	for i, g := range l.waiting {
		if from[g.from] > from[l.waiting[first].from] {
			first = i
		}
	}
	return first
}

// sourceOf returns what is counted as one source: an address, or the network of one host
// in IPv6, where everybody has 2^64 addresses.
func sourceOf(conn net.Conn) string {
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return "" // no address: they count as one
	}
	a := at.Addr().Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	return netip.PrefixFrom(a, 64).Masked().String()
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
	if g.tls.Hold == nil {
		return nil
	}
	release := g.tls.Hold(g.raw, g.ConnectionState().PeerCertificates)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		release()
		return io.EOF
	}
	g.release = release
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
	g.mu.Lock()
	if g.release != nil && !g.closed {
		g.release()
	}
	g.closed = true
	g.mu.Unlock()
	return g.Conn.Close()
}
