package experiment_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/experiment"
)

func TestDefinition_Validate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		field  string // "" for a valid one
		change func(*experiment.Definition)
	}{
		{"", func(*experiment.Definition) {}},
		{"", func(d *experiment.Definition) { d.Slots = nil }},
		{"", func(d *experiment.Definition) { d.Slots = []experiment.SlotRange{{0, 1}, {1, 2}, {9999, 10000}} }},
		{"key", func(d *experiment.Definition) { d.Key = "" }},
		{"key", func(d *experiment.Definition) { d.Key = "Upper" }},
		{"key", func(d *experiment.Definition) { d.Key = strings.Repeat("k", 65) }},
		{"layer", func(d *experiment.Definition) { d.Layer = "a/b" }},
		{"end", func(d *experiment.Definition) { d.Start, d.End = hours(1), hours(1) }},
		{"slots[0]", func(d *experiment.Definition) { d.Slots = []experiment.SlotRange{{-1, 1}} }},
		{"slots[0]", func(d *experiment.Definition) { d.Slots = []experiment.SlotRange{{5, 5}} }},
		{"slots[0]", func(d *experiment.Definition) { d.Slots = []experiment.SlotRange{{0, 10001}} }},
		{"slots[1]", func(d *experiment.Definition) { d.Slots = []experiment.SlotRange{{0, 10}, {9, 20}} }},
		{"slots[1]", func(d *experiment.Definition) { d.Slots = []experiment.SlotRange{{10, 20}, {0, 10}} }},
		{"treatments", func(d *experiment.Definition) { d.Treatments = nil }},
		{"treatments", func(d *experiment.Definition) { d.Treatments = make([]experiment.Treatment, 33) }},
		{"treatments", func(d *experiment.Definition) { d.Treatments[0].Weight, d.Treatments[1].Weight = 0, 0 }},
		{"treatments", func(d *experiment.Definition) { d.Treatments[0].Control = false }},
		{"treatments", func(d *experiment.Definition) { d.Treatments[1].Control = true }},
		{"treatments[1].key", func(d *experiment.Definition) { d.Treatments[1].Key = "control" }},
		{"treatments[1].key", func(d *experiment.Definition) { d.Treatments[1].Key = "a b" }},
		{"treatments[0].weight", func(d *experiment.Definition) { d.Treatments[0].Weight = -1 }},
		{"treatments[0].weight", func(d *experiment.Definition) { d.Treatments[0].Weight = 1_000_001 }},
		{"treatments[1].values", func(d *experiment.Definition) {
			d.Treatments[1].Values = map[string]experiment.Value{"a b": experiment.BoolValue(true)}
		}},
		{"treatments[1].values.x", func(d *experiment.Definition) {
			d.Treatments[1].Values = map[string]experiment.Value{"x": experiment.FloatValue(math.Inf(1))}
		}},
		{"treatments[1].values.x", func(d *experiment.Definition) {
			d.Treatments[1].Values = map[string]experiment.Value{"x": experiment.StringValue("\x00")}
		}},
		{"treatments[1].values.x", func(d *experiment.Definition) {
			d.Treatments[1].Values = map[string]experiment.Value{"x": {}}
		}},
		{"metrics[0].kind", func(d *experiment.Definition) { d.Metrics = []experiment.Metric{{"m", "median", "visit"}} }},
		{"metrics[0].event", func(d *experiment.Definition) { d.Metrics = []experiment.Metric{{"m", experiment.MetricMean, ""}} }},
		{"metrics[0].event", func(d *experiment.Definition) {
			d.Metrics = []experiment.Metric{{"m", experiment.MetricSales, "visit"}}
		}},
		{"metrics[1].key", func(d *experiment.Definition) {
			d.Metrics = []experiment.Metric{{"m", experiment.MetricMean, "v"}, {"m", experiment.MetricSales, "v"}}
		}},
	}
	for _, tt := range tests {
		d := running(1, "a", "page", 0, 100).Definition
		tt.change(&d)
		checkField(t, d.Validate(), tt.field)
	}
}

// checkField checks that err is an *InvalidError of field, or nil for "".
func checkField(t *testing.T, err error, field string) {
	t.Helper()
	invalid, ok := errors.AsType[*experiment.InvalidError](err)
	switch {
	case field == "" && err != nil:
		t.Errorf("error %v, want none", err)
	case field != "" && (!ok || invalid.Field != field):
		t.Errorf("error %v, want one of %s", err, field)
	}
}

func TestExperiment_MoveTo(t *testing.T) {
	t.Parallel()
	states := []experiment.State{
		experiment.StateDraft, experiment.StateRunning, experiment.StatePaused, experiment.StateStopped, experiment.StateArchived,
	}
	allowed := map[experiment.State]string{
		experiment.StateDraft:    "running archived",
		experiment.StateRunning:  "paused stopped",
		experiment.StatePaused:   "running stopped",
		experiment.StateStopped:  "archived",
		experiment.StateArchived: "",
	}
	for _, from := range states {
		for _, to := range states {
			e := experiment.Experiment{State: from, Version: 3}
			err := e.MoveTo(to, epoch)
			if strings.Contains(allowed[from], string(to)) {
				if err != nil || e.State != to || e.Version != 4 || !e.UpdatedAt.Equal(epoch) {
					t.Errorf("%s to %s: %v, %+v", from, to, err, e)
				}
				continue
			}
			wrong, ok := errors.AsType[*experiment.TransitionError](err)
			if !ok || wrong.From != from || wrong.To != to || e.State != from || e.Version != 3 {
				t.Errorf("%s to %s: %v, %+v, want a TransitionError and no change", from, to, err, e)
			}
		}
	}
}

