package controller

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

const (
	orderTimeout = time.Second
	// orderRepeat is how soon an order that was accepted is sent once more if no
	// report shows its effect: the agent goes on by itself, unless it was restarted.
	orderRepeat = 250 * time.Millisecond
)

// dispatcher sends orders to each node one after the other, so that a slow node
// holds up nobody else. Of orders that wait for a node only the newest is kept.
type dispatcher struct {
	ctx    context.Context //nolint:containedctx // ends with the term that the dispatcher serves
	sender sender
	lanes  map[pgcluster.NodeID]chan pgcluster.Order
	wg     sync.WaitGroup
}

// newDispatcher returns a dispatcher that works until ctx ends.
func newDispatcher(ctx context.Context, o Options, m *metrics) *dispatcher {
	return &dispatcher{
		ctx: ctx, lanes: map[pgcluster.NodeID]chan pgcluster.Order{},
		sender: sender{nodes: o.Nodes, logger: o.Logger, metrics: m},
	}
}

// send never blocks. It must be called by one goroutine at a time, and before wait.
// Every node that was ever sent an order in this term has a lane: as many as the
// cluster had members.
func (d *dispatcher) send(o pgcluster.Order) {
	lane, known := d.lanes[o.Node]
	if !known {
		lane = make(chan pgcluster.Order, 1)
		d.lanes[o.Node] = lane
		s := d.sender
		d.wg.Go(func() { s.run(d.ctx, lane) })
	}
	select {
	case <-lane:
	default:
	}
	lane <- o
}

// wait returns when the orders under way have ended, after ctx has.
func (d *dispatcher) wait() { d.wg.Wait() }

// sender delivers the orders of one node.
type sender struct {
	nodes   Nodes
	logger  *slog.Logger
	metrics *metrics

	accepted   pgcluster.Order
	acceptedAt time.Time
	complaint  string // the last error, so that it is logged once
}

func (s *sender) run(ctx context.Context, lane <-chan pgcluster.Order) {
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-lane:
			if ctx.Err() == nil {
				s.deliver(ctx, o)
			}
		}
	}
}

func (s *sender) deliver(ctx context.Context, o pgcluster.Order) {
	if time.Since(s.acceptedAt) < orderRepeat && reflect.DeepEqual(o, s.accepted) {
		return
	}
	orderCtx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	err := s.nodes.Order(orderCtx, o)
	switch {
	case err == nil:
		s.metrics.orders.WithLabelValues(string(o.Kind), "accepted").Inc()
		s.accepted, s.acceptedAt, s.complaint = o, time.Now(), ""
		return
	case errors.Is(err, pgcluster.ErrStaleOrder):
		s.metrics.orders.WithLabelValues(string(o.Kind), "stale").Inc()
	default:
		s.metrics.orders.WithLabelValues(string(o.Kind), "failed").Inc()
	}
	if text := err.Error(); text != s.complaint && ctx.Err() == nil {
		s.complaint = text
		s.logger.WarnContext(ctx, "order not accepted, will repeat it",
			"node", o.Node, "order", o.Kind, "epoch", o.Stamp.Epoch, "error", err)
	}
}
