package experiment

import (
	"encoding/hex"
	"math"
	"time"
)

// EventPurchase is the type of event that carries money.
const EventPurchase = "purchase"

// maxAhead bounds how far the clock of a client may be ahead of ours.
const maxAhead = 5 * time.Minute

// EventID is a UUID that the client made, so that sending an event twice counts
// it once.
type EventID [16]byte

// ParseEventID reads the 36-character form of a UUID. The nil UUID is no id.
func ParseEventID(s string) (EventID, error) {
	var id EventID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, invalid("id", "must be a UUID")
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil || id == (EventID{}) {
		return EventID{}, invalid("id", "must be a UUID other than the nil one")
	}
	return id, nil
}

// String returns the 36-character form.
func (id EventID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Event is something that a unit did. Money is in minor units of Currency.
type Event struct {
	ID         EventID
	Unit       Unit
	Type       string
	OccurredAt time.Time
	Value      *float64
	ItemsTotal *int64
	Discounts  *int64 // nil in a purchase: none
	Currency   string
}

// Validate returns an *InvalidError for the first part that can never be accepted.
// It expects a Unit that ParseUnit made.
func (e Event) Validate(now time.Time) error {
	if e.ID == (EventID{}) {
		return invalid("id", "is required")
	}
	if reason := checkKey(e.Type); reason != "" {
		return invalid("type", "%s", reason)
	}
	if e.OccurredAt.IsZero() {
		return invalid("occurred_at", "is required")
	}
	if e.OccurredAt.After(now.Add(maxAhead)) {
		return invalid("occurred_at", "is more than %s in the future", maxAhead)
	}
	if e.OccurredAt.Year() < 1970 {
		return invalid("occurred_at", "is before 1970")
	}
	if e.Value != nil && (math.IsNaN(*e.Value) || math.IsInf(*e.Value, 0)) {
		return invalid("value", "must be a finite number")
	}
	return e.validateMoney()
}

func (e Event) validateMoney() error {
	if e.Type != EventPurchase {
		switch {
		case e.ItemsTotal != nil:
			return invalid("items_total", "belongs to a %s only", EventPurchase)
		case e.Discounts != nil:
			return invalid("discounts", "belongs to a %s only", EventPurchase)
		case e.Currency != "":
			return invalid("currency", "belongs to a %s only", EventPurchase)
		}
		return nil
	}
	switch {
	case e.ItemsTotal == nil:
		return invalid("items_total", "is required")
	case *e.ItemsTotal < 0:
		return invalid("items_total", "must not be negative")
	case e.Discounts != nil && *e.Discounts < 0:
		return invalid("discounts", "must not be negative")
	case e.Discounts != nil && *e.Discounts > *e.ItemsTotal:
		return invalid("discounts", "must not exceed items_total")
	case !isCurrency(e.Currency):
		return invalid("currency", "must be three letters A-Z")
	}
	return nil
}

func isCurrency(s string) bool {
	if len(s) != 3 {
		return false
	}
	for _, c := range []byte(s) {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

// EventOutcome is what became of a valid event.
type EventOutcome string

// Outcomes of recording an event.
const (
	EventAccepted  EventOutcome = "accepted"
	EventDuplicate EventOutcome = "duplicate"
)

// EventResult tells the outcome for one event, durable when it is told.
type EventResult struct {
	ID      EventID
	Outcome EventOutcome
}
