package pool_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
	"github.com/xpd-platform/xpd/pgcluster/pool"
)

// F49: what was prepared on a standby runs after its promotion, in the same
// session.
func TestDo_runsWhatWasPreparedOnAStandby(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 2)
	p := start(t, c)
	ctx := t.Context()

	var before []uint32 // any of them will do: the last to be opened may not have been put back yet
	var after uint32
	p.Retarget(target(1, c, 1))
	err := p.Read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = 'xpd-pool'").Scan(&before)
	})
	if err != nil {
		t.Fatalf("Read() on the standby = %v", err)
	}

	done := make(chan error, 1)
	go func() { done <- p.Do(ctx, write(1, &after)) }() // refused as read-only until the promotion
	c.Promote(1)
	if err := <-done; err != nil {
		t.Fatalf("Do() = %v", err)
	}
	if !slices.Contains(before, after) {
		t.Errorf("Do() ran on backend %d, want one of %d which were there before the promotion", after, before)
	}
}

// F1: the primary dies under load; callers wait and none sees an error.
func TestDo_waitsForTheNextPrimary(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 3)
	p := start(t, c)
	c.SetSync(0, "ANY 1 (n2)")
	p.Retarget(target(1, c, 0))

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const writers, each = maxConns, 50
	halfway := make(chan struct{}, writers)
	resume := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				switch i {
				case each / 2:
					halfway <- struct{}{}
				case each/2 + 1: // one write goes into the gap, the others come after
					<-resume
				}
				if err := p.Do(ctx, write(w*each+i, nil)); err != nil {
					t.Errorf("Do() = %v", err)
				}
			}
		})
	}
	for range writers {
		<-halfway
	}
	c.Kill9(0)
	p.Retarget(pool.Target{Node: "n1", Epoch: 2})
	c.Promote(1)
	p.Retarget(target(2, c, 1))
	close(resume)
	wg.Wait()
	c.WaitUntil(1, "SELECT count(*) = $1 FROM written", writers*each)

	if got, err := testutil.GatherAndCount(p.reg, "xpd_pool_connections"); err != nil || got != len(c.Members()) {
		t.Errorf("series of connections = %d, %v, want one for each node", got, err)
	}
	c.Start(0) // a node that returns is warmed by itself
	c.WaitUntil(0, "SELECT count(*) >= $1 FROM pg_stat_activity WHERE application_name = 'xpd-pool'", minConns)
}

// A commit that waits on an old primary for ever is sent again on the new one.
func TestDo_resendsACommitThatHangs(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 2)
	p := start(t, c)
	p.Retarget(target(1, c, 0))
	c.SetSync(0, "ANY 1 (absent)")

	done := make(chan error, 1)
	runs := 0
	go func() {
		done <- p.Do(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
			runs++
			return write(7, nil)(ctx, conn)
		})
	}()
	c.WaitUntil(0, committing)
	c.Promote(1) // it has the row already: asynchronously streamed, not acknowledged
	p.Retarget(target(2, c, 1))
	if err := <-done; err != nil {
		t.Fatalf("Do() = %v", err)
	}
	if want := 2; runs != want {
		t.Errorf("runs = %d, want %d", runs, want)
	}
	c.WaitUntil(1, "SELECT count(*) = 1 FROM written WHERE x = 7")
}

// F33: neither the cancelled commit nor reading its row back is an ok, in this
// call or in another, before a standby has it.
func TestDo_doesNotTrustACancelledWait(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, end string }{
		{"cancelled", "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"},
		{"terminated", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := pgtest.NewCluster(t, 2)
			p := start(t, c)
			p.Retarget(target(1, c, 0))
			c.SetSync(0, "ANY 1 (n2)")
			c.Stop(1)

			first, second := make(chan error, 1), make(chan error, 1)
			go func() { first <- p.Do(t.Context(), write(1, nil)) }()
			c.WaitUntil(0, committing)
			c.Exec(0, tt.end)
			c.WaitUntil(0, "SELECT count(*) = 1 FROM written") // visible, on no standby
			c.WaitUntil(0, committing)                         // the barrier
			go func() {
				second <- p.Read(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
					_, err := conn.Exec(ctx, "SELECT * FROM written")
					return err
				})
			}()
			c.WaitUntil(0, "SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
			select {
			case err := <-first:
				t.Fatalf("Do() = %v without a standby", err)
			case err := <-second:
				t.Fatalf("Read() = %v without a standby", err)
			default:
			}
			c.Start(1)
			if err := errors.Join(<-first, <-second); err != nil {
				t.Errorf("Do() and Read() = %v", err)
			}
			if got, err := retries(p.reg, "unconfirmed"); err != nil || got == 0 {
				t.Errorf("unconfirmed retries = %v, %v, want some", got, err)
			}
		})
	}
}

