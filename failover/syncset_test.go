package failover_test

import (
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

func available(s *failover.State) { s.Settings.Mode = failover.ModeAvailable }

func wantK(k int) func(*failover.State) {
	return func(s *failover.State) { s.Settings.K = k }
}

func durable(k int, members ...pgcluster.NodeID) func(*failover.State) {
	return func(s *failover.State) { s.Sync.Durable = pgcluster.SyncSet{K: k, Members: members} }
}

// tagged changes members, counted from n1 on.
func tagged(change map[int]pgcluster.Member) func(*failover.State) {
	return func(s *failover.State) {
		for i, m := range change {
			m.ID = s.Members[i-1].ID
			s.Members[i-1] = m
		}
	}
}

// steadyWith is steady with changes.
func steadyWith(changes ...func(*failover.State)) failover.State {
	s := steady()
	for _, f := range changes {
		f(&s)
	}
	return s
}

// inForce is a primary that has a rule in force, and says that the order of it was
// the first.
func inForce(names string, senders ...pgcluster.Sender) pgcluster.Report {
	return primary(func(r *pgcluster.Report) { r.SyncNames, r.Senders = names, senders })
}

func TestStep_k(t *testing.T) {
	t.Parallel()
	two := pgcluster.SyncSet{Members: []pgcluster.NodeID{"n2", "n3"}, K: 2}
	raising := func(past, mark pgcluster.LSN) failover.State {
		return steadyWith(wantK(2), func(s *failover.State) { s.Sync.Pending, s.Sync.Past, s.Sync.Mark = &two, past, mark })
	}
	raised := inForce("ANY 2 (n2, n3)", sender("n2", 100), sender("n3", 100))
	lose := func(v failover.View, ids ...pgcluster.NodeID) failover.View {
		for _, id := range ids {
			v.Streamed[id] = v.Now - 2*time.Second
		}
		return v
	}
	runSteps(t, []stepCase{
		{
			name: "more is asked for: PostgreSQL first", state: steadyWith(wantK(2)),
			view: see(primary(), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 2 (n2, n3) mark 0/0
				> n1 lead e1 ANY 2 (n2, n3) barrier true open true`,
		},
		{
			name: "more is asked for than stream: not yet", state: steadyWith(wantK(2)),
			view: see(inForce("ANY 1 (n2, n3)", sender("n2", 100)), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A`,
		},
		{
			name: "the postmaster has it: walsenders must come round past what is flushed now", state: raising(0, 0),
			view: see(raised, standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 2 (n2, n3) mark 0/0 past 0/64`,
		},
		{
			name: "one has not come round: wait", state: raising(100, 0),
			view: see(inForce("ANY 2 (n2, n3)", sender("n2", 101), sender("n3", 100)), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 2 (n2, n3) mark 0/0 past 0/64`,
		},
		{
			name: "all have: what is flushed by then is the mark", state: raising(99, 0),
			view: see(raised, standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 2 (n2, n3) mark 0/64 past 0/63`,
		},
		{
			name: "only one has what one alone may have acknowledged: wait", state: raising(90, 101),
			view: see(inForce("ANY 2 (n2, n3)", sender("n2", 101), sender("n3", 100)), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 2 (n2, n3) mark 0/65 past 0/5A`,
		},
		{
			name: "both have: recorded", state: raising(90, 100),
			view: see(raised, standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 2 (n2, n3) floor 1:0/A`,
		},
		{
			name: "one is lost meanwhile: taken back", state: raising(90, 0),
			view: see(inForce("ANY 2 (n2, n3)", sender("n2", 100)), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A
				> n1 lead e1 ANY 1 (n2, n3) barrier true open true`,
		},
		{
			name: "nobody asks for it any more: taken back", state: with(raising(90, 0), wantK(1)),
			view: see(raised, standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A
				> n1 lead e1 ANY 1 (n2, n3) barrier true open true`,
		},
		{
			name: "fewer are asked for: Raft first", state: steadyWith(wantK(1), durable(2, "n2", "n3")),
			view: see(raised, standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A
				> n1 lead e1 ANY 1 (n2, n3) barrier true open true`,
		},
		{
			name: "available, all are lost: Raft first", state: steadyWith(available),
			view: lose(see(inForce("ANY 1 (n2, n3)")), "n2", "n3"),
			want: `
				n1 open e1 none floor 1:0/A
				> n1 lead e1 none barrier true open true`,
		},
		{
			name: "available, all gone for a moment: wait", state: steadyWith(available),
			view: see(inForce("ANY 1 (n2, n3)")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A`,
		},
		{
			name: "available, one is back", state: steadyWith(available, durable(0, "n2", "n3")),
			view: see(inForce("", sender("n2", 100)), standby("n2")),
			want: `
				n1 open e1 none floor 1:0/A pending ANY 1 (n2, n3) mark 0/0
				> n1 lead e1 ANY 1 (n2, n3) barrier true open true`,
		},
		{
			name: "available, the rest is lost within a shrink: taken back, to be lowered", state: steadyWith(available, func(s *failover.State) {
				s.Sync.Pending = &pgcluster.SyncSet{Members: []pgcluster.NodeID{"n2"}, K: 1}
			}),
			view: lose(see(inForce("ANY 1 (n2)")), "n2", "n3"),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A
				> n1 lead e1 ANY 1 (n2, n3) barrier true open true`,
		},
	})
}

func TestStep_zones(t *testing.T) {
	t.Parallel()
	zones := func(a, b, c string) func(*failover.State) {
		return tagged(map[int]pgcluster.Member{1: {Zone: a}, 2: {Zone: b}, 3: {Zone: c}})
	}
	runSteps(t, []stepCase{
		{
			name: "who fails together with the primary leaves the set", state: steadyWith(zones("a", "a", "b")),
			view: see(primary(), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n3) mark 0/0
				> n1 lead e1 ANY 1 (n3) barrier true open true`,
		},
		{
			name: "and does not join again", state: steadyWith(zones("a", "a", "b"), durable(1, "n3")),
			view: see(inForce("ANY 1 (n3)", sender("n2", 100), sender("n3", 100)), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n3) floor 1:0/A`,
		},
		{
			name: "unless nobody else is there", state: steadyWith(zones("a", "a", "b"), durable(1, "n3")),
			view: func() failover.View {
				v := see(inForce("ANY 1 (n3)", sender("n2", 100)), standby("n2"))
				v.Streamed["n3"] = v.Now - 2*time.Second
				return v
			}(),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A
				> n1 lead e1 ANY 1 (n2, n3) barrier true open true`,
		},
		{
			name: "one zone for all is none", state: steadyWith(zones("a", "a", "a")),
			view: see(primary(), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A`,
		},
		{
			name: "of equals, the one elsewhere is promoted", state: with(failing(failover.PhaseRecruit), zones("a", "a", "b")),
			view: see(standby("n2", pledged(2)), standby("n3", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n3 with ANY 1 (n2)
				> n3 lead e2 ANY 1 (n2) barrier true open false`,
		},
		{
			name: "more WAL goes before zones", state: with(failing(failover.PhaseRecruit), zones("a", "a", "b")),
			view: see(standby("n2", pledged(2), at(101)), standby("n3", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/65
				failover e2 promote n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
	})
}

func TestStep_roles(t *testing.T) {
	t.Parallel()
	tags := func(m2, m3 pgcluster.Member) failover.State {
		return with(failing(failover.PhaseRecruit), tagged(map[int]pgcluster.Member{2: m2, 3: m3}))
	}
	noFailover, noSync := pgcluster.Member{NoFailover: true}, pgcluster.Member{NoSync: true}
	runSteps(t, []stepCase{
		{
			name: "of equals, the higher priority is promoted", state: tags(pgcluster.Member{}, pgcluster.Member{Priority: 1}),
			view: see(standby("n2", pledged(2)), standby("n3", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n3 with ANY 1 (n2)
				> n3 lead e2 ANY 1 (n2) barrier true open false`,
		},
		{
			name: "who must not be promoted counts, and is not chosen", state: tags(noFailover, pgcluster.Member{}),
			view: see(standby("n2", pledged(2)), standby("n3", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n3 with ANY 1 (n2)
				> n3 lead e2 ANY 1 (n2) barrier true open false`,
		},
		{
			name: "who must not be promoted has what the other lacks: blocked", state: tags(noFailover, pgcluster.Member{}),
			view: waited(see(standby("n2", pledged(2), at(101)), standby("n3", pledged(2))), time.Hour),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit`,
		},
		{
			name:  "more than a quorum pledged: what only one of them has was never acknowledged",
			state: with(tags(noFailover, pgcluster.Member{}), durable(2, "n2", "n3")),
			view:  see(standby("n2", pledged(2), at(101)), standby("n3", pledged(2))),
			want: `
				n1 closed e1 ANY 2 (n2, n3) floor 1:0/64
				failover e2 promote n3 with ANY 1 (n2)
				> n3 lead e2 ANY 1 (n2) barrier true open false`,
		},
		{
			name:  "more than a quorum pledged: whoever has most is promoted, which leaves the fewest to rewind, and the others could be",
			state: with(tags(pgcluster.Member{}, pgcluster.Member{}), durable(2, "n2", "n3")),
			view:  see(standby("n2", pledged(2)), standby("n3", pledged(2), at(101))),
			want: `
				n1 closed e1 ANY 2 (n2, n3) floor 1:0/64
				failover e2 promote n3 with ANY 1 (n2)
				> n3 lead e2 ANY 1 (n2) barrier true open false`,
		},
		{
			name: "who is not meant to be promoted is not, at first", state: tags(noSync, noFailover),
			view: see(standby("n2", pledged(2)), standby("n3", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit`,
		},
		{
			name: "then it is, because nobody else can be", state: tags(noSync, noFailover),
			view: waited(see(standby("n2", pledged(2)), standby("n3", pledged(2))), time.Second),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "k = 0: only the primary itself", state: with(failing(failover.PhaseRecruit), durable(0, "n2", "n3")),
			view: waited(see(standby("n2", pledged(2)), standby("n3", pledged(2))), time.Hour),
			want: `
				n1 closed e1 none floor 1:0/A
				failover e2 recruit`,
		},
		{
			name:  "k = 0: the primary itself, in place, and alone again",
			state: with(with(failing(failover.PhaseRecruit), durable(0, "n2", "n3")), available),
			view:  waited(see(primary(crashed, pledged(2), func(r *pgcluster.Report) { r.Process = pgcluster.ProcessCrashed })), time.Second),
			want: `
				n1 closed e1 none floor 1:0/A
				failover e2 promote n1 with none alone
				> n1 lead e2 none barrier true open false`,
		},
		{
			name: "an operation does not raise the k that it has ordered before",
			state: with(with(failing(failover.PhaseRecruit, func(op *failover.Operation) {
				op.Epoch, op.Tried, op.Sync = 3, []pgcluster.NodeID{"n2"}, anyOne("n1", "n3")
			}), durable(2, "n2", "n3")), wantK(2)),
			view: see(standby("n3", pledged(3))),
			want: `
				n1 closed e1 ANY 2 (n2, n3) floor 1:0/A
				failover e3 promote n3 with ANY 1 (n1, n2) tried [n2]
				> n3 lead e3 ANY 1 (n1, n2) barrier true open false`,
		},
		{
			name: "a change of primary does not raise k", state: with(failing(failover.PhaseRecruit), wantK(2)),
			view: see(standby("n2", pledged(2)), standby("n3", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name:  "no commit is to wait for a member any more: it leaves the set",
			state: steadyWith(tagged(map[int]pgcluster.Member{3: noSync}), wantK(1)),
			view:  see(primary(), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n2) mark 0/0
				> n1 lead e1 ANY 1 (n2) barrier true open true`,
		},
		{
			name: "a witness is given no orders", state: with(failing(failover.PhaseRecruit), tagged(map[int]pgcluster.Member{3: {Witness: true}})),
			view: see(standby("n2"), standby("n3")),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n2 recruit e2`,
		},
	})
}

// In ModeAvailable a new primary does not wait for standbys that do not come.
func TestStep_opensAlone(t *testing.T) {
	t.Parallel()
	closed := promoted(func(r *pgcluster.Report) { r.Senders, r.Barrier = nil, 0 })
	state := failing(failover.PhaseBarrier, chose("n2", "n3"))
	alone := with(failing(failover.PhaseBarrier, chose("n2"), func(op *failover.Operation) {
		op.Sync, op.Alone = pgcluster.SyncSet{Members: []pgcluster.NodeID{}}, true
	}), available)
	runSteps(t, []stepCase{
		{
			name: "protect waits", state: state, view: waited(see(closed), 2*time.Second),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "available waits for a while", state: with(state, available), view: waited(see(closed), 1900*time.Millisecond),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "then it says so first", state: with(failing(failover.PhaseBarrier, chose("n2", "n3")), available),
			view: waited(see(closed), 2*time.Second),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with none alone
				> n2 lead e2 none barrier true open false`,
		},
		{
			name: "and opens by its own barrier", state: alone,
			view: see(promoted(func(r *pgcluster.Report) { r.Senders, r.SyncNames = nil, "" })),
			want: `
				n2 open e2 none floor 2:0/6E
				> n2 lead e2 none barrier true open true`,
		},
		{
			name:  "unless somebody wants protect by then",
			state: with(alone, func(s *failover.State) { s.Settings.Mode = failover.ModeProtect }),
			view:  see(promoted(func(r *pgcluster.Report) { r.Senders, r.SyncNames = nil, "" })),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with none
				> n2 lead e2 none barrier false open false`,
		},
	})
}

// A k that rests on a node that people have the cluster do without could never let it go.
func TestStep_raisesOnNobodyWhoLeaves(t *testing.T) {
	t.Parallel()
	s := steadyWith(durable(0, "n2"), away("n2", failover.Absence{Kind: failover.AbsenceReclone}))
	s.Settings.Mode = failover.ModeAvailable
	s.Sync.Pending = nil
	raising := pgcluster.SyncSet{Members: s.Sync.Durable.Members, K: 1}
	v := see(primary(), standby("n2"))

	if next, _ := failover.Step(s, v, policy); next.Sync.Pending != nil && next.Sync.Pending.K > 0 {
		t.Errorf("it begins to raise k to %d", next.Sync.Pending.K)
	}
	s.Sync.Pending = &raising
	if next, _ := failover.Step(s, v, policy); next.Sync.Pending != nil {
		t.Errorf("it goes on with %s", next.Sync.Pending)
	}
}
