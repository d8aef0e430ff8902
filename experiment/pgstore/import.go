package pgstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
)

// ImportAssignments stores assignments of one experiment that were made
// elsewhere, all that can be accepted of a batch in one transaction. It is
// write-once like any other assignment: a unit that has another treatment, or is
// in another live experiment of the layer, is rejected.
//
// The transaction holds the definitions lock alone and raises their version. So no
// node enrols one of the units at the same time where the layer forbids it, and
// what nodes have cached about the units no longer counts: this node answers with
// the imported rows when ImportAssignments has returned, the others within the time
// that a change of definitions takes.
//
// That stops enrolments for as long as a batch takes, and makes those under way
// start again. So the next batch on this node lets as much time pass before it
// begins; one after the other they would keep new units out to the end of the file.
//
// Sending a batch again changes nothing; its rows are then Present. It returns an
// *experiment.InvalidError if the experiment has no run that could take them, and
// experiment.ErrOverloaded at once if too many batches wait for their turn.
func (s *Store) ImportAssignments(ctx context.Context, in experiment.AssignmentImport) (experiment.ImportResult, error) {
	select {
	case s.imports <- struct{}{}:
		defer func() { <-s.imports }()
	default:
		return experiment.ImportResult{}, fmt.Errorf("import assignments: %w", experiment.ErrOverloaded)
	}
	if err := s.importing.take(ctx); err != nil {
		return experiment.ImportResult{}, fmt.Errorf("import assignments: %w", err)
	}
	defer s.importing.end()
	if err := s.imported.wait(ctx); err != nil {
		return experiment.ImportResult{}, fmt.Errorf("import assignments: %w", err)
	}
	result, err := s.importAssignments(ctx, in)
	if err != nil {
		return experiment.ImportResult{}, fmt.Errorf("import assignments: %w", err)
	}
	return result, nil
}

// importAssignments is ImportAssignments for who may begin at once.
func (s *Store) importAssignments(ctx context.Context, in experiment.AssignmentImport) (experiment.ImportResult, error) {
	var (
		result  experiment.ImportResult
		matters bool
	)
	start := time.Now()
	err := s.change(ctx, func(ctx context.Context, tx pgx.Tx) (done bool, err error) {
		im := assignmentImport{AssignmentImport: in}
		if err := im.run(ctx, tx); err != nil {
			return false, err
		}
		result = im.result()
		// Nodes answer the same as before if nothing came in, or nobody is answered.
		matters = im.inserted > 0 && im.target.State.Live()
		return !matters, nil
	})
	if err != nil {
		return experiment.ImportResult{}, err
	}
	if matters {
		s.imported.begin(time.Since(start))
	}
	return result, nil
}

// maxImports bounds the batches of assignments that wait for their turn, one of
// which is being stored.
const maxImports = 16

// maxBreather keeps one slow batch from stopping the next.
const maxBreather = time.Second

// breather is a time in which something must not be done again. The zero value is over.
type breather struct {
	until atomic.Pointer[time.Time]
}

func (b *breather) begin(d time.Duration) {
	until := time.Now().Add(min(d, maxBreather))
	b.until.Store(&until)
}

