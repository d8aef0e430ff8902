package failover_test

import (
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestStep_loss(t *testing.T) {
	t.Parallel()
	runSteps(t, []stepCase{
		{
			name: "nothing is wrong: nothing is done", state: steady(),
			view: see(primary(), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A`,
		},
		{
			name: "F1 primary's postgres is dead: everybody is recruited", state: steady(),
			view: see(primary(crashed), standby("n2"), standby("n3")),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n1 recruit e2
				> n2 recruit e2
				> n3 recruit e2`,
		},
		{
			name: "F6 xpd of the primary is dead, a standby hears its postgres: no failover", state: steady(),
			view: silent(see(standby("n2"), standby("n3", deaf)), primary(), 5*time.Second),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A`,
		},
		{
			name: "F7 xpd and postgres are dead: failover once the silence is long enough", state: steady(),
			view: silent(see(standby("n2", deaf), standby("n3", deaf)), primary(), 1500*time.Millisecond),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n2 recruit e2
				> n3 recruit e2`,
		},
		{
			name: "F7 silent for a little less: wait", state: steady(),
			view: silent(see(standby("n2", deaf), standby("n3", deaf)), primary(), 1400*time.Millisecond),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A`,
		},
		{
			name: "F3 primary's postgres hangs, and no standby hears it", state: steady(),
			view: see(primary(hangs), standby("n2", deaf), standby("n3", deaf)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n1 recruit e2
				> n2 recruit e2
				> n3 recruit e2`,
		},
		{
			name: "F31 F44 primary's postgres does not answer its agent, but a standby hears it: no failover", state: steady(),
			view: see(primary(hangs), standby("n2", deaf), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A`,
		},
		{
			name: "F19 primary silent and one standby too: nobody could be chosen, so nothing is closed", state: steady(),
			view: silent(see(standby("n2", deaf)), primary(), time.Minute),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A`,
		},
		{
			name: "F20 all postgres are down: the primary starts in place, others are left alone", state: steady(),
			view: see(primary(crashed), standby("n2", crashed), standby("n3", crashed)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit in place
				> n1 recruit e2`,
		},
		{
			name: "the primary lost its data: its standbys are recruited, nothing is awaited in place", state: steady(),
			view: see(primary(empty), standby("n2", crashed), standby("n3", crashed)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n2 recruit e2
				> n3 recruit e2`,
		},
	})
}

func TestStep_recruit(t *testing.T) {
	t.Parallel()
	ex := func(r *pgcluster.Report) { crashed(r); pledged(2)(r) }
	inPlace := func(op *failover.Operation) { op.InPlace = true }
	tried := func(op *failover.Operation) { op.Epoch, op.Tried = 3, []pgcluster.NodeID{"n2"} }
	raised := func(s *failover.State) { s.Floor.LSN = 100 }
	runSteps(t, []stepCase{
		{
			name: "F1 a quorum pledged: who has most WAL is promoted, its floor recorded", state: failing(failover.PhaseRecruit),
			view: see(standby("n2", pledged(2), at(100)), standby("n3", pledged(2), at(101))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/65
				failover e2 promote n3 with ANY 1 (n2)
				> n3 lead e2 ANY 1 (n2) barrier true open false`,
		},
		{
			name: "F19 a quorum after a long time: whoever is chosen has as long as ever", state: failing(failover.PhaseRecruit),
			view: waited(see(standby("n2", pledged(2)), standby("n3", pledged(2))), time.Minute),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "equal WAL: who has less to replay", state: failing(failover.PhaseRecruit),
			view: see(standby("n2", pledged(2), func(r *pgcluster.Report) { r.Replayed = 90 }), standby("n3", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n3 with ANY 1 (n2)
				> n3 lead e2 ANY 1 (n2) barrier true open false`,
		},
		{
			name: "equal in all: the first by name", state: failing(failover.PhaseRecruit),
			view: see(standby("n3", pledged(2)), standby("n2", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "a pledge to the epoch before does not count", state: failing(failover.PhaseRecruit),
			view: see(standby("n2", pledged(2)), standby("n3", pledged(1))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n3 recruit e2`,
		},
		{
			name: "who does not know its WAL's end does not count, and is recruited again", state: failing(failover.PhaseRecruit),
			view: see(standby("n2", pledged(2)), standby("n3", crashed, pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n3 recruit e2`,
		},
		{
			name: "F17 primary lost within a shrink: the set before it is recruited from",
			state: with(failing(failover.PhaseRecruit), func(s *failover.State) {
				s.Sync.Pending = &pgcluster.SyncSet{Members: []pgcluster.NodeID{"n2"}, K: 1}
			}),
			view: see(standby("n2", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n2) mark 0/0
				failover e2 recruit`,
		},
		{
			name: "F19 one of two pledged: blocked", state: failing(failover.PhaseRecruit),
			view: waited(see(standby("n2", pledged(2))), time.Hour),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit`,
		},
		{
			name: "F19 the old primary returned crashed: standbys get their time", state: failing(failover.PhaseRecruit),
			view: see(primary(ex), standby("n2", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit`,
		},
		{
			name: "F19 then it is started in place: it has everything", state: failing(failover.PhaseRecruit),
			view: waited(see(primary(ex), standby("n2", pledged(2))), time.Second),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 promote n1 with ANY 1 (n2)
				> n1 lead e2 ANY 1 (n2) barrier true open false`,
		},
		{
			name: "the old primary stopped cleanly: one standby with all of it is enough", state: failing(failover.PhaseRecruit),
			view: see(primary(stopped, pledged(2)), standby("n2", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n2 with ANY 1 (n1, n3)
				> n2 lead e2 ANY 1 (n1, n3) barrier true open false`,
		},
		{
			name: "the old primary stopped cleanly, the standby lacks its end: wait", state: failing(failover.PhaseRecruit),
			view: see(primary(stopped, pledged(2)), standby("n2", pledged(2), at(99))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit`,
		},
		{
			name: "F20 in place: as soon as it pledged", state: failing(failover.PhaseRecruit, inPlace),
			view: see(primary(ex), standby("n2", crashed)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 promote n1 with ANY 1 (n2, n3) in place
				> n1 lead e2 ANY 1 (n2, n3) barrier true open false`,
		},
		{
			name: "F20 in place, but it falls silent: the others are recruited", state: failing(failover.PhaseRecruit, inPlace),
			view: see(standby("n2", crashed), standby("n3", crashed)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n2 recruit e2
				> n3 recruit e2`,
		},
		{
			name: "F21 a quorum below the floor: nobody", state: with(failing(failover.PhaseRecruit), raised),
			view: see(standby("n2", pledged(2), at(50)), standby("n3", pledged(2), at(99))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 recruit`,
		},
		{
			name: "F25 an earlier choice set the floor: one at the floor is enough", state: with(failing(failover.PhaseRecruit, tried), raised),
			view: see(standby("n3", pledged(3))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e3 promote n3 with ANY 1 (n1, n2) tried [n2]
				> n3 lead e3 ANY 1 (n1, n2) barrier true open false`,
		},
		{
			name: "F25 an earlier choice set the floor: one below is not", state: with(failing(failover.PhaseRecruit, tried), raised),
			view: see(standby("n3", pledged(3), at(99))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e3 recruit tried [n2]`,
		},
		{
			name:  "F30 who has just failed, with a full disk perhaps, is not started again before another",
			state: with(failing(failover.PhaseRecruit, tried, func(op *failover.Operation) { op.Failed = "n1" }), raised),
			view:  waited(see(primary(crashed, pledged(3)), found("n2", pgcluster.RolePrimary, crashed, pledged(3), func(r *pgcluster.Report) { r.Led = 2 })), time.Second),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e3 promote n2 with ANY 1 (n1, n3) tried [n2]
				> n2 lead e3 ANY 1 (n1, n3) barrier true open false`,
		},
		{
			name:  "F30 who has just failed is started again if there is nobody else",
			state: with(failing(failover.PhaseRecruit, tried, func(op *failover.Operation) { op.Failed = "n1" }), raised),
			view:  waited(see(primary(crashed, pledged(3))), time.Second),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e3 promote n1 with ANY 1 (n2, n3) tried [n2]
				> n1 lead e3 ANY 1 (n2, n3) barrier true open false`,
		},
		{
			name: "F26 WAL of an epoch that never opened is no candidate's, and does not count",
			state: with(failing(failover.PhaseRecruit), func(s *failover.State) {
				s.Primary.Epoch, s.Op.Epoch = 3, 4
				s.Epochs = append(s.Epochs, failover.Epoch{Epoch: 3, Node: "n1", Timeline: 2})
				s.Lineage = pgcluster.Lineage{{Parent: 1, At: 5, Child: 2}}
				s.Floor.Timeline = 2
			}),
			view: see(standby("n2", pledged(4), onTimeline2(3)), standby("n3", pledged(4), onTimeline2(2))),
			want: `
				n1 closed e3 ANY 1 (n2, n3) floor 2:0/A
				failover e4 recruit`,
		},
		{
			name: "the old primary runs as a standby: it does not stand for all", state: failing(failover.PhaseRecruit),
			view: see(standby("n1", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit`,
		},
		{
			name:  "what the old primary wrote in an attempt that never opened is not waited for",
			state: failing(failover.PhaseRecruit, func(op *failover.Operation) { op.Epoch = 3 }),
			view: see(
				primary(stopped, pledged(3), at(110), func(r *pgcluster.Report) { r.Led = 2 }),
				standby("n2", pledged(3)), standby("n3", pledged(3)),
			),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e3 promote n2 with ANY 1 (n3)
				> n2 lead e3 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "another cluster's data does not count", state: failing(failover.PhaseRecruit),
			view: see(standby("n2", pledged(2)), standby("n3", pledged(2), func(r *pgcluster.Report) { r.SystemID = "8" })),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit`,
		},
	})
}

// onTimeline2 puts a report on a timeline that left timeline 1 at 5, as followed in
// an epoch.
func onTimeline2(followed uint64) change {
	return func(r *pgcluster.Report) {
		r.Position.Timeline, r.Followed = 2, followed
		r.Lineage = pgcluster.Lineage{{Parent: 1, At: 5, Child: 2}}
	}
}

func TestStep_syncSet(t *testing.T) {
	t.Parallel()
	shrinking := func(mark pgcluster.LSN) failover.State {
		return with(steady(), func(s *failover.State) {
			s.Sync.Pending, s.Sync.Mark, s.Sync.Seq = &pgcluster.SyncSet{Members: []pgcluster.NodeID{"n2"}, K: 1}, mark, 2
		})
	}
	shrunk := func(r *pgcluster.Report) {
		r.SyncNames, r.Order.SyncSeq = "ANY 1 (n2)", 2
		r.Senders = r.Senders[:1]
	}
	lose := func(id pgcluster.NodeID, v failover.View) failover.View {
		v.Streamed[id] = v.Now - 2*time.Second
		return v
	}
	lost := func(v failover.View) failover.View { return lose("n3", v) }
	one := func(r *pgcluster.Report) { r.Senders = r.Senders[:1] }
	runSteps(t, []stepCase{
		{
			name: "F16 a standby is lost: the smaller rule goes to PostgreSQL first", state: steady(),
			view: lost(see(primary(one), standby("n2"))),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n2) mark 0/0
				> n1 lead e1 ANY 1 (n2) barrier true open true`,
		},
		{
			name: "F1 PostgreSQL of a standby died: its agent waits to be told", state: steady(),
			view: see(primary(), standby("n2"), standby("n3", crashed)),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A
				> n3 follow e1 n1`,
		},
		{
			name: "F16 the last that k needs is lost: writes wait", state: with(steady(), func(s *failover.State) {
				s.Sync.Durable = anyOne("n3")
			}),
			view: lost(see(primary(func(r *pgcluster.Report) { r.SyncNames, r.Senders = "ANY 1 (n3)", nil }))),
			want: `
				n1 open e1 ANY 1 (n3) floor 1:0/A`,
		},
		{
			name: "F16 the names are in force but its walsender still counts: wait", state: shrinking(0),
			view: see(primary(shrunk, func(r *pgcluster.Report) { r.Senders = append(r.Senders, sender("n3", 50)) }), standby("n2")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n2) mark 0/0`,
		},
		{
			name: "F16 the names match by a report of before: wait, and order again", state: shrinking(0),
			view: see(primary(shrunk, func(r *pgcluster.Report) { r.Order.SyncSeq = 1 }), standby("n2")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n2) mark 0/0
				> n1 lead e1 ANY 1 (n2) barrier true open true`,
		},
		{
			name: "F16 nobody counts any more: what was flushed by then is the mark", state: shrinking(0),
			view: see(primary(shrunk), standby("n2")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n2) mark 0/64`,
		},
		{
			name: "F17 the rest lacks what only the lost one may have acknowledged: wait", state: shrinking(101),
			view: see(primary(shrunk), standby("n2")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A pending ANY 1 (n2) mark 0/65`,
		},
		{
			name: "F16 the rest has it: Raft forgets the lost one", state: shrinking(100),
			view: see(primary(shrunk), standby("n2")),
			want: `
				n1 open e1 ANY 1 (n2) floor 1:0/A`,
		},
		{
			name: "F19 both standbys are lost: whoever returns first must count, so nobody is removed", state: steady(),
			view: lost(lose("n2", see(primary(func(r *pgcluster.Report) { r.Senders = nil })))),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A`,
		},
		{
			name: "F17 F18 the rest is lost within a shrink and the removed one streams again: taken back", state: shrinking(0),
			view: lose("n2", see(primary(shrunk, func(r *pgcluster.Report) {
				back := sender("n3", 100)
				back.SyncPriority = 0
				r.Senders = []pgcluster.Sender{back}
			}), standby("n3"))),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A
				> n1 lead e1 ANY 1 (n2, n3) barrier true open true`,
		},
		{
			name: "a standby streams: Raft counts it first", state: with(steady(), func(s *failover.State) {
				s.Sync.Durable = anyOne("n2")
			}),
			view: see(primary(func(r *pgcluster.Report) { r.SyncNames = "ANY 1 (n2)" }), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A
				> n1 lead e1 ANY 1 (n2, n3) barrier true open true`,
		},
		{
			name: "a standby streams on the orders of another epoch: not counted", state: with(steady(), func(s *failover.State) {
				s.Sync.Durable = anyOne("n2")
			}),
			view: see(primary(func(r *pgcluster.Report) { r.SyncNames = "ANY 1 (n2)" }), standby("n2"),
				standby("n3", func(r *pgcluster.Report) { r.Followed = 0 })),
			want: `
				n1 open e1 ANY 1 (n2) floor 1:0/A`,
		},
	})
}
