package agent_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
)

// TestAgent_restart restarts a standby once for each number, so that it runs with a
// setting that needs it.
func TestAgent_restart(t *testing.T) { //nolint:tparallel // the steps build on each other
	t.Parallel()
	nodes := initialized(t, 2, true)
	n1, n2 := nodes[0], nodes[1]
	exec(t, n2.admin(), "ALTER SYSTEM SET max_connections = 210")
	pid, _ := n2.postmaster()
	restart := pgcluster.Order{Kind: pgcluster.OrderRestart, Stamp: stamp(1, 20), Restart: 1}
	r := n2.do(restart)
	after, _ := n2.postmaster()
	if after == pid || r.Restarted != 1 || !r.Receiver.Streaming {
		t.Errorf("postmaster %d became %d; report %+v", pid, after, r)
	}
	if got := query[string](t, n2.admin(), "SHOW max_connections"); got != "210" {
		t.Errorf("max_connections = %s", got)
	}
	exec(t, n1.service(), "CREATE TABLE t (v int)") // waits for the standby

	t.Run("not again for the same number", func(t *testing.T) { //nolint:paralleltest // a step
		n2.end(false)
		n2.start()
		restart.Stamp = stamp(1, 21)
		n2.do(restart)
		if again, _ := n2.postmaster(); again != after {
			t.Errorf("postmaster %d became %d", after, again)
		}
	})
	t.Run("never a primary", func(t *testing.T) { //nolint:paralleltest // a step
		pid, _ := n1.postmaster()
		n1.submit(pgcluster.Order{Kind: pgcluster.OrderRestart, Stamp: stamp(1, 22), Restart: 2})
		n1.await("refusal", func(r pgcluster.Report) bool { return r.Order.Kind == pgcluster.OrderRestart && r.Order.Error != "" })
		if after, ok := n1.postmaster(); !ok || after != pid {
			t.Errorf("postmaster %d became %d", pid, after)
		}
	})
}

// TestAgent_F36_promotedByHand has a standby become a primary of its own. Its commits
// wait for nobody there is, and it is taken back, whatever it was ordered last.
func TestAgent_F36_promotedByHand(t *testing.T) { //nolint:tparallel // the steps build on each other
	t.Parallel()
	nodes := initialized(t, 2, true)
	n1, n2 := nodes[0], nodes[1]
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	n2.await("replay", caughtUp(n1))

	pid, _ := n2.postmaster()
	exec(t, n2.admin(), "SELECT pg_promote(false)")
	n2.await("a standby again", func(r pgcluster.Report) bool {
		after, ok := n2.postmaster()
		return ok && after != pid && r.Order.Done && r.Role == pgcluster.RoleStandby && r.Receiver.Streaming && r.Position.Timeline == 1
	})
	exec(t, n1.service(), "INSERT INTO t VALUES (1)") // acknowledged by it

	t.Run("while it is recruited", func(t *testing.T) {
		n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 20)})
		exec(t, n2.admin(), "SELECT pg_promote(false)")
		r := n2.await("its end", func(r pgcluster.Report) bool { return r.Down() && r.Order.Done })
		if r.Recruited != 2 || r.Role != pgcluster.RolePrimary || r.Position.Timeline != 2 {
			t.Errorf("report %+v", r)
		}
	})
}

// TestAgent_recruitDistrustsAForeignUpstream has somebody give a standby an upstream
// and a password by hand, so that it needs no key of the agent's to stream.
func TestAgent_recruitDistrustsAForeignUpstream(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, true)
	n1, n2 := nodes[0], nodes[1]
	admin := n2.admin()
	quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(n1.o.Secrets.Replication)
	conninfo := fmt.Sprintf("host=%s port=%d user=%s application_name=n2 password='%s'", n1.m.Host, n1.m.PGPort, agent.ReplicationRole, quoted)
	exec(t, admin, "ALTER SYSTEM SET primary_conninfo = "+"'"+strings.ReplaceAll(conninfo, "'", "''")+"'")
	exec(t, admin, "SELECT pg_reload_conf()")
	pid, _ := n2.postmaster()
	r := n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 20)})
	if after, _ := n2.postmaster(); after == pid {
		t.Error("the server that may log in by itself still runs")
	}
	if !r.PositionKnown || r.Receiver.Streaming || r.Recruited != 2 {
		t.Errorf("recruit reports %+v", r)
	}
	if got := query[string](t, n2.admin(), "SHOW primary_conninfo"); got != "" {
		t.Errorf("primary_conninfo = %q", got)
	}
}
