package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/simulation"
	"github.com/xpd-platform/xpd/simulation/faulttest"
)

func TestF27_RewindInterrupted(t *testing.T) { //nolint:paralleltest // they share a cluster
	underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F27", func(ctx context.Context) error {
			primary, err := loseDiverged(ctx, s)
			if err != nil {
				return err
			}
			if err := s.Cluster.StartNode(primary); err != nil {
				return err
			}
			if err := interrupt(ctx, s, primary, rewindTitle); err != nil {
				return err
			}
			marker := filepath.Join(s.Cluster.Dir(), string(primary), "pg", "rewind.in-progress")
			if _, err := os.Stat(marker); err != nil {
				return fmt.Errorf("nothing tells of the interrupted rewind: %w", err)
			}
			s.Repaired()
			return s.Cluster.StartNode(primary)
		})
	})
}

// loseDiverged takes the primary away while it has WAL that nobody else has.
func loseDiverged(ctx context.Context, s *simulation.Session) (pgcluster.NodeID, error) {
	primary, err := s.Cluster.Primary(ctx)
	if err != nil {
		return "", err
	}
	return primary, s.Failover(ctx, func() error { return s.Cluster.KillNode(ctx, primary) })
}

// interrupt cuts the power of a node while a program with the given title runs
// there.
func interrupt(ctx context.Context, s *simulation.Session, id pgcluster.NodeID, title string) error {
	err := soon(ctx, title+" to run on "+string(id), func() (bool, error) {
		n, err := signal(s, id, title, syscall.SIGSTOP)
		return n > 0, err
	})
	if err != nil {
		return err
	}
	s.Say("%s is interrupted on %s", title, id)
	return s.Cluster.KillNode(ctx, id)
}

func TestF28_WALForRewindMissing(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F28", func(ctx context.Context) error {
			primary, err := loseDiverged(ctx, s)
			if err != nil {
				return err
			}
			before, err := inode(s, primary)
			if err != nil {
				return err
			}
			removed, err := removeSegments(filepath.Join(s.Cluster.Dir(), string(primary), "pg", "data", "pg_wal"))
			if err != nil {
				return err
			}
			s.Say("%d segments of %s are gone", removed, primary)
			s.Repaired()
			if err := errors.Join(s.Cluster.StartNode(primary), s.Cluster.WaitReady(ctx)); err != nil {
				return err
			}
			after, err := inode(s, primary)
			if err == nil && after == before {
				err = fmt.Errorf("%s was not cloned, although it has no WAL to rewind by", primary)
			}
			return err
		})
	})
}

var segmentName = regexp.MustCompile(`^[0-9A-F]{24}$`)

func removeSegments(dir string) (removed int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if segmentName.MatchString(e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return removed, err
			}
			removed++
		}
	}
	return removed, nil
}

func TestF29_CloneInterrupted(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F29 clone interrupted", func(ctx context.Context) error {
			return sameEpoch(ctx, s, func() error {
				_, standbys, err := s.Roles(ctx)
				if err != nil {
					return err
				}
				id := standbys[0]
				if err := s.Cluster.KillNode(ctx, id); err != nil {
					return err
				}
				if err := os.RemoveAll(filepath.Join(s.Cluster.Dir(), string(id), "pg", "data")); err != nil {
					return err
				}
				if err := s.Cluster.StartNode(id); err != nil {
					return err
				}
				if err := interrupt(ctx, s, id, cloneTitle); err != nil {
					return err
				}
				s.Repaired()
				return s.Cluster.StartNode(id)
			})
		})
	})
	faulttest.ExpectMove(t, r, false)
}

