package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xpd-platform/xpd/experiment"
)

// definitionJSON is what experimenters write. Start and End are kept as text, so
// that a bad one is reported with its field.
type definitionJSON struct {
	Key         string          `json:"key"`
	Layer       string          `json:"layer"`
	Description string          `json:"description,omitempty"`
	Slots       []slotsJSON     `json:"slots"`
	Treatments  []treatmentJSON `json:"treatments"`
	Start       string          `json:"start,omitempty"`
	End         string          `json:"end,omitempty"`
	Metrics     []metricJSON    `json:"metrics,omitempty"`
}

type slotsJSON struct {
	From int `json:"from"`
	To   int `json:"to"`
}

type treatmentJSON struct {
	Key     string                     `json:"key"`
	Control bool                       `json:"control,omitempty"`
	Weight  *int                       `json:"weight"` // nil is a mistake, 0 closes the treatment
	Values  map[string]json.RawMessage `json:"values,omitempty"`
}

type metricJSON struct {
	Key   string                `json:"key"`
	Kind  experiment.MetricKind `json:"kind"`
	Event string                `json:"event"`
}

type experimentJSON struct {
	definitionJSON
	State     experiment.State `json:"state"`
	Version   int64            `json:"version"`
	Run       *runJSON         `json:"run,omitempty"`
	CreatedAt time.Time        `json:"created_at"`
	UpdatedAt time.Time        `json:"updated_at"`
}

type runJSON struct {
	No        int       `json:"no"`
	StartedAt time.Time `json:"started_at"`
}

type experimentsJSON struct {
	Experiments []experimentJSON `json:"experiments"`
}

// domain returns a valid definition or an *experiment.InvalidError.
func (in definitionJSON) domain() (experiment.Definition, error) {
	d := experiment.Definition{
		Key: in.Key, Layer: in.Layer, Description: in.Description,
		Slots:      make([]experiment.SlotRange, len(in.Slots)),
		Treatments: make([]experiment.Treatment, len(in.Treatments)),
		Metrics:    make([]experiment.Metric, len(in.Metrics)),
	}
	if strings.ContainsRune(in.Description, 0) {
		return d, invalid("description", "must not hold the character NUL, which PostgreSQL cannot store")
	}
	for i, r := range in.Slots {
		d.Slots[i] = experiment.SlotRange(r)
	}
	for i, m := range in.Metrics {
		d.Metrics[i] = experiment.Metric(m)
	}
	for i, t := range in.Treatments {
		var err error
		if d.Treatments[i], err = t.domain(fmt.Sprintf("treatments[%d]", i)); err != nil {
			return experiment.Definition{}, err
		}
	}
	var err error
	if d.Start, err = optionalTime("start", in.Start); err != nil {
		return experiment.Definition{}, err
	}
	if d.End, err = optionalTime("end", in.End); err != nil {
		return experiment.Definition{}, err
	}
	return d, d.Validate()
}

func (in treatmentJSON) domain(field string) (experiment.Treatment, error) {
	if in.Weight == nil {
		return experiment.Treatment{}, invalid(field+".weight", "is required")
	}
	t := experiment.Treatment{Key: in.Key, Control: in.Control, Weight: *in.Weight}
	for _, name := range slices.Sorted(maps.Keys(in.Values)) { // sorted, so that errors are the same each time
		var v experiment.Value
		if err := v.UnmarshalJSON(in.Values[name]); err != nil {
			return experiment.Treatment{}, invalid(field+".values."+name, "%s", err)
		}
		if t.Values == nil {
			t.Values = make(map[string]experiment.Value, len(in.Values))
		}
		t.Values[name] = v
	}
	return t, nil
}

func optionalTime(field, text string) (*time.Time, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no time is a valid answer
	}
	t, err := parseTime(field, text)
	return &t, err
}

func newDefinitionJSON(d experiment.Definition) definitionJSON {
	out := definitionJSON{
		Key: d.Key, Layer: d.Layer, Description: d.Description,
		Slots:      make([]slotsJSON, len(d.Slots)),
		Treatments: make([]treatmentJSON, len(d.Treatments)),
		Metrics:    make([]metricJSON, len(d.Metrics)),
		Start:      timeText(d.Start),
		End:        timeText(d.End),
	}
	for i, r := range d.Slots {
		out.Slots[i] = slotsJSON(r)
	}
	for i, m := range d.Metrics {
		out.Metrics[i] = metricJSON(m)
	}
	for i, t := range d.Treatments {
		out.Treatments[i] = treatmentJSON{Key: t.Key, Control: t.Control, Weight: &t.Weight, Values: rawValues(t.Values)}
	}
	return out
}

// rawValues cannot fail: a valid value is a string, a bool or a finite number.
func rawValues(values map[string]experiment.Value) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(values))
	for name, v := range values {
		text, err := v.MarshalJSON()
		if err != nil {
			panic(fmt.Sprintf("httpapi: value %q: %v", name, err))
		}
		out[name] = text
	}
	return out
}

func newExperimentJSON(e experiment.Experiment) experimentJSON {
	out := experimentJSON{
		definitionJSON: newDefinitionJSON(e.Definition),
		State:          e.State,
		Version:        e.Version,
		CreatedAt:      e.CreatedAt.UTC(),
		UpdatedAt:      e.UpdatedAt.UTC(),
	}
	if e.Run != nil {
		out.Run = &runJSON{No: e.Run.No, StartedAt: e.Run.StartedAt.UTC()}
	}
	return out
}

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// sameDefinition compares what experimenters wrote, not the numbers that the
// domain gave to treatments.
func sameDefinition(a, b experiment.Definition) bool {
	x, errX := json.Marshal(newDefinitionJSON(a))
	y, errY := json.Marshal(newDefinitionJSON(b))
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
