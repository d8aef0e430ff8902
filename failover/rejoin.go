package failover

import "github.com/xpd-platform/xpd/pgcluster"

// followers orders every node but the primary, whose report is up, to follow it.
func (d *decision) followers(up pgcluster.Report) {
	for _, m := range d.s.Members {
		if r, ok := d.v.report(m.ID, d.p); ok && m.ID != up.Node {
			d.follow(r, up)
		}
	}
}

// follow orders a node to follow up, unless it accepted just that already and goes
// on by itself.
func (d *decision) follow(r, up pgcluster.Report) {
	if r.Role != pgcluster.RoleNone && d.outdated(r) {
		d.order(pgcluster.Order{Node: r.Node, Kind: pgcluster.OrderRecruit})
		return
	}
	reclone := latest(r) != d.epoch() && d.strays(r) && !d.holds(up, latest(r))
	settled := r.Order.Kind == pgcluster.OrderFollow && r.Order.Stamp.Epoch == d.epoch() &&
		r.Order.Upstream == up.Node && r.Order.Timeline == up.Lineage.Current() && r.Order.Reclone == reclone
	if !settled {
		d.order(pgcluster.Order{Node: r.Node, Kind: pgcluster.OrderFollow, Upstream: up.Node, Lineage: up.Lineage, Reclone: reclone})
	}
}

// epoch returns the epoch that is being opened, or is open.
func (d *decision) epoch() uint64 {
	if op := d.s.Op; op != nil && op.Phase != PhaseCheckpoint {
		return op.Epoch
	}
	return d.s.Primary.Epoch
}

// latest returns the last epoch that wrote to a node's WAL.
func latest(r pgcluster.Report) uint64 { return max(r.Led, r.Followed) }

// strays reports whether a node may hold WAL that an epoch which never opened
// wrote on a timeline of its own. Another promotion from the same point gives its
// timeline the same number, so no position betrays the difference: who strays is
// cloned, unless the primary holds that WAL itself.
func (d *decision) strays(r pgcluster.Report) bool {
	epoch := latest(r)
	if epoch == 0 || d.s.opened(epoch) {
		return false
	}
	return !r.PositionKnown || r.Position.Timeline > d.s.timelineBefore(epoch)
}

// holds reports whether up, before it was promoted, had WAL of the timeline that
// epoch made: then that number means the same here and there.
func (d *decision) holds(up pgcluster.Report, epoch uint64) bool {
	t := up.Position.Timeline
	if n := len(up.Lineage); n > 0 && up.Role == pgcluster.RolePrimary {
		t = up.Lineage[n-1].Parent
	}
	return up.Followed == epoch && t > d.s.timelineBefore(epoch)
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
