package experiment_test

import (
	"math"
	"testing"
	"time"

	"github.com/xpd-platform/xpd/experiment"
)

func TestEvent_Validate(t *testing.T) {
	t.Parallel()
	purchase := func() experiment.Event {
		return experiment.Event{
			ID: experiment.EventID{1}, Unit: unit(1), Type: "purchase", OccurredAt: epoch,
			ItemsTotal: new(int64(500)), Discounts: new(int64(500)), Currency: "EUR",
		}
	}
	view := func() experiment.Event {
		return experiment.Event{ID: experiment.EventID{1}, Unit: unit(1), Type: "page_view", OccurredAt: epoch}
	}
	tests := []struct {
		field  string // "" for a valid one
		base   func() experiment.Event
		change func(*experiment.Event)
	}{
		{"", view, func(*experiment.Event) {}},
		{"", view, func(e *experiment.Event) { e.Value = new(-1.5) }},
		{"", view, func(e *experiment.Event) { e.OccurredAt = epoch.Add(5 * time.Minute) }},
		{"occurred_at", view, func(e *experiment.Event) { e.OccurredAt = epoch.Add(5*time.Minute + 1) }},
		{"occurred_at", view, func(e *experiment.Event) { e.OccurredAt = time.Time{} }},
		{"occurred_at", view, func(e *experiment.Event) { e.OccurredAt = time.Date(1, 2, 3, 0, 0, 0, 0, time.UTC) }},
		{"id", view, func(e *experiment.Event) { e.ID = experiment.EventID{} }},
		{"type", view, func(e *experiment.Event) { e.Type = "Page View" }},
		{"value", view, func(e *experiment.Event) { e.Value = new(math.NaN()) }},
		{"items_total", view, func(e *experiment.Event) { e.ItemsTotal = new(int64(1)) }},
		{"discounts", view, func(e *experiment.Event) { e.Discounts = new(int64(1)) }},
		{"currency", view, func(e *experiment.Event) { e.Currency = "EUR" }},
		{"", purchase, func(*experiment.Event) {}},
		{"", purchase, func(e *experiment.Event) { e.Discounts = nil }},
		{"items_total", purchase, func(e *experiment.Event) { e.ItemsTotal = nil }},
		{"items_total", purchase, func(e *experiment.Event) { e.ItemsTotal = new(int64(-1)) }},
		{"discounts", purchase, func(e *experiment.Event) { e.Discounts = new(int64(-1)) }},
		{"discounts", purchase, func(e *experiment.Event) { e.Discounts = new(int64(501)) }},
		{"currency", purchase, func(e *experiment.Event) { e.Currency = "" }},
		{"currency", purchase, func(e *experiment.Event) { e.Currency = "eur" }},
	}
	for i, tt := range tests {
		e := tt.base()
		tt.change(&e)
		t.Logf("case %d: %s", i, tt.field)
		checkField(t, e.Validate(epoch), tt.field)
	}
}

func FuzzParseEventID(f *testing.F) {
	f.Add("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
	f.Add("00000000-0000-0000-0000-000000000000")
	f.Add("6ba7b8109dad11d180b400c04fd430c8")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := experiment.ParseEventID(s)
		if err != nil {
			checkField(t, err, "id")
			return
		}
		if again, err := experiment.ParseEventID(id.String()); err != nil || again != id {
			t.Errorf("%q is %v, whose text is read as %v, %v", s, id, again, err)
		}
	})
}

func TestParseEventID(t *testing.T) {
	t.Parallel()
	const text = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	if id, err := experiment.ParseEventID(text); err != nil || id.String() != text {
		t.Errorf("ParseEventID(%s) = %v, %v", text, id, err)
	}
	for _, bad := range []string{"", "6ba7b8109dad11d180b400c04fd430c8", "00000000-0000-0000-0000-000000000000", "6ba7b810-9dad-11d1-80b4-00c04fd430cg"} {
		if _, err := experiment.ParseEventID(bad); err == nil {
			t.Errorf("ParseEventID(%q) is accepted", bad)
		}
	}
}
