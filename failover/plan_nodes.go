package failover

import (
	"fmt"
	"slices"

	"github.com/xpd-platform/xpd/pgcluster"
)

// plannedNodes describes every node but the primary by what choice says of it.
func (d *decision) plannedNodes(choice func(pgcluster.NodeID) (Choice, string)) []PlannedNode {
	var out []PlannedNode
	for _, m := range d.s.dataMembers() {
		c, why := ChoicePrimary, "-"
		if m.ID != d.s.Primary.Node {
			c, why = choice(m.ID)
		}
		out = append(out, d.planned(m.ID, c, why))
	}
	return out
}

func (d *decision) planned(id pgcluster.NodeID, c Choice, why string) PlannedNode {
	n := d.nodeStatus(id)
	return PlannedNode{ID: id, Choice: c, Why: why, State: n.State, Timeline: n.Timeline, LSN: n.LSN, Gap: n.Gap, Age: n.Age}
}

// planNodes says of every node what became of it, once all have pledged.
func (d *decision) planNodes(out *Plan) {
	ranked := d.ranked()
	out.Nodes = d.plannedNodes(func(id pgcluster.NodeID) (Choice, string) {
		if id == out.To && out.Forced != nil { // accepted before, whatever it lacks
			return ChoiceChosen, "it has most, and data loss is accepted"
		}
		if why := d.unfit(id); why != "" {
			return ChoiceNo, why
		}
		switch i := slices.IndexFunc(ranked, func(r pgcluster.Report) bool { return r.Node == id }); {
		case out.To == "":
			return ChoiceNo, "nobody can tell that it has everything"
		case id == out.To && len(ranked) == 1:
			return ChoiceChosen, "the only one that has everything and may be promoted"
		case i == 0 && id == out.To:
			return ChoiceChosen, d.preferred(ranked[0], ranked[1])
		case i > 0 && ranked[0].Node == out.To:
			return ChoicePossible, fmt.Sprintf("%s is better: %s", ranked[0].Node, d.preferred(ranked[0], ranked[i]))
		}
		return ChoiceNo, "not needed"
	})
	for i, n := range out.Nodes {
		switch {
		case n.ID == out.To && n.ID == out.From:
			out.Nodes[i].Choice, out.Nodes[i].Why = ChoiceChosen, "it has everything, and is started again where it is"
			fallthrough
		case n.ID == out.To:
			out.Why = out.Nodes[i].Why
		}
	}
}

