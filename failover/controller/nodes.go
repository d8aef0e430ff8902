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
}

// Agent is the agent of this node, in this process.
type Agent interface {
	Submit(ctx context.Context, o pgcluster.Order) error
	// Changed returns the report as soon as its Seq is above after or ctx ends.
	Changed(ctx context.Context, after uint64) pgcluster.Report
}

// ShortCut returns Nodes that calls local for node self and others for the rest:
// what a node knows of itself must not depend on its network.
func ShortCut(self pgcluster.NodeID, local Agent, others Nodes) Nodes {
	return shortCut{self: self, local: local, others: others}
}

type shortCut struct {
	self   pgcluster.NodeID
	local  Agent
	others Nodes
}

func (s shortCut) Report(ctx context.Context, id pgcluster.NodeID, after uint64, wait time.Duration) (pgcluster.Report, error) {
	if id != s.self {
		return s.others.Report(ctx, id, after, wait)
	}
	waitCtx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return s.local.Changed(waitCtx, after), ctx.Err()
}

func (s shortCut) Order(ctx context.Context, o pgcluster.Order) error {
	if o.Node != s.self {
		return s.others.Order(ctx, o)
	}
	return s.local.Submit(ctx, o)
}
