package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
)

func TestAgent_reportsAKilledPrimaryAndStaysDown(t *testing.T) { //nolint:tparallel // the steps build on each other
	t.Parallel()
	n1 := initialized(t, 1, false)[0]
	conn := n1.service()
	exec(t, conn, "CREATE TABLE t AS SELECT 1")
	backend := query[int](t, conn, "SELECT pg_backend_pid()")

	began := time.Now()
	n1.kill9()
	r := n1.await("report of the crash", func(r pgcluster.Report) bool { return r.Process == pgcluster.ProcessCrashed })
	t.Logf("reported after %v", time.Since(began))
	if r.Open != 0 || r.Barrier != 0 || r.PositionKnown || r.Role != pgcluster.RolePrimary {
		t.Errorf("crashed primary reports %+v", r)
	}
	if exe, err := os.Readlink(filepath.Join("/proc", itoa(backend), "exe")); err == nil {
		t.Errorf("orphaned backend %d (%s) lives on", backend, exe)
	}

	t.Run("leading again in the epoch is refused", func(t *testing.T) { //nolint:paralleltest // a step
		lead := pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(1, 11), Barrier: true, Open: true}
		n1.submit(lead)
		r := n1.await("refusal", func(r pgcluster.Report) bool { return r.Order.Stamp == lead.Stamp && r.Order.Error != "" })
		if !r.Down() {
			t.Errorf("the process is %s", r.Process)
		}
	})
	t.Run("in the next epoch it is closed until it is opened", func(t *testing.T) { //nolint:paralleltest // a step
		r := n1.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 12), Barrier: true})
		if r.Barrier != 2 || r.Open != 0 || r.Led != 2 {
			t.Errorf("after lead: %+v", r)
		}
		if _, err := n1.tryService(); err == nil {
			t.Error("the service role can log in before the gate is open")
		}
		n1.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 13), Barrier: true, Open: true})
		conn := n1.service()
		if got := query[string](t, conn, "SHOW default_transaction_read_only"); got != "off" {
			t.Errorf("default_transaction_read_only = %s after opening", got)
		}
		exec(t, conn, "CREATE TABLE u AS SELECT 1")
	})
}

