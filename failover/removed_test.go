package failover_test

import (
	"testing"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// A removed node stays out, however much happens later, and nobody gets its name again: the
// old node's pledges and votes are part of what was agreed on, and the new one has none.
func TestState_Removed(t *testing.T) {
	t.Parallel()
	s, v := steady(), see(primary(), standby("n2"), standby("n3"))
	s.Members[2].Leaving = true
	s.Sync.Durable = anyOne("n2")
	s, _ = failover.Step(s, v, policy)
	for range 300 {
		s.History = append(s.History, failover.Event{Kind: "grow"})[1:]
	}
	for id, want := range map[pgcluster.NodeID]bool{"n1": false, "n2": false, "n3": true, "n9": false} {
		if got := s.Removed(id); got != want {
			t.Errorf("Removed(%s) = %v, want %v", id, got, want)
		}
	}
	hosts(&s)
	again := pgcluster.Member{ID: "n3", Host: "n9", HTTPPort: 1, RaftPort: 2, PGPort: 3}
	if got, err := failover.AddMember(s, v, policy, again); !isRefused(err) || !got.Removed("n3") {
		t.Errorf("AddMember() of a name that was removed: %v, removed is %v; want it refused", err, got.Removed("n3"))
	}
	again.ID = "n4"
	if s, err := failover.AddMember(s, v, policy, again); err != nil || !s.Removed("n3") || len(s.Gone) != 1 {
		t.Errorf("AddMember() of another name: %v, former members %v", err, s.Gone)
	}
}
