package simulation_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// whyFacts is what pgctl why --json says besides its sentences.
type whyFacts struct {
	Level     failover.Level     `json:"level"`
	Missing   []pgcluster.NodeID `json:"missing"`
	Do        []string           `json:"do"`
	Confirmed bool               `json:"confirmed"`
	Asked     []struct {
		ID    pgcluster.NodeID `json:"id"`
		Error string           `json:"error"`
	} `json:"asked"`
}

// doctorFacts is what pgctl doctor --json says.
type doctorFacts struct {
	Verdict    string             `json:"verdict"`
	Findings   []failover.Finding `json:"findings"`
	Unanswered []pgcluster.NodeID `json:"unanswered"`
}

func (f doctorFacts) has(codes ...failover.Code) bool {
	return !slices.ContainsFunc(codes, func(c failover.Code) bool {
		return !slices.ContainsFunc(f.Findings, func(found failover.Finding) bool { return found.Code == c })
	})
}

// level is a check of pgctl status.
func level(want failover.Level, confirmed bool) func([]byte) error {
	return facts(func(c client.Cluster) bool {
		return c.Level == want && c.Confirmed == confirmed && len(c.Nodes) == len(c.Members)
	})
}

// atRest is level of a confirmed status that will not change by itself.
func atRest(want failover.Level, sync string) func([]byte) error {
	return facts(func(c client.Cluster) bool {
		return c.Level == want && c.Confirmed && c.Sync == sync && !slices.ContainsFunc(c.Nodes, func(n failover.NodeStatus) bool {
			return n.Doing != nil && n.Doing.Step != "" && n.Doing.Step != "done"
		})
	})
}

func tellWell(ctx context.Context, t *testing.T, d *desk) {
	t.Helper()
	for _, s := range []step{
		{file: "well_status", args: []string{"status"}, facts: level(failover.LevelOK, true)},
		{file: "well_why", args: []string{"why"}, facts: facts(func(w whyFacts) bool { return w.Confirmed && len(w.Do) == 0 && len(w.Asked) == 0 })},
		{file: "well_plan_failover", args: []string{"plan", "failover"}, facts: facts(func(p client.ClusterPlan) bool {
			return p.From == "n1" && p.To == "n2" && p.Refused == "" && p.Supposed != ""
		})},
		{file: "well_plan_switchover", args: []string{"plan", "switchover", "n3"}, facts: facts(func(p client.ClusterPlan) bool { return p.To == "n3" })},
		{file: "well_doctor", args: []string{"doctor"}, facts: facts(func(f doctorFacts) bool {
			return f.Verdict == "ok" && len(f.Findings) == 0 && len(f.Unanswered) == 0
		})},
		{file: "well_dsn", args: []string{"dsn"}},
		{file: "well_settings", args: []string{"settings"}, facts: facts(func(s client.ClusterSettings) bool { return s.Mode == failover.ModeProtect })},
		{file: "well_switchover_refused", args: []string{"plan", "switchover", "n1"}, code: 4},
	} {
		d.look(ctx, t, s)
	}
	d.act(ctx, t, step{file: "well_failover_not_needed", args: []string{"failover", "--accept-data-loss", "-y"}, code: 4})
	d.connect(ctx, t, false)
	d.connect(ctx, t, true, "--read-only")
}

// connect has psql follow what pgctl dsn prints.
func (d *desk) connect(ctx context.Context, t *testing.T, standby bool, args ...string) {
	t.Helper()
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("there is no psql")
	}
	pgpass, err := d.pgctl(ctx, "dsn", "--format", "pgpass", "--secret-file", filepath.Join(d.cluster.Dir(), "secret"))
	if err != nil || pgpass.code != 0 {
		t.Fatalf("%v: %+v", err, pgpass)
	}
	file := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(file, []byte(pgpass.out), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"dsn", "--json"}, args...)
	got, err := d.pgctl(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	var dsn struct {
		DSN string `json:"dsn"`
	}
	if err := json.Unmarshal([]byte(got.out), &dsn); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	cmd := exec.CommandContext(ctx, psql, "-XAtc", "SELECT pg_is_in_recovery()", dsn.DSN)
	cmd.Env = append(os.Environ(), "PGPASSFILE="+file)
	out, err := cmd.CombinedOutput()
	want := map[bool]string{false: "f\n", true: "t\n"}[standby]
	if err != nil || string(out) != want {
		t.Errorf("psql with the string of pgctl %v: %v: it says %q, want %q", args, err, out, want)
	}
}

