package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/faulttest"
)

// moment is what a leader logs when a phase is agreed on.
type moment struct {
	name  string
	parts []string
	early bool // nothing is changed yet: if the leader's node has a part in it, the operation is dropped
}

func phaseEntered(p failover.Phase) moment {
	return moment{
		string(p),
		[]string{`"phase entered"`, fmt.Sprintf(`"phase":%q`, p)},
		p == failover.PhaseCheckpoint || p == failover.PhaseRestart,
	}
}

func opened(kind failover.Kind) moment {
	return moment{"open", []string{`"cluster changed"`, fmt.Sprintf(`"kind":%q`, kind)}, false}
}

func TestF22_LeaderKilledAfterEachPhase(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	underLoadBy(t, faulttest.Rules{Patience: 4 * faultPatience, Hung: 30 * time.Second}, func(ctx context.Context, s *simulation.Session) error {
		for _, m := range []moment{
			phaseEntered(failover.PhaseRecruit), phaseEntered(failover.PhasePromote), phaseEntered(failover.PhaseBarrier), opened(failover.KindFailover),
		} {
			err := loseLeaderAfter(ctx, s, "failover", m, s.Cluster.KillPostgres)
			if err != nil {
				return err
			}
		}
		for _, m := range []moment{
			phaseEntered(failover.PhaseCheckpoint), phaseEntered(failover.PhaseStop), phaseEntered(failover.PhasePromote),
			phaseEntered(failover.PhaseBarrier), opened(failover.KindSwitchover),
		} {
			err := loseLeaderAfter(ctx, s, "switchover", m, func(pgcluster.NodeID) error {
				_, err := s.Client.Switchover(ctx, "", "test")
				return err
			})
			if err != nil {
				return err
			}
		}
		err := loseLeaderAfter(ctx, s, "restart of all", phaseEntered(failover.PhaseRestart), func(pgcluster.NodeID) error {
			_, err := s.Client.RestartCluster(ctx, "", "F22")
			return err
		})
		if err != nil {
			return err
		}
		return restartInPlace(ctx, s)
	})
}

// restartInPlace has the primary restarted without handing over, which takes a setting
// that gets lower, and kills the leader meanwhile. The setting is put back.
func restartInPlace(ctx context.Context, s *simulation.Session) error {
	lower := "170"
	change := client.SettingsChange{Postgres: map[string]*string{"max_connections": &lower}, Reason: "F22"}
	if _, err := s.Client.ChangeClusterSettings(ctx, change); err != nil {
		return err
	}
	err := loseLeaderAfter(ctx, s, "restart in place", phaseEntered(failover.PhaseStop), func(primary pgcluster.NodeID) error {
		return soonish(ctx, "the restart to be accepted", func() bool {
			_, err := s.Client.RestartCluster(ctx, primary, "F22") // refused until all have written the setting
			return err == nil
		})
	})
	if err != nil {
		return err
	}
	return s.Disturb(ctx, "F22, the setting is put back", func(ctx context.Context) error {
		return setMaxConnections(ctx, s, "")
	})
}

// loseLeaderAfter starts an operation and kills the leader's xpd as soon as it says
// that the phase is agreed on. The next leader carries on: it opens the epoch of the
// operation, or one more if what it waited for did not outlive the change.
func loseLeaderAfter(ctx context.Context, s *simulation.Session, what string, m moment, begin func(primary pgcluster.NodeID) error) error {
	return s.Disturb(ctx, fmt.Sprintf("F22 %s, after %s", what, m.name), func(ctx context.Context) error {
		l, primary, err := parts(ctx, s)
		if err != nil {
			return err
		}
		before, err := s.Epoch(ctx)
		if err != nil {
			return err
		}
		log, err := watchLog(s, l)
		if err != nil {
			return err
		}
		if err := begin(primary); err != nil {
			return err
		}
		if _, err := log.await(ctx, m.parts...); err != nil {
			return err
		}
		if err := s.Cluster.KillXPD(l); err != nil {
			return err
		}
		if err := s.AwaitEnrolment(ctx, time.Now()); err != nil {
			return fmt.Errorf("writes do not go on without the leader %s: %w", l, err)
		}
		s.Repaired()
		if err := errors.Join(s.Cluster.StartNode(l), s.Cluster.WaitReady(ctx)); err != nil {
			return err
		}
		st, err := ended(ctx, s)
		if err == nil && (st.Epoch == before && !m.early || st.Epoch > before+2) {
			err = fmt.Errorf("epoch %d became %d without the leader %s", before, st.Epoch, l)
		}
		return err
	})
}

