package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation/localcluster"
	"github.com/xpd-platform/xpd/simulation/netns"
)

// FailoverOptions is a load, and how often each scenario is played.
type FailoverOptions struct {
	Options
	Rounds int
	Only   string // play the scenarios whose names contain it
}

// scenario is one way to take the primary away, with what its pauses may be.
type scenario struct {
	name     string
	p50, max time.Duration
	quiet    time.Duration // since the failover before, so that this one is not held back or hit by its rest
	beside   bool          // the Raft leader is on the primary's host
	damage   func(context.Context, *failoverBench, pgcluster.NodeID) error
	mend     func(context.Context, *failoverBench, pgcluster.NodeID) error // may be nil
}

func scenarios() []scenario {
	const ms = time.Millisecond
	// Failovers in a row wait, each longer than the one before, unless the primary is
	// certainly dead: see package failover on the cooldown. Half a second more than it.
	const certain, doubtful = 5500 * ms, 10500 * ms
	// A planned switchover is that of a settled cluster. The one before restarted the old
	// primary, to which every node then makes its sessions again.
	const settled = 5000 * ms
	return []scenario{
		{"F1 PostgreSQL killed", 500 * ms, 1000 * ms, certain, false, killsPostgres, nil},
		{"F3 PostgreSQL stopped by a signal", 3000 * ms, 4000 * ms, doubtful, false, stopsPostgres, thaws},
		{"F7 xpd and PostgreSQL killed", 2200 * ms, 3000 * ms, doubtful, false, killsNode, starts},
		{"F7 likewise, and it led Raft", 4000 * ms, 5000 * ms, doubtful, true, killsNode, starts},
		{"F8 host lost", 2200 * ms, 3000 * ms, doubtful, false, losesHost, starts},
		{"F8 likewise, and it led Raft", 4000 * ms, 5000 * ms, doubtful, true, losesHost, starts},
		{"switchover", 400 * ms, 1000 * ms, settled, false, switches, nil},
	}
}

// failoverBench is a session on hosts of their own.
type failoverBench struct {
	*Session

	network *netns.Network
	last    time.Time // when the last failover had ended
}

// BenchFailover measures, on a ready cluster on the hosts of network, how long
// writes pause when the primary goes.
func BenchFailover(ctx context.Context, c *localcluster.Cluster, network *netns.Network, o FailoverOptions) (FailoverReport, error) {
	out := FailoverReport{Rounds: o.Rounds}
	report, err := Drive(ctx, c, o.Options, func(ctx context.Context, s *Session) error {
		if err := s.Hold(ctx, warmUp); err != nil {
			return err
		}
		s.Warm()
		b := &failoverBench{Session: s, network: network}
		for _, sc := range scenarios() {
			if !strings.Contains(sc.name, o.Only) {
				continue
			}
			for i := range o.Rounds {
				s.Say("%s, round %d of %d", sc.name, i+1, o.Rounds)
				if err := b.play(ctx, sc); err != nil {
					return fmt.Errorf("%s, round %d: %w", sc.name, i+1, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		return FailoverReport{}, err
	}
	out.Report = report
	out.Scenarios = judge(report.Disturbances)
	return out, nil
}

// play brings the Raft leader where it is to be, takes the primary away, sees
// another one open and brings back what was lost.
func (b *failoverBench) play(ctx context.Context, sc scenario) error {
	if err := b.Hold(ctx, max(0, sc.quiet-time.Since(b.last))); err != nil {
		return err
	}
	var primary pgcluster.NodeID
	var err error
	if sc.beside {
		primary, err = b.LeadFromPrimary(ctx, b.network)
	} else {
		primary, err = b.LeadFromStandby(ctx)
	}
	if err != nil {
		return err
	}
	return b.Disturb(ctx, sc.name, func(ctx context.Context) error {
		epoch, err := b.Epoch(ctx)
		if err != nil {
			return err
		}
		if err := sc.damage(ctx, b, primary); err != nil {
			return err
		}
		if err := b.awaitLaterEpoch(ctx, epoch, primary); err != nil {
			return err
		}
		b.last = time.Now()
		if err := b.network.Heal(ctx); err != nil {
			return err
		}
		b.Repaired()
		if sc.mend == nil {
			return nil
		}
		return sc.mend(ctx, b, primary)
	})
}

// awaitLaterEpoch returns once one of the others says that writes are open in an
// epoch above epoch. Whoever is lost is not asked: that would take its time.
func (b *failoverBench) awaitLaterEpoch(ctx context.Context, epoch uint64, lost pgcluster.NodeID) error {
	return b.await(ctx, "another epoch to open", func() bool {
		return slices.ContainsFunc(b.others(lost), func(id pgcluster.NodeID) bool {
			st, err := b.Cluster.Status(ctx, id)
			return err == nil && st.Epoch > epoch && st.Level != failover.LevelNoWrites
		})
	})
}

func killsPostgres(_ context.Context, b *failoverBench, primary pgcluster.NodeID) error {
	return b.Cluster.KillPostgres(primary)
}

func stopsPostgres(ctx context.Context, b *failoverBench, primary pgcluster.NodeID) error {
	return b.network.Freeze(ctx, primary, "postgres")
}

func thaws(ctx context.Context, b *failoverBench, primary pgcluster.NodeID) error {
	return b.network.Thaw(ctx, primary)
}

func killsNode(ctx context.Context, b *failoverBench, primary pgcluster.NodeID) error {
	if err := b.Cluster.KillXPD(primary); err != nil {
		return err
	}
	return errors.Join(b.Cluster.KillNode(ctx, primary), b.network.Unblock(ctx))
}

func losesHost(ctx context.Context, b *failoverBench, primary pgcluster.NodeID) error {
	// Unplugged first, so that nobody hears its connections close.
	if err := b.network.Unplug(ctx, primary); err != nil {
		return err
	}
	return errors.Join(b.network.Unblock(ctx), b.Cluster.KillNode(ctx, primary))
}

func starts(_ context.Context, b *failoverBench, primary pgcluster.NodeID) error {
	return b.Cluster.StartNode(primary)
}

func switches(ctx context.Context, b *failoverBench, _ pgcluster.NodeID) error {
	if _, err := b.Client.Switchover(ctx, "", "bench"); err != nil {
		return fmt.Errorf("ask for a switchover: %w", err)
	}
	return nil
}
