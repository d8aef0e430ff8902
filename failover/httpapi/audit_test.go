package httpapi_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
)

// Whatever people ask for is in the trail, with who asked and from where, whichever node
// they asked; what was refused is remembered by the leader alone.
func TestAudit(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cl, leader := c.client(t, "n3"), c.client(t, "n2")
	cl.Operator("bob")
	ctx := t.Context()
	k := 1
	for what, err := range map[string]error{
		"pause":    second(cl.PauseCluster(ctx, time.Hour, "kernel update")),
		"resume":   cl.ResumeCluster(ctx, ""),
		"settings": second(cl.ChangeClusterSettings(ctx, client.SettingsChange{K: &k, Postgres: map[string]*string{"work_mem": new("64MB")}, Reason: "more"})),
		"tags":     second(cl.ChangeMember(ctx, "n3", []string{"zone=b", "priority=2"}, "")),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if _, err := cl.Switchover(ctx, "n9", "typo"); err == nil {
		t.Fatal("switchover to nobody was accepted")
	}
	entries, err := cl.ClusterAudit(ctx, 50)
	if err != nil {
		t.Fatal(err)
	}
	bob := failover.Asker{Operator: "bob", From: "127.0.0.1"}
	want := []failover.AuditEntry{
		{Asker: bob, Epoch: 4, Action: "pause for 1h0m0s", Reason: "kernel update"},
		{Asker: bob, Epoch: 4, Action: "resume"},
		{Asker: bob, Epoch: 4, Action: `settings k=1 work_mem="64MB"`, Reason: "more"},
		{Asker: bob, Epoch: 4, Action: "tags of n3: zone=b priority=2"},
	}
	if diff := cmp.Diff(want, entries, cmpopts.IgnoreFields(failover.AuditEntry{}, "At"), byAction()); diff != "" {
		t.Errorf("ClusterAudit() (-want +got):\n%s", diff)
	}
	last, err := leader.ClusterAudit(ctx, 1)
	if err != nil || len(last) != 1 || last[0].Action != "switchover to n9" || last[0].Operator != "bob" || last[0].Refused != `there is no node "n9"` {
		t.Errorf("the leader's last line is %+v, %v; want the refusal", last, err)
	}
	if _, err := cl.ClusterAudit(ctx, 201); err == nil {
		t.Error("limit 201 is taken")
	}
}

// byAction: they were made at once, by the clock of the test.
func byAction() cmp.Option {
	return cmpopts.SortSlices(func(a, b failover.AuditEntry) bool { return a.Action < b.Action })
}

func second[A, B any](_ A, b B) B { return b }

// Refusals are bounded, whoever makes them.
func TestAudit_refusalsAreBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cl := c.client(t, "n2")
	for range 120 {
		if _, err := cl.Switchover(t.Context(), "n9", strings.Repeat("x", 200)); err == nil {
			t.Fatal("switchover to nobody was accepted")
		}
	}
	entries, err := cl.ClusterAudit(t.Context(), 200)
	if err != nil || len(entries) != 100 {
		t.Errorf("%d lines, %v; want 100", len(entries), err)
	}
}

func TestAbsences(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cl := c.client(t, "n1")
	cl.Operator("ann")
	ctx := t.Context()
	a, err := cl.SetMaintenance(ctx, "n3", 2*time.Hour, "kernel update")
	if err != nil {
		t.Fatal(err)
	}
	if a.Kind != failover.AbsenceMaintenance || a.Reason != "kernel update (by ann)" || !a.Until.Equal(c.healthy().Wall.Add(2*time.Hour)) {
		t.Errorf("SetMaintenance() = %+v", a)
	}
	plan, err := cl.PlanReclone(ctx, "n3", false)
	if err != nil || !strings.Contains(plan.Refused, "pgctl maintenance n3 --end") || plan.SeenBy != "n1" || !plan.Confirmed {
		t.Errorf("PlanReclone() = %+v, %v", plan, err)
	}
	if err := cl.EndMaintenance(ctx, "n3", ""); err != nil || len(c.state.Absent) != 0 {
		t.Errorf("EndMaintenance() = %v, absent %v", err, c.state.Absent)
	}
	if a, err = cl.Reclone(ctx, "n3", true, "bad blocks"); err != nil || a.Kind != failover.AbsenceReclone || !a.Discard {
		t.Errorf("Reclone() = %+v, %v", a, err)
	}
	if err := cl.CancelReclone(ctx, "n3", ""); err != nil || !c.state.Absent["n3"].Cancelled {
		t.Errorf("CancelReclone() = %v, absent %v", err, c.state.Absent)
	}
	if a, err = cl.Fence(ctx, "n1", "bad blocks"); err != nil || a.Kind != failover.AbsenceFence {
		t.Errorf("Fence() = %+v, %v", a, err)
	}
	if err := cl.Unfence(ctx, "n1", ""); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"maintenance of the primary": second(cl.SetMaintenance(ctx, "n1", time.Hour, "")),
		"unfence of who is not":      cl.Unfence(ctx, "n2", ""),
	} {
		if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusConflict {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	if _, err := cl.SetMaintenance(ctx, "n2", 0, ""); err == nil {
		t.Error("maintenance for no time is taken")
	}
}
