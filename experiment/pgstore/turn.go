package pgstore

import "context"

// turn lets one caller at a time go on. Unlike a mutex it lets those that wait
// give up when their time is over.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take returns once it is the caller's turn, which end ends, or the error of ctx.
func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) end() { <-t }
