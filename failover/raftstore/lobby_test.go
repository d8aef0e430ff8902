package raftstore

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
)

// at is one end of a pipe that says where the other one is.
type at struct {
	net.Conn
	from string
}

func (a at) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a.from)) }

func TestLobby_isBounded(t *testing.T) {
	t.Parallel()
	l := lobby{logger: slog.New(slog.DiscardHandler)}
	enter := func(from string) (outside net.Conn, inside *guest) {
		outside, server := net.Pipe()
		t.Cleanup(func() { _ = outside.Close() })
		return outside, l.enter(at{server, from}, &TLS{Server: &tls.Config{}})
	}
	_, node := enter("192.0.2.1:1") // has waited longest, but comes alone
	inside := []*guest{node}
	var first net.Conn
	for i := range maxStrangers {
		from := "192.0.2.2:1"
		if i%3 == 0 {
			from = "[2001:db8::1]:1"
		}
		outside, g := enter(from)
		if i == 1 {
			first = outside
		}
		inside = append(inside, g)
	}
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("who waited longest of the source with the most: Read() = %v, want EOF", err)
	}
	if len(l.waiting) != maxStrangers || l.waiting[0] != node {
		t.Errorf("%d connections wait, want %d, the one that came alone among them", len(l.waiting), maxStrangers)
	}
	for _, g := range inside {
		_ = g.Close()
	}
	if len(l.waiting) != 0 {
		t.Errorf("%d connections wait after all were closed", len(l.waiting))
	}
}

func TestSourceOf(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		"192.0.2.1:9": "192.0.2.1", "[::ffff:192.0.2.1]:9": "192.0.2.1", "[2001:db8::1]:9": "2001:db8::/64", "[2001:db8::2%eth0]:9": "2001:db8::/64",
	} {
		if got := sourceOf(at{from: from}); got != want {
			t.Errorf("sourceOf(%s) = %q, want %q", from, got, want)
		}
	}
}
