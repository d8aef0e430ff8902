package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
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

	// What State leaves out, with kindSaveChange: a state remembers far more than
	// one change of it adds.
	History change[failover.Event]      `json:"history,omitzero"`
	Epochs  change[failover.Epoch]      `json:"epochs,omitzero"`
	Audit   change[failover.AuditEntry] `json:"audit,omitzero"`
}

type commandKind uint8

const (
	kindSaveState  commandKind = 1 // State is all of it; not written any more
	kindSaveChange commandKind = 2
)

// change is what became of a list that forgets its oldest elements and is added to
// at its end.
type change[T any] struct {
	Drop int `json:"drop,omitempty"`
	Keep int `json:"keep,omitempty"`
	Add  []T `json:"add,omitempty"`
}

// changeOf returns the change from was to is.
func changeOf[T any](was, is []T) change[T] {
	c := change[T]{Drop: len(was)}
	if len(is) > 0 {
		if i := slices.IndexFunc(was, func(e T) bool { return reflect.DeepEqual(e, is[0]) }); i >= 0 {
			c.Drop = i
		}
	}
	for c.Drop+c.Keep < len(was) && c.Keep < len(is) && reflect.DeepEqual(was[c.Drop+c.Keep], is[c.Keep]) {
		c.Keep++
	}
	c.Add = is[c.Keep:]
	return c
}

// of returns the list that was has become. It shares nothing with was.
func (c change[T]) of(was []T) ([]T, error) {
	if c.Drop < 0 || c.Keep < 0 || c.Drop+c.Keep > len(was) {
		return nil, fmt.Errorf("keeps %d elements from %d on of %d", c.Keep, c.Drop, len(was))
	}
	if c.Keep+len(c.Add) == 0 {
		return nil, nil
	}
	return slices.Concat(was[c.Drop:c.Drop+c.Keep], c.Add), nil
}

// newCommand returns the entry that makes st the state that follows base.
func newCommand(base versioned, st failover.State) command {
	c := command{
		Kind: kindSaveChange, Base: base.Index,
		History: changeOf(base.State.History, st.History),
		Epochs:  changeOf(base.State.Epochs, st.Epochs),
		Audit:   changeOf(base.State.Audit, st.Audit),
	}
	st.History, st.Epochs, st.Audit = nil, nil, nil
	c.State = st
	return c
}

// complete returns c.State with what it leaves out, given the state it is based on.
func (c command) complete(base failover.State) (failover.State, error) {
	st := c.State
	if c.Kind == kindSaveState {
		return st, nil
	}
	var errs [3]error
	st.History, errs[0] = c.History.of(base.History)
	st.Epochs, errs[1] = c.Epochs.of(base.Epochs)
	st.Audit, errs[2] = c.Audit.of(base.Audit)
	return st, errors.Join(errs[:]...)
}

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
	case kindSaveState, kindSaveChange:
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
	st, err := c.complete(f.cur.State)
	if err != nil {
		panic(fmt.Sprintf("raftstore: entry %d: %v", index, err))
	}
	f.set(versioned{Index: index, State: st})
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
