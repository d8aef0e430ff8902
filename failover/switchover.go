package failover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// RefusedError reports a request that the state of the cluster forbids, and why.
type RefusedError struct{ Reason string }

// Error returns the reason.
func (e *RefusedError) Error() string { return "refused: " + e.Reason }

// Switchover returns the state in which the role begins to move to node to, or, if to is
// empty, to the standby of the highest priority: of equals to one in another zone, then to
// the furthest, then to the one with least to replay. It returns a *RefusedError if the move could not be done at once and
// without loss. From a fenced primary it is a failover.
func Switchover(s State, v View, p Policy, to pgcluster.NodeID, reason string) (State, error) {
	d := decision{s: s.clone(), v: v, p: p}
	if s.Op != nil {
		return s, &RefusedError{fmt.Sprintf("a %s is under way (phase %s)", s.Op.Kind, s.Op.Phase)}
	}
	if s.Primary.Access != AccessOpen {
		return s, &RefusedError{"the cluster has no open primary"}
	}
	if s.fenced(s.Primary.Node) {
		if err := d.replaceFenced(to, cmp.Or(reason, "asked for")); err != nil {
			return s, err
		}
		return d.s, nil
	}
	r, ok := v.report(s.Primary.Node, p)
	if !ok || !r.Running() {
		return s, &RefusedError{fmt.Sprintf("the primary %s does not report", s.Primary.Node)}
	}
	if to == s.Primary.Node {
		return s, &RefusedError{fmt.Sprintf("%s is primary already", to)}
	}
	if m, known := s.Member(to); to != "" && (!known || m.Witness) {
		return s, &RefusedError{fmt.Sprintf("there is no node %q", to)}
	}
	best, refusals := d.switchoverTarget(r, to)
	if best == "" {
		return s, &RefusedError{strings.Join(refusals, "; ")}
	}
	if reason == "" {
		reason = "asked for"
	}
	d.begin(Operation{Kind: KindSwitchover, From: s.Primary.Node, To: best, Reason: reason}, PhaseCheckpoint)
	return d.s, nil
}

func (d *decision) switchoverTarget(r pgcluster.Report, to pgcluster.NodeID) (pgcluster.NodeID, []string) {
	var able []pgcluster.Member
	var refusals []string
	for _, m := range d.s.dataMembers() {
		if m.ID == d.s.Primary.Node || (to != "" && m.ID != to) {
			continue
		}
		switch {
		case m.NoFailover:
			refusals = append(refusals, fmt.Sprintf("%s must not be promoted (nofailover)", m.ID))
		case d.s.absent(m.ID):
			refusals = append(refusals, fmt.Sprintf("%s is left out: %s", m.ID, d.s.Absent[m.ID]))
		case m.Leaving:
			refusals = append(refusals, fmt.Sprintf("%s is being removed", m.ID))
		case !d.joinable(r, m.ID):
			refusals = append(refusals, fmt.Sprintf("%s does not stream from %s, or is too far behind", m.ID, d.s.Primary.Node))
		case !d.s.Sync.Durable.Has(m.ID) && (!m.NoSync || to == ""):
			refusals = append(refusals, fmt.Sprintf("%s is not in the sync set", m.ID))
		case d.replays(r, m.ID) != "":
			refusals = append(refusals, fmt.Sprintf("%s %s", m.ID, d.replays(r, m.ID)))
		default:
			able = append(able, m)
		}
	}
	if len(able) == 0 {
		return "", refusals
	}
	flushed := func(id pgcluster.NodeID) pgcluster.LSN { s, _ := r.Sender(id); return s.Flushed }
	return slices.MaxFunc(able, func(a, b pgcluster.Member) int {
		return cmp.Or(
			cmp.Compare(a.Priority, b.Priority),
			boolsDiffer(d.s.sameZone(b.ID, r.Node), d.s.sameZone(a.ID, r.Node)),
			cmp.Compare(flushed(a.ID), flushed(b.ID)),
			cmp.Compare(d.replayed(r, a.ID), d.replayed(r, b.ID)),
		)
	}).ID, refusals
}

// replayed is how far id has replayed at least, as it says itself or the primary r heard from
// it: a standby that is idle tells its primary late.
func (d *decision) replayed(r pgcluster.Report, id pgcluster.NodeID) pgcluster.LSN {
	f, _ := d.v.report(id, d.p)
	s, _ := r.Sender(id)
	return max(f.Replayed, s.Replayed)
}

