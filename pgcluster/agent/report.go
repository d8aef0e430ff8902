package agent

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Report returns the latest snapshot. It never waits for PostgreSQL. The caller
// must not change what the report points to.
func (a *Agent) Report() pgcluster.Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.snapshot()
}

// snapshot returns the report with its ages brought up to now. a.mu is held.
func (a *Agent) snapshot() pgcluster.Report {
	r := a.report
	r.Wall = time.Now()
	if r.Receiver.Streaming {
		r.Receiver.HeardAgo += time.Since(a.probed)
	}
	if !r.Down() {
		r.AnsweredAgo = time.Since(a.probed)
		r.ConnectStalled = a.connects.lasts()
		r.WriteStalled = max(a.beats.lasts(), a.streamed.lasts())
	}
	return r
}

// Changed returns a report whose Seq is above after, as soon as there is one, or
// the latest report when ctx ends. Who asks waits for news: the server is looked at
// at once unless that was done a moment ago.
func (a *Agent) Changed(ctx context.Context, after uint64) pgcluster.Report {
	for {
		a.mu.Lock()
		r, changed := a.snapshot(), a.changed
		if time.Since(a.tried) >= askedInterval {
			a.probeNow()
		}
		a.mu.Unlock()
		if r.Seq > after {
			return r
		}
		select {
		case <-ctx.Done():
			return a.Report()
		case <-changed:
		}
	}
}

// await waits for a report that check accepts or fails.
func (a *Agent) await(ctx context.Context, check func(pgcluster.Report) (bool, error)) error {
	r := a.Report()
	for {
		done, err := check(r)
		if done || err != nil {
			return err
		}
		r = a.Changed(ctx, r.Seq)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// publish changes the report and wakes whoever waits for a change.
func (a *Agent) publish(change func(*pgcluster.Report)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.publishLocked(change)
}

func (a *Agent) publishLocked(change func(*pgcluster.Report)) {
	next := a.report
	change(&next)
	if !reflect.DeepEqual(steady(a.report), steady(next)) {
		next.Seq++
		close(a.changed)
		a.changed = make(chan struct{})
	}
	a.report = next
	a.metrics.observe(next)
}

// steady returns r without what changes all the time: positions, lags and ages.
func steady(r pgcluster.Report) pgcluster.Report {
	r.Position.LSN = 0
	r.Replayed = 0
	r.Receiver.HeardAgo = 0
	r.Disks, r.DataBytes = nil, 0
	r.Senders = slices.Clone(r.Senders)
	for i := range r.Senders {
		s := &r.Senders[i]
		s.Flushed, s.Replayed, s.ReplayLag = 0, 0, 0
	}
	return r
}

// save makes a change durable, then reports it.
func (a *Agent) save(change func(*saved)) (saved, error) {
	st, err := a.state.update(func(s *saved) error {
		change(s)
		return nil
	})
	if err != nil {
		return st, err
	}
	// The newest state, not this one: two savers may publish in either order.
	a.publish(func(r *pgcluster.Report) { a.state.get().report(r) })
	return st, nil
}

// report copies what the state says into r. Barrier and Open are claims about a
// living server.
func (s saved) report(r *pgcluster.Report) {
	r.Pledged = s.Pledged
	r.Led = s.Led
	r.Followed = s.Followed
	r.Recruited = s.Recruited
	r.Barrier, r.BarrierAt = s.Barrier, s.BarrierAt
	r.Open = s.Open
	r.Restarted, r.Cloned = s.Restarted, s.Cloned
	r.Receiver.Upstream = s.Settings.Upstream
}

// refreshStopped reports the data directory of a server that is not running any
// more: only now may another be started.
func (a *Agent) refreshStopped(ctx context.Context, crashed bool, lastError string) {
	d, err := a.inspect(ctx)
	if err != nil {
		a.log.WarnContext(ctx, "data directory not readable", "error", err)
		lastError = err.Error()
	}
	// A server that is gone lets nobody write, and a new one starts closed. If this
	// cannot be saved, the next start does it.
	_, unsaved := a.save(func(s *saved) {
		s.Barrier, s.Open, s.Promoting = 0, 0, false
		s.Settings.Writable, s.Settings.Arming, s.Settings.Serving = false, false, false
	})
	if unsaved != nil {
		a.log.WarnContext(ctx, "end of PostgreSQL not saved", "error", unsaved)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.server = nil
	a.streamed.idle()
	a.generation++ // a probe that is under way saw the living
	// Only who reports a crash is told again.
	a.held = crashed && (a.held || a.report.Order.Done)
	a.publishLocked(func(r *pgcluster.Report) {
		r.Order.Done = r.Order.Done && !crashed
		r.Process = pgcluster.ProcessStopped
		if crashed {
			r.Process = pgcluster.ProcessCrashed
		}
		if err == nil {
			r.Role, r.Lineage = d.role, d.lineage
			r.Position, r.PositionKnown = d.position, d.known
			if d.role == pgcluster.RoleNone {
				r.SystemID = ""
			} else {
				r.SystemID = d.control.SystemID
			}
		} else {
			r.PositionKnown = false
		}
		r.Replayed = 0
		r.Receiver.Streaming, r.Receiver.HeardAgo = false, 0
		r.Senders = nil
		r.SyncNames = ""
		waiting{}.report(r)
		r.LastError = lastError
	})
}
