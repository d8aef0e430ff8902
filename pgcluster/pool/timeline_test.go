package pool_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster"
)

// A node that lags behind the agreed state may still point to a former primary
// that was promoted once more and is not open yet. Its work must wait.
func TestDo_leavesAnotherEpochsPrimaryAlone(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 1)
	p := start(t, c)
	old := target(1, c, 0)
	old.Timeline = 9 // the server is on timeline 1
	p.Retarget(old)

	var ran atomic.Int64
	done := make(chan error, 1)
	go func() {
		done <- p.Do(t.Context(), func(ctx context.Context, c *pgx.Conn) error {
			ran.Add(1)
			return write(1, nil)(ctx, c)
		})
	}()
	waitFor(t, func() bool { n, err := retries(p.reg, "read_only"); return err == nil && n > 2 })
	if n := ran.Load(); n != 0 {
		t.Fatalf("the function ran %d times on another epoch's primary", n)
	}
	now := target(2, c, 0)
	now.Timeline = 1
	p.Retarget(now)
	if err := <-done; err != nil {
		t.Fatalf("Do() = %v, want nil", err)
	}
}

// A session that was opened on a standby outlives its promotion, and is used for
// the epoch of that promotion and no other.
func TestDo_asksAPromotedServerForItsTimeline(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		timeline pgcluster.Timeline
		runs     bool
	}{
		{"the epoch of this promotion", 2, true},
		{"an epoch that has passed", 9, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := pgtest.NewCluster(t, 2)
			p := start(t, c)
			warm := backends(t, c, 1)
			there := target(1, c, 1)
			there.Timeline = tt.timeline
			p.Retarget(there) // n2 is a standby yet

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var pid uint32
			done := make(chan error, 1)
			go func() { done <- p.Do(ctx, write(1, &pid)) }()
			c.Promote(1)
			if !tt.runs {
				before, err := retries(p.reg, "read_only")
				if err != nil {
					t.Fatal(err)
				}
				waitFor(t, func() bool { n, err := retries(p.reg, "read_only"); return err == nil && n > before+2 })
				cancel()
			}
			switch err := <-done; {
			case tt.runs && (err != nil || !slices.Contains(warm, pid)):
				t.Errorf("Do() = %v on backend %d, want nil on one of %v, which were opened on the standby", err, pid, warm)
			case !tt.runs && (!errors.Is(err, context.Canceled) || pid != 0):
				t.Errorf("Do() = %v on backend %d, want that it waits", err, pid)
			}
		})
	}
}

// backends returns the processes on server i that serve the pools.
func backends(t *testing.T, c *pgtest.Cluster, i int) []uint32 {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.DSN(i))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var pids []uint32
	if err := conn.QueryRow(t.Context(), "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = 'xpd-pool'").Scan(&pids); err != nil {
		t.Fatal(err)
	}
	return pids
}
