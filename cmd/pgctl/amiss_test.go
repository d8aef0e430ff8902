package main

import (
	"testing"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
)

// A cluster may be degraded for what only the notes of a node say, such as a primary
// that lets nobody connect.
func TestAmiss(t *testing.T) {
	t.Parallel()
	var c client.Cluster
	c.Nodes = []failover.NodeStatus{{ID: "n1", State: "open"}, {ID: "n2", State: "streaming"}}
	if got, want := amiss(c), "see the notes of the nodes, or pgctl doctor"; got != want {
		t.Errorf("amiss() = %q, want %q", got, want)
	}
	c.Nodes[1].State = "silent"
	if got, want := amiss(c), "n2 is silent"; got != want {
		t.Errorf("amiss() = %q, want %q", got, want)
	}
}
