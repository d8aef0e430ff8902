package raftstore

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/xpd-platform/xpd/failover"
)

// command is one replicated log entry. Kind is a wire value: never renumber.
// Times in State were chosen by the proposer, because Apply must give the same
// result on every node.
type command struct {
	Kind  commandKind    `json:"kind"`
	Base  uint64         `json:"base"` // index of the state that the proposer decided on
	State failover.State `json:"state"`
}

type commandKind uint8

const kindSaveState commandKind = 1

// versioned is a state and the log index that wrote it. Its state is shared
// between readers and never changed in place.
type versioned struct {
	Index uint64         `json:"index"`
	State failover.State `json:"state"`
}

// fsm holds the state that was applied last. Its zero value is not ready.
type fsm struct {
	mu      sync.Mutex
	cur     versioned
	changed chan struct{} // closed and replaced with every change of cur
}

func newFSM() *fsm { return &fsm{changed: make(chan struct{})} }

// Apply returns nil or an error as its response. It panics on an entry that it
// cannot read: a node that skips a committed entry has diverged for good.
func (f *fsm) Apply(l *raft.Log) any {
	var c command
	if err := json.Unmarshal(l.Data, &c); err != nil {
		panic(fmt.Sprintf("raftstore: entry %d: %v", l.Index, err))
	}
	switch c.Kind {
	case kindSaveState:
		return f.saveState(l.Index, c)
	default:
		panic(fmt.Sprintf("raftstore: entry %d: unknown kind %d", l.Index, c.Kind))
	}
}

// saveState returns any, not error: a nil error in an any is what Raft's callers
// compare with.
func (f *fsm) saveState(index uint64, c command) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.Base != f.cur.Index {
		return failover.ErrStale
	}
	f.set(versioned{Index: index, State: c.State})
	return nil
}

// set replaces the state and wakes who waits for that. f.mu is held.
func (f *fsm) set(v versioned) {
	f.cur = v
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fsm) current() versioned {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cur
}

// after returns a channel that is closed once the state is newer than the one
// with index.
func (f *fsm) after(index uint64) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cur.Index > index {
		past := make(chan struct{})
		close(past)
		return past
	}
	return f.changed
}

// Snapshot implements raft.FSM.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return f.current(), nil }

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	var v versioned
	if err := json.NewDecoder(r).Decode(&v); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set(v)
	return nil
}

// Persist implements raft.FSMSnapshot.
func (v versioned) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(v); err != nil {
		_ = sink.Cancel() // the first error says more
		return fmt.Errorf("write snapshot: %w", err)
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (versioned) Release() {}
