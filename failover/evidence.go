package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// finding is what speaks for replacing a primary.
type finding struct {
	reason string
	// certain: its own agent says that it is no primary any more. Everything else
	// may pass, so a second opinion is asked for and failovers are not repeated
	// quickly; see cooldown.
	certain  bool
	evidence []string // what each node saw, for the history
	// since is for how long the primary had not been well, as far as is known: writes may
	// have waited for so long. 0 where it was seen at once.
	since time.Duration
}

// primaryLost reports whether the primary must be replaced, and why. A report of
// its own agent that PostgreSQL is down is taken at once. Everything else needs the
// opinion of enough standbys to recruit: that they do not hear the primary, or that
// they are well where it is not. Otherwise it is this node's link, only the primary's
// xpd that is gone, or all hosts are busy.
//
// With k = 0 nobody but the primary may be promoted, so there is nobody to ask.
func (d *decision) primaryLost() (finding, bool) {
	id := d.s.Primary.Node
	r, ok := d.v.report(id, d.p)
	var reason string
	var since time.Duration
	switch silence := d.v.silentFor(id); {
	case !ok && silence >= d.p.Silence && d.unheard():
		reason = fmt.Sprintf("%s silent for %s and no standby hears its PostgreSQL", id, tenths(silence))
		since = silence + d.v.Reports[id].Report.AnsweredAgo // when it was heard last
	case !ok:
	case r.Down():
		return finding{reason: fmt.Sprintf("PostgreSQL on %s %s", id, r.Process), certain: true, evidence: d.evidence()}, true
	case r.AnsweredAgo >= d.p.Hung && d.unheard():
		// Also one that has not answered yet, because xpd was restarted and found it so.
		reason = fmt.Sprintf("PostgreSQL on %s hangs and no standby hears it", id)
		since = r.AnsweredAgo
	case !r.Running():
	case r.Role == pgcluster.RoleStandby:
		return finding{reason: fmt.Sprintf("PostgreSQL on %s runs as a standby", id), certain: true, evidence: d.evidence()}, true
	case r.ConnectStalled >= d.p.Refused && d.othersAreWell():
		reason = fmt.Sprintf("PostgreSQL on %s has let nobody connect for %s", id, tenths(r.ConnectStalled))
		since = r.ConnectStalled
	case r.WriteStalled >= d.p.Hung && d.othersAreWell() && !d.overtaken(r):
		reason = fmt.Sprintf("the disk of %s has not taken any WAL for %s", id, tenths(r.WriteStalled))
		since = r.WriteStalled
	case d.cutOff(r):
		reason = fmt.Sprintf("PostgreSQL on %s reaches too few standbys to acknowledge anything, and enough to replace it are well", id)
		since = d.unacknowledgedFor()
	}
	if reason == "" {
		return finding{}, false
	}
	return finding{reason: reason, evidence: d.evidence(), since: since}, true
}

// held says why a failover that is called for does not begin, or "".
func (d *decision) held() string {
	if d.s.Op != nil || d.s.Primary.Access != AccessOpen {
		return ""
	}
	f, lost := d.primaryLost()
	wait := d.cooldown(f)
	switch {
	case !lost:
		return ""
	case d.s.fenced(d.s.Primary.Node):
		return fmt.Sprintf("%s; nothing is done, because it is fenced: pgctl switchover lets a standby take over", f.reason)
	case d.s.Paused != nil:
		return fmt.Sprintf("%s; nothing is done, because the cluster is paused until %s: %s", f.reason, rfc3339(d.s.Paused.Until), d.s.Paused.Reason)
	case wait > 0:
		return fmt.Sprintf("%s; failovers follow each other quickly, so the next one waits for %s more", f.reason, max(tenths(wait), 100*time.Millisecond))
	}
	return ""
}

func tenths(t time.Duration) time.Duration { return t.Round(100 * time.Millisecond) }

// quorate reports whether enough members of the sync set are of the same opinion to
// be recruited, and one of them may be promoted: a failover that cannot end helps
// nobody.
func (d *decision) quorate(of func(pgcluster.Report) bool) bool {
	count, candidate := 0, false
	for _, id := range d.s.Sync.Durable.Members {
		if r, ok := d.v.report(id, d.p); ok && of(r) {
			count++
			candidate = candidate || !d.s.barred(id)
		}
	}
	return candidate && count >= d.s.Sync.Durable.Quorum()
}

