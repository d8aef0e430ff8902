package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
)

const experimentsSQL = `
SELECT e.id, e.key, l.key AS layer, e.state, e.version, v.definition, e.created_at, e.updated_at,
	r.id AS run_id, r.no AS run_no, r.salt AS run_salt, r.started_at AS run_started
FROM experiment e
JOIN layer l ON l.id = e.layer_id
JOIN experiment_version v ON v.experiment_id = e.id AND v.version = e.version
LEFT JOIN run r ON r.id = e.run_id
WHERE $1 = '' OR e.key = $1
ORDER BY e.key`

// readExperiments returns the experiment called key, or all for an empty key.
func readExperiments(ctx context.Context, q querier, key string) ([]experiment.Experiment, error) {
	rows, err := q.Query(ctx, experimentsSQL, key)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (experiment.Experiment, error) {
		row, err := pgx.RowToStructByName[experimentRow](r)
		if err != nil {
			return experiment.Experiment{}, err
		}
		return row.domain()
	})
}

func readExperiment(ctx context.Context, q querier, key string) (experiment.Experiment, error) {
	found, err := readExperiments(ctx, q, key)
	switch {
	case err != nil:
		return experiment.Experiment{}, err
	case len(found) != 1: // also for the empty key, which names nothing
		return experiment.Experiment{}, experiment.ErrNotFound
	case found[0].Key != key:
		return experiment.Experiment{}, experiment.ErrNotFound
	}
	return found[0], nil
}

