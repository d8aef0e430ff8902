package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/failover"
)

type historyCmd struct {
	Limit int `default:"50" help:"Show at most this many events."`
}

// Run prints the events of the cluster, oldest first.
func (c *historyCmd) Run(ctx context.Context, env *env) error {
	events, err := env.client.ClusterHistory(ctx, c.Limit)
	if err != nil {
		if unreachable(err) {
			return exitError{exitUnknown, fmt.Errorf("no xpd answered: %w; name others with --server", err)}
		}
		return err
	}
	if env.json {
		return printJSON(env.out, events)
	}
	if len(events) == 0 {
		_, err := fmt.Fprintln(env.out, "nothing has happened yet")
		return err
	}
	for _, e := range events {
		if _, err := fmt.Fprint(env.out, eventText(e)); err != nil {
			return err
		}
	}
	return nil
}

// eventText is an event on two lines, or three if it passed through phases.
func eventText(e failover.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  epoch %d  %s", e.At.UTC().Format("2006-01-02 15:04:05.000"), e.Epoch, e.Kind)
	switch {
	case e.From != "" && e.From != e.Node:
		fmt.Fprintf(&b, " %s -> %s", e.From, orNone(string(e.Node)))
	case e.Node != "":
		fmt.Fprintf(&b, " %s", e.Node)
	}
	if e.Took > 0 {
		fmt.Fprintf(&b, ", took %d ms", e.Took.Milliseconds())
	}
	fmt.Fprintf(&b, "\n    %s\n", e.Reason)
	if len(e.Steps) > 1 {
		b.WriteString("    ")
		for i, s := range e.Steps {
			if i > 0 {
				fmt.Fprintf(&b, " %d ms, ", s.At.Sub(e.Steps[i-1].At)/time.Millisecond)
			}
			b.WriteString(string(s.Phase))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
