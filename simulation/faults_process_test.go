package simulation_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/faulttest"
)

// committing finds backends of the service in the middle of a commit.
const committing = `
SELECT pid FROM pg_stat_activity
WHERE usename = 'xpd' AND backend_type = 'client backend' AND wait_event IN ('SyncRep', 'WALSync', 'WALWrite')`

func TestF02_BackendKilledInCommit(t *testing.T) { //nolint:paralleltest // they share a cluster
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F2", func(ctx context.Context) error {
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			conn, err := s.Cluster.Admin(ctx, primary)
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			return s.Failover(ctx, func() error {
				var pid int
				err := soon(ctx, "a backend in commit", func() (bool, error) {
					err := conn.QueryRow(ctx, committing+" LIMIT 1").Scan(&pid)
					if errors.Is(err, pgx.ErrNoRows) {
						return false, nil
					}
					return err == nil, err
				})
				if err != nil {
					return err
				}
				return syscall.Kill(pid, syscall.SIGKILL)
			})
		})
	})
	faulttest.ExpectMove(t, r, true)
}

func TestF04_XPDOfThePrimaryStopped(t *testing.T) { //nolint:paralleltest // they share a cluster
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		primary, err := s.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		return s.Disturb(ctx, "F4 beside the primary", func(ctx context.Context) error {
			return sameEpoch(ctx, s, func() error { return pauseXPD(ctx, s, primary) })
		})
	})
	faulttest.ExpectMove(t, r, false)
}

// pauseXPD stops the xpd of a node for longer than the others put up with, sees
// that writes go on, and lets it continue.
func pauseXPD(ctx context.Context, s *simulation.Session, id pgcluster.NodeID) (err error) {
	resume, err := suspend(s, id, xpdTitle)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resume()) }()
	if err := awaitSilent(ctx, s, id); err != nil {
		return err
	}
	if err := s.AwaitEnrolment(ctx, time.Now()); err != nil {
		return fmt.Errorf("writes do not go on while xpd of %s stands still: %w", id, err)
	}
	s.Repaired()
	return nil
}

// awaitSilent waits until the other nodes miss id. The node itself does not answer.
func awaitSilent(ctx context.Context, s *simulation.Session, id pgcluster.NodeID) error {
	return soonish(ctx, string(id)+" to be missed", func() bool {
		for _, m := range s.Cluster.Members() {
			if m.ID == id {
				continue
			}
			st, err := s.Cluster.Status(ctx, m.ID)
			if err != nil {
				return false
			}
			for _, n := range st.Nodes {
				if n.ID == id && n.State != "silent" {
					return false
				}
			}
		}
		return true
	})
}

func TestF04_LeaderStoppedInAFailover(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F4 of the leader, in a failover", func(ctx context.Context) error {
			l, primary, err := parts(ctx, s)
			if err != nil {
				return err
			}
			log, err := watchLog(s, l)
			if err != nil {
				return err
			}
			epoch, err := s.Epoch(ctx)
			if err != nil {
				return err
			}
			if err := s.Cluster.KillPostgres(primary); err != nil {
				return err
			}
			if _, err := log.await(ctx, "phase entered", `"phase":"recruit"`); err != nil {
				return err
			}
			resume, err := suspend(s, l, xpdTitle)
			if err != nil {
				return err
			}
			defer resume() //nolint:errcheck // a second time, if all went well
			next, err := leader(ctx, s, l)
			if err != nil {
				return err
			}
			s.Say("%s stopped while it recruited, %s leads", l, next)
			if err := s.AwaitEnrolment(ctx, time.Now()); err != nil {
				return err
			}
			if err := resume(); err != nil {
				return err
			}
			s.Repaired()
			return deposed(ctx, s, epoch)
		})
	})
}

// deposed checks that a leader which continues after another one has finished the
// failover starts none of its own.
func deposed(ctx context.Context, s *simulation.Session, before uint64) error {
	if err := s.Cluster.WaitReady(ctx); err != nil {
		return err
	}
	now, err := s.Epoch(ctx)
	if err != nil {
		return err
	}
	if now > before+2 { // a promotion that the pause interrupted may take a second epoch
		return fmt.Errorf("epoch %d became %d: the deposed leader went on", before, now)
	}
	return sameEpoch(ctx, s, func() error { return s.Hold(ctx, 2*time.Second) })
}

// parts returns the Raft leader, once it is not the primary, and the primary.
func parts(ctx context.Context, s *simulation.Session) (l, primary pgcluster.NodeID, err error) {
	err = soonish(ctx, "a leader beside the primary", func() bool {
		st, err := s.Client.Cluster(ctx)
		l, primary = st.Leader, st.Primary
		return err == nil && st.Op == nil && l != "" && primary != "" && l != primary
	})
	return l, primary, err
}

