package raftstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/raftstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
)

// node is one member of a group, as if in a process of its own.
type node struct {
	*raftstore.Store
	stop func()
}

type group struct {
	t       *testing.T
	members []pgcluster.Member
	dirs    map[pgcluster.NodeID]string
	joining map[pgcluster.NodeID]bool
	nodes   map[pgcluster.NodeID]*node

	tls func(pgcluster.NodeID) *raftstore.TLS
	log func(pgcluster.NodeID) *slog.Logger
}

// startGroup starts three stores on loopback, each with its own folder.
func startGroup(t *testing.T, change ...func(*group)) *group {
	t.Helper()
	g := &group{t: t, dirs: map[pgcluster.NodeID]string{}, joining: map[pgcluster.NodeID]bool{}, nodes: map[pgcluster.NodeID]*node{}}
	g.tls = func(pgcluster.NodeID) *raftstore.TLS { return nil }
	g.log = func(pgcluster.NodeID) *slog.Logger { return slog.New(slog.DiscardHandler) }
	for _, f := range change {
		f(g)
	}
	for i, port := range pgtest.FreePorts(t, 3) {
		id := pgcluster.NodeID(fmt.Sprintf("n%d", i+1))
		g.members = append(g.members, pgcluster.Member{ID: id, Host: "127.0.0.1", RaftPort: port})
		g.dirs[id] = t.TempDir()
	}
	for _, m := range g.members {
		g.start(m.ID)
	}
	t.Cleanup(func() {
		for _, n := range g.nodes {
			n.stop()
		}
	})
	return g
}

func (g *group) start(id pgcluster.NodeID) {
	g.t.Helper()
	var addr string
	for _, m := range g.members {
		if m.ID == id {
			addr = m.RaftAddr()
		}
	}
	s, err := raftstore.Open(raftstore.Options{
		Node: id, Members: g.members, Join: g.joining[id], Dir: g.dirs[id], ListenAddr: addr,
		TLS: g.tls(id), Logger: g.log(id), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		g.t.Fatalf("Open(%s) = %v", id, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	g.nodes[id] = &node{Store: s, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Errorf("Run() of %s = %v", id, err)
		}
	})}
}

func (g *group) stop(id pgcluster.NodeID) {
	g.nodes[id].stop()
	delete(g.nodes, id)
}

