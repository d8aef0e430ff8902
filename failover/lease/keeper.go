package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Nodes asks other nodes.
type Nodes interface {
	// Lease returns what id grants.
	Lease(ctx context.Context, id pgcluster.NodeID) (pgcluster.Grant, error)
	// Confirm returns nil if id has pledged to no epoch above epoch, and
	// pgcluster.ErrStaleOrder if it has.
	Confirm(ctx context.Context, id pgcluster.NodeID, epoch uint64) error
}

// Options is what a Keeper is made of. All fields but Now are required.
type Options struct {
	Self    pgcluster.NodeID
	State   func() (s failover.State, index uint64) // as applied on this node
	Changed func(after uint64) <-chan struct{}      // closed once a newer state was applied
	Leader  func() pgcluster.NodeID                 // of Raft; "" if unknown
	// Verify returns nil if this node leads Raft at a moment after the call and has
	// applied all that was agreed on before.
	Verify   func(ctx context.Context) error
	Report   func() pgcluster.Report // of this node's agent
	Nodes    Nodes
	Now      func() time.Duration // Boottime if nil
	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// Bounds of one attempt to renew.
const (
	patience = 300 * time.Millisecond // with the leader, before everybody is asked
	attempt  = time.Second
)

// errNone is the answer of a node that has nothing to grant.
var errNone = errors.New("this node holds no lease that it could pass on")

// Keeper keeps the lease of one node. Its methods may be called by several
// goroutines at once.
type Keeper struct {
	o       Options
	metrics *metrics

	mu      sync.Mutex
	lease   Lease
	renewed chan struct{} // closed and replaced whenever a waiter should look again
}

// New returns a Keeper that holds nothing until Run.
func New(o Options) *Keeper {
	if o.Now == nil {
		o.Now = Boottime
	}
	k := &Keeper{o: o, renewed: make(chan struct{})}
	k.metrics = newMetrics(o.Registry, func() float64 { return k.Left().Seconds() })
	return k
}

// Run keeps the lease until ctx ends: it renews at every Interval, and at once when
// the agreed state changes.
func (k *Keeper) Run(ctx context.Context) error {
	held := true // so that the first failure is told
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		_, index := k.o.State()
		changed := k.o.Changed(index)
		err := k.renew(ctx)
		if now := k.Left() > 0; now != held && ctx.Err() == nil {
			held = now
			k.tell(ctx, held, err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-changed:
			k.wake() // whether writes need the lease may have changed
		}
	}
	return nil
}

func (k *Keeper) tell(ctx context.Context, held bool, err error) {
	l := k.current()
	if held {
		k.o.Logger.InfoContext(ctx, "lease held", "epoch", l.Epoch, "source", string(l.Source))
		return
	}
	k.o.Logger.WarnContext(ctx, "no lease: what this node knows of the primary may be out of date", "epoch", l.Epoch, "error", err)
}

// current returns the lease as it is.
func (k *Keeper) current() Lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lease
}

// Left returns how much is left of the lease of the epoch that this node knows as
// the present one.
func (k *Keeper) Left() time.Duration {
	s, _ := k.o.State()
	return k.current().Left(k.o.Now(), s.Primary.Epoch)
}

// Until returns when the lease of the present epoch ends, by Boottime; what is past
// if it has ended.
func (k *Keeper) Until() time.Duration {
	s, _ := k.o.State()
	l := k.current()
	if l.Epoch != s.Primary.Epoch {
		return 0
	}
	return l.Until
}

// Awaits returns nil if work on the primary of epoch may be answered now: for reads
// while the lease of that epoch is held, for writes also without one unless the
// primary acknowledges alone. Otherwise it returns a channel that is closed when it
// is time to ask again.
func (k *Keeper) Awaits(epoch uint64, writes bool) <-chan struct{} {
	s, _ := k.o.State()
	now := k.o.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if writes && !alone(s) && !k.lease.Alone || k.lease.Left(now, epoch) > 0 {
		return nil
	}
	return k.renewed
}

// alone reports whether commits wait for nobody in s, or may soon.
func alone(s failover.State) bool {
	if s.Primary.Access != failover.AccessOpen {
		return false
	}
	return s.Sync.Durable.K == 0 || s.Sync.Pending != nil && s.Sync.Pending.K == 0
}

// take renews the lease by a grant that was asked for at a moment, and reports whether
// it lasts longer now.
func (k *Keeper) take(asked time.Duration, g pgcluster.Grant) (extended bool) {
	k.mu.Lock()
	next := k.lease.Renewed(asked, g)
	extended = next.Until > k.lease.Until || next.Epoch != k.lease.Epoch
	k.lease = next
	k.mu.Unlock()
	if extended {
		k.metrics.renewed(g.Source)
		k.wake()
	}
	return extended
}

func (k *Keeper) wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.renewed)
	k.renewed = make(chan struct{})
}

// Grant answers a node that asks for a lease: in full if this node leads Raft, out of
// its own lease if it has the primary. Otherwise the error wraps
// failover.ErrNotLeader.
func (k *Keeper) Grant(ctx context.Context) (pgcluster.Grant, error) {
	err := k.o.Verify(ctx)
	if err == nil {
		s, _ := k.o.State()
		return pgcluster.Grant{Epoch: s.Primary.Epoch, For: Length, Alone: alone(s), Source: pgcluster.GrantLeader}, nil
	}
	r, l := k.o.Report(), k.current()
	left := l.Left(k.o.Now(), r.Led)
	if left > 0 && leads(r) {
		return pgcluster.Grant{Epoch: l.Epoch, For: left, Alone: l.Alone, Source: pgcluster.GrantPrimary}, nil
	}
	return pgcluster.Grant{}, fmt.Errorf("%w: %w", failover.ErrNotLeader, errNone)
}

// leads reports whether the agent has a primary that is open in the epoch it pledged
// to last.
func leads(r pgcluster.Report) bool {
	return r.Running() && r.Role == pgcluster.RolePrimary && r.Led > 0 && r.Open == r.Led && r.Pledged.Epoch == r.Led
}

// Confirm returns nil if this node has pledged to no epoch above epoch, and
// pgcluster.ErrStaleOrder if it has.
func (k *Keeper) Confirm(epoch uint64) error {
	if p := k.o.Report().Pledged.Epoch; p > epoch {
		return fmt.Errorf("%w: epoch %d is confirmed no more, pledged to %d", pgcluster.ErrStaleOrder, epoch, p)
	}
	return nil
}
