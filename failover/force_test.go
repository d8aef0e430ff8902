package failover_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// accepted lets people accept data loss in an operation.
func accepted(to pgcluster.NodeID) func(*failover.Operation) {
	return func(op *failover.Operation) { op.Forced = &failover.Forced{To: to, Reason: "both are burnt"} }
}

func TestStep_forced(t *testing.T) {
	t.Parallel()
	gone := func(v failover.View) failover.View { return waited(v, 3*time.Second) }
	raised := func(s *failover.State) { s.Floor.LSN = 100 }
	runSteps(t, []stepCase{
		{
			name: "F19 data loss is accepted, but a lease may last yet: wait", state: failing(failover.PhaseRecruit, accepted("")),
			view: waited(see(standby("n2", pledged(2))), 2900*time.Millisecond),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit`,
		},
		{
			name: "F19 then whoever is there is promoted, and what it has is the floor", state: with(failing(failover.PhaseRecruit, accepted("")), raised),
			view: gone(see(standby("n2", pledged(2), at(50)))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/32
				failover e2 promote n2 with ANY 1 (n1, n3)
				> n2 lead e2 ANY 1 (n1, n3) barrier true open false`,
		},
		{
			name: "F19 not who has not pledged", state: failing(failover.PhaseRecruit, accepted("")),
			view: gone(see(standby("n2", pledged(1)))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n2 recruit e2`,
		},
		{
			name: "F19 nor who was not asked for", state: failing(failover.PhaseRecruit, accepted("n3")),
			view: gone(see(standby("n2", pledged(2)))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit`,
		},
		{
			name: "F26 nor who has WAL of an epoch that never opened",
			state: with(failing(failover.PhaseRecruit, accepted("")), func(s *failover.State) {
				s.Primary.Epoch, s.Op.Epoch = 3, 4
				s.Epochs = append(s.Epochs, failover.Epoch{Epoch: 3, Node: "n1", Timeline: 2})
				s.Lineage = pgcluster.Lineage{{Parent: 1, At: 5, Child: 2}}
			}),
			view: gone(see(standby("n2", pledged(4), onTimeline2(2)))),
			want: `
				n1 closed e3 ANY 1 (n2, n3) floor 1:0/A
				failover e4 recruit`,
		},
		{
			name: "F19 a quorum returned in time: nothing is lost", state: with(failing(failover.PhaseRecruit, accepted("n2")), raised),
			view: gone(see(standby("n2", pledged(2), at(50)), standby("n3", pledged(2), at(101)))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/65
				failover e2 promote n3 with ANY 1 (n2)
				> n3 lead e2 ANY 1 (n2) barrier true open false`,
		},
	})
}

func TestForceFailover_givesUpWhatOthersHave(t *testing.T) {
	t.Parallel()
	// n1 led epochs 1 and 2, n3 epoch 3 on timeline 2; n2 slept since epoch 2.
	s := steady()
	s.Primary = failover.Primary{Node: "n3", Epoch: 3, Access: failover.AccessOpen}
	s.Sync.Durable = anyOne("n1", "n2")
	s.Epochs = append(s.Epochs, failover.Epoch{Epoch: 2, Node: "n1", Timeline: 1}, failover.Epoch{Epoch: 3, Node: "n3", Timeline: 2})
	s.Lineage = pgcluster.Lineage{{Parent: 1, At: 90, Child: 2}}
	s.Floor = pgcluster.Position{Timeline: 2, LSN: 95}
	v := see(standby("n2", at(80), func(r *pgcluster.Report) { r.Followed = 2 }))
	v = silent(v, report("n3", pgcluster.RolePrimary, []change{onTimeline2(0), at(120), func(r *pgcluster.Report) { r.Led = 3 }}), 10*time.Second)
	v.Streamed = map[pgcluster.NodeID]time.Duration{"n2": v.Now - 14*time.Second}

	s, err := failover.ForceFailover(s, v, policy, "", "n1 and n3 are burnt")
	if err != nil {
		t.Fatal(err)
	}
	if s.Op.Phase != failover.PhaseRecruit || s.Primary.Access != failover.AccessClosed {
		t.Fatalf("operation %+v, access %s", s.Op, s.Primary.Access)
	}
	v.Reports["n2"] = failover.Observation{Report: standby("n2", at(80), pledged(4), func(r *pgcluster.Report) { r.Followed = 2 }), At: v.Now}
	s, _ = failover.Step(s, waited(v, 3*time.Second), policy)
	want := failover.DataLoss{
		Has: pgcluster.Position{Timeline: 1, LSN: 80}, Known: pgcluster.Position{Timeline: 2, LSN: 120},
		Bytes: 40, For: 4 * time.Second,
	}
	if s.Op.To != "n2" || s.Op.Forced == nil {
		t.Fatalf("operation %+v, want n2 promoted", s.Op)
	}
	if diff := cmp.Diff(&want, s.Op.Forced.Loss); diff != "" {
		t.Errorf("loss (-want +got):\n%s", diff)
	}
	if s.Floor != want.Has {
		t.Errorf("floor %s, want %s", s.Floor, want.Has)
	}

	// n2 makes timeline 2 anew. Who had another one is cloned, though its epoch was open.
	s.Op.Phase = failover.PhaseBarrier
	led := promoted(func(r *pgcluster.Report) {
		r.Led, r.Pledged.Epoch, r.Barrier, r.Senders = 4, 4, 0, nil
		r.Lineage = pgcluster.Lineage{{Parent: 1, At: 80, Child: 2}}
	})
	_, orders := failover.Step(s, see(led, standby("n1", pledged(4), onTimeline2(3))), policy)
	recloned := false
	for _, o := range orders {
		recloned = recloned || o.Node == "n1" && o.Kind == pgcluster.OrderFollow && o.Reclone
	}
	if !recloned {
		t.Errorf("orders %+v, want n1 cloned", orders)
	}
}

func TestStep_forcedOpensAlone(t *testing.T) {
	t.Parallel()
	s := failing(failover.PhaseBarrier, chose("n2", "n1", "n3"), accepted(""))
	loss := failover.DataLoss{Has: pgcluster.Position{Timeline: 1, LSN: 100}, Known: pgcluster.Position{Timeline: 1, LSN: 130}, Bytes: 30, For: -1}
	s.Op.Forced.Loss = &loss
	s.Op.Reason = "n1 silent"
	lonely := func(change ...change) failover.View {
		return waited(see(promoted(append(change, func(r *pgcluster.Report) { r.Senders = nil })...)), 2*time.Second)
	}
	s, _ = failover.Step(s, lonely(func(r *pgcluster.Report) { r.SyncNames, r.Barrier = "ANY 1 (n1, n3)", 0 }), policy)
	if s.Op == nil || s.Op.Sync.K != 0 {
		t.Fatalf("operation %+v, want k = 0, for nobody else is there", s.Op)
	}
	s, _ = failover.Step(s, lonely(func(r *pgcluster.Report) { r.SyncNames, r.Order.SyncSeq = "", s.Sync.Seq }), policy)
	if s.Op != nil || s.Primary.Node != "n2" || s.Primary.Access != failover.AccessOpen {
		t.Fatalf("operation %+v of %s, want it open", s.Op, s.Primary.Node)
	}
	e := s.History[len(s.History)-1]
	if e.Lost == nil || *e.Lost != loss || !strings.Contains(e.Reason, "at least 30 bytes of WAL are lost, from 1:0/64 to 1:0/82") {
		t.Errorf("event %+v, want it to say what was lost", e)
	}
}

// What is written down as lost is what was lost.
func TestStep_forcedLoss(t *testing.T) {
	t.Parallel()
	given := failover.DataLoss{Has: pgcluster.Position{Timeline: 1, LSN: 50}, Known: pgcluster.Position{Timeline: 1, LSN: 100}, Bytes: 50, For: -1}
	// n2 was promoted with data loss accepted, and failed.
	s := failing(failover.PhaseRecruit, accepted("n2"))
	s.Op.Epoch, s.Op.Tried, s.Floor = 3, []pgcluster.NodeID{"n2"}, given.Has
	s.Op.Forced.Loss = &given

	back, _ := failover.Step(s, waited(see(primary(stopped, pledged(3))), time.Second), policy)
	if back.Op.To != "n1" || back.Op.Forced != nil {
		t.Errorf("%q is promoted with %+v, want n1, which has everything", back.Op.To, back.Op.Forced)
	}

	v := waited(see(standby("n3", pledged(3), at(40))), time.Second)
	other, err := failover.ForceFailover(s, v, policy, "n3", "n2 failed, too")
	if err != nil {
		t.Fatal(err)
	}
	if enough, _ := failover.Step(other, see(standby("n3", pledged(3), at(60))), policy); enough.Op.To != "n3" || enough.Op.Forced.Loss == nil {
		t.Errorf("%q is promoted with %+v, want n3, and the loss that made it good enough", enough.Op.To, enough.Op.Forced)
	}
	next, _ := failover.Step(other, waited(v, 3*time.Second), policy)
	want := failover.DataLoss{Has: pgcluster.Position{Timeline: 1, LSN: 40}, Known: given.Known, Bytes: 60, For: -1}
	if next.Op.To != "n3" || next.Op.Forced == nil {
		t.Fatalf("operation %+v, want n3 promoted", next.Op)
	}
	if diff := cmp.Diff(&want, next.Op.Forced.Loss); diff != "" {
		t.Errorf("loss (-want +got):\n%s", diff)
	}
}

func TestForceFailover_refused(t *testing.T) {
	t.Parallel()
	lonely := silent(see(standby("n2", deaf)), primary(), time.Minute)
	tests := []struct {
		name  string
		state failover.State
		view  failover.View
		to    pgcluster.NodeID
		want  string // "" if it is not refused
	}{
		{"F19 primary and a standby lost", steady(), lonely, "", ""},
		{"F19 the same, and its PostgreSQL is stopped: it is started when it pledges", steady(), silent(see(standby("n2", stopped, deaf)), primary(), time.Minute), "", ""},
		{"F19 the same, while recruiting", failing(failover.PhaseRecruit), see(standby("n2", pledged(2))), "", ""},
		{"k = 0, and the primary is lost", with(steady(), func(s *failover.State) { s.Sync.Durable.K = 0 }), silent(see(standby("n2", deaf), standby("n3", deaf)), primary(), time.Minute), "n3", ""},
		{"F3 it hangs, and a standby is lost", steady(), see(primary(hangs), standby("n2", deaf)), "", ""},
		{"all is well", steady(), see(primary(), standby("n2", cut)), "", "the primary n1 is there"},
		{"only just silent", steady(), silent(see(standby("n2", deaf)), primary(), 1400*time.Millisecond), "", "the primary n1 is there"},
		{"a standby hears it", steady(), silent(see(standby("n2")), primary(), time.Minute), "", "still hears"},
		{"a quorum is there", steady(), silent(see(standby("n2", deaf), standby("n3", deaf)), primary(), time.Minute), "", "begins by itself"},
		{"F38 the same, while paused", until(noon.Add(time.Hour), steady()), clock(silent(see(standby("n2", deaf), standby("n3", deaf)), primary(), time.Minute)), "", "end the pause"},
		{"recruiting has found a quorum", failing(failover.PhaseRecruit), see(standby("n2", pledged(2)), standby("n3", pledged(2))), "", "nothing need be lost: n2 has everything"},
		{"the barrier waits", failing(failover.PhaseBarrier, chose("n2", "n3")), lonely, "", "under way (phase barrier)"},
		{"accepted already", failing(failover.PhaseRecruit, accepted("")), see(standby("n2", pledged(2))), "", "already"},
		{"nobody is there", steady(), silent(see(), primary(), time.Minute), "", "no standby is there"},
		{"who was asked for is not there", steady(), lonely, "n3", "no standby is there"},
		{"no such node", steady(), lonely, "n9", `no node "n9"`},
		{"not started", failover.State{}, see(), "", "not started"},
	}
	for _, tt := range tests {
		s, err := failover.ForceFailover(tt.state, tt.view, policy, tt.to, "fire")
		switch {
		case tt.want == "" && (err != nil || s.Op == nil || s.Op.Forced == nil || eventKinds(s) != "data loss accepted"):
			t.Errorf("%s: ForceFailover() = %+v, %v", tt.name, s.Op, err)
		case tt.want != "" && (!isRefused(err) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: ForceFailover() = %v, want it refused: %s", tt.name, err, tt.want)
		}
	}
}
