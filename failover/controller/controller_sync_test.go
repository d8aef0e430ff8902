package controller_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// after lets d pass on the bubble's clock and all goroutines settle.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestController_bootstrapsOnlyWhileLeading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(failover.State{})
		n := newFakeNodes(l, pgcluster.Report{Node: "n1", Role: pgcluster.RoleNone},
			pgcluster.Report{Node: "n2", Role: pgcluster.RoleNone}, pgcluster.Report{Node: "n3", Role: pgcluster.RoleNone})
		run(t, "n2", l, n)
		after(time.Minute)
		if _, index := l.State(); index != 0 {
			t.Fatal("a follower changed the state")
		}

		l.lead(true)
		after(time.Second)
		s, _ := l.State()
		if diff := cmp.Diff(members(), s.Members); diff != "" {
			t.Errorf("members (-want +got):\n%s", diff)
		}
		orders := n.sent("n1")
		if len(orders) == 0 || orders[0].Kind != pgcluster.OrderInit {
			t.Fatalf("orders to n1 = %+v, want init first", orders)
		}
		if got, want := orders[0].Stamp, (pgcluster.Stamp{Epoch: 1, Term: 8, Index: 2}); got != want {
			t.Errorf("stamp = %+v, want %+v", got, want)
		}
		if len(orders) > 5 {
			t.Errorf("%d orders in a second: an accepted one is repeated too often", len(orders))
		}

		l.lead(false)
		synctest.Wait()
		before := len(n.sent(""))
		after(time.Minute)
		if got := len(n.sent("")); got != before {
			t.Errorf("%d orders were sent after leadership was lost", got-before)
		}
	})
}

// A leader that was deposed and elected again between two looks must not go on
// with its old term.
func TestController_newTermGetsNewStamps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(failover.State{})
		n := newFakeNodes(l, pgcluster.Report{Node: "n1", Role: pgcluster.RoleNone},
			pgcluster.Report{Node: "n2", Role: pgcluster.RoleNone}, pgcluster.Report{Node: "n3", Role: pgcluster.RoleNone})
		run(t, "n2", l, n)
		l.lead(true)
		after(time.Second)
		l.lead(true)
		after(time.Second)
		orders := n.sent("n1")
		if got := orders[len(orders)-1].Stamp.Term; got != 9 {
			t.Errorf("last order has term %d, want 9", got)
		}
	})
}

func TestController_actsOnACrashAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(steadyState())
		n := newFakeNodes(l, steadyReports()...)
		run(t, "n2", l, n)
		l.lead(true)
		after(10 * time.Second)
		if s, index := l.State(); index != 10 || s.Op != nil {
			t.Fatalf("a steady cluster was changed: index %d, op %+v", index, s.Op)
		}
		if orders := n.sent(""); len(orders) != 0 {
			t.Fatalf("a steady cluster was ordered about: %+v", orders)
		}
		n.set("n1", func(r *pgcluster.Report) { r.Process = pgcluster.ProcessCrashed })
		synctest.Wait() // no time passes
		if op := l.op(); op == nil || op.Phase != failover.PhaseRecruit || op.Epoch != 4 {
			t.Fatalf("op = %+v, want recruit for epoch 4", op)
		}
		for _, id := range []pgcluster.NodeID{"n1", "n2", "n3"} {
			if orders := n.sent(id); len(orders) == 0 || orders[0].Kind != pgcluster.OrderRecruit {
				t.Errorf("orders to %s = %+v, want recruit", id, orders)
			}
		}
	})
}

func TestController_silenceNeedsItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(steadyState())
		n := newFakeNodes(l, steadyReports()...)
		run(t, "n2", l, n)
		l.lead(true)
		after(10 * time.Second)
		n.silence("n1")
		for _, id := range []pgcluster.NodeID{"n2", "n3"} {
			n.set(id, func(r *pgcluster.Report) { r.Receiver.Streaming = false })
		}
		after(time.Second)
		if op := l.op(); op != nil {
			t.Fatalf("op = %+v after a second of silence, want none", op)
		}
		after(time.Second)
		if op := l.op(); op == nil || op.Kind != failover.KindFailover {
			t.Errorf("op = %+v after two seconds of silence, want a failover", op)
		}
	})
}

