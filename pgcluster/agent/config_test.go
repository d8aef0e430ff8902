package agent_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
)

// configured hands the node a configuration and waits until its files have it.
func (n *node) configured(version uint64, members []pgcluster.Member, settings map[string]string) pgcluster.Report {
	n.t.Helper()
	n.Configure(pgcluster.Config{Version: version, Members: members, Settings: settings})
	return n.await("configuration in the files", func(r pgcluster.Report) bool { return r.Config == version })
}

// awaitShow waits until a new session sees the value.
func (n *node) awaitShow(name, want string) {
	n.t.Helper()
	n.await(name+" = "+want, func(pgcluster.Report) bool {
		conn := n.admin()
		defer conn.Close(n.t.Context())
		return query[string](n.t, conn, "SELECT current_setting($1)", name) == want
	})
}

func refusal(r pgcluster.Report, name string) bool {
	return slices.ContainsFunc(r.Refused, func(s string) bool { return strings.HasPrefix(s, name+"=") })
}

func TestAgent_appliesClusterSettings(t *testing.T) {
	t.Parallel()
	n := initialized(t, 1, false)[0]
	members := n.o.Members
	r := n.configured(2, members, map[string]string{"work_mem": "9MB", "shared_buffers": "24MB"})
	if want := []string{"shared_buffers"}; !slices.Equal(r.Pending, want) {
		t.Errorf("%q wait for a restart, want %q", r.Pending, want)
	}
	if got := query[string](t, n.admin(), "SHOW work_mem"); got != "9MB" {
		t.Errorf("work_mem is %s", got)
	}

	n.Configure(pgcluster.Config{Version: 1, Members: members, Settings: map[string]string{"work_mem": "7MB"}})
	n.end(false)
	n.start()
	n.await("the saved configuration", func(r pgcluster.Report) bool { return r.Config == 2 && r.Running() })
	n.awaitShow("work_mem", "9MB")

	// A value that no server takes, and a name that it does not know, leave the rest alone.
	r = n.configured(3, members, map[string]string{
		"work_mem": "10MB", "shared_buffers": "garbage", "no_such_setting": "1", "fsync": "off",
		"log_statement":         "dll",
		"max_replication_slots": "4", // a promotion could not make its slots
		"wal_receiver_timeout":  "1min",
	})
	for _, name := range []string{"shared_buffers", "no_such_setting", "fsync", "max_replication_slots", "wal_receiver_timeout"} {
		if !refusal(r, name) {
			t.Errorf("%s is not reported: %q", name, r.Refused)
		}
	}
	// All nodes say the same, word for word, so that it can be told once for all of them.
	reason := `log_statement=dll: invalid value for parameter "log_statement": "dll"; HINT:  Available values: none, ddl, mod, all.`
	if !slices.Contains(r.Refused, reason) {
		t.Errorf("no %s in %q", reason, r.Refused)
	}
	n.awaitShow("work_mem", "10MB")
	n.awaitShow("wal_receiver_timeout", "2s")
	n.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 1)})
	n.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 2), Barrier: true, Open: true})
	n.awaitShow("shared_buffers", "16MB") // this host's own
	if r := n.Report(); len(r.Pending) != 0 {
		t.Errorf("%q wait for a restart after one", r.Pending)
	}
	n.awaitShow("fsync", "on")
	if r := n.configured(4, members, nil); len(r.Refused) != 0 {
		t.Errorf("still refused: %q", r.Refused)
	}
	n.awaitShow("work_mem", "4MB")
}

// Which way a setting goes that waits for a restart decides which node is the first.
func TestAgent_F42_whichWaySettingsGo(t *testing.T) {
	t.Parallel()
	n := initialized(t, 1, false)[0]
	members := n.o.Members
	check := func(what string, r pgcluster.Report, higher, lower string) {
		t.Helper()
		if h, l := strings.Join(r.Higher, " "), strings.Join(r.Lower, " "); h != higher || l != lower {
			t.Errorf("%s: %q get higher and %q lower, want %q and %q; all that wait: %q", what, h, l, higher, lower, r.Pending)
		}
	}
	// Of max_wal_senders the agent's own default is 16, of max_worker_processes PostgreSQL's is 8.
	r := n.configured(2, members, map[string]string{
		"max_connections": "230", "max_wal_senders": "0xC", "max_worker_processes": "9", "shared_buffers": "24MB",
	})
	check("both", r, "max_connections max_worker_processes", "max_wal_senders")
	if !slices.Contains(r.Pending, "shared_buffers") {
		t.Errorf("%q wait for a restart", r.Pending)
	}

	admin := n.admin()
	exec(t, admin, "ALTER SYSTEM SET max_connections = 150")
	exec(t, admin, "SELECT pg_reload_conf()")
	r = n.await("ALTER SYSTEM, which outranks", func(r pgcluster.Report) bool { return slices.Contains(r.Lower, "max_connections") })
	check("ALTER SYSTEM", r, "max_worker_processes", "max_connections max_wal_senders")
	exec(t, admin, "ALTER SYSTEM RESET max_connections")
	exec(t, admin, "SELECT pg_reload_conf()")
	n.await("what was before", func(r pgcluster.Report) bool { return slices.Contains(r.Higher, "max_connections") })

	n.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 1)})
	check("stopped", n.Report(), "", "")
	n.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 2), Barrier: true, Open: true})
	n.awaitShow("max_worker_processes", "9")
	check("restarted", n.Report(), "", "")
	check("by default", n.configured(3, members, nil), "max_wal_senders", "max_connections max_worker_processes")
}