// wait returns when the time is over, or the error of ctx.
func (b *breather) wait(ctx context.Context) error {
	until := b.until.Load()
	if until == nil {
		return nil
	}
	timer := time.NewTimer(time.Until(*until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// assignmentImport is one try to import a batch.
type assignmentImport struct {
	experiment.AssignmentImport

	target   importTarget
	inserted int64
	rejected []experiment.Rejection
}

// importTarget is the experiment that a batch is for.
type importTarget struct {
	ID        int32
	State     experiment.State
	Version   int64
	LayerID   int32
	UnitType  string
	RunID     *int32
	StartedAt *time.Time
}

func (im *assignmentImport) result() experiment.ImportResult {
	slices.SortFunc(im.rejected, func(a, b experiment.Rejection) int { return cmp.Compare(a.Row, b.Row) })
	return experiment.ImportResult{
		Inserted: int(im.inserted),
		Present:  len(im.Rows) - len(im.rejected) - int(im.inserted),
		Rejected: im.rejected,
	}
}

func (im *assignmentImport) run(ctx context.Context, tx pgx.Tx) error {
	// The rows of a batch are looked up by their keys, however large the tables are.
	if _, err := tx.Exec(ctx, byKeySQL); err != nil {
		return fmt.Errorf("set up the planner: %w", err)
	}
	if err := im.readTarget(ctx, tx); err != nil {
		return err
	}
	if err := im.load(ctx, tx); err != nil {
		return err
	}
	if im.target.State.Live() {
		if err := im.rejectClaimed(ctx, tx); err != nil {
			return err
		}
	}
	return im.insert(ctx, tx)
}

const importTargetSQL = `
SELECT e.id, e.state, e.version, e.layer_id, l.unit_type, e.run_id, r.started_at
FROM experiment e
JOIN layer l ON l.id = e.layer_id
LEFT JOIN run r ON r.id = e.run_id
WHERE e.key = $1`

func (im *assignmentImport) readTarget(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, importTargetSQL, im.Experiment)
	if err != nil {
		return fmt.Errorf("read experiment: %w", err)
	}
	im.target, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[importTarget])
	if errors.Is(err, pgx.ErrNoRows) {
		return &experiment.InvalidError{Field: "experiment", Reason: "does not exist"}
	}
	if err != nil {
		return fmt.Errorf("read experiment: %w", err)
	}
	return im.target.check(im.UnitType)
}

func (t importTarget) check(unitType string) error {
	switch {
	case t.RunID == nil:
		return &experiment.InvalidError{
			Field:  "experiment",
			Reason: "has not run yet; start it, and pause it if it must not enrol units by itself, then import",
		}
	case t.State == experiment.StateArchived:
		return &experiment.InvalidError{Field: "experiment", Reason: "is archived and stays as it is"}
	case t.UnitType != unitType:
		return &experiment.InvalidError{
			Field: "unit_type", Reason: fmt.Sprintf("is %q, but the experiment assigns units of type %q", unitType, t.UnitType),
		}
	}
	return nil
}

const importAssignmentTableSQL = `
CREATE TEMPORARY TABLE import_assignment (
    row         integer     NOT NULL,
    unit_key    uuid        NOT NULL,
    unit_id     text        NOT NULL,
    treatment   smallint    NOT NULL,
    assigned_at timestamptz NOT NULL
) ON COMMIT DROP`

// load copies the rows of known treatments into a table of the transaction.
func (im *assignmentImport) load(ctx context.Context, tx pgx.Tx) error {
	numbers, err := treatmentNumbers(ctx, tx, im.target.ID)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, importAssignmentTableSQL); err != nil {
		return fmt.Errorf("make a table for the batch: %w", err)
	}
	known := make([][]any, 0, len(im.Rows))
	for i, r := range im.Rows {
		no, ok := numbers[r.Treatment]
		if !ok {
			im.reject(i, "unknown treatment "+r.Treatment)
			continue
		}
		at := r.At
		if at.IsZero() {
			at = *im.target.StartedAt
		}
		known = append(known, []any{int32(i), [16]byte(r.Unit.Key()), r.Unit.ID, no, at})
	}
	columns := []string{"row", "unit_key", "unit_id", "treatment", "assigned_at"}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"import_assignment"}, columns, pgx.CopyFromRows(known)); err != nil {
		return fmt.Errorf("copy the batch: %w", err)
	}
	// Without, the planner takes the batch for a handful of rows.
	if _, err := tx.Exec(ctx, "ANALYZE import_assignment"); err != nil {
		return fmt.Errorf("analyse the batch: %w", err)
	}
	return nil
}

func treatmentNumbers(ctx context.Context, tx pgx.Tx, experimentID int32) (map[string]int16, error) {
	rows, err := tx.Query(ctx, `SELECT key, no FROM treatment WHERE experiment_id = $1`, experimentID)
	if err != nil {
		return nil, fmt.Errorf("read treatments: %w", err)
	}
	type treatment struct {
		Key string
		No  int16
	}
	treatments, err := pgx.CollectRows(rows, pgx.RowToStructByPos[treatment])
	if err != nil {
		return nil, fmt.Errorf("read treatments: %w", err)
	}
	numbers := make(map[string]int16, len(treatments))
	for _, t := range treatments {
		numbers[t.Key] = t.No
	}
	return numbers, nil
}

