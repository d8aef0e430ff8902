package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/xpd-platform/xpd/experiment"
)

// DB runs work on the primary. Do may run fn again if the first try was cut off,
// also if its commit may have succeeded, and it never cancels fn; so every fn is
// idempotent, and what fn stores outside is read only if Do returned nil. Read is for
// an fn that only reads; it waits while the primary may have been replaced unnoticed,
// which Do leaves to the commit to find out.
type DB interface {
	Do(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error
	Read(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error
}

// Options configures a Store. DB, ListenConn, Now, Logger and Registry are
// required.
type Options struct {
	DB         DB
	ListenConn func(ctx context.Context) (*pgx.Conn, error) // a new connection to the primary
	Now        func() time.Time
	Logger     *slog.Logger
	Registry   prometheus.Registerer
	CacheUnits int // units kept in memory; 0: 200,000
	MaxQueue   int // units or events that may wait in each queue; 0: 20,000
}

func (o *Options) validate() error {
	if o.DB == nil || o.ListenConn == nil || o.Now == nil || o.Logger == nil || o.Registry == nil {
		return errors.New("DB, ListenConn, Now, Logger and Registry are required")
	}
	if o.CacheUnits == 0 {
		o.CacheUnits = 200_000
	}
	if o.MaxQueue == 0 {
		o.MaxQueue = 20_000
	}
	if o.CacheUnits < 0 || o.MaxQueue < maxFlush {
		return fmt.Errorf("CacheUnits must be positive and MaxQueue at least %d", maxFlush)
	}
	return nil
}

// Store answers for units and keeps definitions. Requests are served while Run runs.
type Store struct {
	db      DB
	listen  func(ctx context.Context) (*pgx.Conn, error)
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics
	cache   cache

	snapshot atomic.Pointer[experiment.Snapshot]
	checked  atomic.Pointer[time.Time] // when snapshot was last known to be current
	loading  turn                      // of who loads a snapshot

	// One change at a time: another would only hold a connection to wait for the
	// definitions lock, and a few of them would leave none to anybody else.
	changing  turn
	importing turn          // of who imports assignments
	imports   chan struct{} // taken by each import, also one that waits
	imported  breather      // between two batches of imported assignments

	lookups     *group[experiment.UnitKey, lookedUp]
	assignments *group[enrolment, enrolled]
	exposures   *group[exposing, []exposed]
	events      *group[recording, []experiment.EventResult]
}

// New returns a Store; its schema must have been brought up to date by Migrate
// before the first request.
func New(o Options) (*Store, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("pgstore options: %w", err)
	}
	units, err := newCache(o.CacheUnits)
	if err != nil {
		return nil, fmt.Errorf("make the cache of units: %w", err)
	}
	s := &Store{
		db: o.DB, listen: o.ListenConn, now: o.Now, log: o.Logger, cache: units,
		loading: newTurn(), changing: newTurn(), importing: newTurn(), imports: make(chan struct{}, maxImports),
	}
	s.metrics = newMetrics(s, o.Registry)
	limit := int64(o.MaxQueue)
	s.lookups = newGroup(s, groupLookup, limit, s.lookUp)
	s.assignments = newGroup(s, groupAssignment, limit, s.enrol)
	s.exposures = newGroup(s, groupExposure, limit, s.expose)
	s.events = newGroup(s, groupEvent, limit, s.record)
	return s, nil
}

// Run follows the definitions and flushes writes until ctx ends. End ctx only
// after the last request has been answered: requests that wait then fail.
func (s *Store) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.follow(ctx) })
	g.Go(func() error { return s.lookups.run(ctx) })
	g.Go(func() error { return s.assignments.run(ctx) })
	g.Go(func() error { return s.exposures.run(ctx) })
	g.Go(func() error { return s.events.run(ctx) })
	return g.Wait()
}

// Ready returns nil once the definitions have been loaded.
func (s *Store) Ready() error {
	if s.snapshot.Load() == nil {
		return errors.New("definitions are not loaded yet")
	}
	return nil
}
