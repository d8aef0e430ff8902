package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// Bounds of what is recorded of a time without a leader.
const (
	longOutage    = 10 * time.Second // shorter ones are elections
	outageSettles = 3 * time.Second  // after its end: until then not every node has said what it saw
	outageIsOld   = time.Minute      // after its end: it is recorded, or not worth it
	outageApart   = 5 * time.Second  // two of them are further apart, and the clocks of leaders less
	outageKind    = "no leader"
)

// noteOutage records that nobody led the Raft group for long, once somebody does: while it
// lasted, nobody could agree on that. Each node reports when it heard a leader; the outage
// is the time in which none of them did. A node that was cut off alone is contradicted by
// the others, and one that has just been started knows nothing.
func (d *decision) noteOutage() {
	var there []pgcluster.NodeID
	var ended time.Duration // ago, by who heard the leader first
	began := time.Duration(-1)
	for _, m := range d.s.Members {
		r, ok := d.v.report(m.ID, d.p)
		if !ok || r.LeaderFor <= 0 {
			continue
		}
		there = append(there, m.ID)
		heard := r.LeaderFor + d.v.Now - d.v.Reports[m.ID].At
		ended = max(ended, heard)
		if ago := heard + r.Leaderless; r.Leaderless > 0 && (began < 0 || ago < began) {
			began = ago
		}
	}
	lasted := (began - ended).Round(time.Second)
	if began < 0 || lasted < longOutage || ended < outageSettles || ended > outageIsOld {
		return
	}
	end := d.v.Wall.Add(-ended)
	if slices.ContainsFunc(d.s.History, func(e Event) bool { return e.Kind == outageKind && e.At.After(end.Add(-outageApart)) }) {
		return
	}
	d.record(Event{
		At: d.v.Wall, Epoch: d.s.Primary.Epoch, Kind: outageKind, Took: lasted,
		Reason: fmt.Sprintf("no Raft leader for %s, until %s: nothing could be decided, and no failover could begin; then there: %s",
			lasted, rfc3339(end), list(there)),
	})
}
