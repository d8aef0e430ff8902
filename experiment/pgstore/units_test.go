package pgstore_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/experiment/pgstore"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// view returns event number i, a page view of u.
func view(i int, u experiment.Unit) experiment.Event {
	e := experiment.Event{Unit: u, Type: "page_view", OccurredAt: noon.Add(time.Duration(i) * time.Second)}
	binary.BigEndian.PutUint64(e.ID[8:], uint64(i+1))
	return e
}

func TestExpose(t *testing.T) {
	t.Parallel()
	eachDB(t, func(t *testing.T, pool *pgxpool.Pool, o pgstore.Options) { //nolint:thelper // a test, not a helper
		s := start(t, o)
		mustLayer(t, s, "page")
		mustRun(t, s, half("button", "page", 0, 10000))
		draft := half("draft", "page", 0, 1)
		draft.Slots = nil
		if _, err := s.CreateExperiment(t.Context(), draft); err != nil {
			t.Fatal(err)
		}
		mustTreat(t, s, user(1), "button")
		expose := func(u experiment.Unit, at time.Time) []experiment.ExposureResult {
			t.Helper()
			var requests []experiment.ExposureRequest
			for _, key := range []string{"nothing", "button", "draft", "button"} {
				requests = append(requests, experiment.ExposureRequest{Experiment: key, At: at})
			}
			got, err := s.Expose(t.Context(), u, requests)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		const (
			unknown, none      = experiment.ExposureUnknownExperiment, experiment.ExposureNotAssigned
			confirmed, already = experiment.ExposureConfirmed, experiment.ExposureAlready
		)
		want := []experiment.ExposureResult{
			{Experiment: "nothing", Outcome: unknown},
			{Experiment: "button", Outcome: none},
			{Experiment: "draft", Outcome: none},
			{Experiment: "button", Outcome: none},
		}
		if diff := cmp.Diff(want, expose(user(2), noon)); diff != "" {
			t.Errorf("of a unit without assignment (-want +got):\n%s", diff)
		}
		want[1] = experiment.ExposureResult{Experiment: "button", Outcome: confirmed, At: noon}
		want[3] = experiment.ExposureResult{Experiment: "button", Outcome: already, At: noon}
		if diff := cmp.Diff(want, expose(user(1), noon)); diff != "" {
			t.Errorf("the first time (-want +got):\n%s", diff)
		}
		want[1].Outcome = already
		if diff := cmp.Diff(want, expose(user(1), noon.Add(-time.Hour))); diff != "" {
			t.Errorf("the second time (-want +got):\n%s", diff)
		}
		if got := count(t, pool, "SELECT count(*) FROM exposure"); got != 1 {
			t.Errorf("%d exposures are stored, want 1", got)
		}
	})
}

func TestRecord(t *testing.T) {
	t.Parallel()
	eachDB(t, func(t *testing.T, pool *pgxpool.Pool, o pgstore.Options) { //nolint:thelper // a test, not a helper
		s := start(t, o)
		purchase := view(3, user(2))
		purchase.Type, purchase.ItemsTotal, purchase.Discounts, purchase.Currency = "purchase", new(int64(500)), new(int64(20)), "EUR"
		purchase.Value = new(0.5)
		record := func(events ...experiment.Event) (outcomes []experiment.EventOutcome) {
			t.Helper()
			results, err := s.Record(t.Context(), events)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range results {
				if r.ID != events[i].ID {
					t.Errorf("result %d is of event %v, want %v", i, r.ID, events[i].ID)
				}
				outcomes = append(outcomes, r.Outcome)
			}
			return outcomes
		}
		const accepted, duplicate = experiment.EventAccepted, experiment.EventDuplicate
		got := record(purchase, view(1, user(1)), view(1, user(9)), view(2, user(1)))
		if diff := cmp.Diff([]experiment.EventOutcome{accepted, accepted, duplicate, accepted}, got); diff != "" {
			t.Errorf("the first time (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]experiment.EventOutcome{duplicate, accepted}, record(view(2, user(1)), view(7, user(1)))); diff != "" {
			t.Errorf("the second time (-want +got):\n%s", diff)
		}
		if got := record(); got != nil {
			t.Errorf("nothing is recorded as %v", got)
		}
		if n := count(t, pool, "SELECT count(*) FROM event"); n != 4 {
			t.Errorf("%d events are stored, want 4", n)
		}
		h, err := s.UnitHistory(t.Context(), user(2))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(experiment.History{Unit: user(2), Assignments: []experiment.PastAssignment{}, Events: []experiment.Event{purchase}}, h); diff != "" {
			t.Errorf("UnitHistory() (-want +got):\n%s", diff)
		}
	})
}

func TestUnitHistory(t *testing.T) {
	t.Parallel()
	s := start(t, options(newDB(t)))
	mustLayer(t, s, "page")
	e := mustRun(t, s, half("button", "page", 0, 10000))
	told := mustTreat(t, s, user(1), "button")
	if _, err := s.Expose(t.Context(), user(1), []experiment.ExposureRequest{{Experiment: "button", At: noon}}); err != nil {
		t.Fatal(err)
	}
	again, err := s.Expose(t.Context(), user(1), []experiment.ExposureRequest{{Experiment: "button", At: noon}})
	if err != nil || again[0].Outcome != experiment.ExposureAlready {
		t.Errorf("the same confirmation again: %+v, %v, want already", again, err)
	}
	events := make([]experiment.Event, 1001)
	for i := range events {
		events[i] = view(i, user(1))
	}
	if _, err := s.Record(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	mustMove(t, s, "button", experiment.StateStopped)

	got, err := s.UnitHistory(t.Context(), user(1))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Assignments) != 1 {
		t.Fatalf("Assignments = %+v, want one", got.Assignments)
	}
	want := experiment.PastAssignment{
		Experiment: "button", Treatment: told.Treatment, Run: 1, Version: e.Version,
		AssignedAt: got.Assignments[0].AssignedAt, ExposedAt: &noon,
	}
	if diff := cmp.Diff(want, got.Assignments[0]); diff != "" {
		t.Errorf("Assignments[0] (-want +got):\n%s", diff)
	}
	if since := time.Since(want.AssignedAt); since < 0 || since > time.Minute {
		t.Errorf("AssignedAt is %s ago", since)
	}
	if len(got.Events) != 1000 || !got.MoreEvents || !cmp.Equal(got.Events[0], events[1000]) {
		t.Errorf("%d events, more %t, newest %+v; want 1000, true, %+v", len(got.Events), got.MoreEvents, got.Events[0], events[1000])
	}
}
