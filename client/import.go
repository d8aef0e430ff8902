package client

import (
	"context"
	"net/http"
	"time"
)

// ImportedAssignment is one row of ImportAssignments. A zero AssignedAt stands for
// the start of the experiment's run.
type ImportedAssignment struct {
	Unit       string    `json:"unit"`
	Treatment  string    `json:"treatment"`
	AssignedAt time.Time `json:"assigned_at,omitzero"`
}

// AssignmentImport is a batch for the current run of an experiment. Exposed says
// that the units also saw their treatment, when they were assigned.
type AssignmentImport struct {
	Experiment string               `json:"experiment"`
	UnitType   string               `json:"unit_type"`
	Exposed    bool                 `json:"exposed"`
	Rows       []ImportedAssignment `json:"rows"`
}

// ImportedEvent is one row of ImportEvents. ID is a UUID; a zero OccurredAt stands
// for now.
type ImportedEvent struct {
	ID         string    `json:"id"`
	Unit       string    `json:"unit"`
	Type       string    `json:"type"`
	OccurredAt time.Time `json:"occurred_at,omitzero"`
	Value      *float64  `json:"value,omitempty"`
	ItemsTotal *int64    `json:"items_total,omitempty"`
	Discounts  *int64    `json:"discounts,omitempty"`
	Currency   string    `json:"currency,omitempty"`
}

// EventImport is a batch of events of units of one type.
type EventImport struct {
	UnitType string          `json:"unit_type"`
	Rows     []ImportedEvent `json:"rows"`
}

// ImportResult accounts for every row of a batch, once. Those that are Present
// were stored before.
type ImportResult struct {
	Inserted int              `json:"inserted"`
	Present  int              `json:"present"`
	Rejected []RejectedImport `json:"rejected"`
}

// RejectedImport says why a row, counted from 0, was not stored.
type RejectedImport struct {
	Row    int    `json:"row"`
	Reason string `json:"reason"`
}

// Bounds of one batch: its rows, and the bytes of its JSON form.
const (
	MaxImportRows  = 10_000
	MaxImportBytes = 1 << 20
)

// ImportAssignments stores the rows that can be accepted; they are durable. A
// batch may be sent again.
func (c *Client) ImportAssignments(ctx context.Context, batch AssignmentImport) (ImportResult, error) {
	return fetch[ImportResult](ctx, c, call{method: http.MethodPost, path: "/v1/import/assignments", in: batch})
}

// ImportEvents stores the rows that can be accepted; they are durable. A batch
// may be sent again.
func (c *Client) ImportEvents(ctx context.Context, batch EventImport) (ImportResult, error) {
	return fetch[ImportResult](ctx, c, call{method: http.MethodPost, path: "/v1/import/events", in: batch})
}
