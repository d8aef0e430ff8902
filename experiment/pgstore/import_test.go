package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
)

// closed defines an experiment that owns no slots, so that all of its units are
// imported ones.
func closed(key string) experiment.Definition {
	d := half(key, "checkout", 0, 1)
	d.Slots = nil
	return d
}

func imported(i int, treatment string) experiment.ImportedAssignment {
	return experiment.ImportedAssignment{Unit: user(i), Treatment: treatment}
}

// importInto imports rows of users into an experiment.
func importInto(tb testing.TB, s *pgstore.Store, key string, exposed bool, rows ...experiment.ImportedAssignment) experiment.ImportResult {
	tb.Helper()
	got, err := s.ImportAssignments(tb.Context(), experiment.AssignmentImport{
		Experiment: key, UnitType: "user", Exposed: exposed, Rows: rows,
	})
	if err != nil {
		tb.Fatalf("ImportAssignments() = %v", err)
	}
	return got
}

func wantResult(tb testing.TB, got, want experiment.ImportResult) {
	tb.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		tb.Errorf("result (-want +got):\n%s", diff)
	}
}

func TestImportAssignments(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	s := start(t, options(pool))
	mustLayer(t, s, "checkout")
	mustRun(t, s, closed("button"))
	mustMove(t, s, "button", experiment.StatePaused)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

	// In the middle of the batch: an unknown treatment, a repeat and a contradiction.
	rows := []experiment.ImportedAssignment{
		{Unit: user(1), Treatment: "green", At: at},
		imported(2, "control"),
		imported(3, "blue"),
		imported(2, "control"),
		imported(2, "green"),
		imported(4, "green"),
	}
	conflicts := []experiment.Rejection{{Row: 2, Reason: "unknown treatment blue"}, {Row: 4, Reason: "conflict: has control"}}
	wantResult(t, importInto(t, s, "button", true, rows...), experiment.ImportResult{Inserted: 3, Present: 1, Rejected: conflicts})

	// The same batch again, as after a lost answer, changes nothing.
	before := count(t, pool, "SELECT version FROM definitions")
	wantResult(t, importInto(t, s, "button", true, rows...), experiment.ImportResult{Present: 4, Rejected: conflicts})
	if after := count(t, pool, "SELECT version FROM definitions"); after != before {
		t.Errorf("definitions went from version %d to %d though nothing came in", before, after)
	}

	h, err := s.UnitHistory(t.Context(), user(1))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Assignments) != 1 || !h.Assignments[0].AssignedAt.Equal(at) || h.Assignments[0].ExposedAt == nil || !h.Assignments[0].ExposedAt.Equal(at) {
		t.Errorf("history of unit 1 = %+v, want assigned and exposed at %s", h.Assignments, at)
	}
	started := `SELECT count(*) FROM exposure x JOIN run r ON r.id = x.run_id WHERE x.exposed_at = r.started_at`
	if got := count(t, pool, started); got != 2 {
		t.Errorf("%d units without a time are exposed at the start of the run, want 2", got)
	}
	if got := count(t, pool, "SELECT count(*) FROM unit"); got != 3 {
		t.Errorf("%d units stored, want 3: none of a rejected row", got)
	}
	if d := mustTreat(t, s, user(4), "button"); d.Treatment != "green" {
		t.Errorf("imported unit gets %+v, want green", d)
	}
}

func TestImportAssignments_withoutExposure(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	s := start(t, options(pool))
	mustLayer(t, s, "checkout")
	mustRun(t, s, half("button", "checkout", 0, 5000))
	importInto(t, s, "button", false, imported(1, "green"))
	if got := count(t, pool, "SELECT count(*) FROM exposure"); got != 0 {
		t.Errorf("%d exposures, want none", got)
	}
	// Importing it once more as exposed confirms it.
	importInto(t, s, "button", true, imported(1, "green"), imported(1, "control"))
	if got := count(t, pool, "SELECT count(*) FROM exposure"); got != 1 {
		t.Errorf("%d exposures, want 1", got)
	}
}

