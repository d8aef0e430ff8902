package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type statusCmd struct{}

// Run prints the cluster and exits with the code of its level.
func (c *statusCmd) Run(ctx context.Context, env *env) error {
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	cluster, err := env.cluster(ctx)
	if err != nil {
		return err
	}
	if env.json {
		err = printJSON(env.out, cluster)
	} else {
		err = printStatus(env.out, cluster)
	}
	if err != nil {
		return err
	}
	if code := statusCode(cluster); code != exitOK {
		return exitError{code: code}
	}
	return nil
}

// statusCode is the exit code for c. What one node says that hears no leader may
// be wrong both ways.
func statusCode(c client.Cluster) int {
	switch {
	case !c.Confirmed:
		return exitUnknown
	case c.Level == failover.LevelOK:
		return exitOK
	case c.Level == failover.LevelDegraded:
		return exitDegraded
	case c.Level == failover.LevelNoWrites:
		return exitNoWrites
	}
	return exitUnknown
}

// printStatus writes one screen, at most 80 columns wide but for notes.
func printStatus(w io.Writer, c client.Cluster) error {
	var b strings.Builder
	printVerdict(&b, c)
	sentence(&b, "  ", "epoch %d, primary %s, sync %s", c.Epoch, orNone(string(c.Primary)), orNone(c.Sync))
	if op := c.Op; op != nil {
		sentence(&b, "  ", "%s to epoch %d is in phase %s: %s", op.Kind, op.Epoch, op.Phase, op.Reason)
	}
	b.WriteByte('\n')
	if err := printNodes(&b, c); err != nil {
		return err
	}
	b.WriteByte('\n')
	for _, loss := range c.IfDies {
		sentence(&b, "  ", "if %s dies now: %s", loss.Node, loss.Outcome)
	}
	if c.Confirmed {
		fmt.Fprintf(&b, "seen by %s; Raft leader %s\n", c.SeenBy, orNone(string(c.Leader)))
	} else {
		sentence(&b, "  ", "seen by %s alone, UNCONFIRMED: it is in touch with no Raft leader", c.SeenBy)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printVerdict says in a sentence how the cluster is, and why not better.
func printVerdict(b *strings.Builder, c client.Cluster) {
	writes := "writes are open"
	reason, blocked := strings.CutPrefix(c.Writes, "blocked: ")
	if blocked {
		writes = "writes wait: " + reason
	}
	switch {
	case !c.Confirmed:
		sentence(b, "  ", "unknown: %s is in touch with no Raft leader; by what it sees itself, %s", c.SeenBy, writes)
		if silent := silentFor(c); silent != "" {
			sentence(b, "  ", "what to do: start xpd on %s, or mend the network between there and %s", silent, c.SeenBy)
		}
	case c.Level == failover.LevelDegraded:
		sentence(b, "  ", "degraded: %s; %s", writes, amiss(c))
	case c.Level == failover.LevelNoWrites:
		sentence(b, "  ", "no writes: %s", reason)
		if silent := silentFor(c); silent != "" && (c.Op == nil || c.Op.Phase == failover.PhaseRecruit) {
			sentence(b, "  ", "what to do: bring back %s; writes then go on by themselves", silent)
		}
	default:
		sentence(b, "  ", "%s: %s", c.Level, writes)
	}
}

// amiss says what keeps a cluster whose writes are open from being ok.
func amiss(c client.Cluster) string {
	var out []string
	for _, n := range c.Nodes {
		if n.State != "open" && n.State != "streaming" {
			out = append(out, fmt.Sprintf("%s is %s", n.ID, n.State))
		}
	}
	for _, loss := range c.IfDies {
		if len(out) == 0 && !loss.Safe {
			return fmt.Sprintf("the loss of %s would stop them", loss.Node)
		}
	}
	return strings.Join(out, ", ")
}

// silentFor lists the nodes, one or the other, that the node asked does not hear.
func silentFor(c client.Cluster) string {
	var out []string
	for _, n := range c.Nodes {
		if n.State == "silent" && n.ID != c.SeenBy {
			out = append(out, string(n.ID))
		}
	}
	return strings.Join(out, " or ")
}

// printNodes writes the table of nodes and, below it, what they have to say.
func printNodes(b *strings.Builder, c client.Cluster) error {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tROLE\tSTATE\tTL\tLSN\tGAP\tLAG\tSYNC\tSEEN")
	for _, n := range c.Nodes {
		if n.Age < 0 {
			fmt.Fprintf(t, "%s\t?\t%s\t?\t?\t?\t?\t%s\tnever\n", n.ID, n.State, n.Sync)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s ago\n", n.ID, roleIn(c, n), n.State, orUnknown(n.Timeline), orUnknown(n.LSN),
			bytes(n.Gap), duration(n.Lag), n.Sync, duration(n.Age))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if n.Doing != nil && n.Doing.Step != "" && n.Doing.Step != "done" {
			fmt.Fprintf(b, "%s is busy: %s\n", n.ID, n.Doing.Step)
		}
		for _, note := range n.Notes {
			fmt.Fprintf(b, "%s: %s\n", n.ID, note)
		}
	}
	return nil
}

// roleIn is the node's role in the cluster: what a PostgreSQL that was replaced
// still believes does not make it a primary.
func roleIn(c client.Cluster, n failover.NodeStatus) string {
	if n.Role == pgcluster.RolePrimary && n.ID != c.Primary && (c.Op == nil || n.ID != c.Op.To) {
		return "ex-primary"
	}
	return string(n.Role)
}

func orUnknown[T pgcluster.Timeline | pgcluster.LSN](v T) string {
	if v == 0 {
		return "?"
	}
	return fmt.Sprint(v)
}