func TestController_staleDecisionIsMadeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(steadyState())
		n := newFakeNodes(l, steadyReports()...)
		run(t, "n2", l, n)
		l.lead(true)
		after(time.Second)
		l.mu.Lock()
		l.intrude = func(s *failover.State) { s.Ops = 41 }
		l.mu.Unlock()
		n.set("n1", func(r *pgcluster.Report) { r.Process = pgcluster.ProcessCrashed })
		synctest.Wait()
		if op := l.op(); op == nil || op.ID != 42 {
			t.Errorf("op = %+v, want number 42, on top of the other's change", op)
		}
	})
}

func TestController_slowNodeHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(steadyState())
		n := newFakeNodes(l, steadyReports()...)
		run(t, "n2", l, n)
		l.lead(true)
		after(time.Second)
		n.silence("n3")
		n.mu.Lock()
		n.orders = nil
		n.mu.Unlock()
		n.set("n1", func(r *pgcluster.Report) { r.Process = pgcluster.ProcessCrashed })
		after(time.Second)
		if got := len(n.sent("n2")); got < 3 {
			t.Errorf("n2 got %d orders in a second, want one every quarter", got)
		}
		if got := len(n.sent("n3")); got != 0 {
			t.Errorf("n3 took %d orders", got)
		}
	})
}

func TestController_movesLeadershipOffThePrimary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(steadyState())
		n := newFakeNodes(l, steadyReports()...)
		run(t, "n1", l, n)
		l.lead(true)
		after(time.Second)
		want := []pgcluster.NodeID{"n2"}
		if diff := cmp.Diff(want, l.transfers); diff != "" {
			t.Errorf("transfers in the first second (-want +got):\n%s", diff)
		}
		n.silence("n2")
		after(8 * time.Second)
		want = []pgcluster.NodeID{"n2", "n3"} // at most every 5 s, and to a node that is there
		if diff := cmp.Diff(want, l.transfers); diff != "" {
			t.Errorf("transfers in 9 s (-want +got):\n%s", diff)
		}
	})
}

func TestController_leadershipStaysOffThePrimary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(steadyState())
		n := newFakeNodes(l, steadyReports()...)
		run(t, "n3", l, n)
		l.lead(true)
		after(time.Minute)
		if len(l.transfers) != 0 {
			t.Errorf("transfers = %v, want none", l.transfers)
		}
	})
}

func TestChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog(steadyState())
		n := newFakeNodes(l, steadyReports()...)
		c := run(t, "n2", l, n)
		switchover := func(to pgcluster.NodeID) (failover.State, error) {
			return c.Change(t.Context(), func(s failover.State, v failover.View) (failover.State, error) {
				return failover.Switchover(s, v, failover.DefaultPolicy(), to, "maintenance")
			})
		}
		if _, err := switchover("n3"); !errors.Is(err, failover.ErrNotLeader) {
			t.Errorf("Change() on a follower = %v, want ErrNotLeader", err)
		}
		l.lead(true)
		after(time.Second)
		_, err := switchover("n1")
		if _, refused := errors.AsType[*failover.RefusedError](err); !refused {
			t.Errorf("Change() to the primary = %v, want a refusal", err)
		}
		l.mu.Lock()
		l.intrude = func(s *failover.State) { s.Ops = 41 }
		l.mu.Unlock()
		s, err := switchover("n3")
		if err != nil || s.Op == nil || s.Op.ID != 42 || s.Op.To != "n3" || s.Op.Kind != failover.KindSwitchover {
			t.Fatalf("Change() = %+v, %v", s.Op, err)
		}
		synctest.Wait()
		if orders := n.sent("n1"); len(orders) != 1 || orders[0].Kind != pgcluster.OrderCheckpoint {
			t.Errorf("orders to n1 = %+v, want a checkpoint", orders)
		}
	})
}
