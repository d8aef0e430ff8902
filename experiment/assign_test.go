package experiment_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xpd-platform/xpd/experiment"
)

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func hours(n int) *time.Time {
	at := epoch.Add(time.Duration(n) * time.Hour)
	return &at
}

func unit(i int) experiment.Unit { return experiment.Unit{Type: "user", ID: fmt.Sprintf("%d", i)} }

var layers = []experiment.Layer{
	{ID: 1, Key: "page", UnitType: "user", Salt: []byte("layer-1")},
	{ID: 2, Key: "price", UnitType: "user", Salt: []byte("layer-2")},
	{ID: 3, Key: "wifi", UnitType: "device", Salt: []byte("layer-3")},
}

// running returns an experiment of run id that owns slots [from, to).
func running(id int32, key, layer string, from, to int) experiment.Experiment {
	return experiment.Experiment{
		ID: id,
		Definition: experiment.Definition{
			Key: key, Layer: layer,
			Slots: []experiment.SlotRange{{From: from, To: to}},
			Treatments: []experiment.Treatment{
				{No: 0, Key: "control", Control: true, Weight: 1},
				{No: 1, Key: "green", Weight: 1, Values: map[string]experiment.Value{"button": experiment.StringValue("green")}},
			},
		},
		State: experiment.StateRunning, Version: 2,
		Run: &experiment.Run{ID: id, No: 1, Salt: fmt.Appendf(nil, "run-%d", id)},
	}
}

func snapshot(tb testing.TB, version int64, es ...experiment.Experiment) *experiment.Snapshot {
	tb.Helper()
	s, err := experiment.NewSnapshot(version, layers, es)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestAssign_reasons(t *testing.T) {
	t.Parallel()
	with := func(change func(*experiment.Experiment)) experiment.Experiment {
		e := running(1, "button", "page", 0, experiment.SlotCount)
		change(&e)
		return e
	}
	row := []experiment.Assignment{{RunID: 1, Treatment: 1, Version: 1, At: epoch}}
	claim := []experiment.Assignment{{RunID: 2, Treatment: 0, Version: 1, At: epoch}}
	tests := []struct {
		name     string
		e        experiment.Experiment
		existing []experiment.Assignment
		want     experiment.Reason
	}{
		{"a running one enrols", with(func(*experiment.Experiment) {}), nil, experiment.ReasonAssigned},
		{"a draft enrols nobody", with(func(e *experiment.Experiment) { e.State, e.Run = experiment.StateDraft, nil }), nil, experiment.ReasonDraft},
		{"a paused one enrols nobody", with(func(e *experiment.Experiment) { e.State = experiment.StatePaused }), nil, experiment.ReasonPaused},
		{"a paused one keeps its units", with(func(e *experiment.Experiment) { e.State = experiment.StatePaused }), row, experiment.ReasonAssigned},
		{"a stopped one keeps nobody", with(func(e *experiment.Experiment) { e.State = experiment.StateStopped }), row, experiment.ReasonStopped},
		{"an archived one keeps nobody", with(func(e *experiment.Experiment) { e.State = experiment.StateArchived }), row, experiment.ReasonArchived},
		{"before its start", with(func(e *experiment.Experiment) { e.Start = hours(1) }), nil, experiment.ReasonNotStarted},
		{"at its start", with(func(e *experiment.Experiment) { e.Start = hours(0) }), nil, experiment.ReasonAssigned},
		{"a start moved ahead takes nothing away", with(func(e *experiment.Experiment) { e.Start = hours(1) }), row, experiment.ReasonAssigned},
		{"at its end", with(func(e *experiment.Experiment) { e.End = hours(0) }), nil, experiment.ReasonEnded},
		{"after its end it keeps its units", with(func(e *experiment.Experiment) { e.End = hours(-1) }), row, experiment.ReasonAssigned},
		{"slots of nobody", with(func(e *experiment.Experiment) { e.Slots = nil }), nil, experiment.ReasonTraffic},
		{"without slots it keeps its units", with(func(e *experiment.Experiment) { e.Slots = nil }), row, experiment.ReasonAssigned},
		{"a unit of the neighbour", with(func(*experiment.Experiment) {}), claim, experiment.ReasonLayerClaimed},
		{"units of another type", with(func(e *experiment.Experiment) { e.Layer = "wifi" }), nil, experiment.ReasonWrongUnitType},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			neighbour := running(2, "neighbour", "page", 0, 0)
			neighbour.Slots = nil
			s := snapshot(t, 1, tt.e, neighbour)
			decisions, fresh := s.Assign(unit(1), tt.existing, []string{"button"}, epoch)
			if len(decisions) != 1 || decisions[0].Reason != tt.want {
				t.Fatalf("Assign() = %+v, want one decision with reason %s", decisions, tt.want)
			}
			d := decisions[0]
			if has := d.Treatment != ""; has != (tt.want == experiment.ReasonAssigned) {
				t.Errorf("treatment %q with reason %s", d.Treatment, d.Reason)
			}
			if tt.existing != nil && d.Treatment != "" && d.Treatment != "green" {
				t.Errorf("treatment = %q, want the stored one, green", d.Treatment)
			}
			enrolled := tt.want == experiment.ReasonAssigned && tt.existing == nil
			if (len(fresh) == 1) != enrolled {
				t.Errorf("fresh = %+v", fresh)
			}
		})
	}
}

