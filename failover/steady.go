package failover

import (
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// steady looks after an open primary: is it there, do the others follow it, and
// does the sync set fit who is there.
func (d *decision) steady() {
	if f, lost := d.primaryLost(); lost && d.cooldown(f) == 0 {
		d.failover(f)
		return
	}
	id := d.s.Primary.Node
	r, ok := d.v.report(id, d.p)
	if !ok || !r.Running() || r.Role != pgcluster.RolePrimary {
		return
	}
	d.syncSet(r)
	d.dropLeft()
	d.keepOpen(r)
	d.followers(r)
	d.recloned(r)
}

// keepOpen orders the open primary, whose report is r, to be as it was agreed on.
func (d *decision) keepOpen(r pgcluster.Report) {
	if target := d.s.Sync.target(); r.Open != d.s.Primary.Epoch || r.SyncNames != target.Names() || r.Order.SyncSeq != d.s.Sync.Seq {
		d.lead(r.Node, target, true, true)
	}
}

func (d *decision) failover(f finding) {
	from := d.s.Primary.Node
	op := Operation{Kind: KindFailover, From: from, Reason: f.reason, Evidence: f.evidence, Unwell: f.since.Round(time.Millisecond)}
	if r, ok := d.v.report(from, d.p); ok && r.Down() && r.Role == pgcluster.RolePrimary && !d.s.fenced(from) {
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
