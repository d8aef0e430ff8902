package failover_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// rolling is a restart under way, as operation 2.
func rolling(to pgcluster.NodeID, todo ...pgcluster.NodeID) failover.State {
	s := steady()
	s.Ops = 2
	s.Op = &failover.Operation{
		ID: 2, Kind: failover.KindRestart, Epoch: 2, Phase: failover.PhaseRestart, From: "n1", To: to, Todo: todo, All: true,
	}
	return s
}

func restarted(r *pgcluster.Report) {
	r.Restarted = 2
	r.Order = pgcluster.OrderStatus{Kind: pgcluster.OrderRestart, Stamp: pgcluster.Stamp{Epoch: 1}, Done: true}
}

func TestStep_restart(t *testing.T) {
	t.Parallel()
	down := func(r *pgcluster.Report) { stopped(r); r.Receiver.Streaming = false }
	without := func(id pgcluster.NodeID) change {
		return func(r *pgcluster.Report) {
			r.Senders = slices.DeleteFunc(slices.Clone(r.Senders), func(s pgcluster.Sender) bool { return s.Node == id })
		}
	}
	lower := func(r *pgcluster.Report) { r.Lower = []string{"max_connections"} }
	higher := func(r *pgcluster.Report) { r.Higher = []string{"max_connections"} }
	checkpointed := func(r *pgcluster.Report) {
		r.Order = pgcluster.OrderStatus{Kind: pgcluster.OrderCheckpoint, Done: true}
	}
	inPlace := func(ph failover.Phase) failover.State {
		s := rolling("", "n2", "n3")
		s.Op.Phase, s.Op.InPlace = ph, true
		return s
	}
	runSteps(t, []stepCase{
		{
			name: "the first standby has its turn", state: rolling("", "n2", "n3", "n1"),
			view: see(primary(), standby("n2"), standby("n3")),
			want: stays + `
				restart e2 restart n2 with none
				> n2 restart e1`,
		},
		{
			name: "it is restarted, whatever else it would be told", state: rolling("n2", "n2", "n3", "n1"),
			view: see(primary(without("n2")), standby("n2", down), standby("n3")),
			want: stays + `
				restart e2 restart n2 with none
				> n2 restart e1`,
		},
		{
			name: "it runs again but does not stream yet", state: rolling("n2", "n2", "n3", "n1"),
			view: see(primary(without("n2")), standby("n2", restarted, cut), standby("n3")),
			want: stays + `
				restart e2 restart n2 with none
				> n2 restart e1`,
		},
		{
			name: "it streams, but that is from before", state: rolling("n2", "n2", "n3", "n1"),
			view: see(primary(), standby("n2"), standby("n3")),
			want: stays + `
				restart e2 restart n2 with none
				> n2 restart e1`,
		},
		{
			name: "it streams again: the next, and the first follows as ever", state: rolling("n2", "n2", "n3", "n1"),
			view: see(primary(), standby("n2", restarted), standby("n3")),
			want: stays + `
				restart e2 restart n3 with none
				> n2 follow e1 n1
				> n3 restart e1`,
		},
		{
			name: "while commits rest on it alone, it has to wait", state: rolling("", "n2", "n3", "n1"),
			view: see(primary(without("n3")), standby("n2"), standby("n3", cut)),
			want: stays + `
				restart e2 restart`,
		},
		{
			name: "of two nodes, none can wait", state: with(rolling("", "n2", "n1"), func(s *failover.State) {
				s.Members, s.Sync.Durable = s.Members[:2], anyOne("n2")
			}),
			view: see(primary(without("n3"), func(r *pgcluster.Report) { r.SyncNames = "ANY 1 (n2)" }), standby("n2")),
			want: `
				n1 open e1 ANY 1 (n2) floor 1:0/A
				restart e2 restart n2 with none
				> n2 restart e1`,
		},
		{
			name: "who is gone restarts when it returns", state: rolling("", "n2", "n1"),
			view: see(primary(without("n2")), standby("n3")),
			want: stays + `
				restart e2 checkpoint n3 with none
				> n1 checkpoint e1`,
		},
		{
			name: "who runs but does not stream yet is waited for", state: rolling("", "n2", "n1"),
			view: see(primary(without("n2")), standby("n2", cut), standby("n3")),
			want: stays + `
				restart e2 restart`,
		},
		{
			name: "who does not stream in time is left out", state: rolling("", "n2", "n1"),
			view: waited(see(primary(without("n2")), standby("n2", cut), standby("n3")), 15*time.Second),
			want: stays + `
				restart e2 checkpoint n3 with none
				> n1 checkpoint e1`,
		},
		{
			name: "the primary is the last: the role moves", state: rolling("n3", "n3", "n1"),
			view: see(primary(), standby("n2"), standby("n3", restarted)),
			want: stays + `
				restart e2 checkpoint n2 with none
				> n1 checkpoint e1
				> n3 follow e1 n1`,
		},
		{
			name: "F42 a setting gets lower: the primary is restarted first, where it is", state: rolling("", "n1", "n2", "n3"),
			view: see(primary(lower), standby("n2"), standby("n3")),
			want: stays + `
				restart e2 checkpoint in place
				> n1 checkpoint e1`,
		},
		{
			name: "F42 a setting gets lower: the role does not move to who has more", state: rolling("", "n1"),
			view: see(primary(lower), standby("n2"), standby("n3")),
			want: stays + `
				restart e2 checkpoint in place
				> n1 checkpoint e1`,
		},
		{
			name: "F42 a setting gets higher: the role moves to who has it", state: rolling("n3", "n3", "n1"),
			view: see(primary(higher), standby("n2"), standby("n3", restarted)),
			want: stays + `
				restart e2 checkpoint n2 with none
				> n1 checkpoint e1
				> n3 follow e1 n1`,
		},
		{
			name: "F42 who has it has much to replay: the primary is restarted where it is", state: rolling("n3", "n3", "n1"),
			view: see(primary(higher, func(r *pgcluster.Report) {
				r.Position.LSN = 40 << 20
				r.Senders[0].Flushed, r.Senders[1].Flushed = 40<<20, 40<<20
			}), standby("n2"), standby("n3", restarted)),
			want: stays + `
				restart e2 checkpoint in place
				> n1 checkpoint e1
				> n3 follow e1 n1`,
		},
		{
			name: "F42 one gets lower, one higher: the primary's turn is between", state: rolling("n3", "n3", "n1", "n2", "n3"),
			view: see(primary(lower, higher), standby("n2"), standby("n3", restarted)),
			want: stays + `
				restart e2 checkpoint in place
				> n1 checkpoint e1
				> n3 follow e1 n1`,
		},
		{
			name: "F42 in place: the checkpoint is done, so it is stopped", state: inPlace(failover.PhaseCheckpoint),
			view: see(primary(checkpointed), standby("n2"), standby("n3")),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				restart e2 stop in place
				> n1 stop e2`,
		},
		{
			name: "F42 in place: stopped, but the pledge is of before", state: with(inPlace(failover.PhaseStop), closed),
			view: see(primary(stopped), standby("n2"), standby("n3")),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				restart e2 stop in place
				> n1 stop e2`,
		},
		{
			name: "F42 in place: stopped and pledged, so it starts in the next epoch", state: with(inPlace(failover.PhaseStop), closed),
			view: see(primary(stopped, pledged(2)), standby("n2", leads(2)), standby("n3")),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				restart e2 promote n1 with ANY 1 (n2, n3) in place
				> n1 lead e2 ANY 1 (n2, n3) barrier true open false`,
		},
		{
			name: "in place: it falls silent while it stops, so standbys are recruited", state: with(inPlace(failover.PhaseStop), closed),
			view: silent(see(standby("n2"), standby("n3")), primary(), 1500*time.Millisecond),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n2 recruit e2
				> n3 recruit e2`,
		},
		{
			name: "in place: it dies during the checkpoint, so it is forgotten", state: inPlace(failover.PhaseCheckpoint),
			view: see(primary(crashed), standby("n2"), standby("n3")), want: stays,
		},
		{
			name: "F1 the primary dies: a restart gives way", state: with(rolling("n2", "n2", "n3", "n1"), func(s *failover.State) { s.Op.Epoch = 2 }),
			view: see(primary(crashed), standby("n2"), standby("n3")), want: replaced,
		},
		{
			name:  "F38 the primary dies in a pause: a restart gives way, and nothing follows",
			state: until(noon.Add(time.Hour), rolling("n2", "n2", "n3", "n1")),
			view:  clock(see(primary(crashed), standby("n2"), standby("n3"))), want: stays,
		},
		{
			name: "a node does not come back: given up", state: rolling("n2", "n2", "n3", "n1"),
			view: waited(see(primary(without("n2")), standby("n2", restarted, down), standby("n3")), time.Minute),
			want: stays + `
				> n2 follow e1 n1`,
		},
		{
			name: "nothing is left to do", state: rolling("n3", "n3"),
			view: see(primary(), standby("n2"), standby("n3", restarted)),
			want: stays + `
				> n3 follow e1 n1`,
		},
	})
}