func TestExperiment_Revise(t *testing.T) {
	t.Parallel()
	draft, err := experiment.New(running(0, "a", "page", 0, 100).Definition, epoch)
	if err != nil {
		t.Fatal(err)
	}
	started := draft
	started.State, started.Run = experiment.StateRunning, &experiment.Run{ID: 1, No: 1}
	archived := draft
	archived.State = experiment.StateArchived
	d := func(keys ...string) experiment.Definition {
		d := experiment.Definition{Key: "a", Layer: "page"}
		for _, k := range keys {
			d.Treatments = append(d.Treatments, experiment.Treatment{Key: k, Weight: 1, Control: k == "control"})
		}
		return d
	}
	moved, renamed, swapped := d("control"), d("control"), d("control", "green")
	moved.Layer, renamed.Key = "price", "b"
	swapped.Treatments[0].Control, swapped.Treatments[1].Control = false, true
	tests := []struct {
		name  string
		e     experiment.Experiment
		to    experiment.Definition
		nos   map[string]int16
		field string
	}{
		{"a draft numbers its treatments anew", draft, d("blue", "control"), map[string]int16{"blue": 0, "control": 1}, ""},
		{"one that ran keeps its numbers", started, d("blue", "green", "control"), map[string]int16{"blue": 2, "green": 1, "control": 0}, ""},
		{"one that ran keeps its treatments", started, d("control", "blue"), nil, "treatments"},
		{"one that ran keeps its control", started, swapped, nil, "treatments[0].control"},
		{"a draft may change its control", draft, swapped, map[string]int16{"control": 0, "green": 1}, ""},
		{"the layer is fixed", draft, moved, nil, "layer"},
		{"the key is fixed", draft, renamed, nil, "key"},
		{"it must be valid", draft, d(), nil, "treatments"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.e.Revise(tt.to, epoch)
			checkField(t, err, tt.field)
			if err != nil {
				return
			}
			nos := map[string]int16{}
			for _, tr := range got.Treatments {
				nos[tr.Key] = tr.No
			}
			if diff := cmp.Diff(tt.nos, nos); diff != "" {
				t.Errorf("numbers (-want +got):\n%s", diff)
			}
			if got.Version != tt.e.Version+1 {
				t.Errorf("version = %d, want %d", got.Version, tt.e.Version+1)
			}
			if tt.to.Treatments[0].No != 0 {
				t.Error("Revise() changed its argument")
			}
		})
	}
	if _, err := archived.Revise(d("control"), epoch); err == nil {
		t.Error("Revise() accepts an archived experiment")
	}
}

func TestExperiment_CheckSlots(t *testing.T) {
	t.Parallel()
	mine := running(1, "mine", "page", 100, 200)
	tests := []struct {
		name  string
		other experiment.Experiment
		want  *experiment.SlotsError
	}{
		{"neighbours may touch", running(2, "other", "page", 200, 300), nil},
		{"shared slots are named", running(2, "other", "page", 150, 300), &experiment.SlotsError{Owner: "other", Slots: experiment.SlotRange{From: 150, To: 200}}},
		{"layers do not meet", running(2, "other", "price", 100, 200), nil},
		{"it does not meet itself", running(1, "mine", "page", 0, 10000), nil},
	}
	for _, tt := range tests {
		err := mine.CheckSlots([]experiment.Experiment{tt.other})
		got, _ := errors.AsType[*experiment.SlotsError](err)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	other := running(2, "other", "page", 100, 200)
	for state, free := range map[experiment.State]bool{
		experiment.StateDraft: false, experiment.StateRunning: false, experiment.StatePaused: false,
		experiment.StateStopped: true, experiment.StateArchived: true,
	} {
		other.State = state
		if err := mine.CheckSlots([]experiment.Experiment{other}); (err == nil) != free {
			t.Errorf("slots of a %s experiment: %v", state, err)
		}
	}
}

func TestValue_roundTrip(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]experiment.Value{
		`4`:                    experiment.IntValue(4),
		`-9223372036854775808`: experiment.IntValue(math.MinInt64),
		`9223372036854775807`:  experiment.IntValue(math.MaxInt64),
		`4.0`:                  experiment.FloatValue(4),
		`0.25`:                 experiment.FloatValue(0.25),
		`1e+300`:               experiment.FloatValue(1e300),
		`"green"`:              experiment.StringValue("green"),
		`"4"`:                  experiment.StringValue("4"),
		`true`:                 experiment.BoolValue(true),
	} {
		var got experiment.Value
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got != want {
			t.Errorf("%s is read as %#v, want %#v", text, got, want)
		}
		if back, err := json.Marshal(got); err != nil || string(back) != text {
			t.Errorf("%s is written as %s, %v", text, back, err)
		}
	}
	for _, text := range []string{`null`, `{}`, `[1]`, `1e400`} {
		var v experiment.Value
		if err := v.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s is accepted as %#v", text, v)
		}
	}
}

func TestParseUnit(t *testing.T) {
	t.Parallel()
	tests := []struct{ unitType, id, field string }{
		{"user", "1", ""},
		{"user", strings.Repeat("é", 128), ""},
		{"user", "spaces and / are fine", ""},
		{"User", "1", "unit.type"},
		{"", "1", "unit.type"},
		{"user", "", "unit.id"},
		{"user", strings.Repeat("x", 257), "unit.id"},
		{"user", "a\x00b", "unit.id"},
		{"user", "a\nb", "unit.id"},
		{"user", "\xff", "unit.id"},
	}
	for _, tt := range tests {
		u, err := experiment.ParseUnit(tt.unitType, tt.id)
		checkField(t, err, tt.field)
		if err == nil && (u.Type != tt.unitType || u.ID != tt.id) {
			t.Errorf("ParseUnit(%q, %q) = %+v", tt.unitType, tt.id, u)
		}
	}
}
