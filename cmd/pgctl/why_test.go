package main

import (
	"encoding/json"
	"net"
	"net/url"
	"slices"
	"strconv"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
)

func TestWhy(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"ok", "standby_lost", "failover_recruits", "failover_promotes", "sync_standbys_stopped", "not_started", "paused_and_primary_crashed",
		"long_names",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := known(t)
			situations[name].change(n)
			got := pgctl(t.Context(), serve(t, n), nil, "why")
			if want := situations[name].code; got.code != want {
				t.Errorf("exit code = %d, want %d, as of status", got.code, want)
			}
			golden(t, "why_"+name+".txt", got.transcript("why"))
		})
	}
}

func TestWhy_nofailover(t *testing.T) {
	t.Parallel()
	n := known(t)
	loseBoth(n)
	n.state.Sync.Durable = n.state.Sync.Durable.Without("n3")
	n.state.Members[1].NoFailover = true
	golden(t, "why_nofailover.txt", pgctl(t.Context(), serve(t, n), nil, "why").transcript("why"))
}

// serveAs serves n, and makes its own address that of the members called ids.
func serveAs(t *testing.T, n *node, ids ...pgcluster.NodeID) string {
	t.Helper()
	n.state.Members = slices.Clone(n.state.Members)
	server := serve(t, n)
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	host, raw, err := net.SplitHostPort(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(raw)
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, m := range n.state.Members {
		n.state.Members[i].Host = "127.0.0.1"
		if slices.Contains(ids, m.ID) {
			n.state.Members[i].Host, n.state.Members[i].HTTPPort = host, port
		}
	}
	return server
}

// Without a leader, every node is asked, and what they say is not passed off as more.
func TestWhy_noLeader(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string][]pgcluster.NodeID{
		"no_leader_alone":    {"n1"},
		"no_leader_majority": {"n1", "n2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := known(t)
			situations["no_leader_others_silent"].change(n)
			got := pgctl(t.Context(), serveAs(t, n, answers...), nil, "why")
			if got.code != exitUnknown {
				t.Errorf("exit code = %d, want %d", got.code, exitUnknown)
			}
			golden(t, "why_"+name+".txt", got.transcript("why"))
		})
	}
}

func TestWhy_json(t *testing.T) {
	t.Parallel()
	n := known(t)
	situations["no_leader_others_silent"].change(n)
	got := pgctl(t.Context(), serveAs(t, n, "n1"), nil, "why", "--json")
	var w why
	if err := json.Unmarshal([]byte(got.out), &w); err != nil {
		t.Fatalf("output is not JSON: %v\n%s", err, got.out)
	}
	if got.code != exitUnknown || w.Confirmed || !slices.Equal(w.Missing, []pgcluster.NodeID{"n2", "n3"}) || len(w.Do) == 0 ||
		len(w.Asked) != 3 || w.Asked[0].Error != "" || w.Asked[1].Error == "" {
		t.Errorf("why --json = %d, %+v", got.code, w)
	}
}
