package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// dropLeaving does at once what the rules do by and by.
func dropLeaving(s *failover.State) {
	s.Members = slices.DeleteFunc(slices.Clone(s.Members), func(m pgcluster.Member) bool { return m.Leaving })
}

// blocked is a cluster whose primary and one standby are lost.
func blocked(n *node) {
	n.silence("n1", time.Minute)
	n.silence("n3", time.Minute)
	n.change("n2", func(r *pgcluster.Report) { r.Receiver.Streaming = false })
	n.next = script("failover", "n2", failover.PhasePromote, failover.PhaseBarrier)
}

// taking has every node take the settings of the cluster, but for n3, which is silent; on
// n1, one of them waits for a restart.
func taking(restart string) func(*node) {
	return func(n *node) {
		n.silence("n3", time.Minute)
		n.read = func(s *failover.State) {
			reports := maps.Clone(n.view.Reports)
			for id, o := range reports {
				o.Report.Config = s.Settings.Version
				if id == "n1" && restart != "" {
					o.Report.Pending = []string{restart}
				}
				reports[id] = o
			}
			n.view.Reports = reports
		}
	}
}

// refusing is taking where PostgreSQL on n1 and n2 does not take what is set.
func refusing(n *node) {
	taking("")(n)
	for _, id := range []pgcluster.NodeID{"n1", "n2"} {
		n.change(id, func(r *pgcluster.Report) { r.Refused = []string{"log_statement=dll: invalid value for parameter"} })
	}
}

// absentRefusing is taking where silent n3 had refused what was set before.
func absentRefusing(n *node) {
	taking("")(n)
	n.change("n3", func(r *pgcluster.Report) { r.Refused = []string{"log_statement=dll: invalid value for parameter"} })
}

// ofFive is five nodes, where a commit waits for one.
func ofFive(n *node) {
	n.state.Settings.K = 1
	for _, id := range []pgcluster.NodeID{"n4", "n5"} {
		n.state.Members = append(n.state.Members, pgcluster.Member{ID: id, Host: "127.0.0.1", HTTPPort: 1, RaftPort: 2, PGPort: 3})
	}
}

