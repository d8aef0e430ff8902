package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	firstBackoff = 20 * time.Millisecond
	maxBackoff   = 200 * time.Millisecond
)

// Func is work on a connection to the open primary. It may run several times,
// so it must be idempotent, and each run starts afresh. It must not keep the
// connection, and leaves no transaction open.
type Func = func(ctx context.Context, c *pgx.Conn) error

// Do runs fn on the open primary, again and again after a change of primary, a
// lost connection, an unconfirmed commit or a conflict, until its answer is
// certain. It returns nil, the error of fn or of connecting that another try would
// not mend, ErrOverloaded, ErrClosed, or, when ctx ends, an error that wraps
// ctx.Err(). The error wraps ErrUnknown too if fn may have written something.
//
// The context of fn does not end with ctx, for no statement may be cancelled that
// could be a commit. After ErrUnknown fn may still be running: the caller must not
// touch what fn writes to.
func (p *Pools) Do(ctx context.Context, fn Func) error {
	return p.repeat(ctx, true, func(w work) outcome {
		done := make(chan outcome, 1)
		p.active.Go(func() { done <- w.try(context.WithoutCancel(ctx), fn) })
		select {
		case o := <-done:
			return o
		case <-ctx.Done():
			return outcome{err: ctx.Err(), unsure: true}
		}
	})
}

// Read is Do for work that only reads: it runs in the caller's goroutine, with a
// context that ends with ctx, and has ended when Read returns. A statement that ctx
// ends is given up with its connection, and never cancelled on the server. Without a
// lease of the epoch it waits: the primary may have been replaced unnoticed.
func (p *Pools) Read(ctx context.Context, fn Func) error {
	return p.repeat(ctx, false, func(w work) outcome {
		o := w.try(ctx, fn)
		if o.err != nil && ctx.Err() != nil {
			return outcome{err: ctx.Err()}
		}
		return o
	})
}

// outcome is what one try came to.
type outcome struct {
	err    error
	retry  reason // set if another try may mend err
	unsure bool   // something may have been written
}

// repeat runs try until its outcome is final.
func (p *Pools) repeat(ctx context.Context, writes bool, try func(work) outcome) error {
	if !p.begin() {
		return ErrClosed
	}
	defer p.active.Done()
	var last outcome
	for backoff := firstBackoff; ; backoff = min(2*backoff, maxBackoff) {
		w, err := p.enter(ctx, writes, last.retry != reasonNone)
		if err != nil {
			return last.end(err)
		}
		o := p.run(ctx, w, try)
		if o.err == nil {
			return nil
		}
		o.unsure = o.unsure || last.unsure
		switch {
		case errors.Is(o.err, ErrClosed), ctx.Err() != nil && errors.Is(o.err, ctx.Err()):
			return outcome{err: last.err, unsure: o.unsure}.end(o.err)
		case o.retry == reasonNone:
			return o.err
		}
		p.metrics.retries.WithLabelValues(string(o.retry)).Inc()
		last = o
		if err := p.pause(ctx, w.state, backoff); err != nil {
			return last.end(err)
		}
	}
}

