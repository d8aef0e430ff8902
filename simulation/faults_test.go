package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation"
)

// Each test has the number of its fault in the design. They take turns on one
// cluster, so none is parallel.

func TestF01_PostgresOfThePrimaryKilled(t *testing.T) { //nolint:paralleltest // see above
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F1", func(ctx context.Context) error {
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			return s.Failover(ctx, func() error { return s.Cluster.KillPostgres(primary) })
		})
	})
	if d := r.Disturbances[0]; d.From == d.To {
		t.Errorf("%s is primary before and after", d.To)
	}
}

func TestF06_XPDKilled(t *testing.T) { //nolint:paralleltest // see above
	underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		primary, err := s.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		status, err := s.Client.Cluster(ctx)
		if err != nil {
			return err
		}
		for _, id := range slices.Compact([]pgcluster.NodeID{primary, status.Leader}) {
			err := s.Disturb(ctx, "F6 on "+string(id), func(ctx context.Context) error { return restartXPD(ctx, s, id) })
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// restartXPD kills an xpd, waits until the others miss it, starts it again, and
// checks that its PostgreSQL noticed none of it.
func restartXPD(ctx context.Context, s *simulation.Session, id pgcluster.NodeID) error {
	epoch, err := s.Epoch(ctx)
	if err != nil {
		return err
	}
	started, err := postgresStarted(ctx, s, id)
	if err != nil {
		return err
	}
	if err := s.Cluster.KillXPD(id); err != nil {
		return err
	}
	if err := awaitState(ctx, s, id, "silent"); err != nil {
		return err
	}
	if err := s.AwaitEnrolment(ctx, time.Now()); err != nil {
		return fmt.Errorf("writes do not go on without xpd of %s: %w", id, err)
	}
	if err := s.Cluster.StartNode(id); err != nil {
		return err
	}
	if err := s.Cluster.WaitReady(ctx); err != nil {
		return err
	}
	if now, err := s.Epoch(ctx); err != nil || now != epoch {
		return errors.Join(fmt.Errorf("epoch %d became %d: there was a failover", epoch, now), err)
	}
	if now, err := postgresStarted(ctx, s, id); err != nil || !now.Equal(started) {
		return errors.Join(fmt.Errorf("PostgreSQL of %s was restarted instead of adopted", id), err)
	}
	return nil
}

func postgresStarted(ctx context.Context, s *simulation.Session, id pgcluster.NodeID) (time.Time, error) {
	conn, err := s.Cluster.Admin(ctx, id)
	if err != nil {
		return time.Time{}, err
	}
	defer conn.Close(ctx)
	var at time.Time
	return at, conn.QueryRow(ctx, `SELECT pg_postmaster_start_time()`).Scan(&at)
}

// awaitState waits until another node sees id in the given state.
func awaitState(ctx context.Context, s *simulation.Session, id pgcluster.NodeID, state string) error {
	_, err := s.Cluster.WaitStatus(ctx, fmt.Sprintf("%s is %s", id, state), func(st failover.Status) bool {
		return slices.ContainsFunc(st.Nodes, func(n failover.NodeStatus) bool { return n.ID == id && n.State == state })
	})
	return err
}

func TestF07_XPDAndPostgresOfThePrimaryKilled(t *testing.T) { //nolint:paralleltest // see above
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F7", func(ctx context.Context) error {
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			if err := s.Failover(ctx, func() error { return s.Cluster.KillNode(ctx, primary) }); err != nil {
				return err
			}
			s.Repaired()
			return s.Cluster.StartNode(primary)
		})
	})
	if d := r.Disturbances[0]; d.From == d.To {
		t.Errorf("%s is primary before and after", d.To)
	}
}

func TestF16_StandbyLost(t *testing.T) { //nolint:paralleltest // see above
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		primary, standbys, err := s.Roles(ctx)
		if err != nil {
			return err
		}
		lost := standbys[0]
		return s.Disturb(ctx, "F16", func(ctx context.Context) error {
			if err := s.Cluster.KillNode(ctx, lost); err != nil {
				return err
			}
			st, err := s.Cluster.WaitStatus(ctx, "the sync set shrinks", func(st failover.Status) bool {
				return !strings.Contains(st.Sync, string(lost))
			})
			if err != nil {
				return err
			}
			if st.Primary != primary || st.Level == failover.LevelNoWrites {
				return fmt.Errorf("the loss of standby %s led to primary %s, %s", lost, st.Primary, st.Level)
			}
			if err := s.AwaitEnrolment(ctx, time.Now()); err != nil {
				return fmt.Errorf("writes do not go on without %s: %w", lost, err)
			}
			s.Repaired()
			if err := s.Cluster.StartNode(lost); err != nil {
				return err
			}
			_, err = s.Cluster.WaitStatus(ctx, "the sync set grows", func(st failover.Status) bool {
				return strings.Contains(st.Sync, string(lost))
			})
			return err
		})
	})
	if d := r.Disturbances[0]; d.From != d.To {
		t.Errorf("the loss of a standby moved the primary from %s to %s", d.From, d.To)
	}
}

