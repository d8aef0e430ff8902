package failover_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

var policy = failover.DefaultPolicy()

// now is when every case happens; nodes that are silent were seen before.
const now = time.Minute

// steady is a cluster of three whose n1 is open in epoch 1.
func steady() failover.State {
	return failover.State{
		Members:  []pgcluster.Member{{ID: "n1"}, {ID: "n2"}, {ID: "n3"}},
		SystemID: "7",
		Primary:  failover.Primary{Node: "n1", Epoch: 1, Access: failover.AccessOpen},
		Sync:     failover.Sync{Durable: anyOne("n2", "n3"), Seq: 1},
		Floor:    pgcluster.Position{Timeline: 1, LSN: 10},
		Epochs:   []failover.Epoch{{Epoch: 1, Node: "n1", Timeline: 1}},
		Ops:      1,
	}
}

// failing is steady, with an operation of epoch 2 in a phase.
func failing(ph failover.Phase, change ...func(*failover.Operation)) failover.State {
	s := steady()
	s.Primary.Access = failover.AccessClosed
	s.Op = &failover.Operation{ID: 2, Kind: failover.KindFailover, Epoch: 2, Phase: ph, From: "n1"}
	for _, f := range change {
		f(s.Op)
	}
	return s
}

func switching(ph failover.Phase) failover.State {
	s := failing(ph, func(op *failover.Operation) { op.Kind, op.To = failover.KindSwitchover, "n2" })
	if ph == failover.PhaseCheckpoint {
		s.Primary.Access = failover.AccessOpen
	}
	return s
}

func chose(id pgcluster.NodeID, members ...pgcluster.NodeID) func(*failover.Operation) {
	return func(op *failover.Operation) { op.To, op.Sync = id, anyOne(members...) }
}

func with(s failover.State, change func(*failover.State)) failover.State {
	change(&s)
	return s
}

func anyOne(members ...pgcluster.NodeID) pgcluster.SyncSet {
	return pgcluster.SyncSet{Members: members, K: 1}
}

type change func(*pgcluster.Report)

func report(id pgcluster.NodeID, role pgcluster.Role, changes []change) pgcluster.Report {
	r := pgcluster.Report{
		Node: id, SystemID: "7", Process: pgcluster.ProcessRunning, Role: role, PositionKnown: true,
		Position: pgcluster.Position{Timeline: 1, LSN: 100}, Replayed: 100, Pledged: pgcluster.Stamp{Epoch: 1},
	}
	for _, f := range changes {
		f(&r)
	}
	return r
}

// primary is a report of n1 as it should be in epoch 1, but for the changes.
func primary(changes ...change) pgcluster.Report {
	return report("n1", pgcluster.RolePrimary, append([]change{func(r *pgcluster.Report) {
		r.Led, r.Open, r.Barrier, r.SyncNames = 1, 1, 1, "ANY 1 (n2, n3)"
		r.Order = pgcluster.OrderStatus{Kind: pgcluster.OrderLead, SyncSeq: 1, Done: true}
		r.Senders = []pgcluster.Sender{sender("n2", 100), sender("n3", 100)}
	}}, changes...))
}

func sender(id pgcluster.NodeID, flushed pgcluster.LSN) pgcluster.Sender {
	return pgcluster.Sender{Node: id, Streaming: true, SyncPriority: 1, Flushed: flushed}
}

// standby is a report of a node that streams from n1 in epoch 1.
func standby(id pgcluster.NodeID, changes ...change) pgcluster.Report {
	return report(id, pgcluster.RoleStandby, append([]change{func(r *pgcluster.Report) {
		r.Followed = 1
		r.Receiver = pgcluster.Receiver{Upstream: "n1", Streaming: true}
		r.Order = pgcluster.OrderStatus{
			Kind: pgcluster.OrderFollow, Stamp: pgcluster.Stamp{Epoch: 1}, Upstream: "n1", Timeline: 1, Done: true,
		}
	}}, changes...))
}

// promoted is a report of n2 as the primary of epoch 2 whose barrier n3 has flushed.
func promoted(changes ...change) pgcluster.Report {
	return report("n2", pgcluster.RolePrimary, append([]change{func(r *pgcluster.Report) {
		r.Pledged.Epoch, r.Led, r.Barrier, r.BarrierAt, r.SyncNames = 2, 2, 2, 110, "ANY 1 (n3)"
		r.Position = pgcluster.Position{Timeline: 2, LSN: 110}
		r.Lineage = pgcluster.Lineage{{Parent: 1, At: 100, Child: 2}}
		r.Order = pgcluster.OrderStatus{Kind: pgcluster.OrderLead, SyncSeq: 1}
		r.Senders = []pgcluster.Sender{sender("n3", 110)}
	}}, changes...))
}

func pledged(epoch uint64) change {
	return func(r *pgcluster.Report) {
		r.Recruited, r.Pledged.Epoch, r.Receiver = epoch, epoch, pgcluster.Receiver{}
		r.Order = pgcluster.OrderStatus{Kind: pgcluster.OrderRecruit, Stamp: pgcluster.Stamp{Epoch: epoch}, Done: true}
	}
}

