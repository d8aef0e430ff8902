package failover

import (
	"fmt"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Fence returns the state in which PostgreSQL on id is stopped, and kept stopped until
// Unfence. A standby leaves the sync set first. Of the primary, writes stop and nobody
// takes over by itself: docs/decisions/operate.md says why. It returns a *RefusedError for
// a witness, and where too few other nodes are there to do without a standby.
func Fence(s State, v View, p Policy, id pgcluster.NodeID, reason string) (State, error) {
	d := decision{s: s, v: v, p: p}
	m, known := s.Member(id)
	switch _, ok := v.report(id, p); {
	case known && m.Witness:
		return s, &RefusedError{fmt.Sprintf("%s is a witness: it has no PostgreSQL to stop", id)}
	case id != s.Primary.Node || !known:
		if err := d.refuseAbsence(id); err != nil {
			return s, err
		}
	case s.absent(id):
		return s, &RefusedError{fmt.Sprintf("%s is fenced already: %s ends that", id, s.Absent[id].Ends(id))}
	case !ok:
		return s, &RefusedError{fmt.Sprintf("the xpd of %s does not report, so that nobody would stop its PostgreSQL", id)}
	default:
		if err := s.calm(); err != nil {
			return s, err
		}
	}
	return s.withAbsence(v, id, Absence{Kind: AbsenceFence, Reason: reason}), nil
}

// Unfence returns the state in which id is taken back as after any absence, or a
// *RefusedError if it is not fenced. A primary is lost until then: a failover follows.
func Unfence(s State, v View, _ Policy, id pgcluster.NodeID, reason string) (State, error) {
	return s.withoutAbsence(v, id, AbsenceFence, "is not fenced", reason)
}

// fencedPrimary keeps a fenced primary stopped, and reports whether there is one.
// Nothing else is done then: what is broken may be what its standbys have, too, so that
// people decide who takes over.
func (d *decision) fencedPrimary() bool {
	id := d.s.Primary.Node
	if !d.s.fenced(id) {
		return false
	}
	if r, ok := d.v.report(id, d.p); ok {
		d.keepStopped(r)
	}
	return true
}

// replaceFenced begins the failover from a fenced primary that people ask for.
func (d *decision) replaceFenced(to pgcluster.NodeID, reason string) error {
	id := d.s.Primary.Node
	r, ok := d.v.report(id, d.p)
	switch {
	case to != "":
		return &RefusedError{fmt.Sprintf("%s is fenced, so that the standby takes over that has everything: name none", id)}
	case ok && !r.Down():
		return &RefusedError{fmt.Sprintf("%s is fenced, and its PostgreSQL has not stopped yet: try again", id)}
	case !d.replaceable():
		return &RefusedError{fmt.Sprintf("%s is fenced, and too few standbys are there to tell who has everything%s", id, d.quorumMissing())}
	}
	if least := d.nextK() + 1; d.joiners(id) < least {
		return &RefusedError{fmt.Sprintf("%s is fenced, and commits of the next primary would wait for it: %d other nodes are needed, and %d may be waited for: pgctl node add, or pgctl unfence %s",
			id, least, d.joiners(id), id)}
	}
	d.failover(finding{reason: fmt.Sprintf("%s is fenced; %s", id, reason), evidence: d.evidence()})
	return nil
}

// joiners counts the members but id that commits may wait for.
func (d *decision) joiners(id pgcluster.NodeID) int {
	n := 0
	for _, m := range d.s.Members {
		if m.ID != id && d.s.mayJoin(m.ID) {
			n++
		}
	}
	return n
}

// replaceable reports whether enough standbys are there to do without the primary. One
// whose PostgreSQL is down is started when it pledges.
func (d *decision) replaceable() bool {
	return d.quorate(func(r pgcluster.Report) bool { return r.Role == pgcluster.RoleStandby })
}
