package xpd

import (
	"context"
	"errors"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/failover/lease"
	"github.com/xpd-platform/xpd/pgcluster"
)

// errNoLease is returned while another primary may have been opened that this node
// has not heard of.
var errNoLease = errors.New("this node has no lease: what it knows of the primary may be out of date")

// keepLease makes the keeper of this node's lease. It is asked for nothing before Raft
// is open.
func (d *daemon) keepLease() {
	d.lease = lease.New(lease.Options{
		Self:    d.Node,
		State:   func() (failover.State, uint64) { return d.raft.State() },
		Changed: func(after uint64) <-chan struct{} { return d.raft.Changed(after) },
		Leader:  func() pgcluster.NodeID { return d.raft.Leader() },
		Verify:  func(ctx context.Context) error { return d.raft.Verify(ctx) },
		Report:  d.agent.Report,
		Nodes:   d.nodes,
		Logger:  d.Logger, Registry: d.Registry,
	})
}

// leased is the agent, with what is left of the node's lease in its reports, and how long
// it has heard a Raft leader.
type leased struct {
	nodeAgent

	lease *lease.Keeper
	touch func() (leader, before time.Duration)
}

// reporting returns the agent as others see it. Raft is open by then.
func (d *daemon) reporting() leased { return leased{d.agent, d.lease, d.raft.Touch} }

// Changed is the agent's.
func (a leased) Changed(ctx context.Context, after uint64) pgcluster.Report {
	r := a.nodeAgent.Changed(ctx, after)
	r.LeaseLeft = a.lease.Left()
	r.LeaderFor, r.Leaderless = a.touch()
	return r
}
