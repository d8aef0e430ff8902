package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/xpd-platform/xpd/experiment"
)

// Layer divides the units of one type; experiments of one layer exclude each
// other.
type Layer struct {
	Key       string    `json:"key"`
	UnitType  string    `json:"unit_type"`
	CreatedAt time.Time `json:"created_at"`
}

// Slots is the half-open range [From, To) of a layer's slots.
type Slots struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// Arm is a treatment as its experiment defines it.
type Arm struct {
	Key     string                      `json:"key"`
	Control bool                        `json:"control,omitempty"`
	Weight  int                         `json:"weight"`
	Values  map[string]experiment.Value `json:"values,omitempty"`
}

// Metric is what a report computes per unit.
type Metric struct {
	Key   string                `json:"key"`
	Kind  experiment.MetricKind `json:"kind"`
	Event string                `json:"event"`
}

// Definition is the part of an experiment that experimenters write.
type Definition struct {
	Key         string     `json:"key"`
	Layer       string     `json:"layer"`
	Description string     `json:"description,omitempty"`
	Slots       []Slots    `json:"slots"`
	Treatments  []Arm      `json:"treatments"`
	Start       *time.Time `json:"start,omitempty"`
	End         *time.Time `json:"end,omitempty"`
	Metrics     []Metric   `json:"metrics,omitempty"`
}

// Run is one randomisation of an experiment.
type Run struct {
	No        int       `json:"no"`
	StartedAt time.Time `json:"started_at"`
}

// Experiment is a definition with its life.
type Experiment struct {
	Definition
	State     experiment.State `json:"state"`
	Version   int64            `json:"version"`
	Run       *Run             `json:"run,omitempty"` // nil until it is first started
	CreatedAt time.Time        `json:"created_at"`
	UpdatedAt time.Time        `json:"updated_at"`
}

// CreateLayer creates a layer. A layer that is there already with the same unit
// type is returned as it is.
func (c *Client) CreateLayer(ctx context.Context, key, unitType string) (Layer, error) {
	in := struct {
		Key      string `json:"key"`
		UnitType string `json:"unit_type"`
	}{key, unitType}
	return fetch[Layer](ctx, c, call{method: http.MethodPost, path: "/v1/layers", in: in})
}

// Layer returns one layer.
func (c *Client) Layer(ctx context.Context, key string) (Layer, error) {
	return fetch[Layer](ctx, c, call{method: http.MethodGet, path: "/v1/layers/" + url.PathEscape(key)})
}

// Layers returns all layers.
func (c *Client) Layers(ctx context.Context) ([]Layer, error) {
	var out struct {
		Layers []Layer `json:"layers"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/layers"}, &out)
	return out.Layers, err
}

// CreateExperiment creates a draft. An experiment that is there already with the
// same definition is returned as it is.
func (c *Client) CreateExperiment(ctx context.Context, d Definition) (Experiment, error) {
	return fetch[Experiment](ctx, c, call{method: http.MethodPost, path: "/v1/experiments", in: d})
}

// Experiment returns one experiment.
func (c *Client) Experiment(ctx context.Context, key string) (Experiment, error) {
	return fetch[Experiment](ctx, c, call{method: http.MethodGet, path: experimentPath(key)})
}

// Experiments returns all experiments, or those in one state.
func (c *Client) Experiments(ctx context.Context, state experiment.State) ([]Experiment, error) {
	path := "/v1/experiments"
	if state != "" {
		path += "?state=" + url.QueryEscape(string(state))
	}
	var out struct {
		Experiments []Experiment `json:"experiments"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: path}, &out)
	return out.Experiments, err
}

// ReviseExperiment replaces the definition of version with d. It returns a
// *Problem of type /problems/stale-etag if there is a newer version.
func (c *Client) ReviseExperiment(ctx context.Context, d Definition, version int64) (Experiment, error) {
	return fetch[Experiment](ctx, c, call{
		method: http.MethodPut, path: experimentPath(d.Key), ifMatch: etag(version), in: d,
	})
}

// Step is a change of state of an experiment.
type Step string

// Steps. An experiment that took the step already stays as it is.
const (
	Start   Step = "start"
	Pause   Step = "pause"
	Resume  Step = "resume"
	Stop    Step = "stop"
	Archive Step = "archive"
)

// MoveExperiment takes an experiment one step further, if it still has the given
// version; 0 stands for any.
func (c *Client) MoveExperiment(ctx context.Context, key string, s Step, version int64) (Experiment, error) {
	q := call{method: http.MethodPost, path: experimentPath(key) + "/" + url.PathEscape(string(s))}
	if version != 0 {
		q.ifMatch = etag(version)
	}
	return fetch[Experiment](ctx, c, q)
}

func experimentPath(key string) string { return "/v1/experiments/" + url.PathEscape(key) }

func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }
