package xpd

import (
	"container/list"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/xpd-platform/xpd/internal/access"
)

// crowd bounds the connections of a server. Who comes in is a stranger until a request on
// the connection was authorised, and strangers have to go first, however busy they look:
// the one that has been there longest of the source that has the most of them. Then goes
// who was authorised and has waited longest for the next request; a request that is
// authorised and under way is never cut off. Whose last request was not authorised is a
// stranger again: tokens are revoked, and end.
type crowd struct {
	most  int
	open  bool // nobody is authorised here: of a source's strangers those with a request under way go last
	share int  // of one source's strangers
	guest int  // most of the authorised that are neither nodes nor people: the rest is kept for those, and for newcomers to show who they are
	hold  func(conn net.Conn, peer []*x509.Certificate) (release func())

	mu        sync.Mutex
	all       map[net.Conn]*visitor
	strangers list.List // of *visitor, who has been there longest first
	idle      list.List // of *visitor, authorised and without a request under way, longest first
	guests    int
	sources   map[netip.Prefix]*source
}

// visitor is a connection.
type visitor struct {
	conn    net.Conn
	rank    rank
	from    *source
	at      *list.Element // in strangers or in idle; nil: an authorised request is under way
	busy    bool          // a stranger's request is under way
	shown   bool          // the last request was authorised
	release func()        // of what holds it to its certificate; may be nil
}

type rank uint8

// Ranks of visitors. Who is known keeps the highest until a request is refused.
const (
	rankStranger rank = iota + 1
	rankGuest         // some token was right
	rankHost          // a node or a DBA
)

// source is where strangers come from.
type source struct {
	prefix    netip.Prefix
	strangers int
}

// newCrowd returns a crowd of most connections. Those that show a certificate as they
// are authorised are passed to hold, which may be nil.
func newCrowd(most int, hold func(net.Conn, []*x509.Certificate) func()) *crowd {
	return &crowd{
		most: most, share: max(1, most/4), guest: most - most/8, hold: hold,
		all: make(map[net.Conn]*visitor), sources: make(map[netip.Prefix]*source),
	}
}

// place is where a request came in.
type place struct {
	crowd *crowd
	conn  net.Conn
}

type placeKey struct{}

// context is for http.Server.ConnContext.
func (c *crowd) context(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, placeKey{}, place{c, conn})
}

// admit is for access.Options.Admit: whoever is let in is a stranger no more, and has all
// of writeTimeout to read the answer.
func admit(ctx context.Context, p access.Principal) bool {
	at, ok := ctx.Value(placeKey{}).(place)
	if !ok {
		return true // it came in by no door
	}
	to := rankGuest
	if slices.Contains(p.Roles, access.RoleNode) || slices.Contains(p.Roles, access.RoleDBA) {
		to = rankHost
	}
	gone, ok := at.crowd.promote(at.conn, to)
	if gone != nil {
		hangUp(gone)
	}
	if ok {
		_ = at.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // of a connection that is closed, nobody reads
	}
	return ok
}

// changed is for http.Server.ConnState.
func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	if gone := c.enter(conn, state); gone != nil {
		hangUp(gone)
	}
}

// enter returns the connection that has to go, or nil.
func (c *crowd) enter(conn net.Conn, state http.ConnState) (gone net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.all[conn]
	switch {
	case state == http.StateNew:
		return c.add(conn)
	case v == nil: // it is being closed
	case state != http.StateIdle && state != http.StateActive:
		c.remove(v)
	case v.rank == rankStranger:
		v.busy = state == http.StateActive
	case state == http.StateActive:
		if v.at != nil {
			c.idle.Remove(v.at)
		}
		v.at, v.shown = nil, false
	case v.shown:
		v.at = c.idle.PushBack(v)
	default:
		c.demote(v)
	}
	return nil
}

// add takes a newcomer in, and returns who has to go for it: itself, if nobody else can.
func (c *crowd) add(conn net.Conn) (gone net.Conn) {
	from := c.source(conn)
	var leaves *visitor
	switch {
	case from.strangers >= c.share:
		leaves = c.crowding(from)
	case len(c.all) >= c.most:
		if leaves = c.crowding(nil); leaves == nil {
			leaves = c.idlest(rankHost)
		}
		if leaves == nil {
			return conn
		}
	}
	if leaves != nil {
		gone = leaves.conn
		c.remove(leaves)
	}
	v := &visitor{conn: conn}
	c.unknown(v)
	c.all[conn] = v
	return gone
}

