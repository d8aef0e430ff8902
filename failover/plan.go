package failover

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Plan is what a change of primary would do if it began now, as the rules that would
// decide then see it. Nothing is changed by making one.
type Plan struct {
	Kind  Kind             `json:"kind"`            // failover or switchover
	Asked pgcluster.NodeID `json:"asked,omitempty"` // whom people want to be promoted
	From  pgcluster.NodeID `json:"from,omitempty"`
	Epoch uint64           `json:"epoch,omitempty"` // that it would open

	// Supposed is what the plan takes for granted though it is not so, or not known.
	Supposed string `json:"supposed,omitempty"`
	Held     string `json:"held,omitempty"` // why it would not begin by itself although it could be done

	Recruits []pgcluster.NodeID `json:"recruits,omitempty"` // who would pledge to the new epoch
	Quorum   int                `json:"quorum,omitempty"`   // so many of Of must, if not From itself; 0 where nobody need
	Of       []pgcluster.NodeID `json:"of,omitempty"`

	To      pgcluster.NodeID   `json:"to,omitempty"`      // who would be chosen; nobody if Refused
	Why     string             `json:"why,omitempty"`     // To and nobody else
	Refused string             `json:"refused,omitempty"` // why it cannot be done
	Missing []pgcluster.NodeID `json:"missing,omitempty"` // silent nodes of which some would help, if Refused

	Sync     string        `json:"sync,omitempty"`   // the rule that To would start with
	After    string        `json:"after,omitempty"`  // why writes would still wait then; empty: they go on
	SetAside int64         `json:"set_aside_bytes"`  // WAL of From, never acknowledged, that To lacks by the last reports; -1 unknown
	Forced   *PlanForced   `json:"forced,omitempty"` // the same if people accept that data is lost
	Nodes    []PlannedNode `json:"nodes"`
}

// PlanForced is what ForceFailover would do.
type PlanForced struct {
	To      pgcluster.NodeID `json:"to,omitempty"`
	Loss    *DataLoss        `json:"loss,omitempty"`    // at least; nil where nobody would be promoted
	Refused string           `json:"refused,omitempty"` // why it is not done as things are now
}

// PlannedNode is a node with a PostgreSQL in a Plan.
type PlannedNode struct {
	ID       pgcluster.NodeID   `json:"id"`
	Choice   Choice             `json:"choice"`
	Why      string             `json:"why"`
	State    string             `json:"state"` // as in NodeStatus
	Timeline pgcluster.Timeline `json:"timeline"`
	LSN      pgcluster.LSN      `json:"lsn"`
	Gap      int64              `json:"gap_bytes"` // to the primary; -1 unknown
	Age      time.Duration      `json:"age_ns"`    // of the report; -1 never seen
}

// Choice is what a plan makes of a node.
type Choice string

// Choices.
const (
	ChoiceChosen   Choice = "chosen"
	ChoicePossible Choice = "possible" // would do, but another one is better
	ChoiceNo       Choice = "no"
	ChoicePrimary  Choice = "primary" // whose role would move
)

