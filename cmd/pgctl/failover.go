package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type failoverCmd struct {
	AcceptDataLoss bool   `help:"Required: failovers that lose nothing happen by themselves."`
	To             string `help:"Node that becomes primary; otherwise the one that has most."`
	Yes            bool   `short:"y" help:"Do not ask."`
	because
}

// Run asks for the name of the primary that is given up, because acknowledged writes may
// be lost with it.
func (c *failoverCmd) Run(ctx context.Context, env *env) error {
	if !c.AcceptDataLoss {
		return errors.New("a failover that loses nothing happens by itself as soon as it can, and pgctl switchover moves " +
			"the role while all is well\nWith --accept-data-loss what only missing nodes have is given up")
	}
	if err := c.confirm(ctx, env); err != nil {
		return err
	}
	ctx, cancel := env.within(ctx, switchoverTime)
	defer cancel()
	op, err := env.act.ForceFailover(ctx, pgcluster.NodeID(c.To), c.Reason)
	if err != nil {
		return notDone(err)
	}
	fmt.Fprintf(env.err, "failover from %s, epoch %d\n", orNone(string(op.From)), op.Epoch)
	event, err := await(ctx, env, op)
	if err != nil {
		return err
	}
	if err := env.print(event, eventText(event)); err != nil {
		return err
	}
	if event.Kind != string(failover.KindFailover) {
		return fmt.Errorf("it did not go as planned: it ended as %s: %s", event.Kind, event.Reason)
	}
	return nil
}

func (c *failoverCmd) confirm(ctx context.Context, env *env) error {
	if c.Yes {
		return nil
	}
	asking, cancel := env.within(ctx, askTime)
	defer cancel()
	now, err := env.cluster(asking)
	if err != nil {
		return err
	}
	primary := string(now.Primary)
	var state strings.Builder
	sentence(&state, "  ", "writes: %s", now.Writes)
	fmt.Fprint(env.err, state.String())
	answer := env.question(ctx, "What was acknowledged and is on missing nodes only will be LOST.\n"+
		"To go on, type the name of the primary that is given up, %s.\nName of the primary: ", primary)
	if answer != primary || primary == "" {
		return errAborted
	}
	return nil
}
