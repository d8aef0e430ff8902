package failover

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Forced says that people accept that acknowledged data is lost.
type Forced struct {
	To     pgcluster.NodeID `json:"to,omitempty"` // whom to promote; whoever has most WAL if empty
	Reason string           `json:"reason"`
	Loss   *DataLoss        `json:"loss,omitempty"` // once somebody was chosen who may lack data
}

// DataLoss is what a node lacked when it was promoted without a quorum, as far as this
// was known. It may be more: the lost primary may have written after its last report.
type DataLoss struct {
	Has   pgcluster.Position `json:"has"`    // the end of its WAL
	Known pgcluster.Position `json:"known"`  // the end of the cluster's, as last heard
	Bytes int64              `json:"bytes"`  // of WAL between the two
	For   time.Duration      `json:"for_ns"` // since it last streamed from the primary until that was last heard; -1 unknown
}

// String tells it in a few words.
func (l DataLoss) String() string {
	out := fmt.Sprintf("at least %d bytes of WAL are lost, from %s to %s", l.Bytes, l.Has, l.Known)
	if l.For >= 0 {
		out += fmt.Sprintf(", written within %s", tenths(l.For))
	}
	return out
}

// ForceFailover returns the state in which a failover goes on with the best node that
// there is, or with to, although nobody is sure to have everything: what only absent
// nodes have is given up, and set aside when they return. It returns a *RefusedError
// wherever a failover can go on without loss, or the primary may still be at work.
func ForceFailover(s State, v View, p Policy, to pgcluster.NodeID, reason string) (State, error) {
	d := decision{s: s.clone(), v: v, p: p}
	if refusal := d.refuseForce(to); refusal != "" {
		return s, &RefusedError{refusal}
	}
	if reason == "" {
		reason = "asked for"
	}
	if d.s.Op == nil {
		d.s.Primary.Access = AccessClosed
		d.begin(Operation{Kind: KindFailover, From: s.Primary.Node, Reason: reason, Evidence: d.evidence()}, PhaseRecruit)
	}
	d.s.Op.InPlace = false
	forced := Forced{To: to, Reason: reason}
	if before := d.s.Op.Forced; before != nil {
		forced.Loss = before.Loss // the floor was lowered for good
	}
	d.s.Op.Forced = &forced
	d.record(Event{
		At: v.Wall, Epoch: d.s.Op.Epoch, Kind: "data loss accepted", Node: to, From: d.s.Op.From,
		Reason: reason, Evidence: d.evidence(),
	})
	return d.s, nil
}

func (d *decision) refuseForce(to pgcluster.NodeID) string {
	m, known := d.s.Member(to)
	switch op := d.s.Op; {
	case to != "" && (!known || !m.Data()):
		return fmt.Sprintf("there is no node %q with a PostgreSQL", to)
	case len(d.s.Epochs) == 0:
		return "the cluster has not started yet"
	case op != nil && op.Phase != PhaseRecruit:
		return fmt.Sprintf("a %s is under way (phase %s), which lacks no data", op.Kind, op.Phase)
	case op != nil && op.Forced != nil && op.Forced.To == to:
		return "data loss is accepted already"
	case op != nil:
		if sure, ok := d.choose(); ok {
			return fmt.Sprintf("nothing need be lost: %s has everything", sure)
		}
	default:
		if refusal := d.refuseDeposing(); refusal != "" {
			return refusal
		}
	}
	for _, m := range d.s.dataMembers() {
		// One whose PostgreSQL is down is started when it pledges.
		if r, ok := d.v.report(m.ID, d.p); ok && r.Role == pgcluster.RoleStandby && (to == "" || to == m.ID) {
			return ""
		}
	}
	return "no standby is there to be promoted"
}

// refuseDeposing says why the primary may not be given up.
func (d *decision) refuseDeposing() string {
	id := d.s.Primary.Node
	f, lost := d.primaryLost()
	r, ok := d.v.report(id, d.p)
	switch {
	case d.s.fenced(id) && d.replaceable():
		return "nothing need be lost: pgctl switchover lets a standby take over from the fenced primary"
	case d.s.fenced(id) && ok && r.Down():
		return ""
	case lost && d.s.Paused != nil:
		return "nothing need be lost: end the pause, and a failover begins"
	case lost:
		return "nothing need be lost: a failover begins by itself: " + f.reason
	case d.vouched():
		return fmt.Sprintf("a standby still hears PostgreSQL on %s", id)
	case ok && r.AnsweredAgo < d.p.Hung:
		return fmt.Sprintf("the primary %s is there", id)
	case !ok && d.v.silentFor(id) < d.p.Silence:
		return fmt.Sprintf("the primary %s was heard of %s ago", id, tenths(d.v.silentFor(id)))
	}
	return ""
}