// leader waits for a node that can commit.
func (g *group) leader() *node {
	g.t.Helper()
	var found *node
	eventually(g.t, "a leader", func(ctx context.Context) bool {
		for _, n := range g.nodes {
			if _, err := n.Barrier(ctx); err == nil {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

func (g *group) id(n *node) pgcluster.NodeID {
	for id, o := range g.nodes {
		if o == n {
			return id
		}
	}
	g.t.Fatal("node is not of this group")
	return ""
}

// eventually polls until ok or fails the test; it is for conditions that no
// event announces.
func eventually(t *testing.T, what string, ok func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok(ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("no %s in time", what)
		case <-tick.C:
		}
	}
}

func state(ops uint64) failover.State {
	return failover.State{
		Members:  []pgcluster.Member{{ID: "n1", Host: "127.0.0.1"}},
		SystemID: "7", Ops: ops, Floor: pgcluster.Position{Timeline: 3, LSN: 0x16_B374D848},
		Op: &failover.Operation{ID: ops, Kind: failover.KindFailover, Began: time.Date(2026, 11, 21, 0, 0, 0, 5, time.UTC)},
	}
}

// save saves st on the leader, whoever that is, and returns its index.
func (g *group) save(st failover.State) uint64 {
	g.t.Helper()
	l := g.leader()
	_, base := l.State()
	index, err := l.Save(g.t.Context(), base, st)
	if err != nil {
		g.t.Fatalf("Save() = %v", err)
	}
	return index
}

// wantEverywhere waits until every node applied index and compares the states.
func (g *group) wantEverywhere(want failover.State, index uint64) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	for id, n := range g.nodes {
		got, at := n.State()
		for ; at < index; got, at = n.State() {
			select {
			case <-n.Changed(at):
			case <-ctx.Done():
				g.t.Fatalf("%s is at index %d, never got to %d", id, at, index)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			g.t.Errorf("State() of %s (-want +got):\n%s", id, diff)
		}
		if at != index {
			g.t.Errorf("State() of %s has index %d, want %d", id, at, index)
		}
	}
}

func TestStore_savesOnEveryNode(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	l := g.leader()
	before := l.Changed(0)
	index, err := l.Save(t.Context(), 0, state(1))
	if err != nil {
		t.Fatalf("Save() = %v", err)
	}
	select {
	case <-before:
	default:
		t.Error("Changed() is not closed after Save returned")
	}
	g.wantEverywhere(state(1), index)
	for id, n := range g.nodes {
		if got, want := n.Leader(), g.id(l); got != want {
			t.Errorf("Leader() on %s = %q, want %q", id, got, want)
		}
	}

	if err := l.Verify(t.Context()); err != nil {
		t.Errorf("Verify() on the leader = %v", err)
	}
	if _, err := l.Save(t.Context(), 0, state(2)); !errors.Is(err, failover.ErrStale) {
		t.Errorf("Save() on an old base = %v, want ErrStale", err)
	}
	for id, n := range g.nodes {
		if n == l {
			continue
		}
		if _, err := n.Save(t.Context(), index, state(2)); !errors.Is(err, failover.ErrNotLeader) {
			t.Errorf("Save() on follower %s = %v, want ErrNotLeader", id, err)
		}
		if err := n.Verify(t.Context()); !errors.Is(err, failover.ErrNotLeader) {
			t.Errorf("Verify() on follower %s = %v, want ErrNotLeader", id, err)
		}
		if _, err := n.Barrier(t.Context()); !errors.Is(err, failover.ErrNotLeader) {
			t.Errorf("Barrier() on follower %s = %v, want ErrNotLeader", id, err)
		}
	}
	g.wantEverywhere(state(1), index)
}

// Two proposers decide on the same state: exactly one may win.
func TestStore_oneOfRacingSavesWins(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	l := g.leader()
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { _, errs[i] = l.Save(t.Context(), 0, state(uint64(i))) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, failover.ErrStale):
			t.Errorf("Save() = %v, want nil or ErrStale", err)
		}
	}
	if won != 1 {
		t.Errorf("%d saves on one base succeeded, want 1", won)
	}
}

func TestStore_restartKeepsTheState(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	index := g.save(state(1))
	g.wantEverywhere(state(1), index)
	for _, m := range g.members {
		g.stop(m.ID)
	}
	for _, m := range g.members {
		g.start(m.ID)
	}
	g.leader()
	g.wantEverywhere(state(1), index)
	g.wantEverywhere(state(2), g.save(state(2)))
}

// A node that was away long enough for its entries to be gone gets the snapshot.
func TestStore_catchesUpFromSnapshot(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	index := g.save(state(0))
	g.wantEverywhere(state(0), index)
	l := g.leader()
	away := g.members[0].ID
	if g.id(l) == away {
		away = g.members[1].ID
	}
	g.stop(away)
	var err error
	for i := range uint64(300) {
		if index, err = l.Save(t.Context(), index, state(i)); err != nil {
			t.Fatalf("Save() = %v", err)
		}
	}
	if err := l.Snapshot(); err != nil {
		t.Fatalf("Snapshot() = %v", err)
	}
	g.start(away)
	g.wantEverywhere(state(299), index)
}

func TestStore_handsLeadershipOver(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	index := g.save(state(1))
	old := g.leader()
	term, err := old.Barrier(t.Context())
	if err != nil {
		t.Fatalf("Barrier() = %v", err)
	}
	to := g.members[0].ID
	if g.id(old) == to {
		to = g.members[1].ID
	}
	if err := old.TransferLeadership(t.Context(), to); err != nil {
		t.Fatalf("TransferLeadership() = %v", err)
	}
	next := g.nodes[to]
	eventually(t, "barrier on the new leader", func(ctx context.Context) bool {
		newTerm, err := next.Barrier(ctx)
		return err == nil && newTerm > term
	})
	if got := lastOf(t, next.LeaderCh()); !got {
		t.Error("LeaderCh() of the new leader says false")
	}
	if got := lastOf(t, old.LeaderCh()); got {
		t.Error("LeaderCh() of the old leader says true")
	}
	if _, err := old.Save(t.Context(), index, state(2)); !errors.Is(err, failover.ErrNotLeader) {
		t.Errorf("Save() on the deposed leader = %v, want ErrNotLeader", err)
	}
	g.wantEverywhere(state(3), g.save(state(3)))
}

// A leader that lost its majority must not seem to save.
func TestStore_leaderWithoutMajority(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	index := g.save(state(1))
	l := g.leader()
	for _, m := range g.members {
		if m.ID != g.id(l) {
			g.stop(m.ID)
		}
	}
	// It fails as soon as the leader gives up, or by then: a Save may be the first to notice.
	verified := make(chan error, 1)
	go func() { verified <- l.Verify(t.Context()) }()
	defer func() {
		if err := <-verified; err == nil {
			t.Error("Verify() without a majority = nil")
		}
	}()
	if _, err := l.Save(t.Context(), index, state(2)); !errors.Is(err, failover.ErrUncertain) {
		t.Errorf("Save() without a majority = %v, want ErrUncertain", err)
	}
	if _, err := l.Save(t.Context(), index, state(2)); !errors.Is(err, failover.ErrNotLeader) {
		t.Errorf("Save() after the lease = %v, want ErrNotLeader", err)
	}
	if got, _ := l.State(); !cmp.Equal(got, state(1)) {
		t.Errorf("State() = %+v, want the one before", got)
	}
}

func TestOpen_refusesFolderInUse(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	_, err := raftstore.Open(raftstore.Options{
		Node: "n1", Members: g.members, Dir: g.dirs["n1"], ListenAddr: "127.0.0.1:0",
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	if err == nil {
		t.Error("Open() of a folder in use = nil, want an error")
	}
}

func lastOf(t *testing.T, ch <-chan bool) bool {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(5 * time.Second):
		t.Fatal("LeaderCh() says nothing")
		return false
	}
}
