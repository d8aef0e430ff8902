package pgstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
)

// exposing asks to confirm that a unit saw its treatments of some runs.
type exposing struct {
	key  experiment.UnitKey
	runs []int32
	ats  []time.Time
}

// exposed is the outcome for one run of an exposing.
type exposed struct {
	outcome experiment.ExposureOutcome
	at      time.Time
}

// Expose confirms that u saw its treatments and returns one result per request,
// in their order. The first confirmation fixes the time. Without an assignment in
// the current run nothing is stored; a stopped experiment still takes
// confirmations, as they may arrive late.
func (s *Store) Expose(
	ctx context.Context, u experiment.Unit, requests []experiment.ExposureRequest,
) ([]experiment.ExposureResult, error) {
	snap, err := s.definitions(ctx)
	if err != nil {
		return nil, fmt.Errorf("confirm exposures: %w", err)
	}
	results := make([]experiment.ExposureResult, len(requests))
	work := exposing{key: u.Key()}
	var indexes []int // of the requests in work
	for i, r := range requests {
		results[i] = experiment.ExposureResult{Experiment: r.Experiment, Outcome: experiment.ExposureUnknownExperiment}
		run, ok := snap.Run(r.Experiment)
		if !ok {
			continue
		}
		work.runs = append(work.runs, run)
		work.ats = append(work.ats, r.At.UTC().Truncate(time.Microsecond))
		indexes = append(indexes, i)
	}
	if len(indexes) == 0 {
		return results, nil
	}
	outcomes, err := s.exposures.do(ctx, work, len(indexes))
	if err != nil {
		return nil, fmt.Errorf("confirm exposures: %w", err)
	}
	for i, o := range outcomes {
		results[indexes[i]].Outcome, results[indexes[i]].At = o.outcome, o.at
	}
	return results, nil
}

// The assignment is looked up row by row: a join might not be.
const insertExposuresSQL = `
INSERT INTO exposure (unit_key, run_id, exposed_at)
SELECT unit_key, run_id, exposed_at
FROM unnest($1::uuid[], $2::int4[], $3::timestamptz[]) AS e (unit_key, run_id, exposed_at)
WHERE (SELECT true FROM assignment a WHERE a.unit_key = e.unit_key AND a.run_id = e.run_id)
ON CONFLICT DO NOTHING
RETURNING unit_key, run_id`

const readExposuresSQL = `
SELECT unit_key, run_id, exposed_at
FROM exposure
WHERE unit_key = ANY ($1::uuid[])`

// expose stores the confirmations in one transaction and reads all of them back,
// since most of them were confirmed before. That a unit is not assigned has to be proven
// as well: it must come from the primary of this moment, not from one that was replaced
// and does not know yet, for nobody asks again after that answer.
func (s *Store) expose(ctx context.Context, es []exposing) ([][]exposed, error) {
	first := map[rowKey]time.Time{}
	for _, e := range es {
		for i, run := range e.runs {
			k := rowKey{e.key, run}
			if at, ok := first[k]; !ok || e.ats[i].Before(at) {
				first[k] = e.ats[i]
			}
		}
	}
	inserted, stored, err := s.insertExposures(ctx, first)
	if err != nil {
		return nil, err
	}
	answers := make([][]exposed, len(es))
	for i, e := range es {
		for _, run := range e.runs {
			k := rowKey{e.key, run}
			at, ok := stored[k]
			o := exposed{experiment.ExposureNotAssigned, at}
			switch {
			case inserted[k]:
				o.outcome = experiment.ExposureConfirmed
				delete(inserted, k) // one request confirms, the others find it done
			case ok:
				o.outcome = experiment.ExposureAlready
			}
			answers[i] = append(answers[i], o)
		}
	}
	return answers, nil
}

func (s *Store) insertExposures(
	ctx context.Context, first map[rowKey]time.Time,
) (inserted map[rowKey]bool, stored map[rowKey]time.Time, err error) {
	keys := make([]rowKey, 0, len(first))
	for k := range first {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareRowKeys)
	units, runs, ats := make([][16]byte, len(keys)), make([]int32, len(keys)), make([]time.Time, len(keys))
	for i, k := range keys {
		units[i], runs[i], ats[i] = k.unit, k.run, first[k]
	}
	tries := 0
	err = s.db.Do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		tries++
		inserted, stored = map[rowKey]bool{}, map[rowKey]time.Time{}
		var b pgx.Batch
		b.Queue(byKeySQL)
		b.Queue(insertExposuresSQL, units, runs, ats).Query(func(r pgx.Rows) error {
			var k rowKey
			_, err := pgx.ForEachRow(r, []any{(*[16]byte)(&k.unit), &k.run}, func() error {
				inserted[k] = true
				return nil
			})
			return err
		})
		b.Queue(proveUnwrittenSQL)
		b.Queue(readExposuresSQL, units).Query(func(r pgx.Rows) error {
			var k rowKey
			var at time.Time
			_, err := pgx.ForEachRow(r, []any{(*[16]byte)(&k.unit), &k.run, &at}, func() error {
				stored[k] = at.UTC()
				if tries > 1 && at.Equal(first[k]) {
					inserted[k] = true // by the try before, whose answer was lost
				}
				return nil
			})
			return err
		})
		return c.SendBatch(ctx, &b).Close()
	})
	return inserted, stored, err
}
