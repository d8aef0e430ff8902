package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

// Log keeps the agreed state. Save returns failover.ErrStale unless the current
// state still has index base, failover.ErrNotLeader on a node that does not lead,
// and failover.ErrUncertain if it may yet be saved or not. Changed is closed once a newer state than after was applied here.
type Log interface {
	State() (s failover.State, index uint64)
	Save(ctx context.Context, base uint64, s failover.State) (index uint64, err error)
	Changed(after uint64) <-chan struct{}
}

// Leadership tells whether this node leads. A true of LeaderCh may follow a true
// if leadership was lost and won in between. Barrier returns the term in which
// this node leads and has applied all that was committed before.
type Leadership interface {
	LeaderCh() <-chan bool
	Barrier(ctx context.Context) (term uint64, err error)
	Term() uint64
	TransferLeadership(ctx context.Context, to pgcluster.NodeID) error
}

// Group is the servers of Raft. ChangeGroup takes one step towards the members.
type Group interface {
	Servers() []failover.Server
	ChangeGroup(ctx context.Context, c failover.GroupChange) error
}

// Options is what a Controller is made of. All fields are required.
type Options struct {
	Self       pgcluster.NodeID
	Members    []pgcluster.Member // agreed on at the first start; who is observed until then
	Policy     failover.Policy
	Log        Log
	Leadership Leadership
	Group      Group
	Nodes      Nodes
	Logger     *slog.Logger
	Registry   prometheus.Registerer
}

const (
	interval       = 100 * time.Millisecond // between looks when nothing wakes
	saveTimeout    = 2 * time.Second
	barrierTimeout = 5 * time.Second
	moveInterval   = 5 * time.Second // between attempts to move leadership
	moveTimeout    = 2 * time.Second
)

// Controller observes always and decides while this node leads.
type Controller struct {
	o        Options
	observer *observer
	metrics  *metrics
	term     atomic.Uint64 // in which this node decides; 0 while it does not

	movedAt time.Time // of the deciding loop alone, like the next two
	moves   int
	group   grouper
}

// New returns a Controller that does nothing until Run.
func New(o Options) *Controller {
	return &Controller{o: o, observer: newObserver(o), metrics: newMetrics(o.Registry, o.Log)}
}

// View returns what this node knows of the others at this moment.
func (c *Controller) View() failover.View { return c.observer.view() }

// Run observes, and follows the leadership, until ctx ends. Orders are given only
// between a true and the next false; it waits for the last one to end.
func (c *Controller) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.observer.run(ctx) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case leads := <-c.o.Leadership.LeaderCh():
			if leads {
				c.leadUntilLost(ctx)
			}
		}
	}
}

func (c *Controller) leadUntilLost(ctx context.Context) {
	leadCtx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { c.lead(leadCtx) })
	defer wg.Wait()
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case leads := <-c.o.Leadership.LeaderCh():
			if !leads {
				return
			}
		}
	}
}

// lead decides in one term after the other: leadership that was lost and won
// again, unseen, needs a new barrier and new stamps.
func (c *Controller) lead(ctx context.Context) {
	for ctx.Err() == nil {
		barrierCtx, cancel := context.WithTimeout(ctx, barrierTimeout)
		term, err := c.o.Leadership.Barrier(barrierCtx)
		cancel()
		if err == nil {
			c.decide(ctx, term)
			continue
		}
		if !errors.Is(err, failover.ErrNotLeader) && ctx.Err() == nil {
			c.o.Logger.WarnContext(ctx, "barrier failed, will retry", "error", err)
		}
		pause(ctx, interval)
	}
}

