package failover

import (
	"fmt"

	"github.com/xpd-platform/xpd/pgcluster"
)

// syncSet makes one change of whom commits wait for, or carries one on. A rule that
// failovers recruit by is recorded before PostgreSQL acknowledges by a weaker one, and
// after it acknowledges by a stronger one: grow and lower take one entry in Raft,
// shrink and raise go through Sync.Pending.
func (d *decision) syncSet(r pgcluster.Report) {
	if d.s.Sync.Pending != nil {
		d.changeOn(r)
		return
	}
	_ = d.grow(r) || d.lower(r) || d.shrink(r) || d.raise(r)
}

// durable records a rule that PostgreSQL is to have in force from now on.
func (d *decision) durable(set pgcluster.SyncSet, kind string, id pgcluster.NodeID, reason string) {
	d.s.Sync = Sync{Durable: set, Seq: d.s.Sync.Seq + 1}
	d.record(Event{At: d.v.Wall, Epoch: d.s.Primary.Epoch, Kind: kind, Node: id, Reason: fmt.Sprintf("%s: sync set is %s", reason, set)})
}

// grow adds a member. The larger set asks a failover for one recruit more, whether or
// not PostgreSQL counts the new member yet; so Raft comes first and no second step is
// needed.
func (d *decision) grow(r pgcluster.Report) bool {
	durable := d.s.Sync.Durable
	for _, m := range d.s.Members {
		if m.ID != r.Node && d.s.mayJoin(m.ID) && !durable.Has(m.ID) && d.joinable(r, m.ID) && d.zoneHasRoom(r, m.ID) {
			d.durable(durable.With(m.ID), "grow", m.ID, fmt.Sprintf("%s streams", m.ID))
			return true
		}
	}
	return false
}

// zoneHasRoom reports whether id may join the sync set for all that is said of zones:
// the loss of the primary's zone must leave a quorum, so fewer than k members are in
// it, unless too few are elsewhere.
func (d *decision) zoneHasRoom(r pgcluster.Report, id pgcluster.NodeID) bool {
	near, far := d.zones(func(id pgcluster.NodeID) bool { return !d.lostStandby(r, id) })
	return !d.s.sameZone(id, r.Node) || near+1 < d.s.K() || far < d.s.K()
}

// zones counts the members of the sync set in the primary's zone, and those elsewhere
// that are there and stay.
func (d *decision) zones(there func(pgcluster.NodeID) bool) (near, far int) {
	for _, id := range d.s.Sync.Durable.Members {
		switch {
		case d.s.sameZone(id, d.s.Primary.Node):
			near++
		case there(id) && d.s.mayJoin(id):
			far++
		}
	}
	return near, far
}

// lower reduces k: to what is asked for, or in ModeAvailable to how many are there.
// The lower k asks a failover for more recruits, for k = 0 for the primary itself, so
// Raft comes first. It also saves a walsender that still applies the higher one.
func (d *decision) lower(r pgcluster.Report) bool {
	durable := d.s.Sync.Durable
	k, reason := d.s.K(), "fewer are asked for"
	if present := d.present(r, durable); d.s.Settings.Mode == ModeAvailable && present < min(k, durable.K) {
		k, reason = present, "standbys are lost"
	}
	if k >= durable.K {
		return false
	}
	d.durable(pgcluster.SyncSet{Members: durable.Members, K: k}, "lower", "", reason)
	return true
}

// present counts the members of set that stream, or did until a moment ago.
func (d *decision) present(r pgcluster.Report, set pgcluster.SyncSet) int {
	n := 0
	for _, id := range set.Members {
		if !d.lostStandby(r, id) {
			n++
		}
	}
	return n
}

// raise begins to increase k by one, once the set is as large as a cluster that has
// such a k by default: so a node that is added makes nobody wait before it is there.
func (d *decision) raise(r pgcluster.Report) bool {
	next := d.s.Sync.Durable
	next.K++
	enough := 2*next.K - 1
	if d.s.Settings.K > 0 {
		enough = next.K
	}
	if next.K > d.s.K() || len(next.Members) < enough || streaming(r, d.stay(next)) < next.K {
		return false
	}
	d.pend(next)
	return true
}

// stay returns set without members that are on their way out: a k that rests on them
// could never let them go.
func (d *decision) stay(set pgcluster.SyncSet) pgcluster.SyncSet {
	for _, id := range set.Members {
		if !d.s.mayJoin(id) {
			set = set.Without(id)
		}
	}
	return set
}