// leads is a node that has made an epoch its own; it may be promoted only later.
func leads(epoch uint64) change { return func(r *pgcluster.Report) { r.Led = epoch } }

// repointed is a standby that was ordered to follow n2 in epoch 2, before its promotion.
func repointed(r *pgcluster.Report) {
	r.Pledged.Epoch, r.Followed, r.Receiver.Upstream = 2, 2, "n2"
	r.Order.Stamp.Epoch, r.Order.Upstream, r.Order.Done = 2, "n2", false
}

// unproven is a primary whose barrier nobody has acknowledged yet.
func unproven(r *pgcluster.Report) { r.Barrier = 0 }

func at(lsn pgcluster.LSN) change {
	return func(r *pgcluster.Report) { r.Position.LSN, r.Replayed = lsn, lsn }
}

func crashed(r *pgcluster.Report) {
	r.Process, r.PositionKnown, r.Senders, r.Open = pgcluster.ProcessCrashed, false, nil, 0
	r.Receiver.Streaming = false
}

func stopped(r *pgcluster.Report) {
	r.Process, r.Senders, r.Open = pgcluster.ProcessStopped, nil, 0
}

func starting(r *pgcluster.Report) {
	stopped(r)
	r.Process, r.PositionKnown = pgcluster.ProcessStarting, false
}

func hangs(r *pgcluster.Report) { r.AnsweredAgo = 5 * time.Second }

func deaf(r *pgcluster.Report) { r.Receiver.HeardAgo = 5 * time.Second }

func empty(r *pgcluster.Report) {
	*r = pgcluster.Report{Node: r.Node, Process: pgcluster.ProcessStopped, Role: pgcluster.RoleNone}
}

// see is a view that has these reports fresh; who has none was never seen.
func see(reports ...pgcluster.Report) failover.View {
	v := failover.View{
		Now: now, PhaseSince: now, Reports: map[pgcluster.NodeID]failover.Observation{},
		Streamed: map[pgcluster.NodeID]time.Duration{"n2": now, "n3": now},
	}
	for _, r := range reports {
		v.Reports[r.Node] = failover.Observation{Report: r, At: now}
	}
	return v
}

// silent lets a node's last report be of some time ago.
func silent(v failover.View, r pgcluster.Report, ago time.Duration) failover.View {
	v.Reports[r.Node] = failover.Observation{Report: r, At: v.Now - ago}
	return v
}

// waited lets the phase be entered some time ago.
func waited(v failover.View, ago time.Duration) failover.View {
	v.PhaseSince = v.Now - ago
	return v
}

// outcome is what a Step came to, one line each, as a person would tell it.
func outcome(s failover.State, orders []pgcluster.Order) []string {
	first := fmt.Sprintf("%s %s e%d %s floor %s", s.Primary.Node, s.Primary.Access, s.Primary.Epoch, s.Sync.Durable, s.Floor)
	if s.Sync.Pending != nil {
		first += fmt.Sprintf(" pending %s mark %s", s.Sync.Pending, s.Sync.Mark)
	}
	if s.Sync.Past > 0 {
		first += fmt.Sprintf(" past %s", s.Sync.Past)
	}
	out := []string{strings.TrimSpace(first)}
	if op := s.Op; op != nil {
		line := fmt.Sprintf("%s e%d %s", op.Kind, op.Epoch, op.Phase)
		if op.To != "" {
			line += fmt.Sprintf(" %s with %s", op.To, op.Sync)
		}
		if op.Alone {
			line += " alone"
		}
		if op.InPlace {
			line += " in place"
		}
		if len(op.Tried) > 0 {
			line += fmt.Sprintf(" tried %v", op.Tried)
		}
		out = append(out, line)
	}
	for _, o := range orders {
		line := fmt.Sprintf("> %s %s e%d", o.Node, o.Kind, o.Stamp.Epoch)
		switch {
		case o.Kind == pgcluster.OrderLead:
			line += fmt.Sprintf(" %s barrier %t open %t", o.Sync, o.Barrier, o.Open)
		case o.Kind == pgcluster.OrderFollow && o.Reclone:
			line += fmt.Sprintf(" %s, reclone", o.Upstream)
		case o.Kind == pgcluster.OrderFollow:
			line += fmt.Sprintf(" %s", o.Upstream)
		}
		out = append(out, line)
	}
	slices.Sort(out[min(len(out), 2):])
	return out
}

type stepCase struct {
	name  string
	state failover.State
	view  failover.View
	want  string // lines of outcome
}

func runSteps(t *testing.T, tests []stepCase) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var want []string
			for line := range strings.Lines(strings.TrimSpace(tt.want)) {
				want = append(want, strings.TrimSpace(line))
			}
			if diff := cmp.Diff(want, outcome(failover.Step(tt.state, tt.view, policy))); diff != "" {
				t.Errorf("Step() (-want +got):\n%s", diff)
			}
		})
	}
}
