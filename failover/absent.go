package failover

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// AbsenceKind is why people have the cluster do without a node.
type AbsenceKind string

// Kinds of absences.
const (
	AbsenceMaintenance AbsenceKind = "maintenance" // somebody works on the host: its PostgreSQL is left alone
	AbsenceFence       AbsenceKind = "fence"       // it must not serve: its PostgreSQL is kept stopped
	AbsenceReclone     AbsenceKind = "reclone"     // its data are replaced by a copy of the primary's
)

// Absence is an agreed time without a node. It is no candidate, and no commit waits for
// it: it leaves the sync set first, and until it has left, it is treated like any other.
// What a commit waits for (State.K) stays what it is.
type Absence struct {
	Kind    AbsenceKind `json:"kind"`
	ID      uint64      `json:"id"` // counted like operations
	Since   time.Time   `json:"since"`
	Until   time.Time   `json:"until,omitzero"`    // of maintenance
	Discard bool        `json:"discard,omitempty"` // of a reclone: the old data go before the copy is made
	// Cancelled: of a reclone that is not wanted any more. It ends once the node says
	// that no order of before, late on its way, can take its data from it.
	Cancelled bool   `json:"cancelled,omitempty"`
	Reason    string `json:"reason"`
}

// String says what it is, in the words of a note about the node.
func (a Absence) String() string {
	switch a.Kind {
	case AbsenceMaintenance:
		return fmt.Sprintf("maintenance until %s: %s", rfc3339(a.Until), a.Reason)
	case AbsenceFence:
		return fmt.Sprintf("fenced since %s: %s", rfc3339(a.Since), a.Reason)
	case AbsenceReclone:
		if a.Cancelled {
			return "it keeps its data, once it says so: " + a.Reason
		}
		return fmt.Sprintf("its data are made anew since %s: %s", rfc3339(a.Since), a.Reason)
	}
	return string(a.Kind)
}

// Ends is what to type to end the absence of id.
func (a Absence) Ends(id pgcluster.NodeID) string {
	switch a.Kind {
	case AbsenceMaintenance:
		return fmt.Sprintf("pgctl maintenance %s --end", id)
	case AbsenceFence:
		return fmt.Sprintf("pgctl unfence %s", id)
	case AbsenceReclone:
		return fmt.Sprintf("pgctl reclone %s --cancel", id)
	}
	return ""
}

// absent reports whether people have the cluster do without id.
func (s State) absent(id pgcluster.NodeID) bool { _, ok := s.Absent[id]; return ok }

// fenced reports whether id must not run.
func (s State) fenced(id pgcluster.NodeID) bool { return s.Absent[id].Kind == AbsenceFence }

// barred reports whether id must not be promoted.
func (s State) barred(id pgcluster.NodeID) bool {
	m, _ := s.Member(id)
	return m.NoFailover || s.absent(id)
}

// SetMaintenance returns the state in which people may work on the host of id until a
// time, by the wall clock of who leads then: its PostgreSQL is neither waited for nor
// promoted, and neither started nor stopped. It ends by itself; asked for again, it has
// another end. It returns a *RefusedError for the primary, for a time that is past or too
// far off, and where too few other nodes are there.
func SetMaintenance(s State, v View, p Policy, id pgcluster.NodeID, until time.Time, reason string) (State, error) {
	until = until.UTC().Round(0)
	if refusal := refuseUntil("maintenance", until, v); refusal != "" {
		return s, &RefusedError{refusal}
	}
	a := Absence{Kind: AbsenceMaintenance, Until: until, Reason: reason}
	if was := s.Absent[id]; was.Kind == AbsenceMaintenance {
		a.ID, a.Since = was.ID, was.Since
		return s.withAbsence(v, id, a), nil
	}
	d := decision{s: s, v: v, p: p}
	if err := d.refuseAbsence(id); err != nil {
		return s, err
	}
	if refusal := d.outvoted(id); refusal != "" {
		return s, &RefusedError{refusal}
	}
	return s.withAbsence(v, id, a), nil
}

