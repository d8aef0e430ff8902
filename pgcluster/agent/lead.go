package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xpd-platform/xpd/pgcluster"
)

// errLedBefore protects against a primary that crashed and comes back in the same
// epoch: commits that waited for a standby are visible after a crash.
var errLedBefore = errors.New("this node's primary has ended in this epoch: leading again takes a new one")

// lead makes the node the primary of the order's epoch, with the rule for
// synchronous commits in force before anybody can commit.
func (a *Agent) lead(ctx context.Context, o pgcluster.Order) error {
	epoch := o.Stamp.Epoch
	if err := a.takeKeyAway(); err != nil {
		return err
	}
	if a.running() == nil {
		if err := a.leadFromStopped(ctx, o); err != nil {
			return err
		}
	}
	if err := a.awaitRunning(ctx); err != nil {
		return err
	}
	recovering, overridden, err := a.roleAndOverrides(ctx)
	switch {
	case err != nil:
		return err
	case recovering:
		err = a.promote(ctx, o)
	case a.state.get().Led != epoch:
		err = a.enterEpoch(epoch)
	case a.state.get().Promoting:
		_, err = a.save(func(s *saved) { s.Promoting = false })
	}
	if err != nil {
		return err
	}
	// Clients wait for this. What the barrier proved holds until the order's rule is in
	// force, which may be another one by now; unless somebody overrode it, which keepSync
	// takes back first.
	if o.Open && o.Barrier && !overridden && a.state.get().Barrier == epoch {
		if err := a.gate(ctx, epoch, true); err != nil {
			return err
		}
	}
	// Before the barrier: nobody acknowledges it on the orders of an epoch before.
	if err := a.serve(ctx, epoch); err != nil {
		return err
	}
	if err := a.keepRoles(ctx); err != nil {
		return err
	}
	if err := a.keepSync(ctx, o.Sync.Names(), o.SyncSeq); err != nil {
		return err
	}
	if o.Barrier {
		if err := a.awaitBarrier(ctx, epoch); err != nil {
			return err
		}
	}
	return a.gate(ctx, epoch, o.Open)
}

// leadFromStopped starts what is there: a former primary in place, closed; a
// standby detached, to be promoted.
func (a *Agent) leadFromStopped(ctx context.Context, o pgcluster.Order) error {
	d, err := a.inspect(ctx)
	if err != nil {
		return err
	}
	switch d.role {
	case pgcluster.RolePrimary:
		if a.state.get().Led == o.Stamp.Epoch {
			return errLedBefore
		}
		a.step("starting in place")
		_, err = a.save(func(s *saved) {
			s.Led, s.Recruited, s.Barrier, s.Open = o.Stamp.Epoch, 0, 0, 0
			// Nobody may read what a crash made visible before a barrier has proved it.
			s.Settings = settings{Sync: o.Sync.Names(), Locked: true}
		})
	case pgcluster.RoleStandby:
		a.step("starting the standby to be promoted")
		if _, err = a.save(func(s *saved) { s.Settings = detached() }); err == nil {
			err = a.markStandby()
		}
	case pgcluster.RoleNone:
		err = errNoData
	}
	if err != nil {
		return err
	}
	return a.start(ctx)
}

// enterEpoch closes a primary that goes on into another epoch.
func (a *Agent) enterEpoch(epoch uint64) error {
	_, err := a.save(func(s *saved) {
		s.Led, s.Recruited, s.Barrier, s.Open, s.Promoting = epoch, 0, 0, 0, false
	})
	return err
}

func (a *Agent) recovering(ctx context.Context) (bool, error) {
	var b bool
	if err := a.queryRow(ctx, "SELECT pg_is_in_recovery()", &b); err != nil {
		return false, fmt.Errorf("ask for the role: %w", err)
	}
	return b, nil
}

