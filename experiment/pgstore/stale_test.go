package pgstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
)

// A primary that no standby follows may have been replaced, and then cannot know
// what is assigned: it must not say that nothing is, for that answer is final.
func TestExpose_notAssignedTakesAPrimary(t *testing.T) {
	t.Parallel()
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
	s := start(t, options(pool))
	mustLayer(t, s, "layer")
	mustRun(t, s, half("button", "layer", 0, experiment.SlotCount))
	mustTreat(t, s, user(1), "button")
	expose := func(ctx context.Context, u experiment.Unit) (experiment.ExposureOutcome, error) {
		got, err := s.Expose(ctx, u, []experiment.ExposureRequest{{Experiment: "button", At: time.Now()}})
		if err != nil {
			return "", err
		}
		return got[0].Outcome, nil
	}
	if got, err := expose(t.Context(), user(1)); err != nil || got != experiment.ExposureConfirmed {
		t.Fatalf("with a standby: %s, %v", got, err)
	}

	cluster.Kill9(1)
	if got, err := expose(t.Context(), user(1)); err != nil || got != experiment.ExposureAlready {
		t.Errorf("what is stored, without a standby: %s, %v; want that it is known", got, err)
	}
	const lull = 500 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), lull)
	defer cancel()
	if got, err := expose(ctx, user(2)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("what is not stored, without a standby: %q, %v; want no answer", got, err)
	}

	cluster.Start(1)
	if got, err := expose(t.Context(), user(2)); err != nil || got != experiment.ExposureNotAssigned {
		t.Errorf("what is not stored, with a standby again: %q, %v; want %s", got, err, experiment.ExposureNotAssigned)
	}
}
