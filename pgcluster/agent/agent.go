package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/internal/osuser"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Agent runs the PostgreSQL of one node. Its methods may be called at any time,
// from any goroutine; orders are carried out while Run runs.
type Agent struct {
	o       Options
	p       paths
	owner   owner
	state   *stateFile
	log     *slog.Logger
	metrics *metrics
	conf    *configuration

	wake     chan struct{} // an order was accepted
	kick     chan struct{} // probe now
	barriers chan barrier  // a commit that proves the sync rule
	slotting sync.Mutex    // held while slots are looked at and changed

	connects stall   // of new connections
	beats    flushes // of a primary's heartbeats to its disk
	streamed flushes // of what a standby receives to its disk

	watchers sync.WaitGroup // one for the server

	adopting   sync.Mutex // held while a server that runs already is looked for
	mu         sync.Mutex
	server     *server // nil while there is none
	order      pgcluster.Order
	accepted   uint64             // counts orders, so that a result is not given to another
	interrupt  context.CancelFunc // ends the attempt under way
	held       bool               // the server died after the order was done: wait for the next
	generation uint64             // grows when observations that are under way become void
	report     pgcluster.Report
	probed     time.Time     // when the server last answered; before that, when it came
	tried      time.Time     // when probe last asked it
	changed    chan struct{} // closed when report.Seq grows

	// Of the reconcile loop alone.
	work       *pgx.Conn
	workServer *server
	lastError  string
	lastReview string // error of the last review
	copies     backoff
	keyed      bool // the roles' passwords were found to be ours, or made so
}

// New prepares an agent. It reads the agent's saved state and touches nothing
// else; until Run has looked, the report says that PostgreSQL is starting.
func New(o Options) (*Agent, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	p, err := newPaths(o.Dir)
	if err != nil {
		return nil, err
	}
	cred, err := osuser.Credential(o.OSUser)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	state, err := loadState(p.state)
	if err != nil {
		return nil, err
	}
	if p.data, err = o.dataDir(p.data, state.get()); err != nil {
		return nil, err
	}
	a := &Agent{
		o: o, p: p, owner: owner{cred}, state: state,
		log:      o.Logger,
		metrics:  newMetrics(o.Registry),
		conf:     newConfiguration(state.get()),
		wake:     make(chan struct{}, 1),
		kick:     make(chan struct{}, 1),
		barriers: make(chan barrier, 1),
		changed:  make(chan struct{}),
		probed:   time.Now(),
		report:   pgcluster.Report{Node: o.Node, Process: pgcluster.ProcessStarting, Role: pgcluster.RoleNone},
	}
	state.get().report(&a.report)
	return a, nil
}

// Run adopts a running PostgreSQL or finds out how it ended, then carries out
// orders until ctx ends. It leaves PostgreSQL running unless StopOnExit is set,
// and returns after every goroutine that it started has ended.
func (a *Agent) Run(ctx context.Context) error {
	defer a.unwatch()
	if err := a.begin(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // we were asked to end
		}
		return err
	}
	var loops sync.WaitGroup
	loops.Go(func() { a.probe(ctx) })
	loops.Go(func() { a.heartbeat(ctx) })
	loops.Go(func() { a.knock(ctx) })
	loops.Go(func() { a.commitBarriers(ctx) })
	loops.Go(func() { a.retain(ctx) })
	loops.Go(func() { a.reconcile(ctx) })
	loops.Go(func() { a.keepConfig(ctx) })
	loops.Go(func() { a.keepCerts(ctx) })
	loops.Go(func() { a.lookAfter(ctx) })
	loops.Go(func() { a.watchDisks(ctx) })
	<-ctx.Done()
	if !a.o.StopOnExit {
		loops.Wait()
		return nil
	}
	a.publish(func(r *pgcluster.Report) { r.Stopping = true })
	loops.Wait()
	return a.stop(context.WithoutCancel(ctx), fastStop)
}

// begin makes the folders and takes over what is there.
func (a *Agent) begin(ctx context.Context) error {
	for _, dir := range []string{a.p.pg, a.p.conf, a.p.run, a.p.log, a.p.diverged} {
		if err := a.owner.mkdir(dir); err != nil {
			return fmt.Errorf("agent: make folder: %w", err)
		}
	}
	if err := a.checkDataDir(ctx); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if err := a.vet(ctx); err != nil {
		a.log.WarnContext(ctx, "settings not checked, will retry", "error", err)
	}
	a.reportSetAside()
	adopted, err := a.adopt(ctx)
	if err != nil {
		return fmt.Errorf("agent: find PostgreSQL: %w", err)
	}
	if s := a.running(); s != nil && s.foreign {
		return a.beginForeign(ctx)
	}
	if !adopted {
		if a.foreign() { // what runs there is not for us to kill
			a.beginStopped(ctx)
			return nil
		}
		if err := a.killOrphans(ctx); err != nil {
			return fmt.Errorf("agent: %w", err)
		}
		a.beginStopped(ctx)
		return nil
	}
	a.log.InfoContext(ctx, "adopted a running PostgreSQL", "pid", a.running().pid)
	if err := a.findFloors(ctx); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	// What was saved may not have been written when our predecessor ended.
	if err := a.apply(func(*settings) {}); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	c, err := a.readControl(ctx, a.p.data)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	a.publish(func(r *pgcluster.Report) { r.SystemID = c.SystemID })
	return nil
}

