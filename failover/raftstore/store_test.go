package raftstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
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
	eventually(g.t, "a leader", func() bool {
		for _, n := range g.nodes {
			if _, err := n.Barrier(g.t.Context()); err == nil {
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

// eventualPatience is for what takes a moment where nothing else runs.
const eventualPatience = time.Minute

// eventually polls until ok or fails the test; it is for conditions that no
// event announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), eventualPatience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
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

// onLeader has the leader, whoever that is, do f. Where it lost the leadership meanwhile,
// which a machine that does much else may bring about, the next one does it again.
func (g *group) onLeader(f func(l *node) error) {
	g.t.Helper()
	eventually(g.t, "leader that stays one", func() bool {
		err := f(g.leader())
		if errors.Is(err, failover.ErrNotLeader) || errors.Is(err, failover.ErrUncertain) {
			return false
		}
		if err != nil {
			g.t.Fatal(err)
		}
		return true
	})
}

// save saves st on the leader and returns its index.
func (g *group) save(st failover.State) (index uint64) {
	g.t.Helper()
	g.onLeader(func(l *node) (err error) {
		_, base := l.State()
		index, err = l.Save(g.t.Context(), base, st)
		return err
	})
	return index
}

// wantEverywhere waits until every node applied index and compares the states.
func (g *group) wantEverywhere(want failover.State, index uint64) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), eventualPatience)
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
	var index uint64
	g.onLeader(func(l *node) (err error) {
		_, base := l.State()
		before := l.Changed(base)
		if index, err = l.Save(t.Context(), base, state(1)); err != nil {
			return err
		}
		select {
		case <-before:
		default:
			t.Error("Changed() is not closed after Save returned")
		}
		return nil
	})
	g.wantEverywhere(state(1), index)
	if _, err := g.leader().Save(t.Context(), 0, state(2)); !errors.Is(err, failover.ErrStale) {
		t.Errorf("Save() on an old base = %v, want ErrStale", err)
	}
}

// Whoever leads is known everywhere, and nobody else does what takes a leader.
func TestStore_followersRefuse(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	g.wantEverywhere(state(1), g.save(state(1)))
	g.onLeader(func(l *node) error {
		term, err := l.Barrier(t.Context())
		if err != nil {
			return err
		}
		var wrong []string
		for id, n := range g.nodes {
			if got, want := n.Leader(), g.id(l); got != want {
				wrong = append(wrong, fmt.Sprintf("Leader() on %s = %q, want %q", id, got, want))
			}
			_, index := n.State()
			_, saved := n.Save(t.Context(), index, state(1))
			_, passed := n.Barrier(t.Context())
			for what, err := range map[string]error{"Save": saved, "Verify": n.Verify(t.Context()), "Barrier": passed} {
				if (err == nil) != (n == l) || err != nil && !errors.Is(err, failover.ErrNotLeader) {
					wrong = append(wrong, fmt.Sprintf("%s() on %s = %v, and %s leads", what, id, err, g.id(l)))
				}
			}
		}
		if after, err := l.Barrier(t.Context()); err != nil || after != term || slices.ContainsFunc(slices.Collect(maps.Values(g.nodes)), func(n *node) bool { return n.Leader() == "" }) {
			return failover.ErrNotLeader // it was not the leader all the time
		}
		for _, w := range wrong {
			t.Error(w)
		}
		return nil
	})
}

// Two proposers decide on the same state: exactly one may win.
func TestStore_oneOfRacingSavesWins(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	g.onLeader(func(l *node) error {
		_, base := l.State()
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { _, errs[i] = l.Save(t.Context(), base, state(uint64(i))) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, failover.ErrStale):
				return err
			}
		}
		if won != 1 {
			t.Errorf("%d saves on one base succeeded, want 1", won)
		}
		return nil
	})
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
	saved := uint64(0)
	g.onLeader(func(l *node) (err error) {
		for _, index = l.State(); saved < 300; saved++ {
			if index, err = l.Save(t.Context(), index, state(saved)); err != nil {
				return err
			}
		}
		return l.Snapshot()
	})
	g.start(away)
	g.wantEverywhere(state(299), index)
}

func TestStore_handsLeadershipOver(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	g.save(state(1))
	g.onLeader(func(old *node) error {
		term, err := old.Barrier(t.Context())
		if err != nil {
			return err
		}
		to := g.members[0].ID
		if g.id(old) == to {
			to = g.members[1].ID
		}
		next := g.nodes[to]
		if err := old.TransferLeadership(t.Context(), to); err != nil {
			t.Logf("TransferLeadership() = %v", err)
			return failover.ErrNotLeader // the machine was too slow for it, or it is not done at all
		}
		newTerm, err := next.Barrier(t.Context())
		if err != nil {
			return err
		}
		leads, led := lastOf(t, next.LeaderCh()), lastOf(t, old.LeaderCh())
		_, index := old.State()
		_, saved := old.Save(t.Context(), index, state(1))
		if again, err := next.Barrier(t.Context()); err != nil || again != newTerm {
			return failover.ErrNotLeader // others have taken over since
		}
		if newTerm <= term || !leads || led || !errors.Is(saved, failover.ErrNotLeader) {
			t.Errorf("the leader of term %d, by its channel %t, handed over to that of term %d, by its channel %t, and then Save() = %v",
				term, led, newTerm, leads, saved)
		}
		return nil
	})
	g.wantEverywhere(state(3), g.save(state(3)))
}

// A leader that lost its majority must not seem to save.
func TestStore_leaderWithoutMajority(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	eventually(t, "leader that notices by a Save", func() bool {
		index := g.save(state(1))
		l := g.leader()
		for _, m := range g.members {
			if m.ID != g.id(l) {
				g.stop(m.ID)
				defer g.start(m.ID)
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
		_, first := l.Save(t.Context(), index, state(2))
		_, second := l.Save(t.Context(), index, state(2))
		if !errors.Is(second, failover.ErrNotLeader) {
			t.Errorf("Save() after the lease = %v, want ErrNotLeader", second)
		}
		if got, _ := l.State(); !cmp.Equal(got, state(1)) {
			t.Errorf("State() = %+v, want the one before", got)
		}
		if first == nil {
			t.Error("Save() without a majority = nil")
		}
		// On a busy machine the lease may be over before: then it is tried again.
		return errors.Is(first, failover.ErrUncertain)
	})
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
	case <-time.After(eventualPatience):
		t.Fatal("LeaderCh() says nothing")
		return false
	}
}
