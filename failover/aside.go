package failover

import (
	"fmt"
	"maps"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// noteAside records WAL that a node has set aside, each once: of each node the State
// keeps when the newest of them was.
func (d *decision) noteAside() {
	for _, m := range d.s.Members {
		r, ok := d.v.report(m.ID, d.p)
		if !ok {
			continue
		}
		for _, a := range r.SetAside {
			if a.At.After(d.s.Aside[m.ID]) {
				d.recordAside(m.ID, a)
			}
		}
	}
}

func (d *decision) recordAside(id pgcluster.NodeID, a pgcluster.SetAside) {
	a.At = a.At.UTC().Round(0) // as it will read back from the log
	known := map[pgcluster.NodeID]time.Time{id: a.At}
	maps.Copy(known, d.s.Aside)
	known[id] = a.At
	maps.DeleteFunc(known, func(id pgcluster.NodeID, _ time.Time) bool { _, member := d.s.Member(id); return !member })
	d.s.Aside = known
	end := "an end that is not known"
	if a.To != 0 {
		end = a.To.String()
	}
	d.record(Event{
		At: d.v.Wall, Epoch: d.s.Primary.Epoch, Kind: "set aside", Node: id, SetAside: &a,
		Reason: fmt.Sprintf("%d bytes of WAL from %s to %s that the cluster never had are kept in %s", a.Bytes, a.From, end, a.Path),
	})
}