// PlanFailover returns what a failover would do: the one that is called for or under
// way or, while the primary is there, the one that its loss would cause. It supposes
// that every node whose agent reports makes the pledge that it would be ordered to
// make. Where nobody is sure to have everything, or to is not who would be chosen, the
// plan also says what ForceFailover would do.
func PlanFailover(s State, v View, p Policy, to pgcluster.NodeID) Plan {
	d := decision{s: s.clone(), v: v, p: p}
	out := Plan{Kind: KindFailover, Asked: to, From: s.Primary.Node, SetAside: -1}
	switch {
	case len(s.Epochs) == 0:
		out.Refused = "the cluster has not started yet"
	case s.Op != nil && s.Op.Phase != PhaseRecruit:
		out.Refused = fmt.Sprintf("a %s is under way (phase %s)", s.Op.Kind, s.Op.Phase)
	}
	if out.Refused != "" {
		out.Nodes = d.plannedNodes(func(pgcluster.NodeID) (Choice, string) { return ChoiceNo, "-" })
		return out
	}
	out.Held = d.held()
	if d.s.Op == nil {
		out.Supposed = d.beginPlanned()
	}
	out.Epoch, out.From = d.s.Op.Epoch, d.s.Op.From
	out.Quorum, out.Of = s.Sync.Durable.Quorum(), s.Sync.Durable.Members
	// Who pledged already may be enough: then nobody waits for the others.
	next, orders := Step(d.s, d.v, p)
	d.orders = orders
	done := decision{s: next, v: d.v, p: p}
	if next.Op.To != "" {
		d.orders = nil
	}
	out.Recruits = d.recruits()
	if next.Op.To == "" {
		d.v = d.v.pledging(out.Recruits, d.s.Op.Epoch)
		done = d.decided()
	}
	if op := done.s.Op; op.To != "" {
		out.To, out.Sync, out.After = op.To, op.Sync.String(), done.after()
		out.SetAside = done.setAside()
		if lost := op.lost(); lost != nil {
			out.Forced = &PlanForced{To: op.To, Loss: lost} // accepted before
		}
	} else {
		out.Refused, out.Missing = d.recruitLacks()
	}
	d.planNodes(&out)
	if out.To == "" || (to != "" && to != out.To) {
		out.Forced = d.planForced(s, v, to)
	}
	known := decision{s: s, v: v, p: p} // not what was supposed
	for i, n := range out.Nodes {
		out.Nodes[i] = known.planned(n.ID, n.Choice, n.Why)
	}
	return out
}

// beginPlanned begins the failover that is called for or, if there is none, the one
// that would be if time went on without the primary; then it returns what it supposes.
func (d *decision) beginPlanned() string {
	f, lost := d.primaryLost()
	supposed := ""
	if !lost {
		id := d.s.Primary.Node
		supposed = fmt.Sprintf("%s is lost with its host", id)
		d.v = d.v.without(id, d.p)
		f = finding{reason: supposed}
	}
	d.v.PhaseSince = d.v.Now
	d.failover(f)
	return supposed
}

// recruits lists who would pledge, or has.
func (d *decision) recruits() []pgcluster.NodeID {
	ids := slices.Collect(maps.Keys(d.pledged()))
	for _, o := range d.orders {
		if o.Kind == pgcluster.OrderRecruit && !slices.Contains(ids, o.Node) {
			ids = append(ids, o.Node)
		}
	}
	slices.Sort(ids)
	return ids
}

// decided returns the decision once all have pledged: at once or, if that is too soon
// to decide, after standbys had their time.
func (d *decision) decided() decision {
	for _, since := range []time.Duration{d.v.PhaseSince, d.v.Now - d.p.RecruitWait} {
		v := d.v
		v.PhaseSince = min(v.PhaseSince, since)
		next, _ := Step(d.s, v, d.p)
		if next.Op != nil && next.Op.Phase != PhaseRecruit {
			d.v = v
			return decision{s: next, v: v, p: d.p}
		}
		d.v = v
	}
	return *d
}

// recruitLacks says why nobody is chosen, and who is silent that might help.
func (d *decision) recruitLacks() (string, []pgcluster.NodeID) {
	var missing []pgcluster.NodeID
	for _, m := range d.s.dataMembers() {
		if _, ok := d.v.report(m.ID, d.p); !ok && (m.ID == d.s.Op.From || d.s.Sync.Durable.Has(m.ID)) {
			missing = append(missing, m.ID)
		}
	}
	why := strings.TrimPrefix(d.quorumMissing()+d.unpromotable(), "; ")
	if why == "" {
		why = "nobody who would pledge is known to have everything"
	}
	return why, missing
}

// after says why writes would wait once the operation is through, or "".
func (d *decision) after() string {
	op, n := d.s.Op, 0
	for _, m := range d.s.dataMembers() {
		_, ok := d.v.standby(m.ID, d.p)
		back := op.Kind == KindSwitchover && m.ID == op.From
		if (ok || back) && m.ID != op.To && d.s.mayJoin(m.ID) {
			n++
		}
	}
	switch {
	case n >= op.Sync.K:
		return ""
	case d.s.Settings.Mode == ModeAvailable:
		return fmt.Sprintf("writes wait for %s, then go on with fewer standbys", d.p.StandbyLost)
	}
	return "writes wait until " + standbysStream(op.Sync.K)
}

