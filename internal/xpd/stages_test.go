package xpd

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestRunStages_endsLastFirst(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var ended []string // written by one stage after the other: runStages waits for each
	part := func(name string) stage {
		return stage{name: name, run: func(ctx context.Context) error {
			<-ctx.Done()
			ended = append(ended, name)
			return nil
		}}
	}
	done := make(chan error)
	go func() { done <- runStages(ctx, []stage{part("database"), part("store"), part("http")}) }()
	cancel()
	if err := <-done; err != nil {
		t.Fatalf("runStages() = %v, want nil", err)
	}
	if want := []string{"http", "store", "database"}; !slices.Equal(ended, want) {
		t.Errorf("stages ended in order %v, want %v", ended, want)
	}
}

func TestRunStages_oneFailureEndsAll(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	err := runStages(t.Context(), []stage{
		{name: "database", run: func(ctx context.Context) error { <-ctx.Done(); return nil }},
		{name: "store", run: func(context.Context) error { return broken }},
		{name: "http", run: func(ctx context.Context) error { <-ctx.Done(); return errors.New("drain") }},
	})
	if !errors.Is(err, broken) {
		t.Errorf("runStages() = %v, want it to wrap %v", err, broken)
	}
	if got, want := err.Error(), "http: drain\nstore: broken"; got != want {
		t.Errorf("runStages() = %q, want %q", got, want)
	}
}

// canceled returns a context outside the test's own, for what runs in a Cleanup.
func canceled(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithCancel(context.WithoutCancel(t.Context()))
}
