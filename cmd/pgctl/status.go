package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
)

type statusCmd struct{}

// Run prints the cluster and exits with the code of its level.
func (c *statusCmd) Run(ctx context.Context, env *env) error {
	cluster, err := env.client.Cluster(ctx)
	if err != nil {
		return exitError{exitUnknown, fmt.Errorf("no xpd answered: %w; name others with --server", err)}
	}
	if env.json {
		err = printJSON(env.out, cluster)
	} else {
		err = printStatus(env.out, cluster)
	}
	if err != nil {
		return err
	}
	if code := levelCode(cluster.Level); code != exitOK {
		return exitError{code: code}
	}
	return nil
}

func levelCode(l failover.Level) int {
	switch l {
	case failover.LevelOK:
		return exitOK
	case failover.LevelDegraded:
		return exitDegraded
	case failover.LevelNoWrites:
		return exitNoWrites
	default:
		return exitUnknown
	}
}

// printStatus writes one screen, at most 80 columns wide but for long notes.
func printStatus(w io.Writer, c client.Cluster) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: writes %s\n", c.Level, c.Writes)
	fmt.Fprintf(&b, "epoch %d, primary %s, sync %s\n", c.Epoch, orNone(string(c.Primary)), c.Sync)
	if c.Op != nil {
		fmt.Fprintf(&b, "%s to epoch %d is in phase %s: %s\n", c.Op.Kind, c.Op.Epoch, c.Op.Phase, c.Op.Reason)
	}
	b.WriteByte('\n')
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tROLE\tSTATE\tTL\tLSN\tGAP\tLAG\tSYNC\tSEEN")
	for _, n := range c.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", n.ID, n.Role, n.State, n.Timeline, n.LSN,
			bytes(n.Gap), seconds(n.Lag), n.Sync, ago(n.Age))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if n.Doing != nil && n.Doing.Step != "" {
			fmt.Fprintf(&b, "%s is busy: %s\n", n.ID, n.Doing.Step)
		}
		for _, note := range n.Notes {
			fmt.Fprintf(&b, "%s: %s\n", n.ID, note)
		}
	}
	b.WriteByte('\n')
	for _, loss := range c.IfDies {
		fmt.Fprintf(&b, "if %s dies now: %s\n", loss.Node, loss.Outcome)
	}
	leader := "Raft leader " + orNone(string(c.Leader))
	if !c.Confirmed {
		leader = "UNCONFIRMED: it is in touch with no Raft leader, so this may be out of date"
	}
	fmt.Fprintf(&b, "seen by %s; %s\n", c.SeenBy, leader)
	_, err := io.WriteString(w, b.String())
	return err
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// bytes shows a size in at most six characters.
func bytes(n int64) string {
	const unit = 1024
	switch {
	case n < 0:
		return "?"
	case n < unit:
		return fmt.Sprintf("%d B", n)
	case n < unit*unit:
		return fmt.Sprintf("%d kB", n/unit)
	case n < unit*unit*unit:
		return fmt.Sprintf("%d MB", n/unit/unit)
	default:
		return fmt.Sprintf("%d GB", n/unit/unit/unit)
	}
}

func seconds(d time.Duration) string {
	if d < 0 {
		return "?"
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

func ago(d time.Duration) string {
	if d < 0 {
		return "never"
	}
	return d.Round(100*time.Millisecond).String() + " ago"
}

// unreachable reports whether err says that no node could be asked.
func unreachable(err error) bool {
	_, answered := errors.AsType[*client.Problem](err)
	return !answered
}
