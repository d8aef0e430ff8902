package raftstore

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/raft"

	"github.com/xpd-platform/xpd/failover"
)

// Whatever a proposer did to the lists, every node gets what it proposed.
func TestFSM_appliesChanges(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	proposer, follower := newFSM(), newFSM()
	at := time.Now().UTC().Round(0)
	for i := range uint64(2000) {
		st := proposer.current().State
		st.History = append([]failover.Event(nil), st.History...)
		for range r.IntN(3) {
			st.History = append(st.History, failover.Event{At: at, Epoch: i, Kind: "grow", Steps: []failover.PhaseTime{{At: at, Epoch: i}}})
		}
		st.Epochs = append(append([]failover.Epoch(nil), st.Epochs...), failover.Epoch{Epoch: i})
		st.Audit = append(append([]failover.AuditEntry(nil), st.Audit...), failover.AuditEntry{At: at, Action: fmt.Sprint(i)})
		st.Audit = st.Audit[max(0, len(st.Audit)-20):]
		switch r.IntN(6) {
		case 0:
			st.History = st.History[min(len(st.History), r.IntN(4)):]
			st.Epochs = st.Epochs[r.IntN(len(st.Epochs)):]
		case 1:
			if n := len(st.History); n > 0 {
				st.History[n-1].Reason = fmt.Sprintf("by %d", i)
			}
		case 2:
			st.History, st.Epochs = nil, nil
		}
		entry, err := json.Marshal(newCommand(proposer.current(), st))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []*fsm{proposer, follower} {
			if refused := f.Apply(&raft.Log{Index: i + 1, Data: entry}); refused != nil {
				t.Fatalf("Apply() = %v", refused)
			}
			if diff := cmp.Diff(st, f.current().State, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("entry %d (-proposed +applied):\n%s", i+1, diff)
			}
		}
	}
}

// A log that was written before entries had changes is read as it was meant.
func TestFSM_readsWholeStates(t *testing.T) {
	t.Parallel()
	want := failover.State{SystemID: "c", History: []failover.Event{{Epoch: 1}}, Epochs: []failover.Epoch{{Epoch: 1}}}
	entry, err := json.Marshal(command{Kind: kindSaveState, State: want})
	if err != nil {
		t.Fatal(err)
	}
	f := newFSM()
	if refused := f.Apply(&raft.Log{Index: 1, Data: entry}); refused != nil {
		t.Fatalf("Apply() = %v", refused)
	}
	if diff := cmp.Diff(want, f.current().State); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

// BenchmarkSave is what each entry costs the processor of each node once the history
// is full, without disk and network.
func BenchmarkSave(b *testing.B) {
	var st failover.State
	at := time.Now().UTC().Round(0)
	for i := range uint64(200) {
		e := failover.Event{At: at, Epoch: i, Kind: "switchover", Node: "n1", From: "n2", Reason: "patching (by ann)", Took: time.Second}
		for range 5 {
			e.Steps = append(e.Steps, failover.PhaseTime{Phase: failover.PhaseBarrier, Epoch: i, At: at})
		}
		st.History = append(st.History, e)
		st.Epochs = append(st.Epochs, failover.Epoch{Epoch: i, Node: "n1", Timeline: 1})
	}
	for _, kind := range []commandKind{kindSaveState, kindSaveChange} {
		b.Run(fmt.Sprintf("kind=%d", kind), func(b *testing.B) {
			f := newFSM()
			f.set(versioned{Index: 1, State: st})
			size := 0
			for b.Loop() {
				on := f.current()
				next := on.State
				next.Ops++
				c := command{Kind: kindSaveState, Base: on.Index, State: next}
				if kind == kindSaveChange {
					c = newCommand(on, next)
				}
				entry, err := json.Marshal(c)
				if err != nil {
					b.Fatal(err)
				}
				size = len(entry)
				if refused := f.Apply(&raft.Log{Index: on.Index + 1, Data: entry}); refused != nil {
					b.Fatal(refused)
				}
			}
			b.ReportMetric(float64(size), "B/entry")
		})
	}
}
