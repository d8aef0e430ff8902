package failover_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// planned is a plan in few lines: its verdict, and a line for each node.
func planned(p failover.Plan) []string {
	out := []string{fmt.Sprintf("%s e%d %s -> %q sync %s", p.Kind, p.Epoch, p.From, p.To, p.Sync)}
	add := func(what string, v any) {
		if s := fmt.Sprint(v); s != "" && s != "[]" {
			out = append(out, what+": "+s)
		}
	}
	add("supposed", p.Supposed)
	add("held", p.Held)
	add("recruits", p.Recruits)
	add("refused", p.Refused)
	add("missing", p.Missing)
	add("after", p.After)
	if p.SetAside > 0 {
		add("set aside", p.SetAside)
	}
	if f := p.Forced; f != nil {
		line := fmt.Sprintf("to %q", f.To)
		if f.Loss != nil {
			line += fmt.Sprintf(" loses %d within %s", f.Loss.Bytes, f.Loss.For)
		}
		add("forced", line+" refused "+fmt.Sprintf("%q", f.Refused))
	}
	for _, n := range p.Nodes {
		add(string(n.ID), fmt.Sprintf("%s, %s", n.Choice, n.Why))
	}
	return out
}

func TestPlanFailover(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		state failover.State
		view  failover.View
		to    pgcluster.NodeID
		want  []string
	}{
		{
			name: "all is well: as if the primary's host were lost", state: steady(),
			view: see(primary(at(108)), standby("n2", at(100)), standby("n3", at(104))),
			want: []string{
				`failover e2 n1 -> "n3" sync ANY 1 (n2)`, "supposed: n1 is lost with its host", "recruits: [n2 n3]", "set aside: 4",
				"n1: primary, -", "n2: no, lacks 4 bytes that may be acknowledged", "n3: chosen, the only one that has everything and may be promoted",
			},
		},
		{
			name: "somebody else is asked for", state: steady(), to: "n2",
			view: see(primary(at(108)), standby("n2", at(100)), standby("n3", at(104))),
			want: []string{
				`failover e2 n1 -> "n3" sync ANY 1 (n2)`, "supposed: n1 is lost with its host", "recruits: [n2 n3]", "set aside: 4",
				`forced: to "" refused "a standby still hears PostgreSQL on n1"`,
				"n1: primary, -", "n2: no, lacks 4 bytes that may be acknowledged", "n3: chosen, the only one that has everything and may be promoted",
			},
		},
		{
			name:  "priority decides among equals, and nofailover rules out",
			state: with(steady(), tagged(map[int]pgcluster.Member{2: {Priority: 1}, 3: {Priority: 5}})),
			view:  see(primary(crashed), standby("n2"), standby("n3")),
			want: []string{
				`failover e2 n1 -> "n3" sync ANY 1 (n2)`, "recruits: [n1 n2 n3]",
				"n1: primary, -", "n2: possible, n3 is better: priority 5, n2 has 1", "n3: chosen, priority 5, n2 has 1",
			},
		},
		{
			name: "F19 a standby is silent: its return or the primary's is needed", state: steady(),
			view: silent(see(primary(func(r *pgcluster.Report) { r.Senders = r.Senders[:1] }, at(150)), standby("n2")), standby("n3"), time.Minute/2),
			want: []string{
				`failover e2 n1 -> "" sync `, "supposed: n1 is lost with its host", "recruits: [n2]",
				"refused: a failover needs one of: n1, n3", "missing: [n1 n3]",
				`forced: to "n2" loses 50 within 0s refused "a standby still hears PostgreSQL on n1"`,
				"n1: primary, -", "n2: no, nobody can tell that it has everything", "n3: no, silent",
			},
		},
		{
			name: "F19 recruiting already", state: failing(failover.PhaseRecruit),
			view: silent(silent(see(standby("n2", pledged(2))), primary(at(130)), 9*time.Second), standby("n3"), 9*time.Second),
			want: []string{
				`failover e2 n1 -> "" sync `, "recruits: [n2]",
				"refused: a failover needs one of: n1, n3", "missing: [n1 n3]",
				`forced: to "n2" loses 30 within 0s refused ""`,
				"n1: primary, -", "n2: no, nobody can tell that it has everything", "n3: no, silent",
			},
		},
		{
			name: "paused", state: with(steady(), func(s *failover.State) { s.Paused = &failover.Pause{Until: time.Unix(99, 0), Reason: "cables"} }),
			view: see(primary(crashed), standby("n2"), standby("n3", at(90))),
			want: []string{
				`failover e2 n1 -> "n2" sync ANY 1 (n3)`,
				"held: PostgreSQL on n1 crashed; nothing is done, because the cluster is paused until 1970-01-01T00:01:39Z: cables",
				"recruits: [n1 n2 n3]",
				"n1: primary, -", "n2: chosen, the only one that has everything and may be promoted", "n3: no, lacks 10 bytes that may be acknowledged",
			},
		},
		{
			name: "F20 all are down: the primary starts where it is", state: steady(),
			view: see(primary(crashed), standby("n2", crashed), standby("n3", crashed)),
			want: []string{
				`failover e2 n1 -> "n1" sync ANY 1 (n2, n3)`, "recruits: [n1]", "after: writes wait until a standby streams",
				"n1: chosen, it has everything, and is started again where it is",
				"n2: no, crashed: its WAL's end is known once it runs", "n3: no, crashed: its WAL's end is known once it runs",
			},
		},
		{
			name: "the last standby: writes wait afterwards", state: steadyWith(durable(1, "n2")),
			view: see(primary(), standby("n2"), standby("n3", crashed)),
			want: []string{
				`failover e2 n1 -> "n2" sync ANY 1 (n1, n3)`, "supposed: n1 is lost with its host", "recruits: [n2 n3]",
				"after: writes wait until a standby streams",
				"n1: primary, -", "n2: chosen, the only one that has everything and may be promoted",
				"n3: no, crashed: its WAL's end is known once it runs",
			},
		},
		{
			name: "nobody may be promoted", state: steadyWith(durable(1, "n2"), tagged(map[int]pgcluster.Member{2: {NoFailover: true}})),
			view: see(primary(), standby("n2")),
			want: []string{
				`failover e2 n1 -> "" sync `, "supposed: n1 is lost with its host", "recruits: [n2]",
				"refused: a failover needs one of: n1; nobody else has all of the WAL of n2, which must not be promoted (nofailover)",
				"missing: [n1]", `forced: to "" refused "a standby still hears PostgreSQL on n1"`,
				"n1: primary, -", "n2: no, must not be promoted (nofailover)", "n3: no, silent",
			},
		},
		{
			name: "no commit waited", state: steadyWith(available, durable(0, "n2", "n3")), view: see(primary(func(r *pgcluster.Report) { r.Senders = nil }), standby("n2"), standby("n3")),
			want: []string{
				`failover e2 n1 -> "" sync `, "supposed: n1 is lost with its host", "recruits: [n2 n3]",
				"refused: no commit waited for another node, so only n1 has everything", "missing: [n1]",
				`forced: to "n2" loses 0 within 0s refused "a standby still hears PostgreSQL on n1"`,
				"n1: primary, -", "n2: no, nobody can tell that it has everything", "n3: no, nobody can tell that it has everything",
			},
		},
		{
			name:  "data loss is accepted already",
			state: failing(failover.PhaseRecruit, accepted("")),
			view:  waited(silent(see(standby("n2", pledged(2))), primary(at(130)), 9*time.Second), 9*time.Second),
			want: []string{
				`failover e2 n1 -> "n2" sync ANY 1 (n1, n3)`, "recruits: [n2]", "after: writes wait until a standby streams", "set aside: 30",
				`forced: to "n2" loses 30 within 0s refused ""`,
				"n1: primary, -", "n2: chosen, it has most, and data loss is accepted", "n3: no, silent",
			},
		},
		{
			name: "five nodes: the furthest, then who has less to replay", state: steadyWith(durable(2, "n2", "n3", "n4", "n5"), func(s *failover.State) {
				s.Members = append(s.Members, pgcluster.Member{ID: "n4"}, pgcluster.Member{ID: "n5"})
			}),
			view: see(primary(crashed), standby("n2", at(90)), standby("n3", at(110)),
				standby("n4", at(110), func(r *pgcluster.Report) { r.Replayed = 105 }), standby("n5", at(120))),
			want: []string{
				`failover e2 n1 -> "n5" sync ANY 2 (n2, n3, n4)`, "recruits: [n1 n2 n3 n4 n5]",
				"n1: primary, -", "n2: no, lacks 20 bytes that may be acknowledged", "n3: possible, n5 is better: 10 bytes more WAL than n3",
				"n4: possible, n5 is better: 10 bytes more WAL than n4", "n5: chosen, 10 bytes more WAL than n3",
			},
		},
		{
			name: "F26 WAL beside the cluster's history", state: with(steadyWith(durable(1, "n2", "n3")), func(s *failover.State) {
				s.Floor = pgcluster.Position{Timeline: 2, LSN: 50}
			}),
			view: see(primary(), standby("n2"), standby("n3", onTimeline2(1))),
			want: []string{
				`failover e2 n1 -> "n3" sync ANY 1 (n2)`, "supposed: n1 is lost with its host", "recruits: [n2 n3]",
				"n1: primary, -", "n2: no, its WAL does not pass through 2:0/64, which may be acknowledged",
				"n3: chosen, the only one that has everything and may be promoted",
			},
		},
		{
			name: "another operation is under way", state: switching(failover.PhaseStop), view: see(primary(), standby("n2"), standby("n3")),
			want: []string{
				`failover e0 n1 -> "" sync `, "refused: a switchover is under way (phase stop)",
				"n1: primary, -", "n2: no, -", "n3: no, -",
			},
		},
		{
			name: "not started", state: failover.State{Members: steady().Members}, view: see(),
			want: []string{`failover e0  -> "" sync `, "refused: the cluster has not started yet", "n1: no, -", "n2: no, -", "n3: no, -"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := planned(failover.PlanFailover(tt.state, tt.view, policy, tt.to))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("PlanFailover() (-want +got):\n%s", diff)
			}
		})
	}
}

