package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/xpd-platform/xpd/failover"
)

type historyCmd struct {
	Limit int `default:"50" help:"Show at most this many events, up to 200."`
}

// Run prints the events of the cluster, oldest first.
func (c *historyCmd) Run(ctx context.Context, env *env) error {
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	events, err := env.ask.ClusterHistory(ctx, c.Limit)
	if err != nil {
		return env.unanswered(err)
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

// eventText is an event: when and what, why and, if it passed through phases, how
// long each took.
func eventText(e failover.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  epoch %d  %s", e.At.UTC().Format("2006-01-02 15:04:05.000Z"), e.Epoch, e.Kind)
	switch {
	case e.From != "" && e.From != e.Node:
		fmt.Fprintf(&b, " %s -> %s", e.From, orNone(string(e.Node)))
	case e.Node != "":
		fmt.Fprintf(&b, " %s", e.Node)
	}
	if e.Took > 0 {
		fmt.Fprintf(&b, ", took %d ms", e.Took.Milliseconds())
	}
	b.WriteByte('\n')
	sentence(&b, "    ", "    %s", e.Reason)
	if len(e.Steps) > 0 {
		wrap(&b, "    ", phases(e)...)
	}
	return b.String()
}

// phases tells how long each phase of e took. The last one of an operation that
// reached its end is the opening itself.
func phases(e failover.Event) []string {
	var out []string
	for i, s := range e.Steps {
		text := "    "[:4*max(0, 1-i)] + string(s.Phase)
		if i > 0 && s.Epoch != e.Steps[i-1].Epoch {
			text += fmt.Sprintf(" (epoch %d)", s.Epoch)
		}
		end := e.At
		if i+1 < len(e.Steps) {
			end = e.Steps[i+1].At
		}
		if took := end.Sub(s.At); took > 0 {
			text += fmt.Sprintf(" %d ms", took.Milliseconds())
		}
		if i+1 < len(e.Steps) {
			text += ","
		}
		out = append(out, text)
	}
	return out
}
