package pgstore_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
)

// lostReplies is a DB where the reply to every work is lost once: it has been
// committed and runs again.
type lostReplies struct{ pgtest.DB }

func (d lostReplies) Do(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	if err := d.DB.Do(ctx, fn); err != nil {
		return err
	}
	return d.DB.Do(ctx, fn)
}

func (d lostReplies) Read(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	return d.Do(ctx, fn)
}

// eachDB runs a test on a good and on a bad connection.
func eachDB(t *testing.T, test func(t *testing.T, pool *pgxpool.Pool, o pgstore.Options)) {
	t.Helper()
	t.Run("replies arrive", func(t *testing.T) {
		t.Parallel()
		pool := newDB(t)
		test(t, pool, options(pool))
	})
	t.Run("replies are lost", func(t *testing.T) {
		t.Parallel()
		pool := newDB(t)
		o := options(pool)
		o.DB = lostReplies{pgtest.DB{Pool: pool}}
		test(t, pool, o)
	})
}

func TestLayers(t *testing.T) {
	t.Parallel()
	eachDB(t, func(t *testing.T, _ *pgxpool.Pool, o pgstore.Options) { //nolint:thelper // a test, not a helper
		s := start(t, o)
		ctx := t.Context()
		created := mustLayer(t, s, "page")
		if len(created.Salt) != 16 || created.ID == 0 {
			t.Errorf("CreateLayer() = %+v, want an id and a salt of 16 bytes", created)
		}
		if _, err := s.CreateLayer(ctx, experiment.Layer{Key: "page", UnitType: "user"}); !errors.Is(err, experiment.ErrExists) {
			t.Errorf("second CreateLayer() = %v, want ErrExists", err)
		}
		if _, err := s.CreateLayer(ctx, experiment.Layer{Key: "x y", UnitType: "user"}); err == nil {
			t.Error("CreateLayer() accepts a broken key")
		}
		other := mustLayer(t, s, "offer")
		if got, err := s.Layer(ctx, "page"); err != nil || !cmp.Equal(got, created) {
			t.Errorf("Layer() = %+v, %v, want %+v", got, err, created)
		}
		if _, err := s.Layer(ctx, "none"); !errors.Is(err, experiment.ErrNotFound) {
			t.Errorf("Layer() = %v, want ErrNotFound", err)
		}
		all, err := s.Layers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]experiment.Layer{other, created}, all); diff != "" {
			t.Errorf("Layers() (-want +got):\n%s", diff)
		}
	})
}

