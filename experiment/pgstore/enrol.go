package pgstore

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
)

// enrolment asks to store what was decided for a unit under one version.
type enrolment struct {
	unit    experiment.Unit
	key     experiment.UnitKey
	version int64
	fresh   []experiment.Assignment
}

// enrolled is what the database holds for the runs of an enrolment. It is stale,
// and nothing was stored, if the version was not in force any more.
type enrolled struct {
	rows  []experiment.Assignment
	stale bool
}

// rowKey is the primary key of assignments and exposures.
type rowKey struct {
	unit experiment.UnitKey
	run  int32
}

func compareRowKeys(a, b rowKey) int {
	return cmp.Or(bytes.Compare(a.unit[:], b.unit[:]), cmp.Compare(a.run, b.run))
}

const checkDefinitionsSQL = `SELECT check_definitions($1)`

// Rows come sorted by key, here and in every other insert, so that transactions
// which share keys meet in one order and cannot deadlock.
const insertUnitsSQL = `
INSERT INTO unit (key, type, id)
SELECT key, type, id FROM unnest($1::uuid[], $2::text[], $3::text[]) AS u (key, type, id)
ON CONFLICT DO NOTHING`

const insertAssignmentsSQL = `
INSERT INTO assignment (unit_key, run_id, treatment, version, assigned_at)
SELECT unit_key, run_id, treatment, version, assigned_at
FROM unnest($1::uuid[], $2::int4[], $3::int2[], $4::int8[], $5::timestamptz[])
	AS a (unit_key, run_id, treatment, version, assigned_at)
ON CONFLICT DO NOTHING
RETURNING unit_key, run_id`

// A statement of its own: the insert does not see what was committed while it
// ran, this one does.
const readAssignmentsSQL = `
SELECT unit_key, run_id, treatment, version, assigned_at
FROM assignment
WHERE unit_key = ANY ($1::uuid[])`

// enrol stores the enrolments of the newest version among es; those of an older
// one are stale. Requests for one unit share its rows.
func (s *Store) enrol(ctx context.Context, es []enrolment) ([]enrolled, error) {
	version := int64(0)
	for _, e := range es {
		version = max(version, e.version)
	}
	units := map[experiment.UnitKey]experiment.Unit{}
	wanted := map[rowKey]experiment.Assignment{}
	for _, e := range es {
		if e.version != version {
			continue
		}
		units[e.key] = e.unit
		for _, a := range e.fresh {
			k := rowKey{e.key, a.RunID}
			if _, ok := wanted[k]; !ok {
				wanted[k] = a
			}
		}
	}
	stored, stale, err := s.insertAssignments(ctx, version, newUnitColumns(units), newAssignmentColumns(wanted), wanted)
	if err != nil {
		return nil, err
	}
	answers := make([]enrolled, len(es))
	for i, e := range es {
		if stale || e.version != version {
			answers[i].stale = true
			continue
		}
		for _, a := range e.fresh {
			answers[i].rows = append(answers[i].rows, stored[rowKey{e.key, a.RunID}])
		}
	}
	return answers, nil
}

// insertAssignments stores what is wanted in one transaction and one round trip,
// a second one only for rows that were there before. It returns what the database
// holds, or stale and has stored nothing.
func (s *Store) insertAssignments(
	ctx context.Context, version int64, units unitColumns, rows assignmentColumns, wanted map[rowKey]experiment.Assignment,
) (stored map[rowKey]experiment.Assignment, stale bool, err error) {
	err = s.db.Do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		stale = false
		stored = make(map[rowKey]experiment.Assignment, len(wanted))
		// Statements up to the end of a batch are one transaction, which commits there.
		var b pgx.Batch
		b.Queue(byKeySQL)
		b.Queue(checkDefinitionsSQL, version)
		b.Queue(insertUnitsSQL, units.keys, units.types, units.ids)
		b.Queue(insertAssignmentsSQL, rows.units, rows.runs, rows.treatments, rows.versions, rows.ats).
			Query(func(r pgx.Rows) error {
				var k rowKey
				_, err := pgx.ForEachRow(r, []any{(*[16]byte)(&k.unit), &k.run}, func() error {
					stored[k] = wanted[k]
					return nil
				})
				return err
			})
		err := c.SendBatch(ctx, &b).Close()
		if hasCode(err, codeStale) {
			stale = true
			return nil
		}
		if err != nil || len(stored) == len(wanted) {
			return err
		}
		return readAssignments(ctx, c, wanted, stored)
	})
	return stored, stale, err
}

// readAssignments adds those of wanted that are not in stored yet, which are somebody
// else's and so have to be proven.
func readAssignments(ctx context.Context, c *pgx.Conn, wanted, stored map[rowKey]experiment.Assignment) error {
	var units [][16]byte
	for k := range wanted {
		if _, ok := stored[k]; !ok {
			units = append(units, k.unit)
		}
	}
	var b pgx.Batch
	b.Queue(byKeySQL)
	b.Queue(proveSQL)
	b.Queue(readAssignmentsSQL, units).Query(func(r pgx.Rows) error {
		var k rowKey
		var a experiment.Assignment
		_, err := pgx.ForEachRow(r, []any{(*[16]byte)(&k.unit), &a.RunID, &a.Treatment, &a.Version, &a.At}, func() error {
			k.run = a.RunID
			stored[k] = a
			return nil
		})
		return err
	})
	return c.SendBatch(ctx, &b).Close()
}

// unitColumns are units in the form of arrays, sorted by key.
type unitColumns struct {
	keys       [][16]byte
	types, ids []string
}

func newUnitColumns(units map[experiment.UnitKey]experiment.Unit) unitColumns {
	keys := make([]experiment.UnitKey, 0, len(units))
	for k := range units {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b experiment.UnitKey) int { return bytes.Compare(a[:], b[:]) })
	c := unitColumns{keys: uuids(keys), types: make([]string, len(keys)), ids: make([]string, len(keys))}
	for i, k := range keys {
		c.types[i], c.ids[i] = units[k].Type, units[k].ID
	}
	return c
}

// assignmentColumns are assignments in the form of arrays, sorted by unit and run.
type assignmentColumns struct {
	units      [][16]byte
	runs       []int32
	treatments []int16
	versions   []int64
	ats        []time.Time
}

func newAssignmentColumns(wanted map[rowKey]experiment.Assignment) assignmentColumns {
	keys := make([]rowKey, 0, len(wanted))
	for k := range wanted {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareRowKeys)
	var c assignmentColumns
	for _, k := range keys {
		a := wanted[k]
		c.units = append(c.units, k.unit)
		c.runs = append(c.runs, k.run)
		c.treatments = append(c.treatments, a.Treatment)
		c.versions = append(c.versions, a.Version)
		c.ats = append(c.ats, a.At)
	}
	return c
}

// uuids returns the keys as the driver knows them.
func uuids(keys []experiment.UnitKey) [][16]byte {
	out := make([][16]byte, len(keys))
	for i, k := range keys {
		out[i] = k
	}
	return out
}
