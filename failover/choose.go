package failover

import (
	"cmp"
	"slices"

	"github.com/xpd-platform/xpd/pgcluster"
)

// choose returns the node to promote once the pledges of this epoch are enough.
// Enough is any of
//   - a quorum of the durable sync set: one of them has every acknowledged commit,
//     and so has whoever has as much WAL as all of them;
//   - the last opened primary, down: it has them all, and one that is fenced what nobody
//     acknowledged too, so that a quorum tells better;
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
	if floor, ok := d.atLeast(pledged); ok {
		if best, ok := d.best(pledged, floor); ok {
			return best, true
		}
	}
	return d.restart(pledged)
}

// atLeast returns a position that includes every acknowledged commit, if the pledges
// are enough to tell.
func (d *decision) atLeast(pledged map[pgcluster.NodeID]pgcluster.Report) (pgcluster.Position, bool) {
	floor := d.s.Floor
	from, ok := pledged[d.s.Op.From]
	ended := ok && from.Down() && from.PositionKnown && d.onLineage(from)
	// What only a fenced primary has was not acknowledged, and it is not started for it.
	if ended && !d.s.fenced(from.Node) {
		return higher(floor, from.Position), true
	}
	if len(d.s.Op.Tried) > 0 {
		return floor, true
	}
	var held []pgcluster.Position
	for _, id := range d.s.Sync.Durable.Members {
		// Who does not say how far its WAL goes may have what the others lack.
		if r, ok := pledged[id]; ok && readable(r) && d.onLineage(r) {
			held = append(held, r.Position)
		}
	}
	quorum := d.s.Sync.Durable.Quorum()
	switch {
	case len(held) >= quorum:
		// Of more than a quorum, those with the least WAL are one too.
		slices.SortFunc(held, pgcluster.Position.Compare)
		return higher(floor, held[quorum-1]), true
	case ended:
		return higher(floor, from.Position), true
	}
	return floor, false
}

func higher(a, b pgcluster.Position) pgcluster.Position {
	if a.Compare(b) < 0 {
		return b
	}
	return a
}

// restart returns a node that is down but sure to have everything: starting it in
// place beats waiting once standbys had their time. Who has just failed, with a full
// disk perhaps, is not taken again while there is another.
func (d *decision) restart(pledged map[pgcluster.NodeID]pgcluster.Report) (pgcluster.NodeID, bool) {
	if !d.waitedForStandbys() {
		return "", false
	}
	var failed pgcluster.NodeID
	for _, id := range slices.Concat([]pgcluster.NodeID{d.s.Op.From}, d.s.Op.Tried) {
		r, ok := pledged[id]
		switch {
		case !ok || !r.Down() || r.Role != pgcluster.RolePrimary || d.s.fenced(id):
		case id == d.s.Op.Failed:
			failed = id
		default:
			return id, true
		}
	}
	return failed, failed != ""
}

// waitedForStandbys reports whether standbys had their time to pledge.
func (d *decision) waitedForStandbys() bool { return d.v.Now-d.v.PhaseSince >= d.p.RecruitWait }

// pledged returns the reports of the nodes that are detached for this epoch.
func (d *decision) pledged() map[pgcluster.NodeID]pgcluster.Report {
	out := map[pgcluster.NodeID]pgcluster.Report{}
	for _, m := range d.s.dataMembers() {
		if r, ok := d.v.report(m.ID, d.p); ok && r.Recruited == d.s.Op.Epoch && r.SystemID == d.s.SystemID {
			out[m.ID] = r
		}
	}
	return out
}

// best returns the pledged standby with the most WAL that is on the lineage and not
// below floor; of equals, one in another zone than the lost primary's, then by
// priority, then the one with the least left to replay. Who is not meant to be
// promoted is, if nobody else could be; who must not be, never.
func (d *decision) best(pledged map[pgcluster.NodeID]pgcluster.Report, floor pgcluster.Position) (pgcluster.NodeID, bool) {
	var candidates []pgcluster.Report
	for _, m := range d.s.dataMembers() {
		r, ok := pledged[m.ID]
		if !ok || d.s.barred(m.ID) || (!waitable(m) && !d.waitedForStandbys()) {
			continue
		}
		if readable(r) && reaches(r, floor) && d.onLineage(r) {
			candidates = append(candidates, r)
		}
	}
	if len(candidates) == 0 {
		return "", false
	}
	return slices.MinFunc(candidates, d.comparePromotable).Node, true
}

func (d *decision) comparePromotable(a, b pgcluster.Report) int {
	m, _ := d.s.Member(a.Node)
	o, _ := d.s.Member(b.Node)
	from := d.s.Op.From
	return cmp.Or(
		boolsDiffer(!waitable(m), !waitable(o)),
		b.Position.Compare(a.Position),
		boolsDiffer(d.s.sameZone(a.Node, from), d.s.sameZone(b.Node, from)),
		cmp.Compare(o.Priority, m.Priority),
		cmp.Compare(b.Replayed, a.Replayed),
		cmp.Compare(a.Node, b.Node),
	)
}

// boolsDiffer orders false before true.
func boolsDiffer(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// byPreference orders members by who should be the first primary.
func byPreference(a, b pgcluster.Member) int {
	return cmp.Or(
		boolsDiffer(a.NoFailover || !waitable(a), b.NoFailover || !waitable(b)),
		cmp.Compare(b.Priority, a.Priority),
	)
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