func TestF33_CancelledInASyncWait(t *testing.T) { //nolint:paralleltest // they share a cluster
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F33", func(ctx context.Context) error {
			primary, standbys, err := s.Roles(ctx)
			if err != nil {
				return err
			}
			var resume []func() error
			defer func() {
				for _, r := range resume {
					_ = r() // once more, if all went well
				}
			}()
			for _, id := range standbys {
				r, err := suspend(s, id, receiverTitle)
				if err != nil {
					return err
				}
				resume = append(resume, r)
			}
			if err := waitsPastTimeout(ctx, s, primary); err != nil {
				return err
			}
			cancelled, err := cancelWaiters(ctx, s, primary)
			if err != nil {
				return err
			}
			s.Say("cancelled %d commits that no standby has, then lost the only node that has them", cancelled)
			err = s.Failover(ctx, func() error {
				err := s.Cluster.KillNode(ctx, primary)
				for _, r := range resume {
					err = errors.Join(err, r())
				}
				return err
			})
			if err != nil {
				return err
			}
			s.Repaired()
			return s.Cluster.StartNode(primary)
		})
	})
	faulttest.ExpectMove(t, r, true)
}

// waitsPastTimeout checks that a statement_timeout does not end a commit that waits for
// standbys: its answer would be taken for an acknowledgement.
func waitsPastTimeout(ctx context.Context, s *simulation.Session, primary pgcluster.NodeID) error {
	const patience = 500 * time.Millisecond // five times the timeout
	conn, err := s.Cluster.Admin(ctx, primary)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `SET statement_timeout = '100ms'`); err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err = conn.Exec(short, `SELECT pg_logical_emit_message(true, 'F33', '')`)
	if short.Err() == nil {
		return fmt.Errorf("a commit ended by statement_timeout while no standby could acknowledge it: %w", cmp.Or(err, errors.New("acknowledged")))
	}
	return nil
}

// cancelWaiters cancels every commit that waits for standbys, some by a cancel and
// some by a terminate, until both were seen.
func cancelWaiters(ctx context.Context, s *simulation.Session, primary pgcluster.NodeID) (int, error) {
	conn, err := s.Cluster.Admin(ctx, primary)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	total := 0
	for _, function := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
		err := soonish(ctx, "commits that wait for standbys", func() bool {
			var n int
			err := conn.QueryRow(ctx, `
SELECT count(`+function+`(pid)) FROM pg_stat_activity
WHERE usename = 'xpd' AND wait_event = 'SyncRep'`).Scan(&n)
			total += n
			return err == nil && n > 0
		})
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func TestF43_ConnectionsExhausted(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F43", func(ctx context.Context) error {
			var hogs []*pgx.Conn
			defer func() {
				for _, c := range hogs {
					_ = c.Close(context.WithoutCancel(ctx)) // or its server is gone
				}
			}()
			err := sameEpoch(ctx, s, func() error {
				for _, m := range s.Cluster.Members() {
					got, err := hog(ctx, s, m)
					hogs = append(hogs, got...)
					if err != nil {
						return err
					}
					s.Say("%s has no connection left after %d more", m.ID, len(got))
				}
				if err := s.Hold(ctx, 3*time.Second); err != nil {
					return err
				}
				return s.AwaitEnrolment(ctx, time.Now())
			})
			if err != nil {
				return err
			}
			// Also now that nobody can connect anew, the role can move.
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			return s.Failover(ctx, func() error { return s.Cluster.KillPostgres(primary) })
		})
	})
	faulttest.ExpectMove(t, r, true)
}

// hog connects to a PostgreSQL until it takes no more.
func hog(ctx context.Context, s *simulation.Session, m pgcluster.Member) ([]*pgx.Conn, error) {
	const bound = 1000
	var hogs []*pgx.Conn
	for range bound {
		conn, err := pgx.Connect(ctx, fmt.Sprintf("host='%s/%s/pg/run' port=%d user=xpd dbname=xpd sslmode=disable", s.Cluster.Dir(), m.ID, m.PGPort))
		if err != nil && strings.Contains(err.Error(), "53300") {
			return hogs, nil
		}
		if err != nil {
			return hogs, err
		}
		hogs = append(hogs, conn)
	}
	return hogs, fmt.Errorf("%s takes more than %d connections", m.ID, bound)
}

func TestF44_CPUStarved(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	const starved = 20 * time.Second
	r := underLoadBy(t, faulttest.Rules{Hung: 20 * time.Second}, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F44", func(ctx context.Context) error {
			return sameEpoch(ctx, s, func() error {
				loops := make([]*exec.Cmd, 3*runtime.NumCPU())
				for i := range loops {
					loops[i] = exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
					if err := loops[i].Start(); err != nil {
						return err
					}
					defer func() {
						_ = loops[i].Process.Kill()
						_ = loops[i].Wait() // killed, it says so
					}()
				}
				return s.Hold(ctx, starved)
			})
		})
	})
	faulttest.ExpectMove(t, r, false)
}
