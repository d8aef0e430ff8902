package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type recloneCmd struct {
	Node    string `arg:"" help:"Name of the standby."`
	Discard bool   `help:"Delete its data before the copy is made, where there is no room for both."`
	DryRun  bool   `help:"Show what would be done, and do nothing. Exit code: 0 it can be done, 4 refused, 3 unknown."`
	Cancel  bool   `help:"Let it keep its data, if they are there yet."`
	Yes     bool   `short:"y" help:"Do not ask."`
	NoWait  bool   `help:"Do not wait until it is back in its place."`
	because
}

// Run shows what would be done, asks, and follows it until the copy streams.
func (c *recloneCmd) Run(ctx context.Context, env *env) error {
	id := pgcluster.NodeID(c.Node)
	if c.Cancel {
		return c.cancel(ctx, env, id)
	}
	asking, cancel := env.within(ctx, askTime)
	defer cancel()
	plan, err := env.ask.PlanReclone(asking, id, c.Discard)
	if err != nil {
		return env.unanswered(err)
	}
	if c.DryRun {
		return showReclone(env, plan)
	}
	if !c.Yes && plan.Refused == "" {
		fmt.Fprint(env.err, recloneText(plan))
		if err := env.confirmed(ctx, "Replace the data of %s by a copy of those of %s?", id, plan.From); err != nil {
			return err
		}
	}
	ctx, cancel = env.within(ctx, recloneTime)
	defer cancel()
	a, err := env.act.Reclone(ctx, id, c.Discard, c.Reason)
	if err != nil {
		return notDone(err)
	}
	if c.NoWait {
		return env.print(a, fmt.Sprintf("%s is being cloned; pgctl status shows how far it is\n", id))
	}
	_, err = env.until(ctx, fmt.Sprintf("%s streamed", id), func(now client.Cluster) (bool, string) {
		n := nodeOf(now, id)
		switch {
		case n.Absent == nil:
			// This node may be the last to hear of it.
			return hasEnded(ctx, env, id, a), fmt.Sprintf("%s has not heard of it yet", now.SeenBy)
		case n.Sync == "sync":
			return false, fmt.Sprintf("commits may still rest on %s", id)
		case n.Doing != nil && n.Doing.Error != "":
			return false, fmt.Sprintf("%s: %s", id, n.Doing.Error)
		case n.Doing != nil && n.Doing.Step != "":
			return false, fmt.Sprintf("%s: %s", id, n.Doing.Step)
		}
		return false, fmt.Sprintf("%s is %s", id, n.State)
	})
	if err != nil {
		return err
	}
	return takenBack(ctx, env, id, false)
}

// hasEnded reports whether an absence that this node does not know is over: its end is in
// the history.
func hasEnded(ctx context.Context, env *env, id pgcluster.NodeID, a failover.Absence) bool {
	events, err := env.ask.ClusterHistory(ctx, recent)
	return err == nil && slices.ContainsFunc(events, func(e failover.Event) bool {
		return e.Node == id && e.Kind == string(a.Kind)+" ended" && !e.At.Before(a.Since)
	})
}

func (c *recloneCmd) cancel(ctx context.Context, env *env, id pgcluster.NodeID) error {
	ctx, cancel := env.within(ctx, nodeTime)
	defer cancel()
	if err := env.act.CancelReclone(ctx, id, c.Reason); err != nil {
		return notDone(err)
	}
	return takenBack(ctx, env, id, c.NoWait)
}

func showReclone(env *env, plan client.ReclonePlan) error {
	text := recloneText(plan)
	if plan.Confirmed {
		text += fmt.Sprintf("seen by %s; nothing was changed\n", plan.SeenBy)
	} else {
		text += fmt.Sprintf("seen by %s alone, UNCONFIRMED: it is in touch with no Raft leader\n", plan.SeenBy)
	}
	if err := env.print(plan, text); err != nil {
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

func recloneText(p client.ReclonePlan) string {
	var b strings.Builder
	if p.Refused != "" {
		sentence(&b, "  ", "reclone of %s refused: %s", p.Node, p.Refused)
		return b.String()
	}
	sentence(&b, "  ", "reclone of %s from %s: %s to copy, %s free on %s", p.Node, p.From, sizeOf(p.Bytes), sizeOf(p.Free), p.Node)
	if p.Discard {
		sentence(&b, "  ", "the data that are there (%s) are deleted before", sizeOf(p.Old))
	} else {
		sentence(&b, "  ", "the data that are there (%s) are kept aside until the copy streams", sizeOf(p.Old))
	}
	for _, a := range p.Aside {
		sentence(&b, "  ", "WAL that was set aside at %s stays: %s in %s", a.At.UTC().Format(pauseEnd), bytes(a.Bytes), a.Path)
	}
	sentence(&b, "  ", "sync set meanwhile: %s", p.Sync)
	for _, loss := range p.IfDies {
		sentence(&b, "  ", "if %s dies meanwhile: %s", loss.Node, loss.Outcome)
	}
	return b.String()
}

func sizeOf(n uint64) string {
	if n == 0 {
		return "? bytes"
	}
	return bytes(int64(min(n, 1<<62)))
}
