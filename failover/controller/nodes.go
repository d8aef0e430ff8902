package controller

import (
	"context"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Nodes reaches the agents of all members.
type Nodes interface {
	// Report returns the report of id as soon as its Seq differs from after, or
	// after wait as it then is.
	Report(ctx context.Context, id pgcluster.NodeID, after uint64, wait time.Duration) (pgcluster.Report, error)
	// Order returns once o.Node has accepted o, or pgcluster.ErrStaleOrder.
	Order(ctx context.Context, o pgcluster.Order) error
	// Identity returns who id is, and how much of the log it has applied.
	Identity(ctx context.Context, id pgcluster.NodeID) (pgcluster.Identity, error)
}

// Agent is the agent of this node, in this process.
type Agent interface {
	Submit(ctx context.Context, o pgcluster.Order) error
	// Changed returns the report as soon as its Seq is above after or ctx ends.
	Changed(ctx context.Context, after uint64) pgcluster.Report
}

// Reach is Nodes that needs no network for this node: what a node knows of itself
// must not depend on it.
type Reach struct {
	self   pgcluster.NodeID
	local  Agent
	others Nodes
}

// ShortCut returns a Reach that calls local for node self and others for the rest.
func ShortCut(self pgcluster.NodeID, local Agent, others Nodes) Reach {
	return Reach{self: self, local: local, others: others}
}

// Report implements Nodes.
func (r Reach) Report(ctx context.Context, id pgcluster.NodeID, after uint64, wait time.Duration) (pgcluster.Report, error) {
	if id != r.self {
		return r.others.Report(ctx, id, after, wait)
	}
	waitCtx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return r.local.Changed(waitCtx, after), ctx.Err()
}

// Order implements Nodes.
func (r Reach) Order(ctx context.Context, o pgcluster.Order) error {
	if o.Node != r.self {
		return r.others.Order(ctx, o)
	}
	return r.local.Submit(ctx, o)
}

// Identity implements Nodes. It is asked about others only.
func (r Reach) Identity(ctx context.Context, id pgcluster.NodeID) (pgcluster.Identity, error) {
	return r.others.Identity(ctx, id)
}
