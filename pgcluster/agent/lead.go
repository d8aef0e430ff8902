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
	recovering, err := a.recovering(ctx)
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
	a.step("presetting synchronous_standby_names")
	err := a.apply(func(s *settings) { s.Sync, s.Upstream, s.Writable, s.Locked = names, "", false, false })
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
	err = until(ctx, 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		recovering, err := a.recovering(ctx)
		return !recovering, err
	})
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	a.log.InfoContext(ctx, "promoted", "epoch", o.Stamp.Epoch, "sync", names)
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

// keepSync brings the rule into force. From an empty one it takes a checkpoint
// more: see the package comment on the flag.
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
	if a.state.get().Settings.Arming {
		if err := a.arm(ctx, names); err != nil {
			return err
		}
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

// arm returns once every commit waits by the rule. The postmaster passes a reload
// on to all its children before it forks again, so a new backend that shows the
// rule proves that the checkpointer was told; and the checkpointer looks at its
// settings before it begins a checkpoint that was asked for later.
func (a *Agent) arm(ctx context.Context, names string) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	var got string
	if err := conn.QueryRow(ctx, "SHOW synchronous_standby_names").Scan(&got); err != nil {
		return fmt.Errorf("arm synchronous commit: %w", err)
	}
	if got != names {
		return fmt.Errorf("arm synchronous commit: %q is in force instead of %q", got, names)
	}
	if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("arm synchronous commit: %w", err)
	}
	_, err = a.save(func(s *saved) { s.Settings.Arming = false })
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
	if a.state.get().Open == epoch {
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
	if a.running() != b.server || a.state.get().Led != b.epoch {
		return errors.New("commit the barrier: the epoch has passed")
	}
	if _, err = a.save(func(s *saved) { s.Barrier, s.BarrierAt = b.epoch, at }); err != nil {
		return err
	}
	a.probeNow() // shows which standbys have flushed it
	return nil
}
