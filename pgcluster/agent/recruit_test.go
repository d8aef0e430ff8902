package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// TestAgent_recruitEndsItsReceiver has a walreceiver that cannot end for a while. Until it
// has, the node is not recruited; and no other one can log in afterwards.
func TestAgent_recruitEndsItsReceiver(t *testing.T) {
	t.Parallel()
	n2 := initialized(t, 2, true)[1]
	pid := query[int](t, n2.admin(), "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	key := filepath.Join(n2.o.Dir, "pg", "conf", "upstream.pgpass")
	if _, err := os.Stat(key); err != nil {
		t.Fatal(err)
	}
	n2.submit(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 20)})
	notRecruited(t, n2, "its walreceiver is still there")
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	n2.await("recruited", func(r pgcluster.Report) bool { return r.Recruited == 2 })
	if _, err := os.Stat(key); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a recruit still has the password for its upstream: %v", err)
	}
}

// TestAgent_recruitIsAtTheEndOfItsWAL has a standby answer long before it has replayed all
// that it flushed, and so before it knows where its WAL ends.
func TestAgent_recruitIsAtTheEndOfItsWAL(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, true)
	n1, n2 := nodes[0], nodes[1]
	conn := n1.service()
	exec(t, conn, "CREATE TABLE t (v int)")
	n2.await("replay of the table", caughtUp(n1))
	admin := n2.admin()
	exec(t, admin, "ALTER SYSTEM SET recovery_min_apply_delay = '1h'")
	exec(t, admin, "SELECT pg_reload_conf()")
	exec(t, conn, "INSERT INTO t VALUES (1)") // acknowledged, as n2 has flushed it
	end, err := pgcluster.ParseLSN(query[string](t, n1.admin(), "SELECT pg_current_wal_flush_lsn()::text"))
	if err != nil {
		t.Fatal(err)
	}
	n2.await("all of it", func(r pgcluster.Report) bool { return r.Position.LSN >= end })
	n2.kill9()
	n2.await("crash", pgcluster.Report.Down)
	n2.submit(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 20)})
	n2.await("answers", pgcluster.Report.Running)
	notRecruited(t, n2, "it has not replayed what it has")
	admin = n2.admin()
	exec(t, admin, "ALTER SYSTEM RESET recovery_min_apply_delay")
	exec(t, admin, "SELECT pg_reload_conf()")
	r := n2.await("recruited", func(r pgcluster.Report) bool { return r.Recruited == 2 })
	if !r.PositionKnown || r.Position.LSN < end {
		t.Errorf("recruited at %v, known %v; it has acknowledged up to %v", r.Position, r.PositionKnown, end)
	}
}

// notRecruited watches for a while.
func notRecruited(t *testing.T, n *node, why string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for r := n.Report(); ctx.Err() == nil; r = n.Changed(ctx, r.Seq) {
		if r.Recruited == 2 {
			t.Fatalf("recruited at %v, though %s", r.Position, why)
		}
	}
}
