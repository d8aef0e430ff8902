package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// known is a healthy cluster in which everything is known that plans rest on.
func known(t *testing.T) *node {
	t.Helper()
	n := healthy(t)
	n.state.Epochs = []failover.Epoch{{Epoch: 4, Node: "n1", Timeline: 3}}
	for _, m := range n.state.Members {
		n.change(m.ID, func(r *pgcluster.Report) {
			r.SystemID, r.Lineage = n.state.SystemID, pgcluster.Lineage{{Parent: 1, At: 50, Child: 2}, {Parent: 2, At: 70, Child: 3}}
		})
	}
	return n
}

// loseBoth leaves one node: the standby n2.
func loseBoth(n *node) {
	situations["failover_recruits"].change(n)
	n.change("n2", func(r *pgcluster.Report) { r.Position.LSN -= 0x2000 })
}

func TestPlan(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args   []string
		change func(*node)
		code   int
	}{
		"failover":          {[]string{"failover"}, func(*node) {}, exitOK},
		"failover_to_other": {[]string{"failover", "n3"}, func(*node) {}, exitOK},
		"failover_blocked":  {[]string{"failover"}, loseBoth, exitFailed},
		"failover_one_left": {[]string{"failover"}, func(n *node) {
			n.silence("n3", 3*time.Hour)
			n.change("n1", func(r *pgcluster.Report) { r.Senders = r.Senders[:1] })
		}, exitFailed},
		"failover_paused": {[]string{"failover"}, situations["paused_and_primary_crashed"].change, exitOK},
		"failover_in_place": {[]string{"failover"}, func(n *node) {
			for _, m := range n.state.Members {
				n.change(m.ID, func(r *pgcluster.Report) {
					r.Process, r.PositionKnown, r.Senders, r.Receiver = pgcluster.ProcessCrashed, false, nil, pgcluster.Receiver{}
				})
			}
		}, exitOK},
		"switchover":         {[]string{"switchover"}, func(*node) {}, exitOK},
		"switchover_to":      {[]string{"switchover", "n3"}, func(*node) {}, exitOK},
		"switchover_refused": {[]string{"switchover", "n3"}, situations["standby_lost"].change, exitFailed},
		"long_names":         {[]string{"failover"}, longNames, exitFailed},
		"unconfirmed":        {[]string{"switchover"}, func(n *node) { n.leader = "" }, exitUnknown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := known(t)
			tt.change(n)
			args := append([]string{"plan"}, tt.args...)
			got := pgctl(t.Context(), serve(t, n), nil, args...)
			if got.code != tt.code {
				t.Errorf("exit code = %d, want %d", got.code, tt.code)
			}
			golden(t, "plan_"+name+".txt", got.transcript(args...))
		})
	}
}

func TestPlan_json(t *testing.T) {
	t.Parallel()
	n := known(t)
	got := pgctl(t.Context(), serve(t, n), nil, "plan", "switchover", "n3", "--json")
	var printed client.ClusterPlan
	if err := json.Unmarshal([]byte(got.out), &printed); err != nil || got.code != exitOK {
		t.Fatalf("exit code %d, %v\n%s", got.code, err, got.out)
	}
	want := client.ClusterPlan{
		Plan: failover.PlanSwitchover(n.state, n.view, failover.DefaultPolicy(), "n3"), SeenBy: "n2", Confirmed: true,
	}
	if diff := cmp.Diff(want, printed); diff != "" {
		t.Errorf("plan --json (-want +printed):\n%s", diff)
	}
}
