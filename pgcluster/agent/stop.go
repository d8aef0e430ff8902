package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Bounds of a stop by order, which a switchover waits for.
const (
	drainTime   = 500 * time.Millisecond
	orderedStop = 5 * time.Second
)

// stopInOrder shuts down cleanly, so that the standbys have every byte and know
// it. A former primary that ended this way counts as recruited.
func (a *Agent) stopInOrder(ctx context.Context, o pgcluster.Order) error {
	leads := false
	if a.running() != nil && a.Report().Running() {
		recovering, err := a.recovering(ctx)
		if err != nil {
			return err
		}
		leads = !recovering
	}
	if leads {
		if err := a.drain(ctx); err != nil {
			return err
		}
	}
	if err := a.takeKeyAway(); err != nil {
		return err
	}
	if leads { // last, so that few come back in between
		if err := a.endDecoding(ctx); err != nil {
			return err
		}
	}
	a.step("stopping")
	if err := a.stop(ctx, orderedStop); err != nil {
		return err
	}
	// Before the pledge: nobody may be left who could acknowledge anything.
	if err := a.killOrphans(ctx); err != nil {
		return err
	}
	role, err := a.roleStopped(ctx)
	if err != nil {
		return err
	}
	if role == pgcluster.RolePrimary {
		_, err = a.save(func(s *saved) { s.Recruited = o.Stamp.Epoch })
	}
	return err
}

// roleStopped returns what the data would start as. Who has just seen the server's clean
// end need not read it all again: a switchover waits for this.
func (a *Agent) roleStopped(ctx context.Context) (pgcluster.Role, error) {
	if r := a.Report(); r.Process == pgcluster.ProcessStopped && r.PositionKnown {
		return r.Role, nil
	}
	d, err := a.inspect(ctx)
	return d.role, err
}

// drain closes the gate and gives transactions that have written a moment to end.
func (a *Agent) drain(ctx context.Context) error {
	a.step("letting transactions end")
	if err := a.apply(func(s *settings) { s.Writable = false }); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	err := until(bounded, 5*time.Millisecond, func(context.Context) (bool, error) {
		var writers int
		err := a.queryRow(ctx, `
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()
  AND application_name <> 'xpd_agent'`, &writers)
		return writers == 0, err
	})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("drain: %w", err)
	}
	return ctx.Err()
}

// endDecoding ends who reads a logical slot. The server would not end before they have
// confirmed all of its WAL, which some do seconds later or never, and a stop that takes too
// long is no clean one. What they have not confirmed is kept, and their slot does
// not outlive a change of primary anyway.
func (a *Agent) endDecoding(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	err := until(bounded, 5*time.Millisecond, func(context.Context) (bool, error) {
		var readers int
		err := a.queryRow(ctx, `
SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots
WHERE slot_type = 'logical' AND active_pid IS NOT NULL`, &readers)
		return readers == 0, err
	})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("end readers of logical slots: %w", err)
	}
	return ctx.Err()
}
