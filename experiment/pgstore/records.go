package pgstore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/xpd-platform/xpd/experiment"
)

// definitionRecord is how a definition is stored. Domain types carry no tags, so
// that a rename there cannot change what is stored.
type definitionRecord struct {
	Description string            `json:"description,omitempty"`
	Slots       [][2]int          `json:"slots"`
	Treatments  []treatmentRecord `json:"treatments"`
	Start       *time.Time        `json:"start,omitempty"`
	End         *time.Time        `json:"end,omitempty"`
	Metrics     []metricRecord    `json:"metrics,omitempty"`
}

type treatmentRecord struct {
	No      int16                       `json:"no"`
	Key     string                      `json:"key"`
	Control bool                        `json:"control,omitempty"`
	Weight  int                         `json:"weight"`
	Values  map[string]experiment.Value `json:"values,omitempty"`
}

type metricRecord struct {
	Key   string                `json:"key"`
	Kind  experiment.MetricKind `json:"kind"`
	Event string                `json:"event"`
}

// encodeDefinition leaves out the key and the layer: they have columns.
func encodeDefinition(d experiment.Definition) ([]byte, error) {
	r := definitionRecord{Description: d.Description, Slots: [][2]int{}, Start: d.Start, End: d.End}
	for _, s := range d.Slots {
		r.Slots = append(r.Slots, [2]int{s.From, s.To})
	}
	for _, t := range d.Treatments {
		r.Treatments = append(r.Treatments, treatmentRecord(t))
	}
	for _, m := range d.Metrics {
		r.Metrics = append(r.Metrics, metricRecord(m))
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode definition: %w", err)
	}
	return text, nil
}

// decodeDefinition fills in what encodeDefinition stored.
func decodeDefinition(text []byte, d *experiment.Definition) error {
	var r definitionRecord
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("decode definition of %q: %w", d.Key, err)
	}
	d.Description, d.Start, d.End = r.Description, r.Start, r.End
	for _, s := range r.Slots {
		d.Slots = append(d.Slots, experiment.SlotRange{From: s[0], To: s[1]})
	}
	for _, t := range r.Treatments {
		d.Treatments = append(d.Treatments, experiment.Treatment(t))
	}
	for _, m := range r.Metrics {
		d.Metrics = append(d.Metrics, experiment.Metric(m))
	}
	return nil
}

// experimentRow mirrors experimentsSQL.
type experimentRow struct {
	ID         int32      `db:"id"`
	Key        string     `db:"key"`
	Layer      string     `db:"layer"`
	State      string     `db:"state"`
	Version    int64      `db:"version"`
	Definition []byte     `db:"definition"`
	CreatedAt  time.Time  `db:"created_at"`
	UpdatedAt  time.Time  `db:"updated_at"`
	RunID      *int32     `db:"run_id"`
	RunNo      *int       `db:"run_no"`
	RunSalt    []byte     `db:"run_salt"`
	RunStarted *time.Time `db:"run_started"`
}

func (r experimentRow) domain() (experiment.Experiment, error) {
	state, err := experiment.ParseState(r.State)
	if err != nil {
		return experiment.Experiment{}, fmt.Errorf("stored experiment %q: %w", r.Key, err)
	}
	e := experiment.Experiment{
		ID:         r.ID,
		Definition: experiment.Definition{Key: r.Key, Layer: r.Layer},
		State:      state,
		Version:    r.Version,
		CreatedAt:  r.CreatedAt.UTC(),
		UpdatedAt:  r.UpdatedAt.UTC(),
	}
	if r.RunID != nil {
		e.Run = &experiment.Run{ID: *r.RunID, No: *r.RunNo, Salt: r.RunSalt, StartedAt: r.RunStarted.UTC()}
	}
	return e, decodeDefinition(r.Definition, &e.Definition)
}
