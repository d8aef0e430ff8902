package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/client"
	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/httpapi"
)

// importer takes what is valid and rejects units called bad.
type importer struct {
	assignments []experiment.AssignmentImport
	events      []experiment.Event
}

func (m *importer) ImportAssignments(_ context.Context, in experiment.AssignmentImport) (r experiment.ImportResult, _ error) {
	if in.Experiment == "draft" {
		return r, fmt.Errorf("import: %w", &experiment.InvalidError{Field: "experiment", Reason: "has not run yet"})
	}
	m.assignments = append(m.assignments, in)
	for i, row := range in.Rows {
		if row.Unit.ID == "bad" {
			r.Rejected = append(r.Rejected, experiment.Rejection{Row: i, Reason: "conflict"})
		} else {
			r.Inserted++
		}
	}
	return r, nil
}

func (m *importer) ImportEvents(_ context.Context, events []experiment.Event) (experiment.ImportResult, error) {
	m.events = append(m.events, events...)
	return experiment.ImportResult{Inserted: 1, Present: len(events) - 1}, nil
}

func newImportAPI(t *testing.T) (*api, *importer) {
	t.Helper()
	m := &importer{}
	return newAPI(t, func(o *httpapi.Options) {
		o.Extra = httpapi.ImportRoutes(m, openGuard(), clock, slog.New(slog.DiscardHandler))
	}), m
}

func TestImportAssignments(t *testing.T) {
	t.Parallel()
	a, m := newImportAPI(t)
	at := clock().Add(-time.Hour)
	got, err := a.client.ImportAssignments(t.Context(), client.AssignmentImport{
		Experiment: "gate", UnitType: "user", Exposed: true,
		Rows: []client.ImportedAssignment{
			{Unit: "1", Treatment: "blue", AssignedAt: at},
			{Unit: "", Treatment: "blue"},
			{Unit: "bad", Treatment: "blue"},
			{Unit: "2", Treatment: "No such key!"},
			{Unit: "3", Treatment: "blue", AssignedAt: clock().Add(time.Hour)},
			{Unit: "4", Treatment: "blue"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := client.ImportResult{Inserted: 2, Rejected: []client.RejectedImport{
		{Row: 1, Reason: "unit.id: must not be empty"},
		{Row: 3, Reason: "treatment: may hold a-z, 0-9, _ and - only"},
		{Row: 4, Reason: "assigned_at: is more than 5m0s in the future"},
		{Row: 2, Reason: "conflict"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	wantRows := []experiment.ImportedAssignment{
		{Unit: experiment.Unit{Type: "user", ID: "1"}, Treatment: "blue", At: at},
		{Unit: experiment.Unit{Type: "user", ID: "bad"}, Treatment: "blue"},
		{Unit: experiment.Unit{Type: "user", ID: "4"}, Treatment: "blue"},
	}
	if diff := cmp.Diff([]experiment.AssignmentImport{{Experiment: "gate", UnitType: "user", Exposed: true, Rows: wantRows}}, m.assignments); diff != "" {
		t.Errorf("what the store was given (-want +got):\n%s", diff)
	}
}

func TestImportEvents(t *testing.T) {
	t.Parallel()
	a, m := newImportAPI(t)
	const id = "0195a0f4-6c3e-7b1a-9f55-0123456789ab"
	total := int64(-1)
	got, err := a.client.ImportEvents(t.Context(), client.EventImport{UnitType: "user", Rows: []client.ImportedEvent{
		{ID: id, Unit: "1", Type: "seen"},
		{ID: "1", Unit: "1", Type: "seen"},
		{ID: id, Unit: "1", Type: "purchase", ItemsTotal: &total, Currency: "EUR"},
		{ID: id, Unit: "2", Type: "seen", OccurredAt: clock().Add(-time.Hour)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := client.ImportResult{Inserted: 1, Present: 1, Rejected: []client.RejectedImport{
		{Row: 1, Reason: "id: must be a UUID"}, {Row: 2, Reason: "items_total: must not be negative"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if len(m.events) != 2 || !m.events[0].OccurredAt.Equal(clock()) || !m.events[1].OccurredAt.Equal(clock().Add(-time.Hour)) {
		t.Errorf("events = %+v, want the first one now and the other an hour ago", m.events)
	}
}

func TestImport_refused(t *testing.T) {
	t.Parallel()
	a, m := newImportAPI(t)
	row := client.ImportedAssignment{Unit: "1", Treatment: "blue"}
	tests := []struct {
		name       string
		batch      client.AssignmentImport
		wantStatus int
		wantField  string
	}{
		{"no experiment", client.AssignmentImport{Rows: []client.ImportedAssignment{row}}, http.StatusUnprocessableEntity, "experiment"},
		{"a draft", client.AssignmentImport{Experiment: "draft", UnitType: "user", Rows: []client.ImportedAssignment{row}}, http.StatusUnprocessableEntity, "experiment"},
		{"no rows", client.AssignmentImport{Experiment: "gate", UnitType: "user"}, http.StatusUnprocessableEntity, "rows"},
		{"too many rows", client.AssignmentImport{Experiment: "gate", UnitType: "user", Rows: make([]client.ImportedAssignment, client.MaxImportRows+1)}, http.StatusUnprocessableEntity, "rows"},
		{"too large", client.AssignmentImport{Experiment: strings.Repeat("x", client.MaxImportBytes), UnitType: "user"}, http.StatusRequestEntityTooLarge, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := a.client.ImportAssignments(t.Context(), tt.batch)
			p, ok := errors.AsType[*client.Problem](err)
			if !ok || p.Status != tt.wantStatus || p.Field != tt.wantField {
				t.Errorf("import = %v, want %d at field %q", err, tt.wantStatus, tt.wantField)
			}
		})
	}
	if len(m.assignments) > 0 {
		t.Error("something was stored")
	}
}
