package xpd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// stage is a part of the daemon: run blocks until ctx ends and returns after all
// that it started has ended.
type stage struct {
	name string
	run  func(ctx context.Context) error
}

// runStages runs all stages at once until ctx ends or one of them returns. Then it
// ends them one by one, last first, so that a part always stops before what it
// uses. It returns the errors of all of them.
func runStages(ctx context.Context, stages []stage) error {
	type running struct {
		cancel context.CancelFunc
		done   chan error
	}
	over := make(chan struct{})
	var once sync.Once
	parts := make([]running, 0, len(stages))
	for _, s := range stages {
		stageCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		part := running{cancel: cancel, done: make(chan error, 1)}
		parts = append(parts, part)
		go func() {
			err := s.run(stageCtx)
			if err != nil {
				err = fmt.Errorf("%s: %w", s.name, err)
			}
			part.done <- err
			once.Do(func() { close(over) })
		}()
	}
	select {
	case <-ctx.Done():
	case <-over:
	}
	errs := make([]error, 0, len(parts))
	for _, part := range slices.Backward(parts) {
		part.cancel()
		errs = append(errs, <-part.done)
	}
	return errors.Join(errs...)
}
