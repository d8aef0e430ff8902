package httpapi_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
)

// A plan comes over HTTP as it was made, from any node, and begins nothing.
func TestPlan(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.see = func(v *failover.View) { *v = c.healthy() }
	for _, plan := range []failover.Plan{
		failover.PlanFailover(c.state, c.view(), failover.DefaultPolicy(), "n3"),
		failover.PlanSwitchover(c.state, c.view(), failover.DefaultPolicy(), "n3"),
	} {
		kind := plan.Kind
		got, err := c.client(t, "n1").ClusterPlan(t.Context(), kind, "n3")
		if err != nil {
			t.Fatalf("ClusterPlan(%s) = %v", kind, err)
		}
		if diff := cmp.Diff(client.ClusterPlan{Plan: plan, SeenBy: "n1", Confirmed: true}, got); diff != "" {
			t.Errorf("ClusterPlan(%s) (-want +got):\n%s", kind, diff)
		}
	}
	if plan, err := c.client(t, "n1").ClusterPlan(t.Context(), failover.KindSwitchover, ""); err != nil || plan.To == "" {
		t.Errorf("a switchover to anybody: %+v, %v; want somebody chosen", plan, err)
	}
	if len(c.asked) > 0 || c.state.Op != nil {
		t.Errorf("asked to change: %v; operation %v", c.asked, c.state.Op)
	}
}

func TestPlan_invalid(t *testing.T) {
	t.Parallel()
	cl := newCluster(t).client(t, "n1")
	for field, ask := range map[string]func() error{
		"kind": func() error { _, err := cl.ClusterPlan(t.Context(), failover.KindRestart, ""); return err },
		"to":   func() error { _, err := cl.ClusterPlan(t.Context(), failover.KindFailover, "N 3"); return err },
	} {
		err := ask()
		if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusUnprocessableEntity || p.Field != field {
			t.Errorf("plan with a bad %s = %v, want a problem with it", field, err)
		}
	}
}
