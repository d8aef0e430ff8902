package failover

import (
	"cmp"
	"slices"

	"github.com/xpd-platform/xpd/pgcluster"
)

// choose returns the node to promote once the pledges of this epoch are enough.
// Enough is any of
//   - a quorum of the durable sync set: one of them has every acknowledged commit;
//   - the last opened primary, down: it has them all;
//   - an earlier choice of this operation: it was at the floor that the quorum of
//     that time set, so whoever is at or above the floor has them all.
//
// Whoever is chosen must itself be among those that pledged.
func (d *decision) choose() (pgcluster.NodeID, bool) {
	op := d.s.Op
	pledged := d.pledged()
	from, fromPledged := pledged[op.From]
	fromPledged = fromPledged && from.Down()

	if op.InPlace {
		return op.From, fromPledged
	}
	floor := d.s.Floor
	if fromPledged && from.PositionKnown && d.onLineage(from) && from.Position.Compare(floor) > 0 {
		floor = from.Position
	}
	members := 0
	for _, id := range d.s.Sync.Durable.Members {
		// Who does not say how far its WAL goes may have what the others lack.
		if r, ok := pledged[id]; ok && readable(r) && d.onLineage(r) {
			members++
		}
	}
	quorate := members >= d.s.Sync.Durable.Quorum() && d.s.Sync.Durable.K > 0
	if quorate || len(op.Tried) > 0 || (fromPledged && from.PositionKnown) {
		if best, ok := d.best(pledged, floor); ok {
			return best, true
		}
	}
	return d.restart(pledged)
}

// restart returns a node that is down but sure to have everything: starting it in
// place beats waiting once standbys had their time.
func (d *decision) restart(pledged map[pgcluster.NodeID]pgcluster.Report) (pgcluster.NodeID, bool) {
	if d.v.Now-d.v.PhaseSince < d.p.RecruitWait {
		return "", false
	}
	for _, id := range slices.Concat([]pgcluster.NodeID{d.s.Op.From}, d.s.Op.Tried) {
		if r, ok := pledged[id]; ok && r.Down() && r.Role == pgcluster.RolePrimary {
			return id, true
		}
	}
	return "", false
}

// pledged returns the reports of the nodes that are detached for this epoch.
func (d *decision) pledged() map[pgcluster.NodeID]pgcluster.Report {
	out := map[pgcluster.NodeID]pgcluster.Report{}
	for _, m := range d.s.Members {
		if r, ok := d.v.report(m.ID, d.p); ok && r.Recruited == d.s.Op.Epoch && r.SystemID == d.s.SystemID {
			out[m.ID] = r
		}
	}
	return out
}

// best returns the pledged standby with the most WAL that is on the lineage and
// not below floor; of equals the one with the least left to replay.
func (d *decision) best(pledged map[pgcluster.NodeID]pgcluster.Report, floor pgcluster.Position) (pgcluster.NodeID, bool) {
	var candidates []pgcluster.Report
	for _, r := range pledged {
		if readable(r) && reaches(r, floor) && d.onLineage(r) {
			candidates = append(candidates, r)
		}
	}
	if len(candidates) == 0 {
		return "", false
	}
	slices.SortFunc(candidates, func(a, b pgcluster.Report) int {
		return cmp.Or(
			b.Position.Compare(a.Position),
			cmp.Compare(b.Replayed, a.Replayed),
			cmp.Compare(a.Node, b.Node),
		)
	})
	return candidates[0].Node, true
}

// readable reports whether r is a standby that knows where its WAL ends.
func readable(r pgcluster.Report) bool {
	return r.Running() && r.Role == pgcluster.RoleStandby && r.PositionKnown
}

// reaches reports whether the WAL of r includes floor: its own lineage passes
// through floor's timeline not before floor, and it ends at or after floor.
func reaches(r pgcluster.Report, floor pgcluster.Position) bool {
	return floor.Timeline == 0 || (r.Position.LSN >= floor.LSN && r.Lineage.Holds(floor))
}

// onLineage reports whether r's WAL belongs to the recorded history: it could
// follow the last opened primary, or it is that history's continuation.
func (d *decision) onLineage(r pgcluster.Report) bool {
	if r.Led > d.s.Primary.Epoch && !slices.Contains(d.s.Op.Tried, r.Node) {
		return false
	}
	if latest(r) <= d.s.Primary.Epoch && d.strays(r) {
		return false
	}
	return d.s.Lineage.Holds(r.Position) || r.Lineage.Has(d.s.Lineage.Current())
}
