package pgstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/xpd-platform/xpd/experiment"
)

// Treatments answers which treatments u has: of the experiments named by keys,
// or, if keys is nil, of all that run or are paused for units of its type. What
// is answered is durable, and never changes while the experiment lives. It
// returns experiment.ErrOverloaded at once if too many requests wait.
//
// A unit in the cache costs nothing, another one a read; having been enrolled
// anywhere, or being enrolled now, costs one commit. It starts again whenever the
// definitions turn out to have changed in between.
func (s *Store) Treatments(ctx context.Context, u experiment.Unit, keys []string) ([]experiment.Decision, error) {
	decisions, err := s.treatments(ctx, u, keys)
	if err != nil {
		return nil, fmt.Errorf("treatments of a unit: %w", err)
	}
	return decisions, nil
}

func (s *Store) treatments(ctx context.Context, u experiment.Unit, keys []string) ([]experiment.Decision, error) {
	key := u.Key()
	snap, err := s.definitions(ctx)
	if err != nil {
		return nil, err
	}
	for {
		now := s.now()
		at := moment{snap.Version(), snap.Generation(now)}
		rows, current, err := s.rowsOf(ctx, key, at)
		if err != nil {
			return nil, err
		}
		if current {
			decisions, fresh := snap.Assign(u, rows, keys, now)
			if len(fresh) == 0 {
				return decisions, nil
			}
			stored, err := s.assignments.do(ctx, enrolment{u, key, at.version, fresh}, 1)
			if err != nil {
				return nil, err
			}
			if !stored.stale {
				rows = append(slices.Clip(rows), stored.rows...)
				s.cache.put(key, at, rows)
				decisions, _ = snap.Assign(u, rows, keys, now)
				return decisions, nil
			}
		}
		if snap, err = s.refresh(ctx, at.version); err != nil {
			return nil, err
		}
	}
}

// rowsOf returns all assignments of a unit. They are current if no other version
// than that of the moment is in force; otherwise they must not be used.
func (s *Store) rowsOf(ctx context.Context, key experiment.UnitKey, at moment) (rows []experiment.Assignment, current bool, err error) {
	if rows, ok := s.cache.get(key, at); ok {
		s.metrics.cacheHits.Inc()
		return rows, true, nil
	}
	s.metrics.cacheMisses.Inc()
	found, err := s.lookups.do(ctx, key, 1)
	if err != nil || found.version != at.version {
		return nil, false, err
	}
	s.cache.put(key, at, found.rows)
	return found.rows, true, nil
}
