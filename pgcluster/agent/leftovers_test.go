package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
)

// TestAgent_halfARewind has a node die while pg_rewind works on what was the
// primary. What lies there is part old and part new: it must neither count as the
// old primary's WAL nor start.
func TestAgent_halfARewind(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, false)
	n1 := nodes[0]
	n1.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 20)})
	n1.end(false)
	if err := os.WriteFile(filepath.Join(n1.o.Dir, "pg", "rewind.in-progress"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n1.start()
	r := n1.await("a look at the data", func(r pgcluster.Report) bool { return r.Process != pgcluster.ProcessStarting })
	if r.Role != pgcluster.RoleNone || r.PositionKnown {
		t.Errorf("half a rewind is reported as role %q, position known: %v", r.Role, r.PositionKnown)
	}
	for i, o := range []pgcluster.Order{
		{Kind: pgcluster.OrderRecruit, Stamp: stamp(3, 30)},
		{Kind: pgcluster.OrderLead, Stamp: stamp(3, 31), Barrier: true},
	} {
		n1.submit(o)
		r = n1.await("a refusal", func(r pgcluster.Report) bool {
			return r.Order.Stamp == o.Stamp && (r.Order.Error != "" || r.Order.Done)
		})
		if r.Order.Done || r.Recruited == 3 || r.Running() {
			t.Errorf("order %d: %s was carried out on half a rewind: %+v", i, o.Kind, r)
		}
	}
}

// TestAgent_unreadablePIDFile has a machine lose its power before the contents of
// postmaster.pid reached the disk.
func TestAgent_unreadablePIDFile(t *testing.T) {
	t.Parallel()
	n1 := initialized(t, 1, false)[0]
	n1.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 20)})
	n1.end(false)
	if err := os.WriteFile(filepath.Join(n1.o.Dir, "pg", "data", "postmaster.pid"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n1.start()
	n1.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(3, 30), Barrier: true, Open: true})
}

// TestAgent_F35_undoesAlterSystem has somebody override the rule of synchronous
// commits by hand: no standby is waited for, until the agent notices.
func TestAgent_F35_undoesAlterSystem(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, true)
	n1 := nodes[0]
	admin := n1.admin()
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = ''", "ALTER SYSTEM SET work_mem = '5MB'", "SELECT pg_reload_conf()"} {
		exec(t, admin, sql)
	}
	// It is taken back so soon that no report needs to have shown it.
	n1.await("the change to be noticed", func(r pgcluster.Report) bool { return mentions(r.Overrides, "synchronous_standby_names= at ") })
	n1.await("the rule in force again", func(r pgcluster.Report) bool { return r.SyncNames == "ANY 1 (n2)" && r.Order.Done })
	n1.awaitShow("synchronous_standby_names", "ANY 1 (n2)")
	if got := query[string](t, n1.admin(), "SHOW work_mem"); got != "5MB" {
		t.Errorf("work_mem = %s: a setting that is not the agent's was reset", got)
	}
	nodes[1].kill9()
	conn, ended := n1.service(), make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "CREATE TABLE waits ()")
		ended <- err
	}()
	pid := waiter(t, n1.admin(), -1)
	exec(t, n1.admin(), "SELECT pg_terminate_backend($1)", pid)
	if err := <-ended; err == nil {
		t.Error("a commit that no standby has was acknowledged")
	}
}

// TestAgent_confirmsARuleByANewSession has the sessions of the agent load a rule that
// the postmaster has not passed on: what they show says nothing of the walsenders.
func TestAgent_confirmsARuleByANewSession(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, true)
	n1 := nodes[0]
	rows, err := n1.admin().Query(t.Context(), "SELECT pid FROM pg_stat_activity WHERE application_name = 'xpd_agent'")
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil || len(sessions) == 0 {
		t.Fatalf("the agent's sessions: %v, %v", sessions, err)
	}
	postmaster, _ := n1.postmaster()
	if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(postmaster, syscall.SIGCONT) //nolint:errcheck // it may have ended
	n1.submit(pgcluster.Order{
		Kind: pgcluster.OrderLead, Stamp: stamp(1, 20), Sync: anyOf(2, "n2"), SyncSeq: 5, Barrier: true, Open: true,
	})
	r := n1.await("the new rule in an old session", func(r pgcluster.Report) bool {
		for _, pid := range sessions {
			_ = syscall.Kill(pid, syscall.SIGHUP) // some end by themselves
		}
		return r.SyncNames == "ANY 2 (n2)"
	})
	if r.Order.SyncSeq != 0 {
		t.Errorf("rule %d is confirmed by a session that was there before", r.Order.SyncSeq)
	}
	r = n1.await("a stall", func(r pgcluster.Report) bool { return r.ConnectStalled >= 2*time.Second })
	if r.Order.SyncSeq != 0 {
		t.Errorf("rule %d is confirmed while the postmaster knows nothing of it", r.Order.SyncSeq)
	}
	if err := syscall.Kill(postmaster, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	n1.await("the rule confirmed", func(r pgcluster.Report) bool { return r.Order.SyncSeq == 5 })
}