func TestImportAssignments_refused(t *testing.T) {
	t.Parallel()
	s := start(t, options(newDB(t)))
	mustLayer(t, s, "checkout")
	if _, err := s.CreateExperiment(t.Context(), half("draft", "checkout", 0, 10)); err != nil {
		t.Fatal(err)
	}
	mustRun(t, s, half("running", "checkout", 10, 20))
	mustRun(t, s, half("stopped", "checkout", 20, 30))
	mustMove(t, s, "stopped", experiment.StateStopped)
	mustRun(t, s, half("archived", "checkout", 30, 40))
	mustMove(t, s, "archived", experiment.StateStopped)
	mustMove(t, s, "archived", experiment.StateArchived)

	wantResult(t, importInto(t, s, "stopped", true, imported(1, "green")), experiment.ImportResult{Inserted: 1})
	tests := []struct{ experiment, unitType, wantField, wantReason string }{
		{"nothing", "user", "experiment", "does not exist"},
		{"draft", "user", "experiment", "start it"},
		{"archived", "user", "experiment", "archived"},
		{"running", "device", "unit_type", `assigns units of type "user"`},
	}
	for _, tt := range tests {
		_, err := s.ImportAssignments(t.Context(), experiment.AssignmentImport{
			Experiment: tt.experiment, UnitType: tt.unitType, Rows: []experiment.ImportedAssignment{imported(2, "green")},
		})
		invalid, ok := errors.AsType[*experiment.InvalidError](err)
		if !ok || invalid.Field != tt.wantField || !strings.Contains(invalid.Reason, tt.wantReason) {
			t.Errorf("import into %s = %v, want %s: …%s…", tt.experiment, err, tt.wantField, tt.wantReason)
		}
	}
}

// TestImportAssignments_reachesCaches shows that neither this node nor another one
// goes on answering what it had cached.
func TestImportAssignments_reachesCaches(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	here, there := start(t, options(pool)), start(t, options(pool))
	mustLayer(t, here, "checkout")
	mustRun(t, here, closed("button"))
	for _, s := range []*pgstore.Store{here, there} {
		for d := mustTreat(t, s, user(1), "button"); d.Reason != experiment.ReasonTraffic; d = mustTreat(t, s, user(1), "button") {
			if d.Reason != experiment.ReasonUnknownExperiment {
				t.Fatalf("before the import: %+v", d)
			}
		}
	}
	importInto(t, here, "button", true, imported(1, "green"))
	if d := mustTreat(t, here, user(1), "button"); d.Treatment != "green" {
		t.Errorf("the importing node answers %+v right after the import, want green", d)
	}
	deadline := time.Now().Add(30 * time.Second)
	for mustTreat(t, there, user(1), "button").Treatment != "green" {
		if time.Now().After(deadline) {
			t.Fatal("the other node goes on answering from its cache")
		}
	}
}