// replays says that id, which has the WAL of the primary r, has too much of it to replay yet,
// or "": a promotion waits for that, and so do writes. The lag is of the last WAL that was
// replayed, so it counts only while there is more. It may be all that tells of a standby that
// applies late on purpose, and the distance all that tells of one whose replay is paused.
func (d *decision) replays(r pgcluster.Report, id pgcluster.NodeID) string {
	behind := max(r.Position.LSN, d.replayed(r, id)) - d.replayed(r, id)
	s, _ := r.Sender(id)
	switch {
	case behind > d.p.MaxGap:
		return fmt.Sprintf("has %d MiB to replay before it could take writes", behind>>20)
	case behind > 0 && s.ReplayLag > d.p.MaxReplayLag:
		return fmt.Sprintf("replays what is %s old: writes would wait for it", tenths(s.ReplayLag))
	}
	return ""
}

// checkpoint keeps the stop short, also of a primary that is restarted in place. It is
// open meanwhile; if it dies, the operation is forgotten and steady fails over.
func (d *decision) checkpoint() {
	op := d.s.Op
	r, ok := d.v.report(op.From, d.p)
	switch {
	case !ok || !r.Running():
		if d.v.silentFor(op.From) >= d.p.Silence || r.Down() {
			d.abort(fmt.Sprintf("%s was lost before it was stopped", op.From))
		}
	case d.v.Now-d.v.PhaseSince >= d.p.StopWait:
		d.abort("the checkpoint did not end in time")
	case !op.InPlace && !d.joinable(r, op.To):
		d.abort(fmt.Sprintf("%s does not stream any more", op.To))
	case !op.InPlace && d.replays(r, op.To) != "":
		d.abort(fmt.Sprintf("%s %s", op.To, d.replays(r, op.To)))
	case r.Order.Kind == pgcluster.OrderCheckpoint && r.Order.Done:
		d.s.Primary.Access = AccessClosed
		op.enter(PhaseStop, d.v)
		d.stop()
	default:
		d.order(pgcluster.Order{Node: op.From, Kind: pgcluster.OrderCheckpoint})
	}
}

func (d *decision) abort(reason string) {
	d.record(Event{
		At: d.v.Wall, Epoch: d.s.Primary.Epoch, Kind: "aborted", Node: d.s.Op.To, From: d.s.Op.From,
		Reason: reason, Took: max(0, d.v.Wall.Sub(d.s.Op.Began)).Round(time.Millisecond), Steps: d.s.Op.Steps,
	})
	d.s.Op = nil
}

// stop waits for the old primary's clean end and for the candidate to have all of
// it. Whatever goes wrong, the old primary is the first to be started again.
func (d *decision) stop() {
	op := d.s.Op
	if op.InPlace {
		d.stopInPlace()
		return
	}
	from, ok := d.v.report(op.From, d.p)
	stopped := ok && from.Down() && from.Recruited == op.Epoch
	to, toOK := d.v.standby(op.To, d.p)
	switch {
	case stopped && from.PositionKnown && toOK && to.Position.LSN >= from.Position.LSN:
		d.promoteTo(op.To)
		d.promote()
	case stopped && (!from.PositionKnown || !toOK || d.v.Now-d.v.PhaseSince >= d.p.StopWait):
		d.recruitInstead(fmt.Sprintf("%s did not receive the end of %s's log", op.To, op.From), true)
	case d.v.silentFor(op.From) >= d.p.Silence:
		d.recruitInstead(fmt.Sprintf("%s fell silent while it was stopped", op.From), false)
	case d.v.silentFor(op.To) >= d.p.Silence:
		d.recruitInstead(fmt.Sprintf("%s fell silent before it was promoted", op.To), true)
	case d.v.Now-d.v.PhaseSince >= d.p.StopWait:
		d.recruitInstead(fmt.Sprintf("%s did not stop in time", op.From), false)
	case !stopped:
		d.order(pgcluster.Order{Node: op.From, Kind: pgcluster.OrderStop})
	}
}

// recruitInstead turns a switchover that failed into a failover of its epoch.
func (d *decision) recruitInstead(reason string, inPlace bool) {
	op := d.s.Op
	op.Kind, op.To, op.InPlace, op.Reason = KindFailover, "", inPlace, reason
	op.enter(PhaseRecruit, d.v)
	d.recruit()
}
