package agent_test

import (
	"path/filepath"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

// A node says what it runs with: what is written and in force, what waits for a restart,
// and what somebody has set by hand; and nothing of what is the agent's own.
func TestAgent_runningSettings(t *testing.T) {
	t.Parallel()
	n := initialized(t, 1, false)[0]
	n.configured(1, n.o.Members, map[string]string{"work_mem": "7168kB", "max_connections": "60"})
	admin := n.admin()
	exec(t, admin, "ALTER SYSTEM SET random_page_cost = 1.5")
	exec(t, admin, "SELECT pg_reload_conf()")
	n.awaitShow("random_page_cost", "1.5")

	all, err := n.RunningSettings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]pgcluster.RunningSetting{}
	for _, s := range all {
		s.File = filepath.Base(s.File)
		found[s.Name] = s
		if pgcluster.OwnedSetting(s.Name) {
			t.Errorf("%s is the agent's own", s.Name)
		}
	}
	const file = "postgresql.conf"
	for _, want := range []pgcluster.RunningSetting{
		{Name: "work_mem", Value: "7MB", Written: "7168kB", File: file},
		{Name: "shared_buffers", Value: "16MB", Written: "16MB", File: file},
		{Name: "random_page_cost", Value: "1.5", Written: "1.5", File: "postgresql.auto.conf"},
	} {
		if got := found[want.Name]; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if s := found["max_connections"]; s.Written != "60" || s.Value == "60" || !s.Pending {
		t.Errorf("%+v: want 60 written, something else in force, and that it waits for a restart", s)
	}
	if _, listed := found["enable_seqscan"]; listed {
		t.Error("what nobody has set is listed, too")
	}
	n.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 1)})
	if _, err := n.RunningSettings(t.Context()); err == nil {
		t.Error("a server that was stopped has answered")
	}
}
