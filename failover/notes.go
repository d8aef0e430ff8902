package failover

import (
	"fmt"
	"strings"

	"github.com/xpd-platform/xpd/pgcluster"
)

// maxNotes bounds how much of one list in a report is told.
const maxNotes = 10

// notes tells people what a node's report r says beside its state, a line each.
func (d *decision) notes(r pgcluster.Report) []string {
	var out []string
	if r.Order.Error != "" {
		out = append(out, fmt.Sprintf("%s: %s", r.Order.Kind, r.Order.Error))
	}
	if r.LastError != "" {
		out = append(out, r.LastError)
	}
	if r.Stopping {
		out = append(out, "xpd is stopping")
	}
	if m, _ := d.s.Member(r.Node); m.Leaving {
		out = append(out, "is being removed, once no commit waits for it")
	}
	if r.ConnectStalled >= d.p.Refused {
		out = append(out, fmt.Sprintf("PostgreSQL has let nobody connect for %s", tenths(r.ConnectStalled)))
	}
	for _, s := range r.Refused[:min(len(r.Refused), maxNotes)] {
		out = append(out, "PostgreSQL runs without a setting that it refuses: "+s)
	}
	for _, l := range []struct {
		lead  string
		items []string
	}{
		{"more settings are refused", r.Refused[min(len(r.Refused), maxNotes):]},
		{"waits for a restart (pgctl restart)", r.Pending},
		{"set by ALTER SYSTEM and taken back", r.Overrides},
		{"their commits do not wait for a standby", r.Weak},
		{"logical slots that its loss would end", r.LogicalSlots},
	} {
		if len(l.items) > 0 {
			out = append(out, l.lead+": "+few(l.items))
		}
	}
	return out
}

// few lists the first of items, and how many more there are.
func few(items []string) string {
	out := strings.Join(items[:min(len(items), maxNotes)], ", ")
	if more := len(items) - maxNotes; more > 0 {
		out += fmt.Sprintf(" and %d more", more)
	}
	return out
}

// refuses reports whether PostgreSQL on id lets nobody connect, as was just heard.
func (d *decision) refuses(id pgcluster.NodeID) bool {
	r, ok := d.v.report(id, d.p)
	return ok && r.ConnectStalled >= d.p.Refused
}
