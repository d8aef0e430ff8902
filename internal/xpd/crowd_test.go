package xpd

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/xpd-platform/xpd/internal/access"
)

// from is one end of a pipe that says where the other one is.
type from struct {
	net.Conn
	addr string
}

func (f *from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr)) }

// crowded is a crowd under test, of connections with names.
type crowded struct {
	*crowd
	t     *testing.T
	conns map[string]net.Conn
}

func newCrowded(t *testing.T, most int) crowded {
	t.Helper()
	return crowded{newCrowd(most, nil), t, map[string]net.Conn{}}
}

// want checks who had to go.
func (c crowded) want(what string, got net.Conn, want string) {
	c.t.Helper()
	if got != nil && got == c.conns[want] || got == nil && want == "" {
		return
	}
	for name, conn := range c.conns {
		if conn == got {
			c.t.Fatalf("%s: %s has to go, want %q", what, name, want)
		}
	}
	c.t.Fatalf("%s: nobody has to go, want %q", what, want)
}

func (c crowded) comes(name, addr, gone string) {
	c.t.Helper()
	client, server := net.Pipe()
	c.t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	c.conns[name] = &from{server, addr}
	c.want(name+" comes", c.enter(c.conns[name], http.StateNew), gone)
}

// asks begins a request.
func (c crowded) asks(name string) {
	c.t.Helper()
	c.want(name+" asks", c.enter(c.conns[name], http.StateActive), "")
}

func (c crowded) ends(name string, state http.ConnState) {
	c.t.Helper()
	c.want(name+" ends", c.enter(c.conns[name], state), "")
}

// shows begins a request that is authorised.
func (c crowded) shows(name string, as rank, gone string, room bool) {
	c.t.Helper()
	c.asks(name)
	got, ok := c.promote(c.conns[name], as)
	c.want(name+" is authorised", got, gone)
	if ok != room {
		c.t.Fatalf("%s is authorised: room %v, want %v", name, ok, room)
	}
}

// was is shows with an answer.
func (c crowded) was(name string, as rank) {
	c.t.Helper()
	c.shows(name, as, "", true)
	c.ends(name, http.StateIdle)
}

const (
	addrOne   = "192.0.2.1:1"
	addrTwo   = "192.0.2.2:1"
	addrThree = "[2001:db8::3]:1"
)

// Strangers go before those who were authorised, however busy, and those of the source
// with the most before others.
func TestCrowd_strangersGoFirst(t *testing.T) {
	t.Parallel()
	c := newCrowded(t, 8) // two strangers from each source
	c.comes("shop", addrOne, "")
	c.was("shop", rankGuest)
	c.comes("node", addrOne, "")
	c.comes("busy", addrTwo, "")
	c.asks("busy")
	c.comes("silent", addrTwo, "")
	c.comes("next", addrTwo, "busy") // a source has its share, though there is room
	c.ends("busy", http.StateClosed)
	c.comes("six", addrThree, "")
	c.comes("six2", addrThree, "")
	c.comes("another", "192.0.2.4:1", "")
	c.comes("last", "192.0.2.5:1", "")
	c.comes("more", "192.0.2.6:1", "silent") // the longest of those of whom there are most
	c.comes("more2", "192.0.2.7:1", "six")
	c.comes("more3", "192.0.2.8:1", "node") // now each is alone
	if _, ok := c.promote(c.conns["node"], rankHost); ok {
		t.Error("a connection that had to go was let in")
	}
	if len(c.all) != 8 || c.strangers.Len() != 7 || c.idle.Len() != 1 || len(c.sources) != 7 {
		t.Errorf("%d connections, %d strangers from %d sources, %d idle: want 8, 7, 7 and 1", len(c.all), c.strangers.Len(), len(c.sources), c.idle.Len())
	}
	for _, conn := range c.conns {
		c.enter(conn, http.StateClosed)
	}
	if len(c.all)+len(c.sources)+c.strangers.Len()+c.idle.Len()+c.guests != 0 {
		t.Errorf("left of an empty crowd: %+v", c.crowd)
	}
}

