package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type doctorCmd struct{}

// diagnosis is what a doctor has found. Verdict is ok, warning or critical.
type diagnosis struct {
	Verdict    string             `json:"verdict"`
	SeenBy     pgcluster.NodeID   `json:"seen_by"` // who found what is not about who reaches whom
	Confirmed  bool               `json:"confirmed"`
	Findings   []failover.Finding `json:"findings"`   // worst first
	Views      []nodeSight        `json:"views"`      // of the nodes that answered
	Unanswered []pgcluster.NodeID `json:"unanswered"` // the others
}

// nodeSight is whom a node reaches.
type nodeSight struct {
	Node  pgcluster.NodeID `json:"node"`
	Peers []failover.Peer  `json:"peers"`
}

// Run asks every node what it sees, and exits with the code of the worst finding.
func (c *doctorCmd) Run(ctx context.Context, env *env) error {
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	cluster, err := env.cluster(ctx)
	if err != nil {
		return err
	}
	d := diagnose(cluster, env.askSights(ctx, cluster.Members))
	if env.json {
		err = printJSON(env.out, d)
	} else {
		err = printDiagnosis(env.out, d)
	}
	switch {
	case err != nil:
		return err
	case d.Verdict == string(failover.SeverityCritical):
		return exitError{code: exitNoWrites}
	case d.Verdict != "ok":
		return exitError{code: exitDegraded}
	}
	return nil
}

// askSights asks all members at once, and returns what those see that answer in time.
func (e *env) askSights(ctx context.Context, members []client.ClusterMember) []failover.Sight {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answers := make([]*failover.Sight, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() {
			cl, err := e.one(m, e.direct)
			if err != nil {
				return
			}
			// Another node at that address does not speak for this one.
			if s, err := cl.NodeView(ctx); err == nil && s.Node == m.ID {
				answers[i] = &s
			}
		})
	}
	wg.Wait()
	var out []failover.Sight
	for _, s := range answers {
		if s != nil {
			out = append(out, *s)
		}
	}
	return out
}

// diagnose joins what one node finds, best the one whose status was shown, with what
// their answers show together.
func diagnose(c client.Cluster, sights []failover.Sight) diagnosis {
	d := diagnosis{Verdict: "ok", SeenBy: c.SeenBy, Findings: []failover.Finding{}, Views: []nodeSight{}, Unanswered: []pgcluster.NodeID{}}
	var ids []pgcluster.NodeID
	for _, m := range c.Members {
		ids = append(ids, m.ID)
		if !slices.ContainsFunc(sights, func(s failover.Sight) bool { return s.Node == m.ID }) {
			d.Unanswered = append(d.Unanswered, m.ID)
		}
	}
	if s, ok := speaker(c, sights); ok {
		d.SeenBy, d.Confirmed = s.Node, s.Confirmed
		d.Findings = append(d.Findings, s.Findings...)
	} else {
		d.Findings = append(d.Findings, failover.Finding{
			Code: failover.CodeNoAnswer, Severity: failover.SeverityCritical, Problem: "no node answers at the address that the cluster knows it by",
			Do: "run pgctl doctor where the nodes can be reached; pgctl node set changes tags, not addresses",
		})
	}
	for _, s := range sights {
		d.Views = append(d.Views, nodeSight{s.Node, s.Peers})
	}
	d.Findings = append(d.Findings, failover.Compare(ids, sights)...)
	failover.SortFindings(d.Findings)
	if len(d.Findings) > 0 && d.Findings[0].Severity != failover.SeverityNotice {
		d.Verdict = string(d.Findings[0].Severity)
	}
	return d
}

// speaker returns the node whose findings count: the one that showed its status, or
// one that is in touch with the Raft leader, or any.
func speaker(c client.Cluster, sights []failover.Sight) (failover.Sight, bool) {
	for _, fit := range []func(failover.Sight) bool{
		func(s failover.Sight) bool { return s.Confirmed && s.Node == c.SeenBy },
		func(s failover.Sight) bool { return s.Confirmed },
		func(s failover.Sight) bool { return s.Node == c.SeenBy },
		func(failover.Sight) bool { return true },
	} {
		if i := slices.IndexFunc(sights, fit); i >= 0 {
			return sights[i], true
		}
	}
	return failover.Sight{}, false
}

func printDiagnosis(w io.Writer, d diagnosis) error {
	var b strings.Builder
	seen := "seen by " + string(d.SeenBy)
	if !d.Confirmed {
		seen += ", UNCONFIRMED: it is in touch with no Raft leader"
	}
	sentence(&b, "  ", "%s: %s; %s", d.Verdict, counted(d.Findings), seen)
	for _, f := range d.Findings {
		about := ""
		if f.Node != "" {
			about = " " + string(f.Node)
		}
		b.WriteByte('\n')
		sentence(&b, "  ", "%s %s%s: %s", f.Code, f.Severity, about, f.Problem)
		sentence(&b, "  ", "  what to do: %s", f.Do)
	}
	b.WriteString("\nwho reaches whom:\n")
	if err := printReach(&b, d); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// counted says how many findings there are of each severity.
func counted(fs []failover.Finding) string {
	var parts []string
	for _, sev := range []failover.Severity{failover.SeverityCritical, failover.SeverityWarning, failover.SeverityNotice} {
		n := 0
		for _, f := range fs {
			if f.Severity == sev {
				n++
			}
		}
		if n > 0 {
			word := string(sev)
			if n > 1 && sev != failover.SeverityCritical {
				word += "s"
			}
			parts = append(parts, fmt.Sprintf("%d %s", n, word))
		}
	}
	if len(parts) == 0 {
		return "nothing found"
	}
	return strings.Join(parts, ", ")
}

// printReach writes who reaches whom, in as many tables as the width asks for.
func printReach(b *strings.Builder, d diagnosis) error {
	var ids []pgcluster.NodeID
	from := len("FROM \\ TO")
	for _, s := range d.Views {
		ids = append(ids, s.Node)
	}
	ids = append(ids, d.Unanswered...)
	slices.Sort(ids)
	column := len("no xpd")
	for _, id := range ids {
		from, column = max(from, len(id)), max(column, len(id))
	}
	const gap = 2
	for part := range slices.Chunk(ids, max(1, (width-from)/(column+gap))) {
		t := tabwriter.NewWriter(b, 0, 0, gap, ' ', 0)
		fmt.Fprintf(t, "FROM \\ TO\t%s\n", join(part, func(id pgcluster.NodeID) string { return string(id) }))
		for _, id := range ids {
			fmt.Fprintf(t, "%s\t%s\n", id, join(part, func(to pgcluster.NodeID) string { return reaches(d, id, to) }))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	b.WriteString("no xpd: not heard; no pg: no connection to PostgreSQL; none: neither; ?: unknown\n")
	return nil
}

func join(ids []pgcluster.NodeID, show func(pgcluster.NodeID) string) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = show(id)
	}
	return strings.Join(out, "\t")
}

// reaches says in a word whether one node reaches another.
func reaches(d diagnosis, from, to pgcluster.NodeID) string {
	if from == to {
		return "-"
	}
	i := slices.IndexFunc(d.Views, func(s nodeSight) bool { return s.Node == from })
	if i < 0 {
		return "?"
	}
	j := slices.IndexFunc(d.Views[i].Peers, func(p failover.Peer) bool { return p.Node == to })
	if j < 0 {
		return "?"
	}
	switch p := d.Views[i].Peers[j]; {
	case p.Hears() && p.Reaches():
		return "ok"
	case p.Hears():
		return "no pg"
	case p.Reaches() && p.Lost >= 0:
		return "no xpd"
	}
	return "none"
}
