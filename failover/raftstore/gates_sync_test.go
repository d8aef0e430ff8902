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
