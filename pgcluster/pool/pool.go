package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Target is where writes go. While it is not open, work waits.
type Target struct {
	Node  pgcluster.NodeID
	Epoch uint64
	Open  bool
	// Timeline is the primary's in that epoch; 0 if unknown. Work runs only on
	// sessions that are of this timeline, or that turned writable with it.
	Timeline pgcluster.Timeline
}

// Options configures Pools.
type Options struct {
	Members  []pgcluster.Member
	Database string
	User     string
	Password string

	// TLS makes the configuration of one connection, but for the name of its server.
	// Nil: connections are not encrypted.
	TLS func() *tls.Config

	// Prepare prepares statements on a new connection, to a primary or to a hot
	// standby. While it fails with an error from the server, as it does before the
	// schema exists, the connection is used without, and Prepare is called again
	// before the next use. It must not write. May be nil.
	Prepare func(ctx context.Context, c *pgx.Conn) error

	MaxConns   int32 // to each node, which bounds the functions that run at a time
	MinConns   int32 // to each node, kept open and prepared
	MaxWaiting int   // callers that wait for an open primary or for a connection

	Lease Lease // nil: nothing waits for one

	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// Lease tells for how long this node may trust what it knows of the primary.
type Lease interface {
	// Awaits returns nil if work on the primary of epoch may be answered now, or else
	// a channel that is closed when it is time to ask again.
	Awaits(epoch uint64, writes bool) <-chan struct{}
}

func (o Options) validate() error {
	switch {
	case len(o.Members) == 0:
		return errors.New("pool: no members")
	case o.Database == "" || o.User == "":
		return errors.New("pool: database and user are required")
	case o.MaxConns < 1 || o.MinConns < 0 || o.MinConns > o.MaxConns:
		return fmt.Errorf("pool: min %d and max %d connections: want 0 <= min <= max and max >= 1", o.MinConns, o.MaxConns)
	case o.MaxWaiting < 0:
		return fmt.Errorf("pool: max waiting %d is negative", o.MaxWaiting)
	case o.Logger == nil || o.Registry == nil:
		return errors.New("pool: logger and registry are required")
	}
	return nil
}

// Pools holds connections to every member. All methods may be called
// concurrently.
type Pools struct {
	o          Options
	nodes      atomic.Pointer[map[pgcluster.NodeID]*node] // replaced as a whole by SetMembers
	maxWaiting int64
	logger     *slog.Logger
	metrics    *metrics

	state   atomic.Pointer[state]
	waiting atomic.Int64
	closed  chan struct{}

	mu     sync.Mutex  // orders Retarget and SetMembers calls, and the end against new callers
	keep   func(*node) // starts to tend a node; set while Run runs
	ended  bool
	active sync.WaitGroup // callers, and functions whose caller has gone
}

// state is a target with the sign that it is no longer current.
type state struct {
	Target

	changed chan struct{} // closed when another state replaces this one
}

// same reports whether work that ran under o would run in the same place now. A
// target that closes lets what runs finish, and its answers count.
func (s *state) same(o *state) bool { return s.Node == o.Node && s.Epoch == o.Epoch }

// New returns pools that hold all work until Retarget. It connects to nobody:
// Run does.
func New(o Options) (*Pools, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	p := &Pools{
		o:          o,
		maxWaiting: int64(o.MaxWaiting),
		logger:     o.Logger,
		closed:     make(chan struct{}),
	}
	p.metrics = newMetrics(o.Registry, func() float64 { return float64(p.waiting.Load()) })
	nodes, err := p.nodesOf(o.Members, nil)
	if err != nil {
		return nil, err
	}
	p.nodes.Store(&nodes)
	p.state.Store(&state{changed: make(chan struct{})})
	return p, nil
}

// Run keeps connections to every member, also to one that is down and comes back,
// until ctx ends. Then it closes all of them, those in use too, and returns when
// no function runs any more. Callers in Do get ErrClosed.
func (p *Pools) Run(ctx context.Context) error {
	var keepers sync.WaitGroup
	p.mu.Lock()
	p.keep = func(n *node) {
		keeperCtx, stop := context.WithCancel(ctx)
		n.stop = stop
		keepers.Go(func() { n.tend(keeperCtx) })
	}
	for _, n := range *p.nodes.Load() {
		p.keep(n)
	}
	p.mu.Unlock()
	<-ctx.Done()

	p.mu.Lock()
	p.ended, p.keep = true, nil
	p.mu.Unlock()
	keepers.Wait()
	close(p.closed)
	for _, n := range *p.nodes.Load() {
		n.close(false)
	}
	p.active.Wait()
	return nil
}

// Retarget points the pools to t at once. It is idempotent and ignores an epoch
// below the current one. If the node or the epoch changes, the connections to
// the node that was the target are closed, and what ran there runs again. If only
// Open becomes false, what runs goes on to its end and the rest waits.
func (p *Pools) Retarget(t Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.state.Load()
	if t == old.Target || t.Epoch < old.Epoch {
		return
	}
	next := &state{Target: t, changed: make(chan struct{})}
	p.state.Store(next)
	if n := p.node(old.Node); n != nil && !next.same(old) {
		n.cut()
	}
	close(old.changed)
	if t.Open {
		p.metrics.swaps.Inc()
	}
	p.logger.Info("pools point to another target", "node", string(t.Node), "epoch", t.Epoch, "open", t.Open)
}

// Target returns where writes go now.
func (p *Pools) Target() Target { return p.state.Load().Target }

// begin registers work that Run waits for, or reports that it is over.
func (p *Pools) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.active.Add(1)
	}
	return !p.ended
}
