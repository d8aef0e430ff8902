package pgstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
)

// newPair returns a cluster that commits on a standby too, and a pool to its primary.
func newPair(t *testing.T) (*pgtest.Cluster, *pgxpool.Pool) {
	t.Helper()
	cluster := pgtest.NewCluster(t, 2)
	cluster.SetSync(0, "ANY 1 (n2)")
	pool, err := pgxpool.New(t.Context(), cluster.DSN(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := pgstore.Migrate(t.Context(), pool.Config().ConnConfig); err != nil {
		t.Fatal(err)
	}
	return cluster, pool
}

// F33 between nodes: what another node left behind when the wait of its commit was cut
// short is visible, but no answer before a standby has it.
func TestStore_doesNotTrustWhatItFinds(t *testing.T) {
	t.Parallel()
	cancelled := "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	terminated := "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	treat := func(t *testing.T, s *pgstore.Store) (any, error) {
		t.Helper()
		return s.Treatments(t.Context(), user(1), []string{"button"})
	}
	tests := []struct {
		name   string
		end    string
		before func(t *testing.T, first, second *pgstore.Store) // if set, while there is a standby
		ask    func(t *testing.T, s *pgstore.Store) (any, error)
		want   any // of the second store; nil: what the first decided
	}{
		{name: "an assignment whose commit was cancelled", end: cancelled, ask: treat},
		{name: "an assignment whose session was ended", end: terminated, ask: treat},
		{
			name: "an assignment that it was about to make itself", end: cancelled, ask: treat,
			before: func(t *testing.T, _, second *pgstore.Store) {
				t.Helper()
				mustTreat(t, second, user(1), "nothing") // it remembers that there are no rows
			},
		},
		{
			name: "an exposure", end: cancelled,
			before: func(t *testing.T, first, _ *pgstore.Store) {
				t.Helper()
				mustTreat(t, first, user(1), "button")
			},
			ask: func(t *testing.T, s *pgstore.Store) (any, error) {
				t.Helper()
				return s.Expose(t.Context(), user(1), []experiment.ExposureRequest{{Experiment: "button", At: at}})
			},
			want: []experiment.ExposureResult{{Experiment: "button", Outcome: experiment.ExposureAlready, At: at}},
		},
		{
			name: "an event", end: cancelled,
			ask: func(t *testing.T, s *pgstore.Store) (any, error) {
				t.Helper()
				return s.Record(t.Context(), []experiment.Event{view(1, user(1))})
			},
			want: []experiment.EventResult{{ID: view(1, user(1)).ID, Outcome: experiment.EventDuplicate}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cluster, pool := newPair(t)
			first, second := start(t, options(pool)), start(t, options(pool))
			mustLayer(t, first, "page")
			mustRun(t, first, half("button", "page", 0, experiment.SlotCount))
			mustTreat(t, second, user(0), "button") // it has the definitions
			if tt.before != nil {
				tt.before(t, first, second)
			}
			cluster.Stop(1)

			type answer struct {
				value any
				err   error
			}
			ask := func(s *pgstore.Store) <-chan answer {
				got := make(chan answer, 1)
				go func() {
					value, err := tt.ask(t, s)
					got <- answer{value, err}
				}()
				return got
			}
			const waiting = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
			mine := ask(first)
			cluster.WaitUntil(0, waiting)
			cluster.Exec(0, tt.end)
			left := <-mine // pgtest.DB believes it, unlike the pools
			others := ask(second)
			cluster.WaitUntil(0, waiting)
			select {
			case got := <-others:
				t.Fatalf("%+v, %v without a standby", got.value, got.err)
			default:
			}
			cluster.Start(1)
			got, want := <-others, tt.want
			if want == nil && left.err == nil {
				want = left.value
			}
			if got.err != nil {
				t.Fatal(got.err)
			}
			if diff := cmp.Diff(want, got.value); want != nil && diff != "" {
				t.Errorf("with a standby again (-want +got):\n%s", diff)
			}
		})
	}
}

// Most units that are looked up have no rows: they cost no commit, and need no standby.
func TestTreatments_commitsOnlyForWhatItFound(t *testing.T) {
	t.Parallel()
	cluster, pool := newPair(t)
	first, second := start(t, options(pool)), start(t, options(pool))
	mustLayer(t, first, "page")
	mustRun(t, first, half("button", "page", 0, experiment.SlotCount/2))
	mustTreat(t, second, user(0), "button") // it has the definitions
	out := 1
	for mustTreat(t, first, user(out), "button").Reason != experiment.ReasonTraffic {
		out++
	}
	cluster.Stop(1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := second.Treatments(ctx, user(out), []string{"button"})
	if err != nil || got[0].Reason != experiment.ReasonTraffic {
		t.Errorf("Treatments() = %+v, %v without a standby, want that the unit is not in", got, err)
	}
}
