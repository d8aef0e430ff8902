package main

import (
	"encoding/json"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// ward serves three nodes, but for those that are down, and returns the URL of n2.
func ward(t *testing.T, change func(map[pgcluster.NodeID]*node), down ...pgcluster.NodeID) string {
	t.Helper()
	servers := wards(t, change)
	for _, id := range down {
		servers[id].Close()
	}
	return servers["n2"].URL
}

// wards serves three nodes at the addresses that they know each other by.
func wards(t *testing.T, change func(map[pgcluster.NodeID]*node)) map[pgcluster.NodeID]*httptest.Server {
	t.Helper()
	nodes, servers := map[pgcluster.NodeID]*node{}, map[pgcluster.NodeID]*httptest.Server{}
	members := healthy(t).state.Members
	for i, m := range members {
		srv := httptest.NewUnstartedServer(nil)
		host, port, err := net.SplitHostPort(srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		members[i].Host = host
		if members[i].HTTPPort, err = strconv.Atoi(port); err != nil {
			t.Fatal(err)
		}
		n := healthy(t)
		n.self = m.ID
		n.lost = map[pgcluster.NodeID]time.Duration{"n1": 0, "n2": 0, "n3": 0}
		for id := range n.view.Reports {
			n.change(id, func(r *pgcluster.Report) {
				r.LeaseLeft, r.Wall = 2500*time.Millisecond, wall
				r.Disks = []pgcluster.Disk{{Use: "data", Path: "/var/lib/xpd/pg/data", Free: 30 << 30, Total: 100 << 30}}
			})
		}
		nodes[m.ID], servers[m.ID] = n, srv
	}
	if change != nil {
		change(nodes)
	}
	for id, srv := range servers {
		nodes[id].state.Members = members
		srv.Config.Handler = nodes[id].routes()
		srv.Start()
		t.Cleanup(srv.Close)
	}
	return servers
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	each := func(nodes map[pgcluster.NodeID]*node, f func(*node)) {
		for _, n := range nodes {
			f(n)
		}
	}
	for name, tt := range map[string]struct {
		change func(map[pgcluster.NodeID]*node)
		down   []pgcluster.NodeID
		code   int
	}{
		"ok": {nil, nil, exitOK},
		"notice": {func(nodes map[pgcluster.NodeID]*node) {
			each(nodes, func(n *node) {
				n.change("n3", func(r *pgcluster.Report) {
					r.SetAside = []pgcluster.SetAside{{At: wall, Bytes: 16 << 20, Path: "/var/lib/xpd/pg/aside/2"}}
				})
			})
		}, nil, exitOK},
		"warnings": {func(nodes map[pgcluster.NodeID]*node) {
			each(nodes, func(n *node) {
				n.change("n1", func(r *pgcluster.Report) {
					r.Pending, r.Weak = []string{"max_connections"}, []string{"role shop", "database archive"}
					r.LogicalSlots = []string{"cdc"}
				})
				n.change("n2", func(r *pgcluster.Report) { r.Disks[0].Free = 9 << 30 })
				n.change("n3", func(r *pgcluster.Report) { r.Wall = wall.Add(-42 * time.Second) })
			})
			// A bad link between n1 and n3, both ways; n1's PostgreSQL lets n2 not in.
			nodes["n1"].silence("n3", 12*time.Second)
			nodes["n1"].lost["n3"] = 9 * time.Second
			nodes["n3"].silence("n1", 12*time.Second)
			nodes["n2"].lost["n1"] = 7 * time.Second
		}, nil, exitDegraded},
		"standby_lost": {func(nodes map[pgcluster.NodeID]*node) {
			for _, id := range []pgcluster.NodeID{"n1", "n2"} {
				nodes[id].silence("n3", time.Hour)
				nodes[id].lost["n3"] = time.Hour
				nodes[id].change("n1", func(r *pgcluster.Report) { r.Senders = r.Senders[:1] })
			}
		}, []pgcluster.NodeID{"n3"}, exitDegraded},
		"no_writes": {func(nodes map[pgcluster.NodeID]*node) {
			n := nodes["n2"]
			n.silence("n1", time.Minute)
			n.silence("n3", time.Hour)
			n.lost["n1"], n.lost["n3"] = time.Minute, time.Hour
			n.change("n2", func(r *pgcluster.Report) { r.Receiver.Streaming = false })
			n.leader = ""
		}, []pgcluster.NodeID{"n1", "n3"}, exitNoWrites},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := pgctl(t.Context(), ward(t, tt.change, tt.down...), nil, "doctor")
			if got.code != tt.code {
				t.Errorf("exit code %d, want %d", got.code, tt.code)
			}
			golden(t, "doctor_"+name+".txt", got.transcript("doctor"))
		})
	}
}

func TestDoctor_json(t *testing.T) {
	t.Parallel()
	got := pgctl(t.Context(), ward(t, func(nodes map[pgcluster.NodeID]*node) {
		for _, n := range nodes {
			n.change("n2", func(r *pgcluster.Report) { r.Disks[0].Free = 1 << 30 })
		}
	}), nil, "doctor", "--json")
	var d diagnosis
	if err := json.Unmarshal([]byte(got.out), &d); err != nil || got.code != exitNoWrites {
		t.Fatalf("exit code %d, %v in %s", got.code, err, got.out)
	}
	if d.Verdict != "critical" || len(d.Views) != 3 || len(d.Unanswered) != 0 || !d.Confirmed ||
		len(d.Findings) != 1 || d.Findings[0].Code != failover.CodeDisk || d.Findings[0].Node != "n2" {
		t.Errorf("doctor --json = %+v, want one finding about the disk of n2", d)
	}
	if !strings.Contains(got.out, `"XPD-D012"`) {
		t.Errorf("no code in %s", got.out)
	}
}

// Another node at a member's address does not speak for it.
func TestDoctor_strangerAtTheAddress(t *testing.T) {
	t.Parallel()
	got := pgctl(t.Context(), ward(t, func(nodes map[pgcluster.NodeID]*node) { nodes["n3"].self = "n1" }), nil, "doctor")
	if got.code != exitDegraded || !strings.Contains(got.out, "XPD-D022 warning n3: its xpd does not answer pgctl") {
		t.Errorf("exit code %d\n%s", got.code, got.out)
	}
}

// Long names and many nodes are shown in several tables.
func TestPrintReach_wide(t *testing.T) {
	t.Parallel()
	d := diagnosis{}
	for i := range 9 {
		d.Unanswered = append(d.Unanswered, pgcluster.NodeID("a_rather_long_name_of_a_node_"+strconv.Itoa(i)))
	}
	var b strings.Builder
	if err := printReach(&b, d); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "FROM"); n != 9 {
		t.Errorf("%d tables, want 9:\n%s", n, b.String())
	}
	for line := range strings.Lines(b.String()) {
		if len(line) > width+1 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}