// ranked lists who could be promoted, the best first, as best chooses.
func (d *decision) ranked() []pgcluster.Report {
	pledged := d.pledged()
	floor, ok := d.atLeast(pledged)
	if !ok {
		return nil
	}
	var out []pgcluster.Report
	for _, m := range d.s.dataMembers() {
		r, ok := pledged[m.ID]
		if ok && !d.s.barred(m.ID) && readable(r) && reaches(r, floor) && d.onLineage(r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, d.comparePromotable)
	return out
}

// unfit says why id could not be promoted by a failover whatever the others have, or
// "" if it could.
func (d *decision) unfit(id pgcluster.NodeID) string {
	m, _ := d.s.Member(id)
	r, ok := d.v.report(id, d.p)
	floor, _ := d.atLeast(d.pledged())
	switch {
	case !ok:
		return "silent"
	case r.Role == pgcluster.RoleNone:
		return "has no data"
	case r.SystemID != d.s.SystemID:
		return "has the data of another cluster"
	case m.NoFailover:
		return "must not be promoted (nofailover)"
	case d.s.absent(id):
		return fmt.Sprintf("is left out: %s", d.s.Absent[id])
	case r.Role == pgcluster.RolePrimary:
		return "was primary, and has not rejoined"
	case !r.Running():
		return fmt.Sprintf("%s: its WAL's end is known once it runs", r.Process)
	case !r.PositionKnown:
		return "does not know its WAL's end"
	case !d.onLineage(r):
		return "has WAL that is not the cluster's"
	case r.Position.LSN < floor.LSN:
		return fmt.Sprintf("lacks %d bytes that may be acknowledged", gap(floor.LSN, r.Position.LSN))
	case !reaches(r, floor):
		return fmt.Sprintf("its WAL does not pass through %s, which may be acknowledged", floor)
	}
	return ""
}

// preferred says by what a goes before b: the first thing that comparePromotable finds.
func (d *decision) preferred(a, b pgcluster.Report) string {
	m, _ := d.s.Member(a.Node)
	o, _ := d.s.Member(b.Node)
	from := d.s.Op.From
	switch {
	case waitable(m) != waitable(o):
		return fmt.Sprintf("%s is promoted only if nobody else can be (nosync)", b.Node)
	case a.Position.Timeline != b.Position.Timeline:
		return fmt.Sprintf("timeline %d, %s is on %d", a.Position.Timeline, b.Node, b.Position.Timeline)
	case a.Position != b.Position:
		return fmt.Sprintf("%d bytes more WAL than %s", gap(a.Position.LSN, b.Position.LSN), b.Node)
	case d.s.sameZone(a.Node, from) != d.s.sameZone(b.Node, from):
		return fmt.Sprintf("%s is in the zone of %s", b.Node, from)
	case m.Priority != o.Priority:
		return fmt.Sprintf("priority %d, %s has %d", m.Priority, b.Node, o.Priority)
	case a.Replayed != b.Replayed:
		return fmt.Sprintf("%d bytes less to replay than %s", gap(a.Replayed, b.Replayed), b.Node)
	}
	return fmt.Sprintf("like %s in all, and first by name", b.Node)
}

// switchoverChoice says what a switchover makes of id, where r is the primary's report.
func (d *decision) switchoverChoice(r pgcluster.Report, id pgcluster.NodeID, plan Plan) (Choice, string) {
	asked := plan.Asked
	if asked != id {
		asked = ""
	}
	if !d.switchable(r, id, asked) {
		_, refusals := d.switchoverTarget(r, id)
		if len(refusals) == 0 {
			return ChoiceNo, "nosync: only if it is asked for"
		}
		return ChoiceNo, refusals[0][len(id)+1:] // each begins with the name
	}
	var others []pgcluster.NodeID
	for _, m := range d.s.dataMembers() {
		if m.ID != r.Node && m.ID != id && d.switchable(r, m.ID, "") {
			others = append(others, m.ID)
		}
	}
	switch {
	case id == plan.To && plan.Asked == id:
		return ChoiceChosen, "asked for"
	case id == plan.To && len(others) == 0:
		return ChoiceChosen, "the only one that can take over at once"
	case id == plan.To:
		next, _ := d.switchoverTarget(withoutSender(r, id), "")
		return ChoiceChosen, d.rather(r, id, next)
	case plan.Asked == "" && plan.To != "":
		return ChoicePossible, fmt.Sprintf("%s is better: %s", plan.To, d.rather(r, plan.To, id))
	}
	return ChoicePossible, "could take over at once"
}

// switchable reports whether the role could move to id, by name if asked is id.
func (d *decision) switchable(r pgcluster.Report, id, asked pgcluster.NodeID) bool {
	m, _ := d.s.Member(id)
	best, _ := d.switchoverTarget(r, id)
	return best == id && (asked == id || d.s.Sync.Durable.Has(id) || !m.NoSync)
}

// withoutSender returns r as it would be if nothing streamed to id.
func withoutSender(r pgcluster.Report, id pgcluster.NodeID) pgcluster.Report {
	r.Senders = slices.DeleteFunc(slices.Clone(r.Senders), func(s pgcluster.Sender) bool { return s.Node == id })
	return r
}

// rather says by what a switchover prefers a to b.
func (d *decision) rather(r pgcluster.Report, a, b pgcluster.NodeID) string {
	m, _ := d.s.Member(a)
	o, _ := d.s.Member(b)
	s, _ := r.Sender(a)
	t, _ := r.Sender(b)
	switch {
	case m.Priority != o.Priority:
		return fmt.Sprintf("priority %d, %s has %d", m.Priority, b, o.Priority)
	case s.Flushed != t.Flushed:
		return fmt.Sprintf("%d bytes further than %s", gap(s.Flushed, t.Flushed), b)
	case d.replayed(r, a) != d.replayed(r, b):
		return fmt.Sprintf("%d bytes less to replay than %s", gap(d.replayed(r, a), d.replayed(r, b)), b)
	}
	return fmt.Sprintf("as far as %s, and listed before it", b)
}
