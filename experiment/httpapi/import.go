package httpapi

import (
	"context"
	_ "embed" // for the fragment of OpenAPI
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/internal/problem"
)

//go:embed import_openapi.json
var importOpenAPI []byte

const (
	maxImportRows = 10_000
	// importTimeout leaves a large batch the time to see a failover through.
	importTimeout = 30 * time.Second
)

// Importer keeps what was made elsewhere, in large batches that are durable when
// it returns. Sending one again changes nothing. It may expect valid rows, and
// returns an *experiment.InvalidError for a batch that can never be accepted.
type Importer interface {
	ImportAssignments(ctx context.Context, in experiment.AssignmentImport) (experiment.ImportResult, error)
	ImportEvents(ctx context.Context, events []experiment.Event) (experiment.ImportResult, error)
}

// ImportRoutes returns the routes of imports, for Options.Extra.
func ImportRoutes(importer Importer, guard *access.Guard, now func() time.Time, logger *slog.Logger) func(chi.Router) {
	s := &importServer{importer: importer, now: now}
	return func(r chi.Router) {
		r = r.With(deadline(importTimeout), guard.Require(access.RoleIngest))
		r.Post("/v1/import/assignments", problem.Handle(logger, Classify, s.assignments))
		r.Post("/v1/import/events", problem.Handle(logger, Classify, s.events))
	}
}

// ImportOpenAPI describes the routes of imports, for Options.OpenAPI.
func ImportOpenAPI() json.RawMessage { return importOpenAPI }

type importServer struct {
	importer Importer
	now      func() time.Time
}

type importAssignmentsRequest struct {
	Experiment string                `json:"experiment"`
	UnitType   string                `json:"unit_type"`
	Exposed    bool                  `json:"exposed"`
	Rows       []importAssignmentRow `json:"rows"`
}

type importAssignmentRow struct {
	Unit       string `json:"unit"`
	Treatment  string `json:"treatment"`
	AssignedAt string `json:"assigned_at"` // absent: when the run started
}

func (r importAssignmentRow) domain(unitType string, now time.Time) (experiment.ImportedAssignment, error) {
	unit, err := unitJSON{Type: unitType, ID: r.Unit}.domain()
	if err != nil {
		return experiment.ImportedAssignment{}, err
	}
	a := experiment.ImportedAssignment{Unit: unit, Treatment: r.Treatment}
	if r.AssignedAt != "" {
		if a.At, err = parseTime("assigned_at", r.AssignedAt); err != nil {
			return a, err
		}
	}
	return a, a.Validate(now)
}

type importResponse struct {
	Inserted int               `json:"inserted"`
	Present  int               `json:"present"`
	Rejected []importRejection `json:"rejected"`
}

type importRejection struct {
	Row    int    `json:"row"`
	Reason string `json:"reason"`
}

func (s *importServer) assignments(w http.ResponseWriter, r *http.Request) error {
	var req importAssignmentsRequest
	if err := problem.Decode(w, r, maxBatchBody, &req); err != nil {
		return err
	}
	if req.Experiment == "" {
		return invalid("experiment", "is required")
	}
	if err := checkImportRows(len(req.Rows)); err != nil {
		return err
	}
	batch := experiment.AssignmentImport{Experiment: req.Experiment, UnitType: req.UnitType, Exposed: req.Exposed}
	now := s.now()
	rows, places, resp := importRows(req.Rows, func(row importAssignmentRow) (experiment.ImportedAssignment, error) {
		return row.domain(req.UnitType, now)
	})
	// Sent even without a valid row: that the experiment takes none is worth more
	// to know than what is wrong with each.
	batch.Rows = rows
	result, err := s.importer.ImportAssignments(r.Context(), batch)
	if err != nil {
		return err
	}
	resp.add(result, places)
	return problem.WriteJSON(w, http.StatusOK, resp)
}

type importEventsRequest struct {
	UnitType string           `json:"unit_type"`
	Rows     []importEventRow `json:"rows"`
}

type importEventRow struct {
	ID         string   `json:"id"`
	Unit       string   `json:"unit"`
	Type       string   `json:"type"`
	OccurredAt string   `json:"occurred_at"` // absent: now
	Value      *float64 `json:"value"`
	ItemsTotal *int64   `json:"items_total"`
	Discounts  *int64   `json:"discounts"`
	Currency   string   `json:"currency"`
}

func (r importEventRow) domain(unitType string, now time.Time) (experiment.Event, error) {
	in := eventJSON{
		ID: r.ID, Unit: unitJSON{Type: unitType, ID: r.Unit}, Type: r.Type, OccurredAt: r.OccurredAt,
		Value: r.Value, ItemsTotal: r.ItemsTotal, Discounts: r.Discounts, Currency: r.Currency,
	}
	if in.OccurredAt == "" {
		in.OccurredAt = now.UTC().Format(time.RFC3339Nano)
	}
	e, err := in.domain()
	if err != nil {
		return e, err
	}
	return e, e.Validate(now)
}

func (s *importServer) events(w http.ResponseWriter, r *http.Request) error {
	var req importEventsRequest
	if err := problem.Decode(w, r, maxBatchBody, &req); err != nil {
		return err
	}
	if err := checkImportRows(len(req.Rows)); err != nil {
		return err
	}
	now := s.now()
	events, places, resp := importRows(req.Rows, func(row importEventRow) (experiment.Event, error) {
		return row.domain(req.UnitType, now)
	})
	if len(events) > 0 {
		result, err := s.importer.ImportEvents(r.Context(), events)
		if err != nil {
			return err
		}
		resp.add(result, places)
	}
	return problem.WriteJSON(w, http.StatusOK, resp)
}

func checkImportRows(n int) error {
	if n == 0 || n > maxImportRows {
		return invalid("rows", "must be 1 to %d", maxImportRows)
	}
	return nil
}

// importRows returns the valid rows with their places in the request, and an
// answer that has the other ones rejected.
func importRows[In, Out any](in []In, parse func(In) (Out, error)) (rows []Out, places []int, resp *importResponse) {
	rows, places = make([]Out, 0, len(in)), make([]int, 0, len(in))
	resp = &importResponse{Rejected: []importRejection{}}
	for i, raw := range in {
		row, err := parse(raw)
		if err != nil {
			resp.Rejected = append(resp.Rejected, importRejection{i, rowReason(err)})
			continue
		}
		rows = append(rows, row)
		places = append(places, i)
	}
	return rows, places, resp
}

// rowReason names the field without the path to it, as the row says that.
func rowReason(err error) string {
	if e, ok := errors.AsType[*experiment.InvalidError](err); ok {
		return e.Error()
	}
	return "is not valid"
}

// add takes in what the importer said about the rows that were in those places.
func (resp *importResponse) add(result experiment.ImportResult, places []int) {
	resp.Inserted, resp.Present = result.Inserted, result.Present
	for _, r := range result.Rejected {
		resp.Rejected = append(resp.Rejected, importRejection{places[r.Row], r.Reason})
	}
}
