package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type maintenanceCmd struct {
	Node   string        `arg:"" help:"Name of the node: not the primary."`
	For    time.Duration `help:"When it ends by itself, such as 2h."`
	End    bool          `help:"End it now, and wait until the node is back in its place."`
	Yes    bool          `short:"y" help:"Do not ask."`
	NoWait bool          `help:"Do not wait."`
	because
}

// Run returns once the host may be worked on: until then commits may rest on it.
func (c *maintenanceCmd) Run(ctx context.Context, env *env) error {
	id := pgcluster.NodeID(c.Node)
	switch {
	case c.End && c.For != 0, !c.End && c.For == 0:
		return errors.New("give --for DURATION, such as --for 2h, or --end")
	case c.End:
		return c.end(ctx, env, id)
	}
	if !c.Yes {
		err := env.confirmed(ctx, "Maintenance of %s for %s?\nNo commit waits for it, nobody promotes it, and xpd leaves it alone.", id, c.For)
		if err != nil {
			return err
		}
	}
	ctx, cancel := env.within(ctx, switchoverTime)
	defer cancel()
	a, err := env.act.SetMaintenance(ctx, id, c.For, c.Reason)
	if err != nil {
		return notDone(err)
	}
	until := a.Until.UTC().Format(pauseEnd)
	if c.NoWait {
		return env.print(a, fmt.Sprintf("maintenance of %s until %s\nbegin once pgctl status does not show it as sync\n", id, until))
	}
	if err := awaitReleased(ctx, env, id, a); err != nil {
		return err
	}
	return env.print(a, fmt.Sprintf("maintenance of %s until %s\nits PostgreSQL or its host may be stopped now\n"+
		"xpd takes it back then, or as soon as you say: pgctl maintenance %s --end\n", id, until, id))
}

func (c *maintenanceCmd) end(ctx context.Context, env *env, id pgcluster.NodeID) error {
	ctx, cancel := env.within(ctx, nodeTime)
	defer cancel()
	if err := env.act.EndMaintenance(ctx, id, c.Reason); err != nil {
		return notDone(err)
	}
	return takenBack(ctx, env, id, c.NoWait)
}

// takenBack waits until a node is in its place again.
func takenBack(ctx context.Context, env *env, id pgcluster.NodeID, noWait bool) error {
	if noWait {
		return env.print(struct{}{}, fmt.Sprintf("%s is taken back; pgctl status shows how far it is\n", id))
	}
	m, _, err := awaitNode(ctx, env, id)
	if err != nil {
		return err
	}
	return env.print(m, fmt.Sprintf("%s is back in its place\n", id))
}

// awaitReleased waits until the cluster does without a node.
func awaitReleased(ctx context.Context, env *env, id pgcluster.NodeID, a failover.Absence) error {
	_, err := env.until(ctx, fmt.Sprintf("the cluster did without %s", id), func(now client.Cluster) (bool, string) {
		switch n := nodeOf(now, id); {
		case n.Absent == nil || n.Absent.ID < a.ID:
			return false, fmt.Sprintf("%s has not heard of it yet", now.SeenBy)
		case n.Released:
			return true, ""
		case n.Sync == "sync":
			return false, fmt.Sprintf("commits may still rest on %s", id)
		case n.State == "silent":
			return false, fmt.Sprintf("%s is silent, so that nobody has seen its PostgreSQL: it is left alone once its xpd is heard; if its host is off, it may be worked on", id)
		default:
			return false, fmt.Sprintf("%s is %s", id, n.State)
		}
	})
	return err
}
