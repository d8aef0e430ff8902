package pool_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/internal/pgtest"
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

// A session that was opened on a standby outlives its promotion. If that happened
// after the node was known to be primary, the promotion is a later one.
func TestDo_leavesSessionsOfALaterPromotionAlone(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, 2)
	p := start(t, c)
	conn, err := pgx.Connect(t.Context(), c.DSN(1))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	there := target(1, c, 1)
	there.Timeline = 2
	p.Retarget(there) // but n2 is a standby: again, for all that the pools know

	const ours = "FROM pg_stat_activity WHERE application_name = 'xpd-pool'"
	var ended, opened []uint32
	if err := conn.QueryRow(t.Context(), "SELECT array_agg(pid), bool_and(pg_terminate_backend(pid)) "+ours).Scan(&ended, nil); err != nil {
		t.Fatal(err)
	}
	c.WaitUntil(1, "SELECT count(*) FILTER (WHERE pid <> ALL ($1)) >= $2 "+ours, ended, minConns)
	if err := conn.QueryRow(t.Context(), "SELECT array_agg(pid) "+ours).Scan(&opened); err != nil {
		t.Fatal(err)
	}
	c.Promote(1)
	var pid uint32
	if err := p.Do(t.Context(), write(1, &pid)); err != nil {
		t.Fatalf("Do() = %v, want nil", err)
	}
	if slices.Contains(opened, pid) {
		t.Errorf("Do() ran on backend %d, which was opened on the standby", pid)
	}
}