func TestF19_PrimaryAndOneStandbyLost(t *testing.T) { //nolint:paralleltest // see above
	underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		for _, first := range []string{"standby", "primary"} {
			err := s.Disturb(ctx, "F19, the "+first+" returns first", func(ctx context.Context) error {
				primary, standbys, err := s.Roles(ctx)
				if err != nil {
					return err
				}
				order := []pgcluster.NodeID{standbys[0], primary}
				if first == "primary" {
					slices.Reverse(order)
				}
				return blockAndReturn(ctx, s, order)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// blockAndReturn takes both nodes away, sees that writes are blocked, and that
// they go on by themselves once the first is back.
func blockAndReturn(ctx context.Context, s *simulation.Session, order []pgcluster.NodeID) error {
	for _, id := range order {
		if err := s.Cluster.KillNode(ctx, id); err != nil {
			return err
		}
	}
	blocked, err := s.Cluster.WaitStatus(ctx, "writes are blocked", func(st failover.Status) bool {
		return st.Level == failover.LevelNoWrites
	})
	if err != nil {
		return err
	}
	s.Say("%s", blocked.Writes)
	if err := s.Cluster.StartNode(order[0]); err != nil {
		return err
	}
	if err := s.AwaitEnrolment(ctx, time.Now()); err != nil {
		return fmt.Errorf("writes do not go on after the return of %s: %w", order[0], err)
	}
	s.Repaired()
	return s.Cluster.StartNode(order[1])
}

func TestF37_SwitchoverWithALongTransaction(t *testing.T) { //nolint:paralleltest // see above
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		primary, standbys, err := s.Roles(ctx)
		if err != nil {
			return err
		}
		conn, err := s.Cluster.Admin(ctx, primary)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, `BEGIN; CREATE TABLE never_committed (); LOCK TABLE never_committed`); err != nil {
			return fmt.Errorf("begin a long transaction: %w", err)
		}
		err = s.Disturb(ctx, "F37", func(ctx context.Context) error {
			return s.Failover(ctx, func() error {
				_, err := s.Client.Switchover(ctx, standbys[0], "test")
				return err
			})
		})
		if err != nil {
			return err
		}
		if now, err := s.Cluster.Primary(ctx); err != nil || now != standbys[0] {
			return errors.Join(fmt.Errorf("the primary is %s, asked for %s", now, standbys[0]), err)
		}
		if _, err := conn.Exec(ctx, `COMMIT`); err == nil {
			return errors.New("a transaction of the old primary was committed after the switchover")
		}
		return nil
	})
	if pause := time.Duration(r.Disturbances[0].Pause); pause > 15*time.Second {
		t.Errorf("writes paused %s: a long transaction holds a switchover up", pause)
	}
}

func TestF37_CandidateDiesMidway(t *testing.T) { //nolint:paralleltest // see above
	underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		for _, phase := range []failover.Phase{failover.PhaseCheckpoint, failover.PhaseStop, failover.PhasePromote} {
			_, standbys, err := s.Roles(ctx)
			if err != nil {
				return err
			}
			err = s.Disturb(ctx, "F37, the candidate dies in "+string(phase), func(ctx context.Context) error {
				return loseCandidate(ctx, s, standbys[0], phase)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// loseCandidate asks for a switchover and takes the candidate away in the given
// phase of it, or later if the phase is too short to be seen.
func loseCandidate(ctx context.Context, s *simulation.Session, candidate pgcluster.NodeID, phase failover.Phase) error {
	op, err := s.Client.Switchover(ctx, candidate, "test")
	if err != nil {
		return err
	}
	var seen string
	_, err = s.Cluster.WaitStatus(ctx, "the switchover is in "+string(phase), func(st failover.Status) bool {
		switch {
		case st.Op == nil && st.Epoch >= op.Epoch:
			seen = "done"
		case st.Op != nil && slices.ContainsFunc(st.Op.Steps, func(p failover.PhaseTime) bool { return p.Phase == phase }):
			seen = string(st.Op.Phase)
		}
		return seen != ""
	})
	if err != nil {
		return err
	}
	s.Say("%s is lost when the switchover to it is %s", candidate, seen)
	if err := s.Cluster.KillNode(ctx, candidate); err != nil {
		return err
	}
	// Whatever became of the switchover, writes go on without the candidate.
	if err := s.AwaitEnrolment(ctx, time.Now()); err != nil {
		return err
	}
	s.Repaired()
	return s.Cluster.StartNode(candidate)
}

func TestF49_StatementsPreparedBeforeAFailover(t *testing.T) { //nolint:paralleltest // see above
	underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F49", func(ctx context.Context) error {
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			before := time.Now()
			if err := s.Failover(ctx, func() error { return s.Cluster.KillPostgres(primary) }); err != nil {
				return err
			}
			return awaitWarmSessions(ctx, s, before, time.Now())
		})
	})
}

// awaitWarmSessions waits until the new primary has served writes through sessions
// that were opened before it became primary, when they could only prepare.
func awaitWarmSessions(ctx context.Context, s *simulation.Session, before, after time.Time) error {
	if err := s.AwaitEnrolment(ctx, after); err != nil {
		return err
	}
	primary, err := s.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	conn, err := s.Cluster.Admin(ctx, primary)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var warm, cold int
	err = soon(ctx, "a session from before the promotion to serve the new primary", func() (bool, error) {
		err := conn.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE backend_start < $1), count(*) FILTER (WHERE backend_start >= $1)
		FROM pg_stat_activity
		WHERE usename = 'xpd' AND backend_type = 'client backend' AND query_start > $2`, before, after).Scan(&warm, &cold)
		return warm > 0, err
	})
	if err != nil {
		return err
	}
	s.Say("%s serves through %d sessions from before its promotion, %d from after", primary, warm, cold)
	return nil
}
