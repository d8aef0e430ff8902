package raftstore

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
)

func TestLobby_isBounded(t *testing.T) {
	t.Parallel()
	l := lobby{logger: slog.New(slog.DiscardHandler)}
	var outside []net.Conn
	var inside []*guest
	for range maxStrangers + 1 {
		client, server := net.Pipe()
		defer client.Close()
		outside = append(outside, client)
		inside = append(inside, l.enter(server, &tls.Config{}))
	}
	if _, err := outside[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection that waited longest: Read() = %v, want EOF", err)
	}
	if len(l.waiting) != maxStrangers || l.waiting[0] != inside[1] {
		t.Errorf("%d connections wait, want %d from the second on", len(l.waiting), maxStrangers)
	}
	for _, g := range inside {
		_ = g.Close()
	}
	if len(l.waiting) != 0 {
		t.Errorf("%d connections wait after all were closed", len(l.waiting))
	}
}