func closed(s *failover.State) { s.Primary.Access = failover.AccessClosed }

// The epoch that a restart in place opened is followed by the standbys' turn.
func TestStep_restartGoesOnAfterThePrimary(t *testing.T) {
	t.Parallel()
	s := rolling("n1", "n2", "n3")
	s.Op.Phase, s.Op.Sync, s.Op.InPlace = failover.PhaseBarrier, anyOne("n2", "n3"), true
	closed(&s)
	led := primary(func(r *pgcluster.Report) { r.Led, r.Barrier, r.BarrierAt, r.Pledged.Epoch = 2, 2, 100, 2 })
	s, _ = failover.Step(s, see(led, standby("n2"), standby("n3")), policy)
	if op := s.Op; s.Primary.Epoch != 2 || op == nil || op.ID != 3 || op.Phase != failover.PhaseRestart || fmt.Sprint(op.Todo) != "[n2 n3]" {
		t.Fatalf("epoch %d, operation %+v, want the standbys restarted", s.Primary.Epoch, s.Op)
	}
	s.Op.To, s.Op.Todo = "n3", []pgcluster.NodeID{"n3"}
	led.Open, led.SyncNames, led.Order.SyncSeq = 2, "ANY 1 (n2, n3)", s.Sync.Seq
	second := func(r *pgcluster.Report) {
		r.Followed, r.Pledged.Epoch, r.Order.Stamp.Epoch, r.Restarted = 2, 2, 2, 3
	}
	s, _ = failover.Step(s, see(led, standby("n2", second), standby("n3", second)), policy)
	if s.Op != nil {
		t.Errorf("operation %+v, want the end", s.Op)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	higher := func(r *pgcluster.Report) { r.Higher = []string{"max_connections"} }
	lower := func(r *pgcluster.Report) { r.Lower = []string{"max_worker_processes"} }
	settled := with(steady(), func(s *failover.State) {
		s.Settings.Version = 4
		s.Sync.Durable = anyOne("n2")
	})
	wrote := func(v uint64) change { return func(r *pgcluster.Report) { r.Config = v } }
	all := func(changes ...change) failover.View {
		return see(primary(append(changes, wrote(4))...), standby("n2", wrote(4)), standby("n3", wrote(4)))
	}
	tests := []struct {
		name  string
		state failover.State
		view  failover.View
		id    pgcluster.NodeID
		want  string // the order, or why it is refused
	}{
		{"F42 nothing waits: who counts least comes first", settled, all(), "", "[n3 n2 n1]"},
		{"F42 higher: standbys first", settled, all(higher), "", "[n3 n2 n1]"},
		{"F42 lower: the primary first", settled, all(lower), "", "[n1 n3 n2]"},
		{"F42 both: standbys before and after the primary", settled, all(lower, higher), "", "[n3 n2 n1 n3 n2]"},
		{"another setting waits", settled, all(func(r *pgcluster.Report) { r.Pending = []string{"shared_buffers"} }), "", "[n3 n2 n1]"},
		{
			"F42 lower on a standby alone: its agent keeps it at what it needs", settled,
			see(primary(wrote(4)), standby("n2", lower, wrote(4)), standby("n3", wrote(4))), "", "[n3 n2 n1]",
		},
		{"F42 lower: a standby alone keeps what it has", settled, all(lower), "n2", "max_worker_processes gets lower: restart n1 before"},
		{"F42 higher: one standby", settled, all(higher), "n2", "[n2]"},
		{"F42 lower: the primary alone", settled, all(lower), "n1", "[n1]"},
		{"F42 higher: the primary alone", settled, all(higher), "n1", "[n1]"},
		{"F42 both: the primary alone would leave standbys with less", settled, all(lower, higher), "n1", "max_connections higher"},
		{"one standby", settled, all(), "n2", "[n2]"},
		{"a node that is gone is left out", settled, see(primary(wrote(4)), standby("n2", wrote(4))), "", "[n2 n1]"},
		{"a standby that does not stream", settled, see(primary(alone, wrote(4)), standby("n2", wrote(4))), "n2", "does not stream"},
		{"settings that are not written yet", settled, see(primary(wrote(4)), standby("n2", wrote(3))), "", "n2 has not written"},
		{"no such node", steady(), all(), "n9", `no node "n9"`},
		{"a failover is under way", failing(failover.PhaseRecruit), all(), "", "under way"},
		{"no open primary", with(steady(), closed), all(), "", "no open primary"},
		{"the primary is silent", steady(), see(standby("n2")), "", "does not report"},
	}
	for _, tt := range tests {
		s, err := failover.Restart(tt.state, tt.view, policy, tt.id, "")
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(s.Op.Todo)
		}
		if !strings.Contains(got, tt.want) || (err != nil) != (tt.want[0] != '[') {
			t.Errorf("%s: Restart() = %s, want %s", tt.name, got, tt.want)
		}
	}
}