// EndMaintenance returns the state in which id is taken back as after any absence, or a
// *RefusedError if it is not in maintenance.
func EndMaintenance(s State, v View, _ Policy, id pgcluster.NodeID, reason string) (State, error) {
	return s.withoutAbsence(v, id, AbsenceMaintenance, "is not in maintenance", reason)
}

// refuseUntil says why something that ends by itself may not end then, or "".
func refuseUntil(what string, until time.Time, v View) string {
	switch left := until.Sub(v.Wall); {
	case left <= 0:
		return fmt.Sprintf("a %s until %s would be over already", what, rfc3339(until))
	case left > maxPause:
		return fmt.Sprintf("a %s may last for %s at most", what, maxPause)
	}
	return ""
}

// refuseAbsence returns a *RefusedError where the cluster cannot do without id.
func (d *decision) refuseAbsence(id pgcluster.NodeID) error {
	if err := d.s.calm(); err != nil {
		return err
	}
	m, known := d.s.Member(id)
	a, absent := d.s.Absent[id]
	switch {
	case !known:
		return &RefusedError{fmt.Sprintf("there is no node %q", id)}
	case absent:
		return &RefusedError{fmt.Sprintf("%s is left out already (%s): %s ends that", id, a, a.Ends(id))}
	case m.Leaving:
		return &RefusedError{fmt.Sprintf("%s is being removed", id)}
	case d.s.Paused != nil:
		return &RefusedError{"the cluster is paused, so that no node can leave the sync set: pgctl resume first"}
	case id == d.s.Primary.Node:
		return &RefusedError{fmt.Sprintf("%s is primary: switch over first: pgctl switchover", id)}
	}
	without := d.s.absentFor(id, Absence{})
	if refusal := without.irreplaceable(d.v, d.p, id); refusal != "" {
		return &RefusedError{refusal}
	}
	return nil
}

// outvoted says why Raft cannot do without id, or "": what is left must be a majority,
// without the others that people may take down at any moment.
func (d *decision) outvoted(id pgcluster.NodeID) string {
	there := 0
	for _, m := range d.s.Members {
		_, ok := d.v.report(m.ID, d.p)
		if ok && m.ID != id && d.s.Absent[m.ID].Kind != AbsenceMaintenance {
			there++
		}
	}
	if majority := len(d.s.Members)/2 + 1; there < majority {
		return fmt.Sprintf("Raft needs %d of %d nodes, and only %d would be sure to be there without %s: bring one back, "+
			"or add a node or a witness first (pgctl node add)", majority, len(d.s.Members), there, id)
	}
	return ""
}

// absentFor returns s with a as the absence of id; the rest is shared.
func (s State) absentFor(id pgcluster.NodeID, a Absence) State {
	all := map[pgcluster.NodeID]Absence{id: a}
	for o, was := range s.Absent {
		if o != id {
			all[o] = was
		}
	}
	s.Absent = all
	return s
}

// withAbsence returns s with a new absence of id, or another end of one.
func (s State) withAbsence(v View, id pgcluster.NodeID, a Absence) State {
	d := decision{s: s.clone(), v: v}
	if a.Reason == "" {
		a.Reason = "asked for"
	}
	if a.ID == 0 {
		a.ID, a.Since = d.number(), v.Wall.UTC().Round(0)
	}
	d.s = d.s.absentFor(id, a)
	reason := a.Reason
	if !a.Until.IsZero() {
		reason = fmt.Sprintf("until %s: %s", rfc3339(a.Until), a.Reason)
	}
	d.record(Event{At: v.Wall, Epoch: s.Primary.Epoch, Kind: string(a.Kind), Node: id, Reason: reason})
	return d.s
}

// withoutAbsence ends an absence of one kind that people ask to end.
func (s State) withoutAbsence(v View, id pgcluster.NodeID, kind AbsenceKind, not, reason string) (State, error) {
	if s.Absent[id].Kind != kind {
		return s, &RefusedError{fmt.Sprintf("%s %s", id, not)}
	}
	if reason == "" {
		reason = "asked for"
	}
	d := decision{s: s.clone(), v: v}
	d.endAbsence(id, reason)
	return d.s, nil
}

