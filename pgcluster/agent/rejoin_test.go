package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
)

// TestAgent_switchover stops the primary in order, promotes its standby and lets
// the old primary follow as it is: no rewind, no clone.
func TestAgent_switchover(t *testing.T) { //nolint:tparallel // the steps build on each other
	t.Parallel()
	nodes := newNodesWith(t, 2, func(o *agent.Options) { o.Settings["wal_level"] = "logical" })
	initialize(nodes, true)
	n1, n2 := nodes[0], nodes[1]
	exec(t, n1.service(), "CREATE TABLE t AS SELECT 7 AS v")
	exec(t, n1.connect(agent.AdminRole, n1.o.Secrets.Admin, agent.Database), "SELECT pg_create_logical_replication_slot('feed', 'test_decoding')")
	n1.do(pgcluster.Order{Kind: pgcluster.OrderCheckpoint, Stamp: stamp(1, 11)})

	n1.submit(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 20)})
	down := n1.await("clean stop", func(r pgcluster.Report) bool { return r.Recruited == 2 && r.Order.Done })
	if down.Process != pgcluster.ProcessStopped || !down.PositionKnown || down.Open != 0 {
		t.Fatalf("stopped primary reports %+v", down)
	}
	r := n2.await("the shutdown checkpoint", func(r pgcluster.Report) bool { return r.Position.LSN >= down.Position.LSN })
	if r.Position != down.Position {
		t.Errorf("standby is at %v, its stopped primary at %v: the end of the last record is wrong", r.Position, down.Position)
	}
	lead := pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 21), Sync: anyOf(1, "n1"), Barrier: true, Open: true}
	n2.submit(lead)
	promoted := n2.await("promotion", func(r pgcluster.Report) bool { return r.Role == pgcluster.RolePrimary && r.Position.Timeline == 2 })
	n1.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 22), Upstream: "n2", Lineage: promoted.Lineage})
	n2.await("opening", func(r pgcluster.Report) bool { return r.Open == 2 })
	exec(t, n2.service(), "INSERT INTO t VALUES (8)")
	if diverged, _ := filepath.Glob(filepath.Join(n1.o.Dir, "pg", "diverged", "*")); len(diverged) != 0 {
		t.Errorf("a clean switchover set WAL aside: %v", diverged)
	}

	t.Run("a former primary drops the logical slots that it cannot serve", func(t *testing.T) { //nolint:paralleltest // a step
		awaitSlots(t, n1, "xpd_keep_n2")
		n1.await("no logical slots reported", func(r pgcluster.Report) bool { return len(r.LogicalSlots) == 0 })
	})
	t.Run("a standby hears from an idle primary", func(*testing.T) { //nolint:paralleltest // a step
		caughtUp := caughtUp(n2)
		at := n1.await("replay", caughtUp).Position
		n1.await("a heartbeat", func(r pgcluster.Report) bool { return r.Position.LSN > at.LSN })
	})
	t.Run("a running primary that is recruited stops", func(t *testing.T) { //nolint:paralleltest // a step
		r := n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(3, 30)})
		if !r.Down() || r.Recruited != 3 || !r.PositionKnown {
			t.Errorf("recruited primary reports %+v", r)
		}
	})
	t.Run("and may reopen in a later epoch", func(t *testing.T) { //nolint:paralleltest // a step
		lead := pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(4, 40), Sync: anyOf(1, "n1"), Barrier: true, Open: true}
		n2.submit(lead)
		// On the orders of epoch 2 it may not stream from the primary of epoch 4.
		n1.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(4, 41), Upstream: "n2", Lineage: promoted.Lineage})
		r := n2.do(lead)
		if r.Open != 4 || r.Recruited != 0 {
			t.Errorf("reopened primary reports %+v", r)
		}
	})
}

