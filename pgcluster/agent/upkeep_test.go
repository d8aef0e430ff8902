package agent_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/agent"
)

func mentions(list []string, prefix string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(s, prefix) })
}

// F34 and F35: what weakens commits is taken back where it is the agent's, and
// reported where it is not.
func TestAgent_undoesAndReportsWhatWeakensCommits(t *testing.T) {
	t.Parallel()
	nodes := initialized(t, 2, true)
	n1, n2 := nodes[0], nodes[1]
	admin := n1.admin()
	exec(t, admin, "ALTER SYSTEM SET fsync = off")
	exec(t, admin, `ALTER SYSTEM SET "SYNCHRONOUS_STANDBY_NAMES" = ''`)
	exec(t, admin, "SELECT pg_reload_conf()")
	exec(t, n2.admin(), "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'")
	n1.await("overrides reported", func(r pgcluster.Report) bool {
		return mentions(r.Overrides, "fsync=off at ") && mentions(r.Overrides, "synchronous_standby_names= at ")
	})
	n2.await("override on the standby reported", func(r pgcluster.Report) bool {
		return mentions(r.Overrides, "primary_conninfo=(hidden) at ")
	})
	n1.awaitShow("fsync", "on")
	n1.awaitShow("synchronous_standby_names", "ANY 1 (n2)")
	const left = "SELECT count(*)::int FROM pg_file_settings WHERE sourcefile LIKE '%postgresql.auto.conf'"
	for _, n := range nodes {
		if count := query[int](t, n.admin(), left); count != 0 {
			t.Errorf("%s: %d settings are left in postgresql.auto.conf", n.m.ID, count)
		}
	}

	// Whoever may log in may also do this.
	exec(t, n1.service(), "ALTER ROLE xpd SET synchronous_commit = off")
	exec(t, admin, "SET default_transaction_read_only = off")
	exec(t, admin, "ALTER DATABASE xpd SET default_transaction_read_only = off")
	exec(t, admin, "CREATE ROLE app")
	exec(t, admin, "ALTER ROLE app SET synchronous_commit = local")
	exec(t, admin, "ALTER ROLE app IN DATABASE postgres SET synchronous_commit = remote_apply")
	r := n1.await("roles looked at", func(r pgcluster.Report) bool {
		return mentions(r.Overrides, "role xpd: synchronous_commit=off at ") && len(r.Weak) > 0 &&
			mentions(r.Overrides, "database xpd: default_transaction_read_only=off at ")
	})
	if want := []string{"role app: synchronous_commit=local"}; !slices.Equal(r.Weak, want) {
		t.Errorf("weak: %q, want %q", r.Weak, want)
	}
	if got := query[string](t, n1.service(), "SHOW synchronous_commit"); got != "on" {
		t.Errorf("a new session of xpd commits with synchronous_commit = %s", got)
	}
	if len(n2.Report().Weak) != 0 {
		t.Errorf("a standby reports weak roles: %q", n2.Report().Weak)
	}
}

func TestAgent_reportsLogicalSlotsAndDisks(t *testing.T) {
	t.Parallel()
	n := initialized(t, 1, false)[0]
	n.configured(1, n.o.Members, map[string]string{"wal_level": "logical"})
	if r := n.configured(2, n.o.Members, map[string]string{"wal_level": "minimal"}); !refusal(r, "wal_level") {
		t.Errorf("wal_level = minimal is not refused: %q", r.Refused)
	}
	n.configured(3, n.o.Members, map[string]string{"wal_level": "logical"})
	n.do(pgcluster.Order{Kind: pgcluster.OrderStop, Stamp: stamp(2, 1)})
	n.do(pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(2, 2), Barrier: true, Open: true})
	exec(t, n.connect(agent.AdminRole, n.o.Secrets.Admin, agent.Database), "SELECT pg_create_logical_replication_slot('feed', 'test_decoding')")
	n.await("the logical slot", func(r pgcluster.Report) bool { return slices.Equal(r.LogicalSlots, []string{"feed"}) })

	r := n.await("disks", func(r pgcluster.Report) bool { return len(r.Disks) > 0 })
	for i, use := range []string{"data", "state"} {
		if d := r.Disks[i]; d.Use != use || d.Total == 0 || d.Free > d.Total {
			t.Errorf("disk %d: %+v, want use %s", i, d, use)
		}
	}
	n.await("a newer look at the disks that is no news", func(now pgcluster.Report) bool {
		newer := &now.Disks[0] != &r.Disks[0]
		if now.Seq != r.Seq { // for this or for something else: look again
			r, newer = now, false
		}
		return newer
	})
}

// Orders come while what somebody did by ALTER SYSTEM is taken back: it must come into
// force all the same, not only stand in the file.
func TestAgent_takesBackWhileOrdersCome(t *testing.T) {
	t.Parallel()
	n1 := initialized(t, 2, true)[0]
	admin := n1.admin()
	rule := query[string](t, admin, "SHOW synchronous_standby_names")
	for i := range uint64(15) {
		exec(t, admin, "ALTER SYSTEM SET synchronous_standby_names = ''")
		exec(t, admin, "SELECT pg_reload_conf()")
		for j := range uint64(4) {
			o := pgcluster.Order{Kind: pgcluster.OrderLead, Stamp: stamp(1, 100+10*i+j), Sync: anyOf(1, "n2"), SyncSeq: 10*i + j, Barrier: true, Open: true}
			n1.submit(o)
		}
		n1.await("the rule in force", func(pgcluster.Report) bool {
			return query[string](t, admin, "SHOW synchronous_standby_names") == rule &&
				query[bool](t, admin, "SELECT NOT EXISTS (SELECT FROM pg_file_settings WHERE name = 'synchronous_standby_names' AND sourcefile LIKE '%auto.conf')")
		})
	}
}
