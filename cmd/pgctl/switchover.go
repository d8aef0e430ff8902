package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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

var errAborted = errors.New("not confirmed: nothing was done (-y does not ask)")

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
		return notBegun(err)
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
	fmt.Fprintf(env.err, "Move the primary from %s to %s?\nWrites pause for a moment. [y/N] ", orNone(string(before.Primary)), to)
	answer := make(chan string, 1)
	// A read of a terminal cannot be ended; when pgctl is interrupted, it exits instead.
	go func() {
		line, err := bufio.NewReader(env.in).ReadString('\n')
		if err != nil {
			line = ""
		}
		answer <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(env.err)
	case line := <-answer:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
		if line == "" {
			fmt.Fprintln(env.err)
		}
	}
	return errAborted
}

// notBegun says what became of a switchover that was not accepted.
func notBegun(err error) error {
	p, answered := errors.AsType[*client.Problem](err)
	switch {
	case answered && p.Type == "/problems/refused":
		return fmt.Errorf("refused: %s\nNothing was done; pgctl status shows the cluster", p.Detail)
	case errors.Is(err, failover.ErrUncertain):
		return fmt.Errorf("%w\nLook at pgctl status and pgctl history before you try again", err)
	}
	return fmt.Errorf("%w\nNothing was done", err)
}

// await returns the event that the operation ended in, telling its phases on the
// way.
func await(ctx context.Context, env *env, op failover.Operation) (failover.Event, error) {
	tick := time.NewTicker(follow)
	defer tick.Stop()
	p := progress{w: env.err, op: op}
	for {
		now, err := env.ask.Cluster(ctx)
		switch {
		case err != nil: // ctx has ended
		case now.Op != nil && now.Op.ID == op.ID:
			p.show(now.Op.Steps)
		default:
			// This node may be the last to hear of the operation.
			events, err := env.ask.ClusterHistory(ctx, recent)
			if e, ended := endOf(events, op); err == nil && ended {
				p.show(e.Steps)
				return e, nil
			}
		}
		select {
		case <-ctx.Done():
			return failover.Event{}, stoppedWatching(ctx)
		case <-tick.C:
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

// progress tells of every phase once, also of those that passed unseen.
type progress struct {
	w     io.Writer
	op    failover.Operation
	shown int
}

func (p *progress) show(steps []failover.PhaseTime) {
	for _, s := range steps[min(p.shown, len(steps)):] {
		epoch := ""
		if s.Epoch != p.op.Epoch {
			epoch = fmt.Sprintf(" (epoch %d)", s.Epoch)
		}
		fmt.Fprintf(p.w, "%6d ms  %s%s\n", s.At.Sub(p.op.Began).Milliseconds(), s.Phase, epoch)
		p.shown++
	}
}

// endOf finds the event in which the operation ended: the one that passed through
// the operation's first step.
func endOf(events []failover.Event, op failover.Operation) (failover.Event, bool) {
	i := slices.IndexFunc(events, func(e failover.Event) bool {
		return len(e.Steps) > 0 && len(op.Steps) > 0 && e.From == op.From &&
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
	case e.Kind == string(failover.KindSwitchover) || e.Kind == string(failover.KindFailover):
		return fmt.Errorf("it did not go as planned: a %s made %s the primary\npgctl status shows the cluster", e.Kind, e.Node)
	}
	return fmt.Errorf("the switchover was %s, and the primary was not moved: %s", e.Kind, e.Reason)
}
