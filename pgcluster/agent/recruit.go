package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
)

// recruit takes the node out of the epoch before: when it returns, the node
// acknowledges nothing to an old primary and is none itself. See the package
// comment for why that holds.
func (a *Agent) recruit(ctx context.Context, o pgcluster.Order) error {
	if err := a.takeKeyAway(); err != nil {
		return err
	}
	a.step("detaching")
	if err := a.fence(ctx); err != nil {
		return err
	}
	if err := a.stopTampered(ctx); err != nil {
		return err
	}
	if a.running() == nil {
		started, err := a.recruitStopped(ctx, o.Stamp.Epoch)
		if !started {
			return err
		}
	}
	if err := a.awaitRunning(ctx); err != nil {
		return err
	}
	if err := a.endReceivers(ctx); err != nil {
		return err
	}
	if stopped, err := a.stopLacking(ctx); err != nil || stopped {
		return cmp.Or(err, errRaising)
	}
	if err := a.awaitEndOfWAL(ctx); err != nil {
		return err
	}
	if err := a.publishFinalPosition(ctx); err != nil {
		return err
	}
	if _, err := a.save(func(s *saved) { s.Recruited, s.Barrier, s.Open = o.Stamp.Epoch, 0, 0 }); err != nil {
		return err
	}
	// Nothing depends on this any more; it stops the attempts to log in.
	return a.apply(func(s *settings) { *s = detached() })
}

// fence stops a server that is a primary, or that was told to become one and may
// do so at any moment.
func (a *Agent) fence(ctx context.Context) error {
	if a.running() == nil {
		return nil
	}
	leads, err := a.mayLead(ctx)
	if err != nil || !leads {
		return err
	}
	a.step("stopping the primary")
	return a.stop(ctx, fastStop)
}

// stopTampered stops a standby whose upstream somebody has set by hand: it may log in
// with a password of its own for as long as its startup process has not noticed that
// this was taken back.
func (a *Agent) stopTampered(ctx context.Context) error {
	if a.running() == nil || !a.Report().Running() {
		return nil
	}
	if err := a.dropOverrides(ctx); err != nil {
		return err
	}
	s := a.running()
	if s == nil || !s.tampered.Load() {
		return nil
	}
	a.step("stopping a standby whose upstream was changed by hand")
	return a.stop(ctx, fastStop)
}

func (a *Agent) mayLead(ctx context.Context) (bool, error) {
	if a.state.get().Promoting {
		return true, nil
	}
	if a.Report().Running() {
		if recovering, err := a.recovering(ctx); err == nil {
			return !recovering, nil
		}
	}
	// It starts, or it hangs: its files tell.
	d, err := a.inspect(ctx)
	return d.role == pgcluster.RolePrimary, err
}

// recruitStopped recruits a former primary as it lies, or starts a standby, so
// that it finds the end of its WAL; it reports whether it did the latter.
func (a *Agent) recruitStopped(ctx context.Context, epoch uint64) (bool, error) {
	if err := a.killOrphans(ctx); err != nil {
		return false, err
	}
	d, err := a.inspect(ctx)
	if err != nil {
		return false, err
	}
	switch d.role {
	case pgcluster.RolePrimary:
		_, err = a.save(func(s *saved) { s.Recruited = epoch })
		return false, err
	case pgcluster.RoleStandby:
		a.step("starting detached")
		if _, err := a.save(func(s *saved) { s.Settings = detached() }); err != nil {
			return false, err
		}
		if err := a.markStandby(); err != nil {
			return false, err
		}
		return true, a.start(ctx)
	case pgcluster.RoleNone:
	}
	return false, errNoData
}

// endReceivers returns once no walreceiver is left. PostgreSQL 15 has no function
// that ends one, because it is not a client's backend; a signal does.
func (a *Agent) endReceivers(ctx context.Context) error {
	return until(ctx, 2*time.Millisecond, func(ctx context.Context) (bool, error) {
		var pid int
		err := a.queryRow(ctx, "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'walreceiver'", &pid)
		if err != nil {
			return false, fmt.Errorf("look for a walreceiver: %w", err)
		}
		if pid == 0 {
			return true, nil
		}
		if !a.inhabits(pid) {
			return false, nil // it is ending
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return false, fmt.Errorf("end walreceiver: %w", err)
		}
		return false, nil
	})
}

// errRaising is a standby that needs a start with more of some settings first.
var errRaising = errors.New("stopped to raise settings, starting again")

// awaitEndOfWAL waits until a standby that has not streamed since its start has
// replayed all that it has. One that has streamed knows how much it received.
func (a *Agent) awaitEndOfWAL(ctx context.Context) error {
	return until(ctx, 2*time.Millisecond, func(ctx context.Context) (bool, error) {
		var atEnd bool
		err := a.queryRow(ctx, `
SELECT pg_last_wal_receive_lsn() IS NOT NULL OR EXISTS (
	SELECT FROM pg_stat_activity
	WHERE backend_type = 'startup' AND wait_event IN ('RecoveryRetrieveRetryInterval', 'RecoveryWalStream'))`, &atEnd)
		if err != nil {
			return false, fmt.Errorf("look for the end of WAL: %w", err)
		}
		if atEnd {
			return true, nil
		}
		stopped, err := a.stopLacking(ctx)
		if err == nil && stopped {
			err = errRaising
		}
		return false, err
	})
}

// publishFinalPosition reports where the WAL of a detached standby ends.
func (a *Agent) publishFinalPosition(ctx context.Context) error {
	o, err := a.observeNow(ctx)
	if err == nil && o.role != pgcluster.RoleStandby {
		err = errors.New("the server is a primary")
	}
	return err
}

// observeNow observes and reports what it saw. Probes that began earlier may have
// seen less and are void.
func (a *Agent) observeNow(ctx context.Context) (observation, error) {
	conn, err := a.admin(ctx)
	if err != nil {
		return observation{}, err
	}
	a.mu.Lock()
	a.generation++
	generation := a.generation
	a.mu.Unlock()
	o, err := a.observeWithin(ctx, conn)
	if err != nil {
		return o, err
	}
	a.publishObservation(o, generation)
	return o, nil
}

// observeWithin observes for a decision: with a bound on its time, and only if the
// position is known.
func (a *Agent) observeWithin(ctx context.Context, conn *pgx.Conn) (observation, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	o, err := a.observe(ctx, conn)
	if err == nil && !o.known {
		err = fmt.Errorf("no WAL file holds %v", o.position.LSN)
	}
	return o, err
}