// A standby that was away for longer than its slot keeps WAL for is cloned, and
// the primary's disk does not fill up meanwhile.
func TestF41_SlotRetention(t *testing.T) { //nolint:paralleltest // one cluster at a time
	slow(t)
	const kept = 64 << 20
	b := own(t, &bed{settings: []string{
		"max_slot_wal_keep_size=64MB", "wal_keep_size=0", "max_wal_size=64MB", "min_wal_size=32MB",
	}})
	r := b.underLoad(t, faulttest.Rules{Patience: 2 * faultPatience}, func(ctx context.Context, s *simulation.Session) error {
		primary, standbys, err := s.Roles(ctx)
		if err != nil {
			return err
		}
		id := standbys[0]
		before, err := inode(s, id)
		if err != nil {
			return err
		}
		return s.Disturb(ctx, "F41", func(ctx context.Context) error {
			if err := s.Cluster.KillNode(ctx, id); err != nil {
				return err
			}
			if err := awaitSilent(ctx, s, id); err != nil {
				return err
			}
			size, err := churn(ctx, s, primary, 5*kept)
			if err != nil {
				return err
			}
			s.Say("%d MB of WAL are kept on %s after %d MB were written", size>>20, primary, 5*kept>>20)
			if size > 4*kept {
				return fmt.Errorf("%d MB of WAL are kept for a standby that is away", size>>20)
			}
			s.Repaired()
			if err := errors.Join(s.Cluster.StartNode(id), s.Cluster.WaitReady(ctx)); err != nil {
				return err
			}
			after, err := inode(s, id)
			if err == nil && after == before {
				err = fmt.Errorf("%s was not cloned, although its WAL is gone", id)
			}
			return err
		})
	})
	faulttest.ExpectMove(t, r, false)
}

// churn writes so many bytes of WAL on the primary and returns how many it keeps
// after a checkpoint.
func churn(ctx context.Context, s *simulation.Session, primary pgcluster.NodeID, bytes int) (kept int64, err error) {
	conn, err := s.Cluster.Admin(ctx, primary)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const message = 1 << 20
	for range bytes / message {
		_, err := conn.Exec(ctx, `SELECT pg_logical_emit_message(false, 'churn', repeat('x', $1))`, message)
		if err != nil {
			return 0, err
		}
	}
	for range 2 { // slots are invalidated by one, and their WAL removed by the next
		if _, err := conn.Exec(ctx, `CHECKPOINT`); err != nil {
			return 0, err
		}
	}
	err = conn.QueryRow(ctx, `SELECT sum(size) FROM pg_ls_waldir()`).Scan(&kept)
	return kept, err
}

// A primary that dies within a record leaves the record's beginning on the
// standbys; whoever is promoted ends before it, and the other has too much.
func TestF01_PrimaryDiesWithinARecord(t *testing.T) { //nolint:paralleltest // they share a cluster
	slow(t)
	r := underLoad(t, func(ctx context.Context, s *simulation.Session) error {
		return s.Disturb(ctx, "F1 within a record", func(ctx context.Context) error {
			primary, err := s.Cluster.Primary(ctx)
			if err != nil {
				return err
			}
			return s.Failover(ctx, func() error { return dieWithinARecord(ctx, s, primary) })
		})
	})
	faulttest.ExpectMove(t, r, true)
	for _, d := range r.Disturbances {
		if pause := time.Duration(d.Pause); pause > 14*time.Second {
			t.Errorf("writes paused %s: the other standby could not follow", pause)
		}
	}
}

// dieWithinARecord has the primary write a record of many segments and kills it
// once the standbys have a part of it.
func dieWithinARecord(ctx context.Context, s *simulation.Session, primary pgcluster.NodeID) error {
	const part, whole = 8 << 20, 200 << 20
	writer, err := s.Cluster.Admin(ctx, primary)
	if err != nil {
		return err
	}
	defer writer.Close(context.WithoutCancel(ctx))
	watcher, err := s.Cluster.Admin(ctx, primary)
	if err != nil {
		return err
	}
	defer watcher.Close(context.WithoutCancel(ctx))
	var start string
	if err := watcher.QueryRow(ctx, `SELECT pg_current_wal_lsn()::text`).Scan(&start); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		_, err := writer.Exec(ctx, `SELECT pg_logical_emit_message(false, 'torn', repeat('x', $1))`, whole)
		ended <- err
	}()
	err = soon(ctx, "a part of the record to reach the standbys", func() (bool, error) {
		var there bool
		err := watcher.QueryRow(ctx, `SELECT min(flush_lsn) - $1::text::pg_lsn > $2 FROM pg_stat_replication`, start, part).Scan(&there)
		return there, err
	})
	if err != nil {
		return err
	}
	if err := s.Cluster.KillPostgres(primary); err != nil {
		return err
	}
	if err := <-ended; err == nil {
		return errors.New("the record was written before its writer was killed")
	}
	return nil
}
