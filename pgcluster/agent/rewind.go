package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// rewind makes a data directory that went its own way a beginning of the
// upstream's, after saving the WAL that this drops. If that cannot be done, it
// clones.
//
// While pg_rewind works, the data directory is neither what it was nor what it will
// be, and pg_rewind cannot go on with what it has begun; the marker says so.
func (a *Agent) rewind(ctx context.Context, o pgcluster.Order) error {
	a.step("rewinding to " + string(o.Upstream))
	if err := a.killOrphans(ctx); err != nil {
		return err
	}
	standby := exists(a.p.standbySignal())
	// pg_rewind believes the control file, which names the new timeline only after
	// a checkpoint.
	if err := a.checkpointOn(ctx, o.Upstream); err != nil {
		return err
	}
	if err := a.saveDiverged(ctx, o.Lineage); err != nil {
		return a.copyFailed(ctx, o, err)
	}
	if err := a.owner.replaceDurably(a.p.rewinding(), nil); err != nil {
		return fmt.Errorf("begin rewind: %w", err)
	}
	if err := a.writeConf(); err != nil {
		return err
	}
	m, _ := a.member(o.Upstream) // checkOrder made sure
	source := a.toolSource(m, "xpd_rewind", AdminRole)
	source["dbname"] = "postgres"
	err := a.runTool(ctx, a.o.Secrets.Admin, "pg_rewind", "--target-pgdata="+a.p.data,
		"--source-server="+conninfo(source), "--config-file="+a.p.config())
	if ctx.Err() != nil {
		return err
	}
	if err != nil && untouched(err) {
		return errors.Join(err, remove(a.p.rewinding()))
	}
	if err != nil {
		a.log.WarnContext(ctx, "rewind failed, cloning instead", "error", err)
		return a.clone(ctx, o)
	}
	if err := a.awaitEpoch(ctx, o); err != nil {
		return err // the marker stays: what was copied is good for nothing
	}
	if standby {
		if err := a.dropTorn(o.Lineage); err != nil {
			return err
		}
	}
	if err := a.markStandby(); err != nil {
		return err
	}
	if err := remove(a.p.rewinding()); err != nil {
		return fmt.Errorf("end rewind: %w", err)
	}
	a.refreshStopped(ctx, false, "")
	return a.startAttached(ctx, o)
}

// dropTorn deletes the segments in which the upstream's lineage left a timeline, and
// later ones of that timeline. A standby whose primary died within a record has the
// record's beginning; who is promoted ends before it. For pg_rewind there is nothing
// to do then, but PostgreSQL would insist on the rest of the record and ask the
// upstream for WAL that it does not have. What is deleted is streamed again.
func (a *Agent) dropTorn(upstream pgcluster.Lineage) error {
	all, err := segments(a.p.wal())
	if err != nil {
		return err
	}
	for _, s := range all {
		at, left := upstream.Left(s.timeline)
		if left && s.number >= segmentOf(s.timeline, at, s.size).number {
			if err := remove(filepath.Join(a.p.wal(), s.name())); err != nil {
				return fmt.Errorf("drop torn WAL: %w", err)
			}
		}
	}
	return nil
}

// errPassed is the end of an epoch whose primary was read from.
var errPassed = errors.New("not the primary of its epoch any more")

// awaitEpoch is checkEpoch, repeated while the upstream does not say: a rewind that is
// complete is not thrown away because one connection fails.
func (a *Agent) awaitEpoch(ctx context.Context, o pgcluster.Order) error {
	for {
		err := a.checkEpoch(ctx, o)
		if err == nil || errors.Is(err, errPassed) {
			return err
		}
		a.step("rewound, waiting to hear that this is still the primary's epoch: " + err.Error())
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryInterval):
		}
	}
}

// checkEpoch makes sure that all that was read from the upstream so far was written
// in the order's epoch, or before. Its primary may have lost the role and have got it
// back in a later epoch, which need never open: the timeline of that one may have the
// number of another. Only an epoch's own primary has its slots.
func (a *Agent) checkEpoch(ctx context.Context, o pgcluster.Order) error {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	conn, err := a.connectTo(ctx, o.Upstream)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	var has, recovering bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1), pg_is_in_recovery()",
		pgcluster.SlotName(o.Stamp.Epoch, a.o.Node)).Scan(&has, &recovering)
	if err != nil {
		return fmt.Errorf("look at the slots of %s: %w", o.Upstream, err)
	}
	if !has || recovering {
		return fmt.Errorf("%s, epoch %d: %w", o.Upstream, o.Stamp.Epoch, errPassed)
	}
	return nil
}

// untouched reports whether pg_rewind failed before it changed anything: libpq begins
// a message so only if it could not connect, which is the first thing to do.
func untouched(err error) bool { return strings.Contains(err.Error(), "error: connection to server ") }

func (a *Agent) checkpointOn(ctx context.Context, id pgcluster.NodeID) error {
	conn, err := a.connectTo(ctx, id)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint on %s: %w", id, err)
	}
	return nil
}
