package failover

import (
	"fmt"
	"slices"

	"github.com/xpd-platform/xpd/pgcluster"
)

// MoveLeadership returns to whom node self, which leads the Raft group, should hand
// its leadership, the best first, and why; or nobody if it should go on.
//
// Leadership is kept off the primary's host, so that the loss of one host never takes
// both. And it is moved when the primary is silent here while a standby still hears
// its PostgreSQL: that may be this node's link. It may as well be the primary's xpd
// that is gone; so a node gives leadership away only once for each time that the
// primary falls silent (View.Moved).
func MoveLeadership(s State, v View, p Policy, self pgcluster.NodeID) (to []pgcluster.NodeID, reason string) {
	d := decision{s: s, v: v, p: p}
	primary := s.Primary.Node
	switch silence := v.silentFor(primary); {
	case s.Op != nil || primary == "":
		return nil, ""
	case primary == self:
		reason = fmt.Sprintf("%s is on the primary's host", self)
	case s.Absent[self].Kind == AbsenceMaintenance:
		reason = fmt.Sprintf("%s is in maintenance", self)
	case silence >= p.LinkBad && d.vouched() && v.Moved <= v.Now-silence:
		reason = fmt.Sprintf("the primary %s is silent on %s for %s, and not to its standbys", primary, self, tenths(silence))
	default:
		return nil, ""
	}
	var others []pgcluster.Member
	for _, m := range s.Members {
		// Who was heard of just now will take it at once.
		if seen, ok := v.Reports[m.ID]; ok && m.ID != self && m.ID != primary && !m.Leaving && s.Absent[m.ID].Kind != AbsenceMaintenance &&
			!seen.Report.Stopping && v.Now-seen.At < p.Silence/2 {
			others = append(others, m)
		}
	}
	slices.SortStableFunc(others, func(a, b pgcluster.Member) int {
		return boolsDiffer(s.sameZone(a.ID, primary), s.sameZone(b.ID, primary))
	})
	for _, m := range others {
		to = append(to, m.ID)
	}
	return to, reason
}
