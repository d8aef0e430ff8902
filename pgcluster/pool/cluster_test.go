package pool_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/pgcluster/pool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	maxConns   = 4
	minConns   = 2
	maxWaiting = 8
	patience   = time.Minute
)

// prepare prepares the statement that write uses.
func prepare(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Prepare(ctx, "write", "INSERT INTO written VALUES ($1) ON CONFLICT DO NOTHING")
	return err
}

// write is an idempotent function that reports the backend it ran on.
func write(x int, pid *uint32) pool.Func {
	return func(ctx context.Context, c *pgx.Conn) error {
		if pid != nil {
			*pid = c.PgConn().PID()
		}
		_, err := c.Exec(ctx, "write", x)
		return err
	}
}

// running is pools with a Run that ends with the test, or with stop.
type running struct {
	*pool.Pools

	reg  *prometheus.Registry
	stop func()
}

// start runs pools to a cluster that holds the table written, and waits until
// they are warm.
func start(t *testing.T, c *pgtest.Cluster) running {
	t.Helper()
	return startWith(t, c, func(*pool.Options) {})
}

func options(c *pgtest.Cluster, reg *prometheus.Registry) pool.Options {
	return pool.Options{
		Members: c.Members(), Database: "postgres", User: "postgres", Prepare: prepare,
		MaxConns: maxConns, MinConns: minConns, MaxWaiting: maxWaiting,
		Logger: slog.New(slog.DiscardHandler), Registry: reg,
	}
}

// startWith is start with other options.
func startWith(t *testing.T, c *pgtest.Cluster, change func(*pool.Options)) running {
	t.Helper()
	c.Exec(0, "CREATE TABLE IF NOT EXISTS written (x int PRIMARY KEY)")
	reg := prometheus.NewRegistry()
	o := options(c, reg)
	change(&o)
	p, err := pool.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	t.Cleanup(stop)
	for i := range c.Members() {
		c.WaitUntil(i, "SELECT count(*) >= $1 FROM pg_stat_activity WHERE application_name = 'xpd-pool' AND state = 'idle' AND query LIKE 'INSERT%'", minConns)
	}
	return running{Pools: p, reg: reg, stop: stop}
}

// committing is true while a session of the pool waits for its standby.
const committing = "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'xpd-pool' AND wait_event = 'SyncRep'"

func target(epoch uint64, c *pgtest.Cluster, i int) pool.Target {
	return pool.Target{Node: c.Members()[i].ID, Epoch: epoch, Open: true}
}

// waitFor waits until a condition of this process holds.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		case <-tick.C:
		}
	}
}

func gauge(reg *prometheus.Registry, name string) (float64, error) { return metric(reg, name, "") }

func retries(reg *prometheus.Registry, reason string) (float64, error) {
	return metric(reg, "xpd_pool_retries_total", reason)
}

// metric returns the value of the series whose only label has the given value.
func metric(reg *prometheus.Registry, name, label string) (float64, error) {
	families, err := reg.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue(), nil
			}
		}
	}
	return 0, fmt.Errorf("no metric %s %s", name, label)
}
