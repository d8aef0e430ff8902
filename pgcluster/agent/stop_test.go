package agent_test

import (
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Somebody changes their mind while a primary that is to stop lets transactions end: it
// stays open, so it must take writes again.
func TestAgent_opensAgainAfterAStopThatWasTakenBack(t *testing.T) {
	t.Parallel()
	n1 := initialized(t, 1, false)[0]
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	slow := n1.service()
	exec(t, slow, "BEGIN")
	exec(t, slow, "INSERT INTO t VALUES (1)") // keeps the stop waiting

	n1.submit(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(1, 20)})
	n1.await("drain", func(r pgcluster.Report) bool { return r.Order.Step == "letting transactions end" })
	n1.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(1, 21), Barrier: true, Open: true})
	exec(t, n1.service(), "INSERT INTO t VALUES (2)")
	exec(t, slow, "COMMIT")
}
