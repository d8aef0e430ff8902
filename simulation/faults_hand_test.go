package simulation_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/faulttest"
)

// What people do by hand.

func TestF35_SyncNamesEmptied(t *testing.T) { //nolint:paralleltest // they share a cluster
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		err := s.Disturb(ctx, "F35", func(ctx context.Context) error {
			return sameEpoch(ctx, s, func() error { return emptySyncNames(ctx, s) })
		})
		if err != nil {
			return err
		}
		// Once the rule is back, it holds.
		return s.Disturb(ctx, "F35, then the primary dies", func(ctx context.Context) error {
			if err := emptySyncNames(ctx, s); err != nil {
				return err
			}
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			return s.Failover(ctx, func() error { return s.Cluster.KillPostgres(primary) })
		})
	})
	if len(r.Disturbances) == 2 {
		faulttest.ExpectMove(t, simulation.Report{Disturbances: r.Disturbances[:1]}, false)
	}
}

// emptySyncNames takes the rule of synchronous commits away, as somebody in a hurry
// would, and waits until it is back in force.
func emptySyncNames(ctx context.Context, s *simulation.Session) error {
	const bound = 30 * time.Second
	primary, err := s.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	conn, err := s.Cluster.Admin(ctx, primary)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var rule string
	if err := conn.QueryRow(ctx, `SHOW synchronous_standby_names`).Scan(&rule); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `ALTER SYSTEM SET synchronous_standby_names = ''`); err != nil {
		return err
	}
	began := time.Now()
	if _, err := conn.Exec(ctx, `SELECT pg_reload_conf()`); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	err = soon(ctx, "the rule to be back", func() (bool, error) {
		var now, file string
		err := conn.QueryRow(ctx, `
SELECT current_setting('synchronous_standby_names'), coalesce((
	SELECT sourcefile FROM pg_settings WHERE name = 'synchronous_standby_names'), '')`).Scan(&now, &file)
		return now == rule && filepath.Base(file) == "postgresql.conf", err
	})
	if err != nil {
		return err
	}
	s.Say("%q is back after %d ms", rule, time.Since(began).Milliseconds())
	return nil
}

func TestF36_PromotedByHand(t *testing.T) { //nolint:paralleltest // they share a cluster
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		_, standbys, err := s.Roles(ctx)
		if err != nil {
			return err
		}
		id := standbys[0]
		return s.Disturb(ctx, "F36", func(ctx context.Context) error {
			return sameEpoch(ctx, s, func() error {
				conn, err := s.Cluster.Admin(ctx, id)
				if err != nil {
					return err
				}
				began := time.Now()
				defer conn.Close(context.WithoutCancel(ctx))
				if _, err := conn.Exec(ctx, `SELECT pg_promote(false)`); err != nil {
					return err
				}
				if err := s.AwaitEnrolment(ctx, time.Now()); err != nil {
					return err
				}
				err = soonish(ctx, "the promoted standby to be one again", func() bool {
					again, err := s.Cluster.Admin(ctx, id)
					if err != nil {
						return false
					}
					defer again.Close(context.WithoutCancel(ctx))
					var streams bool
					err = again.QueryRow(ctx, `
SELECT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')
	AND pg_postmaster_start_time() > $1`, began).Scan(&streams)
					return err == nil && streams
				})
				if err == nil {
					s.Repaired()
				}
				return err
			})
		})
	})
	faulttest.ExpectMove(t, r, false)
}
