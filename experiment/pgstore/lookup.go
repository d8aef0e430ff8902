package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
)

// lookedUp are the rows of a unit with the version of definitions under which
// they were complete.
type lookedUp struct {
	version int64
	rows    []experiment.Assignment
}

// One statement sees one moment: version and rows belong together. The proof is written
// once, when the first row is found; a unit without rows, which most that are looked up
// are, costs no commit.
const lookUpSQL = `
SELECT d.version, a.unit_key, a.run_id, a.treatment, a.version, a.assigned_at,
	CASE WHEN a.unit_key IS NOT NULL THEN (` + proveSQL + `) END
FROM definitions d LEFT JOIN assignment a ON a.unit_key = ANY ($1::uuid[])
WHERE d.one`

// lookUp reads the assignments of many units.
func (s *Store) lookUp(ctx context.Context, keys []experiment.UnitKey) ([]lookedUp, error) {
	var version int64
	var byUnit map[experiment.UnitKey][]experiment.Assignment
	err := s.db.Do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		byUnit = make(map[experiment.UnitKey][]experiment.Assignment, len(keys))
		var b pgx.Batch
		b.Queue(byKeySQL)
		b.Queue(lookUpSQL, uuids(keys)).Query(func(r pgx.Rows) error {
			// All but the version are null if no unit has a row.
			var unit *[16]byte
			var run *int32
			var treatment *int16
			var drawnBy *int64
			var assignedAt *time.Time
			_, err := pgx.ForEachRow(r, []any{&version, &unit, &run, &treatment, &drawnBy, &assignedAt, nil}, func() error {
				if unit != nil {
					byUnit[*unit] = append(byUnit[*unit], experiment.Assignment{
						RunID: *run, Treatment: *treatment, Version: *drawnBy, At: *assignedAt,
					})
				}
				return nil
			})
			return err
		})
		return c.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return nil, err
	}
	found := make([]lookedUp, len(keys))
	for i, k := range keys {
		found[i] = lookedUp{version, byUnit[k]}
	}
	return found, nil
}
