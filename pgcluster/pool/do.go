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
type Func func(ctx context.Context, c *pgx.Conn) error

// Do runs fn on the open primary, again and again after a change of primary, a
// lost connection, an unconfirmed commit or a conflict, until its answer is
// certain. It returns nil, the error of fn or of connecting that another try would
// not mend, ErrOverloaded, ErrClosed, or, when ctx ends, an error that wraps
// ctx.Err(), and ErrUnknown too if fn may have written something.
//
// The context of fn does not end with ctx, for no statement may be cancelled that
// could be a commit. After ErrUnknown or ErrClosed fn may still be running: the
// caller must not touch what fn writes to.
func (p *Pools) Do(ctx context.Context, fn Func) error {
	return p.repeat(ctx, func(ctx context.Context, st *state, n *node, s *session) error {
		done := make(chan error, 1)
		p.active.Go(func() { done <- p.try(context.WithoutCancel(ctx), st, n, s, fn) })
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ErrUnknown
		}
	})
}

// Read is Do for work that only reads: it runs in the caller's goroutine, with a
// context that ends with ctx, and has ended when Read returns. A statement that ctx
// ends is given up with its connection, and never cancelled on the server.
func (p *Pools) Read(ctx context.Context, fn Func) error {
	return p.repeat(ctx, func(ctx context.Context, st *state, n *node, s *session) error {
		return p.try(ctx, st, n, s, fn)
	})
}