// promote turns a running standby into the primary. Its sessions survive.
func (a *Agent) promote(ctx context.Context, o pgcluster.Order) error {
	names := o.Sync.Names()
	a.step("making slots")
	// Not after the promotion: a checkpoint could recycle what a standby still needs.
	if err := a.prepareSlots(ctx, o.Stamp.Epoch); err != nil {
		return err
	}
	a.step("presetting synchronous_standby_names")
	err := a.apply(func(s *settings) {
		s.Sync, s.Upstream, s.Writable, s.Locked, s.Serving = names, "", false, false, true
	})
	if err != nil {
		return err
	}
	if err := a.dropOverrides(ctx); err != nil {
		return err
	}
	if err := a.awaitSetting(ctx, "synchronous_standby_names", names); err != nil {
		return err
	}
	_, err = a.save(func(s *saved) {
		s.Led, s.Recruited, s.Barrier, s.Open, s.Promoting = o.Stamp.Epoch, 0, 0, 0, true
	})
	if err != nil {
		return err
	}
	a.step("promoting")
	var asked bool
	if err := a.queryRow(ctx, "SELECT pg_promote(false)", &asked); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if !asked {
		return errors.New("promote: PostgreSQL refused")
	}
	err = until(ctx, 3*time.Millisecond, func(ctx context.Context) (bool, error) {
		recovering, err := a.recovering(ctx)
		return !recovering, err
	})
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	a.log.InfoContext(ctx, "promoted", "epoch", o.Stamp.Epoch, "sync", names)
	a.forgetFloors()
	if _, err := a.save(func(s *saved) { s.Promoting = false }); err != nil {
		return err
	}
	a.probeNow()
	return nil
}

func (a *Agent) probeNow() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// keepSync brings the rule into force, as far as the postmaster is concerned: each
// walsender loads it in its own time.
func (a *Agent) keepSync(ctx context.Context, names string, seq uint64) error {
	if a.state.get().Settings.Sync != names {
		a.step("changing synchronous_standby_names")
		err := a.apply(func(s *settings) {
			s.Arming = names != "" && (s.Arming || s.Sync == "")
			s.Sync = names
		})
		if err != nil {
			return err
		}
	}
	if err := a.dropOverrides(ctx); err != nil {
		return err
	}
	if err := a.awaitSetting(ctx, "synchronous_standby_names", names); err != nil {
		return err
	}
	if err := a.confirmSync(ctx, names); err != nil {
		return err
	}
	err := until(ctx, 5*time.Millisecond, func(ctx context.Context) (bool, error) {
		now, err := a.observeNow(ctx)
		return now.role == pgcluster.RolePrimary && now.syncNames == names, err
	})
	if err != nil {
		return err
	}
	// What is reported now was seen after the order: the names and who counts.
	a.publish(func(r *pgcluster.Report) { r.Order.SyncSeq = seq })
	return nil
}

// confirmSync returns once every process of the server has been told the rule. An
// old session shows it as soon as it has itself reloaded, which says nothing of the
// others; but the postmaster passes a reload on to all its children before it forks
// again, so a new backend that shows the rule proves it.
//
// After an empty rule that is not enough, see the package comment on the flag: the
// checkpointer has to act on it, which it does before a checkpoint that is asked for
// after it was told.
func (a *Agent) confirmSync(ctx context.Context, names string) error {
	bounded, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := a.connect(bounded)
	if err != nil {
		return fmt.Errorf("confirm synchronous_standby_names: %w", err)
	}
	defer closeConn(ctx, conn)
	undone := a.conf.undone.Load()
	var got string
	if err := conn.QueryRow(bounded, "SHOW synchronous_standby_names").Scan(&got); err != nil {
		return fmt.Errorf("confirm synchronous_standby_names: %w", err)
	}
	if got != names {
		return fmt.Errorf("confirm synchronous_standby_names: %q is in force instead of %q", got, names)
	}
	if !a.state.get().Settings.Arming {
		return nil
	}
	// Twice: the first may have been asked for after the checkpointer last looked at
	// its settings and before it looked for requests.
	for range 2 {
		if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil {
			return fmt.Errorf("arm synchronous commit: %w", err)
		}
	}
	// Not if the rule was overridden, and that taken back, since then.
	_, err = a.save(func(s *saved) { s.Settings.Arming = a.conf.undone.Load() != undone })
	return err
}