// ended returns the status once no node knows of an operation. A node that has just
// started may not know of it yet.
func ended(ctx context.Context, s *simulation.Session) (st failover.Status, err error) {
	err = soonish(ctx, "the operation to end", func() bool {
		for _, m := range s.Cluster.Members() {
			var failed error
			if st, failed = s.Cluster.Status(ctx, m.ID); failed != nil || !open(st) {
				return false
			}
		}
		return true
	})
	return st, err
}

func TestF24_PromotionHangs(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	by := faulttest.Rules{Patience: 3 * faultPatience, Hung: 30 * time.Second}
	underLoadBy(t, by, func(ctx context.Context, s *simulation.Session) error {
		err := s.Disturb(ctx, "F24 of a failover", func(ctx context.Context) error {
			primary, standbys, err := s.Roles(ctx)
			if err != nil {
				return err
			}
			return hangPromotion(ctx, s, standbys, func() error { return s.Cluster.KillPostgres(primary) })
		})
		if err != nil {
			return err
		}
		return s.Disturb(ctx, "F24 of a switchover", func(ctx context.Context) error {
			_, standbys, err := s.Roles(ctx)
			if err != nil {
				return err
			}
			return hangPromotion(ctx, s, standbys[:1], func() error {
				_, err := s.Client.Switchover(ctx, standbys[0], "test")
				return err
			})
		})
	})
}

// hangPromotion stops the processes that would promote the standbys, starts an
// operation, and lets all but the chosen one go on. That one never ends its
// promotion; the operation must go on without it.
func hangPromotion(ctx context.Context, s *simulation.Session, standbys []pgcluster.NodeID, begin func() error) error {
	epoch, err := s.Epoch(ctx)
	if err != nil {
		return err
	}
	resume := map[pgcluster.NodeID]func() error{}
	defer func() {
		for _, r := range resume {
			_ = r() // its server was stopped long ago
		}
	}()
	for _, id := range standbys {
		if resume[id], err = suspend(s, id, startupTitle); err != nil {
			return err
		}
	}
	if err := begin(); err != nil {
		return err
	}
	st, err := s.Cluster.WaitStatus(ctx, "a standby is promoted", func(st failover.Status) bool {
		return st.Op != nil && st.Op.Phase == failover.PhasePromote && slices.Contains(standbys, st.Op.To)
	})
	if err != nil {
		return err
	}
	hangs := st.Op.To
	s.Say("the promotion of %s hangs", hangs)
	for id, r := range resume {
		if id != hangs {
			if err := r(); err != nil {
				return err
			}
		}
	}
	st, err = s.Cluster.WaitStatus(ctx, "another epoch is open", func(st failover.Status) bool { return st.Epoch > epoch+1 && open(st) })
	if err != nil {
		return err
	}
	if st.Primary == hangs {
		return fmt.Errorf("%s is primary although its promotion hangs", hangs)
	}
	s.Repaired()
	return nil
}

// tries is how often a test may miss a moment that passes quickly.
const tries = 3

func TestF25_NewPrimaryDiesBeforeItsBarrier(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	underLoadBy(t, faulttest.Rules{Patience: 2 * faultPatience, Hung: 30 * time.Second}, func(ctx context.Context, s *simulation.Session) error {
		for range tries {
			var first pgcluster.NodeID
			err := s.Disturb(ctx, "F25", func(ctx context.Context) (err error) {
				first, err = promoteTwice(ctx, s, s.Cluster.KillPostgres)
				s.Repaired()
				return err
			})
			if err != nil || first != "" {
				return err
			}
		}
		return fmt.Errorf("in %d tries each barrier was passed before the new primary could be killed", tries)
	})
}

