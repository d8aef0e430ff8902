package failover_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// away lets people have the cluster do without a node, for the third thing ever begun.
func away(id pgcluster.NodeID, a failover.Absence) func(*failover.State) {
	a.ID, a.Since, a.Reason = 3, noon, "kernel update"
	if a.Kind == failover.AbsenceMaintenance {
		a.Until = noon.Add(time.Hour)
	}
	return func(s *failover.State) { s.Absent = map[pgcluster.NodeID]failover.Absence{id: a} }
}

// maintenance is that of n3.
func maintenance() func(*failover.State) {
	return away("n3", failover.Absence{Kind: failover.AbsenceMaintenance})
}

func resting(r *pgcluster.Report) {
	r.Order = pgcluster.OrderStatus{Kind: pgcluster.OrderRest, Stamp: pgcluster.Stamp{Epoch: 1}, Done: true}
}

// only is a primary that n2 alone is waited for, and streams.
func only(changes ...change) pgcluster.Report {
	return primary(append([]change{func(r *pgcluster.Report) {
		r.SyncNames, r.Senders = "ANY 1 (n2)", []pgcluster.Sender{sender("n2", 100)}
	}}, changes...)...)
}

const without3 = `n1 open e1 ANY 1 (n2) floor 1:0/A`

func TestStep_maintenance(t *testing.T) {
	t.Parallel()
	away3 := steadyWith(durable(1, "n2"), maintenance())
	lost := func(s failover.State) failover.State {
		return with(s, func(s *failover.State) {
			s.Primary.Access = failover.AccessClosed
			s.Op = &failover.Operation{ID: 4, Kind: failover.KindFailover, Epoch: 2, Phase: failover.PhaseRecruit, From: "n1"}
		})
	}
	runSteps(t, []stepCase{
		{
			name: "the node leaves the sync set first, and is told nothing yet", state: steadyWith(maintenance()),
			view: clock(see(primary(), standby("n2"), standby("n3"))),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n2) mark 0/0
				> n1 lead e1 ANY 1 (n2) barrier true open true`,
		},
		{
			name: "should its PostgreSQL die before it has left, it is started", state: with(steadyWith(maintenance()), func(s *failover.State) {
				s.Sync.Pending, s.Sync.Seq = &pgcluster.SyncSet{Members: []pgcluster.NodeID{"n2"}, K: 1}, 1
			}),
			view: clock(see(primary(func(r *pgcluster.Report) { r.SyncNames = "ANY 1 (n2)" }), standby("n2"), standby("n3", crashed))),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n2) mark 0/0
				> n3 follow e1 n1`,
		},
		{
			name: "then it is left alone", state: away3, view: clock(see(only(), standby("n2"), standby("n3"))),
			want: without3 + `
				> n3 rest e1`,
		},
		{
			name: "its PostgreSQL is stopped by hand: it stays down", state: away3,
			view: clock(see(only(), standby("n2"), standby("n3", resting, crashed))), want: without3,
		},
		{
			name: "it streams: no commit waits for it", state: away3,
			view: clock(see(only(func(r *pgcluster.Report) {
				r.Senders = append(r.Senders, pgcluster.Sender{Node: "n3", Streaming: true, Flushed: 100})
			}),
				standby("n2"), standby("n3", resting))), want: without3,
		},
		{
			name: "maintenance ends by itself: it is told to follow", state: steadyWith(durable(1, "n2"), maintenance(), func(s *failover.State) {
				a := s.Absent["n3"]
				a.Until = noon
				s.Absent["n3"] = a
			}),
			view: clock(see(only(), standby("n2"), standby("n3", resting, crashed))),
			want: without3 + `
				> n3 follow e1 n1`,
		},
		{
			name: "the primary is lost: it is not recruited", state: lost(away3),
			view: clock(see(standby("n2"), standby("n3", resting))),
			want: `
				n1 closed e1 ANY 1 (n2) floor 1:0/A
				failover e2 recruit
				> n2 recruit e2`,
		},
		{
			name: "the primary is lost before it has left: it is, for commits may rest on it", state: lost(steadyWith(maintenance())),
			view: clock(see(standby("n2"), standby("n3"))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n2 recruit e2
				> n3 recruit e2`,
		},
		{
			name: "it has most WAL, and is not chosen", state: lost(steadyWith(maintenance())),
			view: clock(waited(see(standby("n2", pledged(2)), standby("n3", pledged(2), at(101))), time.Minute)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit`,
		},
	})
}

