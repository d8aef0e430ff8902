package experiment

import (
	"slices"
	"strconv"
	"time"
)

// Layer divides the units of one type into slots. Its key, unit type and salt
// never change, or units would change slots.
type Layer struct {
	ID        int32
	Key       string
	UnitType  string
	Salt      []byte
	CreatedAt time.Time
}

// Validate returns an *InvalidError for the first part that can never be accepted.
func (l Layer) Validate() error {
	if reason := checkKey(l.Key); reason != "" {
		return invalid("key", "%s", reason)
	}
	if reason := checkKey(l.UnitType); reason != "" {
		return invalid("unit_type", "%s", reason)
	}
	return nil
}

// Run is one randomisation of an experiment. A new run has a new salt, so that
// its draws are independent of the one before.
type Run struct {
	ID        int32
	No        int // 1 for the first run of an experiment
	Salt      []byte
	StartedAt time.Time
}

// Experiment is a definition with its life: where it is in it, under which
// version, and the run that assigns units.
type Experiment struct {
	ID int32
	Definition
	State     State
	Version   int64
	Run       *Run // nil until the experiment is first started
	CreatedAt time.Time
	UpdatedAt time.Time
}

// New returns the first version of an experiment, a draft. It numbers the
// treatments in the order given, and returns an *InvalidError if d is not valid.
func New(d Definition, now time.Time) (Experiment, error) {
	if err := d.Validate(); err != nil {
		return Experiment{}, err
	}
	d.Treatments = number(slices.Clone(d.Treatments), nil)
	return Experiment{Definition: d, State: StateDraft, Version: 1, CreatedAt: now, UpdatedAt: now}, nil
}

// MoveTo changes the state of e and raises its version. It returns a
// *TransitionError if the life cycle does not have that step. Whoever moves an
// experiment to running for the first time gives it a Run.
func (e *Experiment) MoveTo(to State, now time.Time) error {
	if !e.State.canMoveTo(to) {
		return &TransitionError{From: e.State, To: to}
	}
	e.State = to
	e.Version++
	e.UpdatedAt = now
	return nil
}

// Revise returns the next version of e, defined by d. Treatments keep the number
// that their key had.
//
// The key and the layer are fixed for ever: slots of another layer would draw
// other units. Once an experiment has run, its treatments may not be removed or
// cease to be the control, as assignments point at them and a report compares
// with one control; a treatment may be added or closed by weight 0. Weights,
// slots and schedule are free, since what is assigned wins over them. Values are
// free too, and the version in every answer says which ones were given.
func (e *Experiment) Revise(d Definition, now time.Time) (Experiment, error) {
	if err := d.Validate(); err != nil {
		return Experiment{}, err
	}
	if d.Key != e.Key {
		return Experiment{}, invalid("key", "cannot be changed from %q", e.Key)
	}
	if d.Layer != e.Layer {
		return Experiment{}, invalid("layer", "cannot be changed from %q", e.Layer)
	}
	if e.State == StateArchived {
		return Experiment{}, &TransitionError{From: e.State, To: e.State}
	}
	d.Treatments = slices.Clone(d.Treatments)
	if e.Run == nil {
		d.Treatments = number(d.Treatments, nil)
	} else {
		if err := keepsTreatments(e.Treatments, d.Treatments); err != nil {
			return Experiment{}, err
		}
		d.Treatments = number(d.Treatments, e.Treatments)
	}
	next := *e
	next.Definition = d
	next.Version++
	next.UpdatedAt = now
	return next, nil
}

func keepsTreatments(old, revised []Treatment) error {
	for _, o := range old {
		i := slices.IndexFunc(revised, func(t Treatment) bool { return t.Key == o.Key })
		if i < 0 {
			return invalid("treatments", "%q has run and cannot be removed; a weight of 0 closes it", o.Key)
		}
		if revised[i].Control != o.Control {
			return invalid("treatments["+strconv.Itoa(i)+"].control", "cannot be changed once the experiment has run")
		}
	}
	return nil
}

// number gives each treatment the number that its key has in old, or the next
// free one; the numbers of old have no gaps, since none of them is ever removed.
func number(ts, old []Treatment) []Treatment {
	next := int16(len(old)) //nolint:gosec // at most maxTreatments
	nos := map[string]int16{}
	for _, o := range old {
		nos[o.Key] = o.No
	}
	for i := range ts {
		no, known := nos[ts[i].Key]
		if !known {
			no = next
			next++
		}
		ts[i].No = no
	}
	return ts
}

// CheckSlots returns a *SlotsError if one of the others, experiments of the same
// layer, owns a slot that e wants.
func (e *Experiment) CheckSlots(others []Experiment) error {
	if !e.State.OwnsSlots() {
		return nil
	}
	for _, o := range others {
		if o.Key == e.Key || o.Layer != e.Layer || !o.State.OwnsSlots() {
			continue
		}
		for _, r := range e.Slots {
			for _, taken := range o.Slots {
				if shared := r.intersect(taken); shared.From < shared.To {
					return &SlotsError{Owner: o.Key, Slots: shared}
				}
			}
		}
	}
	return nil
}

func (r SlotRange) intersect(o SlotRange) SlotRange {
	return SlotRange{From: max(r.From, o.From), To: min(r.To, o.To)}
}
