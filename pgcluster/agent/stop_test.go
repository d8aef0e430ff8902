package agent_test

import (
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Somebody changes their mind while a primary that is to stop lets transactions end: it
// stays open, so it must take writes again.
func TestAgent_opensAgainAfterAStopThatWasTakenBack(t *testing.T) {
	t.Parallel()
	for range 10 {
		if takeBackAStop(t) {
			return
		}
	}
	t.Error("no stop was seen to let transactions end")
}

// takeBackAStop returns false if the stop was over before the test saw it.
func takeBackAStop(t *testing.T) bool {
	t.Helper()
	n1 := initialized(t, 1, false)[0]
	exec(t, n1.service(), "CREATE TABLE t (v int)")
	pid, _ := n1.postmaster()
	slow := n1.service()
	exec(t, slow, "BEGIN")
	exec(t, slow, "INSERT INTO t VALUES (1)") // keeps the stop waiting

	n1.submit(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(1, 20)})
	r := n1.await("drain", func(r pgcluster.Report) bool {
		return r.Order.Step == "letting transactions end" || r.Order.Done && r.Down()
	})
	if r.Down() {
		return false
	}
	lead := pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(1, 21), Barrier: true, Open: true}
	n1.submit(lead)
	stopped := func() bool { now, ok := n1.postmaster(); return !ok || now != pid }
	n1.await("opening", func(r pgcluster.Report) bool { return stopped() || r.Order.Stamp == lead.Stamp && r.Order.Done })
	if stopped() {
		return false
	}
	exec(t, n1.service(), "INSERT INTO t VALUES (2)")
	exec(t, slow, "COMMIT")
	return true
}