func TestAssign_claimEndsWithItsExperiment(t *testing.T) {
	t.Parallel()
	a, b := running(1, "a", "page", 0, experiment.SlotCount), running(2, "b", "page", 0, 0)
	b.Slots = nil
	u := unit(7)
	_, rows := snapshot(t, 1, a, b).Assign(u, nil, nil, epoch)
	if len(rows) != 1 || rows[0].RunID != 1 {
		t.Fatalf("rows = %+v, want one of run 1", rows)
	}
	a.State, b.Slots = experiment.StateStopped, a.Slots
	d, fresh := snapshot(t, 2, a, b).Assign(u, rows, []string{"a", "b"}, epoch)
	if d[0].Reason != experiment.ReasonStopped || d[1].Reason != experiment.ReasonAssigned || len(fresh) != 1 {
		t.Errorf("after the stop: %+v, fresh %+v", d, fresh)
	}
}

func TestAssign_keys(t *testing.T) {
	t.Parallel()
	paused := running(4, "paused", "price", 0, 100)
	paused.State = experiment.StatePaused
	stopped := running(5, "stopped", "price", 0, 100)
	stopped.State = experiment.StateStopped
	s := snapshot(t, 1,
		running(2, "b", "page", 5000, 10000), running(1, "a", "page", 0, 5000), running(3, "d", "wifi", 0, 10000), paused, stopped)
	keys := func(ds []experiment.Decision) []string {
		out := []string{}
		for _, d := range ds {
			out = append(out, d.Experiment)
		}
		return out
	}
	tests := []struct {
		name       string
		keys, want []string
	}{
		{"none named: all live ones of the unit's type", nil, []string{"a", "b", "paused"}},
		{"an empty list names none", []string{}, []string{}},
		{"each once in the order asked", []string{"b", "x", "a", "b", "x", "stopped"}, []string{"b", "x", "a", "stopped"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ds, _ := s.Assign(unit(1), nil, tt.keys, epoch)
			if diff := cmp.Diff(tt.want, keys(ds)); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAssign_answerSaysWhatWasGiven(t *testing.T) {
	t.Parallel()
	e := running(1, "a", "page", 0, experiment.SlotCount)
	e.Version = 7
	s := snapshot(t, 1, e)
	got, _ := s.Assign(unit(1), []experiment.Assignment{{RunID: 1, Treatment: 1, Version: 2}}, nil, epoch)
	want := []experiment.Decision{{
		Experiment: "a", Treatment: "green", Values: map[string]experiment.Value{"button": experiment.StringValue("green")},
		Reason: experiment.ReasonAssigned, Run: 1, RunID: 1, Version: 7,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Assign() (-want +got):\n%s", diff)
	}
}

func TestSnapshot_boundaries(t *testing.T) {
	t.Parallel()
	a, b := running(1, "a", "page", 0, 100), running(2, "b", "page", 100, 200)
	a.Start, a.End = hours(1), hours(3)
	b.Start, b.End = hours(3), hours(5)
	stopped := running(3, "c", "page", 0, 100)
	stopped.State, stopped.End = experiment.StateStopped, hours(4)
	s := snapshot(t, 1, a, b, stopped)
	for i, want := range []*time.Time{hours(1), hours(3), hours(3), hours(5), hours(5), nil} {
		got := s.Boundary(*hours(i))
		if want == nil {
			want = new(time.Time)
		}
		if !got.Equal(*want) {
			t.Errorf("Boundary(%dh) = %v, want %v", i, got, *want)
		}
	}
	generations := []int{}
	for i := range 6 {
		generations = append(generations, s.Generation(*hours(i)))
	}
	if diff := cmp.Diff([]int{0, 1, 1, 2, 2, 3}, generations); diff != "" {
		t.Errorf("Generation() by hour (-want +got):\n%s", diff)
	}
}

func TestNewSnapshot_refuses(t *testing.T) {
	t.Parallel()
	noRun := running(1, "a", "page", 0, 100)
	noRun.Run = nil
	for name, es := range map[string][]experiment.Experiment{
		"a slot with two owners": {running(1, "a", "page", 0, 101), running(2, "b", "page", 100, 200)},
		"an unknown layer":       {running(1, "a", "nowhere", 0, 100)},
		"running without a run":  {noRun},
	} {
		if _, err := experiment.NewSnapshot(1, layers, es); err == nil {
			t.Errorf("NewSnapshot() accepts %s", name)
		}
	}
}
