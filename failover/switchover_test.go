package failover_test

import (
	"errors"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

func TestStep_switchover(t *testing.T) {
	t.Parallel()
	checkpointed := func(r *pgcluster.Report) {
		r.Order = pgcluster.OrderStatus{Kind: pgcluster.OrderCheckpoint, Done: true}
	}
	gone := func(r *pgcluster.Report) { r.Receiver.Streaming = false }
	down := func(r *pgcluster.Report) { stopped(r); pledged(2)(r) }
	runSteps(t, []stepCase{
		{
			name: "F37 the checkpoint runs while clients write", state: switching(failover.PhaseCheckpoint),
			view: see(primary(), standby("n2"), standby("n3")),
			want: `
				n1 open e1 ANY 1 (n2, n3) floor 1:0/A
				switchover e2 checkpoint n2 with none
				> n1 checkpoint e1`,
		},
		{
			name: "F37 the checkpoint is done: closed, then stopped", state: switching(failover.PhaseCheckpoint),
			view: see(primary(checkpointed), standby("n2"), standby("n3")),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				switchover e2 stop n2 with none
				> n1 stop e2`,
		},
		{
			name: "F37 the candidate goes away in time: forgotten, nothing was closed", state: switching(failover.PhaseCheckpoint),
			view: see(primary(checkpointed, func(r *pgcluster.Report) { r.Senders = r.Senders[1:] }), standby("n2"), standby("n3")),
			want: `n1 open e1 ANY 1 (n2, n3) floor 1:0/A`,
		},
		{
			name: "F37 the candidate's replay was paused meanwhile: forgotten, nothing was closed", state: switching(failover.PhaseCheckpoint),
			view: see(primary(checkpointed, func(r *pgcluster.Report) {
				r.Position.LSN = 101 + policy.MaxGap
				r.Senders[0].Flushed, r.Senders[1].Flushed = r.Position.LSN, r.Position.LSN
			}), standby("n2"), standby("n3")),
			want: `n1 open e1 ANY 1 (n2, n3) floor 1:0/A`,
		},
		{
			name: "F37 the checkpoint takes too long: forgotten", state: switching(failover.PhaseCheckpoint),
			view: waited(see(primary(), standby("n2"), standby("n3")), 10*time.Second),
			want: `n1 open e1 ANY 1 (n2, n3) floor 1:0/A`,
		},
		{
			name: "F37 stopped, the candidate lacks the end: wait", state: switching(failover.PhaseStop),
			view: see(primary(down), standby("n2", at(99)), standby("n3")),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				switchover e2 stop n2 with none`,
		},
		{
			name: "F37 stopped, but it has not pledged: ordered again", state: switching(failover.PhaseStop),
			view: see(primary(stopped), standby("n2"), standby("n3")),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				switchover e2 stop n2 with none
				> n1 stop e2`,
		},
		{
			name: "F37 the candidate has it all: promoted", state: switching(failover.PhaseStop),
			view: see(primary(down), standby("n2"), standby("n3")),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				switchover e2 promote n2 with ANY 1 (n3)
				> n2 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "F37 the candidate dies: the old primary starts in place", state: switching(failover.PhaseStop),
			view: see(primary(down), standby("n2", crashed, gone), standby("n3")),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/64
				failover e2 promote n1 with ANY 1 (n3) in place
				> n1 lead e2 ANY 1 (n3) barrier true open false`,
		},
		{
			name: "F37 the old primary does not stop: standbys are recruited", state: switching(failover.PhaseStop),
			view: waited(see(primary(), standby("n2"), standby("n3")), 10*time.Second),
			want: `
				n1 closed e1 ANY 1 (n2, n3) floor 1:0/A
				failover e2 recruit
				> n1 recruit e2
				> n2 recruit e2
				> n3 recruit e2`,
		},
	})
}

func TestStep_bootstrap(t *testing.T) {
	t.Parallel()
	fresh := failover.State{Members: steady().Members}
	blank := func(id pgcluster.NodeID) pgcluster.Report { return standby(id, empty) }
	initing := fresh
	initing.Ops = 1
	initing.Primary.Access = failover.AccessClosed
	initing.Op = &failover.Operation{ID: 1, Kind: failover.KindBootstrap, Epoch: 1, Phase: failover.PhaseInit, To: "n1"}
	made := primary(func(r *pgcluster.Report) {
		r.Order = pgcluster.OrderStatus{Kind: pgcluster.OrderInit, Done: true}
		r.SyncNames, r.Senders, r.Open, r.Barrier = "", nil, 0, 0
	})
	closed := with(initing, func(s *failover.State) {
		op := *s.Op
		op.Phase = failover.PhaseBarrier
		s.Op, s.SystemID = &op, "7"
	})
	runSteps(t, []stepCase{
		{
			name: "one node is not there: wait", state: fresh, view: see(blank("n1"), blank("n2")),
			want: `e0 none floor 0:0/0`,
		},
		{
			name: "one node has data: nothing is made from nothing", state: fresh, view: see(blank("n1"), blank("n2"), standby("n3")),
			want: `e0 none floor 0:0/0`,
		},
		{
			name: "all are empty: initdb on the first", state: fresh, view: see(blank("n1"), blank("n2"), blank("n3")),
			want: `
				closed e0 none floor 0:0/0
				bootstrap e1 init n1 with none`,
		},
		{
			name: "made: the others clone", state: initing, view: see(made, blank("n2"), blank("n3")),
			want: `
				closed e0 none floor 0:0/0
				bootstrap e1 barrier n1 with none
				> n1 lead e1 none barrier false open false
				> n2 follow e1 n1
				> n3 follow e1 n1`,
		},
		{
			name: "F25 it dies before a standby is there: the same node, in the next epoch", state: closed,
			view: see(primary(crashed), blank("n2"), blank("n3")),
			want: `
				closed e0 none floor 0:0/0
				bootstrap e2 barrier n1 with none
				> n1 lead e2 none barrier false open false
				> n2 recruit e2
				> n3 recruit e2`,
		},
	})
}

func TestSwitchover(t *testing.T) {
	t.Parallel()
	all := see(primary(), standby("n2"), standby("n3"))
	tests := []struct {
		name    string
		state   failover.State
		view    failover.View
		to      pgcluster.NodeID
		want    pgcluster.NodeID
		refused string
	}{
		{name: "to a named standby", state: steady(), view: all, to: "n3", want: "n3"},
		{
			name: "to the one that is furthest", state: steady(), want: "n3",
			view: see(primary(func(r *pgcluster.Report) { r.Senders[0].Flushed = 99 }), standby("n2"), standby("n3")),
		},
		{
			name: "to one in another zone, though it is not the furthest", want: "n2",
			state: with(steady(), func(s *failover.State) { s.Members[0].Zone, s.Members[1].Zone, s.Members[2].Zone = "a", "b", "a" }),
			view:  see(primary(func(r *pgcluster.Report) { r.Senders[0].Flushed = 99 }), standby("n2"), standby("n3")),
		},
		{
			name: "to itself", state: steady(), view: all, to: "n1",
			refused: "refused: n1 is primary already",
		},
		{
			name: "to nobody known", state: steady(), view: all, to: "n9",
			refused: `refused: there is no node "n9"`,
		},
		{
			name: "while an operation runs", state: failing(failover.PhaseRecruit), view: all,
			refused: "refused: a failover is under way (phase recruit)",
		},
		{
			name: "with nobody open", view: all, refused: "refused: the cluster has no open primary",
			state: with(steady(), func(s *failover.State) { s.Primary.Access = failover.AccessClosed }),
		},
		{
			name: "with the primary silent", state: steady(), view: see(standby("n2"), standby("n3")),
			refused: "refused: the primary n1 does not report",
		},
		{
			name: "to one that is too far behind", state: steady(), to: "n2",
			view:    see(primary(func(r *pgcluster.Report) { r.Position.LSN = 101 + policy.MaxGap }), standby("n2"), standby("n3")),
			refused: "refused: n2 does not stream from n1, or is too far behind",
		},
		{
			name: "to one with much to replay", state: steady(), to: "n2",
			view: see(primary(func(r *pgcluster.Report) {
				r.Position.LSN = 101 + policy.MaxGap
				r.Senders[0].Flushed, r.Senders[0].Replayed = r.Position.LSN, 100
			}), standby("n2"), standby("n3")),
			refused: "refused: n2 has 16 MiB to replay before it could take writes",
		},
		{
			name: "to one that says it has replayed it since", state: steady(), to: "n2", want: "n2",
			view: see(primary(func(r *pgcluster.Report) {
				r.Position.LSN = 101 + policy.MaxGap
				r.Senders[0].Flushed, r.Senders[0].Replayed = r.Position.LSN, 100
			}), standby("n2", at(101+policy.MaxGap)), standby("n3")),
		},
		{
			name: "to one that applies little, and late", state: steady(), to: "n2",
			view: see(primary(func(r *pgcluster.Report) {
				r.Senders[0].ReplayLag = 5*time.Second + time.Millisecond
			}), standby("n2", func(r *pgcluster.Report) { r.Replayed = 99 }), standby("n3")),
			refused: "refused: n2 replays what is 5s old: writes would wait for it",
		},
		{
			name: "an idle primary: the lag is an old one", state: steady(), to: "n2", want: "n2",
			view: see(primary(func(r *pgcluster.Report) { r.Senders[0].ReplayLag = time.Minute }), standby("n2"), standby("n3")),
		},
		{
			name: "as far as each other: to the one with less to replay", state: steady(), want: "n3",
			view: see(primary(), standby("n2", func(r *pgcluster.Report) { r.Replayed = 90 }), standby("n3")),
		},
		{
			name: "not to the better one while it has much to replay", want: "n3",
			state: steadyWith(tagged(map[int]pgcluster.Member{2: {Priority: 9}})),
			view: see(primary(func(r *pgcluster.Report) { r.Senders[0].ReplayLag = time.Hour }),
				standby("n2", func(r *pgcluster.Report) { r.Replayed = 99 }), standby("n3")),
		},
		{
			name: "to one that no commit waits for", view: all, to: "n3", refused: "refused: n3 is not in the sync set",
			state: with(steady(), func(s *failover.State) { s.Sync.Durable = anyOne("n2") }),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := failover.Switchover(tt.state, tt.view, policy, tt.to, "")
			if refusal, ok := errors.AsType[*failover.RefusedError](err); ok {
				if refusal.Error() != tt.refused {
					t.Errorf("Switchover() = %q, want %q", refusal, tt.refused)
				}
				return
			}
			if err != nil || tt.refused != "" {
				t.Fatalf("Switchover() = %v, want refusal %q", err, tt.refused)
			}
			if got.Op.To != tt.want || got.Op.Phase != failover.PhaseCheckpoint || got.Primary.Access != failover.AccessOpen {
				t.Errorf("Switchover() = %+v, want a checkpoint on the way to %s, still open", got.Op, tt.want)
			}
		})
	}
}