func TestAgent_clonesOnlyWhatItMay(t *testing.T) { //nolint:tparallel // the steps build on each other
	t.Parallel()
	nodes := newNodes(t, 2)
	n1, n2 := nodes[0], nodes[1]
	system := n1.do(pgcluster.Order{Kind: pgcluster.OrderInit, Stamp: stamp(1, 1)}).SystemID
	n1.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(1, 2), Barrier: true, Open: true})
	exec(t, n1.service(), "CREATE TABLE t AS SELECT 7 AS v")

	// What a clone that was interrupted leaves behind, and the deletion of half a rewind.
	halves := []string{filepath.Join(n2.o.Dir, "pg", "data.clone"), filepath.Join(n2.o.Dir, "pg", "data.half")}
	for _, half := range halves {
		if err := os.MkdirAll(filepath.Join(half, "base"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	follow := pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(1, 3), SystemID: system, Upstream: "n1"}
	n2.do(follow)
	for _, half := range halves {
		if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", half, err)
		}
	}

	t.Run("init refuses a node that has data", func(*testing.T) { //nolint:paralleltest // a step
		n2.submit(pgcluster.Order{Kind: pgcluster.OrderInit, Stamp: stamp(1, 4)})
		n2.await("refusal", func(r pgcluster.Report) bool {
			return r.Order.Kind == pgcluster.OrderInit && strings.Contains(r.Order.Error, "initdb refused")
		})
	})
	t.Run("another cluster's data is not touched", func(t *testing.T) { //nolint:paralleltest // a step
		wrong := follow
		wrong.Node, wrong.SystemID, wrong.Stamp = "n2", "123", stamp(1, 5)
		if err := n2.Submit(t.Context(), wrong); !errors.Is(err, pgcluster.ErrWrongSystem) {
			t.Errorf("Submit: %v, want ErrWrongSystem", err)
		}
	})
	t.Run("a repeated order changes nothing", func(*testing.T) { //nolint:paralleltest // a step
		follow.Stamp = stamp(1, 6)
		n2.do(follow)
		n2.await("no news of it", func(before pgcluster.Report) bool { // again if there was news of something else
			n2.submit(follow)
			after := n2.Report()
			return after.Seq == before.Seq && after.Order.Done
		})
	})
	t.Run("a crashed standby waits for an order", func(t *testing.T) { //nolint:paralleltest // a step
		n2.kill9()
		r := n2.await("crash", pgcluster.Report.Down)
		if r.Process != pgcluster.ProcessCrashed || r.Role != pgcluster.RoleStandby || r.Order.Done {
			t.Errorf("crashed standby reports %+v", r)
		}
		n2.submit(follow)
		n2.await("streaming", func(r pgcluster.Report) bool { return r.Receiver.Streaming && r.Order.Done })
	})
	t.Run("half a rewind becomes a clone", func(t *testing.T) { //nolint:paralleltest // a step
		n2.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(1, 7)})
		marker := filepath.Join(n2.o.Dir, "pg", "rewind.in-progress")
		trace := filepath.Join(n2.o.Dir, "pg", "data", "trace")
		for _, f := range []string{marker, trace} {
			if err := os.WriteFile(f, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		follow.Stamp = stamp(1, 8)
		n2.do(follow)
		for _, f := range []string{marker, trace} {
			if _, err := os.Stat(f); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is still there: %v", f, err)
			}
		}
		n2.await("replay", caughtUp(n1))
	})
}

// TestAgent_F26_sameTimelineTwice has two nodes that were both promoted to timeline 2.
// Rewinding cannot tell them apart, so the loser is cloned.
func TestAgent_F26_sameTimelineTwice(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, false)
	n1, n2 := nodes[0], nodes[1]
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	n2.await("replay of the table", caughtUp(n1))
	n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 20)})
	n2.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 21), Barrier: true})
	diverge(t, n2)

	// n1 becomes a standby of nobody and is promoted in its turn.
	n1.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(3, 30)})
	if err := os.WriteFile(filepath.Join(n1.o.Dir, "pg", "data", "standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := n1.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(3, 31), Barrier: true, Open: true})
	if r.Position.Timeline != 2 {
		t.Fatalf("n1 is on timeline %d, want 2", r.Position.Timeline)
	}
	exec(t, n1.service(), "INSERT INTO t VALUES (1)")

	n2.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(3, 32), Upstream: "n1", Lineage: r.Lineage})
	n2.await("replay", caughtUp(n1))
	if got := query[int](t, n2.service(), "SELECT sum(v)::int FROM t"); got != 1 {
		t.Errorf("sum of t = %d, want 1", got)
	}
	if saved, _ := filepath.Glob(filepath.Join(n2.o.Dir, "pg", "diverged", "2-*", "00000002*")); len(saved) == 0 {
		t.Error("the loser's WAL was not kept")
	}
}

