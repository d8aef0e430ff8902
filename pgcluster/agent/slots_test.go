package agent_test

import (
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
)

// slotNames lists the slots of a node.
func slotNames(t *testing.T, n *node) []string {
	t.Helper()
	rows, err := n.admin().Query(t.Context(), "SELECT slot_name::text FROM pg_replication_slots ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// awaitSlots waits until a node has these slots and no other.
func awaitSlots(t *testing.T, n *node, want ...string) {
	t.Helper()
	n.await("the slots", func(pgcluster.Report) bool { return slices.Equal(slotNames(t, n), want) })
}

// recycle makes n forget all WAL that nothing keeps.
func recycle(t *testing.T, n *node, writes *node) {
	t.Helper()
	admin := writes.connect(agent.AdminRole, writes.o.Secrets.Admin, agent.Database)
	for range 4 {
		exec(t, admin, "SET synchronous_commit = local")
		exec(t, admin, "SET default_transaction_read_only = off")
		exec(t, admin, "INSERT INTO t VALUES (1)")
		exec(t, admin, "SELECT pg_switch_wal()")
		exec(t, admin, "CHECKPOINT")
		if n != writes {
			n.await("replay", caughtUp(writes))
		}
		exec(t, n.admin(), "CHECKPOINT")
	}
}

func inode(t *testing.T, n *node) os.FileInfo {
	t.Helper()
	info, err := os.Stat(filepath.Join(n.o.Dir, "pg", "data"))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestAgent_slotsOfAnEpoch has a standby whose xpd is down while its primary goes on
// into the next epoch: it must not stream, let alone acknowledge, on its old orders.
func TestAgent_slotsOfAnEpoch(t *testing.T) { //nolint:tparallel // the steps build on each other
	t.Parallel()
	nodes := initialized(t, 3, true)
	n1, n2, n3 := nodes[0], nodes[1], nodes[2]
	if got, want := slotNames(t, n1), []string{"xpd_1_n2", "xpd_1_n3"}; !slices.Equal(got, want) {
		t.Errorf("slots of the primary: %v, want %v", got, want)
	}
	awaitSlots(t, n2, "xpd_keep_n1", "xpd_keep_n3")
	n3.end(false) // its PostgreSQL runs on

	t.Run("a backup of a standby on its host", func(t *testing.T) { //nolint:paralleltest // a step
		cmd := osexec.CommandContext(t.Context(), filepath.Join(n2.o.BinDir, "pg_basebackup"), "-h", filepath.Join(n2.o.Dir, "pg", "run"),
			"-p", itoa(n2.m.PGPort), "-U", agent.AdminRole, "-D", filepath.Join(t.TempDir(), "backup"), "-X", "fetch", "--checkpoint=fast")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("a primary that is started in place", func(t *testing.T) { //nolint:paralleltest // a step
		n1.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 20)})
		lead := pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 21), Sync: anyOf(2, "n2", "n3"), Barrier: true}
		n1.submit(lead)
		n2.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 22), Upstream: "n1"})
		if got, want := slotNames(t, n1), []string{"xpd_2_n2", "xpd_2_n3"}; !slices.Equal(got, want) {
			t.Errorf("slots: %v, want %v", got, want)
		}
		r := n1.await("its standby", func(r pgcluster.Report) bool {
			s, ok := r.Sender("n2")
			return ok && s.Streaming
		})
		// It may be seen while it is refused.
		if s, ok := r.Sender("n3"); (ok && s.Streaming) || r.Barrier == 2 {
			t.Errorf("a standby streams on the orders of epoch 1: %+v", r)
		}
	})
	t.Run("a primary that goes on", func(t *testing.T) { //nolint:paralleltest // a step
		lead := pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(3, 30), Sync: anyOf(1, "n2", "n3"), Barrier: true}
		n1.submit(lead)
		n1.await("the new slots", func(pgcluster.Report) bool { return slices.Equal(slotNames(t, n1), []string{"xpd_3_n2", "xpd_3_n3"}) })
		if r := n1.Report(); r.Barrier == 3 {
			t.Error("the standby of epoch 2 acknowledged the barrier of epoch 3")
		}
		n2.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(3, 31), Upstream: "n1"})
		n1.do(lead)
	})
	t.Run("dropped by hand", func(t *testing.T) { //nolint:paralleltest // a step
		exec(t, n1.admin(), "SELECT pg_drop_replication_slot('xpd_3_n3')")
		awaitSlots(t, n1, "xpd_3_n2", "xpd_3_n3")
	})
	t.Run("a walsender without a slot", func(t *testing.T) { //nolint:paralleltest // a step
		exec(t, n3.admin(), "ALTER SYSTEM SET primary_slot_name = ''")
		exec(t, n3.admin(), "SELECT pg_reload_conf()")
		admin, pid := n1.admin(), 0
		n1.await("the stranger", func(pgcluster.Report) bool {
			pid = query[int](t, admin, `SELECT coalesce(max(pid), 0) FROM pg_stat_replication
				WHERE application_name = 'n3' AND state = 'streaming'`)
			return pid != 0
		})
		n1.await("its end", func(pgcluster.Report) bool {
			return query[bool](t, admin, "SELECT NOT EXISTS (SELECT FROM pg_stat_replication WHERE pid = $1)", pid)
		})
		exec(t, n3.admin(), "ALTER SYSTEM RESET primary_slot_name")
		exec(t, n3.admin(), "SELECT pg_reload_conf()")
	})
	n3.start()
	n3.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(3, 32), Upstream: "n1"})
}