// The plan names whom Step itself chooses, once the orders are carried out.
func TestPlanFailover_isWhatStepDoes(t *testing.T) {
	t.Parallel()
	v := see(primary(crashed), standby("n2", at(100)), standby("n3", at(104)))
	plan := failover.PlanFailover(steady(), v, policy, "")
	s, orders := failover.Step(steady(), v, policy)
	for _, o := range orders {
		r := v.Reports[o.Node].Report
		pledged(o.Stamp.Epoch)(&r)
		v.Reports[o.Node] = failover.Observation{Report: r, At: v.Now}
	}
	s, _ = failover.Step(s, v, policy)
	if s.Op.To != plan.To || s.Op.Epoch != plan.Epoch || s.Op.Sync.String() != plan.Sync {
		t.Errorf("Step promotes %s in epoch %d with %s; the plan was %s in %d with %s",
			s.Op.To, s.Op.Epoch, s.Op.Sync, plan.To, plan.Epoch, plan.Sync)
	}
}

func TestPlanFailover_changesNothing(t *testing.T) {
	t.Parallel()
	for _, s := range []failover.State{steady(), failing(failover.PhaseRecruit, accepted(""))} {
		v := see(primary(crashed), standby("n2", pledged(2)), standby("n3"))
		state, view := fmt.Sprintf("%+v %+v", s, s.Op), fmt.Sprintf("%+v", v)
		failover.PlanFailover(s, v, policy, "n3")
		failover.PlanSwitchover(s, v, policy, "n3")
		if after := fmt.Sprintf("%+v %+v", s, s.Op); after != state || fmt.Sprintf("%+v", v) != view {
			t.Errorf("a plan changed what it was made of: %s\nwas %s", after, state)
		}
	}
}

