package failover_test

import (
	"testing"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// A removed node stays out, however much happens later, until it is added again.
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
	s, err := failover.AddMember(s, v, policy, pgcluster.Member{ID: "n3", Host: "127.0.0.9", HTTPPort: 1, RaftPort: 2, PGPort: 3})
	if err != nil {
		t.Fatal(err)
	}
	if s.Removed("n3") {
		t.Error("Removed(n3) after it was added again")
	}
	if len(s.Gone) > 0 {
		t.Errorf("names of former members: %v", s.Gone)
	}
}
