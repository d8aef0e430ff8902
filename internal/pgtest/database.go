package pgtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// patience bounds every wait of this package.
const patience = time.Minute

// shared is the server that holds the databases of New. It listens on a socket
// in its own folder, so it cannot collide with anything.
type shared struct {
	*server

	dir       *watchedDir // ends with the process
	databases atomic.Uint32
}

//nolint:gochecknoglobals // one server for each test process
var sharedServer = sync.OnceValues(func() (*shared, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dir, err := newWatchedDir()
	if err != nil {
		return nil, err
	}
	s, err := newServer(dir.path, "data", "host="+dir.path+" user=postgres dbname=postgres",
		"listen_addresses = ''", "unix_socket_directories = '"+dir.path+"'")
	if err != nil {
		return nil, err
	}
	return &shared{server: s, dir: dir}, s.start(ctx)
})

// New returns a pool of connections to a new empty database, as its superuser.
// When the test ends the pool is closed and the database is dropped.
func New(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	BinDir(tb)
	s, err := sharedServer()
	if err != nil {
		tb.Fatalf("start a PostgreSQL for the tests: %v", err)
	}
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	quoted := pgx.Identifier{name}.Sanitize()
	if err := s.exec(tb.Context(), "CREATE DATABASE "+quoted); err != nil {
		tb.Fatalf("create a database: %v", err)
	}
	pool, err := pgxpool.New(tb.Context(), s.dsn+" dbname="+name)
	if err != nil {
		tb.Fatalf("open the test's database: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
		defer cancel()
		if err := closePool(ctx, pool); err != nil {
			tb.Error(err)
		}
		if err := s.exec(ctx, "DROP DATABASE "+quoted+" WITH (FORCE)"); err != nil {
			tb.Errorf("drop the test's database: %v", err)
		}
	})
	return pool
}

// DB stands in for the pools of a cluster: a primary that never changes.
type DB struct{ Pool *pgxpool.Pool }

// Do waits for a connection until ctx ends, and lets fn finish what it has begun.
func (d DB) Do(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	return d.Read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return fn(context.WithoutCancel(ctx), c)
	})
}

// Read is Do whose fn ends with ctx.
func (d DB) Read(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	return d.Pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return fn(ctx, c.Conn()) })
}

// closePool says so when the test kept a connection, instead of hanging until the
// whole run times out.
func closePool(ctx context.Context, pool *pgxpool.Pool) error {
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return errors.New("the test did not release all connections of its pool")
	}
}
