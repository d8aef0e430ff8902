package failover

import (
	"fmt"
	"slices"

	"github.com/xpd-platform/xpd/pgcluster"
)

// beginAdopt takes over the PostgreSQL that is there at the first start of the cluster,
// once all members report, for nobody can tell what a silent one has. Its primary keeps its
// data, and so do the standbys that have the same history; who has nothing is cloned.
// It reports whether it began: not where it is not clear which data is the cluster's; adoptable says why.
func (d *decision) beginAdopt() bool {
	r, refusal := d.adoptable()
	if refusal != "" || r.Node == "" {
		return false
	}
	d.s.SystemID = r.SystemID // from now on, nothing is ever made by initdb
	d.s.Primary.Access = AccessClosed
	d.begin(Operation{Kind: KindAdopt, To: r.Node, Reason: fmt.Sprintf("first start of the cluster, on the data of %s", r.Node)}, PhaseAdopt)
	op := d.s.Op
	// Nodes that belonged to a cluster whose agreed state is gone refuse orders of
	// epochs that they have seen.
	for _, o := range d.v.Reports {
		op.Epoch = max(op.Epoch, o.Report.Pledged.Epoch+1, latest(o.Report)+1)
	}
	op.Base = d.base(r.Node)
	d.adopt()
	return true
}

// adoptable returns the primary whose data becomes the cluster's, or says why there is
// none; both are empty if no member has data.
func (d *decision) adoptable() (pgcluster.Report, string) {
	var primary pgcluster.Report
	var all []pgcluster.Report
	for _, m := range d.s.dataMembers() {
		r, ok := d.v.report(m.ID, d.p)
		switch {
		case !ok:
			return primary, fmt.Sprintf("waiting for %s", m.ID)
		case r.Role == pgcluster.RoleNone:
			continue
		case r.SystemID == "":
			return primary, fmt.Sprintf("the data of %s cannot be identified", m.ID)
		case r.Role == pgcluster.RolePrimary && primary.Node != "":
			return primary, fmt.Sprintf("both %s and %s have the data of a primary: which is to be kept? Move the other one away", primary.Node, m.ID)
		case r.Role == pgcluster.RolePrimary:
			primary = r
		}
		all = append(all, r)
	}
	switch {
	case len(all) == 0:
		return primary, ""
	case primary.Node == "":
		return primary, fmt.Sprintf("%s has the data of a standby, and no node that of a primary: promote it first", all[0].Node)
	}
	for _, r := range all {
		switch {
		case r.SystemID != primary.SystemID:
			return primary, fmt.Sprintf("%s has data of another PostgreSQL (system identifier %s) than %s (%s): move one away", r.Node, r.SystemID, primary.Node, primary.SystemID)
		case latest(r) > latest(primary):
			return primary, fmt.Sprintf("%s has seen epoch %d, and the primary %s only epoch %d: move its data away", r.Node, latest(r), primary.Node, latest(primary))
		case r.PositionKnown && primary.PositionKnown && r.Position.Timeline > primary.Lineage.Current():
			return primary, fmt.Sprintf("%s is on timeline %d, and the primary %s only on %d: move its data away", r.Node, r.Position.Timeline, primary.Node, primary.Lineage.Current())
		}
	}
	return primary, ""
}

// adopt takes the primary over, closed. Then it is opened like one made by initdb, once
// others hold what it acknowledges.
func (d *decision) adopt() {
	op := d.s.Op
	r, ok := d.v.report(op.To, d.p)
	if ok && r.Running() && r.Role == pgcluster.RolePrimary && r.Led == op.Epoch {
		op.enter(PhaseBarrier, d.v)
		d.barrier()
		return
	}
	d.startAgain(r)
	d.lead(op.To, op.Sync, false, false)
}

// startAgain goes on with the next epoch if the first primary of the cluster, whose
// report is r, has ended: nothing was acknowledged yet, so the same node starts once
// more, and who followed it keeps what it has.
func (d *decision) startAgain(r pgcluster.Report) {
	op := d.s.Op
	if r.Node != op.To || !r.Down() || r.Led != op.Epoch {
		return
	}
	op.Base = d.base(op.To)
	op.Epoch++
	op.enter(op.Phase, d.v)
}

// first reports whether an operation opens the cluster's first epoch. Nobody but the
// chosen node has the data then, so it is never given up for another.
func (op *Operation) first() bool { return op.Kind == KindBootstrap || op.Kind == KindAdopt }

// notAdopted says why data that is there is not taken over, for people.
func (d *decision) notAdopted() string {
	if _, refusal := d.adoptable(); refusal != "" && !d.awaited() {
		return ": " + refusal
	}
	return ""
}

// awaited reports whether a node with a PostgreSQL is silent.
func (d *decision) awaited() bool {
	return slices.ContainsFunc(d.s.dataMembers(), func(m pgcluster.Member) bool {
		_, ok := d.v.report(m.ID, d.p)
		return !ok
	})
}