// TestImportAssignments_exclusive lets nodes enrol units in one experiment while
// the same units are imported into another one of the layer.
func TestImportAssignments_exclusive(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	a, b := start(t, options(pool)), start(t, options(pool))
	mustLayer(t, a, "checkout")
	mustRun(t, a, half("traffic", "checkout", 0, experiment.SlotCount))
	mustRun(t, a, closed("history"))
	const units = 200
	for i := range 20 { // some come before the import for sure
		if d := mustTreat(t, a, user(i*units/20), "traffic"); d.Reason != experiment.ReasonAssigned {
			t.Fatalf("before the import: %+v", d)
		}
	}
	var wg sync.WaitGroup
	for _, s := range []*pgstore.Store{a, b} {
		for w := range 8 {
			wg.Go(func() {
				for i := w; i < units; i += 8 {
					if _, err := s.Treatments(t.Context(), user(i), nil); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	conflicts := 0
	for from := 0; from < units; from += 20 {
		rows := make([]experiment.ImportedAssignment, 0, 20)
		for i := from; i < from+20; i++ {
			rows = append(rows, imported(units-1-i, "green"))
		}
		for _, r := range importInto(t, a, "history", true, rows...).Rejected {
			conflicts++
			if r.Reason != "conflict: is in experiment traffic" {
				t.Errorf("row rejected because %q", r.Reason)
			}
		}
	}
	wg.Wait()
	if got := count(t, pool, "SELECT count(*) FROM (SELECT unit_key FROM assignment GROUP BY unit_key HAVING count(*) > 1) twice"); got != 0 {
		t.Errorf("%d units are in two experiments of one layer", got)
	}
	inHistory := count(t, pool, "SELECT count(*) FROM assignment a JOIN experiment e ON e.run_id = a.run_id WHERE e.key = 'history'")
	if inHistory+conflicts != units {
		t.Errorf("%d units imported and %d in conflict, want %d together", inHistory, conflicts, units)
	}
	for i := range units {
		if x, y := mustTreat(t, a, user(i), "history"), mustTreat(t, b, user(i), "history"); x.Treatment != y.Treatment && x.Treatment != "" && y.Treatment != "" {
			t.Errorf("unit %d: %+v on one node, %+v on the other", i, x, y)
		}
	}
	t.Logf("%d of %d units were enrolled before the import came", conflicts, units)
}

func TestImportEvents(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	s := start(t, options(pool))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	value, total, off := 0.1, int64(1999), int64(99)
	event := func(id byte, e experiment.Event) experiment.Event {
		e.ID, e.Unit, e.OccurredAt = experiment.EventID{15: id}, user(int(id)), at
		return e
	}
	purchase := event(1, experiment.Event{Type: "purchase", ItemsTotal: &total, Discounts: &off, Currency: "EUR"})
	events := []experiment.Event{
		purchase, event(2, experiment.Event{Type: "rounds", Value: &value}), event(2, experiment.Event{Type: "later"}), event(3, experiment.Event{Type: "seen"}),
	}
	for i, want := range []experiment.ImportResult{{Inserted: 3, Present: 1}, {Present: 4}} {
		got, err := s.ImportEvents(t.Context(), events)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("import %d (-want +got):\n%s", i+1, diff)
		}
	}
	if got := count(t, pool, "SELECT count(*) FROM event WHERE type = 'later'"); got != 0 {
		t.Error("of two events with one id the second was stored")
	}
	h, err := s.UnitHistory(t.Context(), user(1))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]experiment.Event{purchase}, h.Events); diff != "" {
		t.Errorf("stored event (-want +got):\n%s", diff)
	}
	// What is imported and what comes through the API are the same events.
	results, err := s.Record(t.Context(), events[:1])
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Outcome != experiment.EventDuplicate {
		t.Errorf("recording an imported event = %v, want duplicate", results[0].Outcome)
	}
}

// lossyDB loses the answer of every commit once and runs the work again, as the
// pools do when a connection dies in COMMIT.
type lossyDB struct{ pgtest.DB }

func (d lossyDB) Do(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	if err := d.DB.Do(ctx, fn); err != nil {
		return err
	}
	return d.DB.Do(ctx, fn)
}

func (d lossyDB) Read(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	return d.Do(ctx, fn)
}

func TestImport_runAgain(t *testing.T) {
	t.Parallel()
	pool := newDB(t)
	o := options(pool)
	o.DB = lossyDB{pgtest.DB{Pool: pool}}
	s := start(t, o)
	mustLayer(t, s, "checkout")
	mustRun(t, s, closed("button"))
	var rows []experiment.ImportedAssignment
	var events []experiment.Event
	for i := range 100 {
		rows = append(rows, imported(i, []string{"control", "green"}[i%2]))
		events = append(events, experiment.Event{ID: experiment.EventID{1, 15: byte(i)}, Unit: user(i), Type: "seen", OccurredAt: time.Now()})
	}
	// Every row is accounted for, as stored before: by the try whose answer was lost.
	wantResult(t, importInto(t, s, "button", true, rows...), experiment.ImportResult{Present: 100})
	got, err := s.ImportEvents(t.Context(), events)
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, got, experiment.ImportResult{Present: 100})
	for _, table := range []string{"assignment", "exposure", "event", "unit"} {
		if got := count(t, pool, "SELECT count(*) FROM "+table); got != 100 {
			t.Errorf("%d rows of %s, want 100", got, table)
		}
	}
	if d := mustTreat(t, s, user(1), "button"); d.Treatment != "green" {
		t.Errorf("imported unit gets %+v, want green", d)
	}
}

func BenchmarkImport(b *testing.B) {
	s := start(b, options(newDB(b)))
	mustLayer(b, s, "checkout")
	mustRun(b, s, closed("button"))
	const batch = 5000
	b.Run("assignments", func(b *testing.B) {
		rows := make([]experiment.ImportedAssignment, batch)
		for n := 0; b.Loop(); n++ {
			for i := range rows {
				rows[i] = experiment.ImportedAssignment{Unit: experiment.Unit{Type: "user", ID: fmt.Sprintf("%s-%d-%d", b.Name(), n, i)}, Treatment: "green"}
			}
			importInto(b, s, "button", true, rows...)
		}
		b.ReportMetric(float64(batch*b.N)/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("events", func(b *testing.B) {
		events := make([]experiment.Event, batch)
		for n := 0; b.Loop(); n++ {
			for i := range events {
				events[i] = experiment.Event{
					ID:   experiment.EventID{0: byte(n >> 8), 1: byte(n), 14: byte(i >> 8), 15: byte(i)},
					Unit: user(n*batch + i), Type: "seen", OccurredAt: time.Now(),
				}
			}
			if _, err := s.ImportEvents(b.Context(), events); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(batch*b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}
