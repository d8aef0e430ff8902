package failover_test

import (
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestStep_promotion(t *testing.T) {
	t.Parallel()
	n2 := chose("n2", "n3")
	led := func(r *pgcluster.Report) { r.Followed, r.Pledged.Epoch, r.Receiver.Upstream = 2, 2, "n2" }
	unreachable := func(r *pgcluster.Report) { r.Barrier, r.Senders = 0, nil }
	runSteps(t, []stepCase{
		{
			name: "until it is promoted, the order is repeated", state: failing(failover.PhasePromote, n2),
			view: see(standby("n2", pledged(2)), standby("n3", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 promote n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "standbys are re-pointed once it lets them in", state: failing(failover.PhasePromote, n2),
			view: see(standby("n2", pledged(2), leads(2)), standby("n3", pledged(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 promote n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false
				> n3 follow e2 n2`,
		},
		{
			name: "F24 a promotion that hangs is given up", state: failing(failover.PhasePromote, n2),
			view: waited(see(standby("n2", pledged(2)), standby("n3", pledged(2))), 15*time.Second),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e3 recruit tried [n2]
				> n2 recruit e3
				> n3 recruit e3`,
		},
		{
			name:  "a start in place that hangs is given up once standbys can do without it",
			state: failing(failover.PhasePromote, chose("n1", "n2")),
			view:  waited(see(primary(starting, pledged(2)), standby("n2"), standby("n3")), 15*time.Second),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e3 recruit
				> n1 recruit e3
				> n2 recruit e3
				> n3 recruit e3`,
		},
		{
			name: "it is waited for while they cannot", state: failing(failover.PhasePromote, chose("n1", "n2")),
			view: waited(see(primary(starting, pledged(2)), standby("n2")), time.Hour),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 promote n1 with ANY 1 (n2)
				> n1 lead e2 ANY 1 (n2) barrier true open false`,
		},
		{
			name: "it falls silent: the next epoch is recruited", state: failing(failover.PhasePromote, n2),
			view: silent(see(standby("n3", pledged(2))), standby("n2"), 1500*time.Millisecond),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e3 recruit tried [n2]
				> n3 recruit e3`,
		},
		{
			name: "F25 no standby reaches it: the next epoch is recruited", state: failing(failover.PhaseBarrier, n2),
			view: waited(see(promoted(unreachable), standby("n3", led)), 15*time.Second),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e3 recruit tried [n2]
				> n2 recruit e3
				> n3 recruit e3`,
		},
		{
			name: "F25 it fails for the second time: a crash loop leaves no trail in Raft",
			state: failing(failover.PhaseBarrier, n2, func(op *failover.Operation) {
				op.Tried = []pgcluster.NodeID{"n2"}
			}),
			view: see(promoted(crashed), standby("n3", led)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e3 recruit tried [n2]
				> n2 recruit e3
				> n3 recruit e3`,
		},
		{
			name: "F25 it hangs: the next epoch is recruited", state: failing(failover.PhaseBarrier, n2),
			view: see(promoted(hangs), standby("n3", led)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e3 recruit tried [n2]
				> n2 recruit e3
				> n3 recruit e3`,
		},
		{
			name: "F25 a standby that catches up reaches it", state: failing(failover.PhaseBarrier, n2),
			view: waited(see(promoted(unreachable, func(r *pgcluster.Report) {
				r.Senders = []pgcluster.Sender{{Node: "n3"}}
			}), standby("n3", led)), 15*time.Second),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false
				> n3 follow e2 n2`,
		},
		{
			name: "F25 who is away reaches nobody", state: failing(failover.PhaseBarrier, n2),
			view: waited(see(promoted(unreachable), standby("n3", stopped, led)), 15*time.Second),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false
				> n3 follow e2 n2`,
		},
		{
			name: "F25 it dies before its barrier: the next epoch is recruited", state: failing(failover.PhaseBarrier, n2),
			view: see(promoted(crashed), standby("n3", led)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e3 recruit tried [n2]
				> n2 recruit e3
				> n3 recruit e3`,
		},
		{
			name: "the barrier is acknowledged and flushed: open", state: failing(failover.PhaseBarrier, n2),
			view: see(promoted(), standby("n3", led)),
			want: `
				n2 open e2 ANY 1 (n3) floor 2:0/6E
				> n2 lead e2 ANY 1 (n3) barrier true open true`,
		},
		{
			name: "the barrier is not acknowledged: closed", state: failing(failover.PhaseBarrier, n2),
			view: see(promoted(func(r *pgcluster.Report) { r.Barrier = 1 }), standby("n3", led)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false
				> n3 follow e2 n2`,
		},
		{
			name: "too few have flushed the barrier: closed", state: failing(failover.PhaseBarrier, n2),
			view: see(promoted(func(r *pgcluster.Report) { r.Senders[0].Flushed = 109 }), standby("n3", led)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false
				> n3 follow e2 n2`,
		},
		{
			name: "a walsender outside the set still counts itself: closed", state: failing(failover.PhaseBarrier, n2),
			view: see(promoted(func(r *pgcluster.Report) { r.Senders = append(r.Senders, sender("n1", 90)) }), standby("n3", led)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false
				> n3 follow e2 n2`,
		},
		{
			name: "the rule in force is that of an earlier order: closed", state: failing(failover.PhaseBarrier, n2),
			view: see(promoted(func(r *pgcluster.Report) { r.Order.SyncSeq = 0 }), standby("n3", led)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false
				> n3 follow e2 n2`,
		},
		{
			name: "nobody of the set streams, but another does: the set is replaced", state: failing(failover.PhaseBarrier, chose("n2", "n1")),
			view: see(promoted(), standby("n3", led)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false
				> n3 follow e2 n2`,
		},
		{
			name:  "F26 who followed an epoch that never opened is cloned",
			state: failing(failover.PhaseBarrier, n2, func(op *failover.Operation) { op.Epoch = 3 }),
			view: see(
				promoted(func(r *pgcluster.Report) { r.Led = 3 }),
				standby("n3", pledged(3), onTimeline2(2)),
				primary(crashed, pledged(3)),
			),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e3 barrier n2 with ANY 1 (n3)
				> n2 lead e3 ANY 1 (n3) barrier true open false
				> n3 follow e3 n2, reclone`,
		},
		{
			name: "who does not run comes later, where enough others do", state: failing(failover.PhaseBarrier, n2),
			view: see(promoted(unproven), standby("n3", pledged(2)), primary(crashed)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false
				> n3 follow e2 n2`,
		},
		{
			name: "who was re-pointed before the promotion goes on by itself", state: failing(failover.PhaseBarrier, n2),
			view: see(promoted(unproven), standby("n3", repointed)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "unless it does not get through", state: failing(failover.PhaseBarrier, n2),
			view: waited(see(promoted(unproven), standby("n3", repointed)), policy.RecruitWait),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false
				> n3 follow e2 n2`,
		},
		{
			name: "who does not run is not left out if the others are too few", state: failing(failover.PhaseBarrier, n2),
			view: see(promoted(unproven), primary(crashed)),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n1 follow e2 n2
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "who does not run is not left out if the others do not get through", state: failing(failover.PhaseBarrier, n2),
			view: waited(see(promoted(unproven), standby("n3", pledged(2)), primary(crashed)), policy.RecruitWait),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 barrier n2 with ANY 1 (n3)
				> n1 follow e2 n2
				> n2 lead e2 ANY 1 (n3) barrier true open false
				> n3 follow e2 n2`,
		},
		{
			name:  "F26 who may have followed one since its report pledges first",
			state: failing(failover.PhaseBarrier, n2, func(op *failover.Operation) { op.Epoch = 3 }),
			view:  see(promoted(func(r *pgcluster.Report) { r.Led = 3 }), standby("n3")),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e3 barrier n2 with ANY 1 (n3)
				> n2 lead e3 ANY 1 (n3) barrier true open false
				> n3 recruit e3`,
		},
		{
			name:  "F26 who followed one, and hangs, has not said how much it got: its pledge will",
			state: failing(failover.PhaseBarrier, n2, func(op *failover.Operation) { op.Epoch = 3 }),
			view: see(promoted(func(r *pgcluster.Report) { r.Led = 3 }), standby("n3", func(r *pgcluster.Report) {
				r.Followed, r.Pledged.Epoch = 2, 3
			})),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e3 barrier n2 with ANY 1 (n3)
				> n2 lead e3 ANY 1 (n3) barrier true open false
				> n3 recruit e3`,
		},
		{
			name: "F26 the primary has that WAL too: nobody is cloned",
			state: failing(failover.PhaseBarrier, n2, func(op *failover.Operation) {
				op.Epoch, op.Base = 3, failover.Base{Epoch: 2, Timeline: 2}
			}),
			view: see(promoted(func(r *pgcluster.Report) { r.Led = 3 }), standby("n3", pledged(3), onTimeline2(2))),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e3 barrier n2 with ANY 1 (n3)
				> n2 lead e3 ANY 1 (n3) barrier true open false
				> n3 follow e3 n2`,
		},
	})
}