// ahead stops a primary, and returns who has pledged to epoch 2, a standby that received
// more than that one, and where what it received ends.
func ahead(t *testing.T) (n2, n3 *node, end pgcluster.Position) {
	t.Helper()
	nodes := initialized(t, 3, false)
	n1, n2, n3 := nodes[0], nodes[1], nodes[2]
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	n2.await("replay of the table", caughtUp(n1))
	n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 20)})
	diverge(t, n1)
	n3.await("replay of what n2 does not have", caughtUp(n1))
	end = n1.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 21)}).Position
	n3.await("the shutdown", func(r pgcluster.Report) bool { return r.Position == end })
	return n2, n3, end
}

// An order may be carried out when its upstream leads another epoch already, which may
// never open. What is read from it then must not pass for the order's own.
func TestAgent_rewindsOnlyWithinTheEpoch(t *testing.T) {
	t.Parallel()
	n2, n3, _ := ahead(t)
	r := n2.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(3, 22), Barrier: true, Open: true})

	n3.submit(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 23), Upstream: "n2", Lineage: r.Lineage})
	// It may also find that it cannot rewind, or try a clone next: there is no slot for one.
	refused := n3.await("refusal of another epoch's WAL", func(r pgcluster.Report) bool {
		return strings.Contains(r.Order.Error, "not the primary of epoch 2 any more") || strings.Contains(r.Order.Error, `slot "xpd_2_n3" does not exist`)
	})
	if refused.Followed >= 2 {
		t.Errorf("it says that it has followed epoch %d", refused.Followed)
	}
	n3.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(3, 24), Upstream: "n2", Lineage: r.Lineage})
	n3.await("replay", caughtUp(n2))
}

// TestAgent_rejoinsTheHardWay has a standby that received more than the node that
// was promoted, and one that was away for longer than the WAL was kept.
func TestAgent_rejoinsTheHardWay(t *testing.T) {
	t.Parallel()
	n2, n3, end := ahead(t)
	r := n2.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 22), Barrier: true, Open: true})
	exec(t, n2.service(), "INSERT INTO t VALUES (1)")

	n3.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 23), Upstream: "n2", Lineage: r.Lineage})
	n3.await("replay", caughtUp(n2))
	if got := query[int](t, n3.service(), "SELECT sum(v)::int FROM t"); got != 1 {
		t.Errorf("sum of t on the standby that was ahead = %d, want 1", got)
	}
	if saved, _ := filepath.Glob(filepath.Join(n3.o.Dir, "pg", "diverged", "1-*", "00000001*")); len(saved) == 0 {
		t.Error("what the standby had was not kept")
	}
	if kept := n3.Report().SetAside; len(kept) != 1 || kept[0].To != end.LSN {
		t.Errorf("set aside: %+v, want WAL to %v", kept, end.LSN)
	}

	n3.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 24)})
	admin := n2.connect(agent.AdminRole, n2.o.Secrets.Admin, agent.Database)
	for range 4 {
		exec(t, admin, "INSERT INTO t VALUES (1)")
		exec(t, admin, "SELECT pg_switch_wal()")
		exec(t, admin, "CHECKPOINT")
	}
	n3.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 25), Upstream: "n2", Lineage: r.Lineage})
	n3.await("replay", caughtUp(n2))
	if got := query[int](t, n3.service(), "SELECT sum(v)::int FROM t"); got != 5 {
		t.Errorf("sum of t on the standby that was away = %d, want 5", got)
	}
	// It streamed for a moment before the upstream found that the WAL is gone, so the
	// order may have been done once already.
	n3.await("end of the order", func(r pgcluster.Report) bool { return r.Order.Done && r.Receiver.Streaming })
	if left, _ := filepath.Glob(filepath.Join(n3.o.Dir, "pg", "data.*")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestAgent_stopsOnExitIfAsked(t *testing.T) {
	t.Parallel()
	n1 := newNodes(t, 1)[0]
	n1.end(false)
	n1.o.StopOnExit = true
	n1.start()
	n1.do(pgcluster.Order{Kind: pgcluster.OrderInit, Stamp: stamp(1, 1)})
	n1.end(false)
	if pid, ok := n1.postmaster(); ok {
		t.Errorf("postmaster %d is still there", pid)
	}
	n1.start()
	r := n1.await("the state of what was stopped", func(r pgcluster.Report) bool { return r.Process == pgcluster.ProcessStopped })
	if !r.PositionKnown || r.Role != pgcluster.RolePrimary {
		t.Errorf("stopped primary reports %+v", r)
	}
}
