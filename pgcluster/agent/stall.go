package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/xpd-platform/xpd/pgcluster"
)

const (
	lookInterval  = 100 * time.Millisecond
	knockInterval = 2 * time.Second // at least so often, whatever a look shows
	knockTimeout  = 2 * time.Second
	// What takes less long is no stall but a busy machine.
	stallAfter = time.Second
)

// stall measures for how long something that is tried again and again has not
// succeeded. The zero value is ready. It is safe for concurrent use, so that a
// report never waits for what is tried.
type stall struct {
	mu     sync.Mutex
	good   time.Time // of the last success, or when there was nothing to wait for
	since  time.Time // of the attempt under way; zero if there is none
	failed bool      // the last attempt to end did not succeed
}

// try notes that an attempt begins, unless one is under way.
func (s *stall) try() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		s.since = time.Now()
	}
	if s.good.IsZero() {
		s.good = s.since
	}
}

// end notes that what was tried has succeeded or failed.
func (s *stall) end(ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok {
		s.good = time.Now()
	}
	s.since, s.failed = time.Time{}, !ok
}

// reset notes that there is nothing to try.
func (s *stall) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.good, s.since, s.failed = time.Time{}, time.Time{}, false
}

// lasts returns the time since the last success if the attempt after it failed or
// takes too long, and zero otherwise.
func (s *stall) lasts() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	slow := !s.since.IsZero() && time.Since(s.since) > stallAfter
	lasts := time.Since(s.good)
	if !slow && (!s.failed || lasts <= stallAfter) {
		return 0
	}
	return lasts
}

// knock finds out, until ctx ends, whether new connections are possible. Sessions
// that are there say nothing about it: they live on while the postmaster is stopped.
// Each attempt costs the server a process, so a postmaster that sleeps, as one does
// that waits for connections, is asked seldom, and one that does not at once.
func (a *Agent) knock(ctx context.Context) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	var of *server
	var let time.Time // when it last let us in
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := a.running()
		if s != of {
			a.connects.reset()
			of, let = s, time.Time{}
		}
		if s == nil || s.foreign || s.asked.Load() {
			continue
		}
		ok := time.Since(let) < knockInterval && asleep(s.pid)
		if !ok {
			a.connects.try()
			if ok = a.knockOnce(ctx); ok {
				let = time.Now()
			} else {
				let = time.Time{}
			}
		}
		if ctx.Err() == nil && a.running() == s {
			a.connects.end(ok)
		}
	}
}

// knockOnce reports whether the server has let us in or said why not: one that is
// full or still starting does its work.
func (a *Agent) knockOnce(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, knockTimeout)
	defer cancel()
	conn, err := a.connect(ctx)
	if err != nil {
		var answer *pgconn.PgError
		return errors.As(err, &answer) && answer.Code != ""
	}
	closeConn(ctx, conn)
	return true
}

// flushes watches the WAL of a primary get to its own disk: each heartbeat has to be
// there before the next, whatever the standbys do.
type flushes struct {
	stall

	written pgcluster.LSN // of the oldest heartbeat that has not been seen on disk
}

// beaten notes a heartbeat that ends at written, when the WAL before flushed was on
// disk.
func (f *flushes) beaten(written, flushed pgcluster.LSN) {
	if f.written != 0 && flushed < f.written {
		return // the one that is waited for comes first
	}
	if f.written != 0 {
		f.end(true)
	}
	f.written = written
	f.try()
}

// idle notes that there is no primary to watch.
func (f *flushes) idle() {
	f.written = 0
	f.reset()
}

// received watches the WAL of a standby get to its disk: what was written has to be
// flushed. Only PostgreSQL's walreceiver knows; a standby that has none waits for
// nothing.
func (f *flushes) received(streaming bool, written, flushed pgcluster.LSN) {
	switch {
	case !streaming || written <= flushed:
		f.idle()
	case f.written == 0 || flushed >= f.written:
		f.written = written
		f.reset()
		f.try()
	}
}