func TestPlanSwitchover(t *testing.T) {
	t.Parallel()
	whole := see(primary(), standby("n2"), standby("n3"))
	tests := []struct {
		name  string
		state failover.State
		view  failover.View
		to    pgcluster.NodeID
		want  []string
	}{
		{
			name: "the first of equals", state: steady(), view: whole,
			want: []string{
				`switchover e2 n1 -> "n2" sync ANY 1 (n3)`, "n1: primary, -",
				"n2: chosen, as far as n3, and listed before it", "n3: possible, n2 is better: as far as n3, and listed before it",
			},
		},
		{
			name: "asked for", state: steady(), view: whole, to: "n3",
			want: []string{
				`switchover e2 n1 -> "n3" sync ANY 1 (n2)`, "n1: primary, -",
				"n2: possible, could take over at once", "n3: chosen, asked for",
			},
		},
		{
			name: "priority", state: with(steady(), tagged(map[int]pgcluster.Member{3: {Priority: 2}})), view: whole,
			want: []string{
				`switchover e2 n1 -> "n3" sync ANY 1 (n2)`, "n1: primary, -",
				"n2: possible, n3 is better: priority 2, n2 has 0", "n3: chosen, priority 2, n2 has 0",
			},
		},
		{
			name: "nosync: only by name", state: with(steadyWith(durable(1, "n2")), tagged(map[int]pgcluster.Member{3: {NoSync: true}})), view: whole,
			want: []string{
				`switchover e2 n1 -> "n2" sync ANY 1 (n1, n3)`, "n1: primary, -",
				"n2: chosen, the only one that can take over at once", "n3: no, nosync: only if it is asked for",
			},
		},
		{
			name: "refused", state: steady(), view: see(primary(func(r *pgcluster.Report) { r.Senders = nil }), standby("n2"), standby("n3")), to: "n3",
			want: []string{
				`switchover e0 n1 -> "" sync `, "refused: n3 does not stream from n1, or is too far behind", "n1: primary, -",
				"n2: no, does not stream from n1, or is too far behind", "n3: no, does not stream from n1, or is too far behind",
			},
		},
		{
			name: "the better one has much to replay", view: see(primary(func(r *pgcluster.Report) {
				r.Position.LSN = 40 << 20
				r.Senders[0].Flushed, r.Senders[1].Flushed, r.Senders[1].Replayed = 40<<20, 39<<20, 39<<20
			}), standby("n2"), standby("n3")), state: steady(),
			want: []string{
				`switchover e2 n1 -> "n3" sync ANY 1 (n2)`, "n1: primary, -",
				"n2: no, has 39 MiB to replay before it could take writes", "n3: chosen, the only one that can take over at once",
			},
		},
		{
			name: "less to replay", state: steady(), view: see(primary(), standby("n2", func(r *pgcluster.Report) { r.Replayed = 90 }), standby("n3")),
			want: []string{
				`switchover e2 n1 -> "n3" sync ANY 1 (n2)`, "n1: primary, -",
				"n2: possible, n3 is better: 10 bytes less to replay than n2", "n3: chosen, 10 bytes less to replay than n2",
			},
		},
		{
			name: "the primary is silent", state: steady(), view: see(standby("n2"), standby("n3")),
			want: []string{`switchover e0 n1 -> "" sync `, "refused: the primary n1 does not report", "n1: primary, -", "n2: no, -", "n3: no, -"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := planned(failover.PlanSwitchover(tt.state, tt.view, policy, tt.to))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("PlanSwitchover() (-want +got):\n%s", diff)
			}
		})
	}
}
