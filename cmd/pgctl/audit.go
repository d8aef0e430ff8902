package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/xpd-platform/xpd/failover"
)

type auditCmd struct {
	Limit int `short:"n" default:"50" help:"Show at most this many lines, up to 200."`
}

// Run prints what people asked for, oldest first.
func (c *auditCmd) Run(ctx context.Context, env *env) error {
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	entries, err := env.ask.ClusterAudit(ctx, c.Limit)
	if err != nil {
		return env.unanswered(err)
	}
	if len(entries) == 0 {
		return env.print(entries, "nobody has asked for anything yet\n")
	}
	var b strings.Builder
	for _, e := range entries {
		auditText(&b, e)
	}
	return env.print(entries, b.String())
}

// auditText is a line of the trail: when, who and from where; what, why and the outcome.
func auditText(b *strings.Builder, e failover.AuditEntry) {
	who := orNone(e.Operator)
	if e.Name != "" {
		who += ", token " + e.Name
	}
	if e.From != "" {
		who += ", from " + e.From
	}
	sentence(b, "    ", "%s  epoch %d  %s", e.At.UTC().Format("2006-01-02 15:04:05Z"), e.Epoch, who)
	outcome := "accepted"
	switch {
	case e.Refused != "":
		outcome = "REFUSED: " + e.Refused
	case e.Op != 0:
		outcome = fmt.Sprintf("accepted, operation %d", e.Op)
	}
	sentence(b, "    ", "    %s: %s", e.Action, outcome)
	if e.Reason != "" {
		sentence(b, "    ", "    reason: %s", e.Reason)
	}
}
