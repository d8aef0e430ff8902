package controller

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Paces of observing.
const (
	longPoll   = 250 * time.Millisecond // how long a node keeps a question open
	shortPoll  = 25 * time.Millisecond  // the same during an operation, where positions count, too
	askTimeout = time.Second            // then the connection is given up
	askAgain   = 50 * time.Millisecond  // after an error
	heartbeat  = 100 * time.Millisecond // of the observer itself
	starved    = 700 * time.Millisecond // without a beat for so long, this process did not run
)

// observer keeps what this node knows of all members.
type observer struct {
	members []pgcluster.Member
	nodes   Nodes
	state   func() (failover.State, uint64)
	logger  *slog.Logger
	start   time.Time     // that durations count from; carries the monotonic clock
	wake    chan struct{} // holds at most one signal: look again

	mu       sync.Mutex
	beat     time.Duration // when this process was last seen to run
	since    time.Duration
	reports  map[pgcluster.NodeID]failover.Observation
	streamed map[pgcluster.NodeID]time.Duration
	epoch    uint64 // that streamed is about
	phase    phaseKey
	phaseAt  time.Duration
}

// phaseKey tells phases of operations apart.
type phaseKey struct {
	op, epoch uint64
	phase     failover.Phase
}

func newObserver(o Options) *observer {
	return &observer{
		members: o.Members, nodes: o.Nodes, state: o.Log.State, logger: o.Logger,
		start: time.Now(), wake: make(chan struct{}, 1),
		reports:  map[pgcluster.NodeID]failover.Observation{},
		streamed: map[pgcluster.NodeID]time.Duration{},
	}
}

// run observes until ctx ends.
func (o *observer) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, m := range o.members {
		wg.Go(func() { o.follow(ctx, m.ID) })
	}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s, _ := o.state()
			o.mu.Lock()
			o.advance(s)
			o.mu.Unlock()
		}
	}
}

// follow keeps the report of one node fresh.
func (o *observer) follow(ctx context.Context, id pgcluster.NodeID) {
	var seq uint64
	reachable := true
	for ctx.Err() == nil {
		s, _ := o.state()
		wait := longPoll
		if s.Op != nil {
			wait = shortPoll
		}
		askCtx, cancel := context.WithTimeout(ctx, askTimeout)
		r, err := o.nodes.Report(askCtx, id, seq, wait)
		cancel()
		if err != nil {
			if reachable && ctx.Err() == nil {
				o.logger.WarnContext(ctx, "node does not report", "node", id, "error", err)
			}
			reachable, seq = false, 0 // its agent may start to count anew
			pause(ctx, askAgain)
			continue
		}
		if !reachable {
			o.logger.InfoContext(ctx, "node reports again", "node", id)
		}
		important := !reachable || r.Seq != seq || s.Op != nil
		reachable, seq = true, r.Seq
		o.store(id, r)
		if important {
			select {
			case o.wake <- struct{}{}:
			default:
			}
		}
	}
}

func (o *observer) store(id pgcluster.NodeID, r pgcluster.Report) {
	s, _ := o.state()
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.advance(s)
	o.reports[id] = failover.Observation{Report: r, At: now}
	if id != s.Primary.Node || r.Role != pgcluster.RolePrimary {
		return
	}
	for _, sender := range r.Senders {
		if sender.Streaming {
			o.streamed[sender.Node] = now
		}
	}
}

// advance returns the present moment, after bringing what depends on it and on s
// up to date. o.mu is held.
func (o *observer) advance(s failover.State) time.Duration {
	now := time.Since(o.start)
	if now-o.beat > starved {
		// Whoever was silent meanwhile may have been talking to a sleeper.
		o.since, o.phaseAt = now, now
	}
	o.beat = now
	if key := phaseOf(s); key != o.phase {
		o.phase, o.phaseAt = key, now
	}
	if s.Primary.Epoch != o.epoch {
		// Nobody has had the time yet to stream from the new primary.
		o.epoch = s.Primary.Epoch
		for _, m := range o.members {
			o.streamed[m.ID] = now
		}
	}
	return now
}

func phaseOf(s failover.State) phaseKey {
	if s.Op == nil {
		return phaseKey{}
	}
	return phaseKey{op: s.Op.ID, epoch: s.Op.Epoch, phase: s.Op.Phase}
}

// view returns what is known at this moment.
func (o *observer) view() failover.View {
	s, _ := o.state()
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.advance(s)
	return failover.View{
		Now:        now,
		Wall:       time.Now().UTC().Round(0), // as it will read back from the log
		Since:      o.since,
		Reports:    maps.Clone(o.reports),
		PhaseSince: o.phaseAt,
		Streamed:   maps.Clone(o.streamed),
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