// tellMinority kills two of three hosts: nobody can decide anything.
func tellMinority(ctx context.Context, t *testing.T, d *desk) {
	t.Helper()
	kill := func(id pgcluster.NodeID) error { return d.cluster.KillNode(ctx, id) }
	if err := all([]pgcluster.NodeID{"n2", "n3"}, kill); err != nil {
		t.Fatal(err)
	}
	for _, s := range []step{
		{file: "minority_status", args: []string{"status"}, code: 3, facts: level(failover.LevelNoWrites, false)},
		{file: "minority_why", args: []string{"why"}, code: 3, facts: facts(func(w whyFacts) bool {
			return !w.Confirmed && slices.Equal(w.Missing, []pgcluster.NodeID{"n2", "n3"}) && len(w.Asked) == 3 && w.Asked[0].Error == "" &&
				w.Asked[1].Error != "" && w.Asked[2].Error != "" && len(w.Do) == 3
		})},
		{file: "minority_plan_failover", args: []string{"plan", "failover"}, code: 3, facts: facts(func(p client.ClusterPlan) bool { return p.Refused != "" && p.To == "" })},
		{file: "minority_doctor", args: []string{"doctor"}, code: 2, facts: facts(func(f doctorFacts) bool {
			return f.has(failover.CodeNoWrites, failover.CodeNoLeader, failover.CodeFewVoters) && slices.Equal(f.Unanswered, []pgcluster.NodeID{"n2", "n3"})
		})},
	} {
		d.look(ctx, t, s)
	}
	d.act(ctx, t, step{file: "minority_switchover", args: []string{"switchover", "-y", "--timeout", "12s"}, code: 4})
	if err := d.cluster.StartNode("n3"); err != nil {
		t.Fatal(err)
	}
	d.look(ctx, t, step{file: "minority_over", args: []string{"status"}, code: 1, facts: atRest(failover.LevelDegraded, "ANY 1 (n3)")})
	if err := d.cluster.StartNode("n2"); err != nil {
		t.Fatal(err)
	}
	d.tellsOfNoLeader(ctx, t)
}

// tellsOfNoLeader waits until the history has the time in which nobody could decide: longer
// than pgctl waited for somebody who could.
func (d *desk) tellsOfNoLeader(ctx context.Context, t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	var got said
	err := soonish(ctx, "the event", func() bool {
		var err error
		if got, err = d.pgctl(ctx, "history", "--json"); err != nil {
			return false
		}
		return facts(func(events []failover.Event) bool {
			i := slices.IndexFunc(events, func(e failover.Event) bool { return e.Kind == "no leader" })
			return i >= 0 && events[i].Took >= 10*time.Second && strings.Contains(events[i].Reason, "then there: n1")
		})([]byte(got.out)) == nil
	})
	if err != nil {
		t.Fatalf("%v in %s%s", err, got.out, got.err)
	}
}

func tellSwitchover(ctx context.Context, t *testing.T, d *desk) {
	t.Helper()
	d.act(ctx, t, step{file: "switchover", args: []string{"switchover", "--to", "n2", "-y", "--reason", "kernel update on n1"}})
	d.act(ctx, t, step{file: "switchover_again", args: []string{"switchover", "--to", "n2", "-y"}, code: 4})
	if err := d.cluster.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	d.look(ctx, t, step{file: "switchover_status", args: []string{"status"}, facts: level(failover.LevelOK, true)})
	d.look(ctx, t, step{
		file: "switchover_history", args: []string{"history", "-n", "2", "--since", d.began.UTC().Format(time.RFC3339)},
		facts: facts(func(events []failover.Event) bool {
			return len(events) == 2 && events[0].Kind == string(failover.KindSwitchover) && events[0].Took > 0 && events[1].Node == "n1"
		}),
	})
}

func tellSettings(ctx context.Context, t *testing.T, d *desk) {
	t.Helper()
	d.act(ctx, t, step{file: "settings_set", args: []string{"settings", "set", "work_mem=12MB", "--reason", "slow sorts"}, quiet: true})
	d.look(ctx, t, step{file: "settings_show", args: []string{"settings"}, facts: facts(func(s client.ClusterSettings) bool { return s.Postgres["work_mem"] == "12MB" })})
	d.act(ctx, t, step{file: "settings_owned", args: []string{"settings", "set", "synchronous_commit=off"}, code: 4})
	d.act(ctx, t, step{file: "settings_back", args: []string{"settings", "set", "work_mem="}, quiet: true})
}