// gate lets ordinary sessions write, or stops them.
func (a *Agent) gate(ctx context.Context, epoch uint64, open bool) error {
	if !open {
		if a.state.get().Open == 0 && !a.state.get().Settings.Writable {
			return nil
		}
		if err := a.apply(func(s *settings) { s.Writable = false }); err != nil {
			return err
		}
		_, err := a.save(func(s *saved) { s.Open = 0 })
		return err
	}
	if st := a.state.get(); st.Open == epoch && st.Settings.Writable {
		return nil
	}
	a.step("opening to clients")
	if err := a.apply(func(s *settings) { s.Writable, s.Locked = true, false }); err != nil {
		return err
	}
	if err := a.awaitSetting(ctx, "default_transaction_read_only", "off"); err != nil {
		return err
	}
	_, err := a.save(func(s *saved) { s.Open = epoch })
	return err
}

// barrier asks for a commit on s that proves the rule of synchronous commits.
type barrier struct {
	epoch  uint64
	server *server
}

// awaitBarrier waits until the epoch's barrier is acknowledged. The commit itself
// belongs to commitBarriers: an order that is replaced must not cancel it.
func (a *Agent) awaitBarrier(ctx context.Context, epoch uint64) error {
	s := a.running()
	if s == nil {
		return errServerGone
	}
	if a.state.get().Barrier == epoch {
		return nil
	}
	a.step("waiting for a standby to acknowledge the barrier")
	for {
		select {
		case a.barriers <- barrier{epoch: epoch, server: s}:
		default: // one is waiting already
		}
		bounded, cancel := context.WithTimeout(ctx, retryInterval)
		err := a.await(bounded, func(r pgcluster.Report) (bool, error) {
			if a.running() != s {
				return false, errServerGone
			}
			return r.Barrier == epoch, nil
		})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
}

// commitBarriers runs one barrier commit after the other until ctx ends.
func (a *Agent) commitBarriers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-a.barriers:
			if a.running() != b.server || a.state.get().Barrier == b.epoch {
				continue
			}
			if err := a.commitBarrier(ctx, b); err != nil && ctx.Err() == nil {
				a.log.WarnContext(ctx, "barrier not acknowledged, will retry", "epoch", b.epoch, "error", err)
			}
		}
	}
}

// commitBarrier commits with no time limit. Should the rule change meanwhile,
// PostgreSQL releases the commit by the new one.
func (a *Agent) commitBarrier(ctx context.Context, b barrier) error {
	c, err := a.localConfig()
	if err != nil {
		return err
	}
	var warned atomic.Bool
	c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		// "canceling wait for synchronous replication": committed here, and who knows
		// where else.
		if n.Severity == "WARNING" {
			warned.Store(true)
		}
	}
	c.DialFunc = onceDialer()
	c.RuntimeParams["synchronous_commit"] = "on"
	c.RuntimeParams["default_transaction_read_only"] = "off"
	c.RuntimeParams["statement_timeout"] = "0"
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return fmt.Errorf("connect for the barrier: %w", err)
	}
	defer closeConn(ctx, conn)
	sql := strings.Join([]string{"BEGIN", "SELECT pg_logical_emit_message(true, 'xpd.barrier', '')", "COMMIT"}, "; ")
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return fmt.Errorf("commit the barrier: %w", err)
	}
	at, err := pgcluster.ParseLSN(string(results[1].Rows[0][0]))
	if err != nil {
		return fmt.Errorf("commit the barrier: %w", err)
	}
	if warned.Load() {
		return errors.New("commit the barrier: the wait was cancelled")
	}
	// First, so that the report that tells of the barrier also shows which standbys have
	// flushed it: the controller waits for both.
	if _, err := a.probeOnce(ctx, conn); err != nil {
		a.probeNow() // a moment later, then
	}
	if a.running() != b.server || a.state.get().Led != b.epoch {
		return errors.New("commit the barrier: the epoch has passed")
	}
	_, err = a.save(func(s *saved) { s.Barrier, s.BarrierAt = b.epoch, at })
	return err
}