// zoned has new n4 stream from the primary at once, in whose zone it is; n2 and n3 are in
// another one. Who is on its way out is dropped.
func zoned(n *node) {
	n.state.Settings.K = 1
	for i, zone := range []string{"a", "b", "b"} {
		n.state.Members[i].Zone = zone
	}
	n.read = func(s *failover.State) {
		dropLeaving(s)
		if _, added := s.Member("n4"); !added {
			return
		}
		reports := maps.Clone(n.view.Reports)
		up, like := reports["n1"], reports["n2"]
		if _, streams := up.Report.Sender("n4"); !streams {
			sender := up.Report.Senders[0]
			sender.Node = "n4"
			up.Report.Senders = append(slices.Clone(up.Report.Senders), sender)
		}
		like.Report.Node = "n4"
		reports["n1"], reports["n4"] = up, like
		n.view.Reports = reports
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	const n4 = "n4=127.0.0.7:1:2:3"
	tests := map[string]struct {
		args   []string
		in     string
		change func(*node)
		code   int
	}{
		"node_add":                 {args: []string{"node", "add", n4 + "/zone=b", "--no-wait", "--reason", "more room"}},
		"node_add_witness":         {args: []string{"node", "add", n4 + "/witness", "-y"}},
		"node_add_spare":           {args: []string{"node", "add", n4 + "/zone=a"}, change: zoned},
		"node_replace_by_a_spare":  {args: []string{"node", "replace", "n3", n4 + "/zone=a", "-y"}, change: zoned},
		"node_add_taken":           {args: []string{"node", "add", "n3=127.0.0.7:1:2:3"}, code: exitFailed},
		"node_add_syntax":          {args: []string{"node", "add", "n4"}, code: exitFailed},
		"node_add_never_there":     {args: []string{"node", "add", n4, "--timeout", "3s"}, code: exitFailed},
		"node_remove":              {args: []string{"node", "remove", "n3"}, in: "y\n", change: func(n *node) { n.read = dropLeaving }},
		"node_remove_no_wait":      {args: []string{"node", "remove", "n3", "-y", "--no-wait"}},
		"node_remove_declined":     {args: []string{"node", "remove", "n3"}, in: "\n", code: exitFailed},
		"node_remove_primary":      {args: []string{"node", "remove", "n1", "-y"}, code: exitFailed},
		"node_remove_stays":        {args: []string{"node", "remove", "n3", "-y", "--timeout", "3s"}, code: exitFailed},
		"node_replace_primary":     {args: []string{"node", "replace", "n1", n4, "-y"}, code: exitFailed},
		"node_replace_unknown":     {args: []string{"node", "replace", "n9", n4, "-y"}, code: exitFailed},
		"node_replace_one_witness": {args: []string{"node", "replace", "n3", n4 + "/witness", "-y"}, code: exitFailed},
		"node_replace_declined":    {args: []string{"node", "replace", "n3", n4}, in: "no\n", code: exitFailed},
		"node_set":                 {args: []string{"node", "set", "n3", "zone=b", "priority=2", "nofailover"}},
		"node_set_back":            {args: []string{"node", "set", "n3", "zone=", "nosync=false", "--yes"}},
		"node_set_bad":             {args: []string{"node", "set", "n3", "colour=red"}, code: exitFailed},
		"settings":                 {args: []string{"settings"}},
		"settings_set":             {args: []string{"settings", "set", "--k", "1", "work_mem=64MB", "log_statement=ddl"}, change: taking("log_statement")},
		"settings_set_no_wait":     {args: []string{"settings", "set", "work_mem=64MB", "--no-wait"}},
		"settings_set_refused":     {args: []string{"settings", "set", "log_statement=dll"}, change: refusing, code: exitFailed},
		"settings_set_mended":      {args: []string{"settings", "set", "log_statement=ddl"}, change: absentRefusing},
		"settings_set_default":     {args: []string{"settings", "set", "--k", "0", "--no-wait"}, change: ofFive},
		"settings_set_k_never":     {args: []string{"settings", "set", "--k", "2", "--timeout", "3s"}, code: exitFailed},
		"settings_set_overtaken": {args: []string{"settings", "set", "--k", "2"}, code: exitFailed, change: func(n *node) {
			n.read = func(s *failover.State) {
				if s.Settings.K == 2 {
					s.Settings.K = 1
				}
			}
		}},
		"settings_set_never":     {args: []string{"settings", "set", "work_mem=64MB", "--timeout", "3s"}, code: exitFailed},
		"settings_set_fewer":     {args: []string{"settings", "set", "--k", "1"}, in: "n\n", change: func(n *node) { n.state.Settings.K = 2 }, code: exitFailed},
		"settings_set_back":      {args: []string{"settings", "set", "work_mem="}, change: func(n *node) { taking("")(n); n.state.Settings.Postgres = map[string]string{"work_mem": "64MB"} }},
		"settings_set_available": {args: []string{"settings", "set", "--mode", "available"}, in: "yes\n"},
		"settings_set_declined":  {args: []string{"settings", "set", "--mode", "available"}, in: "n\n", code: exitFailed},
		"settings_set_nothing":   {args: []string{"settings", "set"}, code: exitFailed},
		"settings_set_syntax":    {args: []string{"settings", "set", "work_mem"}, code: exitFailed},
		"settings_set_owned":     {args: []string{"settings", "set", "fsync=off"}, code: exitFailed},
		"pause":                  {args: []string{"pause", "--for", "30m", "--reason", "kernel update"}, in: "y\n"},
		"pause_declined":         {args: []string{"pause"}, in: "n\n", code: exitFailed},
		"pause_too_short":        {args: []string{"pause", "--for", "10ms", "-y"}, code: exitFailed},
		"resume": {args: []string{"resume", "-y"}, change: func(n *node) {
			n.state.Paused = &failover.Pause{Until: wall.Add(1), Reason: "test"}
		}},
		"restart_declined":        {args: []string{"restart", "n2"}, in: "n\n", code: exitFailed},
		"restart_unknown":         {args: []string{"restart", "n9", "-y"}, code: exitFailed},
		"restart_of_what":         {args: []string{"restart"}, code: exitFailed},
		"failover_needs_the_flag": {args: []string{"failover"}, code: exitFailed},
		"failover_not_needed":     {args: []string{"failover", "--accept-data-loss"}, in: "n1\n", code: exitFailed},
		"failover_wrong_name":     {args: []string{"failover", "--accept-data-loss"}, in: "y\n", code: exitFailed},
		"failover":                {args: []string{"failover", "--accept-data-loss", "--to", "n2", "--reason", "n1 and n3 burnt"}, in: "n1\n", change: blocked},
		"restart_all": {args: []string{"restart", "--all", "-y"}, change: func(n *node) {
			n.next = func(s *failover.State) { // the standbys were restarted, and that was all
				began := s.Op.Began
				steps := append(slices.Clip(s.Op.Steps),
					failover.PhaseTime{Phase: "restart", Epoch: s.Op.Epoch, Node: "n2", At: began.Add(2 * time.Millisecond)},
					failover.PhaseTime{Phase: "restart", Epoch: s.Op.Epoch, Node: "n3", At: began.Add(900 * time.Millisecond)})
				s.History = append(s.History, failover.Event{
					At: began.Add(2 * time.Second), Epoch: 4, Kind: "restart", Node: "n1", Reason: s.Op.Reason, Took: 2 * time.Second, Steps: steps,
				})
				s.Op = nil
			}
		}},
		"resume_not_paused": {args: []string{"resume"}, code: exitFailed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := healthy(t)
			n.state.Epochs = []failover.Epoch{{Epoch: 4, Node: "n1", Timeline: 3}}
			if tt.change != nil {
				tt.change(n)
			}
			got := pgctl(t.Context(), serve(t, n), strings.NewReader(tt.in), tt.args...)
			if got.code != tt.code {
				t.Errorf("exit code = %d, want %d", got.code, tt.code)
			}
			golden(t, "change_"+name+".txt", got.transcript(tt.args...))
		})
	}
}