// pick returns whom to promote: who is sure to have everything, or else, where people
// accept that data is lost, the best that there is.
//
// Without a quorum the old primary may still acknowledge with those who are not here,
// if it lives. Nobody can rule that out; but whoever hears of it only from nodes that
// lost touch stops trusting it when the lease ends, and so long the choice waits.
func (d *decision) pick() (pgcluster.NodeID, bool) {
	forced := d.s.Op.Forced
	if to, ok := d.choose(); ok {
		if forced != nil && (forced.Loss == nil || to == d.s.Op.From) {
			d.s.Op.Forced = nil // it was not needed after all, or the old primary is back with everything
		}
		return to, true
	}
	if forced == nil || d.v.Now-d.v.PhaseSince < d.p.Lease {
		return "", false
	}
	best, ok := d.bestOf(*forced)
	if ok {
		d.giveUp(best)
	}
	return best.Node, ok
}

// bestOf returns the standby with most WAL of those that pledged. Who has WAL of an
// epoch that never opened will not do: nobody could tell it from the cluster's.
func (d *decision) bestOf(f Forced) (pgcluster.Report, bool) {
	var all []pgcluster.Report
	for id, r := range d.pledged() {
		if readable(r) && d.onLineage(r) && (id == f.To || (f.To == "" && !d.s.barred(id))) {
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		return pgcluster.Report{}, false
	}
	return slices.MinFunc(all, func(a, b pgcluster.Report) int {
		return cmp.Or(b.Position.Compare(a.Position), cmp.Compare(a.Node, b.Node))
	}), true
}

// giveUp makes the WAL of r all that there is. What others have beyond it is foreign
// from now on: WAL of r's own timeline is told by its position, and rewound. Timelines
// that r never had are not told by anything, for its promotion may take the number of
// one of them again; so their epochs are forgotten, which makes them like epochs that
// never opened, and who has followed them is cloned.
func (d *decision) giveUp(r pgcluster.Report) {
	known := d.knownEnd()
	if before := d.s.Op.Forced.Loss; before != nil {
		known = higher(known, before.Known) // who was given up first failed, too
	}
	loss := DataLoss{Has: r.Position, Known: known, For: -1}
	if known.LSN > r.Position.LSN {
		loss.Bytes = int64(min(known.LSN-r.Position.LSN, 1<<62))
	}
	from, seen := d.v.Reports[d.s.Op.From]
	if streamed, ok := d.v.Streamed[r.Node]; ok && seen {
		loss.For = max(0, from.At-streamed)
	}
	forced := *d.s.Op.Forced
	forced.Loss = &loss
	d.s.Op.Forced = &forced
	d.s.Floor = r.Position
	d.s.Epochs = slices.DeleteFunc(d.s.Epochs, func(e Epoch) bool {
		return e.Epoch > latest(r) || e.Timeline > r.Position.Timeline
	})
}

// knownEnd returns the furthest position in the cluster's history that was heard of:
// also from nodes that are silent now.
func (d *decision) knownEnd() pgcluster.Position {
	end := d.s.Floor
	for _, m := range d.s.Members {
		o, seen := d.v.Reports[m.ID]
		if seen && o.Report.PositionKnown && o.Report.SystemID == d.s.SystemID && d.onLineage(o.Report) && o.Report.Position.Compare(end) > 0 {
			end = o.Report.Position
		}
	}
	return end
}

// lossReason is the reason of an operation with what was lost in it.
func (op *Operation) lossReason() string {
	if op.Forced == nil || op.Forced.Loss == nil {
		return op.Reason
	}
	return fmt.Sprintf("%s; data loss accepted (%s): %s", op.Reason, op.Forced.Reason, op.Forced.Loss)
}

// lost is what was lost in an operation, or nil.
func (op *Operation) lost() *DataLoss {
	if op.Forced == nil {
		return nil
	}
	return op.Forced.Loss
}

// forcedSoon tells people who accepted data loss what they wait for.
func (d *decision) forcedSoon() string {
	forced := d.s.Op.Forced
	if forced == nil {
		return ""
	}
	wait := d.p.Lease - (d.v.Now - d.v.PhaseSince)
	if wait > 0 {
		return fmt.Sprintf("; data loss is accepted, in %s", max(tenths(wait), 100*time.Millisecond))
	}
	return "; data loss is accepted, and nobody is there to promote"
}