func TestExperiments(t *testing.T) {
	t.Parallel()
	eachDB(t, func(t *testing.T, pool *pgxpool.Pool, o pgstore.Options) { //nolint:thelper // a test, not a helper
		s := start(t, o)
		ctx := t.Context()
		mustLayer(t, s, "page")
		d := half("button", "page", 0, 5000)
		d.Description = "Which button?"
		at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
		d.Start, d.End = &at, new(at.AddDate(10, 0, 0))
		d.Metrics = []experiment.Metric{{Key: "revenue", Kind: experiment.MetricSales, Event: "purchase"}}

		created, err := s.CreateExperiment(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		d.Treatments[1].No = 1
		if diff := cmp.Diff(d, created.Definition); diff != "" || created.State != experiment.StateDraft || created.Version != 1 {
			t.Errorf("CreateExperiment() = %s %d (-want +got):\n%s", created.State, created.Version, diff)
		}
		if _, err := s.CreateExperiment(ctx, d); !errors.Is(err, experiment.ErrExists) {
			t.Errorf("second CreateExperiment() = %v, want ErrExists", err)
		}
		running, err := s.MoveExperiment(ctx, "button", experiment.StateRunning, 1)
		if err != nil {
			t.Fatal(err)
		}
		if running.Run == nil || running.Run.No != 1 || running.Run.ID == 0 || len(running.Run.Salt) != 16 || running.Version != 2 {
			t.Errorf("started: %+v, run %+v", running, running.Run)
		}
		got, err := s.Experiment(ctx, "button")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(running, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("Experiment() (-want +got):\n%s", diff)
		}

		d.Treatments = append(d.Treatments, experiment.Treatment{Key: "red", Weight: 5})
		if _, err := s.ReviseExperiment(ctx, d, 1); !errors.Is(err, experiment.ErrConflict) {
			t.Errorf("ReviseExperiment() of version 1 = %v, want ErrConflict", err)
		}
		revised, err := s.ReviseExperiment(ctx, d, 2)
		if err != nil || revised.Version != 3 || revised.Treatments[2].No != 2 {
			t.Errorf("ReviseExperiment() = %+v, %v", revised, err)
		}
		paused := mustMove(t, s, "button", experiment.StatePaused)
		resumed := mustMove(t, s, "button", experiment.StateRunning)
		if paused.Version != 4 || resumed.Version != 5 || resumed.Run.ID != running.Run.ID {
			t.Errorf("paused %+v, resumed %+v: want versions 4 and 5 of one run", paused, resumed)
		}
		all, err := s.Experiments(ctx)
		if err != nil || len(all) != 1 || !cmp.Equal(all[0], resumed, cmpopts.EquateEmpty()) {
			t.Errorf("Experiments() = %+v, %v, want %+v", all, err, resumed)
		}
		if got := count(t, pool, "SELECT count(*) FROM experiment_version"); got != 5 {
			t.Errorf("%d versions are kept, want 5", got)
		}
		if got := count(t, pool, "SELECT count(*) FROM treatment"); got != 3 {
			t.Errorf("%d treatments are listed, want 3", got)
		}
	})
}

func TestExperiments_refused(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	s := start(t, options(pool))
	ctx := t.Context()
	mustLayer(t, s, "page")
	mustRun(t, s, half("a", "page", 0, 5000))
	if _, err := s.CreateExperiment(ctx, half("draft", "page", 5000, 6000)); err != nil {
		t.Fatal(err)
	}
	before := count(t, pool, "SELECT version FROM definitions")

	_, err := s.CreateExperiment(ctx, half("b", "page", 4000, 5500))
	if taken, ok := errors.AsType[*experiment.SlotsError](err); !ok || taken.Owner != "a" || taken.Slots != (experiment.SlotRange{From: 4000, To: 5000}) {
		t.Errorf("CreateExperiment() on taken slots = %v", err)
	}
	_, err = s.ReviseExperiment(ctx, half("draft", "page", 4999, 6000), 0)
	if _, ok := errors.AsType[*experiment.SlotsError](err); !ok {
		t.Errorf("ReviseExperiment() onto taken slots = %v", err)
	}
	_, err = s.CreateExperiment(ctx, half("b", "nowhere", 0, 1))
	if invalid, ok := errors.AsType[*experiment.InvalidError](err); !ok || invalid.Field != "layer" {
		t.Errorf("CreateExperiment() in an unknown layer = %v", err)
	}
	_, err = s.MoveExperiment(ctx, "draft", experiment.StatePaused, 0)
	if wrong, ok := errors.AsType[*experiment.TransitionError](err); !ok || wrong.From != experiment.StateDraft {
		t.Errorf("MoveExperiment() = %v", err)
	}
	for _, key := range []string{"none", ""} {
		if _, err := s.MoveExperiment(ctx, key, experiment.StateRunning, 0); !errors.Is(err, experiment.ErrNotFound) {
			t.Errorf("MoveExperiment(%q) = %v, want ErrNotFound", key, err)
		}
		if _, err := s.Experiment(ctx, key); !errors.Is(err, experiment.ErrNotFound) {
			t.Errorf("Experiment(%q) = %v, want ErrNotFound", key, err)
		}
	}
	if after := count(t, pool, "SELECT version FROM definitions"); after != before {
		t.Errorf("definitions went from version %d to %d by changes that were refused", before, after)
	}
	if got := count(t, pool, "SELECT count(*) FROM experiment"); got != 2 {
		t.Errorf("%d experiments, want 2", got)
	}
}

// Two writers hold version 1; exactly one wins.
func TestExperiments_oneWriterWins(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	s, other := start(t, options(pool)), start(t, options(pool))
	mustLayer(t, s, "page")
	if _, err := s.CreateExperiment(t.Context(), half("a", "page", 0, 5000)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			store := []*pgstore.Store{s, other}[i%2]
			_, errs[i] = store.ReviseExperiment(t.Context(), half("a", "page", 0, 100+i), 1)
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, experiment.ErrConflict) {
			t.Errorf("ReviseExperiment() = %v, want ErrConflict", err)
		}
	}
	if won != 1 {
		t.Errorf("%d writers won, want 1", won)
	}
}

// A change is answered from at once where it was made, and within a second on
// another node, with and without notifications.
func TestFollow(t *testing.T) {
	t.Parallel()
	for name, listens := range map[string]bool{"notified": true, "polling": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newDB(t)
			s := start(t, options(pool))
			mustLayer(t, s, "page")
			o := options(pool)
			if !listens {
				o.ListenConn = func(context.Context) (*pgx.Conn, error) { return nil, errors.New("no connection") }
			}
			other := start(t, o)
			mustTreat(t, other, user(1), "button")
			if err := other.Ready(); err != nil {
				t.Errorf("Ready() after the first answer = %v", err)
			}
			mustRun(t, s, half("button", "page", 0, experiment.SlotCount))
			if d := mustTreat(t, s, user(1), "button"); d.Reason != experiment.ReasonAssigned {
				t.Errorf("where it was started: %s", d.Reason)
			}
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for begun := time.Now(); mustTreat(t, other, user(1), "button").Reason != experiment.ReasonAssigned; <-tick.C {
				if time.Since(begun) > 30*time.Second { // the promise is 1 s, on a machine that is not crowded
					t.Fatal("the other node does not see the start")
				}
			}
		})
	}
}

func TestMigrate_onceForAllNodes(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if err := pgstore.Prepare(t.Context(), conn.Conn()); err != nil {
		t.Errorf("Prepare() before Migrate() = %v, want nil", err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := pgstore.Migrate(t.Context(), pool.Config().ConnConfig); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := pgstore.Prepare(t.Context(), conn.Conn()); err != nil {
		t.Errorf("Prepare() = %v", err)
	}
	if got := count(t, pool, "SELECT version FROM definitions"); got != 1 {
		t.Errorf("definitions are at version %d, want 1", got)
	}
}
