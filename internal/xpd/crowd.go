package xpd

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// crowd bounds the connections of a server. When there are too many, the one that has
// waited longest without a request has to go. Nodes ask each other several times in a
// second, so who keeps connections open and says nothing goes long before a node.
type crowd struct {
	most int

	mu   sync.Mutex
	idle list.List                  // of net.Conn without a request under way, longest first
	all  map[net.Conn]*list.Element // in idle; nil: a request is under way
}

func newCrowd(most int) *crowd { return &crowd{most: most, all: make(map[net.Conn]*list.Element)} }

// changed is for http.Server.ConnState.
func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	if gone := c.enter(conn, state); gone != nil {
		hangUp(gone)
	}
}

// enter returns the connection that has to go, or nil.
func (c *crowd) enter(conn net.Conn, state http.ConnState) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting, known := c.all[conn]
	if waiting != nil {
		c.idle.Remove(waiting)
	}
	switch {
	case state == http.StateNew:
		return c.admit(conn)
	case !known: // it is being closed
	case state == http.StateIdle:
		c.all[conn] = c.idle.PushBack(conn)
	case state == http.StateActive:
		c.all[conn] = nil
	default:
		delete(c.all, conn)
	}
	return nil
}

func (c *crowd) admit(conn net.Conn) (gone net.Conn) {
	if len(c.all) >= c.most {
		longest := c.idle.Front()
		if longest == nil {
			return conn // all are busy
		}
		gone = c.idle.Remove(longest).(net.Conn) // nothing else is in it
		delete(c.all, gone)
	}
	c.all[conn] = c.idle.PushBack(conn)
	return gone
}

// hangUp closes a connection without the farewell of TLS, which may wait.
func hangUp(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	_ = conn.Close() // its server learns of it
}