// The end of the caller's context neither waits for the commit nor cancels it.
func TestDo_leavesTheCommitAloneWhenTheCallerGoes(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 2)
	p := start(t, c)
	p.Retarget(target(1, c, 0))
	c.SetSync(0, "ANY 1 (n2)")
	c.Stop(1)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Do(ctx, write(1, nil)) }()
	c.WaitUntil(0, committing)
	cancel()
	if err := <-done; !errors.Is(err, pool.ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("Do() = %v, want ErrUnknown and context.Canceled", err)
	}
	c.WaitUntil(0, committing)
	// Closed hard by a new epoch it still is not cancelled: the row stays unseen.
	p.Retarget(pool.Target{Epoch: 2})
	p.stop()
	c.Exec(0, "SELECT pg_sleep(0.2)") // for a cancel request, had there been one, to act
	c.WaitUntil(0, committing)
	c.WaitUntil(0, "SELECT count(*) = 0 FROM written")
	c.Start(1)
	c.WaitUntil(0, "SELECT count(*) = 1 FROM written")
}

// An answer counts only in the epoch that it was given in.
func TestDo_runsAgainWhenTheEpochPassedMeanwhile(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 1)
	p := start(t, c)
	p.Retarget(target(1, c, 0))
	runs := 0
	err := p.Do(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		runs++
		err := write(1, nil)(ctx, conn)
		p.Retarget(target(2, c, 0))
		return err
	})
	if err != nil {
		t.Fatalf("Do() = %v", err)
	}
	if want := 2; runs != want {
		t.Errorf("runs = %d, want %d", runs, want)
	}
}

// A hold within the epoch, as before a switchover, lets what runs succeed.
func TestRetarget_holdsNewWorkOnly(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 1)
	p := start(t, c)
	p.Retarget(target(1, c, 0))
	runs := 0
	err := p.Do(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		runs++
		p.Retarget(pool.Target{Node: "n1", Epoch: 1})
		return write(1, nil)(ctx, conn)
	})
	if want := 1; err != nil || runs != want {
		t.Errorf("Do() = %v after %d runs, want nil after %d", err, runs, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Do(ctx, write(2, nil)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, pool.ErrUnknown) {
		t.Errorf("Do() while held = %v, want only context.DeadlineExceeded", err)
	}
}

// A session that the server has ended is noticed before work is given to it.
func TestDo_doesNotUseADeadSession(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 1)
	p := start(t, c)
	p.Retarget(target(1, c, 0))
	c.Exec(0, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'xpd-pool'")
	if err := p.Do(t.Context(), write(1, nil)); err != nil {
		t.Fatalf("Do() = %v", err)
	}
	for _, reason := range []string{"connection", "shutdown"} {
		if got, err := retries(p.reg, reason); err == nil {
			t.Errorf("retries for %s = %v, want none", reason, got)
		}
	}
}

func TestDo_boundsWhoWaits(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 1)
	p := start(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	var wg sync.WaitGroup
	for i := range maxWaiting { // no target yet: all wait
		wg.Go(func() {
			if err := p.Do(ctx, write(i, nil)); err != nil {
				t.Errorf("Do() = %v", err)
			}
		})
	}
	waitFor(t, func() bool {
		got, err := gauge(p.reg, "xpd_pool_waiting_callers")
		return err == nil && got == maxWaiting
	})
	if err := p.Do(ctx, write(99, nil)); !errors.Is(err, pool.ErrOverloaded) {
		t.Errorf("Do() beyond the bound = %v, want ErrOverloaded", err)
	}
	p.Retarget(target(1, c, 0))
	wg.Wait()
	c.WaitUntil(0, "SELECT count(*) = $1 FROM written", maxWaiting)
}

func TestDo_returnsOtherErrorsAtOnce(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 1)
	p := start(t, c)
	p.Retarget(target(3, c, 0))
	p.Retarget(pool.Target{Node: "n9", Epoch: 2, Open: true}) // from the past
	if got, want := p.Target(), target(3, c, 0); got != want {
		t.Errorf("Target() = %+v, want %+v", got, want)
	}
	mine := errors.New("mine")
	if err := p.Do(t.Context(), func(context.Context, *pgx.Conn) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("Do() = %v, want the function's own error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := p.Read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		cancel()
		_, err := conn.Exec(ctx, "SELECT pg_sleep(60)")
		return err
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, pool.ErrUnknown) {
		t.Errorf("Read() = %v, want only context.Canceled", err)
	}
	if err := p.Do(ctx, write(1, nil)); !errors.Is(err, context.Canceled) || errors.Is(err, pool.ErrUnknown) {
		t.Errorf("Do() with an ended context = %v, want only context.Canceled", err)
	}
}

// A primary that was restarted in place refuses the service until its agent has
// heard that the epoch is open, which the pools may hear first.
func TestDo_knocksUntilThePrimaryLetsItIn(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 1)
	p := start(t, c)
	c.Exec(0, "CREATE ROLE keeper SUPERUSER LOGIN")
	keeper, err := pgx.Connect(t.Context(), c.DSN(0)+" user=keeper")
	if err != nil {
		t.Fatal(err)
	}
	defer keeper.Close(context.WithoutCancel(t.Context()))
	_, err = keeper.Exec(t.Context(), "ALTER ROLE postgres NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'xpd-pool'")
	if err != nil {
		t.Fatal(err)
	}
	p.Retarget(target(1, c, 0))
	done := make(chan error, 1)
	go func() { done <- p.Do(t.Context(), write(1, nil)) }()
	waitFor(t, func() bool { n, err := retries(p.reg, "closed"); return err == nil && n > 0 })
	if _, err := keeper.Exec(t.Context(), "ALTER ROLE postgres LOGIN"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("Do() = %v", err)
	}
}

