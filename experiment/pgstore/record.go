package pgstore

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
)

// recording asks to store events that arrived together.
type recording struct {
	events     []experiment.Event
	receivedAt time.Time
}

// Record stores events, which must be valid, and returns one result per event, in
// their order. Of events with one id the first is kept, whatever else they hold.
func (s *Store) Record(ctx context.Context, events []experiment.Event) ([]experiment.EventResult, error) {
	if len(events) == 0 {
		return []experiment.EventResult{}, nil
	}
	results, err := s.events.do(ctx, recording{events, s.stamp()}, len(events))
	if err != nil {
		return nil, fmt.Errorf("record events: %w", err)
	}
	return results, nil
}

const insertEventsSQL = `
INSERT INTO event (id, unit_key, type, occurred_at, received_at, value, items_total, discounts, currency)
SELECT id, unit_key, type, occurred_at, received_at, value, items_total, discounts, currency
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[],
		$6::float8[], $7::int8[], $8::int8[], $9::text[])
	AS e (id, unit_key, type, occurred_at, received_at, value, items_total, discounts, currency)
ON CONFLICT DO NOTHING
RETURNING id`

// A second try tells what the first one may have stored by the time it was received.
const readOwnEventsSQL = `
SELECT id
FROM event
WHERE id = ANY ($1::uuid[]) AND received_at = ANY ($2::timestamptz[])`

// record stores the events and their units in one transaction and one round trip.
func (s *Store) record(ctx context.Context, rs []recording) ([][]experiment.EventResult, error) {
	columns, units := newEventColumns(rs)
	var accepted map[experiment.EventID]bool
	tries := 0
	err := s.db.Do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		accepted = make(map[experiment.EventID]bool, len(columns.ids))
		accept := func(r pgx.Rows) error {
			var id [16]byte
			_, err := pgx.ForEachRow(r, []any{&id}, func() error {
				accepted[id] = true
				return nil
			})
			return err
		}
		var b pgx.Batch
		b.Queue(byKeySQL)
		b.Queue(insertUnitsSQL, units.keys, units.types, units.ids)
		b.Queue(insertEventsSQL, columns.ids, columns.units, columns.types, columns.occurred, columns.received,
			columns.values, columns.items, columns.discounts, columns.currencies).Query(accept)
		b.Queue(proveUnwrittenSQL)
		if tries++; tries > 1 {
			b.Queue(readOwnEventsSQL, columns.ids, columns.received).Query(accept)
		}
		return c.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return nil, err
	}
	answers := make([][]experiment.EventResult, len(rs))
	for i, r := range rs {
		for _, e := range r.events {
			outcome := experiment.EventDuplicate
			if accepted[e.ID] {
				outcome = experiment.EventAccepted
				delete(accepted, e.ID) // the next one with this id is a duplicate
			}
			answers[i] = append(answers[i], experiment.EventResult{ID: e.ID, Outcome: outcome})
		}
	}
	return answers, nil
}

// eventColumns are events in the form of arrays, sorted by id, each id once.
type eventColumns struct {
	ids, units         [][16]byte
	types              []string
	occurred, received []time.Time
	values             []*float64
	items, discounts   []*int64
	currencies         []*string
}

// newEventColumns keeps, of events with one id, the first.
func newEventColumns(rs []recording) (eventColumns, unitColumns) {
	type received struct {
		experiment.Event
		at time.Time
	}
	var all []received
	units := map[experiment.UnitKey]experiment.Unit{}
	for _, r := range rs {
		for _, e := range r.events {
			all = append(all, received{e, r.receivedAt})
		}
	}
	slices.SortStableFunc(all, func(a, b received) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	all = slices.CompactFunc(all, func(a, b received) bool { return a.ID == b.ID })
	var c eventColumns
	for _, e := range all {
		key := e.Unit.Key()
		units[key] = e.Unit
		c.ids = append(c.ids, e.ID)
		c.units = append(c.units, key)
		c.types = append(c.types, e.Type)
		c.occurred = append(c.occurred, e.OccurredAt)
		c.received = append(c.received, e.at)
		c.values = append(c.values, e.Value)
		c.items = append(c.items, e.ItemsTotal)
		c.discounts = append(c.discounts, e.Discounts)
		c.currencies = append(c.currencies, textOrNull(e.Currency))
	}
	return c, newUnitColumns(units)
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
