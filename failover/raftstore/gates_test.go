package raftstore

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/xpd-platform/xpd/internal/pgtest"
)

// A peer that is away is not replicated to before a heartbeat found it.
func TestPatient(t *testing.T) {
	t.Parallel()
	peer := raft.ServerAddress(fmt.Sprintf("127.0.0.1:%d", pgtest.FreePorts(t, 1)[0])) // nobody is there now

	p := patient{gates: newGates(), disk: newDisk(), NetworkTransport: serve(listen(t, "127.0.0.1:0"))}
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
	for {
		err := append1(raft.AppendEntriesRequest{})
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) { // a busy machine may take longer than Raft waits
			t.Fatalf("heartbeat to a peer that is back = %v", err)
		}
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
	return newTransport(newStream(l, l.Addr().String(), nil, nil), hclog.NewNullLogger())
}

// Replication in a pipeline can wait for ever, see newTransport.
func TestTransport_hasNoPipeline(t *testing.T) {
	t.Parallel()
	l := listen(t, "127.0.0.1:0")
	p := patient{gates: newGates(), disk: newDisk(), NetworkTransport: serve(l)}
	defer p.Close()
	pipeline, err := p.AppendEntriesPipeline("n2", raft.ServerAddress(l.Addr().String()))
	if !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
		t.Errorf("AppendEntriesPipeline() = %v, %v; want %v", pipeline, err, raft.ErrPipelineReplicationNotSupported)
	}
}

// A peer that keeps its connection must not keep a goroutine here.
func TestTransport_closesWhatOthersOpened(t *testing.T) {
	t.Parallel()
	l := listen(t, "127.0.0.1:0")
	s := newStream(l, l.Addr().String(), nil, nil)
	peer, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	accepted, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := accepted.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read of an accepted connection after Close = %v, want %v", err, net.ErrClosed)
	}
	if _, err := s.Dial(raft.ServerAddress(l.Addr().String()), time.Second); err == nil {
		t.Error("Dial() after Close succeeded")
	}
}
