package agent_test

import (
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
)

// TestAgent_anotherSecret replaces the secret while PostgreSQL runs on. The standby then
// logs in anew, and is promoted.
func TestAgent_anotherSecret(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, true)
	n1, n2 := nodes[0], nodes[1]
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	pid, _ := n1.postmaster()
	for _, n := range nodes {
		n.end(false)
		n.o.Secrets = agent.Secrets{Admin: "another admin", Replication: "another replication", Service: "another service"}
		n.start()
	}
	if _, err := n1.tryService(); err == nil {
		t.Fatal("the new password works before anybody has set it: this tests nothing")
	}
	n1.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(1, 11), Sync: anyOf(1, "n2"), Barrier: true, Open: true})
	if now, _ := n1.postmaster(); now != pid {
		t.Error("PostgreSQL was restarted for another secret")
	}
	exec(t, n1.service(), "INSERT INTO t VALUES (1)")
	n1.o.Secrets.Service = "service"
	if _, err := n1.tryService(); err == nil {
		t.Error("the old password still opens")
	}
	n1.o.Secrets.Service = "another service"

	n2.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(1, 12), Upstream: "n1", Lineage: n1.Report().Lineage})
	n2.kill9()
	n2.await("crash", pgcluster.Report.Down)
	n2.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(1, 13), Upstream: "n1", Lineage: n1.Report().Lineage})
	exec(t, n1.service(), "INSERT INTO t VALUES (2)")
	n1.kill9()
	n1.await("crash", pgcluster.Report.Down)
	n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 20)})
	n2.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 21), Barrier: true, Open: true})
	if got := query[int](t, n2.service(), "SELECT count(*)::int FROM t"); got != 2 {
		t.Errorf("%d rows on the promoted standby, want 2", got)
	}
}