// shrink begins to remove a member that is not wanted any more, or lost. If too few
// of the rest stream, whoever returns first must still count.
func (d *decision) shrink(r pgcluster.Report) bool {
	durable := d.s.Sync.Durable
	near, far := d.zones(func(id pgcluster.NodeID) bool { s, ok := r.Sender(id); return ok && s.Streaming })
	for _, id := range durable.Members {
		next := durable.Without(id)
		crowded := d.s.sameZone(id, r.Node) && near >= max(d.s.K(), 1) && far >= d.s.K()
		if !d.s.mayJoin(id) || (durable.K > 0 && (crowded || d.lostStandby(r, id))) {
			if len(next.Members) >= next.K && streaming(r, next) >= next.K {
				d.pend(next)
				return true
			}
		}
	}
	return false
}

// pend sends a rule to PostgreSQL that is recorded later.
func (d *decision) pend(next pgcluster.SyncSet) {
	d.s.Sync = Sync{Durable: d.s.Sync.Durable, Pending: &next, Seq: d.s.Sync.Seq + 1}
}

// changeOn finishes a removal or a raise. Raft learns of it only when the old rule
// acknowledges nothing any more and K members of the new one have flushed whatever it
// may have acknowledged: all that was flushed on the primary at that time, the mark.
//
// Should too few be left for that meanwhile, the change is taken back: until its end,
// failovers recruit by the old rule anyway.
func (d *decision) changeOn(r pgcluster.Report) {
	sync := &d.s.Sync
	pending := *sync.Pending
	switch {
	case d.takeBack(r, pending):
		sync.Pending, sync.Mark, sync.Past = nil, 0, 0
		sync.Seq++
	case !d.inForce(r, pending):
	case sync.raises() && sync.Past == 0:
		sync.Past = r.Position.LSN
	case sync.raises() && !passed(r, pending, sync.Past):
	case sync.Mark == 0:
		sync.Mark = r.Position.LSN
	case flushed(r, pending, sync.Mark) < pending.K:
	default:
		d.changed()
	}
}

func (d *decision) takeBack(r pgcluster.Report, pending pgcluster.SyncSet) bool {
	switch {
	case d.s.Sync.raises():
		return streaming(r, d.stay(pending)) < pending.K || pending.K > d.s.K()
	case streaming(r, pending) >= pending.K:
		return false
	case d.s.Settings.Mode == ModeAvailable && d.present(r, pending) < pending.K:
		return true // so that k is lowered
	}
	return d.joinable(r, d.s.Sync.removed())
}

// changed records the pending rule.
func (d *decision) changed() {
	pending, removed := *d.s.Sync.Pending, d.s.Sync.removed()
	e := Event{
		At: d.v.Wall, Epoch: d.s.Primary.Epoch, Kind: "raise",
		Reason: fmt.Sprintf("%d standbys stream: sync set is %s", pending.K, pending),
	}
	if removed != "" {
		what := "lost"
		if !d.s.mayJoin(removed) {
			what = "not to be waited for"
		} else if d.s.sameZone(removed, d.s.Primary.Node) {
			what = "not needed"
		}
		e.Kind, e.Node, e.Reason = "shrink", removed, fmt.Sprintf("%s %s: sync set is %s", removed, what, pending)
	}
	d.s.Sync = Sync{Durable: pending, Seq: d.s.Sync.Seq}
	d.record(e)
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

// inForce reports whether nobody but members of sync, the rule last ordered, can
// acknowledge a commit. The names alone do not say so: they may be those of an
// earlier time, with a change still to come, and a walsender that has not reloaded
// them yet counts itself by those it has.
func (d *decision) inForce(r pgcluster.Report, sync pgcluster.SyncSet) bool {
	if r.Order.SyncSeq != d.s.Sync.Seq || r.SyncNames != sync.Names() {
		return false
	}
	for _, s := range r.Senders {
		if s.SyncPriority > 0 && !sync.Has(s.Node) {
			return false
		}
	}
	return true
}

// passed reports whether every walsender that may acknowledge has heard its standby
// flush more than was there at a time: so it has come round since, and read the
// configuration of that time. Nothing else shows which k a walsender applies.
func passed(r pgcluster.Report, sync pgcluster.SyncSet, at pgcluster.LSN) bool {
	for _, s := range r.Senders {
		if (s.SyncPriority > 0 || sync.Has(s.Node)) && s.Flushed <= at {
			return false
		}
	}
	return true
}

// flushed counts the members of sync that have flushed up to at.
func flushed(r pgcluster.Report, sync pgcluster.SyncSet, at pgcluster.LSN) int {
	n := 0
	for _, id := range sync.Members {
		if s, ok := r.Sender(id); ok && s.Flushed >= at {
			n++
		}
	}
	return n
}

// streaming counts the members of sync that the primary streams to.
func streaming(r pgcluster.Report, sync pgcluster.SyncSet) int {
	n := 0
	for _, id := range sync.Members {
		if s, ok := r.Sender(id); ok && s.Streaming {
			n++
		}
	}
	return n
}
