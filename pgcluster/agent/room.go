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
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	conn, err := a.connectTo(ctx, o.Upstream)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	var need uint64
	if err := conn.QueryRow(ctx, sql).Scan(&need); err != nil {
		return fmt.Errorf("ask %s for its size: %w", o.Upstream, err)
	}
	var fs unix.Statfs_t
	dir := filepath.Dir(a.p.data)
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	free := fs.Bavail * uint64(fs.Bsize) //nolint:gosec // a block's size is positive
	if free >= need+spare {
		return nil
	}
	return a.copies.failed(what, fmt.Errorf("%s of %s needs %d MB in %s, %d MB are free: %s",
		name, o.Upstream, (need+spare)>>20, dir, free>>20, a.roomAdvice()))
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