// endAbsence lets id be a node like any other again.
func (d *decision) endAbsence(id pgcluster.NodeID, reason string) {
	a := d.s.Absent[id]
	d.dropAbsence(id)
	d.record(Event{
		At: d.v.Wall, Epoch: d.s.Primary.Epoch, Kind: string(a.Kind) + " ended", Node: id, Reason: reason,
		Took: max(0, d.v.Wall.Sub(a.Since)).Round(time.Millisecond),
	})
}

// dropAbsence leaves none behind that is empty, so that the state reads back as it is.
func (d *decision) dropAbsence(id pgcluster.NodeID) {
	left := maps.Clone(d.s.Absent)
	delete(left, id)
	if len(left) == 0 {
		left = nil
	}
	d.s.Absent = left
}

// endAbsences ends maintenance whose time is up, by the wall clock as in endPause, and
// forgets nodes that are no members any more.
func (d *decision) endAbsences() {
	for _, id := range slices.Sorted(maps.Keys(d.s.Absent)) {
		a := d.s.Absent[id]
		if _, member := d.s.Member(id); !member {
			d.dropAbsence(id)
		} else if a.Kind == AbsenceMaintenance && !d.v.Wall.Before(a.Until) {
			d.endAbsence(id, "it ended as it was meant to")
		}
	}
}

// relied reports whether commits may rest on id: in force, on its way, or in an epoch
// that is being opened.
func (d *decision) relied(id pgcluster.NodeID) bool {
	sync, op := d.s.Sync, d.s.Op
	return sync.Durable.Has(id) || (sync.Pending != nil && sync.Pending.Has(id)) || (op != nil && op.Sync.Has(id))
}

// apart orders a node that the cluster does without what it is to be meanwhile, and
// reports whether that is all that it is to be told. While commits may rest on it, and
// while its data are made anew, it is told to follow.
func (d *decision) apart(r pgcluster.Report) bool {
	a, absent := d.s.Absent[r.Node]
	if !absent || d.relied(r.Node) {
		return false
	}
	switch a.Kind {
	case AbsenceMaintenance:
		if r.Order.Kind != pgcluster.OrderRest {
			d.order(pgcluster.Order{Node: r.Node, Kind: pgcluster.OrderRest})
		}
		return true
	case AbsenceFence:
		d.keepStopped(r)
		return true
	case AbsenceReclone:
	}
	return false
}

// keepStopped orders a node's PostgreSQL to be stopped, unless it is and was told to be.
func (d *decision) keepStopped(r pgcluster.Report) {
	if r.Role != pgcluster.RoleNone && (r.Order.Kind != pgcluster.OrderStop || !r.Down()) {
		d.order(pgcluster.Order{Node: r.Node, Kind: pgcluster.OrderStop})
	}
}

// released reports whether the cluster does without id as people want: no commit rests
// on it, and its agent has reported that it lets PostgreSQL alone, or has stopped it. Of a
// silent node nobody knows that.
func (d *decision) released(id pgcluster.NodeID, a Absence) bool {
	r, ok := d.v.report(id, d.p)
	switch {
	case !ok || d.relied(id):
		return false
	case a.Kind == AbsenceMaintenance:
		return r.Order.Kind == pgcluster.OrderRest || r.Role == pgcluster.RoleNone
	case a.Kind == AbsenceFence:
		return r.Down()
	}
	return false
}

// absentees says whom people have the cluster do without, for people who wait for nodes.
func (d *decision) absentees() string {
	var out strings.Builder
	for _, id := range slices.Sorted(maps.Keys(d.s.Absent)) {
		a := d.s.Absent[id]
		fmt.Fprintf(&out, "; %s is left out (%s): %s ends that", id, a.Kind, a.Ends(id))
	}
	return out.String()
}
