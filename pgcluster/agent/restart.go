package agent

import (
	"context"
	"errors"

	"github.com/xpd-platform/xpd/pgcluster"
)

var errRestartPrimary = errors.New("this node is no standby: a primary is restarted by a change of primary only")

// restart stops a standby and starts it as it was, once for each restart's number. It
// returns once the standby streams again.
func (a *Agent) restart(ctx context.Context, o pgcluster.Order) error {
	leads, err := a.leads(ctx)
	if err != nil {
		return err
	}
	if leads {
		return errRestartPrimary
	}
	if a.running() != nil && a.state.get().Restarted != o.Restart {
		a.step("stopping to restart")
		if err := a.stop(ctx, fastStop); err != nil {
			return err
		}
	}
	a.step("starting again")
	if err := a.start(ctx); err != nil {
		return err
	}
	s, err := a.save(func(s *saved) { s.Restarted = o.Restart })
	if err != nil || s.Settings.Upstream == "" {
		return err
	}
	a.step("waiting to stream from " + string(s.Settings.Upstream))
	bounded, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	return a.awaitStreaming(bounded, s.Settings.Upstream, s.Settings.Stream)
}

// leads reports whether the node is a primary, may become one at any moment, or would
// start as one.
func (a *Agent) leads(ctx context.Context) (bool, error) {
	if a.running() != nil {
		return a.mayLead(ctx)
	}
	d, err := a.inspect(ctx)
	if err == nil && d.role == pgcluster.RoleNone {
		err = errNoData
	}
	return d.role == pgcluster.RolePrimary, err
}