func (a *Agent) beginStopped(ctx context.Context) {
	d, err := a.inspect(ctx)
	// Broken data is reported, not a reason to leave the cluster.
	a.refreshStopped(ctx, err != nil || (d.role != pgcluster.RoleNone && !d.control.clean()), "")
}

// Submit accepts an order: it returns nil once the order's stamp is durable and
// the order has replaced the one before. Repeating an order changes nothing, but
// makes the agent try again if PostgreSQL has died since. It returns
// [pgcluster.ErrStaleOrder] for a stamp below the highest accepted and
// [pgcluster.ErrWrongSystem] if the data directory belongs to another cluster.
func (a *Agent) Submit(ctx context.Context, o pgcluster.Order) error {
	if err := a.checkOrder(o); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if a.repeated(o) {
		return nil
	}
	_, err := a.state.update(func(s *saved) error {
		if o.Stamp.Before(s.Pledged) {
			return fmt.Errorf("%w: %v, pledged %v", pgcluster.ErrStaleOrder, o.Stamp, s.Pledged)
		}
		s.Pledged = o.Stamp
		return nil
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if o.Stamp.Before(a.order.Stamp) {
		return fmt.Errorf("%w: overtaken", pgcluster.ErrStaleOrder)
	}
	resume := a.held
	a.held = false
	if sameGoal(o, a.order) && (o.Kind != pgcluster.OrderCheckpoint || !a.report.Order.Done) {
		// A new reason for what is under way or done: a clone need not start over.
		a.order = o
		a.publishLocked(func(r *pgcluster.Report) {
			a.state.get().report(r)
			r.Order.Stamp = o.Stamp
		})
		if resume {
			a.wakeUp()
		}
		return nil
	}
	a.order = o
	a.accepted++
	if a.interrupt != nil {
		a.interrupt()
	}
	a.publishLocked(func(r *pgcluster.Report) {
		a.state.get().report(r)
		r.Order = pgcluster.OrderStatus{Kind: o.Kind, Stamp: o.Stamp, Step: "accepted"}
		if o.Kind == pgcluster.OrderFollow {
			r.Order.Upstream, r.Order.Timeline, r.Order.Reclone, r.Order.Clone = o.Upstream, o.Lineage.Current(), o.Reclone, o.Clone
		}
	})
	a.wakeUp()
	return nil
}

// repeated reports whether o is the current order, and takes back the agent's
// reluctance to restart a server that died.
func (a *Agent) repeated(o pgcluster.Order) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !reflect.DeepEqual(o, a.order) {
		return false
	}
	if a.held {
		a.held = false
		a.wakeUp()
	}
	return true
}

// sameGoal reports whether two orders differ in nothing but when the epoch's
// leader gave them.
func sameGoal(x, y pgcluster.Order) bool {
	x.Stamp = pgcluster.Stamp{Epoch: x.Stamp.Epoch}
	y.Stamp = pgcluster.Stamp{Epoch: y.Stamp.Epoch}
	return reflect.DeepEqual(x, y)
}

func (a *Agent) wakeUp() {
	select {
	case a.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (a *Agent) checkOrder(o pgcluster.Order) error {
	if o.Node != a.o.Node {
		return fmt.Errorf("order is for node %q, this is %q", o.Node, a.o.Node)
	}
	switch o.Kind {
	case pgcluster.OrderInit, pgcluster.OrderRecruit, pgcluster.OrderLead, pgcluster.OrderCheckpoint, pgcluster.OrderStop,
		pgcluster.OrderRestart, pgcluster.OrderRest:
	case pgcluster.OrderFollow:
		if _, ok := a.member(o.Upstream); !ok || o.Upstream == a.o.Node {
			return fmt.Errorf("order to follow %q: not another member", o.Upstream)
		}
	default:
		return fmt.Errorf("order kind %q is unknown", o.Kind)
	}
	if own := a.Report().SystemID; o.SystemID != "" && own != "" && own != o.SystemID {
		return fmt.Errorf("%w: system id %s, ordered %s", pgcluster.ErrWrongSystem, own, o.SystemID)
	}
	return nil
}

const (
	retryInterval  = 200 * time.Millisecond
	reviewInterval = time.Second
)

// reconcile carries out the current order until ctx ends, again after a failure,
// and again when the node has slipped from it.
func (a *Agent) reconcile(ctx context.Context) {
	defer func() {
		if a.work != nil {
			closeConn(ctx, a.work)
		}
	}()
	pause := reviewInterval
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-time.After(pause):
		}
		pause = a.attempt(ctx)
	}
}

// attempt tries once to carry out the current order and returns when to look again.
func (a *Agent) attempt(ctx context.Context) time.Duration {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.mu.Lock()
	o, number, held := a.order, a.accepted, a.held
	idle := number == 0 || held || (a.report.Order.Done && satisfied(o, a.report))
	a.interrupt = cancel
	a.mu.Unlock()
	if idle {
		a.review(ctx, o)
		return reviewInterval
	}
	err := a.checkOrder(o) // again: the data may have come after the order
	if err == nil {
		err = a.settle(ctx)
	}
	if err == nil && o.Kind != pgcluster.OrderRest {
		err = a.takeOver(ctx, o)
	}
	if err == nil {
		err = a.carryOut(ctx, o)
	}
	if ctx.Err() != nil {
		return 0 // another order, or the end
	}
	a.metrics.attempt(o.Kind, err)
	a.finish(ctx, o.Kind, number, err)
	if err != nil {
		return retryInterval
	}
	return reviewInterval
}

// review mends what can slip without a report that shows it.
func (a *Agent) review(ctx context.Context, o pgcluster.Order) {
	r := a.Report()
	if !r.Order.Done || !r.Running() {
		return
	}
	var err error
	switch o.Kind {
	case pgcluster.OrderLead:
		err = a.serve(ctx, o.Stamp.Epoch)
	case pgcluster.OrderFollow, pgcluster.OrderRestart:
		var stopped bool
		if stopped, err = a.stopLacking(ctx); stopped {
			a.wakeUp() // to start it again
		}
	case pgcluster.OrderInit, pgcluster.OrderRecruit, pgcluster.OrderCheckpoint, pgcluster.OrderStop, pgcluster.OrderRest:
		return
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if ctx.Err() == nil && text != a.lastReview {
		a.lastReview = text
		a.log.WarnContext(ctx, "reviewed", "order", string(o.Kind), "error", text) // empty once all is in order again
	}
}

// settle waits for a server that somebody has asked to end.
func (a *Agent) settle(ctx context.Context) error {
	if s := a.running(); s != nil && s.asked.Load() {
		return a.stop(ctx, fastStop)
	}
	return nil
}

func (a *Agent) finish(ctx context.Context, kind pgcluster.OrderKind, number uint64, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != a.lastError && text != "" {
		a.log.WarnContext(ctx, "order not carried out, will retry", "order", string(kind), "error", err)
	}
	a.lastError = text
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.accepted != number {
		return
	}
	a.publishLocked(func(r *pgcluster.Report) {
		r.Order.Error = text
		r.Order.Done = err == nil
		if err == nil {
			r.Order.Step = "done"
		}
	})
}

// step tells people what the agent is doing.
func (a *Agent) step(what string) {
	a.publish(func(r *pgcluster.Report) {
		r.Order.Step = what
		r.Order.Done = false
	})
}

func (a *Agent) carryOut(ctx context.Context, o pgcluster.Order) error {
	switch o.Kind {
	case pgcluster.OrderInit:
		return a.initialize(ctx, o)
	case pgcluster.OrderRecruit:
		return a.recruit(ctx, o)
	case pgcluster.OrderLead:
		return a.lead(ctx, o)
	case pgcluster.OrderFollow:
		return a.follow(ctx, o)
	case pgcluster.OrderCheckpoint:
		return a.checkpoint(ctx)
	case pgcluster.OrderStop:
		return a.stopInOrder(ctx, o)
	case pgcluster.OrderRestart:
		return a.restart(ctx, o)
	case pgcluster.OrderRest:
		return nil
	default:
		return fmt.Errorf("order kind %q is unknown", o.Kind)
	}
}

// satisfied reports whether r shows what o asks for, of an order that was carried
// out before. Only orders that describe a lasting state can slip.
func satisfied(o pgcluster.Order, r pgcluster.Report) bool {
	switch o.Kind {
	case pgcluster.OrderLead:
		return r.Running() && r.Role == pgcluster.RolePrimary && r.SyncNames == o.Sync.Names()
	case pgcluster.OrderFollow:
		return r.Running() && r.Role == pgcluster.RoleStandby && r.Receiver.Streaming
	case pgcluster.OrderRecruit:
		return !r.Running() || r.Role != pgcluster.RolePrimary // promoted by hand
	case pgcluster.OrderInit, pgcluster.OrderCheckpoint, pgcluster.OrderStop, pgcluster.OrderRestart, pgcluster.OrderRest:
		return true
	default:
		return true
	}
}

// checkpoint makes a fast stop short.
func (a *Agent) checkpoint(ctx context.Context) error {
	a.step("checkpoint")
	conn, err := a.admin(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// errNoData is the answer to orders that need a data directory.
var errNoData = errors.New("there is no data directory")

// removeAll deletes a folder that a former attempt left behind.
func removeAll(path string) error {
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove leftovers: %w", err)
	}
	return nil
}