// The schema comes after the pools: connections are used without, and prepared
// once it is there, on standbys too.
func TestPools_prepareOnceTheSchemaExists(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 2)
	p, err := pool.New(pool.Options{
		Members: c.Members(), Database: "postgres", User: "postgres", Prepare: prepare,
		MaxConns: 1, MinConns: 1, MaxWaiting: 1, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.Retarget(target(1, c, 0))
	err = p.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS written (x int PRIMARY KEY)")
		return err
	})
	if err != nil {
		t.Fatalf("Do() without the schema = %v", err)
	}
	if err := p.Do(ctx, write(1, nil)); err != nil {
		t.Errorf("Do() with the schema = %v", err)
	}
	c.WaitUntil(1, "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'xpd-pool' AND query LIKE 'INSERT%'")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run() = %v", err)
	}
	if err := p.Do(t.Context(), write(2, nil)); !errors.Is(err, pool.ErrClosed) {
		t.Errorf("Do() after Run = %v, want ErrClosed", err)
	}
}

func TestNew_refusesBadOptions(t *testing.T) {
	t.Parallel()
	good := pool.Options{
		Members: []pgcluster.Member{{ID: "n1", Host: "::1", PGPort: 5432}}, Database: "d", User: "u", MaxConns: 1,
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	}
	if _, err := pool.New(good); err != nil {
		t.Errorf("New() = %v", err)
	}
	for name, spoil := range map[string]func(*pool.Options){
		"no members":        func(o *pool.Options) { o.Members = nil },
		"no user":           func(o *pool.Options) { o.User = "" },
		"min above max":     func(o *pool.Options) { o.MinConns = 2 },
		"negative waiting":  func(o *pool.Options) { o.MaxWaiting = -1 },
		"no place to count": func(o *pool.Options) { o.Registry = nil },
	} {
		bad := good
		spoil(&bad)
		if _, err := pool.New(bad); err == nil {
			t.Errorf("New() with %s = nil, want an error", name)
		}
	}
}

func BenchmarkDo_overhead(b *testing.B) {
	c := pgtest.NewCluster(b, 1)
	p, err := pool.New(pool.Options{
		Members: c.Members(), Database: "postgres", User: "postgres",
		MaxConns: 2, MinConns: 1, MaxWaiting: 1, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.Retarget(target(1, c, 0))
	nothing := func(context.Context, *pgx.Conn) error { return nil }
	for b.Loop() {
		if err := p.Do(ctx, nothing); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
}
