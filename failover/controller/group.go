package controller

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Paces of bringing the Raft group to the members that were agreed on.
const (
	groupInterval = 500 * time.Millisecond
	groupTimeout  = 2 * time.Second
	watchTimeout  = time.Second
	stableFor     = 2 * time.Second // of reporting and following the log, before a node votes
	tellFor       = 2 * time.Second // between a node's removal and its end in the group: it learns of the removal from the log
)

// grouper changes the Raft group, one server at a time, while this node leads. It is
// of one term and one goroutine.
type grouper struct {
	o       Options
	at      time.Time // of the last look
	busy    *atomic.Bool
	removed map[pgcluster.NodeID]time.Time // servers that are no members: since when they are known as such
	there   map[pgcluster.NodeID]bool      // who answered when it was last asked: members only are

	mu     *sync.Mutex
	stable map[pgcluster.NodeID]following
}

// following is how well a server that does not vote keeps up.
type following struct {
	since  time.Time
	target uint64 // index that it must have applied
	seen   uint64 // index that it has
}

func newGrouper(o Options) grouper {
	return grouper{
		o: o, busy: new(atomic.Bool), mu: new(sync.Mutex),
		removed: map[pgcluster.NodeID]time.Time{}, there: map[pgcluster.NodeID]bool{}, stable: map[pgcluster.NodeID]following{},
	}
}

// tend looks now and then whether the group is that of s, which has the given index,
// and takes a step if it is not. The step runs in wg.
func (g *grouper) tend(ctx context.Context, s failover.State, index uint64, v failover.View, wg *sync.WaitGroup) {
	now := time.Now()
	if len(s.Members) == 0 || now.Sub(g.at) < groupInterval || !g.busy.CompareAndSwap(false, true) {
		return
	}
	g.at = now
	servers := g.o.Group.Servers()
	g.noteRemoved(servers, s, now)
	for _, m := range s.Members {
		o, reports := v.Reports[m.ID]
		g.there[m.ID] = reports && v.Now-o.At < g.o.Policy.Silence
	}
	answers := func(id pgcluster.NodeID) bool { there, asked := g.there[id]; return there || !asked }
	told := func(id pgcluster.NodeID) bool { return now.Sub(g.removed[id]) >= tellFor }
	change, found := failover.NextGroupChange(servers, s.Members, g.o.Self, g.isStable(now, v), told, answers)
	wg.Go(func() {
		defer g.busy.Store(false)
		g.watch(ctx, servers, index)
		if found {
			stepCtx, cancel := context.WithTimeout(ctx, groupTimeout)
			defer cancel()
			g.take(stepCtx, change, servers, s)
		}
	})
}

// noteRemoved keeps the time at which each server was first seen to be no member.
func (g *grouper) noteRemoved(servers []failover.Server, s failover.State, now time.Time) {
	for _, srv := range servers {
		if _, member := s.Member(srv.ID); member {
			delete(g.removed, srv.ID)
		} else if _, noted := g.removed[srv.ID]; !noted {
			g.removed[srv.ID] = now
		}
	}
}

// isStable returns whether a node has been reporting and following the log for long
// enough to vote.
func (g *grouper) isStable(now time.Time, v failover.View) func(pgcluster.NodeID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	stable := map[pgcluster.NodeID]bool{}
	for id, f := range g.stable {
		o, reports := v.Reports[id]
		stable[id] = reports && v.Now-o.At < g.o.Policy.Silence && f.seen >= f.target && now.Sub(f.since) >= stableFor
	}
	return func(id pgcluster.NodeID) bool { return stable[id] }
}

// watch asks the servers that do not vote how far they are, all at once: one that
// hangs must not keep another from voting.
func (g *grouper) watch(ctx context.Context, servers []failover.Server, index uint64) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, srv := range servers {
		if srv.Voter {
			continue
		}
		wg.Go(func() {
			who, err := g.o.Nodes.Identity(ctx, srv.ID)
			g.noteFollowing(srv.ID, index, who.Applied, err == nil && who.Node == srv.ID)
		})
	}
}

// noteFollowing keeps how far a server is. Who does not answer, or has not got to where
// the log was when it first answered, begins anew.
func (g *grouper) noteFollowing(id pgcluster.NodeID, index, applied uint64, answered bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f, known := g.stable[id]
	switch {
	case !answered:
		delete(g.stable, id)
		return
	case !known:
		f.target, f.since = index, time.Now()
	case f.seen < f.target:
		f.since = time.Now()
	}
	f.seen = applied
	g.stable[id] = f
}

func (g *grouper) take(ctx context.Context, c failover.GroupChange, servers []failover.Server, s failover.State) {
	var err error
	if c.Step == failover.GroupLeave {
		err = g.leave(ctx, servers, s)
	} else {
		err = g.o.Group.ChangeGroup(ctx, c)
	}
	if ctx.Err() != nil && err != nil {
		return // the term has ended, or the next look tells
	}
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
	}
	g.o.Logger.Log(ctx, level, "Raft group changed", "step", c.Step, "node", c.Server.ID, "error", err)
}

// leave hands leadership to the first member that takes it.
func (g *grouper) leave(ctx context.Context, servers []failover.Server, s failover.State) error {
	err := failover.ErrNotLeader
	for _, srv := range servers {
		if _, member := s.Member(srv.ID); !member || !srv.Voter {
			continue
		}
		if err = g.o.Leadership.TransferLeadership(ctx, srv.ID); err == nil {
			return nil
		}
	}
	return err
}
