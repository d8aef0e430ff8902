package pgstore_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
)

// newSyncDB returns a migrated database that commits on a standby too.
func newSyncDB(b *testing.B) *pgxpool.Pool {
	b.Helper()
	cluster := pgtest.NewCluster(b, 2)
	cluster.SetSync(0, "ANY 1 (n2)")
	pool, err := pgxpool.New(b.Context(), cluster.DSN(0))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	if err := pgstore.Migrate(b.Context(), pool.Config().ConnConfig); err != nil {
		b.Fatal(err)
	}
	return pool
}

func newBenchStore(b *testing.B) *pgstore.Store {
	b.Helper()
	s := start(b, options(newSyncDB(b)))
	for _, layer := range []string{"page", "price"} {
		mustLayer(b, s, layer)
		mustRun(b, s, half(layer+"-test", layer, 0, 10000))
	}
	return s
}

// BenchmarkTreatments_newUnits enrols new units in two experiments each, durable
// on two servers.
func BenchmarkTreatments_newUnits(b *testing.B) {
	s := newBenchStore(b)
	var next atomic.Int64
	for _, callers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			measure(b, callers, func() error {
				_, err := s.Treatments(b.Context(), user(int(next.Add(1))), nil)
				return err
			})
		})
	}
}

// BenchmarkTreatments_returningUnits answers from the cache.
func BenchmarkTreatments_returningUnits(b *testing.B) {
	s := newBenchStore(b)
	if _, err := s.Treatments(b.Context(), user(0), nil); err != nil {
		b.Fatal(err)
	}
	measure(b, 8, func() error {
		_, err := s.Treatments(b.Context(), user(0), nil)
		return err
	})
}

// BenchmarkTreatments_coldUnits answers from rows that have to be read again, and proven.
func BenchmarkTreatments_coldUnits(b *testing.B) {
	o := options(newSyncDB(b))
	o.CacheUnits = 1
	s := start(b, o)
	mustLayer(b, s, "page")
	mustRun(b, s, half("page-test", "page", 0, experiment.SlotCount))
	const units = 1000
	for i := range units {
		mustTreat(b, s, user(i), "page-test")
	}
	var next atomic.Int64
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			measure(b, callers, func() error {
				_, err := s.Treatments(b.Context(), user(int(next.Add(1))%units), nil)
				return err
			})
		})
	}
}

// BenchmarkRecord stores events in requests of 100.
func BenchmarkRecord(b *testing.B) {
	s := newBenchStore(b)
	var next atomic.Int64
	const each = 100
	measure(b, 16, func() error {
		events := make([]experiment.Event, each)
		for i := range events {
			n := int(next.Add(1))
			events[i] = view(n, user(n/10))
		}
		_, err := s.Record(b.Context(), events)
		return err
	})
	b.ReportMetric(float64(b.N*each)/b.Elapsed().Seconds(), "events/s")
}

// measure runs b.N requests from so many callers and reports their latencies.
func measure(b *testing.B, callers int, request func() error) {
	b.Helper()
	latencies := make([]time.Duration, b.N)
	var taken atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for i := taken.Add(1) - 1; i < int64(b.N); i = taken.Add(1) - 1 {
				begun := time.Now()
				if err := request(); err != nil {
					b.Error(err)
					return
				}
				latencies[i] = time.Since(begun)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(latencies)
	for name, q := range map[string]float64{"p50-µs": 0.5, "p99-µs": 0.99, "p99.9-µs": 0.999} {
		b.ReportMetric(float64(latencies[int(q*float64(b.N-1))].Microseconds()), name)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
