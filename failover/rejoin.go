package failover

import (
	"math"

	"github.com/xpd-platform/xpd/pgcluster"
)

// followers orders every node but the primary, whose report is up, to follow it.
func (d *decision) followers(up pgcluster.Report) {
	for _, m := range d.s.dataMembers() {
		if r, ok := d.v.report(m.ID, d.p); ok && m.ID != up.Node {
			d.follow(r, up)
		}
	}
}

// enlist brings the others to follow the new primary, whose report is up, and disturbs
// nobody without need. Who does not run is left until it is open, if it can do without: a
// rewind or a clone would keep its disk busy. Who was re-pointed before the promotion
// goes on by itself: an order that names the new timeline would have it begin again.
func (d *decision) enlist(up pgcluster.Report) {
	running := 0
	for _, m := range d.s.dataMembers() {
		if _, ok := d.v.standby(m.ID, d.p); ok && m.ID != up.Node && d.s.mayJoin(m.ID) {
			running++
		}
	}
	all := running < d.nextK() || d.v.Now-d.v.PhaseSince >= d.p.RecruitWait
	for _, m := range d.s.dataMembers() {
		if r, ok := d.v.report(m.ID, d.p); ok && m.ID != up.Node && (all || (r.Running() && !d.repointed(r, up))) {
			d.follow(r, up)
		}
	}
}

// repointed reports whether the standby r was ordered to follow up in this epoch.
func (d *decision) repointed(r, up pgcluster.Report) bool {
	o := r.Order
	return o.Kind == pgcluster.OrderFollow && o.Stamp.Epoch == d.epoch() && o.Upstream == up.Node &&
		r.Running() && r.Role == pgcluster.RoleStandby
}

// follow orders a node to follow up, unless it accepted just that already and goes
// on by itself.
func (d *decision) follow(r, up pgcluster.Report) {
	if d.apart(r) {
		return
	}
	// Also a node without data: a clone for an epoch that never opened may end any
	// moment.
	reclone := latest(r) != d.epoch() && d.strays(r) && !d.shares(r)
	if d.outdated(r) || (!reclone && d.unsettled(r)) {
		d.order(pgcluster.Order{Node: r.Node, Kind: pgcluster.OrderRecruit})
		return
	}
	copied, told := d.copyFor(r)
	// A server that died by itself stays down until its agent is told again.
	settled := r.Process != pgcluster.ProcessCrashed && r.Order.Kind == pgcluster.OrderFollow && r.Order.Stamp.Epoch == d.epoch() &&
		r.Order.Upstream == up.Node && r.Order.Timeline == up.Lineage.Current() && r.Order.Reclone == reclone && told
	if !settled {
		d.order(pgcluster.Order{
			Node: r.Node, Kind: pgcluster.OrderFollow, Upstream: up.Node, Lineage: up.Lineage, Reclone: reclone,
			Clone: copied.ID, Discard: copied.Discard, Void: copied.Cancelled,
		})
	}
}

// epoch returns the epoch that is being opened, or is open.
func (d *decision) epoch() uint64 {
	if op := d.s.Op; op != nil && op.Phase != PhaseCheckpoint && op.Phase != PhaseRestart {
		return op.Epoch
	}
	return d.s.Primary.Epoch
}

// latest returns the last epoch that wrote to a node's WAL.
func latest(r pgcluster.Report) uint64 { return max(r.Led, r.Followed) }

// strays reports whether a node may hold WAL that an epoch which never opened
// wrote on a timeline of its own. Another promotion from the same point gives its
// timeline the same number, so no position betrays the difference: who strays is
// cloned.
func (d *decision) strays(r pgcluster.Report) bool {
	epoch := latest(r)
	if epoch == 0 || d.s.opened(epoch) {
		return false
	}
	return late(r) || !r.PositionKnown || r.Position.Timeline > d.s.timelineBefore(epoch)
}

// late reports whether a standby was ordered to lead and may yet be promoted.
func late(r pgcluster.Report) bool {
	return r.Role == pgcluster.RoleStandby && r.Led > r.Followed
}

// unsettled reports whether it is yet to be seen how much a node got of an epoch that
// never opened: a server that hangs may go on to write what it has received. A pledge
// says that nothing comes after the position that is reported with it. Who was told to
// follow since then pledged before that, and takes the pledge back as it begins.
func (d *decision) unsettled(r pgcluster.Report) bool {
	epoch := latest(r)
	told := r.Order.Kind == pgcluster.OrderFollow && r.Order.Stamp.Epoch == d.epoch()
	return r.Role == pgcluster.RoleStandby && epoch != 0 && epoch != d.epoch() && !d.s.opened(epoch) && r.Recruited != d.epoch() && !told
}

// base returns what the WAL of node to comes from, now that it is chosen.
func (d *decision) base(to pgcluster.NodeID) Base {
	r, ok := d.v.report(to, d.p)
	switch {
	case !ok:
		return Base{}
	case r.Role == pgcluster.RolePrimary:
		return Base{Epoch: latest(r), Timeline: math.MaxUint32} // starts in place: no new timeline
	}
	return Base{Epoch: latest(r), Timeline: r.Position.Timeline}
}

// shares reports whether a node's WAL comes from the same epoch as the primary's
// and its timeline is one that the primary had too: then the number of either
// means the same.
func (d *decision) shares(r pgcluster.Report) bool {
	base := d.s.Primary.Base
	if d.s.Op != nil {
		base = d.s.Op.Base
	}
	return latest(r) == base.Epoch && !late(r) && r.PositionKnown && r.Position.Timeline <= base.Timeline
}

// outdated reports whether a node, since its report, may have joined an epoch that
// never opened. Once it has pledged to this epoch, it cannot.
func (d *decision) outdated(r pgcluster.Report) bool {
	for e := max(r.Pledged.Epoch, 1); e < d.epoch(); e++ {
		if !d.s.opened(e) {
			return true
		}
	}
	return false
}