// TestAgent_F41_aStandbyAwayThroughAFailover follows the new primary without a copy:
// the other standby kept what it lacks.
func TestAgent_F41_aStandbyAwayThroughAFailover(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 3, false)
	n1, n2, n3 := nodes[0], nodes[1], nodes[2]
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	n3.await("replay", caughtUp(n1))
	awaitSlots(t, n2, "xpd_keep_n1", "xpd_keep_n3")
	n3.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(1, 20)})
	before := inode(t, n3)
	recycle(t, n2, n1)

	n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 30)})
	n1.kill9()
	n1.await("crash", pgcluster.Report.Down)
	r := n2.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 31), Barrier: true, Open: true})
	awaitSlots(t, n2, "xpd_2_n1", "xpd_2_n3")
	recycle(t, n2, n2)
	n3.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 32), Upstream: "n2", Lineage: r.Lineage})
	n3.await("replay", caughtUp(n2))
	if !os.SameFile(before, inode(t, n3)) {
		t.Error("it was cloned")
	}
}

// TestAgent_restingReleasesWAL has a standby on a host that people work on, and that
// streams on: its slots let go of what the others have.
func TestAgent_restingReleasesWAL(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 3, false)
	n1, n2 := nodes[0], nodes[1]
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	awaitSlots(t, n2, "xpd_keep_n1", "xpd_keep_n3")
	n2.do(pgcluster.Order{Kind: pgcluster.OrderRest, Stamp: stamp(1, 20)})
	end := query[string](t, n1.admin(), "SELECT pg_current_wal_flush_lsn()::text")
	recycle(t, n2, n1)
	admin := n2.admin()
	n2.await("release of WAL", func(pgcluster.Report) bool {
		return query[bool](t, admin, "SELECT bool_and(restart_lsn > $1::text::pg_lsn) FROM pg_replication_slots", end)
	})
}

// TestAgent_F41_aStandbyAwayForTooLong has more WAL written than a slot may hold
// back: the standby is cloned, and its slot works again.
func TestAgent_F41_aStandbyAwayForTooLong(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, false)
	n1, n2 := nodes[0], nodes[1]
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	exec(t, n1.admin(), "ALTER SYSTEM SET max_slot_wal_keep_size = '4MB'")
	exec(t, n1.admin(), "SELECT pg_reload_conf()")
	n2.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(1, 20)})
	before := inode(t, n2)
	recycle(t, n1, n1)
	n2.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(1, 21), Upstream: "n1"})
	n2.await("replay", caughtUp(n1))
	if os.SameFile(before, inode(t, n2)) {
		t.Error("it follows, although the WAL that it lacks must be gone")
	}
	if !query[bool](t, n1.admin(), "SELECT active AND wal_status <> 'lost' FROM pg_replication_slots WHERE slot_name = 'xpd_1_n2'") {
		t.Error("the slot is not in use")
	}
}
