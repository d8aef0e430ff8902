package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type planCmd struct {
	What string `arg:"" enum:"failover,switchover" help:"failover or switchover."`
	Node string `arg:"" optional:"" help:"Node that should become primary; otherwise the one that the cluster would choose."`
}

// Run shows what a change of primary would do. Nothing is done.
func (c *planCmd) Run(ctx context.Context, env *env) error {
	ctx, cancel := env.within(ctx, askTime)
	defer cancel()
	plan, err := env.plan(ctx, failover.Kind(c.What), pgcluster.NodeID(c.Node))
	if err != nil {
		return env.unanswered(err)
	}
	if err := env.print(plan, planText(plan)); err != nil {
		return err
	}
	switch {
	case !plan.Confirmed:
		return exitError{code: exitUnknown}
	case plan.Refused != "":
		return exitError{code: exitFailed}
	}
	return nil
}

// plan returns a plan from a node that is in touch with the Raft leader, if there is one.
func (e *env) plan(ctx context.Context, kind failover.Kind, to pgcluster.NodeID) (client.ClusterPlan, error) {
	first, err := e.ask.ClusterPlan(ctx, kind, to)
	if err != nil || first.Confirmed {
		return first, err
	}
	now, err := e.ask.Cluster(ctx)
	if err != nil {
		return first, nil //nolint:nilerr // what is known is better than nothing
	}
	for _, m := range now.Members {
		other, err := fromOne(ctx, e, secondPatience, m, func(ctx context.Context, c *client.Client) (client.ClusterPlan, error) {
			return c.ClusterPlan(ctx, kind, to)
		})
		if err == nil && other.Confirmed {
			return other, nil
		}
	}
	return first, nil
}

// fromOne asks one node and no other, once: whoever is not reached is not tried again.
func fromOne[T any](ctx context.Context, e *env, wait time.Duration, m client.ClusterMember, ask func(context.Context, *client.Client) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	c, err := e.one(m, &http.Client{Transport: once{e.direct.Transport, cancel}})
	if err != nil {
		var none T
		return none, err
	}
	return ask(ctx, c)
}

// once gives up after the first request that is not answered.
type once struct {
	by     http.RoundTripper
	giveUp func()
}

// RoundTrip sends a request as usual.
func (o once) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.by.RoundTrip(r)
	if err != nil {
		o.giveUp()
	}
	return resp, err
}

func planText(p client.ClusterPlan) string {
	var b strings.Builder
	planVerdict(&b, p.Plan)
	if p.Supposed != "" {
		sentence(&b, "  ", "supposed: %s", p.Supposed)
	}
	if p.Held != "" {
		sentence(&b, "  ", "it does not begin by itself now: %s", p.Held)
	}
	if p.Quorum > 0 && p.To != p.From {
		sentence(&b, "  ", "recruited: %s; %s", orNone(names(p.Recruits, ", ")), pledges(p.Plan))
	}
	planLoss(&b, p.Plan)
	if p.Sync != "" {
		sentence(&b, "  ", "sync set of %s at first: %s", p.To, p.Sync)
	}
	if p.After != "" {
		sentence(&b, "  ", "afterwards: %s", p.After)
	}
	b.WriteByte('\n')
	planNodes(&b, p.Nodes)
	b.WriteByte('\n')
	if p.Confirmed {
		sentence(&b, "  ", "seen by %s; nothing was changed", p.SeenBy)
	} else {
		sentence(&b, "  ", "seen by %s alone, UNCONFIRMED: it is in touch with no Raft leader", p.SeenBy)
	}
	return b.String()
}

func planVerdict(b *strings.Builder, p failover.Plan) {
	switch {
	case p.Refused != "":
		sentence(b, "  ", "%s refused: %s", p.Kind, p.Refused)
	case p.To == p.From:
		sentence(b, "  ", "%s: %s stays primary, epoch %d: %s", p.Kind, p.To, p.Epoch, p.Why)
	default:
		sentence(b, "  ", "%s from %s to %s, epoch %d: %s", p.Kind, p.From, p.To, p.Epoch, p.Why)
	}
}

// pledges says how many must pledge.
func pledges(p failover.Plan) string {
	if p.Quorum > len(p.Of) {
		return fmt.Sprintf("only %s itself has everything", p.From)
	}
	return fmt.Sprintf("it takes %d of %s, or %s itself", p.Quorum, names(p.Of, ", "), p.From)
}

// planLoss says what would be lost.
func planLoss(b *strings.Builder, p failover.Plan) {
	forced := p.Forced
	switch {
	case p.To != "" && forced != nil && forced.Loss != nil && forced.To == p.To:
		sentence(b, "  ", "data loss is accepted: %s", forced.Loss)
		return
	case p.To != "" && p.SetAside > 0:
		sentence(b, "  ", "nothing acknowledged is lost; %s on %s that were not acknowledged are set aside", bytes(p.SetAside), p.From)
	case p.To != "":
		sentence(b, "  ", "nothing acknowledged is lost")
	}
	if forced == nil {
		return
	}
	what := "pgctl failover --accept-data-loss"
	if p.Asked != "" {
		what += " --to " + string(p.Asked)
	}
	switch {
	case forced.Loss != nil && forced.Refused != "":
		sentence(b, "  ", "%s would then promote %s: %s", what, forced.To, forced.Loss)
		sentence(b, "  ", "but now it is refused: %s", forced.Refused)
	case forced.Loss != nil:
		sentence(b, "  ", "%s would promote %s: %s", what, forced.To, forced.Loss)
	case forced.Refused != "":
		sentence(b, "  ", "%s is refused: %s", what, forced.Refused)
	}
}

func planNodes(b *strings.Builder, nodes []failover.PlannedNode) {
	rows := [][]string{{"NODE", "STATE", "TL", "LSN", "GAP", "SEEN", "CHOICE"}}
	for _, n := range nodes {
		seen := "never"
		if n.Age >= 0 {
			seen = duration(n.Age) + " ago"
		}
		rows = append(rows, []string{string(n.ID), n.State, orUnknown(n.Timeline), orUnknown(n.LSN), bytes(n.Gap), seen, string(n.Choice)})
	}
	table(b, rows, narrow{0, 6, shorten})
	for _, n := range nodes {
		if n.Why != "-" {
			sentence(b, "  ", "%s: %s", n.ID, n.Why)
		}
	}
}

func names(ids []pgcluster.NodeID, between string) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return strings.Join(out, between)
}
