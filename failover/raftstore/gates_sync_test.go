package raftstore

import (
	"testing"
	"testing/synctest"
)

func TestGates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGates()
		passed := map[string]bool{}
		pass := func(name string, term uint64) {
			go func() { g.await("n2", term); passed[name] = true }()
			synctest.Wait()
		}
		expect := func(when, name string, want bool) {
			t.Helper()
			synctest.Wait()
			if passed[name] != want {
				t.Errorf("%s: %s passed = %v, want %v", when, name, passed[name], want)
			}
		}

		pass("first", 1)
		expect("nothing is known", "first", true)
		g.note("n3", 1, false)
		g.note("n2", 1, true)
		pass("second", 1)
		expect("another node is away", "second", true)

		g.note("n2", 1, false)
		g.note("n2", 1, false)
		pass("third", 1)
		expect("the node is away", "third", false)
		pass("newer", 2)
		expect("a later term is here", "third", true)
		expect("the node is still away", "newer", false)
		g.note("n2", 2, true)
		expect("the node is back", "newer", true)

		g.note("n2", 2, false)
		pass("last", 2)
		expect("the node is away again", "last", false)
		g.release()
		expect("everybody is released", "last", true)
	})
}

// Who was removed while it is away holds nobody back: neither who waits for it at that
// moment nor the attempts that Raft makes afterwards.
func TestGates_forget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGates()
		const id, term = "n2", 1
		g.note(id, term, false)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			g.await(id, term)       // held back
			g.note(id, term, false) // the attempt failed
			g.await(id, term)       // the last one, at a peer that is none
		}()
		synctest.Wait()
		select {
		case <-ended:
			t.Fatal("replication to a peer that is away was not held back")
		default:
		}
		g.forget(id)
		synctest.Wait()
		select {
		case <-ended:
		default:
			g.release()
			t.Fatal("replication to a peer that was removed is held back")
		}

		// Added again, and there, it is a peer like any other.
		g.note(id, term, true)
		g.note(id, term, false)
		held := make(chan struct{})
		go func() { defer close(held); g.await(id, term) }()
		synctest.Wait()
		select {
		case <-held:
			t.Error("replication to a peer that was added again is not held back")
		default:
		}
		g.release()
	})
}
