package raftstore

import (
	"net"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// A peer that is away is not replicated to before a heartbeat found it.
func TestPatient(t *testing.T) {
	t.Parallel()
	l := listen(t, "127.0.0.1:0")
	peer := raft.ServerAddress(l.Addr().String())
	_ = l.Close() // nobody is there now

	p := patient{gates: newGates(), NetworkTransport: serve(listen(t, "127.0.0.1:0"))}
	defer p.Close()
	append1 := func(a raft.AppendEntriesRequest) error {
		a.RPCHeader = raft.RPCHeader{ProtocolVersion: 3, ID: []byte("n1"), Addr: []byte("here")}
		a.Term = 1
		return p.AppendEntries("n2", peer, &a, &raft.AppendEntriesResponse{})
	}
	entries := raft.AppendEntriesRequest{PrevLogEntry: 1, PrevLogTerm: 1, LeaderCommitIndex: 1}
	if err := append1(entries); err == nil {
		t.Fatal("replicated to a peer that is away")
	}
	held := make(chan error, 1)
	go func() { held <- append1(entries) }()
	if err := append1(raft.AppendEntriesRequest{}); err == nil {
		t.Fatal("a heartbeat reached a peer that is away")
	}
	select {
	case err := <-held:
		t.Fatalf("replication to a peer that is away ended: %v", err)
	case <-time.After(50 * time.Millisecond): // long enough to be refused
	}

	back := serve(listen(t, string(peer)))
	defer back.Close()
	ctx := t.Context()
	go func() {
		for {
			select {
			case rpc := <-back.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
			case <-ctx.Done():
				return
			}
		}
	}()
	if err := append1(raft.AppendEntriesRequest{}); err != nil {
		t.Fatalf("heartbeat to a peer that is back = %v", err)
	}
	if err := <-held; err != nil {
		t.Errorf("replication to a peer that is back = %v", err)
	}
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func serve(l net.Listener) *raft.NetworkTransport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: stream{l, memberAddr(l.Addr().String())}, MaxPool: 1, Timeout: time.Second, Logger: hclog.NewNullLogger(),
	})
}
