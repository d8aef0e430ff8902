package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type switchoverCmd struct {
	To     string `help:"Node that becomes primary; otherwise the standby that is furthest."`
	Reason string `default:"asked for by pgctl" help:"Kept in the history."`
	Yes    bool   `short:"y" help:"Do not ask."`
}

var errAborted = errors.New("aborted: nothing was done")

// follow is how often the progress of an operation is looked at.
const follow = 50 * time.Millisecond

// Run asks first, because writes pause, and follows the operation to its end.
func (c *switchoverCmd) Run(ctx context.Context, env *env) error {
	before, err := env.client.Cluster(ctx)
	if err != nil {
		return exitError{exitUnknown, fmt.Errorf("no xpd answered: %w; name others with --server", err)}
	}
	if err := c.confirm(env, before); err != nil {
		return err
	}
	op, err := env.client.Switchover(ctx, pgcluster.NodeID(c.To), c.Reason)
	if err != nil {
		return fmt.Errorf("switchover: %w", err)
	}
	fmt.Fprintf(env.err, "switchover from %s to %s, epoch %d\n", op.From, op.To, op.Epoch)
	event, err := c.await(ctx, env, op)
	if err != nil {
		return err
	}
	if env.json {
		err = printJSON(env.out, event)
	} else {
		_, err = fmt.Fprint(env.out, eventText(event))
	}
	if err != nil {
		return err
	}
	if event.Kind != string(failover.KindSwitchover) || event.Node != op.To {
		return fmt.Errorf("the switchover did not happen: %s", event.Reason)
	}
	return nil
}

func (c *switchoverCmd) confirm(env *env, before client.Cluster) error {
	if c.Yes {
		return nil
	}
	to := c.To
	if to == "" {
		to = "the standby that is furthest"
	}
	fmt.Fprintf(env.err, "Move the primary from %s to %s? Writes pause for a moment. [y/N] ", orNone(string(before.Primary)), to)
	answer, err := bufio.NewReader(env.in).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "y" {
		return errAborted
	}
	return nil
}

// await returns the event that the operation ended in, telling its phases on the
// way.
func (c *switchoverCmd) await(ctx context.Context, env *env, op failover.Operation) (failover.Event, error) {
	tick := time.NewTicker(follow)
	defer tick.Stop()
	var phase failover.Phase
	for {
		now, err := env.client.Cluster(ctx)
		if err == nil && now.Op != nil && now.Op.ID == op.ID && now.Op.Phase != phase {
			phase = now.Op.Phase
			fmt.Fprintf(env.err, "  %6d ms  %s\n", now.Op.Steps[len(now.Op.Steps)-1].At.Sub(op.Began).Milliseconds(), phase)
		}
		if err == nil && (now.Op == nil || now.Op.ID != op.ID) {
			events, err := env.client.ClusterHistory(ctx, 10)
			if err != nil {
				return failover.Event{}, err
			}
			if e, ok := endOf(events, op); ok {
				return e, nil
			}
		}
		select {
		case <-ctx.Done():
			return failover.Event{}, fmt.Errorf("switchover is still under way, see pgctl status: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// endOf finds the event of the operation among the newest: the last one that was
// recorded after it began and is about a primary.
func endOf(events []failover.Event, op failover.Operation) (failover.Event, bool) {
	for i := len(events) - 1; i >= 0; i-- {
		e := events[i]
		if e.From == op.From && !e.At.Before(op.Began) && (e.Kind == "aborted" || e.Epoch >= op.Epoch) && len(e.Steps) > 0 {
			return e, true
		}
	}
	return failover.Event{}, false
}