func (d *decision) setAside() int64 {
	from, seen := d.v.Reports[d.s.Op.From]
	to, ok := d.v.report(d.s.Op.To, d.p)
	switch {
	case d.s.Op.To == d.s.Op.From:
		return 0
	case !seen || !ok || !from.Report.PositionKnown:
		return -1
	}
	return gap(from.Report.Position.LSN, to.Position.LSN)
}

// gap is how much WAL there is from b to a, none if b is ahead.
func gap(a, b pgcluster.LSN) int64 { return int64(min(max(a, b)-b, 1<<62)) }

// planForced carries out a forced failover on top of the plan, and asks whether one
// would be refused by what there is: state s and view v.
func (d *decision) planForced(s State, v View, to pgcluster.NodeID) *PlanForced {
	out := &PlanForced{}
	if refused, ok := errors.AsType[*RefusedError](second(ForceFailover(s, v, d.p, to, ""))); ok {
		out.Refused = refused.Reason
	}
	next, err := ForceFailover(d.s, d.v, d.p, to, "")
	if err != nil {
		if out.Refused == "" {
			out.Refused = strings.TrimPrefix(err.Error(), "refused: ")
		}
		return out
	}
	later := d.v
	later.PhaseSince = d.v.Now - max(d.p.Lease, d.p.RecruitWait)
	if next, _ = Step(next, later, d.p); next.Op.To == "" {
		if out.Refused == "" {
			out.Refused = "nobody that is there could be promoted"
		}
		return out
	}
	out.To, out.Loss = next.Op.To, next.Op.lost()
	return out
}

func second[A, B any](_ A, b B) B { return b }

// without returns v after time has gone on with nothing heard of id, by any node.
func (v View) without(id pgcluster.NodeID, p Policy) View {
	reports := make(map[pgcluster.NodeID]Observation, len(v.Reports))
	for n, o := range v.Reports {
		if n != id {
			o.At += p.Silence
			if o.Report.Receiver.Upstream == id {
				o.Report.Receiver.Streaming = false
			}
		}
		reports[n] = o
	}
	v.Now += p.Silence
	v.Reports = reports
	return v
}

// pledging returns v with the pledges of ids to epoch. How far the WAL of a standby
// goes that has to be started first is not supposed.
func (v View) pledging(ids []pgcluster.NodeID, epoch uint64) View {
	reports := maps.Clone(v.Reports)
	for _, id := range ids {
		o := reports[id]
		o.Report.Recruited, o.Report.Receiver = epoch, pgcluster.Receiver{}
		if o.Report.Role == pgcluster.RolePrimary && !o.Report.Down() {
			// It is stopped, cleanly or not.
			o.Report.Process, o.Report.PositionKnown, o.Report.Senders = pgcluster.ProcessStopped, false, nil
		}
		reports[id] = o
	}
	v.Reports = reports
	return v
}

// PlanSwitchover returns what Switchover would do.
func PlanSwitchover(s State, v View, p Policy, to pgcluster.NodeID) Plan {
	if s.fenced(s.Primary.Node) && to == "" {
		return PlanFailover(s, v, p, to) // that is what it would begin
	}
	out := Plan{Kind: KindSwitchover, Asked: to, From: s.Primary.Node}
	d := decision{s: s.clone(), v: v, p: p}
	next, err := Switchover(s, v, p, to, "")
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		out.Refused = refused.Reason
	} else {
		then := decision{s: next, v: v, p: p}
		op := next.Op
		op.Sync = then.nextSync(op.To)
		out.To, out.Epoch, out.Sync, out.After = op.To, op.Epoch, op.Sync.String(), then.after()
	}
	r, ok := v.report(s.Primary.Node, p)
	out.Nodes = d.plannedNodes(func(id pgcluster.NodeID) (Choice, string) {
		if !ok || s.Op != nil {
			return ChoiceNo, "-"
		}
		return d.switchoverChoice(r, id, out)
	})
	for _, n := range out.Nodes {
		if n.Choice == ChoiceChosen {
			out.Why = n.Why
		}
	}
	return out
}
