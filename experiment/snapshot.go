package experiment

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Snapshot is every definition at one moment, arranged for answering. It is
// immutable: any number of goroutines may use it.
type Snapshot struct {
	version    int64
	layers     []layerTable
	entries    map[string]*entry   // by experiment key
	byUnitType map[string][]*entry // live ones, sorted by key
	byRun      map[int32]*entry
	boundaries []time.Time // sorted, distinct starts and ends of live experiments
}

// entry is one experiment with what Assign looks up per unit.
type entry struct {
	Experiment
	layer       *layerTable
	totalWeight uint64
	byNo        map[int16]*Treatment
}

// layerTable is one layer with the experiments in it.
type layerTable struct {
	Layer
	owned []ownedSlots // sorted, disjoint; live experiments only
	live  []*entry
}

type ownedSlots struct {
	SlotRange
	owner *entry
}

// NewSnapshot arranges layers and experiments, which must be complete as of
// version: an experiment of an unknown layer, a live one without a run and
// overlapping slots are errors.
func NewSnapshot(version int64, layers []Layer, experiments []Experiment) (*Snapshot, error) {
	s := &Snapshot{
		version:    version,
		layers:     make([]layerTable, len(layers)),
		entries:    make(map[string]*entry, len(experiments)),
		byUnitType: map[string][]*entry{},
		byRun:      map[int32]*entry{},
	}
	byKey := make(map[string]*layerTable, len(layers))
	for i, l := range layers {
		s.layers[i].Layer = l
		byKey[l.Key] = &s.layers[i]
	}
	for _, e := range experiments {
		layer, ok := byKey[e.Layer]
		if !ok {
			return nil, fmt.Errorf("experiment %q is in unknown layer %q", e.Key, e.Layer)
		}
		if err := s.add(e, layer); err != nil {
			return nil, err
		}
	}
	for _, entries := range s.byUnitType {
		slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.Key, b.Key) })
	}
	slices.SortFunc(s.boundaries, time.Time.Compare)
	s.boundaries = slices.CompactFunc(s.boundaries, time.Time.Equal)
	return s, s.checkOwners()
}

func (s *Snapshot) add(e Experiment, layer *layerTable) error {
	en := &entry{Experiment: e, layer: layer, byNo: make(map[int16]*Treatment, len(e.Treatments))}
	for i := range en.Treatments {
		t := &en.Treatments[i]
		en.byNo[t.No] = t
		en.totalWeight += uint64(t.Weight) //nolint:gosec // validated: not negative
	}
	s.entries[e.Key] = en
	if e.Run != nil {
		s.byRun[e.Run.ID] = en
	}
	if !e.State.Live() {
		return nil
	}
	if e.Run == nil {
		return fmt.Errorf("experiment %q is %s without a run", e.Key, e.State)
	}
	layer.live = append(layer.live, en)
	for _, r := range e.Slots {
		layer.owned = append(layer.owned, ownedSlots{r, en})
	}
	s.byUnitType[layer.UnitType] = append(s.byUnitType[layer.UnitType], en)
	for _, at := range []*time.Time{e.Start, e.End} {
		if at != nil {
			s.boundaries = append(s.boundaries, *at)
		}
	}
	return nil
}

// checkOwners sorts the slots of each layer by range and fails where two
// experiments own one slot.
func (s *Snapshot) checkOwners() error {
	for _, l := range s.layers {
		slices.SortFunc(l.owned, func(a, b ownedSlots) int { return cmp.Compare(a.From, b.From) })
		for i := 1; i < len(l.owned); i++ {
			if a, b := l.owned[i-1], l.owned[i]; b.From < a.To {
				return fmt.Errorf("slot %d of layer %q belongs to experiments %q and %q", b.From, l.Key, a.owner.Key, b.owner.Key)
			}
		}
	}
	return nil
}

// Version returns the version that the snapshot was made of.
func (s *Snapshot) Version() int64 { return s.version }

// Boundary returns the next moment after now at which a schedule changes an
// answer, zero if there is none.
func (s *Snapshot) Boundary(now time.Time) time.Time {
	if i := s.Generation(now); i < len(s.boundaries) {
		return s.boundaries[i]
	}
	return time.Time{}
}

// Generation counts the boundaries up to now. While it and the version stay the
// same, so does what Assign computes from the same rows.
func (s *Snapshot) Generation(now time.Time) int {
	i, found := slices.BinarySearchFunc(s.boundaries, now, time.Time.Compare)
	if found {
		i++
	}
	return i
}

// Run returns the run that confirmations for the experiment belong to, and false
// if there is no such experiment. A draft has run 0, in which no unit is assigned.
func (s *Snapshot) Run(experimentKey string) (runID int32, ok bool) {
	e, ok := s.entries[experimentKey]
	if !ok || e.Run == nil {
		return 0, ok
	}
	return e.Run.ID, true
}

// owner returns the live experiment that owns the slot, nil if none does.
func (l *layerTable) owner(slot int) *entry {
	i, found := slices.BinarySearchFunc(l.owned, slot, func(o ownedSlots, slot int) int {
		switch {
		case o.To <= slot:
			return -1
		case o.From > slot:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return l.owned[i].owner
}
