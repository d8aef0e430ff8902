package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
)

const (
	pollInterval   = 500 * time.Millisecond // bounds how late a change is seen if its notification is lost
	listenInterval = 250 * time.Millisecond // between two tries to listen
)

// definitions returns the snapshot to answer from, and loads the first one if
// nobody has yet.
func (s *Store) definitions(ctx context.Context) (*experiment.Snapshot, error) {
	if snap := s.snapshot.Load(); snap != nil {
		return snap, nil
	}
	return s.refresh(ctx, 0)
}

// refresh replaces the snapshot if it still is at the version that the caller
// found to be out of date. Of many callers one loads, the others wait for it.
func (s *Store) refresh(ctx context.Context, outdated int64) (*experiment.Snapshot, error) {
	if err := s.loading.take(ctx); err != nil {
		return nil, err
	}
	defer s.loading.end()
	if snap := s.snapshot.Load(); snap != nil && snap.Version() != outdated {
		return snap, nil
	}
	snap, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	s.store(snap)
	return snap, nil
}

func (s *Store) store(snap *experiment.Snapshot) {
	now := s.now()
	s.checked.Store(&now)
	s.snapshot.Store(snap)
}

// snapshotAge returns for how many seconds the snapshot has not been checked.
func (s *Store) snapshotAge() float64 {
	if at := s.checked.Load(); at != nil {
		return s.now().Sub(*at).Seconds()
	}
	return -1
}

// load reads the definitions as they are at one moment.
func (s *Store) load(ctx context.Context) (*experiment.Snapshot, error) {
	var snap *experiment.Snapshot
	err := s.db.Read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		oneMoment := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
		return pgx.BeginTxFunc(ctx, c, oneMoment, func(tx pgx.Tx) error {
			var version int64
			if err := tx.QueryRow(ctx, versionSQL).Scan(&version); err != nil {
				return err
			}
			layers, err := readLayers(ctx, tx)
			if err != nil {
				return err
			}
			experiments, err := readExperiments(ctx, tx, "")
			if err != nil {
				return err
			}
			snap, err = experiment.NewSnapshot(version, layers, experiments)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("load definitions: %w", err)
	}
	return snap, nil
}

const versionSQL = `SELECT version FROM definitions`

// follow keeps the snapshot current until ctx ends: at once when the primary
// notifies, else within pollInterval.
func (s *Store) follow(ctx context.Context) error {
	notified := make(chan struct{}, 1)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.listenUntil(ctx, notified)
	}()
	defer func() { <-stopped }()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	failing := false
	for {
		err := s.check(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			s.log.WarnContext(ctx, "definitions cannot be checked", "error", err)
		case err == nil && failing:
			s.log.InfoContext(ctx, "definitions are followed again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-notified:
		case <-poll.C:
		}
	}
}

// check loads the definitions if they have another version than the snapshot.
func (s *Store) check(ctx context.Context) error {
	snap, err := s.definitions(ctx)
	if err != nil {
		return err
	}
	var version int64
	err = s.db.Read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, versionSQL).Scan(&version)
	})
	if err != nil {
		return fmt.Errorf("read the version of definitions: %w", err)
	}
	if version != snap.Version() {
		_, err = s.refresh(ctx, snap.Version())
		return err
	}
	now := s.now()
	s.checked.Store(&now)
	return nil
}

// listenUntil pokes notified for every change that the primary announces, and
// connects again when the connection is lost, until ctx ends.
func (s *Store) listenUntil(ctx context.Context, notified chan<- struct{}) {
	for ctx.Err() == nil {
		err := s.listenOnce(ctx, notified)
		if ctx.Err() != nil {
			return
		}
		s.log.DebugContext(ctx, "lost the notifications of definitions", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(listenInterval):
		}
	}
}

func (s *Store) listenOnce(ctx context.Context, notified chan<- struct{}) (err error) {
	conn, err := s.listen(ctx)
	if err != nil {
		return err
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		err = errors.Join(err, conn.Close(bounded))
	}()
	if _, err := conn.Exec(ctx, "LISTEN xpd_definitions"); err != nil {
		return err
	}
	for {
		select { // also once at the start: what changed before LISTEN was not announced
		case notified <- struct{}{}:
		default:
		}
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}
