package raftstore

import (
	"context"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// stream listens where this node was told to and goes by the name under which
// the other members know it, which may be a host name.
type stream struct {
	net.Listener
	name memberAddr
}

// Addr returns the name for the others, not the address that is listened on.
func (s stream) Addr() net.Addr { return s.name }

// Dial implements raft.StreamLayer.
func (stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var d net.Dialer
	return d.DialContext(ctx, "tcp", string(address))
}

// memberAddr is a net.Addr that is not resolved before it is dialled.
type memberAddr string

func (memberAddr) Network() string  { return "tcp" }
func (a memberAddr) String() string { return string(a) }
