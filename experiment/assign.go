package experiment

import (
	"slices"
	"time"
)

// Assign decides which treatments u gets: of the experiments named by keys, each
// once in the order of its first mention, or, if keys is nil, of all live ones for
// its unit type, sorted by key.
//
// existing holds every stored assignment of u. What Assign adds to it is returned
// as fresh; those decisions hold only once the rows are stored, and the row that
// is stored wins over the one computed. Not being enrolled is never stored.
func (s *Snapshot) Assign(u Unit, existing []Assignment, keys []string, now time.Time) (decisions []Decision, fresh []Assignment) {
	a := assigning{unit: u, existing: existing, now: now}
	if keys == nil {
		entries := s.byUnitType[u.Type]
		decisions = make([]Decision, 0, len(entries))
		for _, e := range entries {
			decisions = append(decisions, a.decide(e))
		}
		return decisions, a.fresh
	}
	decisions = make([]Decision, 0, len(keys))
	for i, key := range keys {
		if slices.Contains(keys[:i], key) {
			continue
		}
		if e, ok := s.entries[key]; ok {
			decisions = append(decisions, a.decide(e))
		} else {
			decisions = append(decisions, Decision{Experiment: key, Reason: ReasonUnknownExperiment})
		}
	}
	return decisions, a.fresh
}

// assigning is one call of Assign.
type assigning struct {
	unit     Unit
	existing []Assignment
	now      time.Time
	fresh    []Assignment
}

// decide goes through the rules in their fixed order. A stored assignment comes
// before the schedule and everything else that only gates enrolment, so that no
// edit of a live experiment takes a treatment away. Slot and claim must both allow
// enrolment; the slot comes first because its verdict does not depend on what was
// asked before, so that neither does the reason.
func (a *assigning) decide(e *entry) Decision {
	if e.layer.UnitType != a.unit.Type {
		return e.refuse(ReasonWrongUnitType)
	}
	if reason := e.State.refusal(); reason != "" {
		return e.refuse(reason)
	}
	if row := a.row(e.Run.ID); row != nil {
		return e.grant(e.byNo[row.Treatment])
	}
	switch {
	case e.State == StatePaused:
		return e.refuse(ReasonPaused)
	case e.Start != nil && a.now.Before(*e.Start):
		return e.refuse(ReasonNotStarted)
	case e.End != nil && !a.now.Before(*e.End):
		return e.refuse(ReasonEnded)
	case e.layer.owner(e.layer.slot(a.unit)) != e:
		return e.refuse(ReasonTraffic)
	case a.claimed(e):
		return e.refuse(ReasonLayerClaimed)
	}
	t := e.pick(a.unit)
	a.fresh = append(a.fresh, Assignment{RunID: e.Run.ID, Treatment: t.No, Version: e.Version, At: a.now})
	return e.grant(t)
}

// row returns the stored assignment of a run, nil if there is none.
func (a *assigning) row(runID int32) *Assignment {
	for i := range a.existing {
		if a.existing[i].RunID == runID {
			return &a.existing[i]
		}
	}
	return nil
}

// claimed reports whether the unit is in another live experiment of the layer.
// Fresh assignments need no look: slots are disjoint, so that one call enrols a
// unit at most once per layer.
func (a *assigning) claimed(e *entry) bool {
	for _, other := range e.layer.live {
		if other != e && a.row(other.Run.ID) != nil {
			return true
		}
	}
	return false
}

// refusal returns why no unit has a treatment in this state, "" if some may.
func (s State) refusal() Reason {
	switch s {
	case StateDraft:
		return ReasonDraft
	case StateStopped:
		return ReasonStopped
	case StateArchived:
		return ReasonArchived
	case StateRunning, StatePaused:
	}
	return ""
}

// pick draws the treatment of u by weight with the salt of the run.
func (e *entry) pick(u Unit) *Treatment {
	point := draw(e.Run.Salt, u, e.totalWeight)
	for i := range e.Treatments {
		t := &e.Treatments[i]
		weight := uint64(t.Weight) //nolint:gosec // validated: not negative
		if point < weight {
			return t
		}
		point -= weight
	}
	panic("experiment: draw is not below the total weight")
}

func (e *entry) refuse(reason Reason) Decision {
	return Decision{Experiment: e.Key, Reason: reason, Version: e.Version}
}

func (e *entry) grant(t *Treatment) Decision {
	return Decision{
		Experiment: e.Key,
		Treatment:  t.Key,
		Values:     t.Values,
		Reason:     ReasonAssigned,
		Run:        e.Run.No,
		RunID:      e.Run.ID,
		Version:    e.Version,
	}
}
