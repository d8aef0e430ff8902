package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// agent reports what the view of its node says.
type agent struct{ n *node }

func (a agent) Changed(context.Context, uint64) pgcluster.Report {
	return a.n.seen().Reports[a.n.self].Report
}

func (a agent) Submit(context.Context, pgcluster.Order) error { return errors.New("not in this test") }

// tuned are three nodes whose settings are all as wanted.
func tuned(nodes map[pgcluster.NodeID]*node) {
	const conf = "/var/lib/xpd/pg/conf/postgresql.conf"
	for id, n := range nodes {
		n.state.Settings.Postgres = map[string]string{"work_mem": "64MB", "max_connections": "300", "log_statement": "ddl"}
		n.state.Settings.Version = 12
		n.change(id, func(r *pgcluster.Report) { r.Config = 12 })
		n.running = []pgcluster.RunningSetting{
			{Name: "log_statement", Value: "ddl", Written: "ddl", File: conf},
			{Name: "max_connections", Value: "300", Written: "300", File: conf},
			{Name: "shared_buffers", Value: "4GB", Written: "4096MB", File: conf},
			{Name: "work_mem", Value: "64MB", Written: "64MB", File: conf},
		}
	}
}

// detuned is everything that may be different.
func detuned(nodes map[pgcluster.NodeID]*node) {
	tuned(nodes)
	nodes["n1"].running[1].Value, nodes["n1"].running[1].Pending = "200", true
	nodes["n1"].running[3] = pgcluster.RunningSetting{
		Name: "work_mem", Value: "32MB", Written: "32MB", File: "/var/lib/xpd/pg/data/postgresql.auto.conf",
	}
	nodes["n1"].change("n1", func(r *pgcluster.Report) { r.Overrides = []string{"fsync=off"} })
	nodes["n2"].change("n2", func(r *pgcluster.Report) {
		r.Refused = []string{"log_statement=ddl: invalid value for parameter"}
	})
	nodes["n2"].running = append(nodes["n2"].running[1:], pgcluster.RunningSetting{
		Name: "random_page_cost", Value: "1.1", Written: "1.1", File: "/var/lib/xpd/pg/data/postgresql.auto.conf",
	})
	nodes["n2"].running[0].Value, nodes["n2"].running[0].Written = "400", "400"
	nodes["n3"].change("n3", func(r *pgcluster.Report) { r.Config = 11 })
	nodes["n3"].running = nodes["n3"].running[:3]
}

func TestSettingsDiff(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args   []string
		change func(map[pgcluster.NodeID]*node)
		down   []pgcluster.NodeID
		code   int
	}{
		"none":        {change: tuned},
		"all":         {change: detuned, code: exitDegraded},
		"one":         {args: []string{"n2"}, change: detuned, code: exitDegraded},
		"two":         {args: []string{"n1", "n2"}, change: detuned, code: exitDegraded},
		"two_alike":   {args: []string{"n1", "n3"}, change: tuned},
		"unknown":     {args: []string{"n9"}, change: tuned, code: exitFailed},
		"one_is_down": {change: tuned, down: []pgcluster.NodeID{"n3"}, code: exitUnknown},
		"witness": {args: []string{"n3"}, change: func(nodes map[pgcluster.NodeID]*node) {
			tuned(nodes)
			for _, n := range nodes {
				n.read = func(s *failover.State) { s.Members[2].Witness = true }
			}
		}, code: exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"settings", "diff"}, tt.args...)
			got := pgctl(t.Context(), ward(t, tt.change, tt.down...), nil, args...)
			if got.code != tt.code {
				t.Errorf("exit code %d, want %d", got.code, tt.code)
			}
			golden(t, "settings_diff_"+name+".txt", got.transcript(args...))
		})
	}
}

func TestSettingsDiff_json(t *testing.T) {
	t.Parallel()
	url := ward(t, detuned)
	got := pgctl(t.Context(), url, nil, "settings", "diff", "n1", "--json")
	var d settingsDiff
	if err := json.Unmarshal([]byte(got.out), &d); err != nil || got.code != exitDegraded || d.Version != 12 {
		t.Fatalf("exit code %d, %v in %s", got.code, err, got.out)
	}
	var what []string
	for _, s := range d.Differences {
		what = append(what, string(s.Node)+" "+s.Name+" "+s.Why)
	}
	if got, want := strings.Join(what, ", "), "n1 max_connections restart, n1 work_mem ALTER SYSTEM, n1 fsync=off taken back"; got != want {
		t.Errorf("differences: %s; want %s", got, want)
	}
	var two nodesDiff
	got = pgctl(t.Context(), url, nil, "settings", "diff", "n1", "n3", "--json")
	if err := json.Unmarshal([]byte(got.out), &two); err != nil || two.Nodes != [2]pgcluster.NodeID{"n1", "n3"} || len(two.Differences) != 2 {
		t.Errorf("%v in %s, want two differences", err, got.out)
	}
}
