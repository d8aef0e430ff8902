package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type statusCmd struct {
	Watch bool          `short:"w" help:"Go on looking, until q or Ctrl-C: live in a terminal, else a block for each change."`
	Every time.Duration `default:"1s" help:"How often to look, with --watch."`
}

// Run prints the cluster and exits with the code of its level.
func (c *statusCmd) Run(ctx context.Context, env *env) error {
	if c.Watch {
		return c.watch(ctx, env)
	}
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	cluster, err := env.cluster(ctx)
	if err != nil {
		return err
	}
	code := statusCode(cluster)
	if err := env.print(cluster, emphasis(env.out)(statusText(cluster), code)); err != nil {
		return err
	}
	if code != exitOK {
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

// statusText is one screen.
func statusText(c client.Cluster) string {
	var b strings.Builder
	printVerdict(&b, c)
	sentence(&b, "  ", "epoch %d, primary %s, sync %s", c.Epoch, orNone(string(c.Primary)), orNone(c.Sync))
	if op := c.Op; op != nil {
		sentence(&b, "  ", "%s to epoch %d is in phase %s: %s", op.Kind, op.Epoch, op.Phase, op.Reason)
		if len(op.Steps) > 1 {
			sentence(&b, "  ", "so far: %s", soFar(*op))
		}
	}
	if c.Held != "" { // says so, too, if that is because of a pause
		sentence(&b, "  ", "a failover is held back: %s", c.Held)
	} else if p := c.Paused; p != nil {
		sentence(&b, "  ", "paused until %s: %s", p.Until.UTC().Format(pauseEnd), p.Reason)
	}
	b.WriteByte('\n')
	printNodes(&b, c)
	b.WriteByte('\n')
	for _, loss := range c.IfDies {
		sentence(&b, "  ", "if %s dies now: %s", loss.Node, loss.Outcome)
	}
	if c.Confirmed {
		sentence(&b, "  ", "seen by %s; Raft leader %s", c.SeenBy, orNone(string(c.Leader)))
	} else {
		sentence(&b, "  ", "seen by %s alone, UNCONFIRMED: it is in touch with no Raft leader", c.SeenBy)
	}
	return b.String()
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
		if !n.Well() {
			out = append(out, fmt.Sprintf("%s is %s", n.ID, n.State))
		}
	}
	for _, loss := range c.IfDies {
		if len(out) == 0 && !loss.Safe {
			return fmt.Sprintf("the loss of %s would stop them", loss.Node)
		}
	}
	if len(out) == 0 && c.Held != "" {
		return "a failover is held back"
	}
	if len(out) == 0 && c.Paused != nil {
		return "the cluster is paused"
	}
	if len(out) == 0 {
		return "see the notes of the nodes, or pgctl doctor"
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
func printNodes(b *strings.Builder, c client.Cluster) {
	rows := [][]string{{"NODE", "ROLE", "STATE", "TL", "LSN", "GAP", "LAG", "SYNC", "SEEN"}}
	for _, n := range c.Nodes {
		if n.Age < 0 {
			rows = append(rows, []string{string(n.ID), "?", n.State, "?", "?", "?", "?", n.Sync, "never"})
			continue
		}
		rows = append(rows, []string{
			string(n.ID), roleIn(c, n), n.State, orUnknown(n.Timeline), orUnknown(n.LSN), bytes(n.Gap), duration(n.Lag), n.Sync, duration(n.Age) + " ago",
		})
	}
	table(b, rows, narrow{0, 6, shorten})
	for _, n := range c.Nodes {
		if n.Doing != nil && n.Doing.Step != "" && n.Doing.Step != "done" {
			sentence(b, "  ", "%s is busy: %s", n.ID, n.Doing.Step)
		}
		for _, note := range n.Notes {
			sentence(b, "  ", "%s: %s", n.ID, note)
		}
	}
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