// PostgreSQL takes each of the values, and only a start shows that it does not take
// them together.
func TestAgent_startsWithoutSettingsThatPreventIt(t *testing.T) {
	t.Parallel()
	n := initialized(t, 1, false)[0]
	n.configured(1, n.o.Members, map[string]string{"work_mem": "9MB"})
	n.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 1)})
	n.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 2), Barrier: true, Open: true})
	n.await("proof of work_mem", func(pgcluster.Report) bool {
		var saved struct{ Proven map[string]string }
		b, err := os.ReadFile(filepath.Join(n.o.Dir, "agent.json"))
		return err == nil && json.Unmarshal(b, &saved) == nil && saved.Proven["work_mem"] == "9MB"
	})
	n.configured(2, n.o.Members, map[string]string{"work_mem": "9MB", "max_connections": "5"})
	n.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(3, 1)})
	r := n.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(4, 2), Barrier: true, Open: true})
	if !refusal(r, "max_connections") || refusal(r, "work_mem") {
		t.Errorf("refused: %q", r.Refused)
	}
	n.awaitShow("max_connections", "200")
	n.awaitShow("work_mem", "9MB")
	exec(t, n.admin(), "CREATE ROLE shop LOGIN PASSWORD 'swordfish'")
	exec(t, n.connect("shop", "swordfish", agent.Database), "SELECT") // applications get in as before
}

func TestAgent_followsANewMember(t *testing.T) {
	t.Parallel()
	n := initialized(t, 1, false)[0]
	other := pgcluster.Member{ID: "n9", Host: "127.0.0.1", PGPort: pgtest.FreePorts(t, 1)[0]}
	order := pgcluster.Order{Node: n.m.ID, Kind: pgcluster.OrderFollow, Stamp: stamp(2, 1), Upstream: "n9"}
	if err := n.Submit(t.Context(), order); err == nil {
		t.Fatal("an order to follow a stranger was accepted")
	}
	n.Configure(pgcluster.Config{Version: 1, Members: append(slices.Clone(n.o.Members), other)})
	if err := n.Submit(t.Context(), order); err != nil {
		t.Errorf("follow a new member: %v", err)
	}
	n.Configure(pgcluster.Config{Version: 2, Members: n.o.Members})
	order.Stamp = stamp(2, 2)
	if err := n.Submit(t.Context(), order); err == nil {
		t.Error("an order to follow a removed member was accepted")
	}
}

// An adopted primary may have more than xpd's default, and a new standby does not know.
func TestAgent_givesAStandbyWhatItsPrimaryHas(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 2)
	n1, n2 := nodes[0], nodes[1]
	n1.end(false)
	n1.o.Settings = map[string]string{"shared_buffers": "16MB", "max_connections": "230", "max_worker_processes": "9"}
	n1.start()
	r := n1.do(pgcluster.Order{Kind: pgcluster.OrderInit, Stamp: stamp(1, 1)})
	n2.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(1, 2), SystemID: r.SystemID, Upstream: "n1"})
	n2.awaitShow("max_connections", "230")
	n2.awaitShow("max_worker_processes", "9")

	// ALTER SYSTEM outranks what the agent writes, and it would not start.
	exec(t, n2.admin(), "ALTER SYSTEM SET max_connections = 50")
	pid, _ := n2.postmaster()
	r = n2.do(pgcluster.Order{Kind: pgcluster.OrderRestart, Stamp: stamp(1, 3), Restart: 1})
	if after, _ := n2.postmaster(); after == pid || !r.Receiver.Streaming {
		t.Errorf("postmaster %d became %d; report %+v", pid, after, r)
	}
	n2.awaitShow("max_connections", "230")
	if !slices.ContainsFunc(r.Overrides, func(s string) bool { return strings.HasPrefix(s, "max_connections=50 ") }) {
		t.Errorf("nobody is told that ALTER SYSTEM was taken back: %q", r.Overrides)
	}

	// Once it is no standby any more, what it was given for that waits to be taken away.
	n1.kill9()
	n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(2, 1)})
	n2.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 2), Barrier: true, Open: true})
	n2.await("what gets lower", func(r pgcluster.Report) bool { return len(r.Lower) == 2 && len(r.Higher) == 0 })
}

// Somebody gives a primary's host more than the standbys have. A standby that runs keeps
// receiving, stops replaying, and could not be promoted any more.
func TestAgent_F42_aStandbyThatHasLessThanItsPrimary(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, true)
	n1, n2 := nodes[0], nodes[1]
	lead := pgcluster.Order{
		Kind: pgcluster.OrderLead, Stamp: stamp(2, 2), SystemID: n1.Report().SystemID, Sync: anyOf(1, n2.m.ID), Barrier: true, Open: true,
	}
	n1.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 1)})
	n1.end(false)
	n1.o.Settings["max_connections"] = "250"
	n1.start()
	n1.submit(lead)
	n2.do(pgcluster.Order{Kind: pgcluster.OrderFollow, Stamp: stamp(2, 3), SystemID: lead.SystemID, Upstream: n1.m.ID})
	n1.do(lead)
	n2.await("replay of all", caughtUp(n1))
	n2.awaitShow("max_connections", "250")

	n1.kill9()
	n2.do(pgcluster.Order{Kind: pgcluster.OrderRecruit, Stamp: stamp(3, 1)})
	n2.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(3, 2), Barrier: true, Open: true})
}