// TestAgent_outlivesAHungServer stops every process that the agent talks to.
func TestAgent_outlivesAHungServer(t *testing.T) {
	t.Parallel()
	n1 := initialized(t, 1, false)[0]
	rows, err := n1.admin().Query(t.Context(), "SELECT pid FROM pg_stat_activity WHERE application_name = 'xpd_agent'")
	if err != nil {
		t.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil || len(pids) == 0 {
		t.Fatalf("the agent's backends: %v, %v", pids, err)
	}
	postmaster, _ := n1.postmaster()
	for _, pid := range append(pids, postmaster) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	r := n1.await("complaint", func(r pgcluster.Report) bool { return r.LastError != "" })
	if !r.Running() || r.Open != 1 {
		t.Errorf("a server that hangs is reported %s, open %d", r.Process, r.Open)
	}
	n1.kill9()
	n1.await("crash", pgcluster.Report.Down)
	for _, pid := range pids {
		if _, err := os.Readlink(filepath.Join("/proc", itoa(pid), "exe")); err == nil {
			t.Errorf("stopped backend %d is still there", pid)
		}
	}
}

func TestAgent_isAdoptedByItsSuccessor(t *testing.T) {
	t.Parallel()
	n1 := initialized(t, 1, false)[0]
	conn := n1.service()
	pid, _ := n1.postmaster()
	n1.end(false)
	n1.start()
	r := n1.await("running", pgcluster.Report.Running)
	if after, _ := n1.postmaster(); after != pid {
		t.Errorf("postmaster %d became %d", pid, after)
	}
	if r.Open != 1 || r.Barrier != 1 || r.Led != 1 {
		t.Errorf("adopted primary reports open %d, barrier %d, led %d", r.Open, r.Barrier, r.Led)
	}
	exec(t, conn, "SELECT 1")

	n1.kill9()
	n1.await("report of the adopted server's crash", func(r pgcluster.Report) bool { return r.Process == pgcluster.ProcessCrashed })
	n1.end(false)
	n1.start()
	n1.await("crashed", func(r pgcluster.Report) bool { return r.Process == pgcluster.ProcessCrashed && r.Led == 1 })
}

func TestAgent_recruitCutsStreaming(t *testing.T) { //nolint:tparallel // the steps build on each other
	t.Parallel()
	nodes := initialized(t, 2, true)
	n1, n2 := nodes[0], nodes[1]
	conn := n1.service()
	exec(t, conn, "CREATE TABLE t (v int)")

	recruit := pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 20)}
	began := time.Now()
	n2.submit(recruit)
	r := n2.await("recruited", func(r pgcluster.Report) bool { return r.Recruited == 2 })
	t.Logf("recruited after %v", time.Since(began))
	if !r.PositionKnown || r.Position.LSN == 0 || r.Position.Timeline != 1 {
		t.Errorf("recruit reports position %v, known %v", r.Position, r.PositionKnown)
	}
	lsn := query[string](t, n1.admin(), "SELECT pg_current_wal_lsn()::text")
	if at, err := pgcluster.ParseLSN(lsn); err != nil || r.Position.LSN > at {
		t.Errorf("recruit is at %v, past its primary's %v (%v)", r.Position.LSN, at, err)
	}

	// The primary cannot acknowledge any more.
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	if _, err := conn.Exec(ctx, "INSERT INTO t VALUES (1)"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a commit on the old primary: %v, want it to hang", err)
	}
	if after := n2.Report(); after.Position != r.Position || after.Receiver.Streaming {
		t.Errorf("recruit moved from %v to %v, streaming %v", r.Position, after.Position, after.Receiver.Streaming)
	}

	stale := pgcluster.Order{Node: "n2", Kind: pgcluster.OrderFollow, Stamp: stamp(1, 99), Upstream: "n1"}
	if err := n2.Submit(t.Context(), stale); !errors.Is(err, pgcluster.ErrStaleOrder) {
		t.Errorf("order below the pledge: %v, want ErrStaleOrder", err)
	}
	n2.end(false)
	n2.start()
	if err := n2.Submit(t.Context(), stale); !errors.Is(err, pgcluster.ErrStaleOrder) {
		t.Errorf("order below the pledge after a restart: %v, want ErrStaleOrder", err)
	}
	n2.await("recruited after a restart", func(r pgcluster.Report) bool { return r.Running() && r.Recruited == 2 })

	t.Run("a crashed recruit finds its position again", func(t *testing.T) {
		n2.kill9()
		n2.await("crash", pgcluster.Report.Down)
		again := n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 21)})
		if again.Position.Compare(r.Position) < 0 || !again.PositionKnown {
			t.Errorf("position %v after a crash, %v before", again.Position, r.Position)
		}
	})
}

