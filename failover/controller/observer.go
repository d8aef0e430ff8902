package controller

import (
	"context"
	"log/slog"
	"maps"
	"slices"
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
	maxOpened  = 30                     // failovers that are remembered
	longAgo    = time.Hour              // long after they count for anything
	starved    = 700 * time.Millisecond // without a beat for so long, this process did not run
)

// observer keeps what this node knows of all members.
type observer struct {
	first  []pgcluster.Member // until a state says who is observed
	nodes  Nodes
	log    Log
	logger *slog.Logger
	start  time.Time     // that durations count from; carries the monotonic clock
	wake   chan struct{} // holds at most one signal: look again

	mu       sync.Mutex
	beat     time.Duration // when this process was last seen to run
	since    time.Duration
	reports  map[pgcluster.NodeID]failover.Observation
	streamed map[pgcluster.NodeID]time.Duration
	epoch    uint64 // that streamed is about
	phase    phaseKey
	phaseAt  time.Duration
	known    map[pgcluster.NodeID]bool // members
	newest   uint64                    // epoch that was seen
	opened   []time.Duration           // when epochs of failovers opened, oldest first
	movedAt  time.Duration             // when this node gave the leadership away
}

// phaseKey tells phases of operations apart.
type phaseKey struct {
	op, epoch uint64
	phase     failover.Phase
	to        pgcluster.NodeID // whose turn it is to be restarted
}

func newObserver(o Options) *observer {
	known := map[pgcluster.NodeID]bool{}
	for _, m := range o.Members {
		known[m.ID] = true
	}
	return &observer{
		first: o.Members, nodes: o.Nodes, log: o.Log, logger: o.Logger,
		start: time.Now(), wake: make(chan struct{}, 1),
		reports:  map[pgcluster.NodeID]failover.Observation{},
		streamed: map[pgcluster.NodeID]time.Duration{},
		known:    known,
	}
}

// run observes the members, as the agreed state names them, until ctx ends.
func (o *observer) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	following := map[pgcluster.NodeID]context.CancelFunc{}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		s, index := o.log.State()
		members := s.Members
		if len(members) == 0 {
			members = o.first
		}
		o.setMembers(members)
		for _, m := range members {
			if following[m.ID] == nil {
				followCtx, stop := context.WithCancel(ctx)
				following[m.ID] = stop
				wg.Go(func() { o.follow(followCtx, m.ID) })
			}
		}
		for id, stop := range following {
			if !slices.ContainsFunc(members, func(m pgcluster.Member) bool { return m.ID == id }) {
				stop()
				delete(following, id)
			}
		}
		select {
		case <-ctx.Done():
			for _, stop := range following {
				stop()
			}
			return
		case <-o.log.Changed(index):
		case <-tick.C:
		}
		s, _ = o.log.State()
		o.mu.Lock()
		o.advance(s)
		o.mu.Unlock()
	}
}

// setMembers forgets who is no member any more. Who is new has not had the time to
// stream from the primary.
func (o *observer) setMembers(members []pgcluster.Member) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Since(o.start)
	old := o.known
	o.known = make(map[pgcluster.NodeID]bool, len(members))
	for _, m := range members {
		o.known[m.ID] = true
		if !old[m.ID] {
			o.streamed[m.ID] = now
		}
	}
	for id := range old {
		if !o.known[id] {
			delete(o.reports, id)
			delete(o.streamed, id)
		}
	}
}

// follow keeps the report of one node fresh.
func (o *observer) follow(ctx context.Context, id pgcluster.NodeID) {
	var seq uint64
	reachable := true
	for ctx.Err() == nil {
		s, _ := o.log.State()
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
	s, _ := o.log.State()
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.advance(s)
	if !o.known[id] {
		return // it was removed while it answered
	}
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
	o.noteOpened(s, now)
	if s.Primary.Epoch != o.epoch {
		// Nobody has had the time yet to stream from the new primary.
		o.epoch = s.Primary.Epoch
		for id := range o.known {
			o.streamed[id] = now
		}
	}
	return now
}

// noteOpened keeps the times at which failovers ended. A process that has just started
// learns of all of them at once, so the time in the history counts, by which such a
// failover may be older than it seems; a clock that goes wrong makes none last longer.
func (o *observer) noteOpened(s failover.State, now time.Duration) {
	if s.Primary.Epoch <= o.newest {
		return
	}
	for _, e := range s.History {
		if e.Epoch <= o.newest || e.Kind != string(failover.KindFailover) {
			continue
		}
		at := now - min(max(0, time.Since(e.At)), longAgo)
		if n := len(o.opened); n > 0 {
			at = max(at, o.opened[n-1])
		}
		o.opened = append(o.opened, at)
	}
	o.newest = s.Primary.Epoch
	if over := len(o.opened) - maxOpened; over > 0 {
		o.opened = slices.Delete(o.opened, 0, over)
	}
}

// moved notes that this node gave the leadership away.
func (o *observer) moved() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.movedAt = time.Since(o.start)
}

func phaseOf(s failover.State) phaseKey {
	if s.Op == nil {
		return phaseKey{}
	}
	return phaseKey{op: s.Op.ID, epoch: s.Op.Epoch, phase: s.Op.Phase, to: s.Op.To}
}

// view returns what is known at this moment.
func (o *observer) view() failover.View {
	s, _ := o.log.State()
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
		Opened:     slices.Clone(o.opened),
		Moved:      o.movedAt,
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
