package failover_test

import (
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// found is a report of data that was there before xpd.
func found(id pgcluster.NodeID, role pgcluster.Role, changes ...change) pgcluster.Report {
	return report(id, role, append([]change{func(r *pgcluster.Report) { r.Pledged = pgcluster.Stamp{} }}, changes...))
}

func nothing(id pgcluster.NodeID) pgcluster.Report {
	return report(id, pgcluster.RoleNone, []change{empty})
}

func TestStep_adopt(t *testing.T) {
	t.Parallel()
	fresh := func() failover.State {
		s := failover.State{Members: steady().Members}
		s.Members = append(s.Members, pgcluster.Member{ID: "w", Witness: true})
		return s
	}
	adopting := with(fresh(), func(s *failover.State) {
		s.SystemID, s.Primary.Access, s.Ops = "7", failover.AccessClosed, 1
		s.Op = &failover.Operation{ID: 1, Kind: failover.KindAdopt, Epoch: 1, Phase: failover.PhaseAdopt, To: "n2"}
	})
	led := func(r *pgcluster.Report) { r.Led, r.Pledged.Epoch = 1, 1 }
	const not = ` closed e0 none floor 0:0/0`
	runSteps(t, []stepCase{
		{
			name: "one node has the data of a primary: it is taken over closed, the others wait", state: fresh(),
			view: see(nothing("n1"), found("n2", pgcluster.RolePrimary), found("n3", pgcluster.RoleStandby)),
			want: strings.TrimSpace(not) + `
				adopt e1 adopt n2 with none
				> n2 lead e1 none barrier false open false`,
		},
		{
			name: "a member is silent: nobody knows what it has", state: fresh(),
			view: see(nothing("n1"), found("n2", pgcluster.RolePrimary)),
			want: `e0 none floor 0:0/0`,
		},
		{
			name: "F48 data of two systems", state: fresh(),
			view: see(nothing("n1"), found("n2", pgcluster.RolePrimary), found("n3", pgcluster.RoleStandby, func(r *pgcluster.Report) { r.SystemID = "8" })),
			want: `e0 none floor 0:0/0`,
		},
		{
			name: "two primaries", state: fresh(),
			view: see(nothing("n1"), found("n2", pgcluster.RolePrimary), found("n3", pgcluster.RolePrimary)),
			want: `e0 none floor 0:0/0`,
		},
		{
			name: "standbys alone", state: fresh(),
			view: see(nothing("n1"), found("n2", pgcluster.RoleStandby), found("n3", pgcluster.RoleStandby)),
			want: `e0 none floor 0:0/0`,
		},
		{
			name: "the agreed state was lost, and a standby has seen a later primary", state: fresh(),
			view: see(nothing("n1"), found("n2", pgcluster.RolePrimary, func(r *pgcluster.Report) { r.Led = 2 }), found("n3", pgcluster.RoleStandby, func(r *pgcluster.Report) { r.Followed = 3 })),
			want: `e0 none floor 0:0/0`,
		},
		{
			name: "the agreed state was lost: the next epoch is above all that nodes have seen", state: fresh(),
			view: see(nothing("n1"), found("n2", pgcluster.RolePrimary, crashed, func(r *pgcluster.Report) { r.Led = 3 }), found("n3", pgcluster.RoleStandby, func(r *pgcluster.Report) { r.Followed, r.Pledged.Epoch = 3, 5 })),
			want: strings.TrimSpace(not) + `
				adopt e6 adopt n2 with none
				> n2 lead e6 none barrier false open false`,
		},
		{
			name: "it is not taken over yet", state: adopting,
			view: see(nothing("n1"), found("n2", pgcluster.RolePrimary), found("n3", pgcluster.RoleStandby)),
			want: strings.TrimSpace(not) + `
				adopt e1 adopt n2 with none
				> n2 lead e1 none barrier false open false`,
		},
		{
			name: "F6 it is silent: nobody else has the data", state: adopting,
			view: see(nothing("n1"), found("n3", pgcluster.RoleStandby)),
			want: strings.TrimSpace(not) + `
				adopt e1 adopt n2 with none
				> n2 lead e1 none barrier false open false`,
		},
		{
			name: "it is taken over: its standby follows", state: adopting,
			view: see(nothing("n1"), found("n2", pgcluster.RolePrimary, led), found("n3", pgcluster.RoleStandby)),
			want: strings.TrimSpace(not) + `
				adopt e1 barrier n2 with none
				> n2 lead e1 none barrier false open false
				> n3 follow e1 n2`,
		},
		{
			name: "F1 it dies before it is seen to lead: the same node starts again", state: adopting,
			view: see(nothing("n1"), found("n2", pgcluster.RolePrimary, led, crashed), found("n3", pgcluster.RoleStandby)),
			want: strings.TrimSpace(not) + `
				adopt e2 adopt n2 with none
				> n2 lead e2 none barrier false open false`,
		},
		{
			name: "F1 it dies before it opens: the same node starts again", state: with(adopting, func(s *failover.State) {
				op := *s.Op
				op.Phase = failover.PhaseBarrier
				s.Op = &op
			}),
			view: see(nothing("n1"), found("n2", pgcluster.RolePrimary, led, crashed), found("n3", pgcluster.RoleStandby)),
			want: strings.TrimSpace(not) + `
				adopt e2 barrier n2 with none
				> n2 lead e2 none barrier false open false
				> n3 recruit e2`,
		},
	})
}

func TestExplain_adopt(t *testing.T) {
	t.Parallel()
	s := failover.State{Members: steady().Members}
	tests := []struct {
		view failover.View
		want string
	}{
		{see(nothing("n1"), found("n2", pgcluster.RolePrimary), found("n3", pgcluster.RolePrimary)), "both n2 and n3 have the data of a primary"},
		{see(nothing("n1"), found("n2", pgcluster.RoleStandby), nothing("n3")), "n2 has the data of a standby, and no node that of a primary"},
		{see(nothing("n1"), found("n2", pgcluster.RolePrimary), found("n3", pgcluster.RoleStandby, onTimeline2(0))), "n3 is on timeline 2, and the primary n2 only on 1"},
		{see(nothing("n1"), found("n2", pgcluster.RolePrimary), found("n3", pgcluster.RoleStandby, func(r *pgcluster.Report) { r.SystemID = "8" })), "n3 has data of another PostgreSQL"},
		{see(nothing("n1"), found("n2", pgcluster.RolePrimary)), "not started yet; waiting for n3"},
	}
	for _, tt := range tests {
		if got := failover.Explain(s, tt.view, policy).Writes; !strings.Contains(got, tt.want) {
			t.Errorf("Explain() says %q, want %q", got, tt.want)
		}
	}
}
