package failover

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Reclone returns the state in which the data of standby id are replaced by a copy of the
// primary's. Once it has left the sync set, it is told so; when it streams again, it is a
// node like any other. The old data are deleted when the copy streams or, with discard,
// before it is made. It returns a *RefusedError for the primary, where too few other nodes
// stream, and where the copy would not fit.
func Reclone(s State, v View, p Policy, id pgcluster.NodeID, discard bool, reason string) (State, error) {
	d := decision{s: s, v: v, p: p}
	if err := d.refuseReclone(id, discard); err != nil {
		return s, err
	}
	return s.withAbsence(v, id, Absence{Kind: AbsenceReclone, Discard: discard, Reason: reason}), nil
}

// CancelReclone returns the state in which id goes on with the data that it has, if they
// are there yet; or a *RefusedError if none are being replaced.
func CancelReclone(s State, v View, _ Policy, id pgcluster.NodeID, reason string) (State, error) {
	a := s.Absent[id]
	switch {
	case a.Kind != AbsenceReclone:
		return s, &RefusedError{fmt.Sprintf("%s is not being cloned", id)}
	case a.Cancelled:
		return s, nil
	}
	a.Cancelled, a.Reason = true, cmp.Or(reason, "asked for")
	d := decision{s: s.clone().absentFor(id, a), v: v}
	d.record(Event{At: v.Wall, Epoch: s.Primary.Epoch, Kind: "reclone cancelled", Node: id, Reason: a.Reason})
	return d.s, nil
}

func (d *decision) refuseReclone(id pgcluster.NodeID, discard bool) error {
	if err := d.refuseAbsence(id); err != nil {
		return err
	}
	m, _ := d.s.Member(id)
	r, ok := d.v.report(id, d.p)
	up, primary := d.v.report(d.s.Primary.Node, d.p)
	switch {
	case m.Witness:
		return &RefusedError{fmt.Sprintf("%s is a witness: it has no data", id)}
	case !ok:
		return &RefusedError{fmt.Sprintf("the xpd of %s does not report: start it first", id)}
	case r.Role == pgcluster.RoleNone:
		return &RefusedError{fmt.Sprintf("%s has no data: it is cloned by itself", id)}
	case !primary || !up.Running():
		return &RefusedError{fmt.Sprintf("the primary %s does not report, and the copy is made from it", d.s.Primary.Node)}
	}
	return d.refuseRoom(r, up, discard)
}

// spareRoom is what a copy must leave free, as the agent sees it.
const spareRoom = 64 << 20

// refuseRoom returns a *RefusedError if a copy of up does not fit beside the data of r, or
// in place of them. Where a size is not known, the agent finds out, before it deletes
// anything but what it was told to discard.
func (d *decision) refuseRoom(r, up pgcluster.Report, discard bool) error {
	free, known := freeForData(r)
	if !known || up.DataBytes == 0 {
		return nil
	}
	const mega = 1 << 20
	need := up.DataBytes + spareRoom
	switch {
	case free >= need:
		return nil
	case !discard:
		return &RefusedError{fmt.Sprintf("a copy of %s needs %d MB on %s, and %d MB are free beside the data that is there: make room, "+
			"or let that be deleted first (--discard)", up.Node, need/mega, r.Node, free/mega)}
	case free+r.DataBytes >= need:
		return nil
	}
	return &RefusedError{fmt.Sprintf("a copy of %s needs %d MB on %s, and there would be %d MB even without the data that is there: make room",
		up.Node, need/mega, r.Node, (free+r.DataBytes)/mega)}
}

func freeForData(r pgcluster.Report) (uint64, bool) {
	i := slices.IndexFunc(r.Disks, func(d pgcluster.Disk) bool { return d.Use == "data" })
	if i < 0 {
		return 0, false
	}
	return r.Disks[i].Free, true
}

// ReclonePlan is what Reclone would do now.
type ReclonePlan struct {
	Node    pgcluster.NodeID `json:"node"`
	From    pgcluster.NodeID `json:"from"`
	Bytes   uint64           `json:"bytes"`      // to copy; 0 unknown, as the next two
	Old     uint64           `json:"old_bytes"`  // of the data that are there
	Free    uint64           `json:"free_bytes"` // beside them
	Discard bool             `json:"discard"`    // the old data go before the copy is made

	Aside   []pgcluster.SetAside `json:"set_aside"` // WAL that was set aside before, and stays
	Sync    string               `json:"sync"`      // the rule meanwhile
	IfDies  []Loss               `json:"if_dies"`   // meanwhile
	Refused string               `json:"refused,omitempty"`
}

// PlanReclone returns what Reclone would do. Nothing is changed by it.
func PlanReclone(s State, v View, p Policy, id pgcluster.NodeID, discard bool) ReclonePlan {
	d := decision{s: s, v: v, p: p}
	out := ReclonePlan{Node: id, From: s.Primary.Node, Discard: discard, Aside: []pgcluster.SetAside{}, IfDies: []Loss{}}
	if o, seen := v.Reports[id]; seen {
		out.Old = o.Report.DataBytes
		out.Free, _ = freeForData(o.Report)
		out.Aside = append(out.Aside, o.Report.SetAside...)
	}
	out.Bytes = v.Reports[s.Primary.Node].Report.DataBytes
	rule := s.Sync.target()
	if refused, ok := errors.AsType[*RefusedError](d.refuseReclone(id, discard)); ok {
		out.Refused = refused.Reason
	} else {
		rule = rule.Without(id)
		away := decision{s: s.absentFor(id, Absence{Kind: AbsenceReclone}), v: v, p: p}
		away.s.Sync = Sync{Durable: s.Sync.Durable.Without(id), Seq: s.Sync.Seq}
		for _, m := range s.Members {
			if loss, ok := away.ifDies(m.ID); ok && m.ID != id {
				out.IfDies = append(out.IfDies, loss)
			}
		}
	}
	out.Sync = rule.String()
	return out
}

// recloned lets nodes be like any other whose copy streams from the primary, whose report
// is up, or that will not make one any more.
func (d *decision) recloned(up pgcluster.Report) {
	for _, id := range slices.Sorted(maps.Keys(d.s.Absent)) {
		a := d.s.Absent[id]
		r, ok := d.v.report(id, d.p)
		switch {
		case !ok || a.Kind != AbsenceReclone || r.Cloned < a.ID:
		case a.Cancelled:
			d.endAbsence(id, "cancelled: "+a.Reason)
		case d.joinable(up, id):
			d.endAbsence(id, fmt.Sprintf("its data are a copy of %s's: %s", up.Node, a.Reason))
		}
	}
}

// copyFor returns for which absence a node with report r is to copy the primary's data, or
// to forget that it should, and whether it was told so already.
func (d *decision) copyFor(r pgcluster.Report) (a Absence, told bool) {
	a = d.s.Absent[r.Node]
	switch {
	case a.Kind != AbsenceReclone || (!a.Cancelled && d.relied(r.Node)):
		return Absence{}, r.Cloned >= r.Order.Clone
	case a.Cancelled:
		return a, r.Cloned >= a.ID
	}
	return a, r.Order.Clone == a.ID
}
