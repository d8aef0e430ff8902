package agent_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/pgcluster"
)

func TestAgent_clonesAndStreams(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, true)
	n1, n2 := nodes[0], nodes[1]

	r1 := n1.Report()
	if r1.Open != 1 || r1.Barrier != 1 || r1.Led != 1 || r1.SyncNames != "ANY 1 (n2)" {
		t.Errorf("primary reports open %d, barrier %d, led %d, sync %q", r1.Open, r1.Barrier, r1.Led, r1.SyncNames)
	}
	conn := n1.service()
	exec(t, conn, "CREATE TABLE t (v int)")
	exec(t, conn, "INSERT INTO t VALUES (1)")
	if _, ok := r1.Sender("n2"); !ok {
		t.Errorf("no sender for n2: %+v", r1.Senders)
	}
	r2 := n2.Report()
	if diff := cmp.Diff(pgcluster.NodeID("n1"), r2.Receiver.Upstream); diff != "" {
		t.Errorf("upstream (-want +got):\n%s", diff)
	}
	if r2.SystemID != r1.SystemID || r2.Role != pgcluster.RoleStandby {
		t.Errorf("standby reports system %s, role %s; primary's system is %s", r2.SystemID, r2.Role, r1.SystemID)
	}
	n2.await("replay of what was committed", func(r pgcluster.Report) bool {
		return r.Position.Timeline == 1 && r.Replayed >= r1.Position.LSN
	})
}
