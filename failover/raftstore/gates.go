package raftstore

import (
	"sync"

	"github.com/hashicorp/raft"
)

// patient is a transport that does not try to replicate to a peer that is away.
// Raft waits longer after every failed attempt, up to 10 s, also after the peer
// is back: meanwhile the loss of another node would leave no majority to commit
// with. Here heartbeats, which Raft repeats twice a second, find out when the
// peer is back, and the one attempt that waits for that goes on at once.
type patient struct {
	*raft.NetworkTransport
	gates *gates
	disk  *disk // a leader that cannot store is not heard
}

// AppendEntries implements raft.Transport.
func (p patient) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if !isHeartbeat(args) {
		p.gates.await(id, args.Term)
	}
	if p.disk.stalled() {
		return errStalled
	}
	err := p.NetworkTransport.AppendEntries(id, target, args, resp)
	p.gates.note(id, args.Term, err == nil)
	return err
}

// isHeartbeat tells a heartbeat as Raft's own transport does.
func isHeartbeat(a *raft.AppendEntriesRequest) bool {
	return a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}

// gates holds back who replicates to peers that are away.
type gates struct {
	done chan struct{}

	mu   sync.Mutex
	away map[raft.ServerID]gate
	gone map[raft.ServerID]bool // removed, and not heard since: nobody is held back
}

// gate is closed while a peer is away, in the latest term that noticed.
type gate struct {
	term uint64
	open chan struct{}
}

func newGates() *gates {
	return &gates{done: make(chan struct{}), away: map[raft.ServerID]gate{}, gone: map[raft.ServerID]bool{}}
}

// await returns when peer id is there, when this node replicates to it in a later
// term, or after release.
func (g *gates) await(id raft.ServerID, term uint64) {
	g.mu.Lock()
	at, away := g.away[id]
	if away && term > at.term {
		close(at.open) // who waits there has lost its leadership
		at = gate{term: term, open: make(chan struct{})}
		g.away[id] = at
	}
	g.mu.Unlock()
	if !away {
		return
	}
	select {
	case <-at.open:
	case <-g.done:
	}
}

// note records whether peer id answered.
func (g *gates) note(id raft.ServerID, term uint64, there bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, away := g.away[id]
	if there {
		delete(g.gone, id)
	}
	switch {
	case there && away:
		close(at.open)
		delete(g.away, id)
	case !there && !away && !g.gone[id]:
		g.away[id] = gate{term: term, open: make(chan struct{})}
	}
}

// forget lets through who waits for peer id, which is a peer no more, and holds nobody
// back again until it answers: Raft makes one more attempt at who was removed before it
// gives up, and goes on sending heartbeats until that has ended.
func (g *gates) forget(id raft.ServerID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone[id] = true
	if at, away := g.away[id]; away {
		close(at.open)
		delete(g.away, id)
	}
}

// release lets everybody through for good. Raft must not be shut down before: it
// waits for who is held back here.
func (g *gates) release() { close(g.done) }
