package xpd

import (
	"net"
	"net/http"
	"testing"
)

func TestCrowd(t *testing.T) {
	t.Parallel()
	c := newCrowd(2)
	var conns [5]net.Conn
	for i := range conns {
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		conns[i] = server
	}
	steps := []struct {
		what  string
		conn  int
		state http.ConnState
		gone  int // -1: none
	}{
		{"the first comes", 0, http.StateNew, -1},
		{"the second comes", 1, http.StateNew, -1},
		{"the first asks", 0, http.StateActive, -1},
		{"the first was answered, so the second waits longest", 0, http.StateIdle, -1},
		{"the third comes", 2, http.StateNew, 1},
		{"the second is told so late", 1, http.StateActive, -1},
		{"and closed", 1, http.StateClosed, -1},
		{"the first asks again", 0, http.StateActive, -1},
		{"the third asks", 2, http.StateActive, -1},
		{"the fourth comes while all are busy", 3, http.StateNew, 3},
		{"which is closed", 3, http.StateClosed, -1},
		{"the first leaves", 0, http.StateClosed, -1},
		{"the fifth comes", 4, http.StateNew, -1},
	}
	for _, s := range steps {
		var want net.Conn
		if s.gone >= 0 {
			want = conns[s.gone]
		}
		if got := c.enter(conns[s.conn], s.state); got != want {
			t.Fatalf("%s: %v has to go, want %v", s.what, got, want)
		}
	}
	if len(c.all) != 2 || c.idle.Len() != 1 {
		t.Errorf("%d connections are known and %d wait, want 2 and 1", len(c.all), c.idle.Len())
	}
}