func TestAgent_failoverAndRejoin(t *testing.T) { //nolint:tparallel // the steps build on each other
	t.Parallel()
	nodes := initialized(t, 3, true)
	n1, n2, n3 := nodes[0], nodes[1], nodes[2]
	conn := n1.service()
	exec(t, conn, "CREATE TABLE t (v int)")
	n2.await("replay of the table", caughtUp(n1))

	// Sessions of the coming primary, made while it is a standby.
	session := n2.service()
	exec(t, session, "SET default_transaction_read_only = off")
	if _, err := session.Prepare(t.Context(), "ins", "INSERT INTO t VALUES ($1)"); err != nil {
		t.Fatal(err)
	}

	system := n1.Report().SystemID
	recruit := pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 20), SystemID: system}
	behind := n3.do(recruit).Position
	n2.await("at least what n3 has", func(r pgcluster.Report) bool { return r.Position.LSN >= behind.LSN })
	n2.do(recruit)
	// n1 goes its own way: this is never acknowledged.
	diverge(t, n1)
	n1.kill9()
	n1.await("crash", pgcluster.Report.Down)

	began := time.Now()
	lead := pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 21), SystemID: system, Sync: anyOf(1, "n1", "n3"), Barrier: true}
	n2.submit(lead)
	promoted := n2.await("promotion", func(r pgcluster.Report) bool { return r.Role == pgcluster.RolePrimary && r.Position.Timeline == 2 })
	t.Logf("promoted after %v", time.Since(began))
	if promoted.Barrier != 0 || promoted.Lineage.Current() != 2 {
		t.Errorf("before a standby is there: barrier %d, lineage %v", promoted.Barrier, promoted.Lineage)
	}

	t.Run("a barrier that somebody cancels does not count", func(t *testing.T) { //nolint:paralleltest // a step
		admin := n2.admin()
		first := waiter(t, admin, 0)
		exec(t, admin, "SELECT pg_cancel_backend($1)", first)
		waiter(t, admin, first)
		if got := n2.Report().Barrier; got != 0 {
			t.Errorf("barrier %d is reported, nobody has acknowledged one", got)
		}
	})
	t.Run("another standby is pointed at it without a restart", func(t *testing.T) { //nolint:paralleltest // a step
		kept := n3.service()
		pid, _ := n3.postmaster()
		n3.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 22), SystemID: system, Upstream: "n2", Lineage: promoted.Lineage})
		if after, _ := n3.postmaster(); after != pid {
			t.Errorf("postmaster %d became %d", pid, after)
		}
		exec(t, kept, "SELECT 1")
	})
	n2.await("barrier", func(r pgcluster.Report) bool { return r.Barrier == 2 && r.Order.Done })
	t.Logf("barrier after %v", time.Since(began))
	lead.Open, lead.Stamp = true, stamp(2, 23)
	n2.do(lead)
	exec(t, session, "ins", 2)

	t.Run("the old primary is rewound, what it had is kept", func(t *testing.T) { //nolint:paralleltest // a step
		before, err := os.Stat(filepath.Join(n1.o.Dir, "pg", "data"))
		if err != nil {
			t.Fatal(err)
		}
		n1.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 24), SystemID: system, Upstream: "n2", Lineage: promoted.Lineage})
		n1.await("replay", caughtUp(n2))
		if got := query[int](t, n1.service(), "SELECT sum(v)::int FROM t"); got != 2 {
			t.Errorf("sum of t on the old primary = %d, want 2: the row that nobody acknowledged is gone", got)
		}
		if after, err := os.Stat(filepath.Join(n1.o.Dir, "pg", "data")); err != nil || !os.SameFile(before, after) {
			t.Errorf("it was cloned instead: %v", err)
		}
		saved, err := filepath.Glob(filepath.Join(n1.o.Dir, "pg", "diverged", "1-*", "00000001*"))
		if err != nil || len(saved) == 0 {
			t.Errorf("no diverged WAL was kept: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(n1.o.Dir, "pg", "*[.-]*")); len(left) != 0 {
			t.Errorf("left over: %v", left)
		}
	})
}

// TestAgent_recruitDistrustsAPromotion has a standby that was told to promote when
// its agent died: it may become a primary at any moment, so recruiting restarts it.
func TestAgent_recruitDistrustsAPromotion(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, false)
	n2 := nodes[1]
	pid, _ := n2.postmaster()
	n2.end(false)
	path := filepath.Join(n2.o.Dir, "agent.json")
	state, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	asked := strings.Replace(string(state), `"promoting": false`, `"promoting": true`, 1)
	if asked == string(state) {
		t.Fatalf("no promotion to pretend in %s", state)
	}
	if err := os.WriteFile(path, []byte(asked), 0o600); err != nil {
		t.Fatal(err)
	}
	n2.start()
	r := n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 20)})
	if after, _ := n2.postmaster(); after == pid {
		t.Error("the server that may promote itself still runs")
	}
	if r.Role != pgcluster.RoleStandby || r.Recruited != 2 || !r.PositionKnown {
		t.Errorf("recruit reports %+v", r)
	}
}
