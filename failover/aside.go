package failover

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
)

// noteAside records WAL that a node has set aside, each once: of each node the State
// keeps which was the newest of them.
func (d *decision) noteAside() {
	for _, m := range d.s.Members {
		r, ok := d.v.report(m.ID, d.p)
		if !ok {
			continue
		}
		for _, a := range d.unrecorded(m.ID, r.SetAside) {
			d.recordAside(m.ID, a)
		}
	}
}

// unrecorded returns what a node keeps, oldest first, without what was recorded. Times
// only tell one from another: the node's clock may have stepped back. If the newest that
// was recorded is gone, the history has the others, or else they are told once more.
func (d *decision) unrecorded(id pgcluster.NodeID, kept []pgcluster.SetAside) []pgcluster.SetAside {
	newest := func(a pgcluster.SetAside) bool { return a.At.Equal(d.s.Aside[id]) }
	if i := slices.IndexFunc(kept, newest); i >= 0 {
		return kept[i+1:]
	}
	var out []pgcluster.SetAside
	for _, a := range kept {
		told := func(e Event) bool { return e.Node == id && e.SetAside != nil && e.SetAside.At.Equal(a.At) }
		if !slices.ContainsFunc(d.s.History, told) {
			out = append(out, a)
		}
	}
	return out
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