// end returns the error of a caller that gives up with err after the outcome.
func (o outcome) end(err error) error {
	if o.err != nil {
		err = fmt.Errorf("%w: last try: %w", err, o.err)
	}
	if o.unsure {
		err = fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return err
}

// work is a session on the node of a state, with the slot that goes with it.
type work struct {
	pools   *Pools
	state   *state
	node    *node
	session *session
	writes  bool
}

// enter waits for an open target, and a lease where that is needed, and takes a slot
// of the target's node. Newcomers are
// refused while too many callers wait; who has run already is not.
func (p *Pools) enter(ctx context.Context, writes, again bool) (work, error) {
	if err := ctx.Err(); err != nil {
		return work{}, err
	}
	st := p.state.Load()
	n, leased := p.openNode(st), p.awaits(st, writes) == nil
	if n != nil && leased && (again || p.waiting.Load() <= p.maxWaiting) && n.tryTake() {
		return work{pools: p, state: st, node: n, writes: writes}, nil
	}
	if waiting := p.waiting.Add(1); waiting > p.maxWaiting && !again {
		p.waiting.Add(-1)
		return work{}, ErrOverloaded
	}
	defer p.waiting.Add(-1)
	for {
		st := p.state.Load()
		n, renewed := p.openNode(st), p.awaits(st, writes)
		var slots chan<- struct{} // nil: blocks
		if n != nil && renewed == nil {
			slots = n.slots
		}
		select {
		case slots <- struct{}{}:
			return work{pools: p, state: st, node: n, writes: writes}, nil
		case <-st.changed:
		case <-renewed:
		case <-p.closed:
			return work{}, ErrClosed
		case <-ctx.Done():
			return work{}, ctx.Err()
		}
	}
}

// awaits returns nil if work in st may begin or be answered as far as the lease goes,
// or a channel that is closed when it is time to look again.
func (p *Pools) awaits(st *state, writes bool) <-chan struct{} {
	if p.o.Lease == nil {
		return nil
	}
	return p.o.Lease.Awaits(st.Epoch, writes)
}

// openNode returns the node that takes work, or nil.
func (p *Pools) openNode(st *state) *node {
	if !st.Open {
		return nil
	}
	return p.node(st.Node)
}

// run gets a session for a slot and tries.
func (p *Pools) run(ctx context.Context, w work, try func(work) outcome) outcome {
	s, err := w.node.session(ctx, w.state.changed)
	if err != nil {
		w.node.give()
		if ctx.Err() != nil {
			return outcome{err: ctx.Err()}
		}
		return outcome{err: err, retry: retryReason(err, !errors.Is(err, ErrClosed))}
	}
	if err := w.check(ctx, s); err != nil {
		w.node.put(s)
		w.node.give()
		if ctx.Err() != nil {
			return outcome{err: ctx.Err()}
		}
		return outcome{err: err, retry: retryReason(err, s.lost())}
	}
	// Only now that the session is known to its node does a later change of target
	// end it: an earlier one may have missed it.
	if !p.state.Load().same(w.state) {
		w.node.put(s)
		w.node.give()
		return outcome{err: errRetargeted, retry: reasonRetargeted}
	}
	w.session = s
	return try(w)
}

// check returns nil if s is a session on the primary of the work's epoch.
func (w work) check(ctx context.Context, s *session) error {
	serves, err := s.serves(ctx, w.state.Target)
	if err == nil && !serves {
		err = errOtherEpoch
	}
	return err
}

// try runs fn once and frees the session and its slot.
func (w work) try(ctx context.Context, fn Func) outcome {
	defer w.node.give()
	defer w.node.put(w.session)
	err := w.answer(ctx, fn)
	if err == nil {
		return outcome{}
	}
	o := outcome{err: err, retry: retryReason(err, w.session.lost())}
	if w.writes && !o.retry.certain() {
		o.unsure = true
		w.node.doubt()
	}
	return o
}

// answer returns nil if fn succeeded and everything that it wrote or saw is safe.
func (w work) answer(ctx context.Context, fn Func) error {
	w.session.unconfirmed.Store(false)
	err := fn(ctx, w.session.conn)
	switch {
	case w.session.unconfirmed.Load():
		return errUnconfirmed
	case err != nil:
		return err
	}
	if err := w.node.settle(ctx, w.session); err != nil {
		return err
	}
	if !w.pools.state.Load().same(w.state) {
		return errRetargeted
	}
	if w.pools.awaits(w.state, w.writes) != nil {
		return errNoLease // this process or its host may have slept since it looked
	}
	return nil
}

// pause waits for another target, but no longer than d. Who pauses counts as
// waiting.
func (p *Pools) pause(ctx context.Context, st *state, d time.Duration) error {
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-st.changed:
	case <-timer.C:
	case <-p.closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
