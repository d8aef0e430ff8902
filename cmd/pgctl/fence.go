package main

import (
	"context"
	"fmt"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/pgcluster"
)

type fenceCmd struct {
	Node   string `arg:"" help:"Name of the node. Of the primary, writes stop."`
	Yes    bool   `short:"y" help:"Do not ask."`
	NoWait bool   `help:"Do not wait until PostgreSQL is stopped."`
	because
}

// Run asks for the node's name if it is the primary: writes stop until people go on.
func (c *fenceCmd) Run(ctx context.Context, env *env) error {
	id := pgcluster.NodeID(c.Node)
	asking, cancel := env.within(ctx, askTime)
	defer cancel()
	now, err := env.cluster(asking)
	if err != nil {
		return err
	}
	primary := now.Primary == id
	if !c.Yes {
		if err := c.confirm(ctx, env, primary); err != nil {
			return err
		}
	}
	ctx, cancel = env.within(ctx, switchoverTime)
	defer cancel()
	a, err := env.act.Fence(ctx, id, c.Reason)
	if err != nil {
		return notDone(err)
	}
	if !c.NoWait {
		_, err = env.until(ctx, fmt.Sprintf("%s was stopped", id), func(now client.Cluster) (bool, string) {
			n := nodeOf(now, id)
			stopped := n.State == string(pgcluster.ProcessStopped) || n.State == string(pgcluster.ProcessCrashed)
			switch {
			case n.Absent == nil || n.Absent.ID < a.ID:
				return false, fmt.Sprintf("%s has not heard of it yet", now.SeenBy)
			case n.Released || (primary && stopped):
				return true, ""
			case n.Sync == "sync":
				return false, fmt.Sprintf("commits may still rest on %s", id)
			case n.State == "silent":
				return false, fmt.Sprintf("%s is silent, so that nobody has seen its PostgreSQL: it is stopped once its xpd is heard", id)
			}
			return false, fmt.Sprintf("%s is %s", id, n.State)
		})
		if err != nil {
			return err
		}
	}
	text := fmt.Sprintf("%s is fenced; pgctl unfence %s takes it back\n", id, id)
	if primary {
		text += "nobody takes over by itself: pgctl switchover lets a standby do so\n"
	}
	return env.print(a, text)
}

func (c *fenceCmd) confirm(ctx context.Context, env *env, primary bool) error {
	if !primary {
		return env.confirmed(ctx, "Fence %s?\nIts PostgreSQL is stopped, and kept stopped until pgctl unfence.", c.Node)
	}
	answer := env.question(ctx, "%[1]s is the primary: WRITES STOP until pgctl unfence or pgctl switchover.\n"+
		"To go on, type its name, %[1]s.\nName of the node: ", c.Node)
	if answer != c.Node {
		return errAborted
	}
	return nil
}

type unfenceCmd struct {
	Node   string `arg:"" help:"Name of the node."`
	NoWait bool   `help:"Do not wait until it is back in its place."`
	unasked
	because
}

// Run takes a node back. If it is the primary yet, a failover follows.
func (c *unfenceCmd) Run(ctx context.Context, env *env) error {
	ctx, cancel := env.within(ctx, nodeTime)
	defer cancel()
	id := pgcluster.NodeID(c.Node)
	if err := env.act.Unfence(ctx, id, c.Reason); err != nil {
		return notDone(err)
	}
	return takenBack(ctx, env, id, c.NoWait)
}
