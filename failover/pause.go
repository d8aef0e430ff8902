package failover

import (
	"fmt"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// maxPause bounds a pause: one that was forgotten must not leave a cluster without
// failover for good.
const maxPause = 7 * 24 * time.Hour

// SetPause returns the state in which the controller begins nothing by itself until a
// time, by the wall clock of who leads then. It replaces a pause that is in force. It
// returns a *RefusedError for a time that is past, or too far off, and before the
// cluster has started.
func SetPause(s State, v View, _ Policy, until time.Time, reason string) (State, error) {
	d := decision{s: s.clone(), v: v}
	until = until.UTC().Round(0)
	if len(s.Epochs) == 0 {
		return s, &RefusedError{"the cluster has not started yet"}
	}
	if refusal := refuseUntil("pause", until, v); refusal != "" {
		return s, &RefusedError{refusal}
	}
	if reason == "" {
		reason = "asked for"
	}
	d.s.Paused = &Pause{Until: until, Reason: reason}
	d.record(Event{
		At: v.Wall, Epoch: s.Primary.Epoch, Kind: "pause", Node: s.Primary.Node,
		Reason: fmt.Sprintf("until %s: %s", rfc3339(until), reason),
	})
	return d.s, nil
}

// Resume returns the state in which a pause is over, or a *RefusedError if there is
// none.
func Resume(s State, v View, _ Policy, reason string) (State, error) {
	if s.Paused == nil {
		return s, &RefusedError{"the cluster is not paused"}
	}
	if reason == "" {
		reason = "asked for"
	}
	d := decision{s: s.clone(), v: v}
	d.resume(reason)
	return d.s, nil
}

func (d *decision) resume(reason string) {
	d.s.Paused = nil
	d.record(Event{At: d.v.Wall, Epoch: d.s.Primary.Epoch, Kind: "resume", Node: d.s.Primary.Node, Reason: reason})
}

// endPause ends a pause whose time is up. This and the end of maintenance are the only
// decisions that rest on a wall clock: nothing but convenience does.
func (d *decision) endPause() {
	if p := d.s.Paused; p != nil && !d.v.Wall.Before(p.Until) {
		d.resume("the pause ended as it was meant to")
	}
}

// paused keeps an open primary as it was agreed on, which its agent may have to be
// told again, and does nothing else: no failover begins, no standby is brought back,
// and the sync set stays as it is. A change of it that was under way may rest at any
// point, for failovers go by what is recorded. An operation under way does end: half a
// change of primary is no state to wait in, and what people ask for is done.
func (d *decision) paused() {
	id := d.s.Primary.Node
	if r, ok := d.v.report(id, d.p); ok && r.Running() && r.Role == pgcluster.RolePrimary {
		d.keepOpen(r)
	}
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
