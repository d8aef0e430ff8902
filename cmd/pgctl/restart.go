package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type restartCmd struct {
	Node string `arg:"" optional:"" help:"Name of the node."`
	All  bool   `help:"All nodes, one after the other: standbys first, unless a lower setting needs the primary first."`
	Yes  bool   `short:"y" help:"Do not ask."`
	because
}

// Run restarts PostgreSQL and follows that to its end.
func (c *restartCmd) Run(ctx context.Context, env *env) error {
	if (c.Node == "") != c.All {
		return errors.New("name a node, or --all")
	}
	what := c.Node
	if c.All {
		what = "all nodes, one after the other"
	}
	if !c.Yes {
		if err := env.confirmed(ctx, "Restart PostgreSQL on %s?\nWhen it comes to the primary, writes pause for a moment.", what); err != nil {
			return err
		}
	}
	ctx, cancel := env.within(ctx, nodeTime)
	defer cancel()
	op, err := env.act.RestartCluster(ctx, pgcluster.NodeID(c.Node), c.Reason)
	if err != nil {
		return notDone(err)
	}
	fmt.Fprintf(env.err, "restart of %s\n", what)
	event, err := awaitAll(ctx, env, op)
	if err != nil {
		return err
	}
	if err := env.print(event, eventText(event)); err != nil {
		return err
	}
	if event.Kind != string(failover.KindRestart) {
		return fmt.Errorf("it did not go as planned: it ended as %s: %s", event.Kind, event.Reason)
	}
	return nil
}

// awaitAll returns the last event of a restart: when the primary has moved, what is left
// of it goes on as another operation.
func awaitAll(ctx context.Context, env *env, op failover.Operation) (failover.Event, error) {
	for {
		event, err := await(ctx, env, op)
		if err != nil || event.Kind != string(failover.KindRestart) {
			return event, err
		}
		now, err := env.ask.Cluster(ctx)
		if err != nil || now.Op == nil || now.Op.Kind != failover.KindRestart || now.Op.ID == op.ID {
			return event, nil //nolint:nilerr // what was awaited has happened
		}
		op = *now.Op
	}
}
