package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
)

type switchoverCmd struct {
	To  string `help:"Node that becomes primary; otherwise the standby that is furthest."`
	Yes bool   `short:"y" help:"Do not ask."`
	because
}

const (
	follow = 50 * time.Millisecond // how often the progress of an operation is looked at
	recent = 50                    // events among which its end is looked for
)

// Run asks first, because writes pause, and follows the operation to its end.
func (c *switchoverCmd) Run(ctx context.Context, env *env) error {
	if err := c.confirm(ctx, env); err != nil {
		return err
	}
	ctx, cancel := env.within(ctx, switchoverTime)
	defer cancel()
	op, err := env.act.Switchover(ctx, pgcluster.NodeID(c.To), c.Reason)
	if err != nil {
		return notDone(err)
	}
	fmt.Fprintf(env.err, "switchover from %s to %s, epoch %d\n", op.From, op.To, op.Epoch)
	event, err := await(ctx, env, op)
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
	return verdict(op, event)
}

// confirm returns nil if somebody says y. Waiting for that is not bounded.
func (c *switchoverCmd) confirm(ctx context.Context, env *env) error {
	if c.Yes {
		return nil
	}
	asking, cancel := env.within(ctx, askTime)
	defer cancel()
	before, err := env.cluster(asking)
	if err != nil {
		return err
	}
	to := c.To
	if to == "" {
		to = "the standby that is furthest"
	}
	return env.confirmed(ctx, "Move the primary from %s to %s?\nWrites pause for a moment.", orNone(string(before.Primary)), to)
}

// notDone says what became of a change that was not accepted.
func notDone(err error) error {
	p, answered := errors.AsType[*client.Problem](err)
	switch {
	case answered && p.Type == "/problems/refused":
		return fmt.Errorf("refused: %s\nNothing was done; pgctl status shows the cluster", p.Detail)
	case errors.Is(err, failover.ErrUncertain):
		return fmt.Errorf("%w\nLook at pgctl status and pgctl history before you try again", err)
	case errors.Is(err, context.DeadlineExceeded) && answered && p.Type == "/problems/no-leader":
		return fmt.Errorf("out of time: no Raft leader is heard, and without one nothing is changed\n" +
			"Nothing was done; pgctl why says which nodes are missing")
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w\nNothing was done; pgctl why says which nodes are missing", err)
	}
	return fmt.Errorf("%w\nNothing was done", err)
}

// await returns the event that the operation ended in, telling its phases on the
// way.
func await(ctx context.Context, env *env, op failover.Operation) (failover.Event, error) {
	tick := time.NewTicker(follow)
	defer tick.Stop()
	p := newProgress(env.err)
	defer p.end()
	for {
		now, err := env.ask.Cluster(ctx)
		switch {
		case err != nil: // ctx has ended
		case now.Op != nil && now.Op.ID == op.ID:
			p.steps(op, now.Op.Steps)
		default:
			// This node may be the last to hear of the operation.
			events, err := env.ask.ClusterHistory(ctx, recent)
			if e, ended := endOf(events, op); err == nil && ended {
				p.steps(op, e.Steps)
				p.finish(e.At.Sub(op.Began) - p.at)
				return e, nil
			}
		}
		select {
		case <-ctx.Done():
			return failover.Event{}, stoppedWatching(ctx)
		case <-tick.C:
			p.tick()
		}
	}
}

func stoppedWatching(ctx context.Context) error {
	why := "interrupted"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		why = "out of time"
	}
	return fmt.Errorf("%s: the cluster goes on with the switchover without pgctl, and takes it back or "+
		"finishes it by itself\npgctl status shows where it is, pgctl history how it ended", why)
}

// endOf finds the event in which the operation ended: the one that passed through
// the operation's first step.
func endOf(events []failover.Event, op failover.Operation) (failover.Event, bool) {
	i := slices.IndexFunc(events, func(e failover.Event) bool {
		return len(e.Steps) > 0 && len(op.Steps) > 0 &&
			e.Steps[0].Epoch == op.Steps[0].Epoch && e.Steps[0].At.Equal(op.Steps[0].At)
	})
	if i < 0 {
		return failover.Event{}, false
	}
	return events[i], true
}

// verdict returns nil if the operation ended as it was asked for.
func verdict(op failover.Operation, e failover.Event) error {
	switch {
	case e.Kind == string(failover.KindSwitchover) && e.Node == op.To:
		return nil
	case op.Kind == failover.KindFailover && e.Kind == string(failover.KindFailover):
		return nil // from a fenced primary, to whoever has everything
	case e.Kind == string(failover.KindSwitchover) || e.Kind == string(failover.KindFailover):
		return fmt.Errorf("it did not go as planned: a %s made %s the primary\npgctl status shows the cluster", e.Kind, e.Node)
	}
	return fmt.Errorf("the switchover was %s, and the primary was not moved: %s", e.Kind, e.Reason)
}
