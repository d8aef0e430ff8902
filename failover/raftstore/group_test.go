package raftstore_test

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/raftstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
)

// join starts a store that belongs to no group yet.
func (g *group) join(id pgcluster.NodeID) failover.Server {
	g.t.Helper()
	m := pgcluster.Member{ID: id, Host: "127.0.0.1", RaftPort: pgtest.FreePorts(g.t, 1)[0]}
	g.members = append(g.members, m)
	g.dirs[id], g.joining[id] = g.t.TempDir(), true
	g.start(id)
	return failover.Server{ID: id, Addr: m.RaftAddr()}
}

// change has the leader, whoever that is, take the step twice: the second time it
// must change nothing.
func (g *group) change(step failover.GroupStep, s failover.Server) {
	g.t.Helper()
	for range 2 {
		g.onLeader(func(l *node) error {
			return l.ChangeGroup(g.t.Context(), failover.GroupChange{Step: step, Server: s})
		})
	}
}

// wantVoters waits until node n knows of these voters and no others.
func (g *group) wantVoters(n *node, want ...pgcluster.NodeID) {
	g.t.Helper()
	eventually(g.t, "group of the voters wanted", func() bool {
		var got []pgcluster.NodeID
		for _, s := range n.Servers() {
			if s.Voter {
				got = append(got, s.ID)
			}
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

func TestStore_groupGrowsAndShrinks(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	g.save(state(1))
	n4 := g.join("n4")
	if !g.nodes["n4"].Fresh() {
		t.Error("Fresh() of a node that joins = false")
	}
	g.change(failover.GroupAdd, n4)
	g.wantEverywhere(state(2), g.save(state(2))) // it follows the log before it votes
	g.wantVoters(g.leader(), "n1", "n2", "n3")
	g.change(failover.GroupPromote, n4)
	g.wantVoters(g.nodes["n4"], "n1", "n2", "n3", "n4")

	for _, id := range []pgcluster.NodeID{"n1", "n2"} {
		eventually(t, "another leader", func() bool {
			l := g.leader()
			return g.id(l) != id || l.TransferLeadership(t.Context(), "n4") == nil
		})
		g.change(failover.GroupRemove, failover.Server{ID: id})
		g.stop(id)
	}
	g.wantVoters(g.leader(), "n3", "n4")
	g.wantEverywhere(state(3), g.save(state(3))) // commits need the two that are left only

	g.stop("n4")
	g.start("n4")
	if g.nodes["n4"].Fresh() {
		t.Error("Fresh() of a node that has joined before = true")
	}
	g.wantEverywhere(state(4), g.save(state(4)))
}

// Two of three nodes are lost for good: the last one goes on as a group of its own,
// knows what was agreed on, and takes in others.
func TestRecover_lastSurvivor(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	g.wantEverywhere(state(1), g.save(state(1)))
	for _, m := range g.members {
		g.stop(m.ID)
	}
	g.members = g.members[:1]
	dir := g.dirs["n1"]
	before, err := raftstore.Inspect(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(state(1), before.State); diff != "" || before.Index == 0 || before.Term == 0 {
		t.Errorf("Inspect() = index %d, term %d (-want +got):\n%s", before.Index, before.Term, diff)
	}
	if err := raftstore.Recover("n1", dir, g.members, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	g.start("n1")
	g.wantEverywhere(state(2), g.save(state(2)))
	g.wantVoters(g.nodes["n1"], "n1")

	n4 := g.join("n4")
	g.change(failover.GroupAdd, n4)
	g.change(failover.GroupPromote, n4)
	g.wantEverywhere(state(3), g.save(state(3)))
}

func TestRecover_refuses(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	discard := slog.New(slog.DiscardHandler)
	if err := raftstore.Recover("n1", g.dirs["n1"], g.members[:1], discard); err == nil {
		t.Error("Recover() of a node that runs = nil")
	}
	if err := raftstore.Recover("n1", g.dirs["n1"], g.members[1:], discard); err == nil {
		t.Error("Recover() without the node itself = nil")
	}
	if err := raftstore.Recover("n1", t.TempDir(), g.members[:1], discard); err == nil {
		t.Error("Recover() of an empty folder = nil")
	}
}