// unknown puts v among the strangers.
func (c *crowd) unknown(v *visitor) {
	v.rank, v.from = rankStranger, c.source(v.conn)
	v.at = c.strangers.PushBack(v)
	v.from.strangers++
	c.sources[v.from.prefix] = v.from
}

// demote makes v, who was known and has no request under way, a stranger.
func (c *crowd) demote(v *visitor) {
	c.count(v.rank, -1)
	if v.release != nil {
		v.release()
	}
	v.busy, v.release = false, nil
	c.unknown(v)
}

// promote makes conn one of rank to, and returns who has to go for it. It returns false
// if there is no room.
func (c *crowd) promote(conn net.Conn, to rank) (gone net.Conn, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.all[conn]
	if v == nil {
		return nil, false // it had to go
	}
	if v.rank >= to {
		v.shown = true
		return nil, true
	}
	if to == rankGuest && c.guests >= c.guest {
		leaves := c.idlest(rankGuest)
		if leaves == nil {
			return nil, false
		}
		gone = leaves.conn
		c.remove(leaves)
	}
	if v.rank == rankStranger {
		c.known(v)
	}
	c.count(v.rank, -1)
	v.rank, v.shown = to, true
	c.count(v.rank, 1)
	return gone, true
}

// known takes v, which has a request under way, from the strangers.
func (c *crowd) known(v *visitor) {
	c.strangers.Remove(v.at)
	v.at = nil
	c.forget(v.from)
	t, ok := v.conn.(*tls.Conn)
	if !ok || c.hold == nil {
		return
	}
	if peer := t.ConnectionState().PeerCertificates; len(peer) > 0 {
		v.release = c.hold(t.NetConn(), peer)
	}
}

func (c *crowd) remove(v *visitor) {
	switch {
	case v.rank == rankStranger:
		c.strangers.Remove(v.at)
		c.forget(v.from)
	case v.at != nil:
		c.idle.Remove(v.at)
	}
	c.count(v.rank, -1)
	delete(c.all, v.conn)
	if v.release != nil {
		v.release()
	}
}

func (c *crowd) count(of rank, by int) {
	if of == rankGuest {
		c.guests += by
	}
}

// crowding returns the stranger that has been here longest, of from or, if that is nil,
// of the source with the most strangers.
func (c *crowd) crowding(from *source) (first *visitor) {
	for e := c.strangers.Front(); e != nil; e = e.Next() {
		v := e.Value.(*visitor) // nothing else is in it
		if (from == nil || v.from == from) && (first == nil || c.before(v, first)) {
			first = v
		}
	}
	return first
}

// before reports whether a has to go rather than b, which has been here longer.
func (c *crowd) before(a, b *visitor) bool {
	if a.from.strangers != b.from.strangers {
		return a.from.strangers > b.from.strangers
	}
	return c.open && b.busy && !a.busy
}

// idlest returns who has waited longest of those up to rank most.
func (c *crowd) idlest(most rank) *visitor {
	for e := c.idle.Front(); e != nil; e = e.Next() {
		if v := e.Value.(*visitor); v.rank <= most { // nothing else is in it
			return v
		}
	}
	return nil
}

// source returns where conn comes from.
func (c *crowd) source(conn net.Conn) *source {
	at, _ := netip.ParseAddrPort(conn.RemoteAddr().String()) // those without an address count as one
	prefix := access.SourceOf(at.Addr().Unmap().WithZone(""))
	if s := c.sources[prefix]; s != nil {
		return s
	}
	return &source{prefix: prefix}
}

// forget is called for each stranger of s that is one no more.
func (c *crowd) forget(s *source) {
	if s.strangers--; s.strangers == 0 {
		delete(c.sources, s.prefix)
	}
}

// hangUp closes a connection without the farewell of TLS, which may wait.
func hangUp(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	_ = conn.Close() // its server learns of it
}
