package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/failover"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/faulttest"
)

// What operators and applications may do.

func TestF34_CommitsThatDoNotWait(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	underLoadBy(t, faulttest.Rules{Patience: 2 * faultPatience}, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F34", func(ctx context.Context) error {
			err := sameEpoch(ctx, s, func() error { return errors.Join(weakenOther(ctx, s), weakenOwn(ctx, s)) })
			if err != nil {
				return err
			}
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			return s.Failover(ctx, func() error { return s.Cluster.KillPostgres(primary) })
		})
	})
}

// onPrimary runs statements as superuser.
func onPrimary(ctx context.Context, s *simulation.Session, sql ...string) error {
	primary, err := s.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	conn, err := s.Cluster.Admin(ctx, primary)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, q := range sql {
		if _, err := conn.Exec(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

// weakenOther lets a role of somebody else commit without waiting: that is reported.
func weakenOther(ctx context.Context, s *simulation.Session) error {
	const flag = `{state="weak"} 1`
	err := onPrimary(ctx, s, `DROP ROLE IF EXISTS careless`, `CREATE ROLE careless`, `ALTER ROLE careless SET synchronous_commit = off`)
	if err != nil {
		return err
	}
	if err := awaitMetric(ctx, s, flag, true); err != nil {
		return err
	}
	s.Say("a role that commits without waiting is reported")
	if err := onPrimary(ctx, s, `DROP ROLE careless`); err != nil {
		return err
	}
	return awaitMetric(ctx, s, flag, false)
}

// awaitMetric waits until a line of the primary's metrics ends in text, or until
// none does.
func awaitMetric(ctx context.Context, s *simulation.Session, text string, want bool) error {
	primary, err := s.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	return soonish(ctx, "a metric "+text, func() bool {
		status, body := s.Cluster.Get(ctx, primary, "/metrics")
		return status == http.StatusOK && strings.Contains(body, text+"\n") == want
	})
}

// weakenOwn does the same to the role that xpd writes as: that is taken back.
func weakenOwn(ctx context.Context, s *simulation.Session) error {
	if err := onPrimary(ctx, s, `ALTER ROLE xpd SET synchronous_commit = off`); err != nil {
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
	defer conn.Close(context.WithoutCancel(ctx))
	return soonish(ctx, "the setting of xpd's role to be taken back", func() bool {
		var weak bool
		err := conn.QueryRow(ctx, `
SELECT EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = 'xpd'::regrole AND setconfig::text LIKE '%synchronous_commit%')`).Scan(&weak)
		return err == nil && !weak
	})
}

func TestF38_PausedThenThePrimaryDies(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		for _, end := range []struct {
			name   string
			pause  time.Duration
			resume bool
		}{{"F38, resumed", time.Hour, true}, {"F38, until the pause ends", 6 * time.Second, false}} {
			err := s.Disturb(ctx, end.name, func(ctx context.Context) error {
				return dieWhilePaused(ctx, s, end.pause, end.resume)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	faulttest.ExpectMove(t, r, true)
}

// dieWhilePaused kills the primary's PostgreSQL during a pause, sees that nothing
// happens and that the status says why, and ends the pause or waits for its end.
func dieWhilePaused(ctx context.Context, s *simulation.Session, pause time.Duration, resume bool) error {
	const watched = 3 * time.Second
	primary, err := s.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	p, err := s.Client.PauseCluster(ctx, pause, "maintenance of F38")
	if err != nil {
		return err
	}
	return s.Failover(ctx, func() error {
		if err := s.Cluster.KillPostgres(primary); err != nil {
			return err
		}
		st, err := s.Cluster.WaitStatus(ctx, "writes are blocked", func(st failover.Status) bool { return st.Level == failover.LevelNoWrites })
		if err != nil {
			return err
		}
		if st.Paused == nil || st.Paused.Reason != "maintenance of F38" || !st.Paused.Until.Equal(p.Until) {
			return fmt.Errorf("the status does not tell of the pause until %s: %+v", p.Until, st.Paused)
		}
		s.Say("paused: writes %s", st.Writes)
		if err := s.Hold(ctx, watched); err != nil {
			return err
		}
		now, err := statusOf(ctx, s, primary)
		if err != nil || now.Epoch != st.Epoch || now.Op != nil {
			return errors.Join(fmt.Errorf("something began during the pause: epoch %d, operation %+v", now.Epoch, now.Op), err)
		}
		s.Repaired()
		if !resume {
			return nil
		}
		return s.Client.ResumeCluster(ctx, "done")
	})
}

func TestF42_MaxConnectionsUpAndDown(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	by := faulttest.Rules{Patience: 3 * faultPatience, Hung: 25 * time.Second}
	underLoadBy(t, by, func(ctx context.Context, s *simulation.Session) error {
		for _, step := range []struct {
			name, value string
			lower       bool
		}{{"up", "230", false}, {"down", "170", true}, {"back", "", false}} {
			err := s.Disturb(ctx, "F42 max_connections "+step.name, func(ctx context.Context) error {
				return inOrder(ctx, s, step.lower, func() error { return setMaxConnections(ctx, s, step.value) })
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// inOrder checks that a restart of all nodes opens one epoch: standbys restart before
// the primary, which hands over; or after it, which stays primary, if a setting gets lower.
func inOrder(ctx context.Context, s *simulation.Session, lower bool, restart func() error) error {
	old, standbys, err := s.Roles(ctx)
	if err != nil {
		return err
	}
	epoch, err := s.Epoch(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := restart(); err != nil {
		return err
	}
	st, err := s.Cluster.WaitStatus(ctx, "all are restarted", open)
	if err != nil {
		return err
	}
	if st.Epoch != epoch+1 || (st.Primary == old) != lower {
		return fmt.Errorf("%s, primary of epoch %d, was followed by %s of epoch %d", old, epoch, st.Primary, st.Epoch)
	}
	primary, err := postgresStarted(ctx, s, old)
	if err != nil {
		return err
	}
	for _, id := range standbys {
		at, err := postgresStarted(ctx, s, id)
		if err != nil {
			return err
		}
		if !at.After(began) || !primary.After(began) || at.After(primary) != lower {
			return fmt.Errorf("%s was started at %s and %s, the primary of before, at %s: a setting gets lower: %t", id, at, old, primary, lower)
		}
	}
	return nil
}

// setMaxConnections changes the setting on all nodes, "" for the default, and
// restarts them in the order that it takes.
func setMaxConnections(ctx context.Context, s *simulation.Session, value string) error {
	change := client.SettingsChange{Postgres: map[string]*string{"max_connections": &value}, Reason: "F42"}
	want := value
	if value == "" {
		change.Postgres["max_connections"], want = nil, "200"
	}
	if _, err := s.Client.ChangeClusterSettings(ctx, change); err != nil {
		return err
	}
	err := soonish(ctx, "the restart to be accepted", func() bool {
		_, err := s.Client.RestartCluster(ctx, "", "F42") // refused until all have written the setting
		return err == nil
	})
	if err != nil {
		return err
	}
	for _, m := range s.Cluster.Members() {
		err := soonish(ctx, fmt.Sprintf("max_connections of %s to be %s", m.ID, want), func() bool {
			conn, err := s.Cluster.Admin(ctx, m.ID)
			if err != nil {
				return false
			}
			defer conn.Close(context.WithoutCancel(ctx))
			var got string
			return conn.QueryRow(ctx, `SHOW max_connections`).Scan(&got) == nil && got == want
		})
		if err != nil {
			return err
		}
	}
	s.Repaired()
	return nil
}