// Services whose requests all wait leave room for nodes and people.
func TestCrowd_stalledServices(t *testing.T) {
	t.Parallel()
	c := newCrowded(t, 16) // two places are kept
	for i := range 14 {
		name := string(rune('a' + i))
		c.comes(name, addrOne, "")
		c.shows(name, rankGuest, "", true)
	}
	c.comes("shop", addrTwo, "")
	c.shows("shop", rankGuest, "", false)
	c.ends("shop", http.StateClosed)
	c.comes("n2", addrThree, "")
	c.shows("n2", rankHost, "", true)
	c.comes("eva", addrTwo, "")
	c.shows("eva", rankHost, "", true)
	c.comes("n3", addrThree, "n3") // all are busy with what they may
	c.ends("n2", http.StateIdle)
	c.comes("stranger", addrThree, "n2")

	c.ends("a", http.StateIdle)
	c.ends("eva", http.StateIdle)
	c.shows("stranger", rankGuest, "a", true) // not eva, who is no service
	c.ends("stranger", http.StateIdle)
	c.asks("stranger")
	c.shows("stranger", rankHost, "", true) // somebody else behind the same balancer
	if c.guests != 13 {
		t.Errorf("%d services, want 13", c.guests)
	}
}

// Whose token counts no more is a stranger again, whatever is asked for with it.
func TestCrowd_revoked(t *testing.T) {
	t.Parallel()
	c := newCrowded(t, 8)
	for _, name := range []string{"a", "b", "c", "d"} {
		c.comes(name, addrOne, "")
		c.was(name, rankHost)
	}
	released := 0
	c.all[c.conns["c"]].release = func() { released++ }
	c.asks("c") // it is refused, or needs no token
	c.want("before c has its answer", c.idlest(rankHost).conn, "a")
	c.ends("c", http.StateIdle)
	c.asks("a")
	c.ends("a", http.StateIdle)
	c.was("b", rankHost)
	c.comes("more", addrOne, "c") // two have no place for strangers beside them
	c.was("more", rankGuest)
	c.asks("more")
	c.ends("more", http.StateIdle)
	if c.guests != 0 || c.strangers.Len() != 2 || c.idle.Len() != 2 || released != 1 {
		t.Errorf("%d services, %d strangers, %d idle, %d released, want 0, 2, 2 and 1", c.guests, c.strangers.Len(), c.idle.Len(), released)
	}
	c.was("a", rankHost) // who shows a token that counts is known again
	for _, conn := range c.conns {
		c.enter(conn, http.StateClosed)
	}
	if len(c.all)+len(c.sources)+c.strangers.Len()+c.idle.Len()+c.guests != 0 {
		t.Errorf("left of an empty crowd: %+v", c.crowd)
	}
}

// Where nobody is asked for a token, who waits goes before who is being answered.
func TestCrowd_open(t *testing.T) {
	t.Parallel()
	c := newCrowded(t, 8)
	c.open = true
	c.comes("scrape", addrOne, "")
	c.asks("scrape")
	c.comes("probe", addrOne, "")
	c.comes("probe2", addrOne, "probe")
	c.asks("probe2")
	c.comes("probe3", addrOne, "scrape") // all are busy
	c.ends("probe2", http.StateIdle)
	c.comes("probe4", addrOne, "probe2")
	for i := range 6 {
		c.comes(string(rune('a'+i)), fmt.Sprintf("198.51.100.%d:1", i), "")
	}
	c.asks("probe3")
	c.comes("balancer", addrTwo, "probe4")
	c.asks("a")
	c.comes("balancer2", addrThree, "b") // now each is alone
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	if !admit(t.Context(), access.Principal{}) {
		t.Error("who came in by no door is sent away")
	}
	c := newCrowded(t, 8)
	for name, role := range map[string]access.Role{"shop": access.RoleAssign, "node": access.RoleNode, "eva": access.RoleDBA} {
		c.comes(name, addrOne, "")
		c.asks(name)
		ctx := c.context(context.Background(), c.conns[name])
		want := rankHost
		if name == "shop" {
			want = rankGuest
		}
		if ok, got := admit(ctx, access.Principal{Roles: []access.Role{role}}), c.all[c.conns[name]].rank; !ok || got != want {
			t.Errorf("%s: %v, rank %d, want %d", name, ok, got, want)
		}
	}
}
