package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Restart returns the state in which PostgreSQL is restarted on node id, or on all
// nodes one by one if id is empty, so that settings which wait for it come into force.
// It returns a *RefusedError while something else is under way, or a node could not be
// restarted now.
//
// Standbys are restarted first, each once the others are enough to acknowledge, and the
// primary last: the role moves to a standby, and the old primary restarts as it follows.
// But a standby may not have less of some settings than its primary: where one of those
// gets lower, the primary is restarted first, where it is; and where another gets higher
// at the same time, standbys have their turn before it and again after it.
func Restart(s State, v View, p Policy, id pgcluster.NodeID, reason string) (State, error) {
	d := decision{s: s.clone(), v: v, p: p}
	if refusal := d.refuseRestart(id); refusal != "" {
		return s, &RefusedError{refusal}
	}
	if reason == "" {
		reason = "asked for"
	}
	op := Operation{Kind: KindRestart, From: s.Primary.Node, Todo: []pgcluster.NodeID{id}, Reason: reason}
	if id == "" {
		op.Todo, op.All = d.restartOrder(), true
	}
	d.begin(op, PhaseRestart)
	return d.s, nil
}

func (d *decision) refuseRestart(id pgcluster.NodeID) string {
	primary := d.s.Primary.Node
	r, ok := d.v.report(primary, d.p)
	m, known := d.s.Member(id)
	switch {
	case d.s.Op != nil:
		return fmt.Sprintf("a %s is under way (phase %s)", d.s.Op.Kind, d.s.Op.Phase)
	case d.s.fenced(primary):
		return fmt.Sprintf("the primary %s is fenced: %s ends that", primary, d.s.Absent[primary].Ends(primary))
	case d.s.Primary.Access != AccessOpen:
		return "the cluster has no open primary"
	case !ok || !r.Running():
		return fmt.Sprintf("the primary %s does not report", primary)
	case id != "" && (!known || !m.Data()):
		return fmt.Sprintf("there is no node %q with a PostgreSQL", id)
	case d.s.absent(id):
		return fmt.Sprintf("%s is left out: %s", id, d.s.Absent[id])
	case id != "" && id != primary && !d.joinable(r, id):
		return fmt.Sprintf("%s does not stream from %s", id, primary)
	case id != "" && id != primary && len(r.Lower) > 0:
		return fmt.Sprintf("%s gets lower: restart %s before its standbys, or all nodes", few(r.Lower), primary)
	case id == primary && len(r.Lower) > 0 && len(r.Higher) > 0:
		return fmt.Sprintf("%s gets lower and %s higher, which standbys must have first: restart all nodes", few(r.Lower), few(r.Higher))
	}
	for _, m := range d.s.dataMembers() {
		f, ok := d.v.report(m.ID, d.p)
		if ok && (id == "" || id == m.ID || m.ID == primary) && f.Config < d.s.Settings.Version {
			return fmt.Sprintf("%s has not written the latest settings yet", m.ID)
		}
	}
	return ""
}

// restartOrder returns the nodes that run, in the order in which all are restarted.
func (d *decision) restartOrder() []pgcluster.NodeID {
	primary := d.s.Primary.Node
	var async, sync []pgcluster.NodeID
	for _, m := range d.s.Members {
		switch _, ok := d.v.standby(m.ID, d.p); {
		case !ok || m.ID == primary || m.Leaving || d.s.absent(m.ID):
		case d.s.Sync.target().Has(m.ID):
			sync = append(sync, m.ID)
		default:
			async = append(async, m.ID)
		}
	}
	standbys, first := slices.Concat(async, sync), []pgcluster.NodeID{primary}
	switch r, _ := d.v.report(primary, d.p); {
	case len(r.Lower) == 0:
		return append(standbys, primary)
	case len(r.Higher) == 0:
		return append(first, standbys...)
	default: // the second time, a standby takes what has got lower; before, its agent keeps it from that
		return slices.Concat(standbys, first, standbys)
	}
}

// rolling restarts one node after the other. The primary is open, and looked after as
// ever: if it is lost, the restart gives way.
func (d *decision) rolling() {
	if f, lost := d.primaryLost(); lost && (d.s.Paused != nil || d.cooldown(f) == 0) {
		d.abort("given up: " + f.reason)
	}
	if d.s.Paused != nil {
		d.paused()
	} else {
		d.steady()
	}
	op := d.s.Op
	if op == nil || op.Phase != PhaseRestart {
		return // it was given up
	}
	r, ok := d.v.report(op.From, d.p)
	if !ok || !r.Running() {
		return
	}
	switch f, there := d.v.standby(op.To, d.p); {
	case op.To != "" && there && f.Restarted == op.ID && d.joinable(r, op.To):
		d.nextRestart(r, false)
	case d.v.Now-d.v.PhaseSince >= d.p.RestartWait:
		d.abort(d.restartFailed())
	case op.To != "":
		d.orderRestart()
	default:
		d.nextRestart(r, d.v.Now-d.v.PhaseSince >= d.p.PromoteWait)
	}
}