// unheard reports whether enough standbys are there to replace the primary, and
// nobody hears it.
func (d *decision) unheard() bool {
	return !d.vouched() && d.quorate(func(r pgcluster.Report) bool { return r.Role == pgcluster.RoleStandby })
}

// vouched reports whether some standby hears the primary's PostgreSQL.
func (d *decision) vouched() bool {
	return slices.ContainsFunc(d.s.Members, func(m pgcluster.Member) bool {
		r, ok := d.v.standby(m.ID, d.p)
		return ok && d.hears(r)
	})
}

// hears reports whether a standby has heard the primary's PostgreSQL lately.
func (d *decision) hears(r pgcluster.Report) bool {
	return r.Receiver.Streaming && r.Receiver.Upstream == d.s.Primary.Node && r.Receiver.HeardAgo < d.p.Heard
}

// othersAreWell reports whether enough standbys to replace the primary are not in the
// state that it is in: if their PostgreSQL cannot be reached either, or their disks do
// not get on, then it is what all share, most likely the processors, and another
// primary would be no better.
func (d *decision) othersAreWell() bool {
	return d.quorate(func(r pgcluster.Report) bool {
		return r.Running() && r.Role == pgcluster.RoleStandby &&
			max(r.AnsweredAgo, r.ConnectStalled, r.WriteStalled) < d.p.Heard
	})
}

// overtaken reports whether a standby has flushed more than the primary, whose report
// is r, is said to have. PostgreSQL sends nothing that it has not flushed itself: then
// its disk does get on, and it is the agent that looks too rarely.
func (d *decision) overtaken(r pgcluster.Report) bool {
	return slices.ContainsFunc(d.s.Members, func(m pgcluster.Member) bool {
		f, ok := d.v.standby(m.ID, d.p)
		return ok && d.hears(f) && f.PositionKnown && f.Position.LSN > r.Position.LSN
	})
}

// cutOff reports whether the primary, whose report is r, has lost so many standbys
// that it acknowledges nothing, while enough of them are ready to replace it.
func (d *decision) cutOff(r pgcluster.Report) bool {
	sync := d.s.Sync.target()
	return r.Role == pgcluster.RolePrimary && r.Open == d.s.Primary.Epoch && streaming(r, sync) < sync.K && d.quorate(d.severed)
}

// unacknowledgedFor returns for how long the primary has streamed to too few standbys to
// acknowledge anything.
func (d *decision) unacknowledgedFor() time.Duration {
	sync := d.s.Sync.target()
	var ago []time.Duration
	for _, id := range sync.Members {
		ago = append(ago, d.v.Now-max(d.v.Streamed[id], d.v.Since))
	}
	slices.Sort(ago)
	if sync.K < 1 || len(ago) < sync.K {
		return 0
	}
	return ago[sync.K-1]
}

// severed reports whether a standby has had nothing from the primary for long, though
// it does what it was told to in this epoch: one that is pointed elsewhere, rewound or
// cloned, or was just told, will be back by itself.
func (d *decision) severed(r pgcluster.Report) bool {
	return r.Order.Kind == pgcluster.OrderFollow && r.Order.Stamp.Epoch == d.s.Primary.Epoch &&
		r.Followed == d.s.Primary.Epoch && r.Receiver.Upstream == d.s.Primary.Node &&
		readable(r) && reaches(r, d.s.Floor) && !d.hears(r) &&
		d.v.Now-max(d.v.Streamed[r.Node], d.v.Since) >= d.p.CutOff
}

// evidence lists what every node saw of the primary, a line each.
func (d *decision) evidence() []string {
	id := d.s.Primary.Node
	var out []string
	for _, m := range d.s.dataMembers() {
		r, ok := d.v.report(m.ID, d.p)
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("%s: no report for %s", m.ID, tenths(d.v.silentFor(m.ID))))
		case m.ID == id:
			out = append(out, fmt.Sprintf("%s: %s as %s, answered %s ago, connections stalled %s, WAL stalled %s, %d of %s stream",
				id, r.Process, r.Role, tenths(r.AnsweredAgo), tenths(r.ConnectStalled), tenths(r.WriteStalled),
				streaming(r, d.s.Sync.target()), d.s.Sync.target()))
		case !r.Receiver.Streaming || r.Receiver.Upstream != id:
			out = append(out, fmt.Sprintf("%s: %s as %s, does not stream from %s", m.ID, r.Process, r.Role, id))
		default:
			out = append(out, fmt.Sprintf("%s: heard %s %s ago", m.ID, id, tenths(r.Receiver.HeardAgo)))
		}
	}
	return out
}
