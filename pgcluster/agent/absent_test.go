package agent_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

// mark tells one data directory of a node from the next.
func mark(t *testing.T, n *node) (gone func() bool) {
	t.Helper()
	path := filepath.Join(n.o.Dir, "pg", "data", "marker")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() bool { _, err := os.Stat(path); return errors.Is(err, fs.ErrNotExist) }
}

// TestAgent_reclone has a standby cloned anew, once for each number, or not at all if it is
// taken back.
func TestAgent_reclone(t *testing.T) { //nolint:tparallel // the steps build on each other
	t.Parallel()
	nodes := initialized(t, 2, true)
	n1, n2 := nodes[0], nodes[1]
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	follow := pgcluster.Order{Kind: pgcluster.OrderFollow, Upstream: n1.m.ID, Lineage: n1.Report().Lineage}
	index := uint64(30)
	for _, tt := range []struct { //nolint:paralleltest // they are steps
		name          string
		clone         uint64
		discard, void bool
		again         bool // the data are others
	}{
		{name: "asked for", clone: 1, again: true},
		{name: "the same number", clone: 1},
		{name: "taken back", clone: 2, void: true},
		{name: "an order that comes late", clone: 2},
		{name: "without room for both", clone: 3, discard: true, again: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gone := mark(t, n2)
			index++
			o := follow
			o.Stamp, o.Clone, o.Discard, o.Void = stamp(1, index), tt.clone, tt.discard, tt.void
			r := n2.do(o)
			if again := gone(); again != tt.again || r.Cloned != tt.clone || !r.Receiver.Streaming {
				t.Errorf("other data %t, want %t; report %+v", again, tt.again, r)
			}
			exec(t, n1.service(), "INSERT INTO t VALUES (1)") // waits for the standby
		})
	}
}

// TestAgent_rest leaves a PostgreSQL alone that somebody stops, also when told so again.
func TestAgent_rest(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, true)
	n2 := nodes[1]
	pid, _ := n2.postmaster()
	rest := pgcluster.Order{Kind: pgcluster.OrderRest, Stamp: stamp(1, 20)}
	n2.do(rest)
	if after, ok := n2.postmaster(); !ok || after != pid {
		t.Errorf("postmaster %d became %d", pid, after)
	}
	n2.kill9()
	n2.await("its end", func(r pgcluster.Report) bool { return r.Process == pgcluster.ProcessCrashed })
	rest.Stamp = stamp(1, 21)
	if r := n2.do(rest); !r.Down() {
		t.Errorf("report %+v", r)
	}
}
