package failover

import (
	"fmt"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// steady looks after an open primary: is it there, do the others follow it, and
// does the sync set fit who is there.
func (d *decision) steady() {
	if reason, lost := d.primaryLost(); lost {
		d.failover(reason)
		return
	}
	id := d.s.Primary.Node
	r, ok := d.v.report(id, d.p)
	if !ok || !r.Running() || r.Role != pgcluster.RolePrimary {
		return
	}
	d.syncSet(r)
	if target := d.s.Sync.target(); r.Open != d.s.Primary.Epoch || r.SyncNames != target.Names() || r.Order.SyncSeq != d.s.Sync.Seq {
		d.lead(id, target, true, true)
	}
	d.followers(r)
}

func (d *decision) failover(reason string) {
	from := d.s.Primary.Node
	op := Operation{Kind: KindFailover, From: from, Reason: reason}
	if r, ok := d.v.report(from, d.p); ok && r.Down() && r.Role == pgcluster.RolePrimary {
		op.InPlace = d.standbysRunning() < d.s.Sync.Durable.Quorum()
	}
	d.s.Primary.Access = AccessClosed
	d.begin(op, PhaseRecruit)
	d.recruit()
}

// standbysRunning counts the members of the durable sync set that answer queries.
func (d *decision) standbysRunning() int {
	n := 0
	for _, id := range d.s.Sync.Durable.Members {
		if _, ok := d.v.standby(id, d.p); ok {
			n++
		}
	}
	return n
}

// primaryLost reports whether the primary must be replaced, and why. A report of
// its own agent that PostgreSQL is down is taken at once. Silence of the agent, or
// of PostgreSQL to its agent, counts only if enough standbys are there to recruit
// and none of them hears the primary: otherwise it is this node's link or only the
// primary's xpd that is gone, or PostgreSQL is busy.
func (d *decision) primaryLost() (string, bool) {
	id := d.s.Primary.Node
	if r, ok := d.v.report(id, d.p); ok {
		switch {
		case r.Down():
			return fmt.Sprintf("PostgreSQL on %s %s", id, r.Process), true
		case r.Running() && r.Role == pgcluster.RoleStandby:
			return fmt.Sprintf("PostgreSQL on %s runs as a standby", id), true
		case r.AnsweredAgo >= d.p.Hung && d.unheard():
			return fmt.Sprintf("PostgreSQL on %s hangs and no standby hears it", id), true
		}
		return "", false
	}
	if silence := d.v.silentFor(id); silence >= d.p.Silence && d.unheard() {
		return fmt.Sprintf("%s silent for %s and no standby hears its PostgreSQL", id, silence.Round(100*time.Millisecond)), true
	}
	return "", false
}

// unheard reports whether enough standbys run to replace the primary, and none of
// them hears it.
func (d *decision) unheard() bool {
	id, opinions := d.s.Primary.Node, 0
	for _, m := range d.s.Members {
		r, ok := d.v.report(m.ID, d.p)
		if !ok || m.ID == id {
			continue
		}
		if r.Running() && r.Receiver.Streaming && r.Receiver.Upstream == id && r.Receiver.HeardAgo < d.p.Heard {
			return false
		}
		if d.s.Sync.Durable.Has(m.ID) && r.Role == pgcluster.RoleStandby {
			opinions++
		}
	}
	return opinions >= d.s.Sync.Durable.Quorum()
}

// syncSet changes the sync set by at most one member, or carries a change on.
func (d *decision) syncSet(r pgcluster.Report) {
	if d.s.Sync.Pending != nil {
		d.shrinkOn(r)
		return
	}
	durable := d.s.Sync.Durable
	for _, m := range d.s.Members {
		if m.ID != d.s.Primary.Node && !durable.Has(m.ID) && d.joinable(r, m.ID) {
			// The larger set asks a failover for one recruit more, whether or not
			// PostgreSQL counts the new member yet; so Raft comes first and no
			// second step is needed.
			d.s.Sync.Durable = durable.With(m.ID)
			d.s.Sync.Seq++
			d.record(Event{
				At: d.v.Wall, Epoch: d.s.Primary.Epoch, Kind: "grow", Node: m.ID,
				Reason: fmt.Sprintf("%s streams: sync set is %s", m.ID, d.s.Sync.Durable),
			})
			return
		}
	}
	if len(durable.Members) <= durable.K {
		return // policy protect: rather wait than acknowledge on fewer nodes
	}
	for _, id := range durable.Members {
		next := durable.Without(id)
		// If too few of the rest stream, whoever returns first must still count.
		if d.lostStandby(r, id) && streaming(r, next) >= next.K {
			d.s.Sync.Pending, d.s.Sync.Mark = &next, 0
			d.s.Sync.Seq++
			return
		}
	}
}

// joinable reports whether id streams, on the orders of this epoch, and is close
// enough to be waited for.
func (d *decision) joinable(r pgcluster.Report, id pgcluster.NodeID) bool {
	f, ok := d.v.standby(id, d.p)
	s, sends := r.Sender(id)
	return ok && f.Receiver.Upstream == d.s.Primary.Node && f.Followed == d.s.Primary.Epoch &&
		sends && s.Streaming && s.Flushed+d.p.MaxGap >= r.Position.LSN
}

// lostStandby reports whether id has not streamed for long enough to stop counting
// on it. It must not be streaming now either: the primary's report says so.
func (d *decision) lostStandby(r pgcluster.Report, id pgcluster.NodeID) bool {
	if s, ok := r.Sender(id); ok && s.Streaming {
		return false
	}
	return d.v.Now-max(d.v.Streamed[id], d.v.Since) >= d.p.StandbyLost
}

// shrinkOn finishes a removal. Raft forgets the removed member only when its
// walsender no longer counts and K others have flushed what it may have
// acknowledged alone: all that was flushed here at that time, the mark.
//
// Should the rest be lost meanwhile and the removed one be back, the removal is
// taken back: until its end, failovers recruit by the larger set anyway.
func (d *decision) shrinkOn(r pgcluster.Report) {
	pending := *d.s.Sync.Pending
	removed := d.s.Sync.removed()
	if streaming(r, pending) < pending.K && d.joinable(r, removed) {
		d.s.Sync.Pending, d.s.Sync.Mark = nil, 0
		d.s.Sync.Seq++
		return
	}
	if !d.inForce(r, pending) {
		return
	}
	if d.s.Sync.Mark == 0 {
		d.s.Sync.Mark = r.Position.LSN
		return
	}
	if flushed(r, pending, d.s.Sync.Mark) < pending.K {
		return
	}
	d.s.Sync = Sync{Durable: pending, Seq: d.s.Sync.Seq}
	d.record(Event{
		At: d.v.Wall, Epoch: d.s.Primary.Epoch, Kind: "shrink", Node: removed,
		Reason: fmt.Sprintf("%s lost: sync set is %s", removed, pending),
	})
}
