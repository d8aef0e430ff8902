package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
)

// newDB returns a migrated database.
func newDB(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	pool := pgtest.New(tb)
	if err := pgstore.Migrate(tb.Context(), pool.Config().ConnConfig); err != nil {
		tb.Fatal(err)
	}
	return pool
}

// options returns what a store on pool needs.
func options(pool *pgxpool.Pool) pgstore.Options {
	return pgstore.Options{
		DB: pgtest.DB{Pool: pool},
		ListenConn: func(ctx context.Context) (*pgx.Conn, error) {
			return pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
		},
		Now:      time.Now,
		Logger:   slog.New(slog.DiscardHandler),
		Registry: prometheus.NewRegistry(),
	}
}

// start runs a store until the test ends.
func start(tb testing.TB, o pgstore.Options) *pgstore.Store {
	tb.Helper()
	s, err := pgstore.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run() = %v, want nil", err)
		}
	})
	return s
}

// half returns a definition with two treatments of equal weight.
func half(key, layer string, from, to int) experiment.Definition {
	return experiment.Definition{
		Key: key, Layer: layer, Slots: []experiment.SlotRange{{From: from, To: to}},
		Treatments: []experiment.Treatment{
			{Key: "control", Control: true, Weight: 1, Values: map[string]experiment.Value{"button": experiment.StringValue("blue")}},
			{Key: "green", Weight: 1, Values: map[string]experiment.Value{
				"button": experiment.StringValue("green"), "columns": experiment.IntValue(4), "ratio": experiment.FloatValue(1),
			}},
		},
	}
}

func mustLayer(tb testing.TB, s *pgstore.Store, key string) experiment.Layer {
	tb.Helper()
	l, err := s.CreateLayer(tb.Context(), experiment.Layer{Key: key, UnitType: "user"})
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// mustRun creates an experiment and starts it.
func mustRun(tb testing.TB, s *pgstore.Store, d experiment.Definition) experiment.Experiment {
	tb.Helper()
	if _, err := s.CreateExperiment(tb.Context(), d); err != nil {
		tb.Fatal(err)
	}
	return mustMove(tb, s, d.Key, experiment.StateRunning)
}

func mustMove(tb testing.TB, s *pgstore.Store, key string, to experiment.State) experiment.Experiment {
	tb.Helper()
	e, err := s.MoveExperiment(tb.Context(), key, to, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func user(i int) experiment.Unit { return experiment.Unit{Type: "user", ID: fmt.Sprintf("u%d", i)} }

// mustTreat returns the single decision about key.
func mustTreat(tb testing.TB, s *pgstore.Store, u experiment.Unit, key string) experiment.Decision {
	tb.Helper()
	d, err := s.Treatments(tb.Context(), u, []string{key})
	if err != nil {
		tb.Fatal(err)
	}
	if len(d) != 1 || d[0].Experiment != key {
		tb.Fatalf("Treatments(%s) = %+v, want one decision", key, d)
	}
	return d[0]
}

func count(tb testing.TB, pool *pgxpool.Pool, sql string, args ...any) int {
	tb.Helper()
	var n int
	if err := pool.QueryRow(tb.Context(), sql, args...).Scan(&n); err != nil {
		tb.Fatal(err)
	}
	return n
}

func TestTreatments(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	s := start(t, options(pool))
	mustLayer(t, s, "checkout")
	mustRun(t, s, half("button", "checkout", 0, 5000))

	assigned := 0
	for i := range 200 {
		first := mustTreat(t, s, user(i), "button")
		if again := mustTreat(t, s, user(i), "button"); again.Treatment != first.Treatment || again.Reason != first.Reason {
			t.Fatalf("second answer %+v differs from the first %+v", again, first)
		}
		if first.Reason == experiment.ReasonAssigned {
			assigned++
		} else if first.Reason != experiment.ReasonTraffic {
			t.Errorf("reason = %q, want assigned or traffic", first.Reason)
		}
	}
	if assigned < 60 || assigned > 140 {
		t.Errorf("%d of 200 units are enrolled with half of the slots", assigned)
	}
	if got := count(t, pool, "SELECT count(*) FROM assignment"); got != assigned {
		t.Errorf("%d rows stored, want %d: not being enrolled is never stored", got, assigned)
	}
	if got := count(t, pool, "SELECT count(*) FROM unit"); got != assigned {
		t.Errorf("%d units stored, want %d", got, assigned)
	}

	// A store that remembers nothing gives the same answers.
	other := start(t, options(pool))
	for i := range 200 {
		a, b := mustTreat(t, s, user(i), "button"), mustTreat(t, other, user(i), "button")
		if a.Treatment != b.Treatment || a.Reason != b.Reason {
			t.Errorf("unit %d: %+v on one node, %+v on the other", i, a, b)
		}
	}
	if d := mustTreat(t, s, user(1), "nothing"); d.Reason != experiment.ReasonUnknownExperiment {
		t.Errorf("reason = %q, want unknown_experiment", d.Reason)
	}
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	s := start(t, options(newDB(t)))
	mustLayer(t, s, "checkout")
	if _, err := s.CreateLayer(t.Context(), experiment.Layer{Key: "checkout", UnitType: "user"}); !errors.Is(err, experiment.ErrExists) {
		t.Errorf("second CreateLayer() = %v, want ErrExists", err)
	}
	created, err := s.CreateExperiment(t.Context(), half("button", "checkout", 0, 5000))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", created)
}