// Experiments returns all experiments, sorted by key.
func (s *Store) Experiments(ctx context.Context) ([]experiment.Experiment, error) {
	var all []experiment.Experiment
	err := s.db.Read(ctx, func(ctx context.Context, c *pgx.Conn) (err error) {
		all, err = readExperiments(ctx, c, "")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list experiments: %w", err)
	}
	return all, nil
}

// Experiment returns experiment.ErrNotFound if no experiment has the key.
func (s *Store) Experiment(ctx context.Context, key string) (experiment.Experiment, error) {
	var found experiment.Experiment
	err := s.db.Read(ctx, func(ctx context.Context, c *pgx.Conn) (err error) {
		found, err = readExperiment(ctx, c, key)
		return err
	})
	if err != nil {
		return experiment.Experiment{}, fmt.Errorf("experiment %q: %w", key, err)
	}
	return found, nil
}

// CreateExperiment stores the first version of an experiment, a draft. It returns
// an *experiment.InvalidError, also for a layer that does not exist, an
// *experiment.SlotsError, or experiment.ErrExists if the key is taken.
func (s *Store) CreateExperiment(ctx context.Context, d experiment.Definition) (experiment.Experiment, error) {
	return s.changeExperiment(ctx, "create", d.Key, func(ctx context.Context, tx pgx.Tx) (experiment.Experiment, error) {
		e, err := experiment.New(d, s.stamp())
		if err != nil {
			return e, err
		}
		if _, err := readExperiment(ctx, tx, d.Key); !errors.Is(err, experiment.ErrNotFound) {
			return e, errorOr(err, experiment.ErrExists)
		}
		layer, err := readLayer(ctx, tx, d.Layer)
		if errors.Is(err, experiment.ErrNotFound) {
			return e, &experiment.InvalidError{Field: "layer", Reason: fmt.Sprintf("there is no layer %q", d.Layer)}
		}
		if err != nil {
			return e, err
		}
		e.ID, err = insertExperiment(ctx, tx, e, layer.ID)
		return e, err
	})
}

// ReviseExperiment replaces the definition of the experiment d.Key, whose version
// must be the given one; 0 stands for any. It returns what
// experiment.Experiment.Revise does, an *experiment.SlotsError,
// experiment.ErrNotFound or experiment.ErrConflict.
func (s *Store) ReviseExperiment(ctx context.Context, d experiment.Definition, version int64) (experiment.Experiment, error) {
	return s.changeExperiment(ctx, "revise", d.Key, func(ctx context.Context, tx pgx.Tx) (experiment.Experiment, error) {
		e, err := readVersion(ctx, tx, d.Key, version)
		if err != nil {
			return e, err
		}
		return e.Revise(d, s.stamp())
	})
}

// MoveExperiment changes the state of an experiment, whose version must be the
// given one; 0 stands for any. Its first start begins run 1. It returns an
// *experiment.TransitionError, experiment.ErrNotFound or experiment.ErrConflict.
func (s *Store) MoveExperiment(ctx context.Context, key string, to experiment.State, version int64) (experiment.Experiment, error) {
	salt := newSalt()
	return s.changeExperiment(ctx, "move", key, func(ctx context.Context, tx pgx.Tx) (experiment.Experiment, error) {
		e, err := readVersion(ctx, tx, key, version)
		if err != nil {
			return e, err
		}
		if err := e.MoveTo(to, s.stamp()); err != nil {
			return e, err
		}
		if to == experiment.StateRunning && e.Run == nil {
			e.Run = &experiment.Run{No: 1, Salt: salt, StartedAt: e.UpdatedAt}
			e.Run.ID, err = insertRun(ctx, tx, e)
		}
		return e, err
	})
}

// changeExperiment stores, as one change, the next version of an experiment that
// next computes from what is stored.
func (s *Store) changeExperiment(
	ctx context.Context, what, key string, next func(ctx context.Context, tx pgx.Tx) (experiment.Experiment, error),
) (experiment.Experiment, error) {
	changeID := uuid.New()
	var changed experiment.Experiment
	err := s.change(ctx, func(ctx context.Context, tx pgx.Tx) (done bool, err error) {
		if done, err := isDone(ctx, tx, changeID); err != nil || done {
			if err == nil {
				changed, err = readExperiment(ctx, tx, key)
			}
			return done, err
		}
		e, err := next(ctx, tx)
		if err != nil {
			return false, err
		}
		others, err := readExperiments(ctx, tx, "")
		if err != nil {
			return false, err
		}
		if err := e.CheckSlots(others); err != nil {
			return false, err
		}
		changed = e
		return false, writeVersion(ctx, tx, e, changeID)
	})
	if err != nil {
		return experiment.Experiment{}, fmt.Errorf("%s experiment %q: %w", what, key, err)
	}
	return changed, nil
}

func readVersion(ctx context.Context, tx pgx.Tx, key string, version int64) (experiment.Experiment, error) {
	e, err := readExperiment(ctx, tx, key)
	if err == nil && version != 0 && e.Version != version {
		err = experiment.ErrConflict
	}
	return e, err
}

const isDoneSQL = `SELECT EXISTS (SELECT FROM experiment_version WHERE change_id = $1)`

func isDone(ctx context.Context, tx pgx.Tx, changeID uuid.UUID) (done bool, err error) {
	err = tx.QueryRow(ctx, isDoneSQL, [16]byte(changeID)).Scan(&done)
	return done, err
}

const insertExperimentSQL = `
INSERT INTO experiment (key, layer_id, state, version, created_at, updated_at)
VALUES (@key, @layer_id, @state, @version, @created_at, @updated_at)
RETURNING id`

func insertExperiment(ctx context.Context, tx pgx.Tx, e experiment.Experiment, layerID int32) (id int32, err error) {
	err = tx.QueryRow(ctx, insertExperimentSQL, pgx.NamedArgs{
		"key": e.Key, "layer_id": layerID, "state": e.State, "version": e.Version,
		"created_at": e.CreatedAt, "updated_at": e.UpdatedAt,
	}).Scan(&id)
	return id, translate(err)
}

const insertRunSQL = `
INSERT INTO run (experiment_id, no, salt, started_at)
VALUES (@experiment_id, @no, @salt, @started_at)
RETURNING id`

func insertRun(ctx context.Context, tx pgx.Tx, e experiment.Experiment) (id int32, err error) {
	err = tx.QueryRow(ctx, insertRunSQL, pgx.NamedArgs{
		"experiment_id": e.ID, "no": e.Run.No, "salt": e.Run.Salt, "started_at": e.Run.StartedAt,
	}).Scan(&id)
	return id, err
}

const updateExperimentSQL = `
UPDATE experiment
SET state = @state, version = @version, run_id = @run_id, updated_at = @at
WHERE id = @id`

const insertVersionSQL = `
INSERT INTO experiment_version (experiment_id, version, definition, state, change_id, at)
VALUES (@id, @version, @definition, @state, @change_id, @at)`

// A draft may still drop and renumber its treatments, as no unit has one.
const deleteTreatmentsSQL = `
DELETE FROM treatment
WHERE experiment_id = $1`

const insertTreatmentSQL = `
INSERT INTO treatment (experiment_id, no, key, control)
VALUES (@id, @no, @key, @control)
ON CONFLICT (experiment_id, no) DO NOTHING`

// writeVersion stores e as the current version and keeps the ones before.
func writeVersion(ctx context.Context, tx pgx.Tx, e experiment.Experiment, changeID uuid.UUID) error {
	definition, err := encodeDefinition(e.Definition)
	if err != nil {
		return err
	}
	var runID *int32
	var b pgx.Batch
	if e.Run != nil {
		runID = &e.Run.ID
	} else {
		b.Queue(deleteTreatmentsSQL, e.ID)
	}
	b.Queue(updateExperimentSQL, pgx.NamedArgs{
		"id": e.ID, "state": e.State, "version": e.Version, "run_id": runID, "at": e.UpdatedAt,
	})
	b.Queue(insertVersionSQL, pgx.NamedArgs{
		"id": e.ID, "version": e.Version, "definition": definition, "state": e.State,
		"change_id": [16]byte(changeID), "at": e.UpdatedAt,
	})
	for _, t := range e.Treatments {
		b.Queue(insertTreatmentSQL, pgx.NamedArgs{"id": e.ID, "no": t.No, "key": t.Key, "control": t.Control})
	}
	return tx.SendBatch(ctx, &b).Close()
}

// errorOr returns err, or fallback if there is none.
func errorOr(err, fallback error) error {
	if err != nil {
		return err
	}
	return fallback
}
