package netns_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/faulttest"
)

// Faults of whole hosts. As those of links, they take turns on one cluster.

// A paused host neither closes its connections nor knows, when it goes on, that time
// has passed. What its PostgreSQL was about to acknowledge must not be.
func TestF05_hostOfThePrimaryPaused(t *testing.T) { //nolint:paralleltest // see above
	report := underLoad(t, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F5 host of the primary paused", func(ctx context.Context) error {
			primary, _, err := r.Roles(ctx)
			if err != nil {
				return err
			}
			defer r.Thaw(context.WithoutCancel(ctx), primary) //nolint:errcheck // so that it can be stopped; below it counts
			if err := r.Failover(ctx, func() error { return r.Freeze(ctx, primary) }); err != nil {
				return err
			}
			if err := r.Hold(ctx, calm); err != nil { // units are assigned that it does not know
				return err
			}
			return r.repair(ctx, func() error { return r.Thaw(ctx, primary) })
		})
	})
	faulttest.ExpectMove(t, report, true)
}

func TestF05_hostOfTheLeaderPaused(t *testing.T) { //nolint:paralleltest // see above
	report := underLoad(t, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F5 host of the Raft leader, a standby, paused", func(ctx context.Context) error {
			c, err := r.cast(ctx)
			if err != nil {
				return err
			}
			defer r.Thaw(context.WithoutCancel(ctx), c.leader) //nolint:errcheck // as above
			return r.withoutFailover(ctx, func() error {
				if err := r.Freeze(ctx, c.leader); err != nil {
					return err
				}
				if err := r.awaitSilent(ctx, c.primary, c.leader); err != nil {
					return err
				}
				return errors.Join(r.Hold(ctx, calm), r.Thaw(ctx, c.leader)) // it gives its orders of before
			})
		})
	})
	faulttest.ExpectMove(t, report, false)
}

func TestF09_hostOfPrimaryAndLeaderLost(t *testing.T) { //nolint:paralleltest // see above
	report := underLoad(t, func(ctx context.Context, r run) error {
		primary, err := r.LeadFromPrimary(ctx, r.Network)
		if err != nil {
			return err
		}
		return r.Disturb(ctx, "F9 host of the primary and Raft leader lost", func(ctx context.Context) error {
			err := r.Failover(ctx, func() error {
				return errors.Join(r.Unplug(ctx, primary), r.Unblock(ctx), r.Cluster.KillNode(ctx, primary))
			})
			if err != nil {
				return err
			}
			return r.repair(ctx, func() error { return r.Cluster.StartNode(primary) })
		})
	})
	faulttest.ExpectMove(t, report, true)
}

// Hosts come back in any order, some of them long after the others. The first two
// are enough.
func TestF20_allHostsPowerCycled(t *testing.T) { //nolint:paralleltest // see above
	slow(t)
	underLoadBy(t, faulttest.Rules{Hung: wide}, func(ctx context.Context, r run) error {
		for _, order := range []string{"the primary first", "the primary last", "all at once"} {
			err := r.Disturb(ctx, "F20 all hosts power-cycled, "+order, func(ctx context.Context) error {
				primary, standbys, err := r.Roles(ctx)
				if err != nil {
					return err
				}
				rand.Shuffle(len(standbys), func(i, j int) { standbys[i], standbys[j] = standbys[j], standbys[i] })
				hosts := slices.Insert(standbys, 0, primary)
				if order == "the primary last" {
					slices.Reverse(hosts)
				}
				if err := r.cutPower(ctx, hosts); err != nil {
					return err
				}
				return r.powerUp(ctx, hosts, order != "all at once")
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// cutPower ends everything on the hosts, all at about the same time.
func (r run) cutPower(ctx context.Context, hosts []pgcluster.NodeID) error {
	var g errgroup.Group
	for _, id := range hosts {
		g.Go(func() error { return r.Cluster.KillNode(ctx, id) })
	}
	return g.Wait()
}

// powerUp starts the hosts, the second soon after the first, and the rest once
// writes go on without it where staggered.
func (r run) powerUp(ctx context.Context, hosts []pgcluster.NodeID, staggered bool) error {
	r.Repaired()
	for i, id := range hosts {
		if staggered && i == 1 {
			if err := r.Hold(ctx, calm); err != nil {
				return err
			}
		}
		if staggered && i == 2 {
			if err := r.AwaitEnrolment(ctx, time.Now()); err != nil {
				return fmt.Errorf("two of three hosts are back, %v, and writes do not go on: %w", hosts[:i], err)
			}
		}
		r.Say("%s is back", id)
		if err := r.Cluster.StartNode(id); err != nil {
			return err
		}
	}
	return nil
}

// Lost packets are sent again, later: nobody is lost, so nobody is replaced.
func TestF45_packetLoss(t *testing.T) { //nolint:paralleltest // see above
	const (
		share = 0.05
		lossy = 8 * time.Second
	)
	slow(t)
	report := underLoadBy(t, faulttest.Rules{Hung: wide}, func(ctx context.Context, r run) error {
		return r.Disturb(ctx, "F45 5 % of all packets lost", func(ctx context.Context) error {
			return r.withoutFailover(ctx, func() error {
				if err := r.Lose(ctx, share); err != nil {
					return err
				}
				return r.Hold(ctx, lossy)
			})
		})
	})
	faulttest.ExpectMove(t, report, false)
}

// Slow is not lost: what a host sends arrives 300 ms later, every answer and every
// acknowledgement of a standby.
func TestF45_delay(t *testing.T) { //nolint:paralleltest // see above
	const (
		delay  = 300 * time.Millisecond
		during = 5 * time.Second
	)
	slow(t)
	report := underLoadBy(t, faulttest.Rules{Hung: wide}, func(ctx context.Context, r run) error {
		for _, part := range []string{"a standby", "the primary"} {
			err := r.Disturb(ctx, "F45 packets of "+part+" delayed by 300 ms", func(ctx context.Context) error {
				primary, standbys, err := r.Roles(ctx)
				if err != nil {
					return err
				}
				host := standbys[0]
				if part == "the primary" {
					host = primary
				}
				return r.withoutFailover(ctx, func() error {
					return errors.Join(r.Delay(ctx, host, delay), r.Hold(ctx, during))
				})
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	faulttest.ExpectMove(t, report, false)
}
