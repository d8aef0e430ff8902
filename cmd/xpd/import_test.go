package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/client/csvimport"
	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/httpapi"
	"github.com/xpd-platform/xpd/internal/access"
	"github.com/xpd-platform/xpd/report"
	reportapi "github.com/xpd-platform/xpd/report/httpapi"
)

// shop stores what is imported, and has a report on one experiment.
type shop struct {
	assignments []experiment.AssignmentImport
	events      []experiment.Event
}

func (s *shop) ImportAssignments(_ context.Context, in experiment.AssignmentImport) (experiment.ImportResult, error) {
	if in.Experiment != "gate" {
		return experiment.ImportResult{}, &experiment.InvalidError{Field: "experiment", Reason: "does not exist"}
	}
	s.assignments = append(s.assignments, in)
	return experiment.ImportResult{Inserted: len(in.Rows)}, nil
}

func (s *shop) ImportEvents(_ context.Context, events []experiment.Event) (experiment.ImportResult, error) {
	s.events = append(s.events, events...)
	return experiment.ImportResult{Inserted: len(events)}, nil
}

func (s *shop) Report(_ context.Context, key string) (report.Report, error) {
	if key != "gate" {
		return report.Report{}, experiment.ErrNotFound
	}
	return report.Report{Experiment: key, Run: 2, State: experiment.StateStopped, StartedAt: time.Unix(0, 0).UTC()}, nil
}

// runAt runs a command against a service with s behind it.
func runAt(t *testing.T, s *shop, stdin string, args ...string) (stdout string, err error) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	guard := access.New(access.Options{Logger: logger, Registry: prometheus.NewRegistry()}) // asks nobody for a token
	r := chi.NewRouter()
	r.Group(httpapi.ImportRoutes(s, guard, time.Now, logger))
	r.Group(reportapi.Routes(s, guard, logger))
	server := httptest.NewServer(r)
	defer server.Close()
	var out, trouble bytes.Buffer
	err = run(t.Context(), append(args, "--server", server.URL), streams{strings.NewReader(stdin), &out, &trouble})
	return out.String(), err
}

func input(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImportAssignments(t *testing.T) {
	t.Parallel()
	path := input(t, "id,arm,at\n1,blue,2026-01-02T03:04:05Z\n2,green,yesterday\n3,green,2026-01-02T03:04:05+01:00\n")
	s := &shop{}
	args := []string{
		"import", "assignments", path, "--experiment", "gate", "--unit-type", "device",
		"--unit-column", "id", "--treatment-column", "arm", "--assigned-at-column", "at", "--no-exposure",
	}
	out, err := runAt(t, s, "", args...)
	if exit, ok := errors.AsType[exitError](err); !ok || exit.code != 3 {
		t.Errorf("run() = %v, want exit code 3 for a rejected line", err)
	}
	want := "3 lines: 2 assignments stored, 0 were stored before\n1 lines were left out: " + path + ".rejects.csv says which and why\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	rejects, err := os.ReadFile(path + ".rejects.csv")
	if err != nil || !strings.Contains(string(rejects), "3,at must be a time") {
		t.Errorf("rejects = %q, %v", rejects, err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	device := func(id string) experiment.Unit { return experiment.Unit{Type: "device", ID: id} }
	batches := []experiment.AssignmentImport{{Experiment: "gate", UnitType: "device", Rows: []experiment.ImportedAssignment{
		{Unit: device("1"), Treatment: "blue", At: at}, {Unit: device("3"), Treatment: "green", At: at.Add(-time.Hour)},
	}}}
	if diff := cmp.Diff(batches, s.assignments); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

func TestImportEvents_stdin(t *testing.T) {
	t.Parallel()
	s := &shop{}
	out, err := runAt(t, s, "id,won,total\n1,1,250\n2,0,\n", "import", "events", "-", "--json", "--rejects", filepath.Join(t.TempDir(), "rejects.csv"),
		"--unit-column", "id", "--event", "won=won:bool", "--items-total-column", "total", "--currency", "EUR", "--occurred-at", "2026-01-02T03:04:05Z")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"lines":2,"rejected":0,"inserted":2,"present":0}`+"\n", out); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if len(s.events) != 2 || s.events[0].Type != "won" || *s.events[1].ItemsTotal != 250 || s.events[1].OccurredAt.Year() != 2026 {
		t.Errorf("stored %+v", s.events)
	}
}

func TestImport_fails(t *testing.T) {
	t.Parallel()
	path := input(t, "id,arm\n1,blue\n")
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no such column", []string{"assignments", path, "--experiment", "gate", "--unit-column", "user", "--treatment-column", "arm"}, `there is no column "user", but: id, arm`},
		{"no such experiment", []string{"assignments", path, "--experiment", "none", "--unit-column", "id", "--treatment-column", "arm"}, "experiment: does not exist"},
		{"no such file", []string{"events", path + "x", "--unit-column", "id", "--event", "a=arm"}, "no such file"},
		{"nothing to import", []string{"events", path, "--unit-column", "id"}, "name columns by --event"},
		{"two times", []string{"events", path, "--unit-column", "id", "--event", "a=arm", "--occurred-at-column", "arm", "--occurred-at", "2026-01-02T03:04:05Z"}, "can't be used together"},
		{"no event column", []string{"events", path, "--unit-column", "id", "--event", "arm"}, `--event: "arm" is not TYPE=COLUMN`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := runAt(t, &shop{}, "", append([]string{"import"}, tt.args...)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("run() = %v, want …%s…", err, tt.want)
			}
		})
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	out, err := runAt(t, &shop{}, "", "report", "gate")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out, "gate\nrun 2, stopped, started 1970-01-01 00:00 UTC\n") {
		t.Errorf("output = %s", out)
	}
	if out, err = runAt(t, &shop{}, "", "report", "gate", "--json"); err != nil {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Run != 2 {
		t.Errorf("--json printed %s (%v)", out, err)
	}
	if _, err := runAt(t, &shop{}, "", "report", "none"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("report on an unknown experiment = %v, want a 404", err)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	now := csvimport.Progress{Bytes: 500, Size: 1000, Result: csvimport.Result{Lines: 1_234_567, Rejected: 8}}
	var log bytes.Buffer
	p := newProgress(&log, "events")
	p.show(now) // too soon
	p.last = p.last.Add(-progressEvery)
	p.show(now)
	p.end()
	if diff := cmp.Diff("events: 1,234,567 lines, 50 % of the file, 8 rejected\n", log.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	for _, size := range []int64{0, 1000} {
		var screen bytes.Buffer
		bar := progress{w: &screen, what: "events", terminal: true}
		now.Size = size
		bar.show(now)
		bar.end()
		if !strings.Contains(screen.String(), "events") {
			t.Errorf("the bar shows %q", screen.String())
		}
	}
}
