package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/xpd-platform/xpd/simulation/localcluster"
)

// DemoOptions is a load with the time that it runs undisturbed.
type DemoOptions struct {
	Options
	Steady time.Duration // after the warm-up, before the first disturbance
}

const (
	warmUp    = 2 * time.Second // connections, caches, statistics of the tables
	interlude = 3 * time.Second // between disturbances
	absence   = 4 * time.Second // of a lost node
)

// Demo puts a ready cluster under load and does to it, in turn, what its users
// fear most: it kills the primary's PostgreSQL, takes the primary's whole node
// away and brings it back, and makes another node primary as planned.
func Demo(ctx context.Context, c *localcluster.Cluster, o DemoOptions) (Report, error) {
	return Drive(ctx, c, o.Options, func(ctx context.Context, s *Session) error {
		s.Say("%g requests for treatments per second, and half as many exposures and purchases", o.Rate)
		if err := s.Hold(ctx, warmUp); err != nil {
			return err
		}
		s.Warm()
		if err := s.Hold(ctx, o.Steady); err != nil {
			return err
		}
		for _, disturb := range []func(context.Context, *Session) error{killPostgres, loseNode, switchOver} {
			if err := disturb(ctx, s); err != nil {
				return err
			}
			if err := s.Hold(ctx, interlude); err != nil {
				return err
			}
		}
		return nil
	})
}

const (
	nameKill       = "kill -9 of the primary's PostgreSQL"
	nameLoss       = "loss of the primary's node, and its return"
	nameSwitchover = "switchover"
)

// targetPause is how long a disturbance should make writes pause at most, 0 if
// nobody has said.
func targetPause(name string) Millis {
	switch name {
	case nameKill, nameSwitchover:
		return Millis(time.Second)
	case nameLoss:
		return Millis(3 * time.Second)
	}
	return 0
}

// targetAboveFloor is by how much the p99.9 of treatments outside disturbances may
// exceed that of empty requests.
const targetAboveFloor = Millis(10 * time.Millisecond)

func killPostgres(ctx context.Context, s *Session) error {
	return s.Disturb(ctx, nameKill, func(ctx context.Context) error {
		primary, err := s.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		s.Say("kill -9 of PostgreSQL on %s, the primary", primary)
		return s.Failover(ctx, func() error { return s.Cluster.KillPostgres(primary) })
	})
}

func loseNode(ctx context.Context, s *Session) error {
	return s.Disturb(ctx, nameLoss, func(ctx context.Context) error {
		primary, err := s.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		s.Say("kill -9 of xpd and PostgreSQL on %s, the primary", primary)
		if err := s.Failover(ctx, func() error { return s.Cluster.KillNode(ctx, primary) }); err != nil {
			return err
		}
		if err := s.Hold(ctx, absence); err != nil {
			return err
		}
		s.Say("%s comes back", primary)
		s.Repaired()
		return s.Cluster.StartNode(primary)
	})
}

func switchOver(ctx context.Context, s *Session) error {
	return s.Disturb(ctx, nameSwitchover, func(ctx context.Context) error {
		s.Say("switchover")
		return s.Failover(ctx, func() error {
			if _, err := s.Client.Switchover(ctx, "", "xpd demo"); err != nil {
				return fmt.Errorf("ask for a switchover: %w", err)
			}
			return nil
		})
	})
}