// promoteTwice kills the primary's PostgreSQL and then, by kill, what is promoted
// in its place, after its promotion and before its barrier: the standby that would
// acknowledge that stands still. It returns who was promoted for nothing, or "" if the
// barrier was passed before.
func promoteTwice(ctx context.Context, s *simulation.Session, kill func(pgcluster.NodeID) error) (pgcluster.NodeID, error) {
	primary, standbys, err := s.Roles(ctx)
	if err != nil {
		return "", err
	}
	epoch, err := s.Epoch(ctx)
	if err != nil {
		return "", err
	}
	if err := s.Cluster.KillPostgres(primary); err != nil {
		return "", err
	}
	passed := func(st failover.Status) bool { return st.Epoch > epoch && open(st) }
	var first pgcluster.NodeID
	err = soon(ctx, "the choice of a new primary", func() (bool, error) {
		st, err := s.Client.Cluster(ctx)
		switch {
		case err != nil || passed(st.Status):
			return true, err
		case st.Op != nil && st.Op.Phase == failover.PhasePromote && st.Op.To != primary:
			first = st.Op.To
		}
		return first != "", nil
	})
	if err != nil || first == "" {
		return "", err
	}
	second := standbys[0]
	if second == first {
		second = standbys[1]
	}
	resume, err := suspendPostgres(s.Cluster.Dir(), second)
	defer resume()
	if err != nil {
		return "", err
	}
	st, err := s.Cluster.WaitStatus(ctx, "the barrier is waited for", func(st failover.Status) bool {
		return passed(st) || st.Op != nil && st.Op.Phase == failover.PhaseBarrier && st.Op.To == first
	})
	if err != nil || passed(st) {
		return "", err
	}
	if err := kill(first); err != nil {
		return "", err
	}
	s.Say("%s was promoted and killed before its barrier", first)
	resume()
	st, err = s.Cluster.WaitStatus(ctx, "another epoch is open", func(st failover.Status) bool { return st.Epoch > epoch+1 && open(st) })
	if err == nil && st.Primary == first {
		err = fmt.Errorf("%s, which died, was chosen again", first)
	}
	return first, err
}

func TestF26_OneTimelineTwice(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	underLoadBy(t, faulttest.Rules{Patience: 2 * faultPatience, Hung: 30 * time.Second}, func(ctx context.Context, s *simulation.Session) error {
		for range tries {
			twice := false
			err := s.Disturb(ctx, "F26", func(ctx context.Context) error {
				first, err := promoteTwice(ctx, s, func(id pgcluster.NodeID) error { return s.Cluster.KillNode(ctx, id) })
				if err != nil || first == "" {
					return err
				}
				if twice, err = sameTimeline(ctx, s, first); err != nil {
					return err
				}
				before, err := inode(s, first)
				if err != nil {
					return err
				}
				s.Repaired()
				if err := errors.Join(s.Cluster.StartNode(first), s.Cluster.WaitReady(ctx)); err != nil {
					return err
				}
				after, err := inode(s, first)
				if err == nil && twice && after == before {
					err = fmt.Errorf("%s kept its data although its timeline is another one of the same number", first)
				}
				return err
			})
			if err != nil || twice {
				return err
			}
		}
		return fmt.Errorf("in %d tries no timeline number was used twice", tries)
	})
}

// sameTimeline reports whether the lost node was promoted to the timeline that the
// primary is on.
func sameTimeline(ctx context.Context, s *simulation.Session, lost pgcluster.NodeID) (bool, error) {
	primary, err := s.Cluster.Primary(ctx)
	if err != nil {
		return false, err
	}
	conn, err := s.Cluster.Admin(ctx, primary)
	if err != nil {
		return false, err
	}
	defer conn.Close(ctx)
	var timeline string
	if err := conn.QueryRow(ctx, `SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)`).Scan(&timeline); err != nil {
		return false, err
	}
	_, err = os.Stat(filepath.Join(s.Cluster.Dir(), string(lost), "pg", "data", "pg_wal", timeline+".history"))
	twice := err == nil
	s.Say("%s is on timeline %s; %s had made it too: %v", primary, timeline, lost, twice)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return twice, err
}

// inode tells the data directories apart that a node has had.
func inode(s *simulation.Session, id pgcluster.NodeID) (uint64, error) {
	info, err := os.Stat(filepath.Join(s.Cluster.Dir(), string(id), "pg", "data"))
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.New("no inode numbers here")
	}
	return st.Ino, nil
}
