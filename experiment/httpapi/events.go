package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/xpd-platform/xpd/experiment"
	"github.com/xpd-platform/xpd/internal/problem"
)

const maxEvents = 1000

type eventsRequest struct {
	Events []json.RawMessage `json:"events"`
}

// eventJSON is one event of a request. It is decoded on its own, so that one
// broken event does not spoil a batch.
type eventJSON struct {
	ID         string   `json:"id"`
	Unit       unitJSON `json:"unit"`
	Type       string   `json:"type"`
	OccurredAt string   `json:"occurred_at"`
	Value      *float64 `json:"value"`
	ItemsTotal *int64   `json:"items_total"`
	Discounts  *int64   `json:"discounts"`
	Currency   string   `json:"currency"`
}

// pastEventJSON is an event in the history of a unit.
type pastEventJSON struct {
	ID         string    `json:"id"`
	Type       string    `json:"type"`
	OccurredAt time.Time `json:"occurred_at"`
	Value      *float64  `json:"value,omitempty"`
	ItemsTotal *int64    `json:"items_total,omitempty"`
	Discounts  *int64    `json:"discounts,omitempty"`
	Currency   string    `json:"currency,omitempty"`
}

func newPastEvent(e experiment.Event) pastEventJSON {
	return pastEventJSON{
		ID: e.ID.String(), Type: e.Type, OccurredAt: e.OccurredAt.UTC(), Value: e.Value,
		ItemsTotal: e.ItemsTotal, Discounts: e.Discounts, Currency: e.Currency,
	}
}

type eventsResponse struct {
	Results []eventResultJSON `json:"results"`
}

type eventResultJSON struct {
	ID     string                  `json:"id,omitempty"`
	Result experiment.EventOutcome `json:"result"`
	Reason string                  `json:"reason,omitempty"`
	Field  string                  `json:"field,omitempty"`
}

// eventRejected is the outcome of an event that never reached the store.
const eventRejected experiment.EventOutcome = "rejected"

// record stores the valid events of a batch and says what is wrong with the rest.
func (s *server) record(w http.ResponseWriter, r *http.Request) error {
	var req eventsRequest
	if err := problem.Decode(w, r, maxBatchBody, &req); err != nil {
		return err
	}
	if n := len(req.Events); n == 0 || n > maxEvents {
		return invalid("events", "must be 1 to %d", maxEvents)
	}
	resp := eventsResponse{Results: make([]eventResultJSON, len(req.Events))}
	valid := make([]experiment.Event, 0, len(req.Events))
	places := make([]int, 0, len(req.Events)) // of the valid ones in the request
	now := s.Now()
	for i, raw := range req.Events {
		e, id, err := parseEvent(raw, now)
		if err != nil {
			resp.Results[i] = rejection(i, id, err)
			continue
		}
		valid = append(valid, e)
		places = append(places, i)
	}
	if len(valid) > 0 {
		results, err := s.Recorder.Record(r.Context(), valid)
		if err != nil {
			return err
		}
		if len(results) != len(valid) {
			return fmt.Errorf("record %d events: %d results", len(valid), len(results))
		}
		for i, res := range results {
			resp.Results[places[i]] = eventResultJSON{ID: res.ID.String(), Result: res.Outcome}
		}
	}
	return problem.WriteJSON(w, http.StatusOK, resp)
}

// parseEvent also returns the id as it was sent, if there is one, to name an
// event that cannot be accepted.
func parseEvent(raw json.RawMessage, now time.Time) (e experiment.Event, id string, err error) {
	var in eventJSON
	if err := problem.Unmarshal(raw, &in); err != nil {
		return e, in.ID, err
	}
	e, err = in.domain()
	if err != nil {
		return e, in.ID, err
	}
	return e, in.ID, e.Validate(now)
}

func (in eventJSON) domain() (experiment.Event, error) {
	if in.ID == "" {
		return experiment.Event{}, invalid("id", "is required")
	}
	id, err := experiment.ParseEventID(in.ID)
	if err != nil {
		return experiment.Event{}, err
	}
	unit, err := in.Unit.domain()
	if err != nil {
		return experiment.Event{}, err
	}
	if in.OccurredAt == "" {
		return experiment.Event{}, invalid("occurred_at", "is required")
	}
	at, err := parseTime("occurred_at", in.OccurredAt)
	if err != nil {
		return experiment.Event{}, err
	}
	return experiment.Event{
		ID: id, Unit: unit, Type: in.Type, OccurredAt: at, Value: in.Value,
		ItemsTotal: in.ItemsTotal, Discounts: in.Discounts, Currency: in.Currency,
	}, nil
}

func rejection(i int, id string, err error) eventResultJSON {
	out := eventResultJSON{ID: id, Result: eventRejected, Reason: err.Error(), Field: fmt.Sprintf("events[%d]", i)}
	field := ""
	if e, ok := errors.AsType[*experiment.InvalidError](err); ok {
		out.Reason, field = e.Reason, e.Field
	} else if p, ok := errors.AsType[*problem.Problem](err); ok {
		out.Reason, field = p.Detail, p.Field
	}
	if field != "" {
		out.Field += "." + field
	}
	return out
}
