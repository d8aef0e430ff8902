package controller_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// steps are the changes of the Raft group so far, as text.
func (l *fakeLog) steps() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, c := range l.changes {
		out = append(out, string(c.Step)+" "+string(c.Server.ID))
	}
	return out
}

func TestController_groupFollowsTheMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(steadyState())
		n := newFakeNodes(l, steadyReports()...)
		c := run(t, "n2", l, n)
		l.lead(true)
		after(5 * time.Second)
		if got := l.steps(); len(got) != 0 {
			t.Fatalf("steps = %v, want none while the members are the voters", got)
		}

		l.change(func(s *failover.State) { s.Members = append(members(), pgcluster.Member{ID: "n4"}) })
		after(10 * time.Second)
		if diff := cmp.Diff([]string{"add n4"}, l.steps()); diff != "" {
			t.Errorf("before n4 is there (-want +got):\n%s", diff)
		}
		n.set("n4", func(r *pgcluster.Report) { r.Node, r.Role = "n4", pgcluster.RoleNone })
		after(1500 * time.Millisecond)
		if diff := cmp.Diff([]string{"add n4"}, l.steps()); diff != "" {
			t.Errorf("before n4 is stable (-want +got):\n%s", diff)
		}
		after(2 * time.Second)
		if diff := cmp.Diff([]string{"add n4", "promote n4"}, l.steps()); diff != "" {
			t.Errorf("when n4 is stable (-want +got):\n%s", diff)
		}
		if _, seen := c.View().Reports["n4"]; !seen {
			t.Error("n4 is not observed")
		}

		l.change(func(s *failover.State) { s.Members = slices.Delete(slices.Clone(s.Members), 2, 3) })
		after(1500 * time.Millisecond)
		if got := l.steps(); len(got) != 2 {
			t.Errorf("steps = %v: n3 had no time to learn of its removal", got)
		}
		after(time.Second + 500*time.Millisecond)
		if got := l.steps(); len(got) != 3 || got[2] != "remove n3" {
			t.Errorf("steps = %v, want the removal of n3", got)
		}
		if _, seen := c.View().Reports["n3"]; seen {
			t.Error("n3 is still observed")
		}
	})
}

// A member that died after another's removal was agreed on: what is left of the group would
// be no majority, so the removed server stays until the dead one is back.
func TestController_groupKeepsItsMajority(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(steadyState())
		n := newFakeNodes(l, steadyReports()...)
		run(t, "n2", l, n)
		l.lead(true)
		after(time.Second)
		n.silence("n1")
		l.change(func(s *failover.State) { s.Members = members()[:2] })
		after(10 * time.Second)
		if got := l.steps(); len(got) != 0 {
			t.Errorf("steps = %v: n2 alone cannot agree on anything any more", got)
		}
		n.mu.Lock()
		delete(n.silent, "n1")
		n.mu.Unlock()
		after(3 * time.Second)
		if diff := cmp.Diff([]string{"remove n3"}, l.steps()); diff != "" {
			t.Errorf("when n1 is back (-want +got):\n%s", diff)
		}
	})
}

// A newcomer that hangs does not keep the next one from voting, and what is done about
// another server does not wait for it.
func TestController_groupDoesNotWaitForOneThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(steadyState())
		n := newFakeNodes(l, steadyReports()...)
		run(t, "n2", l, n)
		l.lead(true)
		n.silence("n4")
		n.set("n5", func(r *pgcluster.Report) { r.Node, r.Role = "n5", pgcluster.RoleNone })
		l.change(func(s *failover.State) {
			s.Members = append(members(), pgcluster.Member{ID: "n4"}, pgcluster.Member{ID: "n5"})
		})
		after(15 * time.Second)
		if diff := cmp.Diff([]string{"add n4", "add n5", "promote n5"}, l.steps()); diff != "" {
			t.Errorf("n4 hangs (-want +got):\n%s", diff)
		}
	})
}

func TestController_aLeaderThatIsRemovedHandsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(steadyState())
		n := newFakeNodes(l, steadyReports()...)
		run(t, "n3", l, n)
		l.lead(true)
		after(time.Second)
		l.change(func(s *failover.State) { s.Members = members()[:2] })
		after(3 * time.Second)
		if got := l.steps(); len(got) != 0 {
			t.Errorf("steps = %v: it removed itself", got)
		}
		if len(l.transfers) == 0 || slices.Contains(l.transfers, "n3") {
			t.Errorf("transfers = %v, want some to the members", l.transfers)
		}
	})
}
