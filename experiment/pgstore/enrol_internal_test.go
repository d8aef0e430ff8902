package pgstore

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/internal/pgtest"
)

type onePool struct{ *pgxpool.Pool }

func (p onePool) Do(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	return p.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return fn(ctx, c.Conn()) })
}

func (p onePool) Read(ctx context.Context, fn func(ctx context.Context, c *pgx.Conn) error) error {
	return p.Do(ctx, fn)
}

// idle returns a store that does not run: its flushes are called by hand.
func idle(t *testing.T) (*Store, *pgxpool.Pool) {
	t.Helper()
	pool := pgtest.New(t)
	if err := Migrate(t.Context(), pool.Config().ConnConfig); err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{
		DB:         onePool{pool},
		ListenConn: func(context.Context) (*pgx.Conn, error) { return nil, context.Canceled },
		Now:        time.Now,
		Logger:     slog.New(slog.DiscardHandler),
		Registry:   prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, pool
}

// The flush that the races of other tests hit by chance, step by step: a version
// that is not in force stores nothing, in the database and beside a newer one.
func TestEnrol_refusesOldDefinitions(t *testing.T) {
	t.Parallel()
	s, pool := idle(t)
	ctx := t.Context()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	request := func(id string, version int64) enrolment {
		u := experiment.Unit{Type: "user", ID: id}
		return enrolment{u, u.Key(), version, []experiment.Assignment{{RunID: 7, Treatment: 1, Version: 1, At: at}}}
	}
	rows := func() (n int) {
		t.Helper()
		if err := pool.QueryRow(ctx, "SELECT (SELECT count(*) FROM assignment) + (SELECT count(*) FROM unit)").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, version := range []int64{0, 2} { // version 1 is in force
		got, err := s.enrol(ctx, []enrolment{request("a", version)})
		if err != nil || !got[0].stale || rows() != 0 {
			t.Errorf("enrol() under version %d = %+v, %v with %d rows; want stale and no row", version, got, err, rows())
		}
	}
	got, err := s.enrol(ctx, []enrolment{request("a", 0), request("b", 1)})
	if err != nil || !got[0].stale || got[1].stale || rows() != 2 {
		t.Errorf("enrol() of both = %+v, %v with %d rows; want only the current one stored", got, err, rows())
	}
}

func TestEnrol_answersWhatIsStored(t *testing.T) {
	t.Parallel()
	s, _ := idle(t)
	u := experiment.Unit{Type: "user", ID: "a"}
	first := experiment.Assignment{RunID: 7, Treatment: 1, Version: 3, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	second := experiment.Assignment{RunID: 7, Treatment: 2, Version: 4, At: first.At.Add(time.Hour)}
	fresh := experiment.Assignment{RunID: 8, Treatment: 0, Version: 4, At: second.At}
	if _, err := s.enrol(t.Context(), []enrolment{{u, u.Key(), 1, []experiment.Assignment{first}}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.enrol(t.Context(), []enrolment{
		{u, u.Key(), 1, []experiment.Assignment{second}},
		{u, u.Key(), 1, []experiment.Assignment{fresh, second}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []enrolled{{rows: []experiment.Assignment{first}}, {rows: []experiment.Assignment{fresh, first}}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(enrolled{})); diff != "" {
		t.Errorf("enrol() (-want +got):\n%s", diff)
	}
	found, err := s.lookUp(t.Context(), []experiment.UnitKey{{1}, u.Key()})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 || len(found[0].rows) != 0 || len(found[1].rows) != 2 || found[0].version != 1 {
		t.Errorf("lookUp() = %+v, want nothing for the first unit and two rows for the second", found)
	}
}
