package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Waits between copies that fail: each one costs the upstream a checkpoint and all of
// its data.
const (
	firstBackoff = 500 * time.Millisecond
	longBackoff  = 30 * time.Second
)

// backoff keeps something expensive from being tried again too soon. It belongs to
// the reconcile loop.
type backoff struct {
	what  string // another thing may be tried at once
	wait  time.Duration
	until time.Time
	err   error // of the last try
}

// held returns the error of the last try while it is too early for the next.
func (b *backoff) held(what string) error {
	if b.what == what && time.Now().Before(b.until) {
		return b.err
	}
	return nil
}

// failed notes a failure, which it returns.
func (b *backoff) failed(what string, err error) error {
	b.wait = min(2*b.wait, longBackoff)
	if b.what != what || b.wait == 0 {
		b.wait = firstBackoff
	}
	b.what, b.err, b.until = what, err, time.Now().Add(b.wait)
	return err
}

// spare is what a rewind or clone must leave for a server to start with.
const spare = 64 << 20

// roomFor makes sure, before anything is stopped or changed, that what is about to
// come from the upstream fits on the disk.
func (a *Agent) roomFor(ctx context.Context, way route, o pgcluster.Order) error {
	what := fmt.Sprintf("%s %d", o.Upstream, o.Stamp.Epoch)
	if err := a.copies.held(what); err != nil {
		return err
	}
	name, sql := "a copy", sizeSQL
	if way == routeRewind {
		// All of the upstream's WAL; of the data, next to nothing is new.
		name, sql = "a rewind", "SELECT coalesce(sum(size), 0)::int8 FROM pg_ls_waldir()"
	}
	need, err := a.sizeOf(ctx, o.Upstream, sql)
	if err != nil {
		return err
	}
	dir := filepath.Dir(a.p.data)
	free, err := freeIn(dir)
	if err != nil {
		return err
	}
	if free < need+spare {
		if err := a.dropHalves(ctx); err != nil {
			return err
		}
		if free, err = freeIn(dir); err != nil {
			return err
		}
	}
	if free >= need+spare {
		return nil
	}
	return a.copies.failed(what, fmt.Errorf("%s of %s needs %d MB in %s, %d MB are free: %s",
		name, o.Upstream, (need+spare)>>20, dir, free>>20, a.roomAdvice()))
}

// sizeOf has the upstream say how much there is.
func (a *Agent) sizeOf(ctx context.Context, upstream pgcluster.NodeID, sql string) (bytes uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	conn, err := a.connectTo(ctx, upstream)
	if err != nil {
		return 0, err
	}
	defer closeConn(ctx, conn)
	if err := conn.QueryRow(ctx, sql).Scan(&bytes); err != nil {
		return 0, fmt.Errorf("ask %s for its size: %w", upstream, err)
	}
	return bytes, nil
}

// freeIn returns how many bytes are free on a folder's disk.
func freeIn(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil //nolint:gosec // a block's size is positive
}

// half is where half a rewind is while it is deleted.
func (p paths) half() string { return p.data + ".half" }

// dropHalves deletes what nobody can use, and what may take the room of a copy for good:
// part of a copy, and data that a rewind left half done. Their own WAL was saved before
// the rewind began.
func (a *Agent) dropHalves(ctx context.Context) error {
	if err := removeAll(a.p.data + ".clone"); err != nil {
		return err
	}
	if exists(a.p.data) && exists(a.p.rewinding()) {
		if err := a.killOrphans(ctx); err != nil { // half a rewind has no server
			return err
		}
		a.log.WarnContext(ctx, "deleting half a rewind to make room for a copy", "data", a.p.data)
		// What is deleted in part must not pass for data once the marker is gone.
		if err := rename(a.p.data, a.p.half()); err != nil {
			return fmt.Errorf("move half a rewind aside: %w", err)
		}
	}
	return removeAll(a.p.half())
}

// roomAdvice says what to do about a full disk.
func (a *Agent) roomAdvice() string {
	advice := fmt.Sprintf("make room, it then goes on by itself; WAL that was set aside in %s may be moved away", a.p.diverged)
	if exists(a.p.data) && !exists(a.p.rewinding()) {
		advice += "; the data that is there was not touched"
	}
	return advice
}

// copyFailed notes that a copy failed and says what to do.
func (a *Agent) copyFailed(ctx context.Context, o pgcluster.Order, err error) error {
	if ctx.Err() != nil {
		return err // another order
	}
	if strings.Contains(err.Error(), "No space left on device") || errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("%w: %s", err, a.roomAdvice())
	}
	return a.copies.failed(fmt.Sprintf("%s %d", o.Upstream, o.Stamp.Epoch), err)
}
