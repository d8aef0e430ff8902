package xpd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/internal/problem"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/pool"
)

const (
	removalCheck = time.Second // between questions to the others whether this node is still a member
	removalAsk   = 700 * time.Millisecond
	removalStop  = 10 * time.Second
	removalAgain = time.Second // between orders to stop that are not accepted

	rememberAgain = 10 * time.Second
)

// errRemoved is why a node that is no member any more serves nothing.
var errRemoved = errors.New("this node was removed from the cluster; its data can be deleted")

// membership brings what the members have agreed on to the parts of this node.
type membership struct {
	removed atomic.Bool
	agreed  atomic.Pointer[failover.State] // nil: what this node knows of it is not read yet
	compare sync.Once                      // of the command line with what was agreed on
}

// banned reports whether id is known to be no member any more. Nobody gets in before this
// node has read what it knows, milliseconds after it has begun to listen.
func (m *membership) banned(id pgcluster.NodeID) bool {
	s := m.agreed.Load()
	return s == nil || s.Removed(id)
}

// remember sees that this node knows who was removed as soon as it starts again: of what
// is only in the log it hears from the others that it counts. kept is what it knew as it
// started, before it heard of more.
func (d *daemon) remember(ctx context.Context, kept []pgcluster.NodeID) error {
	for {
		state, index := d.raft.State()
		changed := d.raft.Changed(index)
		if !slices.Equal(state.Gone, kept) {
			if err := d.raft.Snapshot(); err == nil {
				kept = state.Gone
			} else {
				d.Logger.InfoContext(ctx, "who was removed is in the log only, will retry", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(rememberAgain):
		}
	}
}

// follow applies each agreed state as soon as it is applied on this node: to whom the
// pools connect and where they point, whom the nodes' client knows, and how
// PostgreSQL is configured.
func (d *daemon) follow(ctx context.Context) error {
	for !d.membership.removed.Load() {
		state, index := d.raft.State()
		changed := d.raft.Changed(index)
		d.membership.agreed.Store(&state)
		if len(state.Members) > 0 {
			d.membership.compare.Do(func() { d.compareMembers(ctx, state) })
			d.nodes.SetMembers(state.Members)
			d.pools.SetMembers(state.Members)
			d.agent.Configure(state.Config())
		}
		d.pools.Retarget(pool.Target{
			Node: state.Primary.Node, Epoch: state.Primary.Epoch, Open: state.Primary.Access == failover.AccessOpen,
			Timeline: state.Lineage.Current(),
		})
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(removalCheck):
			if d.missed(state) && d.wasRemoved(ctx, state, index, changed) {
				return d.leave(ctx, state)
			}
		}
	}
	<-ctx.Done()
	return nil
}

// compareMembers tells of a command line that does not say what was agreed on.
func (d *daemon) compareMembers(ctx context.Context, s failover.State) {
	if d.raft.Fresh() {
		return
	}
	if agreed, ok := s.Member(d.Node); ok && agreed.HTTPAddr()+agreed.RaftAddr()+agreed.PGAddr() != d.self.HTTPAddr()+d.self.RaftAddr()+d.self.PGAddr() {
		d.Logger.WarnContext(ctx, "the cluster knows this node at other addresses than --cluster says; it listens at the latter",
			"cluster", agreed.String(), "here", d.self.String())
	}
	if here, agreed := pgcluster.FormatMembers(d.Members), pgcluster.FormatMembers(s.Members); !d.Join && here != agreed {
		d.Logger.InfoContext(ctx, "--cluster is not what the members have agreed on since; what they agreed on counts",
			"here", here, "agreed", agreed)
	}
}

// missed reports whether there is reason to ask whether this node is still a member:
// it is not in the state, or hears no leader that could tell.
func (d *daemon) missed(s failover.State) bool {
	_, member := s.Member(d.Node)
	return len(s.Members) > 0 && (!member || d.raft.Leader() == "")
}

// wasRemoved reports whether a member has applied what this node has, or more, and
// knows this node as no member. States are ordered: so it was one and is one no more,
// even if the entry that removed it never got here.
// It asks all at once, and gives up as soon as changed is closed: what this node serves
// from must not wait for nodes that are lost.
func (d *daemon) wasRemoved(ctx context.Context, s failover.State, index uint64, changed <-chan struct{}) bool {
	ctx, cancel := context.WithTimeout(ctx, removalAsk)
	defer cancel()
	answers := make(chan bool, len(s.Members)) // room for all: nobody waits for a reader that has gone
	asked := 0
	for _, m := range s.Members {
		if m.ID == d.Node {
			continue
		}
		asked++
		go func() {
			who, err := d.nodes.IdentityAt(ctx, m)
			answers <- err == nil && outvoted(d.Node, s.SystemID, index, who)
		}()
	}
	for range asked {
		select {
		case <-changed:
			return false
		case removed := <-answers:
			if removed {
				return true
			}
		}
	}
	return false
}

// outvoted reports whether who knows that self is no member any more.
func outvoted(self pgcluster.NodeID, system string, index uint64, who pgcluster.Identity) bool {
	if who.Cluster != system || who.Applied < index || len(who.Members) == 0 {
		return false
	}
	return !slices.Contains(who.Members, self)
}

// leave ends this node's part in the cluster: its PostgreSQL is stopped and nothing is
// served. It returns when ctx ends.
func (d *daemon) leave(ctx context.Context, s failover.State) error {
	d.membership.removed.Store(true)
	d.Logger.ErrorContext(ctx, "this node was removed from the cluster: PostgreSQL is stopped and nothing is served; "+
		"stop xpd, and delete the folder when its data is not needed any more", "folder", d.Dir)
	t := d.pools.Target()
	t.Open = false
	d.pools.Retarget(t)
	d.pools.SetMembers(nil)
	d.stopForGood(ctx, s.SystemID)
	<-ctx.Done()
	return nil
}

// stopForGood orders the local PostgreSQL to stop until the agent has accepted that, or ctx
// ends: its disk may be full, or an order of before may just have been newer.
func (d *daemon) stopForGood(ctx context.Context, system string) {
	for ctx.Err() == nil {
		err := d.stopPostgres(ctx, system)
		if err == nil {
			return
		}
		d.Logger.ErrorContext(ctx, "PostgreSQL was not stopped, will retry", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(removalAgain):
		}
	}
}

// stopPostgres orders the local agent to stop, as the newest order there is.
func (d *daemon) stopPostgres(ctx context.Context, system string) error {
	ctx, cancel := context.WithTimeout(ctx, removalStop)
	defer cancel()
	now, done := context.WithCancel(ctx)
	done()
	r := d.agent.Changed(now, 0)
	if r.Role == pgcluster.RoleNone {
		return nil
	}
	stamp := r.Pledged
	stamp.Index++
	if err := d.agent.Submit(ctx, pgcluster.Order{Node: d.Node, Kind: pgcluster.OrderStop, Stamp: stamp, SystemID: system}); err != nil {
		return fmt.Errorf("order to stop: %w", err)
	}
	return nil
}

// unlessRemoved refuses at once what only a member can answer, so that clients go on
// to the next node. What tells how this node is stays.
func (d *daemon) unlessRemoved(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.membership.removed.Load() || !strings.HasPrefix(r.URL.Path, "/v1/") || strings.HasPrefix(r.URL.Path, "/v1/node/") {
			next.ServeHTTP(w, r)
			return
		}
		p := problem.Problem{
			Kind:   problem.Kind{Slug: "removed", Title: "The node is no part of the cluster any more", Status: http.StatusServiceUnavailable},
			Detail: errRemoved.Error(),
		}
		_ = p.Write(w) // the client has gone: nobody is left to tell
	})
}
