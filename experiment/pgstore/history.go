package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
)

// maxHistory bounds the events of a history.
const maxHistory = 1000

// assignmentsOfSQL also lists assignments of experiments that have ended long ago.
const assignmentsOfSQL = `
SELECT x.key, t.key, r.no, a.version, a.assigned_at, e.exposed_at
FROM assignment a
JOIN run r ON r.id = a.run_id
JOIN experiment x ON x.id = r.experiment_id
JOIN treatment t ON t.experiment_id = x.id AND t.no = a.treatment
LEFT JOIN exposure e ON e.unit_key = a.unit_key AND e.run_id = a.run_id
WHERE a.unit_key = $1
ORDER BY a.assigned_at DESC, x.key, r.no`

const eventsOfSQL = `
SELECT id, type, occurred_at, value, items_total, discounts, coalesce(currency, '')
FROM event
WHERE unit_key = $1
ORDER BY occurred_at DESC, id
LIMIT $2`

// UnitHistory returns what u got and did; a unit that nobody has seen has an empty
// history.
func (s *Store) UnitHistory(ctx context.Context, u experiment.Unit) (experiment.History, error) {
	key := [16]byte(u.Key())
	var h experiment.History
	err := s.db.Read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		h = experiment.History{Unit: u}
		var b pgx.Batch
		b.Queue(byKeySQL)
		b.Queue(assignmentsOfSQL, key).Query(func(r pgx.Rows) (err error) {
			h.Assignments, err = pgx.CollectRows(r, pastAssignment)
			return err
		})
		b.Queue(eventsOfSQL, key, maxHistory+1).Query(func(r pgx.Rows) (err error) {
			h.Events, err = pgx.CollectRows(r, func(r pgx.CollectableRow) (experiment.Event, error) {
				return pastEvent(r, u)
			})
			return err
		})
		return c.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return experiment.History{}, fmt.Errorf("history of a unit: %w", err)
	}
	if len(h.Events) > maxHistory {
		h.Events, h.MoreEvents = h.Events[:maxHistory], true
	}
	return h, nil
}

func pastAssignment(r pgx.CollectableRow) (experiment.PastAssignment, error) {
	var p experiment.PastAssignment
	var exposedAt *time.Time
	err := r.Scan(&p.Experiment, &p.Treatment, &p.Run, &p.Version, &p.AssignedAt, &exposedAt)
	p.AssignedAt = p.AssignedAt.UTC()
	if exposedAt != nil {
		utc := exposedAt.UTC()
		p.ExposedAt = &utc
	}
	return p, err
}

func pastEvent(r pgx.CollectableRow, u experiment.Unit) (experiment.Event, error) {
	e := experiment.Event{Unit: u}
	var id [16]byte
	err := r.Scan(&id, &e.Type, &e.OccurredAt, &e.Value, &e.ItemsTotal, &e.Discounts, &e.Currency)
	e.ID, e.OccurredAt = id, e.OccurredAt.UTC()
	return e, err
}