func TestStep_reclone(t *testing.T) {
	t.Parallel()
	anew := away("n3", failover.Absence{Kind: failover.AbsenceReclone})
	takenBack := away("n3", failover.Absence{Kind: failover.AbsenceReclone, Cancelled: true})
	told := func(r *pgcluster.Report) { r.Order.Clone = 3 }
	streams := func(r *pgcluster.Report) { r.Senders = append(r.Senders, sender("n3", 100)) }
	made := func(r *pgcluster.Report) { r.Order.Clone, r.Cloned = 3, 3 }
	runSteps(t, []stepCase{
		{
			name: "not while commits rest on it", state: steadyWith(anew), view: see(primary(), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n2) mark 0/0
				> n1 lead e1 ANY 1 (n2) barrier true open true`,
		},
		{
			name: "then it is told to", state: steadyWith(durable(1, "n2"), anew), view: see(only(streams), standby("n2"), standby("n3")),
			want: without3 + `
				> n3 follow e1 n1`,
		},
		{
			name: "it was told", state: steadyWith(durable(1, "n2"), anew), view: see(only(streams), standby("n2"), standby("n3", told)),
			want: without3,
		},
		{
			name: "the copy is made and streams: it is a node like any other", state: steadyWith(durable(1, "n2"), anew),
			view: see(only(streams), standby("n2"), standby("n3", made)), want: without3,
		},
		{
			name: "cancelled: not in the sync set until it says so, whatever it streams", state: steadyWith(durable(1, "n2"), takenBack),
			view: see(only(streams), standby("n2"), standby("n3", told)),
			want: without3 + `
				> n3 follow e1 n1`,
		},
	})
	if s, _ := failover.Step(steadyWith(durable(1, "n2"), takenBack), see(only(streams), standby("n2"), standby("n3", told)), policy); len(s.Absent) != 1 {
		t.Error("a cancelled reclone has ended before the node said so")
	}
	s, _ := failover.Step(steadyWith(durable(1, "n2"), anew), see(only(streams), standby("n2"), standby("n3", made)), policy)
	if len(s.Absent) != 0 {
		t.Errorf("absent %v, want nobody", s.Absent)
	}
	next, _ := failover.Step(s, see(only(streams), standby("n2"), standby("n3", made)), policy)
	if !next.Sync.Durable.Has("n3") {
		t.Errorf("sync set %s, want n3 in it", next.Sync.Durable)
	}
}

func TestStep_fence(t *testing.T) {
	t.Parallel()
	fence := func(id pgcluster.NodeID) func(*failover.State) {
		return away(id, failover.Absence{Kind: failover.AbsenceFence})
	}
	told := func(r *pgcluster.Report) { r.Order = pgcluster.OrderStatus{Kind: pgcluster.OrderStop, Done: true} }
	runSteps(t, []stepCase{
		{
			name: "a standby that has left the sync set is stopped", state: steadyWith(durable(1, "n2"), fence("n3")),
			view: see(only(), standby("n2"), standby("n3")),
			want: without3 + `
				> n3 stop e1`,
		},
		{
			name: "it is stopped", state: steadyWith(durable(1, "n2"), fence("n3")),
			view: see(only(), standby("n2"), standby("n3", stopped, told)), want: without3,
		},
		{
			name: "it came back after a reboot", state: steadyWith(durable(1, "n2"), fence("n3")),
			view: see(only(), standby("n2"), standby("n3", func(r *pgcluster.Report) { r.Order = pgcluster.OrderStatus{} })),
			want: without3 + `
				> n3 stop e1`,
		},
		{
			name: "the primary is stopped, and nothing else is done", state: steadyWith(fence("n1")),
			view: see(primary(), standby("n2"), standby("n3", crashed)),
			want: stays + `
				> n1 stop e1`,
		},
		{
			name: "the primary is down: nobody takes over", state: steadyWith(fence("n1")),
			view: see(primary(stopped, told), standby("n2", deaf), standby("n3", deaf)), want: stays,
		},
		{
			name: "the fenced primary is not started in place", state: with(failing(failover.PhaseRecruit), fence("n1")),
			view: waited(see(primary(stopped, pledged(2)), standby("n2", crashed), standby("n3", crashed)), time.Minute),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n2 recruit e2
				> n3 recruit e2`,
		},
		{
			name: "what only the fenced primary has is not waited for", state: with(failing(failover.PhaseRecruit), fence("n1")),
			view: see(primary(stopped, pledged(2), at(200)), standby("n2", pledged(2)), standby("n3", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "nor once somebody was tried in vain", state: with(failing(failover.PhaseRecruit, func(op *failover.Operation) {
				op.Epoch, op.Tried = 3, []pgcluster.NodeID{"n2"}
			}), fence("n1")),
			view: see(primary(stopped, pledged(3), at(200)), standby("n3", pledged(3))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e3 promote n3 with ANY 1 (n2) tried [n2]
				> n3 lead e3 ANY 1 (n2) barrier true open false`,
		},
		{
			name: "too few pledged, and one of them has all that the fenced primary has", state: with(failing(failover.PhaseRecruit), fence("n1")),
			view: see(primary(stopped, pledged(2)), standby("n2", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "too few pledged, and they lack what the fenced primary has", state: with(failing(failover.PhaseRecruit), fence("n1")),
			view: see(primary(stopped, pledged(2), at(200)), standby("n2", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit`,
		},
	})
}

// Whoever is left out is no longer the only one that has everything, for the sets that
// were in force: people decide on the primary.
func TestSwitchover_fromAFencedPrimary(t *testing.T) {
	t.Parallel()
	s := steadyWith(away("n1", failover.Absence{Kind: failover.AbsenceFence}))
	v := see(primary(stopped), standby("n2", deaf), standby("n3", deaf))
	next, err := failover.Switchover(s, v, policy, "", "bad disk")
	if err != nil || next.Op == nil || next.Op.Kind != failover.KindFailover || next.Op.InPlace || next.Primary.Access != failover.AccessClosed {
		t.Errorf("Switchover() = %+v, %v; want a failover", next.Op, err)
	}
	plan := failover.PlanSwitchover(s, v, policy, "")
	if plan.Kind != failover.KindFailover || plan.To == "" {
		t.Errorf("PlanSwitchover() = %+v, want a failover to somebody", plan)
	}
	// The new primary would have nobody to wait for but the node that is fenced.
	alone := s
	alone.Members = slices.Clone(s.Members)
	alone.Members[2].NoSync = true
	alone.Sync.Durable = anyOne("n2")
	if _, err := failover.Switchover(alone, v, policy, "", ""); !isRefused(err) || !strings.Contains(err.Error(), "unfence n1") {
		t.Errorf("Switchover() with one other node = %v, want it refused", err)
	}
	for name, tt := range map[string]struct {
		to   pgcluster.NodeID
		v    failover.View
		want string
	}{
		"by name":         {"n2", v, "n1 is fenced, so that the standby takes over that has everything: name none"},
		"not stopped yet": {"", see(primary(), standby("n2"), standby("n3")), "n1 is fenced, and its PostgreSQL has not stopped yet: try again"},
		"too few": {
			"", see(primary(stopped), standby("n2", deaf)),
			"n1 is fenced, and too few standbys are there to tell who has everything; a failover needs one of: n3",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := failover.Switchover(s, tt.v, policy, tt.to, "")
			if refused, ok := errors.AsType[*failover.RefusedError](err); !ok || refused.Reason != tt.want {
				t.Errorf("Switchover() = %v, want %q", err, tt.want)
			}
		})
	}
}

type absenceCase struct {
	name    string
	state   failover.State
	view    failover.View // all three stream, if not given
	request func(failover.State, failover.View) (failover.State, error)
	want    failover.AbsenceKind // of the node named, "" for none
	refused string
}

func TestAbsences(t *testing.T) {
	t.Parallel()
	hour := noon.Add(time.Hour)
	begin := func(id pgcluster.NodeID, until time.Time) func(failover.State, failover.View) (failover.State, error) {
		return func(s failover.State, v failover.View) (failover.State, error) {
			return failover.SetMaintenance(s, v, policy, id, until, "test")
		}
	}
	anew := func(id pgcluster.NodeID, discard bool) func(failover.State, failover.View) (failover.State, error) {
		return func(s failover.State, v failover.View) (failover.State, error) {
			return failover.Reclone(s, v, policy, id, discard, "test")
		}
	}
	fence := func(id pgcluster.NodeID) func(failover.State, failover.View) (failover.State, error) {
		return func(s failover.State, v failover.View) (failover.State, error) {
			return failover.Fence(s, v, policy, id, "test")
		}
	}
	end := func(s failover.State, v failover.View) (failover.State, error) {
		return failover.EndMaintenance(s, v, policy, "n3", "")
	}
	room := func(free uint64) change {
		return func(r *pgcluster.Report) {
			r.DataBytes, r.Disks = 400<<20, []pgcluster.Disk{{Use: "data", Free: free << 20}}
		}
	}
	big := func(r *pgcluster.Report) { r.DataBytes = 1000 << 20 }
	cloning := func(free uint64) failover.View { return see(primary(big), standby("n2"), standby("n3", room(free))) }
	five := steadyWith(func(s *failover.State) {
		s.Members = append(s.Members, pgcluster.Member{ID: "n4"}, pgcluster.Member{ID: "n5"})
		s.Sync.Durable.K = 2
	})
	for _, tt := range []absenceCase{
		{name: "maintenance", state: steady(), request: begin("n3", hour), want: failover.AbsenceMaintenance},
		{name: "maintenance, with another end", state: steadyWith(maintenance()), request: begin("n3", noon.Add(2*time.Hour)), want: failover.AbsenceMaintenance},
		{name: "maintenance ends", state: steadyWith(maintenance()), request: end},
		{name: "maintenance ends twice", state: steady(), request: end, refused: "n3 is not in maintenance"},
		{name: "maintenance of the primary", state: steady(), request: begin("n1", hour), refused: "n1 is primary: switch over first: pgctl switchover"},
		{name: "maintenance of nobody", state: steady(), request: begin("n9", hour), refused: `there is no node "n9"`},
		{name: "maintenance that is over", state: steady(), request: begin("n3", noon), refused: "a maintenance until 2026-11-21T12:00:00Z would be over already"},
		{name: "maintenance for ever", state: steady(), request: begin("n3", hour.AddDate(0, 1, 0)), refused: "a maintenance may last for 168h0m0s at most"},
		{
			name: "maintenance while paused", state: until(hour, steady()), request: begin("n3", hour),
			refused: "the cluster is paused, so that no node can leave the sync set: pgctl resume first",
		},
		{
			name: "maintenance while the primary changes", state: failing(failover.PhaseRecruit), request: begin("n3", hour),
			refused: "a failover is under way (phase recruit)",
		},
		{
			name: "maintenance of whom commits need", state: steady(), request: begin("n3", hour),
			view:    see(primary(func(r *pgcluster.Report) { r.Senders = r.Senders[1:] }), standby("n2"), standby("n3")),
			refused: "commits wait for n3, and of the others (n2) only 0 of the 1 that are needed stream: bring one back or add one first",
		},
		{
			name: "maintenance of whom Raft needs", state: steadyWith(durable(1, "n2")), request: begin("n3", hour),
			view:    silent(see(only(), standby("n3")), standby("n2"), time.Minute),
			refused: "Raft needs 2 of 3 nodes, and only 1 would be sure to be there without n3: bring one back, or add a node or a witness first (pgctl node add)",
		},
		{
			name: "maintenance of a third of five", state: with(five, func(s *failover.State) {
				s.Absent = map[pgcluster.NodeID]failover.Absence{"n4": {Kind: failover.AbsenceMaintenance}, "n5": {Kind: failover.AbsenceMaintenance}}
				s.Sync.Durable = anyOne("n2")
			}), request: begin("n3", hour), view: see(primary(), standby("n2"), standby("n3"), standby("n4"), standby("n5")),
			refused: "Raft needs 3 of 5 nodes, and only 2 would be sure to be there without n3: bring one back, or add a node or a witness first (pgctl node add)",
		},
		{name: "reclone", state: steady(), request: anew("n3", false), want: failover.AbsenceReclone},
		{
			name: "reclone during maintenance", state: steadyWith(maintenance()), request: anew("n3", false),
			refused: "n3 is left out already (maintenance until 2026-11-21T13:00:00Z: kernel update): pgctl maintenance n3 --end ends that",
		},
		{name: "reclone of the primary", state: steady(), request: anew("n1", false), refused: "n1 is primary: switch over first: pgctl switchover"},
		{
			name: "reclone of an empty node", state: steadyWith(durable(1, "n2")), request: anew("n3", false), view: see(only(), standby("n2"), standby("n3", empty)),
			refused: "n3 has no data: it is cloned by itself",
		},
		{
			name: "reclone of a silent node", state: steadyWith(durable(1, "n2")), request: anew("n3", false), view: see(only(), standby("n2")),
			refused: "the xpd of n3 does not report: start it first",
		},
		{name: "reclone with room for both", state: steady(), request: anew("n3", false), view: cloning(1064), want: failover.AbsenceReclone},
		{
			name: "reclone without room for both", state: steady(), request: anew("n3", false), view: cloning(1063),
			refused: "a copy of n1 needs 1064 MB on n3, and 1063 MB are free beside the data that is there: make room, or let that be deleted first (--discard)",
		},
		{name: "reclone in place of what is there", state: steady(), request: anew("n3", true), view: cloning(664), want: failover.AbsenceReclone},
		{
			name: "reclone without room at all", state: steady(), request: anew("n3", true), view: cloning(663),
			refused: "a copy of n1 needs 1064 MB on n3, and there would be 1063 MB even without the data that is there: make room",
		},
		{name: "fence a standby", state: steady(), request: fence("n3"), want: failover.AbsenceFence},
		{name: "fence the primary", state: steady(), request: fence("n1"), want: failover.AbsenceFence},
		{
			name: "fence the primary twice", state: steadyWith(away("n1", failover.Absence{Kind: failover.AbsenceFence})), request: fence("n1"),
			refused: "n1 is fenced already: pgctl unfence n1 ends that",
		},
		{
			name: "fence a primary that is silent", state: steady(), request: fence("n1"), view: see(standby("n2"), standby("n3")),
			refused: "the xpd of n1 does not report, so that nobody would stop its PostgreSQL",
		},
		{
			name: "fence a witness", state: steadyWith(tagged(map[int]pgcluster.Member{3: {Witness: true}})), request: fence("n3"),
			refused: "n3 is a witness: it has no PostgreSQL to stop",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t)
		})
	}
}

