package httpapi_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
)

func TestPause(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cl := c.client(t, "n3")
	cl.Operator("bob")
	p, err := cl.PauseCluster(t.Context(), time.Hour, "kernel update")
	if err != nil {
		t.Fatal(err)
	}
	if p.Reason != "kernel update (by bob)" || !p.Until.Equal(c.healthy().Wall.Add(time.Hour)) {
		t.Errorf("PauseCluster() = %+v", p)
	}
	if err := cl.ResumeCluster(t.Context(), ""); err != nil || c.state.Paused != nil {
		t.Errorf("ResumeCluster() = %v, paused %+v", err, c.state.Paused)
	}
	err = cl.ResumeCluster(t.Context(), "")
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusConflict {
		t.Errorf("ResumeCluster() again = %v, want a refusal", err)
	}
	_, err = cl.PauseCluster(t.Context(), 0, "")
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Field != "seconds" {
		t.Errorf("PauseCluster(0) = %v, want a problem with seconds", err)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cl := c.client(t, "n1")
	k, mode, value := 1, failover.ModeAvailable, "200"
	got, err := cl.ChangeClusterSettings(t.Context(), client.SettingsChange{
		K: &k, Mode: &mode, Postgres: map[string]*string{"work_mem": new("64MB"), "max_connections": &value},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := client.ClusterSettings{
		Mode: failover.ModeAvailable, K: 1, Postgres: map[string]string{"work_mem": "64MB", "max_connections": "200"}, Version: 1,
		KInForce: 1, KWanted: 1, Nodes: []client.NodeApplied{{Node: "n1"}, {Node: "n2"}, {Node: "n3", Silent: true}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ChangeClusterSettings() (-want +got):\n%s", diff)
	}
	// What is not named stays, and null takes back.
	got, err = cl.ChangeClusterSettings(t.Context(), client.SettingsChange{Postgres: map[string]*string{"work_mem": nil}, Reason: "too much"})
	if err != nil {
		t.Fatal(err)
	}
	want.Version, want.Postgres = 2, map[string]string{"max_connections": "200"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ChangeClusterSettings() (-want +got):\n%s", diff)
	}
	if got, err = cl.ClusterSettings(t.Context()); err != nil || !cmp.Equal(want, got) {
		t.Errorf("ClusterSettings() = %+v, %v", got, err)
	}
	_, err = cl.ChangeClusterSettings(t.Context(), client.SettingsChange{Postgres: map[string]*string{"fsync": new("off")}})
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusConflict {
		t.Errorf("fsync=off: %v, want a refusal", err)
	}
}
