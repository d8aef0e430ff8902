package pool

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	tendInterval    = 250 * time.Millisecond
	maxTendInterval = time.Second

	// maxOpening bounds the sessions that callers open to a node at a time. The crowd
	// that waits for a new primary is served sooner by the few sessions that are there
	// than by as many new ones as it may have, each of which costs the server a process.
	maxOpening = 2
)

// A commit that writes, so that it waits for the standbys: an assigned
// transaction id alone would not.
const barrierSQL = "SELECT pg_logical_emit_message(true, 'xpd', '')"

// node is the connections to one PostgreSQL: at most one for each slot.
type node struct {
	addr    string
	config  *pgx.ConnConfig
	tls     func() *tls.Config // may be nil
	prepare func(ctx context.Context, c *pgx.Conn) error
	min     int
	slots   chan struct{} // holds one element for each session that is in use or being opened
	opening chan struct{} // holds one element for each session that a caller opens
	idled   chan struct{} // tells who waits for a session that one may have become idle
	gauge   prometheus.Gauge
	logger  *slog.Logger
	stop    context.CancelFunc // ends tend; nil while it does not run
	reach   reach

	mu      sync.Mutex
	idle    []*session // last used at the end
	open    map[*session]struct{}
	closed  bool
	gone    bool   // closed because the node is no member any more
	doubts  uint64 // tries that may have left rows which no standby has
	settled uint64 // doubts that a barrier has ended
}

// tryTake takes a slot if one is free.
func (n *node) tryTake() bool {
	select {
	case n.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// give returns a slot.
func (n *node) give() { <-n.slots }

// session returns a live session for a slot that the caller holds: an idle one,
// or a new one. The caller puts it back with put. It gives up once the target changes.
func (n *node) session(ctx context.Context, changed <-chan struct{}) (*session, error) {
	for {
		s := n.pop()
		if s == nil {
			select {
			case <-n.idled:
				continue
			case n.opening <- struct{}{}:
			case <-changed:
				return nil, errRetargeted
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			s, err := n.connect(ctx)
			<-n.opening
			return s, err
		}
		if s.dead() {
			n.drop(s)
			continue
		}
		if !s.prepared {
			if err := n.warm(ctx, s); err != nil {
				n.drop(s)
				return nil, err
			}
		}
		return s, nil
	}
}

func (n *node) pop() *session {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := len(n.idle) - 1
	if last < 0 {
		return nil
	}
	s := n.idle[last]
	n.idle[last] = nil
	n.idle = n.idle[:last]
	return s
}

// put ends the use of a session.
func (n *node) put(s *session) {
	if s.reusable() {
		n.mu.Lock()
		if !n.closed {
			n.idle = append(n.idle, s)
			n.mu.Unlock()
			select {
			case n.idled <- struct{}{}:
			default: // as many as may wait have been told
			}
			return
		}
		n.mu.Unlock()
	}
	n.drop(s)
}

// drop closes a session that nobody uses.
func (n *node) drop(s *session) {
	s.close()
	n.mu.Lock()
	delete(n.open, s)
	n.gauge.Set(float64(len(n.open)))
	n.mu.Unlock()
}

// connect opens a session for a slot that the caller holds.
func (n *node) connect(ctx context.Context) (*session, error) {
	s, err := openSession(ctx, n.config, n.tls)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	closed, gone := n.closed, n.gone
	n.open[s] = struct{}{}
	n.gauge.Set(float64(len(n.open)))
	n.mu.Unlock()
	if closed {
		n.drop(s)
		if gone {
			return nil, errRetargeted
		}
		return nil, ErrClosed
	}
	if err := n.warm(ctx, s); err != nil {
		n.drop(s)
		return nil, err
	}
	return s, nil
}

// warm prepares the statements. It fails only if that cost the connection.
func (n *node) warm(ctx context.Context, s *session) error {
	if n.prepare == nil {
		s.prepared = true
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	err := n.prepare(ctx, s.conn)
	switch {
	case err == nil:
		s.prepared = true
	case !s.reusable():
		return fmt.Errorf("prepare statements: %w", err)
	default:
		n.logger.DebugContext(ctx, "statements are not prepared yet", "error", err)
	}
	return nil
}

// cut closes every connection under whoever uses it.
func (n *node) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for s := range n.open {
		s.cutSocket()
	}
}

// close ends the node: idle sessions with a word to the server, others at once.
// If only this node is gone, work that meets its end is tried elsewhere.
func (n *node) close(gone bool) {
	n.mu.Lock()
	n.closed, n.gone = true, gone
	idle := n.idle
	n.idle = nil
	n.mu.Unlock()
	for _, s := range idle {
		n.drop(s)
	}
	n.cut()
}

// tend keeps the minimum of live, prepared sessions until ctx ends. It takes its time:
// a server that ends all its sessions is about to end, and who asks it for others then
// costs it a process for each refusal.
func (n *node) tend(ctx context.Context) {
	wait, reachable := tendInterval, true
	for {
		err := n.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		n.reach.note(err == nil)
		if (err == nil) != reachable {
			reachable = err == nil
			n.logger.InfoContext(ctx, "reachability of PostgreSQL changed", "reachable", reachable, "error", err)
		}
		if err == nil {
			wait = tendInterval
		} else {
			wait = min(2*wait, maxTendInterval)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// refresh looks at every idle session once, then opens what is missing.
func (n *node) refresh(ctx context.Context) error {
	for _, s := range n.takeUnfit() {
		if !s.dead() && n.warm(ctx, s) == nil {
			n.put(s)
		} else {
			n.drop(s)
		}
		n.give()
	}
	for n.size() < n.min && n.tryTake() {
		s, err := n.connect(ctx)
		if err == nil {
			n.put(s)
		}
		n.give()
		if err != nil {
			return err
		}
	}
	return nil
}

// takeUnfit takes the idle sessions that are dead or not prepared, with a slot for
// each.
func (n *node) takeUnfit() []*session {
	n.mu.Lock()
	defer n.mu.Unlock()
	var unfit []*session
	fit := n.idle[:0]
	for _, s := range n.idle {
		if (s.dead() || !s.prepared) && n.tryTake() {
			unfit = append(unfit, s)
		} else {
			fit = append(fit, s)
		}
	}
	clear(n.idle[len(fit):])
	n.idle = fit
	return unfit
}

func (n *node) size() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.open)
}

// doubt records that rows may be visible here which no standby has.
func (n *node) doubt() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.doubts++
}

// settle returns nil once everything that was visible on s is known to be on the
// standbys. That costs a round trip only after a doubt.
func (n *node) settle(ctx context.Context, s *session) error {
	n.mu.Lock()
	doubts, settled := n.doubts, n.settled
	n.mu.Unlock()
	if doubts == settled {
		return nil
	}
	if _, err := s.conn.Exec(ctx, barrierSQL); err != nil {
		return fmt.Errorf("confirm earlier commits: %w", err)
	}
	if s.unconfirmed.Load() {
		return errUnconfirmed
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settled = max(n.settled, doubts)
	return nil
}