func (tt absenceCase) run(t *testing.T) {
	t.Helper()
	if tt.view.Reports == nil {
		tt.view = see(primary(), standby("n2"), standby("n3"))
	}
	got, err := tt.request(tt.state, clock(tt.view))
	if tt.refused != "" {
		if refused, ok := errors.AsType[*failover.RefusedError](err); !ok || refused.Reason != tt.refused {
			t.Errorf("error is %v, want %q", err, tt.refused)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var kind failover.AbsenceKind
	for _, a := range got.Absent {
		kind = a.Kind
		if a.ID == 0 || a.Reason == "" {
			t.Errorf("absence %+v", a)
		}
	}
	if kind != tt.want || len(got.History) != 1 {
		t.Errorf("absent %v, history %v; want %q and one event", got.Absent, got.History, tt.want)
	}
}

// What is said of a node in maintenance is a note, and no alarm.
func TestExplain_maintenance(t *testing.T) {
	t.Parallel()
	s := steadyWith(durable(1, "n2"), maintenance(), func(s *failover.State) { s.Members = append(s.Members, pgcluster.Member{ID: "n4"}) })
	s.Sync.Durable = anyOne("n2", "n4")
	v := clock(see(primary(func(r *pgcluster.Report) {
		r.SyncNames, r.Senders = "ANY 1 (n2, n4)", []pgcluster.Sender{sender("n2", 100), sender("n4", 100)}
	}), standby("n2"), standby("n4")))
	got := failover.Explain(s, v, policy)
	if got.Level != failover.LevelOK {
		t.Errorf("level %s, want %s", got.Level, failover.LevelOK)
	}
	n3 := got.Nodes[2]
	if len(n3.Notes) != 1 || n3.Notes[0] != "maintenance until 2026-11-21T13:00:00Z: kernel update" || n3.Released {
		t.Errorf("n3 is %+v", n3)
	}
	for _, f := range failover.Examine(s, v, policy, failover.Group{Leader: "n2", Confirmed: true}) {
		if f.Node == "n3" && f.Code != failover.CodeAbsent {
			t.Errorf("found %+v", f)
		}
	}
}

// Nobody knows what PostgreSQL does on a node that is silent.
func TestExplain_releasedIsWhatWasReported(t *testing.T) {
	t.Parallel()
	for _, kind := range []failover.AbsenceKind{failover.AbsenceMaintenance, failover.AbsenceFence} {
		s := steadyWith(durable(1, "n2"), away("n3", failover.Absence{Kind: kind}))
		done := standby("n3", resting, stopped)
		if n3 := failover.Explain(s, clock(see(only(), standby("n2"), done)), policy).Nodes[2]; !n3.Released {
			t.Errorf("%s: n3 is %+v, want it released", kind, n3)
		}
		if n3 := failover.Explain(s, clock(silent(see(only(), standby("n2")), done, time.Minute)), policy).Nodes[2]; n3.Released {
			t.Errorf("%s: n3 is %+v, silent and released", kind, n3)
		}
	}
}

func TestPlanReclone(t *testing.T) {
	t.Parallel()
	v := see(primary(func(r *pgcluster.Report) { r.DataBytes = 5 << 20 }), standby("n2"), standby("n3"))
	got := failover.PlanReclone(steady(), v, policy, "n3", false)
	if got.Refused != "" || got.From != "n1" || got.Bytes != 5<<20 || got.Sync != "ANY 1 (n2)" || len(got.IfDies) != 2 || got.IfDies[1].Safe {
		t.Errorf("PlanReclone() = %+v", got)
	}
	got = failover.PlanReclone(steady(), v, policy, "n1", false)
	if got.Refused != "n1 is primary: switch over first: pgctl switchover" || len(got.IfDies) != 0 {
		t.Errorf("PlanReclone() of the primary = %+v", got)
	}
}
