package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/xpd-platform/xpd/experiment"
)

// Unit is what is randomised: a user, a device, a session.
type Unit struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// Treatment is what a unit gets from one experiment. Treatment and Values are
// empty unless Reason is experiment.ReasonAssigned.
type Treatment struct {
	Experiment string                      `json:"experiment"`
	Treatment  string                      `json:"treatment"`
	Values     map[string]experiment.Value `json:"values"`
	Reason     experiment.Reason           `json:"reason"`
	Run        int                         `json:"run"`
	Version    int64                       `json:"version"`
}

// Treatments returns what the unit gets from the named experiments, or from all
// that apply to it. The answer is durable.
func (c *Client) Treatments(ctx context.Context, u Unit, experiments ...string) ([]Treatment, error) {
	in := struct {
		Unit        Unit     `json:"unit"`
		Experiments []string `json:"experiments,omitempty"`
	}{u, experiments}
	var out struct {
		Treatments []Treatment `json:"treatments"`
	}
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/treatments", in: in}, &out)
	return out.Treatments, err
}

// Exposure is the outcome of confirming one exposure. ExposedAt is when the unit
// was first exposed, nil if it never was.
type Exposure struct {
	Experiment string                     `json:"experiment"`
	Result     experiment.ExposureOutcome `json:"result"`
	ExposedAt  *time.Time                 `json:"exposed_at"`
}

// Expose confirms that the unit saw its treatments of the named experiments at
// the given time, or now if at is zero.
func (c *Client) Expose(ctx context.Context, u Unit, at time.Time, experiments ...string) ([]Exposure, error) {
	in := struct {
		Unit        Unit      `json:"unit"`
		Experiments []string  `json:"experiments"`
		ExposedAt   time.Time `json:"exposed_at,omitzero"`
	}{u, experiments, at}
	var out struct {
		Exposures []Exposure `json:"exposures"`
	}
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/exposures", in: in}, &out)
	return out.Exposures, err
}

// Event is something that a unit did. ID is a UUID that the caller makes, so that
// an event counts once however often it is sent. Money is in minor units.
type Event struct {
	ID         string    `json:"id"`
	Unit       Unit      `json:"unit,omitzero"` // empty in a History
	Type       string    `json:"type"`
	OccurredAt time.Time `json:"occurred_at"`
	Value      *float64  `json:"value,omitempty"`
	ItemsTotal *int64    `json:"items_total,omitempty"`
	Discounts  *int64    `json:"discounts,omitempty"`
	Currency   string    `json:"currency,omitempty"`
}

// EventRejected is the Result of an event that was not stored.
const EventRejected experiment.EventOutcome = "rejected"

// EventResult is the outcome for one event. Reason and Field say what is wrong
// with a rejected one.
type EventResult struct {
	ID     string                  `json:"id"`
	Result experiment.EventOutcome `json:"result"`
	Reason string                  `json:"reason"`
	Field  string                  `json:"field"`
}

// Record stores up to 1,000 events and returns a result for each, in their order.
// What it accepts is durable.
func (c *Client) Record(ctx context.Context, events []Event) ([]EventResult, error) {
	in := struct {
		Events []Event `json:"events"`
	}{events}
	var out struct {
		Results []EventResult `json:"results"`
	}
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/events", in: in}, &out)
	return out.Results, err
}

// History is what a unit got and did, newest first.
type History struct {
	Unit        Unit         `json:"unit"`
	Assignments []Assignment `json:"assignments"`
	Events      []Event      `json:"events"`
	MoreEvents  bool         `json:"more_events"` // there are older ones
}

// Assignment is one treatment that a unit got.
type Assignment struct {
	Experiment string     `json:"experiment"`
	Treatment  string     `json:"treatment"`
	Run        int        `json:"run"`
	Version    int64      `json:"version"`
	AssignedAt time.Time  `json:"assigned_at"`
	ExposedAt  *time.Time `json:"exposed_at"` // nil until confirmed
}

// UnitHistory returns what the unit got and did.
func (c *Client) UnitHistory(ctx context.Context, u Unit) (History, error) {
	path := "/v1/units/" + url.PathEscape(u.Type) + "/" + url.PathEscape(u.ID)
	return fetch[History](ctx, c, call{method: http.MethodGet, path: path})
}

// Ping asks for the cheapest answer there is: what it takes is the floor of any
// other call's latency.
func (c *Client) Ping(ctx context.Context) error {
	return c.do(ctx, call{method: http.MethodGet, path: "/healthz"}, nil)
}