const rejectClaimedSQL = `
DELETE FROM import_assignment i
USING (
    SELECT a.unit_key, min(o.key) AS experiment
    FROM assignment a
    JOIN experiment o ON o.run_id = a.run_id
    WHERE o.layer_id = $1 AND o.id <> $2 AND o.state IN ('running', 'paused')
        AND a.unit_key IN (SELECT unit_key FROM import_assignment)
    GROUP BY a.unit_key
) claim
WHERE claim.unit_key = i.unit_key
RETURNING i.row, claim.experiment`

// rejectClaimed takes out the units that are in another live experiment of the
// layer, which no unit may be in two of.
func (im *assignmentImport) rejectClaimed(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, rejectClaimedSQL, im.target.LayerID, im.target.ID)
	if err != nil {
		return fmt.Errorf("look for claims of the layer: %w", err)
	}
	if err := im.rejectAll(rows, "conflict: is in experiment "); err != nil {
		return fmt.Errorf("look for claims of the layer: %w", err)
	}
	return nil
}

const (
	importAssignedUnitsSQL = `
INSERT INTO unit (key, type, id)
SELECT DISTINCT ON (unit_key) unit_key, $1::text, unit_id
FROM import_assignment
ORDER BY unit_key
ON CONFLICT DO NOTHING`

	// Of two rows for one unit the first counts.
	importAssignmentsSQL = `
INSERT INTO assignment (unit_key, run_id, treatment, version, assigned_at)
SELECT DISTINCT ON (unit_key) unit_key, $1::integer, treatment, $2::bigint, assigned_at
FROM import_assignment
ORDER BY unit_key, row
ON CONFLICT DO NOTHING`

	importExposuresSQL = `
INSERT INTO exposure (unit_key, run_id, exposed_at)
SELECT a.unit_key, a.run_id, a.assigned_at
FROM assignment a
WHERE a.run_id = $1 AND EXISTS (
    SELECT FROM import_assignment i WHERE i.unit_key = a.unit_key AND i.treatment = a.treatment
)
ORDER BY a.unit_key
ON CONFLICT DO NOTHING`

	// A statement of its own, which sees what the one before left in place.
	importConflictsSQL = `
SELECT i.row, t.key
FROM import_assignment i
JOIN assignment a ON a.unit_key = i.unit_key AND a.run_id = $1
JOIN treatment t ON t.experiment_id = $2 AND t.no = a.treatment
WHERE a.treatment <> i.treatment`
)

func (im *assignmentImport) insert(ctx context.Context, tx pgx.Tx) error {
	runID := *im.target.RunID
	if _, err := tx.Exec(ctx, importAssignedUnitsSQL, im.UnitType); err != nil {
		return fmt.Errorf("insert units: %w", err)
	}
	tag, err := tx.Exec(ctx, importAssignmentsSQL, runID, im.target.Version)
	if err != nil {
		return fmt.Errorf("insert assignments: %w", err)
	}
	im.inserted = tag.RowsAffected()
	if im.Exposed {
		if _, err := tx.Exec(ctx, importExposuresSQL, runID); err != nil {
			return fmt.Errorf("insert exposures: %w", err)
		}
	}
	rows, err := tx.Query(ctx, importConflictsSQL, runID, im.target.ID)
	if err != nil {
		return fmt.Errorf("look for conflicts: %w", err)
	}
	if err := im.rejectAll(rows, "conflict: has "); err != nil {
		return fmt.Errorf("look for conflicts: %w", err)
	}
	return nil
}

// rejectAll rejects each row, whose number and cause rows hold.
func (im *assignmentImport) rejectAll(rows pgx.Rows, reason string) error {
	var (
		row   int
		cause string
	)
	_, err := pgx.ForEachRow(rows, []any{&row, &cause}, func() error {
		im.reject(row, reason+cause)
		return nil
	})
	return err
}

func (im *assignmentImport) reject(row int, reason string) {
	im.rejected = append(im.rejected, experiment.Rejection{Row: row, Reason: reason})
}
