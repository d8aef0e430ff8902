package report_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/pgstore"
	"github.com/xpd-platform/xpd/internal/pgtest"
	"github.com/xpd-platform/xpd/report"
)

// fixture is a store, which runs until the test ends, with a reporter.
type fixture struct {
	*pgstore.Store
	*report.Reporter

	pool *pgxpool.Pool
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	pool := pgtest.New(t)
	if err := pgstore.Migrate(t.Context(), pool.Config().ConnConfig); err != nil {
		t.Fatal(err)
	}
	store, err := pgstore.New(pgstore.Options{
		DB: pgtest.DB{Pool: pool}, Now: time.Now, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		ListenConn: func(ctx context.Context) (*pgx.Conn, error) {
			return pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	reporter, err := report.New(report.Options{DB: pgtest.DB{Pool: pool}, Experiments: store, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.CreateLayer(t.Context(), experiment.Layer{Key: "shop", UnitType: "user"}); err != nil {
		t.Fatal(err)
	}
	return fixture{store, reporter, pool}
}

// define creates a draft with these weights; the first treatment is the control.
func (f fixture) define(t *testing.T, metrics []experiment.Metric, weights map[string]int, order ...string) experiment.Definition {
	t.Helper()
	d := experiment.Definition{Key: "button", Layer: "shop", Metrics: metrics}
	for i, key := range order {
		d.Treatments = append(d.Treatments, experiment.Treatment{Key: key, Control: i == 0, Weight: weights[key]})
	}
	if _, err := f.CreateExperiment(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (f fixture) start(t *testing.T) {
	t.Helper()
	if _, err := f.MoveExperiment(t.Context(), "button", experiment.StateRunning, 0); err != nil {
		t.Fatal(err)
	}
}

// assign gives units a treatment, which they saw at the same time.
func (f fixture) assign(t *testing.T, treatment string, at time.Time, ids ...string) {
	t.Helper()
	in := experiment.AssignmentImport{Experiment: "button", UnitType: "user", Exposed: true}
	for _, id := range ids {
		in.Rows = append(in.Rows, experiment.ImportedAssignment{Unit: unit(id), Treatment: treatment, At: at})
	}
	got, err := f.ImportAssignments(t.Context(), in)
	if err != nil || got.Inserted != len(ids) {
		t.Fatalf("import = %+v, %v, want %d rows", got, err, len(ids))
	}
}

func (f fixture) record(t *testing.T, events ...experiment.Event) {
	t.Helper()
	for i := range events {
		events[i].ID = experiment.EventID(uuid.New())
	}
	if _, err := f.ImportEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

func (f fixture) report(t *testing.T) report.Report {
	t.Helper()
	r, err := f.Report(t.Context(), "button")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func unit(id string) experiment.Unit { return experiment.Unit{Type: "user", ID: id} }

func units(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return ids
}

func purchase(id string, at time.Time, total int64, currency string) experiment.Event {
	return experiment.Event{Unit: unit(id), Type: "purchase", OccurredAt: at, ItemsTotal: &total, Currency: currency}
}

func valued(id string, at time.Time, value float64) experiment.Event {
	return experiment.Event{Unit: unit(id), Type: "rounds", OccurredAt: at, Value: &value}
}

func TestReport_countsFromTheExposure(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.define(t, nil, map[string]int{"blue": 1, "green": 1}, "blue", "green")
	f.start(t)
	at := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	f.assign(t, "blue", at, "b1", "b2")
	f.assign(t, "green", at, "g1", "g2", "g3")
	// An assigned unit that never saw its treatment is in the split, and nowhere else.
	unseen := experiment.AssignmentImport{
		Experiment: "button", UnitType: "user", Rows: []experiment.ImportedAssignment{{Unit: unit("b3"), Treatment: "blue", At: at}},
	}
	if _, err := f.ImportAssignments(t.Context(), unseen); err != nil {
		t.Fatal(err)
	}
	f.record(t,
		purchase("b1", at.Add(-time.Microsecond), 10_000, "EUR"), // before
		purchase("g1", at, 500, "EUR"),                           // equality counts
		purchase("g1", at.Add(time.Minute), 700, "EUR"),
		purchase("b3", at.Add(time.Minute), 10_000, "EUR"),
		purchase("stranger", at.Add(time.Minute), 10_000, "EUR"),
		valued("b2", at.Add(time.Minute), 5), // another type
	)
	r := f.report(t)
	if got := r.Treatments[0]; got.Assigned != 3 || got.Exposed != 2 || !got.Control {
		t.Errorf("control = %+v, want 3 assigned and 2 exposed", got)
	}
	if len(r.Metrics) != 2 || r.Metrics[0].Metric != "conversion" || r.Metrics[1].Metric != "sales_per_unit" {
		t.Fatalf("metrics = %+v, want conversion and sales_per_unit where none is named", r.Metrics)
	}
	conversion, sales := r.Metrics[0].Results, r.Metrics[1].Results
	if conversion[0].Converted != 0 || conversion[0].Units != 2 || conversion[1].Converted != 1 || conversion[1].Units != 3 {
		t.Errorf("conversion = %+v, want 0 of 2 and 1 of 3", conversion)
	}
	if sales[0].Value.Value != 0 || sales[1].Value.Value != 400 || r.Metrics[1].Currency != "EUR" {
		t.Errorf("sales per unit = %+v, want 0 and 400 EUR", r.Metrics[1])
	}
	if sales[0].Comparison != nil || sales[1].Comparison == nil {
		t.Error("want comparisons of all but the control")
	}
}

func TestReport_exact(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.define(t, []experiment.Metric{{Key: "rounds", Kind: experiment.MetricMean, Event: "rounds"}}, map[string]int{"blue": 1, "green": 1}, "blue", "green")
	f.start(t)
	at := time.Now().Add(-time.Hour)
	f.assign(t, "blue", at, units("b", 300)...)
	f.assign(t, "green", at, units("g", 300)...)
	var events []experiment.Event
	for _, prefix := range []string{"b", "g"} {
		for _, id := range units(prefix, 300) {
			events = append(events, valued(id, at, 0.1), valued(id, at.Add(time.Second), 0.2))
		}
	}
	f.record(t, events...)
	m := f.report(t).Metrics[0]
	for _, r := range m.Results {
		// A float8 sum of tenths would end in …04 and vary.
		if r.Value.Value != 0.3 || r.Variance.Value != 0 {
			t.Errorf("%s: mean %v, variance %v, want exactly 0.3 and 0", r.Treatment, r.Value.Value, r.Variance.Value)
		}
	}
}

func TestReport_problems(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.define(t, []experiment.Metric{
		{Key: "sales", Kind: experiment.MetricSales, Event: "purchase"},
		{Key: "rounds", Kind: experiment.MetricMean, Event: "rounds"},
		{Key: "conversion", Kind: experiment.MetricConversion, Event: "purchase"},
	}, map[string]int{"blue": 1, "green": 1}, "blue", "green")

	_, err := f.Report(t.Context(), "button")
	if invalid, ok := errors.AsType[*experiment.InvalidError](err); !ok || !strings.Contains(invalid.Reason, "start it") {
		t.Errorf("report on a draft = %v, want an InvalidError that says what to do", err)
	}
	if _, err := f.Report(t.Context(), "nothing"); !errors.Is(err, experiment.ErrNotFound) {
		t.Errorf("report on an unknown experiment = %v, want ErrNotFound", err)
	}
	f.start(t)
	empty := f.report(t)
	if empty.SRM.P.Defined || empty.Metrics[0].Results[0].Value.Defined {
		t.Errorf("report without units = %+v, want undefined results", empty)
	}
	at := time.Now().Add(-time.Hour)
	f.assign(t, "blue", at, "b1", "b2")
	f.assign(t, "green", at, "g1", "g2")
	f.record(t, purchase("b1", at, 100, "EUR"), purchase("g1", at, 100, "USD"), valued("b1", at, 1e200), valued("g1", at, 1))
	r := f.report(t)
	if got := r.Metrics[0].Problem; got != "sales in EUR and USD cannot be added up" {
		t.Errorf("problem of sales = %q", got)
	}
	if got := r.Metrics[1].Problem; !strings.Contains(got, "too large") {
		t.Errorf("problem of rounds = %q", got)
	}
	if got := r.Metrics[2]; got.Problem != "" || got.Results[1].Converted != 1 {
		t.Errorf("the other metric = %+v, want results", got)
	}
}

// TestReport_splitAfterReweighting would be a mismatch by today's weights.
func TestReport_splitAfterReweighting(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d := f.define(t, nil, map[string]int{"blue": 3, "green": 1}, "blue", "green")
	f.start(t)
	at := time.Now().Add(-time.Hour)
	f.assign(t, "blue", at, units("b", 300)...)
	f.assign(t, "green", at, units("g", 100)...)
	if got := f.report(t).SRM; got.Mismatch || got.P.Value < 0.99 {
		t.Errorf("split by the weights = %+v, want no doubt", got)
	}
	d.Treatments[0].Weight, d.Treatments[1].Weight = 0, 1 // closes blue
	if _, err := f.ReviseExperiment(t.Context(), d, 0); err != nil {
		t.Fatal(err)
	}
	if got := f.report(t).SRM; got.Mismatch || got.P.Value < 0.99 {
		t.Errorf("split after a change of weights = %+v, want no doubt", got)
	}
	f.assign(t, "green", at, units("h", 100)...)
	if got := f.report(t).SRM; got.Mismatch || got.P.Value < 0.99 {
		t.Errorf("split with units of both weights = %+v, want no doubt", got)
	}
	f.assign(t, "blue", at, units("c", 100)...) // where the weight says none
	if got := f.report(t).SRM; !got.Mismatch {
		t.Errorf("split against the weights = %+v, want a mismatch", got)
	}
}

func TestReport_bounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.define(t, nil, map[string]int{"blue": 1, "green": 1}, "blue", "green")
	f.start(t)
	tx, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), "LOCK TABLE event"); err != nil { // stands for a query that takes long
		t.Fatal(err)
	}
	hasty, err := report.New(report.Options{DB: pgtest.DB{Pool: f.pool}, Experiments: f.Store, Now: time.Now, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hasty.Report(t.Context(), "button"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("report behind a lock = %v, want DeadlineExceeded", err)
	}
}

// gated is a DB whose reads wait until the gate opens.
type gated struct {
	pgtest.DB
	gate          <-chan struct{}
	running, most *atomic.Int64
}

func (d gated) Read(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	n := d.running.Add(1)
	defer d.running.Add(-1)
	for most := d.most.Load(); n > most; most = d.most.Load() {
		if d.most.CompareAndSwap(most, n) {
			break
		}
	}
	select {
	case <-d.gate:
		return d.DB.Read(ctx, fn)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// However many reports are asked for, few run at a time, a few more wait, and the
// rest is refused at once: connections are left to what must be quick.
func TestReport_fewAtATime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.define(t, nil, map[string]int{"blue": 1, "green": 1}, "blue", "green")
	f.start(t)
	gate := make(chan struct{})
	var running, most atomic.Int64
	r, err := report.New(report.Options{
		DB: gated{pgtest.DB{Pool: f.pool}, gate, &running, &most}, Experiments: f.Store, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	const asked, together, waiting = 30, 2, 8
	results := make(chan error, asked)
	for range asked {
		go func() {
			_, err := r.Report(t.Context(), "button")
			results <- err
		}()
	}
	for range asked - together - waiting {
		select {
		case err := <-results:
			if !errors.Is(err, experiment.ErrOverloaded) {
				t.Errorf("report beyond the bound = %v, want ErrOverloaded", err)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%d reports run at a time, and none is refused", running.Load())
		}
	}
	close(gate)
	for range together + waiting {
		if err := <-results; err != nil {
			t.Errorf("report that waited = %v", err)
		}
	}
	if most.Load() > together {
		t.Errorf("%d reports ran at a time, want at most %d", most.Load(), together)
	}
}
