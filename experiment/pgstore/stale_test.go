package pgstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/experiment"
)

// A primary that no standby follows may have been replaced, and then cannot know
// what is assigned: it must not say that nothing is, for that answer is final.
func TestExpose_notAssignedTakesAPrimary(t *testing.T) {
	t.Parallel()
	cluster, pool := newPair(t)
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