// A node takes the place of another one: it is added, waited for, and then the other
// one goes.
func TestNodeReplace(t *testing.T) {
	t.Parallel()
	n := healthy(t)
	n.state.Members[2].Witness = true
	n.read = dropLeaving
	got := pgctl(t.Context(), serve(t, n), nil, "node", "replace", "n3", "n4=127.0.0.7:1:2:3/witness", "-y", "--json")
	var removed client.ClusterMember
	if err := json.Unmarshal([]byte(got.out), &removed); err != nil || got.code != exitOK || removed.ID != "n3" {
		t.Fatalf("exit code %d, %v, stdout %s, stderr %s", got.code, err, got.out, got.err)
	}
	var kinds []string
	for _, e := range n.state.History {
		kinds = append(kinds, e.Kind+" "+string(e.Node)+" "+e.Reason)
	}
	if want := []string{"added n4 asked for (by dba)", "leaving n3 asked for (by dba)"}; !slices.Equal(kinds, want) {
		t.Errorf("history = %q, want %q", kinds, want)
	}
}

func TestSettings_json(t *testing.T) {
	t.Parallel()
	n := healthy(t)
	taking("")(n)
	got := pgctl(t.Context(), serve(t, n), nil, "settings", "set", "work_mem=64MB", "--json")
	var s client.ClusterSettings
	if err := json.Unmarshal([]byte(got.out), &s); err != nil || s.Postgres["work_mem"] != "64MB" || s.Mode != failover.ModeProtect {
		t.Errorf("%v: %s", err, got.out)
	}
}