// A restart that moves the role pauses no longer than a switchover: standbys are
// re-pointed before the promotion, though none has pledged.
// A restart is in the history under the name of the node that was restarted.
func TestStep_restartIsNamed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		all  bool
		want pgcluster.NodeID
	}{{false, "n3"}, {true, "n1"}} {
		s := rolling("n3", "n3")
		s.Op.All = tt.all
		got, _ := failover.Step(s, see(primary(), standby("n2"), standby("n3", restarted)), policy)
		if got.Op != nil || len(got.History) != 1 || got.History[0].Kind != "restart" || got.History[0].Node != tt.want {
			t.Errorf("all %t: operation %+v, history %+v; want a restart of %s", tt.all, got.Op, got.History, tt.want)
		}
	}
}

// A cluster that was recovered from a node that lagged has forgotten numbers that other
// nodes remember: an order of one of them would count as carried out.
func TestNumbers_afterARecovery(t *testing.T) {
	t.Parallel()
	v := see(primary(), standby("n2", func(r *pgcluster.Report) { r.Restarted = 7 }),
		standby("n3", func(r *pgcluster.Report) { r.Cloned = 8; r.Order.Clone = 9 }))
	s, err := failover.Reclone(steady(), v, policy, "n3", false, "")
	if id := s.Absent["n3"].ID; err != nil || id != 10 || s.Ops != 10 {
		t.Errorf("the reclone has number %d of %d (%v), want 10", id, s.Ops, err)
	}
	delete(v.Reports, "n3")
	s, err = failover.Restart(steady(), v, policy, "n2", "")
	if err != nil || s.Op.ID != 8 {
		t.Errorf("the restart is %+v (%v), want number 8", s.Op, err)
	}
}

func TestStep_restartRepoints(t *testing.T) {
	t.Parallel()
	s := failing(failover.PhasePromote, chose("n2", "n3"), func(op *failover.Operation) { op.Kind = failover.KindRestart })
	_, orders := failover.Step(s, see(primary(stopped, pledged(2)), standby("n2", leads(2)), standby("n3")), policy)
	for _, o := range orders {
		if o.Node == "n3" && o.Kind == pgcluster.OrderFollow && o.Upstream == "n2" {
			return
		}
	}
	t.Errorf("orders %+v, want n3 to follow n2", orders)
}

func TestRestart_notOfAFencedPrimary(t *testing.T) {
	t.Parallel()
	s := steadyWith(away("n1", failover.Absence{Kind: failover.AbsenceFence}))
	if _, err := failover.Restart(s, see(primary(), standby("n2"), standby("n3")), policy, "", ""); !isRefused(err) {
		t.Errorf("Restart() = %v, want it refused", err)
	}
}