// decide runs the loop of one term until the term or ctx ends.
func (c *Controller) decide(ctx context.Context, term uint64) {
	ctx, stop := context.WithCancel(ctx)
	orders := newDispatcher(ctx, c.o, c.metrics)
	defer orders.wait()
	defer stop()
	c.o.Logger.InfoContext(ctx, "this node leads", "term", term)
	c.group = newGrouper(c.o)
	c.term.Store(term)
	c.metrics.leading.Set(1)
	defer func() {
		c.term.Store(0)
		c.metrics.leading.Set(0)
		c.o.Logger.InfoContext(ctx, "this node leads no more", "term", term)
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil && c.o.Leadership.Term() == term {
		index, changed, err := c.step(ctx, term, orders)
		switch {
		case errors.Is(err, failover.ErrNotLeader):
			return
		case changed, errors.Is(err, failover.ErrStale):
			continue
		case err != nil && ctx.Err() == nil:
			c.o.Logger.WarnContext(ctx, "decision not saved, will decide again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-c.observer.wake:
		case <-c.o.Log.Changed(index):
		}
	}
}

// step observes, decides, records and then acts, in that order. It returns the
// index of the state that it ended with, and whether that is a new one.
func (c *Controller) step(ctx context.Context, term uint64, orders *dispatcher) (index uint64, changed bool, err error) {
	prev, index := c.o.Log.State()
	view := c.View()
	next, todo := c.next(prev, view)
	if !reflect.DeepEqual(prev, next) {
		if index, err = c.save(ctx, index, prev, next); err != nil {
			return index, false, err
		}
		changed = true
	}
	for _, o := range todo {
		o.Stamp.Term, o.Stamp.Index = term, index
		orders.send(o)
	}
	c.moveLeadership(ctx, next, view, orders)
	c.group.tend(ctx, next, index, view, &orders.wg)
	return index, changed, nil
}

func (c *Controller) next(prev failover.State, view failover.View) (failover.State, []pgcluster.Order) {
	if len(prev.Members) == 0 {
		prev.Members = c.o.Members
		prev.Settings.Version = 1
		return prev, nil
	}
	return failover.Step(prev, view, c.o.Policy)
}

// save replaces prev, which has index base, and tells about it.
func (c *Controller) save(ctx context.Context, base uint64, prev, next failover.State) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	index, err := c.o.Log.Save(ctx, base, next)
	if err != nil {
		return base, err
	}
	c.record(ctx, prev, next)
	return index, nil
}

// moveLeadership hands Raft's leadership to a node that is better placed, if there is
// one: see failover.MoveLeadership.
func (c *Controller) moveLeadership(ctx context.Context, s failover.State, v failover.View, orders *dispatcher) {
	if time.Since(c.movedAt) < moveInterval {
		return
	}
	better, reason := failover.MoveLeadership(s, v, c.o.Policy, c.o.Self)
	better = c.voters(better)
	if len(better) == 0 {
		return
	}
	to := better[c.moves%len(better)] // another one if the last did not want it
	c.moves++
	c.movedAt = time.Now()
	orders.wg.Go(func() {
		moveCtx, cancel := context.WithTimeout(ctx, moveTimeout)
		defer cancel()
		err := c.o.Leadership.TransferLeadership(moveCtx, to)
		if err == nil {
			c.observer.moved()
			c.o.Logger.InfoContext(ctx, "leadership moves", "to", to, "reason", reason)
		} else if ctx.Err() == nil {
			c.o.Logger.WarnContext(ctx, "leadership stays here for now", "to", to, "reason", reason, "error", err)
		}
	})
}

// voters returns those of ids that may lead.
func (c *Controller) voters(ids []pgcluster.NodeID) []pgcluster.NodeID {
	if len(ids) == 0 {
		return nil
	}
	servers := c.o.Group.Servers()
	return slices.DeleteFunc(ids, func(id pgcluster.NodeID) bool {
		return !slices.ContainsFunc(servers, func(v failover.Server) bool { return v.ID == id && v.Voter })
	})
}

// Change replaces the agreed state by what f makes of it, and returns the new one
// once it is agreed on. f may be called several times and must only compute. Change
// fails with the error of f, with failover.ErrNotLeader on a node that does not lead,
// and with failover.ErrUncertain if leadership or ctx ended before it was agreed on.
func (c *Controller) Change(ctx context.Context, f func(failover.State, failover.View) (failover.State, error)) (failover.State, error) {
	for {
		if c.term.Load() == 0 {
			return failover.State{}, fmt.Errorf("change the cluster: %w", failover.ErrNotLeader)
		}
		prev, base := c.o.Log.State()
		if len(prev.Members) == 0 {
			return failover.State{}, fmt.Errorf("change the cluster: %w", failover.ErrNotLeader)
		}
		next, err := f(prev, c.View())
		if err != nil {
			return failover.State{}, err
		}
		if reflect.DeepEqual(prev, next) {
			return prev, nil
		}
		_, err = c.save(ctx, base, prev, next)
		switch {
		case err == nil:
			return next, nil
		case !errors.Is(err, failover.ErrStale):
			return failover.State{}, fmt.Errorf("change the cluster: %w", err)
		}
	}
}