// orderRestart orders what it is the turn of, instead of whatever else it was ordered.
func (d *decision) orderRestart() {
	op := d.s.Op
	d.orders = slices.DeleteFunc(d.orders, func(o pgcluster.Order) bool { return o.Node == op.To })
	d.order(pgcluster.Order{Node: op.To, Kind: pgcluster.OrderRestart, Upstream: op.From, Restart: op.ID})
}

func (d *decision) restartFailed() string {
	if to := d.s.Op.To; to != "" {
		return fmt.Sprintf("%s does not stream again %s after it was told to restart", to, d.p.RestartWait)
	}
	return fmt.Sprintf("%s was not restarted: too few others stream", d.s.Op.Todo[0])
}

// nextRestart lets the next node have its turn, unless too few others stream. Whoever is
// gone restarts by itself when it returns; who only does not stream, as after a change of
// primary, is left out once it was waited for.
func (d *decision) nextRestart(r pgcluster.Report, waited bool) {
	op := d.s.Op
	last := op.To
	if last != "" {
		op.Todo, op.To = op.Todo[1:], ""
	}
	for len(op.Todo) > 0 {
		next := op.Todo[0]
		if next == op.From {
			d.restartPrimary(r)
			return
		}
		if d.joinable(r, next) {
			if d.spare(r, next) {
				op.To = next
				op.enter(PhaseRestart, d.v)
				d.orderRestart()
			}
			return
		}
		if _, runs := d.v.standby(next, d.p); runs && !waited {
			return
		}
		op.Todo, last = op.Todo[1:], next
	}
	if op.All {
		last = op.From // of all nodes, their primary's name
	}
	d.s.Op = nil
	d.record(Event{
		At: d.v.Wall, Epoch: d.s.Primary.Epoch, Kind: string(KindRestart), Node: last,
		Reason: op.Reason, Took: max(0, d.v.Wall.Sub(op.Began)).Round(time.Millisecond), Steps: op.Steps,
	})
}

// spare reports whether commits are acknowledged without id; or could never be, for
// there are too few nodes.
func (d *decision) spare(r pgcluster.Report, id pgcluster.NodeID) bool {
	sync := d.s.Sync.target()
	others := 0
	for _, m := range d.s.Members {
		if m.ID != id && m.ID != r.Node && d.s.mayJoin(m.ID) {
			others++
		}
	}
	return !sync.Has(id) || streaming(r, sync.Without(id)) >= sync.K || others < sync.K
}

// restartPrimary lets the role move to a standby that was restarted; or stays with the
// primary, if standbys are to follow or there is none.
func (d *decision) restartPrimary(r pgcluster.Report) {
	op := d.s.Op
	op.Todo = op.Todo[1:]
	if len(op.Todo) == 0 && len(r.Lower) == 0 {
		op.To, _ = d.switchoverTarget(r, "")
	}
	op.InPlace = op.To == ""
	op.enter(PhaseCheckpoint, d.v)
	d.v.PhaseSince = d.v.Now // not since the last node's turn
	d.operation()
}

// stopInPlace waits for the end of a primary that stays primary, and starts it in the next
// epoch, as docs/decisions/restart-in-place.md says. From then on it is like the failover
// to a primary that is started in place.
func (d *decision) stopInPlace() {
	op := d.s.Op
	r, ok := d.v.report(op.From, d.p)
	switch {
	case ok && r.Down() && r.Recruited == op.Epoch:
		op.enter(PhaseRecruit, d.v)
		d.recruit()
	case d.v.silentFor(op.From) >= d.p.Silence:
		d.recruitInstead(fmt.Sprintf("%s fell silent while it was restarted", op.From), false)
	case d.v.Now-d.v.PhaseSince >= d.p.StopWait:
		d.recruitInstead(fmt.Sprintf("%s did not stop in time", op.From), false)
	default:
		d.order(pgcluster.Order{Node: op.From, Kind: pgcluster.OrderStop})
	}
}

// restartOn goes on with the nodes that are to be restarted after a primary that was
// opened by op.
func (d *decision) restartOn(op Operation) {
	todo := slices.DeleteFunc(slices.Clone(op.Todo), func(id pgcluster.NodeID) bool { return id == op.To })
	switch {
	case len(todo) == 0:
	case op.Kind == KindRestart:
		d.begin(Operation{Kind: KindRestart, From: op.To, Todo: todo, All: op.All, Reason: op.Reason}, PhaseRestart)
	default:
		d.record(Event{
			At: d.v.Wall, Epoch: op.Epoch, Kind: "aborted", Node: op.To, From: op.From,
			Reason: fmt.Sprintf("%s not restarted: %s", list(todo), op.Reason),
		})
	}
}
