package pgstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
)

// ImportEvents stores a batch of valid events in one transaction, by COPY instead
// of the group commit, which is made for many small requests. Events whose id is
// already stored, or occurs before in the batch, are Present; none is rejected.
func (s *Store) ImportEvents(ctx context.Context, events []experiment.Event) (experiment.ImportResult, error) {
	var inserted int64
	err := s.db.Do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			var err error
			inserted, err = s.importEvents(ctx, tx, events)
			return err
		})
	})
	if err != nil {
		return experiment.ImportResult{}, fmt.Errorf("import events: %w", err)
	}
	return experiment.ImportResult{Inserted: int(inserted), Present: len(events) - int(inserted)}, nil
}

const (
	importEventTableSQL = `
CREATE TEMPORARY TABLE import_event (
    row         integer          NOT NULL,
    id          uuid             NOT NULL,
    unit_key    uuid             NOT NULL,
    unit_type   text             NOT NULL,
    unit_id     text             NOT NULL,
    type        text             NOT NULL,
    occurred_at timestamptz      NOT NULL,
    value       double precision,
    items_total bigint,
    discounts   bigint,
    currency    char(3)
) ON COMMIT DROP`

	importEventUnitsSQL = `
INSERT INTO unit (key, type, id)
SELECT DISTINCT ON (unit_key) unit_key, unit_type, unit_id
FROM import_event
ORDER BY unit_key
ON CONFLICT DO NOTHING`

	importEventsSQL = `
INSERT INTO event (id, unit_key, type, occurred_at, received_at, value, items_total, discounts, currency)
SELECT DISTINCT ON (id) id, unit_key, type, occurred_at, $1::timestamptz, value, items_total, discounts, currency
FROM import_event
ORDER BY id, row
ON CONFLICT DO NOTHING`
)

// importEvents returns how many were not stored before.
func (s *Store) importEvents(ctx context.Context, tx pgx.Tx, events []experiment.Event) (int64, error) {
	if _, err := tx.Exec(ctx, importEventTableSQL); err != nil {
		return 0, fmt.Errorf("make a table for the batch: %w", err)
	}
	columns := []string{
		"row", "id", "unit_key", "unit_type", "unit_id", "type", "occurred_at",
		"value", "items_total", "discounts", "currency",
	}
	source := pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
		e := &events[i]
		var currency *string
		if e.Currency != "" {
			currency = &e.Currency
		}
		return []any{
			int32(i), [16]byte(e.ID), [16]byte(e.Unit.Key()), e.Unit.Type, e.Unit.ID, e.Type, e.OccurredAt, //nolint:gosec // batches are small
			e.Value, e.ItemsTotal, e.Discounts, currency,
		}, nil
	})
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"import_event"}, columns, source); err != nil {
		return 0, fmt.Errorf("copy the batch: %w", err)
	}
	if _, err := tx.Exec(ctx, importEventUnitsSQL); err != nil {
		return 0, fmt.Errorf("insert units: %w", err)
	}
	tag, err := tx.Exec(ctx, importEventsSQL, s.now())
	if err != nil {
		return 0, fmt.Errorf("insert events: %w", err)
	}
	return tag.RowsAffected(), nil
}