// tellPause kills the primary's PostgreSQL while nobody may take over.
func tellPause(ctx context.Context, t *testing.T, d *desk) {
	t.Helper()
	d.act(ctx, t, step{file: "pause", args: []string{"pause", "-y", "--for", "1h", "--reason", "moving cables"}})
	if err := d.cluster.KillPostgres("n1"); err != nil {
		t.Fatal(err)
	}
	d.look(ctx, t, step{file: "pause_status", args: []string{"status"}, code: 2, facts: level(failover.LevelNoWrites, true)})
	d.look(ctx, t, step{file: "pause_why", args: []string{"why"}, code: 2, facts: facts(func(w whyFacts) bool {
		return w.Confirmed && len(w.Do) > 0 && strings.HasPrefix(w.Do[0], "pgctl resume")
	})})
	d.act(ctx, t, step{file: "pause_resume", args: []string{"resume", "--reason", "cables are moved"}})
}

// tellReplace adds n4 and removes n3.
func tellReplace(ctx context.Context, t *testing.T, d *desk) {
	t.Helper()
	m, err := d.cluster.StartNewcomer(ctx, localcluster.Newcomer{})
	if err != nil {
		t.Fatal(err)
	}
	d.mask.members = append(d.mask.members, m)
	d.act(ctx, t, step{file: "replace_add", args: []string{"node", "add", m.String(), "--reason", "n3 is old"}, quiet: true})
	d.cluster.Adopt(m)
	d.act(ctx, t, step{file: "replace_primary_stays", args: []string{"node", "remove", "n1", "-y"}, code: 4})
	d.act(ctx, t, step{file: "replace_remove", args: []string{"node", "remove", "n3", "-y", "--reason", "n3 is old"}, quiet: true})
	d.cluster.Forget("n3")
	if err := d.cluster.StopNode(ctx, "n3"); err != nil {
		t.Fatal(err)
	}
	d.look(ctx, t, step{file: "replace_status", args: []string{"status"}, facts: level(failover.LevelOK, true)})
	d.look(ctx, t, step{file: "replace_audit", args: []string{"audit", "-n", "2"}, facts: facts(func(trail []failover.AuditEntry) bool {
		return len(trail) == 2 && trail[0].Operator == "ann" && trail[0].Reason == "n3 is old" && trail[1].Refused == ""
	})})
}

// tellBlocked kills both standbys of a cluster that has two witnesses: there is a Raft
// leader, and nobody who may have what the primary would acknowledge.
func tellBlocked(ctx context.Context, t *testing.T, d *desk) {
	t.Helper()
	for _, file := range []string{"blocked_witness", "blocked_second_witness"} {
		m, err := d.cluster.StartNewcomer(ctx, localcluster.Newcomer{Tags: []string{"witness"}})
		if err != nil {
			t.Fatal(err)
		}
		d.mask.members = append(d.mask.members, m)
		d.act(ctx, t, step{file: file, args: []string{"node", "add", m.String()}, quiet: true})
		d.cluster.Adopt(m)
	}
	if err := d.cluster.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	gone := []pgcluster.NodeID{"n2", "n4"}
	if err := all(gone, func(id pgcluster.NodeID) error { return d.cluster.KillNode(ctx, id) }); err != nil {
		t.Fatal(err)
	}
	for _, s := range []step{
		{file: "blocked_status", args: []string{"status"}, code: 2, facts: facts(func(c client.Cluster) bool {
			return c.Level == failover.LevelNoWrites && c.Confirmed && c.Op == nil && c.Nodes[1].State == "silent" && c.Nodes[2].State == "silent"
		})},
		{file: "blocked_why", args: []string{"why"}, code: 2, facts: facts(func(w whyFacts) bool {
			return w.Confirmed && slices.Equal(w.Missing, gone) && len(w.Asked) == 0 && len(w.Do) > 0
		})},
		{file: "blocked_plan_failover", args: []string{"plan", "failover"}, code: 4, facts: facts(func(p client.ClusterPlan) bool {
			return p.Confirmed && p.Refused != "" && p.To == "" && p.Forced != nil && p.Forced.Refused != ""
		})},
		{file: "blocked_doctor", args: []string{"doctor"}, code: 2, facts: facts(func(f doctorFacts) bool {
			return f.has(failover.CodeNoWrites) && !f.has(failover.CodeNoLeader) && slices.Equal(f.Unanswered, gone)
		})},
	} {
		d.look(ctx, t, s)
	}
	if err := d.cluster.StartNode("n2"); err != nil {
		t.Fatal(err)
	}
	d.look(ctx, t, step{file: "blocked_over", args: []string{"status"}, code: 1, facts: atRest(failover.LevelDegraded, "ANY 1 (n2)")})
	if err := d.cluster.StartNode("n4"); err != nil {
		t.Fatal(err)
	}
	if err := d.cluster.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}
